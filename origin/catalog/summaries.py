"""What is kept beside the entries, so that no search has to look at all of them; true at every commit.

`entry_counts`: how many entries, and how many bytes, have each value of each facet.
`entry_zones`: entries of numbers that agree but for the last ZONE_BITS bits are a zone. For the entries
of a zone whose primary copy is on one storage it has the least and the greatest value of each key they
can be sorted by. Bounds are never too narrow; what leaves does not narrow them.
"""

# ruff: noqa: S608  (every f-string below joins constants; all values are bound)

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.core.search import SIZE_CLASSES

ZONE_BITS = 8
PERIOD_BITS = 26
"""Dates are counted by periods of 2**26 ms (18.6 hours): a shift rounds down, before 1970 as well."""

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS entry_counts (
        facet TEXT NOT NULL,
        value NOT NULL,
        entries INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (facet, value)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE IF NOT EXISTS entry_zones (
        zone INTEGER NOT NULL,
        storage_n INTEGER NOT NULL,
        low_path TEXT NOT NULL,
        high_path TEXT NOT NULL,
        low_base TEXT NOT NULL,
        high_base TEXT NOT NULL,
        low_size INTEGER NOT NULL,
        high_size INTEGER NOT NULL,
        low_modified INTEGER NOT NULL,
        high_modified INTEGER NOT NULL,
        PRIMARY KEY (zone, storage_n)
    ) WITHOUT ROWID""",
)


def size_class(column: str) -> str:
    """Return an expression for the place of a size's class in SIZE_CLASSES."""
    whens = " ".join(
        f"WHEN {column} < {bound} THEN {i}" for i, (_, bound) in enumerate(SIZE_CLASSES) if bound is not None
    )
    return f"CASE {whens} ELSE {len(SIZE_CLASSES) - 1} END"


def counted(sign: str, ids: str) -> str:
    """Return the statement that adds ("+") or takes away ("-") the entries whose `id` is in a table."""
    own = f"FROM {ids} i CROSS JOIN entries e ON e.id = i.id"
    return f"""
    INSERT INTO entry_counts SELECT facet, value, {sign}count(*), {sign}sum(bytes) FROM (
        SELECT 'extension' AS facet, e.extension AS value, max(e.size, 0) AS bytes {own}
        UNION ALL SELECT 'size', {size_class("e.size")}, max(e.size, 0) {own}
        UNION ALL SELECT 'period', e.modified_ms >> {PERIOD_BITS}, max(e.size, 0) {own}
        UNION ALL SELECT 'cached', e.cached_ms IS NOT NULL, max(e.size, 0) {own}
        UNION ALL SELECT 'volume', v.storage_n, max(v.size, 0)
            FROM {ids} i CROSS JOIN entry_volumes v ON v.id = i.id)
    WHERE 1 GROUP BY facet, value
    ON CONFLICT DO UPDATE SET entries = entries + excluded.entries, bytes = bytes + excluded.bytes"""


_BOUNDS = {"path": "path", "base": "base", "size": "size", "modified": "modified_ms"}


def widened(ids: str) -> str:
    """Return the statement that makes room in the zones for the entries whose `id` is in a table."""
    bounds = ", ".join(f"min(e.{column}), max(e.{column})" for column in _BOUNDS.values())
    wider = ", ".join(
        f"low_{name} = min(low_{name}, excluded.low_{name}),"
        f" high_{name} = max(high_{name}, excluded.high_{name})"
        for name in _BOUNDS
    )
    return f"""
    INSERT INTO entry_zones SELECT e.id >> {ZONE_BITS}, e.storage_n, {bounds}
        FROM {ids} i CROSS JOIN entries e ON e.id = i.id WHERE 1 GROUP BY 1, 2
    ON CONFLICT DO UPDATE SET {wider}"""


async def rebuild(connection: AsyncConnection) -> None:
    """Make both anew from the entries."""
    for statement in SCHEMA:
        await connection.exec_driver_sql(statement)
    await connection.exec_driver_sql("DELETE FROM entry_counts")
    await connection.exec_driver_sql("DELETE FROM entry_zones")
    await connection.exec_driver_sql(counted("+", "entries"))
    await connection.exec_driver_sql(widened("entries"))
