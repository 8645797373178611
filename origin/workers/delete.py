"""DELETE_FILE: bytes gone, then the entity. The File was marked when the job was made."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as rows
from origin.catalog.database import Database
from origin.domain.model import Job
from origin.domain.states import FileState
from origin.services.files import DELETE_FILE, Files
from origin.services.jobs import Run
from origin.services.storages import Storages


class DeleteFile:
    """input: `file` number, `state` before."""

    type = DELETE_FILE
    steps = ("Mark", "Remove bytes", "Remove entity")

    def __init__(self, database: Database, storages: Storages, files: Files) -> None:
        self._database = database
        self._storages = storages
        self._files = files

    async def run(self, run: Run) -> str | None:
        n = _number(run.job)
        async with run.commit(step=1) as connection:
            file = await rows.get(connection, n)
            if file is None:
                return None
            if file.state is not FileState.TO_BE_DELETED:  # re-run after an abort
                file = replace(file, state=FileState.TO_BE_DELETED)
                await rows.update(connection, file)
        backend = self._storages.backend(self._storages.known(file.storage_n))
        async with self._files.locks.hold((file.storage_n, file.path)):
            # From here on the bytes go: an abort that comes now is too late.
            async with run.commit(step=2) as connection:
                other = await rows.at_path(connection, file.storage_n, file.path)
            if other is None:  # else the path holds another File's bytes by now
                await backend.remove(file.path)
            async with self._database.write() as connection:
                await rows.remove(connection, n)  # and with it its places in components
        return None

    async def undo(self, connection: AsyncConnection, job: Job) -> None:
        file = await rows.get(connection, _number(job))
        if file is None or file.state is not FileState.TO_BE_DELETED:
            return
        if await rows.at_path(connection, file.storage_n, file.path) is None:
            state = FileState(str(job.input["state"]))
            await rows.update(connection, replace(file, state=state))


def _number(job: Job) -> int:
    n = job.input["file"]
    if not isinstance(n, int):
        raise TypeError("a File's number is an int")
    return n
