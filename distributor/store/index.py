"""The durable index: one row a stored response, in SQLite by way of diskcache.

Written behind: `put` and `delete` only note what is to be, keyed so that the last word counts, and a
task carries the notes to the one thread that SQLite lives in, many in one transaction. `flush` waits
until everything noted so far is durable.

The values are bytes that `rows` encodes. `StrictDisk` refuses everything else on the way in and on
the way out, so that a planted row is never unpickled (CVE-2025-69872) and never names a file. Each
row counts the bytes of its complete blob in diskcache's `size` column, whose sum SQLite keeps by
trigger: a start knows at once, and exactly, how full the store is.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from array import array
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import diskcache
from diskcache.core import MODE_RAW

from distributor.errors import DiskFailed
from distributor.store import rows
from distributor.store.blobs import Disk

T = TypeVar("T")

_PAGE = 500
_BATCH = 5000
_RETRY = 5.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA)


class IndexDamaged(Exception):
    """SQLite cannot make sense of the file; it was moved aside, or is to be."""


class RefusedValue(ValueError):
    """Neither a str key nor a bytes value."""


class StrictDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Keys are str, values are bytes, both inline; nothing is pickled, nothing names a file."""

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            raise RefusedValue(f"a key of type {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if type(key) is not str or not raw:
            raise RefusedValue("a stored key that is no str")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:
        if type(value) is not bytes or read:
            raise RefusedValue(f"a value of type {type(value).__name__}")
        return (rows.held(value) if rows.is_complete(value) else 0), MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        if mode != MODE_RAW or filename is not None or read or type(value) is not bytes:
            raise RefusedValue("a stored value that is not plain bytes")
        return value

    def remove(self, file_path: object) -> None:
        """No row of ours has a file, so a file that a row names is not ours to delete."""


class Found(NamedTuple):
    """A row as it lies in the index. key None: no key of ours; row None: no value of ours."""

    rowid: int
    key: str | None
    row: bytes | None
    size: int


class Index:
    """Rows by key. Methods belong to the event loop; only `open` and `close` may not overlap others."""

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        *,
        sync: bool,
        failed: Callable[[DiskFailed], None],
        worked: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._sync = sync
        self._failed = failed
        self._worked = worked
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._cache: Any = None
        self._pending: dict[str, bytes | None] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.damaged = asyncio.Event()

    # Opening and closing

    async def open(self) -> tuple[int, bool]:
        """Open or make the index: bytes of complete blobs that rows tell of, and whether it was made anew.

        A damaged file is moved aside. Raises DiskFailed("index").
        """
        total, fresh = await self._in_thread(self._open)
        self._writer = asyncio.create_task(self._write_behind())
        return total, fresh

    async def close(self) -> None:
        """Write what is noted, close. Raises DiskFailed("index") when that could not be written."""
        try:
            if self._writer is not None:
                await self.flush()
        finally:
            if self._writer is not None:
                self._writer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._writer
            with contextlib.suppress(Exception):
                await self._in_thread(self._close)
            self._thread.shutdown(wait=False)

    async def replace(self) -> None:
        """Move a damaged index aside and begin an empty one. Raises DiskFailed("index")."""
        await self._in_thread(self._replace)
        self.damaged.clear()

    def _open(self) -> tuple[int, bool]:
        fresh = not (self._directory / "cache.db").exists()
        try:
            self._connect()
            return self._total(), fresh
        except (IndexDamaged, TypeError, ValueError, KeyError):
            self._replace()
            return 0, True

    def _connect(self) -> None:
        self._disk.index()
        self._disk.make_directory(str(self._directory))
        with _translated():
            self._cache = diskcache.Cache(
                str(self._directory),
                disk=StrictDisk,
                eviction_policy="none",
                cull_limit=0,
                statistics=0,
                tag_index=0,
                disk_min_file_size=1 << 31,
                sqlite_journal_mode="wal",
                # FULL: a commit is durable when it returns. OFF: no fsync at all; a power failure may
                # then cost the index, never a wrong byte, for segments have checksums.
                sqlite_synchronous=2 if self._sync else 0,
                sqlite_cache_size=2048,
                sqlite_mmap_size=0,
            )

    def _total(self) -> int:
        with _translated():
            total = self._cache.reset("size")
            if type(total) is int and total >= 0:
                return total
            return int(self._cache._sql("SELECT TOTAL(size) FROM Cache").fetchone()[0])

    def _close(self) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def _replace(self) -> None:
        self._close()
        if self._directory.exists():
            aside = self._directory.with_name(f"{self._directory.name}.damaged-{int(time.time())}")
            for attempt in range(100):
                if not aside.exists():
                    break
                aside = aside.with_name(f"{aside.name}-{attempt}")
            self._disk.rename(str(self._directory), str(aside))
        self._connect()

    # Writing

    def put(self, key: str, row: bytes) -> None:
        """Note that `key` has this row."""
        self._pending[key] = row
        self._wake.set()

    def delete(self, key: str) -> None:
        """Note that `key` has none."""
        self._pending[key] = None
        self._wake.set()

    def forget(self, key: str) -> None:
        """Take back what is noted and not yet being written."""
        self._pending.pop(key, None)

    def noted(self) -> int:
        """Keys noted and not yet written."""
        return len(self._pending)

    async def flush(self) -> None:
        """Wait until what was noted is durable. Raises DiskFailed("index"); the notes stay noted."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(done)
        self._wake.set()
        await done

    async def _write_behind(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, {}
            waiters, self._waiters = self._waiters, []
            try:
                await self._in_thread(self._write, batch)
            except asyncio.CancelledError:
                self._pending = {**batch, **self._pending}
                for waiter in waiters:
                    waiter.cancel()
                raise
            except DiskFailed as problem:
                self._pending = {**batch, **self._pending}
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_exception(problem)
                if not self.damaged.is_set():
                    asyncio.get_running_loop().call_later(_RETRY, self._wake.set)
            else:
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)

    def _write(self, batch: dict[str, bytes | None]) -> None:
        if not batch:
            return
        self._disk.index()
        notes = list(batch.items())
        for start in range(0, len(notes), _BATCH):
            with _translated(), self._cache.transact(retry=True):
                for key, row in notes[start : start + _BATCH]:
                    if row is None:
                        self._cache.delete(key)
                    else:
                        self._cache.set(key, row)

    # Reading

    async def read(self, key: str) -> Found | None:
        """The row of `key`, noted ones included. Raises DiskFailed("index")."""
        if key in self._pending:
            row = self._pending[key]
            return None if row is None else Found(0, key, row, 0)
        return await self._in_thread(self._read, key)

    def _read(self, key: str) -> Found | None:
        self._disk.index()
        with _translated():
            found = self._cache._sql(f"{_SELECT} WHERE key = ? AND raw = 1", (key,)).fetchone()
        return None if found is None else _found(found)

    async def pages(self) -> AsyncIterator[list[Found]]:
        """All rows, longest unwritten first, in pages; one is written each time its use is saved.

        Raises DiskFailed("index").
        """
        order = await self._in_thread(self._order)
        for start in range(0, len(order), _PAGE):
            yield await self._in_thread(self._page, order[start : start + _PAGE])

    def _order(self) -> array[int]:
        self._disk.index()
        # diskcache has no public way through rows in order; its last release is pinned.
        with _translated():
            found = self._cache._sql("SELECT rowid FROM Cache ORDER BY access_time, rowid")
            return array("q", (row[0] for row in found))

    def _page(self, rowids: array[int]) -> list[Found]:
        self._disk.index()
        marks = ",".join(map(str, rowids))
        with _translated():
            found = self._cache._sql(f"{_SELECT} WHERE rowid IN ({marks})").fetchall()
        by_id = {row[0]: _found(row) for row in found}
        return [by_id[rowid] for rowid in rowids if rowid in by_id]

    async def drop(self, rowids: list[int]) -> None:
        """Delete rows that cannot be named by a key. Raises DiskFailed("index")."""
        await self._in_thread(self._drop, rowids)

    def _drop(self, rowids: list[int]) -> None:
        with _translated(), self._cache.transact(retry=True):
            for rowid in rowids:
                self._cache._sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        # Shielded: what SQLite has begun it ends; a caller that leaves must not unbalance it.
        future = asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
        future.add_done_callback(_retrieve)
        try:
            result = await asyncio.shield(future)
        except (IndexDamaged, OSError, sqlite3.Error, diskcache.Timeout, ValueError, TypeError) as cause:
            if isinstance(cause, IndexDamaged):
                self.damaged.set()
            problem = DiskFailed("index", cause)
            self._failed(problem)
            raise problem from cause
        self._worked("index")
        return result


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


# Types are asked for, not trusted: text that is no UTF-8 would fail the whole page.
_SELECT = (
    "SELECT rowid, typeof(key), CAST(key AS BLOB), CAST(raw AS INTEGER), CAST(mode AS INTEGER),"
    " filename IS NULL, CAST(size AS INTEGER), typeof(value), CAST(value AS BLOB) FROM Cache"
)


def _found(columns: tuple[Any, ...]) -> Found:
    rowid, key_type, key, raw, mode, inline, size, value_type, value = columns
    name: str | None = None
    if key_type == "text" and raw == 1:
        with contextlib.suppress(UnicodeDecodeError):
            name = key.decode()
    plain = mode == MODE_RAW and inline and value_type == "blob"
    return Found(rowid, name, value if plain else None, max(0, size or 0))


class _translated:  # reads as the clause it is
    """Raise IndexDamaged for what shows that the file is no index of ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if not isinstance(problem, sqlite3.DatabaseError):
            return
        if (getattr(problem, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED:
            raise IndexDamaged(str(problem)) from problem
