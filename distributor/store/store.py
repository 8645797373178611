"""The edge's store: reserve → fill → verify → commit, on disk; look-ups from memory.

    <directory>/lock     held by the one process that owns the directory; its pid
    <directory>/index/   rows, see `index`
    <directory>/blobs/   complete blobs, see `blobs`
    <directory>/loose/   partial ones

What holds after a kill at any moment: a row is written only when the bytes it tells of are on disk
(with durability "fsync": on the medium), and a blob's name is random and used once, so a row never
comes to mean other bytes. A complete row is written before its blob leaves `loose/`, a blob is deleted
before its row: in between, bytes are counted twice, never not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from distributor.core.model import Representation, StoredResponse
from distributor.core.segments import SegmentMap
from distributor.errors import BlobDamaged, DiskFailed, SpaceExhausted, StoreError
from distributor.ports import Clock, Observer, SystemClock, Usage
from distributor.store import rows
from distributor.store.blobs import Disk
from distributor.store.filling import Filler, fit
from distributor.store.recovery import Recovery
from distributor.store.rows import Entry, Filling
from distributor.store.shelf import Shelf

_TICK = 5.0
_SAVE_EVERY = 12
_SAVE_MOST = 2000
_CLOSE_TIMEOUT = 30.0


class OpenBlob:
    """A descriptor and a pin; see `ports.Blob`."""

    __slots__ = ("_entry", "_shelf", "fd")

    def __init__(self, shelf: Shelf, entry: Entry, fd: int) -> None:
        self._shelf = shelf
        self._entry: Entry | None = entry
        self.fd = fd

    def close(self) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            self._shelf.give(entry)
            self._shelf.unpin(entry)


class DiskStore:
    """Implements `ports.Store` in one directory of one file system.

    directory   made if absent, mode 0700
    limit       bytes; complete, partial and reserved ones together never exceed it
    max_object  bytes; None: as large as the limit
    segment     bytes, grid of new blobs; those on disk keep theirs
    durability  "fsync": bytes are on the medium before a row says so; "none": no fsync at all
    disk        system calls; None: the real ones
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit: int,
        max_object: int | None = None,
        segment: int = 1 << 20,
        eviction: Literal["lru", "s3-fifo"] = "lru",
        durability: Literal["fsync", "none"] = "fsync",
        observer: Observer | None = None,
        clock: Clock | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._segment = segment
        self._clock = clock or SystemClock()
        self._lock: int | None = None
        self._disk_free = 0
        self._shelf = Shelf(
            self._directory,
            limit=limit,
            max_object=max_object,
            eviction=eviction,
            sync=durability == "fsync",
            observer=observer or Observer(),
            disk=disk or Disk(),
        )
        self._filler = Filler(self._shelf)
        self._recovery = Recovery(self._shelf)
        self._loops: list[asyncio.Task[None]] = []

    # Life

    async def start(self) -> None:
        """See `ports.Store`. The room is known within moments; until then fills wait a little."""
        shelf = self._shelf
        try:
            self._lock = await shelf.run("write", self._take_directory)
            await shelf.run("write", shelf.blobs.prepare)
            self._disk_free = await shelf.run("read", shelf.blobs.free)
            total, fresh = await shelf.index.open()
        except BaseException as problem:
            with contextlib.suppress(DiskFailed):
                await shelf.index.close()
            await self._give_directory()
            if isinstance(problem, FileNotFoundError):
                raise DiskFailed("write", problem) from problem
            raise
        self._loops = [
            asyncio.create_task(self._recovery.run(total, fresh)),
            asyncio.create_task(self._maintain()),
        ]

    async def close(self) -> None:
        """See `ports.Store`. May be called twice; a failing disk does not keep it from ending."""
        if self._lock is None:
            return
        shelf = self._shelf
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await shelf.settle(_CLOSE_TIMEOUT)
        for entry in shelf.table.entries():
            if entry.unsaved:
                with contextlib.suppress(StoreError):
                    await self._filler.checkpoint(entry)
        shelf.save_uses()
        with contextlib.suppress(DiskFailed):
            await shelf.index.close()
        await shelf.settle(_CLOSE_TIMEOUT)
        shelf.fds.close_all()
        await self._give_directory()

    def _take_directory(self) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        path = self._directory / "lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StoreError(f"cache directory {self._directory} is in use by process {owner}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        return fd

    async def _give_directory(self) -> None:
        # The threads have ended before another process may have the directory.
        await asyncio.get_running_loop().run_in_executor(None, self._shelf.threads.shutdown)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _maintain(self) -> None:
        shelf = self._shelf
        tick = 0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(shelf.index.damaged.wait(), _TICK)
            tick += 1
            try:
                self._disk_free = await shelf.run("read", shelf.blobs.free)
                if shelf.index.damaged.is_set():
                    await shelf.rebuild_index()
                if shelf.undead:
                    await shelf.bury_undead()
                if shelf.failing:
                    await shelf.run("write", shelf.blobs.probe)
                    await shelf.index.flush()
                    shelf.failing.clear()
            except (StoreError, FileNotFoundError):
                await asyncio.sleep(_TICK)  # the damage may be what woke us, and last
            if tick % _SAVE_EVERY == 0:
                shelf.save_uses(_SAVE_MOST)

    # State

    @property
    def healthy(self) -> bool:
        return not self._shelf.failing

    @property
    def recovering(self) -> bool:
        return self._recovery.running

    def usage(self) -> Usage:
        """See `ports.Usage`. Bytes not yet looked at after a start count as complete."""
        accounts, table = self._shelf.accounts, self._shelf.table
        idle = 0.0
        with contextlib.closing(table.policy.victims()) as victims:
            for key in victims:
                if table.size_of(key) is not None:
                    idle = max(0.0, self._clock.now() - table.last_used_at(key))
                    break
        return Usage(
            limit=accounts.limit,
            complete=accounts.complete + accounts.unread,
            partial=accounts.partial,
            reserved=accounts.reserved,
            complete_objects=table.complete_objects,
            partial_objects=table.partial_objects,
            disk_free=self._disk_free,
            idle=idle,
        )

    # Looking up

    def get(self, key: str) -> StoredResponse | None:
        return self._shelf.table.get(key)

    async def find(self, key: str) -> StoredResponse | None:
        found = self._shelf.table.get(key)
        if found is None and self._recovery.running:
            await self._recovery.find(key)
            found = self._shelf.table.get(key)
        return found

    def touch(self, stored: StoredResponse, now: float, *, hit: bool) -> None:
        stored.last_used_at = now
        if hit:
            stored.hits += 1
        if not stored.detached:
            self._shelf.table.use(_entry(stored))

    def watch(self, on_leave: Callable[[str], None]) -> None:
        """Have `on_leave(key)` called when what `key` names leaves, before its file is deleted."""
        self._shelf.table.on_leave = on_leave

    def admits(self, key: str, size: int) -> bool:
        return self._shelf.table.policy.admits(key, size)

    def scan(self, after: str | None, limit: int) -> list[StoredResponse]:
        return list(self._shelf.table.scan(after, limit))

    def alike(self, primary: str) -> list[StoredResponse]:
        return list(self._shelf.table.alike(primary))

    def variants(self, asset_id: str) -> list[StoredResponse]:
        return list(self._shelf.table.variants(asset_id))

    # Filling

    async def begin(
        self,
        key: str,
        asset_id: str,
        representation: Representation,
        now: float,
        *,
        query: str | None = None,
        variant: str | None = None,
        reserve: int | None = None,
    ) -> StoredResponse:
        for text in (key, asset_id, query or "", variant or ""):
            if not _encodable(text):
                raise StoreError("a key that is no Unicode text cannot be stored")
        entry = Entry(
            key=key,
            asset_id=asset_id,
            representation=representation,
            segments=SegmentMap(self._segment, representation.length),
            blob="",
            query=query,
            variant=variant,
            created_at=now,
            last_used_at=now,
            filling=Filling(),
        )
        begun = self._shelf.spawn(self._begin(entry, reserve))
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(lambda task: self._abandon(task, entry))
            raise
        return entry

    def _abandon(self, begun: asyncio.Task[None], entry: Entry) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self.release(entry)

    async def _begin(self, entry: Entry, reserve: int | None) -> None:
        shelf, key, length = self._shelf, entry.key, entry.length
        count = reserve
        if count is None:
            count = self._segment if length is None else length
        shelf.accounts.may_grow(entry.account, count if length is None else max(length, count))
        old = await self.find(key)
        if old is None and not self.admits(key, count if length is None else length):
            raise SpaceExhausted("the eviction policy does not admit so large a response at its first use")
        await shelf.make_room(entry.account, count, first=key)
        try:
            entry.blob, fd = await shelf.run("write", shelf.blobs.create, length)
        except BaseException:
            shelf.accounts.close(entry.account)
            raise
        if shelf.fresh is not None:
            shelf.fresh.add(entry.blob)
        before = shelf.table.get(key)
        if before is not None:
            shelf.table.remove(key)
        shelf.table.add(entry)
        shelf.pin(entry, hold=True)
        shelf.fds.put(entry.blob, fd)
        shelf.give(entry)
        if before is not None:
            await shelf.drop(before)

    async def reserve(self, stored: StoredResponse, count: int) -> None:
        entry = _entry(stored)
        account = entry.account
        if entry.length is not None:
            # Nobody can write more than the length, however many parts are asked for by themselves.
            count = max(0, min(count, entry.length - account.written - account.reserved))
        await self._shelf.whole(self._shelf.make_room(account, count))

    async def write(self, stored: StoredResponse, position: int, data: bytes) -> None:
        if not data:
            return
        entry = _entry(stored)
        entry.segments.check(position, len(data))
        size = entry.segments.size
        segments = range(position // size, (position + len(data) - 1) // size + 1)
        if not entry.writing.isdisjoint(segments):
            raise ValueError(f"segment {segments[0]} is being written by another")
        if entry.account.reserved - entry.claimed < len(data):
            raise SpaceExhausted(f"{len(data)} bytes to write, {entry.account.reserved} reserved")
        entry.writing.update(segments)
        entry.claimed += len(data)
        self._shelf.pin(entry, hold=True)
        await self._shelf.whole(self._filler.write(entry, position, data, segments))

    async def finish_length(self, stored: StoredResponse, length: int) -> None:
        entry = _entry(stored)
        entry.segments.set_length(length)
        entry.representation = msgspec.structs.replace(entry.representation, length=length)
        entry.unsaved = True
        fit(entry)
        self._shelf.accounts.give_back(entry.account, keep=entry.claimed)
        await self._shelf.whole(self._filler.cut(entry, length))

    async def digest(self, stored: StoredResponse) -> bytes:
        entry = _entry(stored)
        if entry.sha256 is not None:
            return entry.sha256
        if not entry.segments.complete:
            raise ValueError("segments are missing")
        return await self._shelf.whole(self._filler.digest(entry))

    async def commit(self, stored: StoredResponse, sha256: bytes, now: float) -> None:
        entry = _entry(stored)
        if not entry.segments.complete or len(sha256) != hashlib.sha256().digest_size:
            raise ValueError("not the whole, or no sha-256")
        await self._shelf.whole(self._filler.commit(entry, sha256, now))

    async def checkpoint(self, stored: StoredResponse) -> None:
        await self._shelf.whole(self._filler.checkpoint(_entry(stored)))

    def retain(self, stored: StoredResponse) -> None:
        self._shelf.pin(_entry(stored), hold=True)

    def release(self, stored: StoredResponse) -> None:
        entry, shelf = _entry(stored), self._shelf
        if entry.holds == 1:
            shelf.accounts.give_back(entry.account, keep=entry.claimed)
            if not entry.complete and not entry.detached:
                if entry.segments.present == 0:
                    shelf.background(shelf.drop(entry))
                elif entry.unsaved:
                    shelf.background(self._filler.checkpoint(entry))
        shelf.unpin(entry, hold=True)

    # Reading

    async def open(self, stored: StoredResponse) -> OpenBlob:
        entry, shelf = _entry(stored), self._shelf
        fd = shelf.fds.take(entry.blob)
        if fd is None:
            opening = shelf.spawn(self._open(entry))
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close_result)
                raise
        shelf.pin(entry)
        blob = OpenBlob(shelf, entry, fd)
        if not self._as_committed(entry, blob):
            await shelf.whole(shelf.damaged(entry, missing=True))
        return blob

    async def _open(self, entry: Entry) -> OpenBlob:
        shelf = self._shelf
        shelf.pin(entry)
        try:
            fd = await shelf.take(entry)
        except BlobDamaged:
            shelf.unpin(entry)
            await shelf.damaged(entry, missing=True)
        except BaseException:
            shelf.unpin(entry)
            raise
        blob = OpenBlob(shelf, entry, fd)
        if not self._as_committed(entry, blob):
            await shelf.damaged(entry, missing=True)
        return blob

    def _as_committed(self, entry: Entry, blob: OpenBlob) -> bool:
        """False, and `blob` closed, when the file is too short. One touched since its commit is unproven."""
        if not entry.complete:
            return True
        try:
            status = self._shelf.blobs.disk.fstat(blob.fd)
        except OSError as error:
            blob.close()
            problem = DiskFailed("read", error)
            self._shelf.failed(problem)
            raise problem from error
        if status.st_size != entry.length:
            blob.close()
            return False
        if status.st_mtime_ns != entry.mtime:
            entry.mtime = status.st_mtime_ns
            entry.proven = bytearray(entry.segments.count)
        return True

    def proven(self, stored: StoredResponse, start: int, stop: int) -> bool:
        return rows.proven(_entry(stored), start, stop)

    async def prove(self, stored: StoredResponse, start: int, stop: int) -> None:
        if not self.proven(stored, start, stop):
            await self._shelf.whole(self._prove(_entry(stored), start, stop))

    async def _prove(self, entry: Entry, start: int, stop: int) -> None:
        shelf, size = self._shelf, entry.segments.size
        shelf.pin(entry)
        try:
            fd = await shelf.take(entry)
            try:
                for index in range(start // size, -(-stop // size)):
                    flags = entry.proven
                    if flags is None or index >= len(flags) or flags[index]:
                        continue
                    filled, crc = entry.segments.filled(index), entry.sums[index]
                    bad = await shelf.run("read", shelf.blobs.damaged, fd, size, [(index, filled, crc)])
                    if bad:
                        await self._shelf.damaged(entry)
                    # Nothing but this flag changes: it may have grown meanwhile, never shrunk.
                    if entry.proven is flags:
                        flags[index] = 1
            finally:
                shelf.give(entry)
        except BlobDamaged:
            if not entry.detached:
                await self._shelf.damaged(entry, missing=True)
            raise
        finally:
            shelf.unpin(entry)
        if entry.complete and entry.proven is not None and 0 not in entry.proven:
            entry.proven = None

    # Changing

    async def renew(self, stored: StoredResponse, representation: Representation) -> None:
        entry = _entry(stored)
        entry.representation = msgspec.structs.replace(representation, length=entry.length)
        entry.stale_marked = False
        await self._rewrite(entry)

    async def mark_stale(self, stored: StoredResponse) -> None:
        entry = _entry(stored)
        entry.stale_marked = True
        await self._rewrite(entry)
        if not entry.detached:
            await self._shelf.whole(self._shelf.index.flush())

    async def _rewrite(self, entry: Entry) -> None:
        if entry.detached:
            return
        self._shelf.table.warm(entry)
        if entry.complete:
            entry.packed = None
            self._shelf.index.put(entry.key, rows.pack(entry))
        else:
            entry.unsaved = True
            await self.checkpoint(entry)

    async def remove(self, stored: StoredResponse, *, corrupt: bool = False) -> int:
        entry = _entry(stored)
        if entry.detached:
            return 0
        size = entry.account.written
        if corrupt:
            self._shelf.observer.verified("corrupt")
        await self._shelf.whole(self._shelf.drop(entry))
        return size


def _entry(stored: StoredResponse) -> Entry:
    assert isinstance(stored, Entry), "not of this store"
    return stored


def _encodable(text: str) -> bool:
    """Whether `text` has a UTF-8 form: octets that were none come as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _close_result(opening: asyncio.Task[OpenBlob]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
