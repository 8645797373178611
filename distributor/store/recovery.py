"""After a start: what the rows say against what lies on disk, behind the backs of those being served.

    1. count       bytes that complete rows tell of (one number in the index), and what loose blobs
                   take: now the room is known, and fills may begin
    2. rows        page by page into the table; damaged ones are dropped, partial ones looked at
    3. blobs       shard by shard: rows without their file or with one of another length are dropped,
                   files without a row are deleted
    4. limit       if the limit was lowered, the first victims leave

The limit holds meanwhile, since what is not yet looked at is counted as `unread`. Without an index to
count by (made anew, after damage), blobs come before rows, and fills wait or are passed through.
A look-up that cannot wait for its turn reads its one row (`find`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import NamedTuple

from distributor.core.eviction import Account
from distributor.errors import BlobDamaged, DiskFailed, SpaceExhausted
from distributor.store import rows
from distributor.store.blobs import allocated
from distributor.store.index import Found
from distributor.store.rows import Entry
from distributor.store.shelf import Shelf

_PAUSE = 1.0
# What a file may take beyond its bytes without our minding: extents, rounding up to blocks.
_SLACK = 64 << 10
_BLOCK = 4096
_TURN = 500


class _Verdict(NamedTuple):
    """What became of a row. row None: dropped, because of `reason`."""

    found: Found
    row: bytes | None
    head: rows.Head | None
    reason: str = ""


class Recovery:
    """running: rows may be on disk that the table does not have yet."""

    def __init__(self, shelf: Shelf) -> None:
        self.running = True
        self._shelf = shelf
        self._loose: dict[str, int] = {}
        self._shards: list[list[str]] = [[] for _ in range(256)]
        self._read_all = False

    async def run(self, total: int, fresh: bool) -> None:
        """Reconcile all; ends early only when cancelled. A failing disk is tried again."""
        shelf = self._shelf
        await self._count(total)
        if fresh:
            await self._sweep()
        shelf.counted.set()
        await self._read()
        self._read_all = True
        await self._bury_loose()
        if not fresh:
            await self._sweep()
        self._read_off(shelf.accounts.unread)
        shelf.fresh = None
        self._shards = []
        shelf.table.gone = None
        self.running = False
        if shelf.accounts.total > shelf.accounts.limit:
            try:
                await shelf.make_room(Account(), 0, reason="limit")
            except (SpaceExhausted, DiskFailed):
                return

    def _seen(self, key: str) -> bool:
        """Whether the row of `key` was seen to, or is none any more: a page read earlier is stale."""
        table = self._shelf.table
        return key in table or (table.gone is not None and key in table.gone)

    async def find(self, key: str) -> None:
        """Read and reconcile the one row of `key`, unless that was done. A failing disk: as if not there."""
        if self._read_all or self._seen(key):
            return
        try:
            found = await self._shelf.index.read(key)
            if found is None or self._seen(key):
                return
            verdict = await self._shelf.run("read", self._judge, found, True)
        except (DiskFailed, FileNotFoundError):
            return
        self._adopt(verdict)

    async def _count(self, total: int) -> None:
        while True:
            try:
                self._loose = await self._shelf.run("read", self._shelf.blobs.loose)
                break
            except (DiskFailed, FileNotFoundError):
                await asyncio.sleep(_PAUSE)
        self._shelf.accounts.unread = total + sum(self._loose.values())

    async def _read(self) -> None:
        while True:
            try:
                async for page in self._shelf.index.pages():
                    await self._read_page(page)
                return
            except DiskFailed:
                if self._shelf.index.damaged.is_set():
                    return  # the rest cannot be read; the index is made anew from what was
                await asyncio.sleep(_PAUSE)

    async def _read_page(self, page: list[Found]) -> None:
        shelf = self._shelf
        nameless = [found for found in page if found.key is None]
        if nameless:
            await shelf.index.drop([found.rowid for found in nameless])
            for found in nameless:
                self._read_off(found.size)
                shelf.observer.verified("corrupt")
        rest = [found for found in page if found.key is not None and not self._seen(found.key)]
        for verdict in await shelf.run("read", self._judge_all, rest):
            self._adopt(verdict)

    def _judge_all(self, page: list[Found]) -> list[_Verdict]:
        return [self._judge(found, False) for found in page]

    def _judge(self, found: Found, thorough: bool) -> _Verdict:
        """Check a row, in a thread. thorough: a complete blob's file too, which else waits for the sweep."""
        assert found.key is not None
        blobs = self._shelf.blobs
        head: rows.Head | None = None
        try:
            row = rows.admit(found.row)
            head = rows.head(row)
            if not head.complete:
                return self._judge_partial(found, row, head)
            if head.blob in self._loose:
                blobs.settle(head.blob)
            if thorough:
                status = blobs.disk.stat(blobs.path(head.blob, loose=False))
                if status.st_size != head.held:
                    return _Verdict(found, None, head, "corrupt")
        except BlobDamaged:
            return _Verdict(found, None, head, "corrupt")
        except FileNotFoundError:
            return _Verdict(found, None, head, "missing")
        return _Verdict(found, row, head)

    def _judge_partial(self, found: Found, row: bytes, head: rows.Head) -> _Verdict:
        assert found.key is not None
        blobs = self._shelf.blobs
        entry = rows.unpack(found.key, row)
        path = blobs.path(head.blob, loose=True)
        status = blobs.disk.stat(path)
        last = max((index for index, _ in entry.segments.prefixes()), default=-1)
        end = last * entry.segments.size + entry.segments.filled(last) if last >= 0 else 0
        if end == 0 or status.st_size < end or (entry.length is not None and status.st_size != entry.length):
            return _Verdict(found, None, head, "missing")
        excess = self._excess(entry, status)
        if excess:
            # Written after the checkpoint: the file goes back to where the row left it, as far as a
            # cut at the end can do that; what lies in gaps is counted as taken.
            fd = blobs.disk.open(path, os.O_RDWR)
            try:
                blobs.disk.ftruncate(fd, end)
                if entry.length is not None:
                    blobs.disk.ftruncate(fd, entry.length)
                excess = self._excess(entry, blobs.disk.fstat(fd))
            finally:
                blobs.disk.close(fd)
        held = entry.segments.present + excess
        if held != head.held:
            entry.account = Account(held)
            entry.packed = None
            row = rows.pack(entry)
        return _Verdict(found, row, head._replace(held=held))

    def _excess(self, entry: Entry, status: os.stat_result) -> int:
        taken = sum(-(-filled // _BLOCK) * _BLOCK for _, filled in entry.segments.prefixes())
        return max(0, allocated(status) - taken - _SLACK)

    def _adopt(self, verdict: _Verdict) -> None:
        """Put a row into the table, or see to it that it goes."""
        shelf, found, head = self._shelf, verdict.found, verdict.head
        key = found.key
        assert key is not None
        if self._seen(key):
            return
        self._read_off(found.size)
        if head is not None:
            self._read_off(self._loose.pop(head.blob, 0))
        if verdict.row is None or head is None:
            if shelf.table.gone is not None:
                shelf.table.gone.add(key)
            shelf.observer.verified(verdict.reason or "corrupt")
            shelf.index.delete(key)
            if head is not None:
                shelf.background(shelf.discard(head.blob, shelf.accounts.adopt(0, head.complete)))
            return
        shelf.accounts.adopt(head.held, head.complete)
        shelf.table.adopt(key, verdict.row)
        if head.complete:
            self._shards[int(head.blob[:2], 16)].append(key)

    def _read_off(self, count: int) -> None:
        unread = self._shelf.accounts.unread
        self._shelf.accounts.unread = max(0, unread - count)
        self._shelf.read_on.set()

    async def _bury_loose(self) -> None:
        """Delete loose blobs that no row claimed."""
        shelf = self._shelf
        left, self._loose = self._loose, {}
        try:
            failed = dict(await shelf.run("write", shelf.blobs.unlink_all, list(left)))
        except DiskFailed:
            return
        for blob, size in left.items():
            self._read_off(size)
            if blob in failed:
                shelf.undead[blob] = shelf.accounts.adopt(size, complete=False)
                shelf.failed(DiskFailed("write", failed[blob]))

    async def _sweep(self) -> None:
        try:
            shards = await self._shelf.run("read", self._shelf.blobs.shards)
        except (DiskFailed, FileNotFoundError):
            shards = set()
        group: list[int] = []
        for shard in range(256):
            if shard in shards or self._shards[shard]:
                group.append(shard)
            # A loop's turn and a thread's are worth so many blobs; an empty store takes one.
            if group and (sum(len(self._shards[n]) for n in group) >= _TURN or shard == 255):
                # A failure was counted; what is wrong there is found when it is opened.
                with contextlib.suppress(DiskFailed, FileNotFoundError):
                    await self._sweep_shards(group)
                group = []

    async def _sweep_shards(self, group: list[int]) -> None:
        shelf = self._shelf
        expected: dict[str, tuple[str, int | None]] = {}
        for shard in group:
            for key in self._shards[shard]:
                known = self._known(key)
                if known is not None:
                    expected[known[0]] = key, known[1]
        there = await shelf.run("read", self._there, group)
        for blob, (key, length) in expected.items():
            size = there.pop(blob, None)
            known = self._known(key)
            if size == length or known is None or known[0] != blob:
                continue
            entry = shelf.table.get(key)
            if entry is not None:
                shelf.observer.verified("missing" if size is None else "corrupt")
                await shelf.drop(entry)
        assert shelf.fresh is not None
        orphans = [blob for blob in there if blob not in shelf.fresh]
        for _, error in await shelf.run("write", shelf.blobs.unlink_all, orphans) if orphans else ():
            shelf.failed(DiskFailed("write", error))

    def _there(self, group: list[int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for shard in group:
            found.update(self._shelf.blobs.shard(shard))
        return found

    def _known(self, key: str) -> tuple[str, int | None] | None:
        """Blob and length of a complete response of an earlier process; None for anything else."""
        found = self._shelf.table.raw(key)
        if found is None:
            return None
        if isinstance(found, Entry):
            if not found.complete or found.blob in (self._shelf.fresh or ()):
                return None
            return found.blob, found.length
        told = rows.head(found)
        return (told.blob, told.held) if told.complete else None
