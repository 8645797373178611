"""What all parts of the store share: the table, the accounts, the files, and the threads between them.

Life of a blob's bytes in the accounts:

    make_room ─▶ reserved ─write─▶ partial ─commit─▶ complete
         detach: out of the table at once, no new reader
         drop:   its name is deleted; those who have it open go on
         dispose: the last pin is given back, the descriptor closed, and only then the room is free

State changes on the event loop only; threads get values and return values. What must not be left
half done runs as a task of the store's own (`whole`), so that a caller may be cancelled at will.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from distributor.core.eviction import Account, Accounts, make_policy
from distributor.errors import BlobDamaged, DiskFailed, SpaceExhausted, StoreError
from distributor.ports import Observer
from distributor.store import rows
from distributor.store.blobs import Blobs, Descriptors, Disk
from distributor.store.index import Index
from distributor.store.rows import Entry
from distributor.store.table import Table

T = TypeVar("T")
log = logging.getLogger(__name__)

# How long a fill waits at a start for the first count of what is on disk, and for rows of those that may
# leave, seconds. Longer and its response is passed through unstored, which costs less than a viewer's
# patience.
_PATIENCE = 2.0
_THREADS = 8


class Shelf:
    """See the module. `failing`: disk operations that failed and have not succeeded since."""

    def __init__(
        self,
        directory: Path,
        *,
        limit: int,
        max_object: int | None,
        eviction: Literal["lru", "s3-fifo"],
        sync: bool,
        observer: Observer,
        disk: Disk,
    ) -> None:
        self.observer = observer
        self.blobs = Blobs(directory, disk, sync=sync)
        self.failing: set[str] = set()
        self.index = Index(
            directory / "index", disk, sync=sync, failed=self.failed, worked=self.failing.discard
        )
        self.accounts = Accounts(limit, max_object)
        self.table = Table(make_policy(eviction, limit), self._unreadable)
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self.fds = Descriptors(self.close_later)
        # Blobs whose deletion failed; their bytes stay in the accounts until it succeeds.
        self.undead: dict[str, Account] = {}
        # Blobs made by this process while rows are still being reconciled; None afterwards.
        self.fresh: set[str] | None = set()
        self.counted = asyncio.Event()
        # Some of what was `unread` in the accounts is in the table, or gone.
        self.read_on = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._room = asyncio.Lock()

    # Threads and tasks

    async def run(self, op: str, call: Callable[..., T], *arguments: object) -> T:
        """Run a blocking call in a thread. Raises DiskFailed(op) for OSError.

        FileNotFoundError comes as it is: what it means only the caller knows.
        """
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self.threads, call, *arguments)
        except FileNotFoundError:
            raise
        except OSError as error:
            problem = DiskFailed(op, error)
            self.failed(problem)
            raise problem from error
        self.failing.discard(op)
        return result

    def failed(self, problem: DiskFailed) -> None:
        """Count a failure of the disk, and be unhealthy until the operation succeeds again."""
        self.failing.add(problem.op)
        self.observer.store_error(problem.op)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` whatever becomes of its caller; `settle` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_retrieve)
        return task

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`; a caller that is cancelled leaves it to end by itself."""
        return await asyncio.shield(self.spawn(work))

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` with nobody waiting; StoreErrors were counted where they were raised."""
        self.spawn(work).add_done_callback(_log_surprise)

    async def settle(self, seconds: float) -> None:
        """Wait for all tasks, those they start included, at most `seconds`; then cancel."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._tasks:
            left = deadline - asyncio.get_running_loop().time()
            _, pending = await asyncio.wait(set(self._tasks), timeout=max(0.0, left))
            if pending and left <= 0:
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending, timeout=1.0)
                return
            await asyncio.sleep(0)

    def close_later(self, fd: int) -> None:
        """Close a descriptor in a thread: the last one of a deleted file frees its blocks."""
        self.threads.submit(self.blobs.disk.close, fd)

    # Pins and descriptors

    def pin(self, entry: Entry, *, hold: bool = False) -> None:
        entry.pins += 1
        if hold:
            entry.holds += 1
        self.table.warm(entry)

    def unpin(self, entry: Entry, *, hold: bool = False) -> None:
        entry.pins -= 1
        if hold:
            entry.holds -= 1
        if entry.pins:
            return
        if entry.detached:
            self._dispose(entry)
        else:
            self.table.warm(entry)

    async def take(self, entry: Entry) -> int:
        """The blob's descriptor, good until `give`. Raises BlobDamaged when the file is gone, DiskFailed."""
        fd = self.fds.take(entry.blob)
        if fd is not None:
            return fd
        try:
            fd = await self.run("read", lambda: self.blobs.open(entry.blob, loose=not entry.complete))
        except FileNotFoundError:
            raise BlobDamaged("the blob is gone") from None
        return self.fds.put(entry.blob, fd)

    def give(self, entry: Entry) -> None:
        self.fds.give(entry.blob)

    # Leaving

    async def drop(self, entry: Entry) -> None:
        """Take an entry out of the table and delete its file; who has it open or pinned goes on."""
        if self.table.holds(entry):
            self.table.remove(entry.key)
        entry.detached = True
        if entry.unlinked:
            return
        self.pin(entry)
        try:
            # A pinned one may be opened yet, and then has no name any more to be opened by.
            if entry.pins > 1 and not self.fds.keep(entry.blob):
                try:
                    await self.take(entry)
                    self.fds.keep(entry.blob)
                    self.give(entry)
                except (BlobDamaged, DiskFailed):
                    pass
            failed = await self.run("write", self.blobs.unlink_all, [entry.blob])
            entry.unlinked = True
            if entry.key not in self.table:
                self.index.delete(entry.key)
            self._bury(failed, {entry.blob: entry.account})
            if failed:
                entry.disposed = True
        finally:
            self.unpin(entry)

    async def damaged(self, entry: Entry, *, missing: bool = False) -> NoReturn:
        """Remove what is not as it was written, count it once, and say so by raising BlobDamaged."""
        if not entry.detached:
            self.observer.verified("missing" if missing else "corrupt")
            await self.drop(entry)
        raise BlobDamaged("the file is missing or short" if missing else "a segment fails its checksum")

    def _dispose(self, entry: Entry) -> None:
        if entry.disposed or not entry.unlinked:
            return
        entry.disposed = True
        self.accounts.give_back(entry.account)
        fd = self.fds.forget(entry.blob)
        if fd is None:
            self.accounts.close(entry.account)
        else:
            self.background(self._close(fd, entry.account))

    async def _close(self, fd: int, account: Account) -> None:
        try:
            await self.run("write", self.blobs.disk.close, fd)
        finally:
            self.accounts.close(account)

    def _bury(self, failed: list[tuple[str, OSError]], accounts: dict[str, Account]) -> None:
        for blob, error in failed:
            self.accounts.give_back(accounts[blob])
            self.undead[blob] = accounts[blob]
            self.failed(DiskFailed("write", error))

    async def bury_undead(self) -> None:
        """Try again to delete what could not be deleted."""
        failed = await self.run("write", self.blobs.unlink_all, list(self.undead))
        left = {blob for blob, _ in failed}
        for blob in [blob for blob in self.undead if blob not in left]:
            fd = self.fds.forget(blob)
            if fd is not None:
                self.close_later(fd)
            self.accounts.close(self.undead.pop(blob))

    # Room

    async def make_room(
        self, account: Account, count: int, *, first: str | None = None, beyond: int = 0, reason: str = "room"
    ) -> None:
        """Reserve `count` bytes for `account`; others leave first where they must.

        first   a key that is to leave before all others, if any must
        beyond  bytes that must leave whatever room there is

        Raises TooLarge, SpaceExhausted, DiskFailed; then nothing is reserved.
        """
        self.accounts.may_grow(account, count)
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        if not await _set_by(self.counted, deadline):
            raise SpaceExhausted("what is on disk is still being counted")
        if beyond == 0 and self.accounts.fits(count) and not self._room.locked():
            self.accounts.reserve(account, count)
            return
        async with self._room:
            while victims := await self._known_victims(count, first, beyond, deadline):
                await self._evict(victims, reason)
                beyond = 0
            self.accounts.reserve(account, count)

    async def _known_victims(self, count: int, first: str | None, beyond: int, deadline: float) -> list[str]:
        """As `_victims`; rows that a start has not read yet are waited for where they are needed."""
        while True:
            self.read_on.clear()  # those who wait hold the lock, so there is one of them
            try:
                return self._victims(count, first, beyond)
            except SpaceExhausted:
                if not self.accounts.unread or not await _set_by(self.read_on, deadline):
                    raise

    def _victims(self, count: int, first: str | None, beyond: int) -> list[str]:
        size_of = self.table.size_of
        if first is None or first not in self.table or (freed := size_of(first)) is None:
            return self.accounts.victims(count, self.table.policy, size_of, beyond=beyond)
        if not beyond and self.accounts.fits(count):
            return []
        others = self.accounts.victims(
            count - freed,
            self.table.policy,
            lambda key: None if key == first else size_of(key),
            beyond=beyond - freed,
        )
        return [first, *others]

    async def _evict(self, victims: list[str], reason: str) -> None:
        gone: dict[str, tuple[str, Account]] = {}
        descriptors: list[int] = []
        for key in victims:
            found = self.table.remove(key, evicted=True)
            assert found is not None
            if isinstance(found, Entry):
                found.unlinked = found.disposed = True
                blob, account = found.blob, found.account
            else:
                told = rows.head(found)
                blob, account = told.blob, Account(told.held, told.complete)
            gone[blob] = key, account
            fd = self.fds.forget(blob)
            if fd is not None:
                descriptors.append(fd)
        failed = await self.run("write", self._delete, list(gone), descriptors)
        self._bury(failed, {blob: account for blob, (_, account) in gone.items()})
        for blob, (key, account) in gone.items():
            if blob in self.undead:
                continue
            size = account.written
            self.accounts.close(account)
            if key not in self.table:
                self.index.delete(key)
            self.observer.evicted(reason, size)
        if failed:
            raise DiskFailed("write", failed[0][1])

    def _delete(self, blobs: list[str], descriptors: list[int]) -> list[tuple[str, OSError]]:
        for fd in descriptors:
            self.blobs.disk.close(fd)
        return self.blobs.unlink_all(blobs)

    # The index

    async def rebuild_index(self) -> None:
        """Begin the index anew from what memory knows. Raises DiskFailed."""
        await self.index.replace()
        for key in self.table.all_keys():
            row = self.table.row(key)
            if row is not None:
                self.index.put(key, row)
        await self.index.flush()

    def save_uses(self, most: int | None = None) -> None:
        """Note the rows of up to `most` keys that were used since the index last heard."""
        dirty = self.table.dirty
        for key in list(dirty)[:most]:
            del dirty[key]
            row = self.table.row(key)
            if row is not None:
                self.index.put(key, row)

    def _unreadable(self, key: str, row: bytes) -> None:
        told = rows.head(row)
        account = Account(told.held, told.complete)
        self.observer.verified("corrupt")
        self.index.delete(key)
        self.background(self.discard(told.blob, account))

    async def discard(self, blob: str, account: Account) -> None:
        failed = await self.run("write", self.blobs.unlink_all, [blob])
        self._bury(failed, {blob: account})
        if not failed:
            self.accounts.close(account)


async def _set_by(event: asyncio.Event, deadline: float) -> bool:
    """Wait for an event until a time of the loop's clock; say whether it came."""
    if not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await event.wait()
    return event.is_set()


def _retrieve(task: asyncio.Task[Any]) -> None:
    # A caller that was cancelled does not come for it.
    if not task.cancelled():
        task.exception()


def _log_surprise(task: asyncio.Task[None]) -> None:
    problem = None if task.cancelled() else task.exception()
    if problem is not None and not isinstance(problem, StoreError):
        log.error("the store could not do its own work", exc_info=problem)
