"""Filling a blob: bytes in, their checksums and digest on the way, durable at the end.

    write ⇄ checkpoint ─▶ cut (a length that became known) ─▶ digest ─▶ commit

One lock a blob keeps checkpoint, digest and commit apart; writes go on beside them, each to segments
of its own.
"""

from __future__ import annotations

import contextlib
import errno

from distributor.core.eviction import Account
from distributor.errors import DiskFailed, SpaceExhausted
from distributor.store import rows
from distributor.store.blobs import checksums
from distributor.store.rows import Entry, Filling
from distributor.store.shelf import Shelf

# Bytes hashed between two looks at whether the caller is still there.
_HASH_STEP = 64 << 20
# Bytes read back in one write to let the running digest catch up with segments that came before.
_CATCH_UP = 4 << 20
# Bytes that leave when the disk is full though the accounts have room.
_RELIEF = 8 << 20


class Filler:
    """See the module; the checks that need no waiting are the caller's."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def write(self, entry: Entry, position: int, data: bytes, segments: range) -> None:
        shelf = self._shelf
        filling = entry.filling = entry.filling or Filling()
        first = segments[0]
        before = entry.sums[first] if entry.segments.filled(first) else 0
        behind = position - filling.hashed
        hashing = (
            not filling.hashing
            and 0 <= behind <= _CATCH_UP
            and entry.segments.available(filling.hashed) >= behind
            and rows.proven(entry, filling.hashed, position)
        )
        filling.hashing = filling.hashing or hashing

        def work(fd: int) -> list[tuple[int, int]]:
            shelf.blobs.write(fd, position, data)
            hasher = filling.hasher.copy() if hashing else None
            if hasher is not None and behind:
                try:
                    shelf.blobs.read(fd, filling.hashed, behind, hasher.update)
                except OSError:
                    hasher = None  # `digest` will read it back, and fail if it must
            sums = checksums(data, position, entry.segments.size, before, hasher)
            if hasher is not None:
                filling.hasher, filling.hashed = hasher, position + len(data)
            return sums

        try:
            fd = await shelf.take(entry)
            try:
                try:
                    sums = await shelf.run("write", work, fd)
                except DiskFailed as problem:
                    if getattr(problem.__cause__, "errno", None) != errno.ENOSPC:
                        raise
                    await shelf.make_room(Account(), 0, beyond=max(_RELIEF, len(data)))
                    sums = await shelf.run("write", work, fd)
            except SpaceExhausted as problem:
                raise DiskFailed("write", OSError(errno.ENOSPC, "nobody can leave")) from problem
            finally:
                shelf.give(entry)
            self._written(entry, position, len(data), sums)
        finally:
            if hashing:
                filling.hashing = False
            entry.claimed -= len(data)
            entry.writing.difference_update(segments)
            shelf.unpin(entry, hold=True)

    def _written(self, entry: Entry, position: int, count: int, sums: list[tuple[int, int]]) -> None:
        fresh = entry.segments.filled(sums[0][0]) == 0
        entry.segments.accept(position, count)
        self._shelf.accounts.write(entry.account, count)
        short = sums[-1][0] + 1 - len(entry.sums)
        if short > 0:
            entry.sums.extend([0] * short)
        if entry.proven is not None:
            entry.proven.extend(bytes(max(0, len(entry.sums) - len(entry.proven))))
        for index, crc in sums:
            entry.sums[index] = crc
            # What an earlier process wrote of a segment is as unproven as it was.
            if entry.proven is not None and (fresh or index != sums[0][0]):
                entry.proven[index] = 1
        entry.unsaved = True

    async def cut(self, entry: Entry, length: int) -> None:
        shelf = self._shelf
        shelf.pin(entry)
        try:
            fd = await shelf.take(entry)
            try:
                await shelf.run("write", shelf.blobs.disk.ftruncate, fd, length)
            finally:
                shelf.give(entry)
        finally:
            shelf.unpin(entry)

    async def digest(self, entry: Entry) -> bytes:
        shelf, length = self._shelf, entry.segments.present
        filling = entry.filling = entry.filling or Filling()
        async with filling.lock:
            shelf.pin(entry)
            try:
                while filling.hashed < length:
                    fd = await shelf.take(entry)
                    try:
                        whole = await shelf.run("read", self._hash_on, entry, filling, fd, length)
                    finally:
                        shelf.give(entry)
                    if not whole:
                        await shelf.damaged(entry)
                return filling.hasher.digest()
            finally:
                shelf.unpin(entry)

    def _hash_on(self, entry: Entry, filling: Filling, fd: int, length: int) -> bool:
        """Hash a step further, checking segments not proven on the way; False when one is damaged."""
        size = entry.segments.size
        stop = min(length, filling.hashed + _HASH_STEP)
        while filling.hashed < stop:
            index = filling.hashed // size
            count = min((index + 1) * size, length) - filling.hashed
            # A copy: a failing read must leave the running digest as it was.
            hasher = filling.hasher.copy()
            crc = self._shelf.blobs.sum(fd, filling.hashed, count, hasher)
            unproven = entry.proven is not None and not entry.proven[index]
            if crc is None or (unproven and crc != entry.sums[index]):
                return False
            filling.hasher = hasher
            filling.hashed += count
        return True

    async def commit(self, entry: Entry, sha256: bytes, now: float) -> None:
        shelf = self._shelf
        filling = entry.filling = entry.filling or Filling()
        async with filling.lock:
            if entry.complete:
                return
            shelf.pin(entry)
            try:
                fd = await shelf.take(entry)
                try:
                    entry.mtime = await shelf.run("sync", shelf.blobs.seal, fd, filling.named)
                    filling.named = True
                finally:
                    shelf.give(entry)
                fit(entry)
                if not entry.detached:
                    await self._publish(entry, sha256, now)
                self._complete(entry, sha256)
                entry.filling = None
            finally:
                shelf.unpin(entry)

    async def _publish(self, entry: Entry, sha256: bytes, now: float) -> None:
        """Write the complete row, then move the blob to its place."""
        shelf = self._shelf
        entry.last_used_at = max(entry.last_used_at, now)
        row = rows.make(entry, sha256)
        shelf.index.put(entry.key, row)
        try:
            await shelf.index.flush()
        except DiskFailed:
            if not entry.detached:
                shelf.index.delete(entry.key)
            raise
        entry.packed = row
        if not entry.detached:
            self._complete(entry, sha256)
            # Where it is not moved it is found all the same, and put right at the next start.
            with contextlib.suppress(DiskFailed, FileNotFoundError):
                await shelf.run("write", shelf.blobs.settle, entry.blob)

    def _complete(self, entry: Entry, sha256: bytes) -> None:
        if entry.complete:
            return
        entry.complete = True
        entry.sha256 = sha256
        entry.unsaved = False
        self._shelf.accounts.commit(entry.account, entry.segments.present)
        if not entry.detached:
            self._shelf.table.completed(entry)

    async def checkpoint(self, entry: Entry) -> None:
        shelf = self._shelf
        filling = entry.filling = entry.filling or Filling()
        async with filling.lock:
            if entry.complete or entry.detached or not entry.unsaved:
                return
            shelf.pin(entry)
            try:
                # The row is made before the bytes are synced: it must not tell of later ones.
                fit(entry)
                row, written = rows.make(entry), entry.account.written
                fd = await shelf.take(entry)
                try:
                    await shelf.run("sync", lambda: shelf.blobs.sync(fd, named=filling.named))
                    filling.named = True
                finally:
                    shelf.give(entry)
                if not shelf.table.holds(entry):
                    return
                shelf.index.put(entry.key, row)
                entry.packed = row
                await shelf.index.flush()
                entry.unsaved = entry.account.written != written
            finally:
                shelf.unpin(entry)


def fit(entry: Entry) -> None:
    """Checksums and proofs for as many segments as there are, now that their number is known."""
    short = entry.segments.count - len(entry.sums)
    entry.sums.extend([0] * short)
    if entry.proven is not None:
        entry.proven.extend(bytes(entry.segments.count - len(entry.proven)))
