"""Queries on folders and what lies in them, and on copies of a File. SQLite keeps the folders."""

# ruff: noqa: S608  (the f-strings below join constants; all values are bound)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as file_rows
from origin.catalog import filtering
from origin.catalog.tables import files, folders
from origin.core.conditions import Condition, Order
from origin.domain.model import File


@dataclass(frozen=True, slots=True)
class Folder:
    """path: on its storage, "" for the root; parent_n: None for the root."""

    n: int
    storage_n: int
    path: str
    name: str
    parent_n: int | None


_PARENT = folders.alias("above")
_FOLDERS = (
    sa.select(folders, _PARENT.c.n.label("parent_n"))
    .select_from(
        folders.outerjoin(
            _PARENT,
            sa.and_(_PARENT.c.storage_n == folders.c.storage_n, _PARENT.c.path == folders.c.parent),
        )
    )
    .order_by(folders.c.n)
)


def _folder(row: Any) -> Folder:
    return Folder(row.n, row.storage_n, row.path, row.name, row.parent_n)


async def folder(connection: AsyncConnection, n: int) -> Folder | None:
    row = (await connection.execute(_FOLDERS.where(folders.c.n == n))).one_or_none()
    return _folder(row) if row else None


async def folder_at(connection: AsyncConnection, storage_n: int, path: str) -> Folder | None:
    query = _FOLDERS.where(folders.c.storage_n == storage_n, folders.c.path == path)
    row = (await connection.execute(query)).one_or_none()
    return _folder(row) if row else None


async def roots(connection: AsyncConnection, storage_ns: Sequence[int]) -> list[Folder]:
    query = _FOLDERS.where(folders.c.path == "", folders.c.storage_n.in_(storage_ns))
    return [_folder(row) for row in await connection.execute(query)]


_CHILDREN = """
    SELECT n, name, 'folder' AS type, NULL AS size, NULL AS seconds FROM folders
        WHERE storage_n = :storage AND parent = :path
    UNION ALL
    SELECT n, name, 'file', CASE WHEN size >= 0 THEN size END, timestamp_ms / 1000 FROM files
        WHERE storage_n = :storage AND parent = :path AND state <> 'TO_BE_DELETED'"""

_COLUMNS = {
    "id": "n",
    "file_id": "n",
    "name": "name",
    "type": "type",
    "size": "size",
    "modification_date": "strftime('%Y-%m-%dT%H:%M:%SZ', seconds, 'unixepoch')",
}
"""Fields that lists of files are filtered and sorted by; all others are null for all."""


async def children(
    connection: AsyncConnection,
    parent: Folder,
    conditions: Sequence[Condition],
    order: Sequence[Order],
    first: int,
    number: int,
) -> tuple[list[tuple[int, bool]], int]:
    """Return (number, is a folder) of one page of what lies directly in a folder, and how many there are.

    Folders first, then by name, unless ordered otherwise.
    """
    given: dict[str, Any] = {"storage": parent.storage_n, "path": parent.path}
    source = f"FROM ({_CHILDREN}) WHERE 1{filtering.where(conditions, _COLUMNS, given)}"
    total = int((await connection.execute(sa.text(f"SELECT count(*) {source}"), given)).scalar_one())
    if first >= total:
        return [], total
    keys = filtering.order_by(order, _COLUMNS) or ["type <> 'folder', name"]
    paged = f"SELECT n, type {source} ORDER BY {', '.join(keys)}, n LIMIT :number OFFSET :first"
    if not conditions and not order:
        found = await _in_order(connection, given, first, number)
    else:
        rows = await connection.execute(sa.text(paged), {**given, "number": number, "first": first})
        found = [(row[0], row[1] == "folder") for row in rows]
    return found, total


