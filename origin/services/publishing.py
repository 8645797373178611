"""Bytes into place and their row with them: the one way that bytes of a File come to be or change.

    intent committed → rename → row committed, intent gone

A crash before the rename leaves an intent and a temporary file: undone at start. A crash after it
leaves an intent and the bytes at their path: the row is made then. So whatever is at a path is what
its row says, or what a writer published whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as rows
from origin.catalog.database import Database
from origin.catalog.tables import publications, transfers
from origin.domain.model import File, Storage
from origin.domain.states import FileState
from origin.errors import OriginError
from origin.ports import Clock, Digests, StorageBackend, Writer
from origin.services.storages import Storages

log = logging.getLogger("origin.files")

T = TypeVar("T")
With = Callable[[AsyncConnection, File], Awaitable[None]]
"""More to be committed in the same transaction as the row."""


async def whole(work: Awaitable[T]) -> T:
    """Do `work` to its end though the caller is cancelled; the cancellation comes after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen
        raise cancelled
    return task.result()


class Publisher:
    """The caller holds the lock of (storage, path)."""

    def __init__(self, database: Database, clock: Clock, storages: Storages) -> None:
        self._database = database
        self._clock = clock
        self._storages = storages

    async def publish(
        self,
        file: File,
        old: File | None,
        writer: Writer,
        digests: Digests,
        *,
        overwrite: bool = True,
        also: With | None = None,
    ) -> File:
        """Put the writer's sealed bytes at `file.path`; return the File as it is then in the catalog.

        old        the row whose bytes are replaced; None: the File is new
        overwrite  False: Conflict when something lies at the path on disk
        also       committed together with the row

        Runs to its end when cancelled. On failure the former bytes and row are there, or, when the
        rename had happened already, the new ones of both.
        """
        file = replace(
            file,
            size=digests.size,
            sha1=digests.sha1,
            sha256=digests.sha256,
            generation=(old.generation if old else 0) + 1,
            changed_ms=self._clock.now_ms(),
        )
        return await whole(self._publish(file, old, writer, overwrite, also))

    async def _publish(
        self, file: File, old: File | None, writer: Writer, overwrite: bool, also: With | None
    ) -> File:
        async with self._database.write() as connection:
            await connection.execute(
                sa.insert(publications).values(
                    storage_n=file.storage_n, temporary=writer.name, file=rows.to_row(file)
                )
            )
        try:
            stat = await writer.publish(file.path, replace=overwrite)
            file = replace(file, mtime_ns=stat.mtime_ns)
            async with self._database.write() as connection:
                await self._commit(connection, file, writer.name)
                if also is not None:
                    await also(connection, file)
        except BaseException:
            await self._undo(file, old, writer)
            raise
        return file

    async def _commit(self, connection: AsyncConnection, file: File, temporary: str) -> None:
        if not await rows.update(connection, file):
            await rows.insert(connection, file)
        # A transfer's temporary file that has been published: the transfer is complete.
        await connection.execute(
            sa.update(transfers)
            .where(transfers.c.storage_n == file.storage_n, transfers.c.temporary == temporary)
            .values(file_n=file.n)
        )
        await self._forget(connection, file.storage_n, temporary)

    async def _forget(self, connection: AsyncConnection, storage_n: int, temporary: str) -> None:
        statement = sa.delete(publications).where(
            publications.c.storage_n == storage_n, publications.c.temporary == temporary
        )
        await connection.execute(statement)

    async def _undo(self, file: File, old: File | None, writer: Writer) -> None:
        """After a failure. What cannot be put right now is put right at the next start."""
        try:
            if writer.published and old is None:
                await self._storages.backend(self._storages.known(file.storage_n)).remove(file.path)
            async with self._database.write() as connection:
                if writer.published and old is not None:
                    storage = self._storages.known(file.storage_n)
                    stat = await self._storages.backend(storage).stat(file.path)
                    if stat is not None:
                        await self._commit(connection, replace(file, mtime_ns=stat.mtime_ns), writer.name)
                        return
                await self._forget(connection, file.storage_n, writer.name)
        except Exception:
            log.warning("file %s: a failed upload is cleared away at the next start", file.id, exc_info=True)

    async def recover(self, storage: Storage, backend: StorageBackend) -> int:
        """At start: finish or undo what a crash cut short on this storage; return how many."""
        async with self._database.read() as connection:
            query = sa.select(publications).where(publications.c.storage_n == storage.n)
            found = (await connection.execute(query)).all()
        for row in found:
            file = _from_json(row.file)
            try:
                stat = await backend.finish(row.temporary, file.path)
            except OriginError:
                log.warning("storage %s cannot be reached: %s waits for recovery", storage.name, file.id)
                continue
            async with self._database.write() as connection:
                if stat is not None and stat.size == file.size:
                    await self._commit(connection, replace(file, mtime_ns=stat.mtime_ns), row.temporary)
                else:
                    await self._forget(connection, storage.n, row.temporary)
        return len(found)


def _from_json(row: dict[str, object]) -> File:
    values = {name: row[name] for name in _KEPT}
    return File(state=FileState(str(row["state"])), **values)  # type: ignore[arg-type]


_KEPT = (
    "n",
    "storage_n",
    "path",
    "size",
    "sha1",
    "sha256",
    "mtime_ns",
    "generation",
    "created_ms",
    "changed_ms",
    "metadata",
)
