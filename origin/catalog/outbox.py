"""What edges must still hear of: rows made by triggers, in the transaction that makes them necessary.

    files, projects, storages change → trigger adds a change → commit → services/edges.py tells every edge
    → each edge's row notes how far it was told → what all have heard of is pruned

A *change* names a File (its bytes came, went, differ, or may no longer be read by everybody) or, with
`path` null, a whole storage by the name it had. The triggers see every change, whoever makes it; so no
caller can forget the edges. Without edges nothing is written.

What an edge revalidates at each use needs no change: bytes not hashed yet are served `no-cache`.

SQLite only, as entries.py.
"""

# ruff: noqa: S608  (the f-strings below join constants of this file; all values are bound)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

MOST = 10_000
"""Changes that wait for one edge before they are put together, to one for each storage."""

_ANY_EDGE = "EXISTS (SELECT 1 FROM edges)"
_HIDDEN = "('TO_BE_DELETED', 'ARCHIVED', 'MISSING', 'LOST')"
_BELOW = "f.storage_n = NEW.storage_n AND f.path > NEW.id || '/' AND f.path < NEW.id || '0'"

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS edges (url TEXT PRIMARY KEY, told INTEGER NOT NULL) WITHOUT ROWID",
    # AUTOINCREMENT: numbers only grow, also when all rows are gone, for `edges.told` points at them.
    """
    CREATE TABLE IF NOT EXISTS edge_changes (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        storage_n INTEGER NOT NULL, file_n INTEGER, path TEXT, name TEXT, edge TEXT
    )""",
    f"""
    CREATE TRIGGER IF NOT EXISTS edges_file_added AFTER INSERT ON files
    WHEN {_ANY_EDGE} AND NEW.mtime_ns IS NOT NULL AND NEW.state NOT IN {_HIDDEN} BEGIN
        INSERT INTO edge_changes (storage_n, file_n, path) VALUES (NEW.storage_n, NEW.n, NEW.path);
    END""",
    f"""
    CREATE TRIGGER IF NOT EXISTS edges_file_changed AFTER UPDATE ON files
    WHEN {_ANY_EDGE} AND (
        OLD.sha256 IS NOT NULL AND OLD.sha256 IS NOT NEW.sha256
        OR (OLD.mtime_ns IS NULL) <> (NEW.mtime_ns IS NULL)
        OR (OLD.state IN {_HIDDEN}) <> (NEW.state IN {_HIDDEN})) BEGIN
        INSERT INTO edge_changes (storage_n, file_n, path) VALUES (NEW.storage_n, NEW.n, NEW.path);
    END""",
    # Not those that go with their storage, which is a change of its own.
    f"""
    CREATE TRIGGER IF NOT EXISTS edges_file_removed AFTER DELETE ON files
    WHEN {_ANY_EDGE} AND OLD.mtime_ns IS NOT NULL AND OLD.state NOT IN {_HIDDEN}
        AND EXISTS (SELECT 1 FROM storages WHERE n = OLD.storage_n) BEGIN
        INSERT INTO edge_changes (storage_n, file_n, path) VALUES (OLD.storage_n, OLD.n, OLD.path);
    END""",
    *(
        f"""
    CREATE TRIGGER IF NOT EXISTS edges_project_{what} AFTER {event} ON projects WHEN {condition} BEGIN
        INSERT INTO edge_changes (storage_n, file_n, path)
            SELECT f.storage_n, f.n, f.path FROM files f INDEXED BY files_path WHERE {_BELOW};
    END"""
        for what, event, condition in (
            ("added", "INSERT", _ANY_EDGE),  # from now on its groups guard the Files below it
            ("changed", "UPDATE OF access", f"{_ANY_EDGE} AND OLD.access IS NOT NEW.access"),
        )
    ),
    f"""
    CREATE TRIGGER IF NOT EXISTS edges_storage_removed AFTER DELETE ON storages WHEN {_ANY_EDGE} BEGIN
        INSERT INTO edge_changes (storage_n, name) VALUES (OLD.n, OLD.name);
    END""",
    f"""
    CREATE TRIGGER IF NOT EXISTS edges_storage_changed AFTER UPDATE ON storages
    WHEN {_ANY_EDGE} AND (OLD.name IS NOT NEW.name OR OLD.public IS NOT NEW.public) BEGIN
        INSERT INTO edge_changes (storage_n, name) VALUES (OLD.n, OLD.name);
    END""",
)


