"""Hashing of bytes that are already there: registered by hand, or changed behind the origin's back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from dataclasses import replace

from origin.catalog import files as rows
from origin.catalog.database import Database
from origin.domain.model import File
from origin.domain.states import FileState
from origin.errors import NotFound, OriginError
from origin.ports import Clock
from origin.services.storages import Storages

log = logging.getLogger("origin.files")

_READ = 1 << 20
_AT_ONCE = 2
_QUEUE = 10_000  # numbers, not bytes; what does not fit is queued again when somebody reads the file
_SEEN = frozenset({FileState.MISSING, FileState.LOST})


class Hasher:
    """A queue in memory: what a stop loses is queued again by the next reader of the file."""

    def __init__(self, database: Database, clock: Clock, storages: Storages) -> None:
        self._database = database
        self._clock = clock
        self._storages = storages
        self._queue: asyncio.Queue[int] = asyncio.Queue(_QUEUE)
        self._queued: set[int] = set()
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin with what a former run did not get to."""
        async with self._database.read() as connection:
            for n in await rows.unhashed(connection, _QUEUE // 2):
                self.add(n)
        self._workers = [asyncio.create_task(self._work(), name="hasher") for _ in range(_AT_ONCE)]

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []

    def add(self, n: int) -> None:
        """Queue a File, once."""
        if n not in self._queued and not self._queue.full():
            self._queued.add(n)
            self._queue.put_nowait(n)

    async def settle(self) -> None:
        """Wait until all that is queued has been hashed."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            n = await self._queue.get()
            self._queued.discard(n)  # before reading: a change from now on queues it again
            try:
                await self.hash(n)
            except NotFound:
                pass
            except OriginError as error:
                log.info("file VX-%d was not hashed: %s", n, error)
            except Exception:
                log.exception("file VX-%d was not hashed", n)
            finally:
                self._queue.task_done()

    async def hash(self, n: int) -> File | None:
        """Read a File's bytes and bring its row in line; return it, None when the bytes moved on.

        Raises NotFound when row or bytes are gone.
        """
        async with self._database.read() as connection:
            seen = await rows.get(connection, n)
        if seen is None:
            raise NotFound("File", f"VX-{n}")
        backend = self._storages.backend(self._storages.known(seen.storage_n))
        reader = await backend.open(seen.path)
        try:
            sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
            offset = 0
            while data := await reader.read(offset, _READ):
                await asyncio.to_thread(_update, sha1, sha256, data)
                offset += len(data)
            stat = reader.stat
        finally:
            with contextlib.suppress(OSError):
                await reader.close()
        after = await backend.stat(seen.path)
        if after is None or (after.size, after.mtime_ns) != (stat.size, stat.mtime_ns) or offset != stat.size:
            return None  # growing: whoever reads it next, or the next scan, queues it again
        same = seen.sha256 == sha256.hexdigest() and seen.size == stat.size
        now = replace(
            seen,
            size=stat.size,
            mtime_ns=stat.mtime_ns,
            sha1=sha1.hexdigest(),
            sha256=sha256.hexdigest(),
            generation=seen.generation if same else seen.generation + 1,
            state=FileState.CLOSED if seen.state in _SEEN else seen.state,
            changed_ms=self._clock.now_ms(),
        )
        async with self._database.write() as connection:
            return now if await rows.update_if(connection, now, seen) else None


def _update(sha1: hashlib._Hash, sha256: hashlib._Hash, data: bytes) -> None:
    sha1.update(data)
    sha256.update(data)
