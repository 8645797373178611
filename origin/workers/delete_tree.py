"""DELETE_TREE: the Files at a path and below it that were marked when the job was made."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as file_rows
from origin.catalog import projects as rows
from origin.catalog.database import Database
from origin.domain.model import Job
from origin.errors import NotFound
from origin.services.files import Files
from origin.services.jobs import Run
from origin.services.projects import DELETE_TREE
from origin.services.storages import Storages

_PIECE = 100  # Files


class DeleteTree:
    """input: `storage` number, `path`. What it works on is gone from the catalog: it cannot be stopped."""

    type = DELETE_TREE
    steps = ("Remove bytes and entities",)

    def __init__(self, database: Database, storages: Storages, files: Files) -> None:
        self._database = database
        self._storages = storages
        self._files = files

    async def run(self, run: Run) -> str | None:
        storage_n, path = run.job.input["storage"], str(run.job.input["path"])
        assert isinstance(storage_n, int)
        try:
            backend = self._storages.backend(self._storages.known(storage_n))
        except NotFound:
            return None  # the storage was removed, with all its entities
        while True:
            async with self._database.read() as connection:
                found = await rows.condemned(connection, storage_n, path, _PIECE)
            if not found:
                return None
            for row in found:
                async with self._files.locks.hold((storage_n, row.path)):
                    async with self._database.read() as connection:
                        other = await file_rows.at_path(connection, storage_n, row.path)
                    if other is None:  # else the path holds another File's bytes by now
                        await backend.remove(row.path)
            async with self._database.write() as connection:
                await rows.remove_files(connection, [row.n for row in found])

    async def undo(self, connection: AsyncConnection, job: Job) -> None:
        """There is nothing to put back into."""
