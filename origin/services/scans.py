"""Scans: what lies on a storage's disk, compared with what the catalog knows of it.

    seen on disk             not in the catalog   a File, OPEN
                             as at the last scan  OPEN → CLOSED, hashed
                             changed              size and time are taken in, hashed once it rests
                             was MISSING or LOST  CLOSED, hashed
    not there, once seen     →  MISSING  →  LOST at the next scan

An entity registered without bytes is not judged: it keeps the state its client gave it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

from origin.catalog import files as rows
from origin.catalog.database import Database, next_number
from origin.core import paths
from origin.core.paging import Page
from origin.core.query import FileFilter
from origin.domain.model import Caller, File, Storage
from origin.domain.states import FileState, StorageState
from origin.errors import OriginError, StorageOffline
from origin.ports import Clock, Stat
from origin.services.access import Access
from origin.services.files import Files
from origin.services.storages import Storages

log = logging.getLogger("origin.scans")

INTERVAL = 60  # seconds between the end of a scan and the next, unless the storage says otherwise
_LOOK = 1.0  # seconds between looks whether a scan is due
_BATCH = 500
_LOSING = {FileState.MISSING: FileState.LOST, FileState.LOST: FileState.LOST}
_NOT_JUDGED = frozenset({FileState.TO_BE_DELETED, FileState.ARCHIVED})
_GONE = frozenset({FileState.MISSING, FileState.LOST})


def interval_of(storage: Storage) -> int:
    """Return seconds between scans; -1: none."""
    try:
        return int(storage.metadata.get("scanInterval", INTERVAL))
    except ValueError:
        return INTERVAL


class Scans:
    """One scan at a time: two would only make the disks seek."""

    def __init__(
        self, database: Database, clock: Clock, access: Access, storages: Storages, files: Files
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._storages = storages
        self._files = files
        self._wanted: set[int] = set()
        self._wake = asyncio.Event()
        self._scanning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._loop(), name="scans")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def rescan(self, caller: Caller, storage_id: str) -> None:
        """Have a storage scanned soon; administrators only."""
        self._access.require_admin(caller)
        storage = await self._storages.get(caller, storage_id)
        self._wanted.add(storage.n)
        self._wake.set()

    async def _loop(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._wake.wait()
            self._wake.clear()
            for storage in self._storages.everything():
                if not self._due(storage):
                    continue
                self._wanted.discard(storage.n)
                try:
                    await self.scan(storage)
                except OriginError as error:
                    log.warning("storage %s was not scanned: %s", storage.name, error)
                except Exception:
                    log.exception("storage %s was not scanned", storage.name)

    def _due(self, storage: Storage) -> bool:
        if storage.n in self._wanted:
            return True
        seconds = interval_of(storage)
        now = self._clock.now_ms()
        return seconds >= 0 and now - (storage.scanned_ms or storage.created_ms) >= seconds * 1000

    async def scan(self, storage: Storage) -> None:
        """Scan a storage to its end. Raises StorageOffline, and marks it so."""
        async with self._scanning:
            try:
                await self._storages.space(storage)
                await self._find(storage)
                await self._miss(storage)
            except StorageOffline:
                # `scanned_ms` moves on too, so that a storage that is away is not asked every second.
                await self._storages.mark(storage, StorageState.OFFLINE, scanned_ms=self._clock.now_ms())
                raise
            known = self._storages.known(storage.n).state
            usable = (StorageState.NONE, StorageState.OFFLINE, StorageState.READY)
            state = StorageState.READY if known in usable else known
            await self._storages.mark(storage, state, scanned_ms=self._clock.now_ms())

    async def _find(self, storage: Storage) -> None:
        detects = storage.metadata.get("autoDetect", "true") == "true"
        async for batch in _batches(self._storages.backend(storage).scan()):
            async with self._database.read() as connection:
                known = await rows.at_paths(connection, storage.n, [stat.path for stat in batch])
            for stat in batch:
                file = known.get(stat.path)
                if file is not None:
                    await self._compare(file, stat)
                elif detects and paths.lookup_form(stat.path) == stat.path:
                    await self._register(storage, stat)

    async def _register(self, storage: Storage, stat: Stat) -> None:
        try:
            path = paths.normal_form(stat.path)
        except paths.PathError:
            return  # a name that no address could bear
        async with self._files.locks.hold((storage.n, path)), self._database.write() as connection:
            # An upload may have been between its rename and its row when the scan came by.
            if await rows.at_path(connection, storage.n, path) is not None:
                return
            now = self._clock.now_ms()
            file = File(
                n=await next_number(connection, "file"),
                storage_n=storage.n,
                path=path,
                state=FileState.OPEN,
                size=stat.size,
                mtime_ns=stat.mtime_ns,
                created_ms=now,
                changed_ms=now,
            )
            await rows.insert(connection, file)

    async def _compare(self, file: File, stat: Stat) -> None:
        rests = (file.size, file.mtime_ns) == (stat.size, stat.mtime_ns)
        if file.state in _NOT_JUDGED or (rests and file.state is not FileState.OPEN and not _gone(file)):
            if rests and file.sha256 is None and file.state not in _NOT_JUDGED:
                self._files.hasher.add(file.n)
            return
        now = replace(file, size=stat.size, mtime_ns=stat.mtime_ns, changed_ms=self._clock.now_ms())
        if not rests:
            now = replace(now, sha1=None, sha256=None, generation=file.generation + 1)
        if _gone(file) or (rests and file.state is FileState.OPEN):
            now = replace(now, state=FileState.CLOSED)
        if await self._change(now, file) and now.state is FileState.CLOSED and now.sha256 is None:
            self._files.hasher.add(file.n)

    async def _miss(self, storage: Storage) -> None:
        """Judge the entities whose bytes were once seen and are not there now."""
        backend = self._storages.backend(storage)
        cursor: str | None = "*"
        while cursor is not None:
            async with self._database.read() as connection:
                page = await rows.listing(
                    connection,
                    FileFilter(storage_ids=(storage.id,)),
                    (),
                    Page(number=_BATCH, count=False, cursor=cursor),
                    within=None,
                )
            for file in page.entries:
                if file.mtime_ns is None or file.state in _NOT_JUDGED:
                    continue
                if await backend.stat(file.path) is None:
                    state = _LOSING.get(file.state, FileState.MISSING)
                    await self._change(replace(file, state=state, changed_ms=self._clock.now_ms()), file)
            cursor = page.next_cursor

    async def _change(self, now: File, seen: File) -> bool:
        if replace(now, changed_ms=seen.changed_ms) == seen:
            return False
        async with self._database.write() as connection:
            return await rows.update_if(connection, now, seen)


def _gone(file: File) -> bool:
    return file.state in _GONE


async def _batches(stats: AsyncIterator[Stat]) -> AsyncIterator[list[Stat]]:
    batch: list[Stat] = []
    async for stat in stats:
        batch.append(stat)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
