"""A store without a disk: `ports.Store` over anonymous memory files, with failures on demand.

Byte accounts, pins and detached blobs are as on disk: what is detached counts until its last pin.

    store = MemoryStore(limit=1 << 20, segment=4096)
    store.fail("write", after=3)                   # the fourth write and all later ones
    store.fail("open", error=BlobDamaged("gone"), times=1)
    store.full_after = 10_000                      # bytes; then every write meets a full disk
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from distributor.core.model import Representation, StoredResponse
from distributor.core.segments import SegmentMap
from distributor.errors import BlobDamaged, DiskFailed, SpaceExhausted, StoreError, TooLarge
from distributor.ports import Usage


@dataclass(slots=True, eq=False)
class _Held(StoredResponse):
    """fd: the memory file, -1 once it is gone; holds: pins of fetches, as told from those of readers."""

    fd: int = -1
    reserved: int = 0
    holds: int = 0
    unproven: set[int] = field(default_factory=set)


class MemoryBlob:
    """See `ports.Blob`."""

    def __init__(self, store: MemoryStore, stored: _Held) -> None:
        self._store = store
        self._stored: _Held | None = stored
        self.fd = os.dup(stored.fd)

    def close(self) -> None:
        stored, self._stored = self._stored, None
        if stored is not None:
            os.close(self.fd)
            self._store.unpin(stored)


@dataclass
class _Failure:
    error: StoreError
    after: int
    times: int | None


class MemoryStore:
    """See the head of this file."""

    def __init__(self, *, limit: int = 1 << 30, max_object: int | None = None, segment: int = 4096) -> None:
        self.limit = limit
        self.max_object = limit if max_object is None else max_object
        self.segment = segment
        self.full_after: int | None = None
        self.calls: dict[str, int] = {}
        self.table: dict[str, _Held] = {}
        self.everything: set[_Held] = set()
        self.healthy = True
        self.recovering = False
        self._failures: dict[str, _Failure] = {}
        self._written = 0
        self._damaged: set[tuple[str, int]] = set()

    # --- for tests ---

    def fail(
        self, op: str, *, after: int = 0, times: int | None = None, error: StoreError | None = None
    ) -> None:
        """Let `op` fail once `after` more calls of it went well, `times` times; None: from then on."""
        self._failures[op] = _Failure(
            error or DiskFailed(_OPS.get(op, "write"), OSError("injected")), after, times
        )

    def heal(self) -> None:
        self._failures.clear()
        self.full_after = None

    def forget_proofs(self) -> None:
        """As after a restart: nothing is known to be as it was written."""
        for stored in self.table.values():
            stored.unproven = {index for index, _ in stored.segments.prefixes()}

    def damage(self, key: str, position: int) -> None:
        """Flip one stored byte; found by prove and digest as long as it is unproven."""
        stored = self.table[key]
        byte = os.pread(stored.fd, 1, position)[0]
        os.pwrite(stored.fd, bytes([byte ^ 0xFF]), position)
        stored.unproven.add(position // stored.segments.size)
        self._damaged.add((stored.blob, position // stored.segments.size))

    def content(self, key: str) -> bytes:
        stored = self.table[key]
        return os.pread(stored.fd, stored.segments.present, 0)

    # --- ports.Store ---

    async def start(self) -> None: ...

    async def close(self) -> None:
        for stored in self.everything:
            os.close(stored.fd)
        self.everything.clear()

    def usage(self) -> Usage:
        complete = [s for s in self.everything if s.complete]
        partial = [s for s in self.everything if not s.complete]
        return Usage(
            self.limit,
            sum(s.segments.present for s in complete),
            sum(s.segments.present for s in partial),
            sum(s.reserved for s in self.everything),
            sum(not s.detached for s in complete),
            sum(not s.detached for s in partial),
            1 << 40,
            0.0,
        )

    def get(self, key: str) -> StoredResponse | None:
        return None if self.recovering else self.table.get(key)

    async def find(self, key: str) -> StoredResponse | None:
        await self._call("find")
        self.recovering = False
        return self.table.get(key)

    def touch(self, stored: StoredResponse, now: float, *, hit: bool) -> None:
        stored.last_used_at = now
        stored.hits += hit

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
        await self._call("begin")
        length = representation.length
        count = (self.segment if length is None else length) if reserve is None else reserve
        if max(length or 0, count) > self.max_object:
            raise TooLarge(f"{length} bytes")
        self._make_room(count, first=key)
        before = self.table.pop(key, None)
        if before is not None:
            self._detach(before)
        made = _Held(
            key, asset_id, representation, SegmentMap(self.segment, length), os.urandom(8).hex(),
            query=query, variant=variant, created_at=now, last_used_at=now,
            fd=os.memfd_create("blob", os.MFD_CLOEXEC), reserved=count, pins=1, holds=1,
        )  # fmt: skip
        self.table[key] = made
        self.everything.add(made)
        return made

    async def reserve(self, stored: StoredResponse, count: int) -> None:
        await self._call("reserve")
        held = _held(stored)
        if held.segments.present + held.reserved + count > self.max_object:
            raise TooLarge("grown too large")
        self._make_room(count)
        held.reserved += count

    async def write(self, stored: StoredResponse, position: int, data: bytes) -> None:
        held = _held(stored)
        held.segments.check(position, len(data))
        if held.reserved < len(data):
            raise AssertionError(f"{len(data)} bytes written, {held.reserved} reserved")
        await self._call("write")
        if self.full_after is not None and self._written + len(data) > self.full_after:
            raise DiskFailed("write", OSError(errno.ENOSPC, "no space left"))
        os.pwrite(held.fd, data, position)
        held.segments.accept(position, len(data))
        held.reserved -= len(data)
        self._written += len(data)

    async def finish_length(self, stored: StoredResponse, length: int) -> None:
        await self._call("finish_length")
        held = _held(stored)
        held.segments.set_length(length)
        held.representation = msgspec.structs.replace(held.representation, length=length)
        held.reserved = 0

    async def digest(self, stored: StoredResponse) -> bytes:
        await self._call("digest")
        held = _held(stored)
        assert held.segments.complete
        for index in held.unproven:
            if (held.blob, index) in self._damaged:
                await self.remove(held, corrupt=True)
                raise BlobDamaged("a segment fails its checksum")
        held.unproven.clear()
        return hashlib.sha256(os.pread(held.fd, held.segments.present, 0)).digest()

    async def commit(self, stored: StoredResponse, sha256: bytes, now: float) -> None:
        await self._call("commit")
        held = _held(stored)
        assert held.segments.complete
        held.complete, held.sha256, held.reserved = True, sha256, 0

    async def checkpoint(self, stored: StoredResponse) -> None:
        await self._call("checkpoint")

    def release(self, stored: StoredResponse) -> None:
        held = _held(stored)
        assert held.holds > 0, "released more often than held"
        held.holds -= 1
        if held.holds == 0:
            held.reserved = 0
            if not held.complete and not held.detached and held.segments.present == 0:
                del self.table[held.key]
                self._detach(held)
        self.unpin(held)

    def retain(self, stored: StoredResponse) -> None:
        held = _held(stored)
        held.holds += 1
        held.pins += 1

    def unpin(self, held: _Held) -> None:
        assert held.pins > 0
        held.pins -= 1
        self._bury(held)

    async def open(self, stored: StoredResponse) -> MemoryBlob:
        held = _held(stored)
        if held.fd < 0:
            raise BlobDamaged("gone")
        held.pins += 1
        try:
            await self._call("open")
            return MemoryBlob(self, held)
        except BaseException:
            self.unpin(held)
            raise

    def proven(self, stored: StoredResponse, start: int, stop: int) -> bool:
        size = stored.segments.size
        return not any(start // size <= index < -(-stop // size) for index in _held(stored).unproven)

    async def prove(self, stored: StoredResponse, start: int, stop: int) -> None:
        await self._call("prove")
        held, size = _held(stored), stored.segments.size
        for index in range(start // size, -(-stop // size)):
            if index in held.unproven and (held.blob, index) in self._damaged:
                await self.remove(held, corrupt=True)
                raise BlobDamaged("a segment fails its checksum")
            held.unproven.discard(index)

    async def renew(self, stored: StoredResponse, representation: Representation) -> None:
        await self._call("renew")
        stored.representation = msgspec.structs.replace(representation, length=stored.length)
        stored.stale_marked = False

    async def mark_stale(self, stored: StoredResponse) -> None:
        await self._call("mark_stale")
        stored.stale_marked = True

    async def remove(self, stored: StoredResponse, *, corrupt: bool = False) -> int:
        await self._call("remove")
        held = _held(stored)
        if held.detached:
            return 0
        del self.table[held.key]
        size = held.segments.present
        self._detach(held)
        return size

    def scan(self, after: str | None, limit: int) -> list[StoredResponse]:
        keys = (key for key in sorted(self.table) if after is None or key > after)
        return [self.table[key] for key in islice(keys, limit)]

    def alike(self, primary: str) -> list[StoredResponse]:
        return [stored for key, stored in self.table.items() if key.partition("\n")[0] == primary]

    def variants(self, asset_id: str) -> list[StoredResponse]:
        return [stored for stored in self.table.values() if stored.asset_id == asset_id]

    # --- inside ---

    async def _call(self, op: str) -> None:
        """Count the call, let others run as a real disk would, and fail where told to."""
        self.calls[op] = self.calls.get(op, 0) + 1
        await asyncio.sleep(0)
        failure = self._failures.get(op)
        if failure is None:
            return
        if failure.after > 0:
            failure.after -= 1
            return
        if failure.times is not None:
            failure.times -= 1
            if failure.times == 0:
                del self._failures[op]
        raise failure.error

    def _make_room(self, count: int, first: str | None = None) -> None:
        def used() -> int:
            return sum(s.segments.present + s.reserved for s in self.everything)

        free = [s for s in self.table.values() if s.pins == 0]
        free.sort(key=lambda s: (s.key != first, s.last_used_at))
        if used() - sum(s.segments.present for s in free) + count > self.limit:
            raise SpaceExhausted(f"{count} bytes")
        for victim in free:
            if used() + count <= self.limit:
                break
            del self.table[victim.key]
            self._detach(victim)

    def _detach(self, held: _Held) -> None:
        held.detached = True
        self._bury(held)

    def _bury(self, held: _Held) -> None:
        if held.detached and held.pins == 0 and held.fd >= 0:
            os.close(held.fd)
            held.fd = -1
            self.everything.discard(held)


_OPS = {"open": "read", "prove": "read", "digest": "read", "commit": "sync", "checkpoint": "sync"}


def _held(stored: StoredResponse) -> _Held:
    assert isinstance(stored, _Held)
    return stored