async def _in_order(
    connection: AsyncConnection, given: dict[str, Any], first: int, number: int
) -> list[tuple[int, bool]]:
    """The usual order, off the indexes: no sorting however many there are."""
    count = "SELECT count(*) FROM folders WHERE storage_n = :storage AND parent = :path"
    before = int((await connection.execute(sa.text(count), given)).scalar_one())
    found: list[tuple[int, bool]] = []
    if first < before:
        sql = (
            "SELECT n FROM folders WHERE storage_n = :storage AND parent = :path"
            " ORDER BY name, n LIMIT :number OFFSET :first"
        )
        rows = await connection.execute(sa.text(sql), {**given, "number": number, "first": first})
        found = [(row[0], True) for row in rows]
    left = number - len(found)
    if left:
        sql = (
            "SELECT n FROM files INDEXED BY files_children WHERE storage_n = :storage AND parent = :path"
            " AND state <> 'TO_BE_DELETED' ORDER BY name, n LIMIT :number OFFSET :first"
        )
        skip = max(0, first - before)
        rows = await connection.execute(sa.text(sql), {**given, "number": left, "first": skip})
        found += [(row[0], False) for row in rows]
    return found


async def folders_by_number(connection: AsyncConnection, ns: Sequence[int]) -> dict[int, Folder]:
    rows = await connection.execute(_FOLDERS.where(folders.c.n.in_(ns)))
    return {row.n: _folder(row) for row in rows}


async def files_by_number(connection: AsyncConnection, ns: Sequence[int]) -> dict[int, File]:
    rows = await connection.execute(sa.select(files).where(files.c.n.in_(ns)))
    return {row.n: file_rows.from_row(row) for row in rows}


async def parents_of(connection: AsyncConnection, found: Sequence[File]) -> dict[int, int]:
    """Return File number → number of the folder it lies in."""
    ns = [file.n for file in found]
    query = (
        sa.select(files.c.n, folders.c.n)
        .select_from(
            files.join(
                folders,
                sa.and_(folders.c.storage_n == files.c.storage_n, folders.c.path == files.c.parent),
            )
        )
        .where(files.c.n.in_(ns))
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def cached(connection: AsyncConnection, ns: Sequence[int]) -> set[int]:
    """Return the numbers of those Files of which some online storage has a readable copy."""
    if not ns:
        return set()
    online = "s.n = c.storage_n AND NOT s.archive"
    sql = (
        "SELECT f.n FROM files f WHERE f.n IN :ns AND ("
        f"EXISTS (SELECT 1 FROM files c JOIN storages s ON {online} WHERE c.n = f.n"
        " AND c.state IN ('CLOSED', 'BEING_READ'))"
        f" OR EXISTS (SELECT 1 FROM files c JOIN storages s ON {online} WHERE c.sha256 = f.sha256"
        " AND c.size = f.size AND (f.size > 0 OR c.path = f.path) AND c.state IN ('CLOSED', 'BEING_READ')))"
    )
    statement = sa.text(sql).bindparams(sa.bindparam("ns", expanding=True))
    return {row[0] for row in await connection.execute(statement, {"ns": list(ns)})}


async def copies(connection: AsyncConnection, file: File, most: int = 10_000) -> list[File]:
    """Return the readable Files of equal digest and size (of size 0: and path), itself included, by
    number; a File without digest has itself alone."""
    readable = files.c.state.in_(["CLOSED", "BEING_READ", "ARCHIVED"])
    query = sa.select(files).where(readable).order_by(files.c.n).limit(most)
    if file.sha256 is None:
        query = query.where(files.c.n == file.n)
    else:
        query = query.where(files.c.sha256 == file.sha256, files.c.size == file.size)
        if file.size == 0:
            query = query.where(files.c.path == file.path)
    return [file_rows.from_row(row) for row in await connection.execute(query)]


async def beneath(
    connection: AsyncConnection, storage_n: int, path: str, after: int, number: int
) -> list[File]:
    """Return live Files of a storage below a directory ("" for all), by number, those after `after`."""
    query = sa.select(files).where(
        files.c.storage_n == storage_n, files.c.n > after, files.c.state != "TO_BE_DELETED"
    )
    if path:
        query = query.where(files.c.path > path + "/", files.c.path < path + "0")
    rows = await connection.execute(query.order_by(files.c.n).limit(number))
    return [file_rows.from_row(row) for row in rows]
