"""The catalog's connections: one that writes, some that read, none on the event loop's thread.

SQLite: WAL, so readers never wait for the writer; the one writing connection queues its users, so
"database is locked" cannot happen within a process, and a lock file keeps a second process out.
A commit is durable when it returns (`synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from origin.catalog import audit, entries, migrations, outbox, tables
from origin.errors import Unavailable

READERS = 4
# KiB of pages that a connection keeps. What is not among them is still in the kernel's memory, so more would
# bring little and count five times.
CACHE_WRITING, CACHE_READING = 8192, 2048
WAIT = 30.0  # seconds for a connection; longer means that the disk is gone


class Database:
    """Use `open`, then `read()` and `write()` for connections, then `close`."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, lock: int | None) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._writes = 0
        # Of the newest change that edges must hear of, all committed; None: there are no edges.
        self.noted: int | None = None
        self.on_noted: Callable[[], None] = lambda: None  # called after a commit that moved it

    @property
    def version(self) -> int:
        """Changes with every commit; what was read before a change of it may be out of date."""
        return self._writes

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connect, and bring the tables up to date.

        url  as in the setting `catalog`: sqlite:///PATH

        Raises Unavailable when another process owns the SQLite file.
        """
        parsed = sa.make_url(url)
        lock = await asyncio.to_thread(_own, Path(parsed.database or ""))
        parsed = parsed.set(drivername="sqlite+aiosqlite")
        database = cls(_sqlite(parsed, writes=True), _sqlite(parsed, writes=False), lock)
        try:
            async with database.write() as connection:
                await migrations.run(connection)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        await self._reader.dispose()
        await self._writer.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view. Raises Unavailable when no connection comes free in time."""
        with _translated():
            async with self._reader.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed, durably, when the block ends; undone when it raises.

        The search index is brought in line with changed Files as its last act, and what is done for a
        request is written down for the audit log.
        """
        noted = None
        with _translated():
            act = None
            try:
                async with self._writer.begin() as connection:
                    yield connection
                    await entries.settle(connection)
                    act = await audit.record(connection)
                    if self.noted is not None:
                        noted = await outbox.settle(connection)
            except BaseException:
                if act is not None:
                    act.written = False  # it went with the transaction
                raise
            finally:
                self._writes += 1
        # From here to the caller's next line nothing is awaited: who changes what it holds in memory
        # right after its commit has done so before any edge can hear of it and ask again.
        if noted is not None and noted != self.noted:
            self.noted = noted
            self.on_noted()


@contextlib.contextmanager
def _translated() -> Any:
    try:
        yield
    except (PoolTimeout, OperationalError) as error:
        raise Unavailable("the catalog is busy") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the catalog cannot be reached") from error
        raise


def _own(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise Unavailable("another process owns this catalog") from error
    # It holds hashes of passwords; SQLite gives its -wal and -shm the mode of the file itself.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return lock


def _sqlite(url: sa.URL, *, writes: bool) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1 if writes else READERS,
        max_overflow=0,
        pool_timeout=WAIT,
        pool_use_lifo=True,  # the connection last used has the right pages at hand
        json_deserializer=msgspec.json.decode,
    )

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are ours to begin, see below
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 10000")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA cache_size = -{CACHE_WRITING if writes else CACHE_READING}")
        if not writes:
            cursor.execute("PRAGMA query_only = ON")
        else:
            entries.prepare(connection)
        cursor.close()

    def begun(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later would fail halfway if another process had
        # written in between; IMMEDIATE takes the lock at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    def given_up(connection: Any, _record: Any, *_: object) -> None:
        # A task that was cancelled amid a transaction leaves a cursor open, and with one SQLite keeps a
        # closed connection, and its lock, alive. What the driver's thread does next is to undo it.
        driver = connection.driver_connection
        driver._tx.put_nowait((None, lambda: _undo(driver._connection)))

    sa.event.listen(engine.sync_engine, "connect", connected)
    sa.event.listen(engine.sync_engine, "invalidate", given_up)
    sa.event.listen(engine.sync_engine, "begin", begun)
    return engine


def _undo(connection: sqlite3.Connection | None) -> None:
    if connection is not None and connection.in_transaction:
        connection.rollback()


async def next_number(connection: AsyncConnection, kind: str) -> int:
    """Return a number that nothing of this kind has borne. Part of the caller's transaction."""
    bump = (
        sa.update(tables.sequences)
        .where(tables.sequences.c.kind == kind)
        .values(last=tables.sequences.c.last + 1)
        .returning(tables.sequences.c.last)
    )
    last = (await connection.execute(bump)).scalar_one_or_none()
    if last is not None:
        return int(last)
    await connection.execute(sa.insert(tables.sequences).values(kind=kind, last=1))
    return 1


async def next_numbers(connection: AsyncConnection, kind: str, count: int) -> int:
    """Return the first of `count` >= 1 numbers in a row; see `next_number`."""
    first = await next_number(connection, kind)
    await connection.execute(
        sa.update(tables.sequences)
        .where(tables.sequences.c.kind == kind)
        .values(last=tables.sequences.c.last + count - 1)
    )
    return first
