"""Uploads that arrive in chunks, in any order, in parallel, and again; also across a restart.

    reserved (a sparse temporary file) → filled, chunk by chunk → complete → published like any upload

A chunk counts only when it arrived whole and is durable. Nothing is visible before the last one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as rows
from origin.catalog.database import Database, next_number
from origin.catalog.tables import chunks, transfers
from origin.domain.model import Caller, File, Storage
from origin.domain.states import FileState
from origin.errors import Conflict, IncompleteBody, Invalid, NotFound, Unauthenticated
from origin.ports import Clock
from origin.services.files import Files, normal_path
from origin.services.locks import KeyedLocks
from origin.services.storages import Storages

log = logging.getLogger("origin.transfers")

KEPT_MS = 24 * 3600 * 1000
_MAX_CHUNKS = 100_000


class Transfers:
    def __init__(self, database: Database, clock: Clock, storages: Storages, files: Files) -> None:
        self._database = database
        self._clock = clock
        self._storages = storages
        self._files = files
        self._locks = KeyedLocks()
        self._writing: dict[int, int] = {}  # transfer → chunks being written now

    async def put(
        self,
        caller: Caller,
        name: str,
        storage_id: str,
        path: str,
        body: AsyncIterator[bytes],
        *,
        index: int,
        size: int,
        declared_length: int | None,
        state: FileState = FileState.CLOSED,
    ) -> File | None:
        """Take one chunk in; return the File once all bytes are there, None while some are missing.

        name   of the transfer; it belongs to the caller and to (storage, path)
        index  offset of the chunk, bytes, >= 0; size: of the whole, bytes, >= 0

        A chunk repeated within 24 hours after the end gives the File again. Raises Invalid for a size
        that is not the first chunk's or a chunk past the end, IncompleteBody, and what `upload` raises.
        """
        if caller.user is None:
            raise Unauthenticated
        if not 1 <= len(name) <= 255:
            raise Invalid("transferId", "1 to 255 characters", name)
        if index > size or (declared_length is not None and index + declared_length > size):
            raise Invalid("index", "the chunk reaches past the end of the file", str(index))
        storage = await self._files.check_upload(caller, storage_id, path)
        normal = normal_path(path)
        row, done = await self._transfer(caller, name, storage, normal, size)
        if done is None:
            # Who completes the transfer holds this lock: no byte may change between hash and rename.
            async with self._locks.hold(row.n):
                done = await self._completed(row.n)
                if done is None:
                    self._writing[row.n] = self._writing.get(row.n, 0) + 1
        if done is not None:
            async for _ in body:  # a repeat: read and thrown away
                pass
            return done
        try:
            end = await self._write(storage, row, body, index, size, declared_length)
        finally:
            self._writing[row.n] -= 1
            if not self._writing[row.n]:
                del self._writing[row.n]
        async with self._locks.hold(row.n):
            if not await self._record(row.n, index, end, size):
                return await self._completed(row.n)
            return await self._complete(storage, row, normal, state)

    async def _transfer(
        self, caller: Caller, name: str, storage: Storage, path: str, size: int
    ) -> tuple[Any, File | None]:
        """Find the transfer, or begin it; with the File if it is complete."""
        async with self._locks.hold((caller.name, name, storage.n, path)):
            async with self._database.read() as connection:
                row = await _find(connection, caller.name, name, storage.n, path)
            if row is not None and row.file_n is not None:
                file = await self._file(row.file_n)
                if file is None:  # deleted since: the name may be used anew
                    await self._drop([row])
                    row = None
                elif row.size == size:
                    return row, file
            if row is None:
                await self._files.check_upload(caller, storage.id, path, declared_length=size)
                row = await self._begin(caller, name, storage, path, size)
            if row.size != size:
                raise Invalid("size", f"the first chunk said {row.size}", str(size))
            return row, None

    async def _begin(self, caller: Caller, name: str, storage: Storage, path: str, size: int) -> Any:
        backend = self._storages.backend(storage)
        temporary = await backend.reserve(size)
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    sa.insert(transfers).values(
                        n=await next_number(connection, "transfer"),
                        user=caller.name,
                        name=name,
                        storage_n=storage.n,
                        path=path,
                        size=size,
                        temporary=temporary,
                        touched_ms=self._clock.now_ms(),
                    )
                )
                return await _find(connection, caller.name, name, storage.n, path)
        except BaseException:
            await backend.drop(temporary)
            raise

    async def _write(
        self,
        storage: Storage,
        row: Any,
        body: AsyncIterator[bytes],
        index: int,
        size: int,
        declared_length: int | None,
    ) -> int:
        end = size if declared_length is None else index + declared_length
        writer = await self._storages.backend(storage).chunk(row.temporary, index, end)
        try:
            async for chunk in body:
                await writer.write(chunk)
            reached = await writer.seal()
        finally:
            await writer.close()
        if declared_length is not None and reached != end:
            raise IncompleteBody
        return reached

    async def _record(self, n: int, first: int, last: int, size: int) -> bool:
        """Note the chunk; return whether the transfer is now whole and not yet published."""
        async with self._database.write() as connection:
            touched = (
                sa.update(transfers)
                .where(transfers.c.n == n)
                .values(touched_ms=self._clock.now_ms())
                .returning(transfers.c.file_n)
            )
            found = (await connection.execute(touched)).one_or_none()
            if found is None:
                raise Conflict("the transfer was dropped meanwhile", context="transfer")
            if found.file_n is not None:
                return False
            ranges = await _ranges(connection, n)
            if len(ranges) >= _MAX_CHUNKS:
                raise Invalid("index", f"at most {_MAX_CHUNKS} separate chunks")
            merged = merge([*ranges, (first, last)])
            if merged != ranges:
                await connection.execute(sa.delete(chunks).where(chunks.c.transfer_n == n))
                for low, high in merged:
                    await connection.execute(sa.insert(chunks).values(transfer_n=n, first=low, last=high))
            return merged == [(0, size)] or size == 0

    async def _completed(self, n: int) -> File | None:
        async with self._database.read() as connection:
            query = sa.select(transfers.c.file_n).where(transfers.c.n == n)
            file_n = (await connection.execute(query)).scalar_one_or_none()
        return None if file_n is None else await self._file(file_n)

    async def _complete(self, storage: Storage, row: Any, path: str, state: FileState) -> File | None:
        if self._writing.get(row.n):
            # A repeated chunk is being written over bytes that are there: its own end completes.
            return None

        backend = self._storages.backend(storage)
        return await self._files.take_over(storage, path, await backend.adopt(row.temporary), state=state)

    async def _file(self, n: int) -> File | None:
        async with self._database.read() as connection:
            return await rows.get(connection, n)

    async def _drop(self, found: Sequence[Any]) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(transfers).where(transfers.c.n.in_([r.n for r in found])))
        for row in found:
            with contextlib.suppress(NotFound):
                await self._storages.backend(self._storages.known(row.storage_n)).drop(row.temporary)

    async def expire(self) -> int:
        """Drop transfers without a chunk for 24 hours, and the memory of those that ended then."""
        old = self._clock.now_ms() - KEPT_MS
        async with self._database.read() as connection:
            query = sa.select(transfers).where(transfers.c.touched_ms <= old)
            found = (await connection.execute(query)).all()
        await self._drop([row for row in found if row.n not in self._writing])
        return len(found)

    async def temporaries(self, storage: Storage) -> frozenset[str]:
        """Names of the temporary files on a storage that transfers still need."""
        async with self._database.read() as connection:
            query = sa.select(transfers.c.temporary).where(
                transfers.c.storage_n == storage.n, transfers.c.file_n.is_(None)
            )
            return frozenset((await connection.execute(query)).scalars())


async def _find(connection: AsyncConnection, user: str, name: str, storage_n: int, path: str) -> Any:
    query = sa.select(transfers).where(
        transfers.c.user == user,
        transfers.c.name == name,
        transfers.c.storage_n == storage_n,
        transfers.c.path == path,
    )
    return (await connection.execute(query)).one_or_none()


async def _ranges(connection: AsyncConnection, n: int) -> list[tuple[int, int]]:
    query = sa.select(chunks.c.first, chunks.c.last).where(chunks.c.transfer_n == n).order_by(chunks.c.first)
    return [(row.first, row.last) for row in await connection.execute(query)]


def merge(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same bytes as few ranges [first, last), in order; empty ones are dropped."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if first >= last:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