@dataclass(frozen=True, slots=True)
class Change:
    """file_n, path: a File, else None; name: of the whole storage, else None."""

    n: int
    storage_n: int
    file_n: int | None
    path: str | None
    name: str | None


async def install(connection: AsyncConnection) -> None:
    """Make the tables and triggers."""
    for statement in _SCHEMA:
        await connection.exec_driver_sql(statement)


async def configure(connection: AsyncConnection, urls: Iterable[str]) -> dict[str, int]:
    """Make these the edges to be told; return how far each was. A new one begins here and now."""
    wanted = set(urls)
    now = await last(connection)
    known = {row.url: int(row.told) for row in await connection.exec_driver_sql("SELECT * FROM edges")}
    for url in known.keys() - wanted:
        await connection.exec_driver_sql("DELETE FROM edges WHERE url = ?", (url,))
    for url in wanted - known.keys():
        await connection.exec_driver_sql("INSERT INTO edges VALUES (?, ?)", (url, now))
    await _prune(connection)
    return {url: known.get(url, now) for url in wanted}


async def last(connection: AsyncConnection) -> int:
    """Return the number of the newest change there ever was; 0 before the first."""
    query = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'edge_changes'), 0)"
    return int((await connection.exec_driver_sql(query)).scalar_one())


async def settle(connection: AsyncConnection) -> int:
    """Before each commit: return `last`, having put together what waits for too long already."""
    newest = await last(connection)
    query = "SELECT url, told FROM edges WHERE told < ?"
    behind = (await connection.exec_driver_sql(query, (newest - MOST,))).all()
    for url, told in behind:
        await _put_together(connection, url, told, newest)
    return await last(connection) if behind else newest


async def _put_together(connection: AsyncConnection, url: str, told: int, newest: int) -> None:
    """One change for each storage, for this edge alone, in place of all that it has not heard of."""
    await connection.exec_driver_sql(
        """
        INSERT INTO edge_changes (storage_n, name, edge)
            SELECT DISTINCT c.storage_n, coalesce(c.name, s.name), ?1
            FROM edge_changes c LEFT JOIN storages s ON s.n = c.storage_n
            WHERE c.n > ?2 AND (c.edge IS NULL OR c.edge = ?1) AND coalesce(c.name, s.name) IS NOT NULL""",
        (url, told),
    )
    await told_up_to(connection, {url: newest})


async def told_up_to(connection: AsyncConnection, told: Mapping[str, int]) -> None:
    """Note how far edges were told; forget what all have heard of."""
    for url, n in told.items():
        await connection.exec_driver_sql("UPDATE edges SET told = max(told, ?) WHERE url = ?", (n, url))
    await _prune(connection)


async def _prune(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql(
        "DELETE FROM edge_changes WHERE NOT EXISTS (SELECT 1 FROM edges)"
        " OR n <= (SELECT min(told) FROM edges)"
    )


async def note_storage(connection: AsyncConnection, storage_n: int) -> None:
    """A storage's bytes are others from now on, in a way that no trigger sees."""
    await connection.exec_driver_sql(
        "INSERT INTO edge_changes (storage_n, name)"
        f" SELECT n, name FROM storages WHERE n = ? AND {_ANY_EDGE}",
        (storage_n,),
    )


_WAITING = "FROM edge_changes WHERE n > ?1 AND n <= ?2 AND (edge IS NULL OR edge = ?3)"


async def waiting(connection: AsyncConnection, url: str, after: int, upto: int, limit: int) -> list[Change]:
    """Return the first changes that an edge has not heard of, oldest first."""
    query = f"SELECT n, storage_n, file_n, path, name {_WAITING} ORDER BY n LIMIT ?4"
    rows: Any = await connection.exec_driver_sql(query, (after, upto, url, limit))
    return [Change(row.n, row.storage_n, row.file_n, row.path, row.name) for row in rows]


async def count(connection: AsyncConnection, url: str, after: int, upto: int) -> int:
    """Return how many changes an edge has not heard of."""
    query = f"SELECT count(*) {_WAITING}"
    return int((await connection.exec_driver_sql(query, (after, upto, url))).scalar_one())
