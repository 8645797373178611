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
from origin.catalog.database import Database, next_numbers
from origin.core import paths
from origin.core.paging import Page
from origin.core.query import FileFilter
from origin.domain.model import Caller, File, Storage
from origin.domain.states import FileState, StorageState
from origin.errors import OriginError, StorageOffline
from origin.ports import Clock, Stat
from origin.services.access import Access
from origin.services.edges import Edges
from origin.services.files import Files
from origin.services.storages import Storages

log = logging.getLogger("origin.scans")

INTERVAL = 60  # seconds between the end of a scan and the next, unless the storage says otherwise
_FIRST = 10  # seconds from a storage's making to its first scan, at most
_LOOK = 1.0  # seconds between looks whether a scan is due
_BATCH = 500
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
        self,
        database: Database,
        clock: Clock,
        access: Access,
        storages: Storages,
        files: Files,
        edges: Edges,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._storages = storages
        self._files = files
        self._edges = edges
        self._wanted: set[int] = set()
        self._wake = asyncio.Event()
        self._scanning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with those storages that were scanned by a former run: they may have changed since."""
        self._wanted |= {
            storage.n
            for storage in self._storages.everything()
            if storage.scanned_ms is not None and interval_of(storage) >= 0
        }
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
        if storage.scanned_ms is None:
            return seconds >= 0 and now - storage.created_ms >= min(seconds, _FIRST) * 1000
        return seconds >= 0 and now - storage.scanned_ms >= seconds * 1000

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
        async with contextlib.aclosing(self._storages.backend(storage).scan()) as found:
            async for batch in _batches(found):
                async with self._database.read() as connection:
                    known = await rows.at_paths(connection, storage.n, [stat.path for stat in batch])
                changes = [self._compared(known[stat.path], stat) for stat in batch if stat.path in known]
                await self._change([change for change in changes if change is not None])
                if detects:
                    await self._register(storage, [stat for stat in batch if stat.path not in known])
                await self._edges.told()  # so that no more waits for them than one batch

    async def _register(self, storage: Storage, found: list[Stat]) -> None:
        """Make Files of what nobody knows, all in one transaction."""
        new = [stat for stat in found if _is_path(stat.path)]
        if not new:
            return
        async with contextlib.AsyncExitStack() as held:
            # An upload may be between its rename and its row: with the locks of the paths it is not.
            # Nobody who holds one waits for another, so many can be taken.
            for stat in new:
                await held.enter_async_context(self._files.locks.hold((storage.n, stat.path)))
            async with self._database.write() as connection:
                there = await rows.at_paths(connection, storage.n, [stat.path for stat in new])
                new = [stat for stat in new if stat.path not in there]
                if not new:
                    return
                now = self._clock.now_ms()
                first = await next_numbers(connection, "file", len(new))
                fresh = [
                    File(
                        n=n,
                        storage_n=storage.n,
                        path=stat.path,
                        state=FileState.OPEN,
                        size=stat.size,
                        mtime_ns=stat.mtime_ns,
                        created_ms=now,
                        changed_ms=now,
                    )
                    for n, stat in enumerate(new, first)
                ]
                await rows.insert_all(connection, fresh)

    def _compared(self, file: File, stat: Stat) -> tuple[File, File] | None:
        """Return (as it is now, as it was seen), or None when nothing changes."""
        if file.state in _NOT_JUDGED:
            return None
        rests = (file.size, file.mtime_ns) == (stat.size, stat.mtime_ns)
        if rests and file.state is not FileState.OPEN and not _gone(file):
            if file.sha256 is None:
                self._files.hasher.add(file.n)
            return None
        now = replace(file, size=stat.size, mtime_ns=stat.mtime_ns, changed_ms=self._clock.now_ms())
        if not rests:
            now = replace(now, sha1=None, sha256=None, generation=file.generation + 1)
        if _gone(file) or rests:
            now = replace(now, state=FileState.CLOSED)
        return now, file

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
            changes = []
            for file in page.entries:
                if file.mtime_ns is None or file.state in _NOT_JUDGED or file.state is FileState.LOST:
                    continue
                if await backend.stat(file.path) is None:
                    state = FileState.LOST if file.state is FileState.MISSING else FileState.MISSING
                    changes.append((replace(file, state=state, changed_ms=self._clock.now_ms()), file))
            await self._change(changes)
            await self._edges.told()
            cursor = page.next_cursor

    async def _change(self, changes: list[tuple[File, File]]) -> None:
        """Commit changes, in one transaction; what somebody else has changed meanwhile stays theirs."""
        if not changes:
            return
        async with self._database.write() as connection:
            taken = await rows.update_all_if(connection, changes)
        for file in taken:
            if file.state is FileState.CLOSED and file.sha256 is None:
                self._files.hasher.add(file.n)


def _gone(file: File) -> bool:
    return file.state in _GONE


def _is_path(path: str) -> bool:
    """Whether a File can have this path; a name on disk may be one that no address could bear."""
    try:
        return paths.normal_form(path) == path
    except paths.PathError:
        return False


async def _batches(stats: AsyncIterator[Stat]) -> AsyncIterator[list[Stat]]:
    batch: list[Stat] = []
    async for stat in stats:
        batch.append(stat)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
