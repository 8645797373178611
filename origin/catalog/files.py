"""Queries on Files. Every function takes the connection, and with it the transaction, of its caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.items import in_item, queued
from origin.catalog.tables import files
from origin.core import paths
from origin.core.paging import Key, Listing, Page, decode_cursor, encode_cursor
from origin.core.paths import PathPattern
from origin.core.query import FileField, FileFilter, FileSort
from origin.domain.model import File, Usage, number_of
from origin.domain.states import FileState

_LIVE = files.c.state != FileState.TO_BE_DELETED.value

_COLUMNS: dict[FileField, sa.Column[Any]] = {
    FileField.ID: files.c.n,
    FileField.SIZE: files.c.size,
    FileField.STATE: files.c.state,
    FileField.TIMESTAMP: files.c.timestamp_ms,
    FileField.FILENAME: files.c.name,
    FileField.EXTENSION: files.c.extension,
}


def to_row(file: File) -> dict[str, Any]:
    parent, _, name = file.path.rpartition("/")
    return {
        "n": file.n,
        "storage_n": file.storage_n,
        "path": file.path,
        "folded": paths.fold(file.path),
        "parent": parent,
        "name": name,
        "extension": paths.extension(file.path),
        "state": file.state.value,
        "size": file.size,
        "sha1": file.sha1,
        "sha256": file.sha256,
        "mtime_ns": file.mtime_ns,
        "timestamp_ms": file.timestamp_ms,
        "generation": file.generation,
        "created_ms": file.created_ms,
        "changed_ms": file.changed_ms,
        "metadata": dict(file.metadata),
    }


def from_row(row: sa.Row[Any]) -> File:
    return File(
        n=row.n,
        storage_n=row.storage_n,
        path=row.path,
        state=FileState(row.state),
        size=row.size,
        sha1=row.sha1,
        sha256=row.sha256,
        mtime_ns=row.mtime_ns,
        generation=row.generation,
        created_ms=row.created_ms,
        changed_ms=row.changed_ms,
        metadata=row.metadata,
    )


async def insert(connection: AsyncConnection, file: File) -> None:
    await connection.execute(sa.insert(files).values(to_row(file)))


async def insert_all(connection: AsyncConnection, new: Sequence[File]) -> None:
    for first in range(0, len(new), 1000):
        await connection.execute(sa.insert(files), [to_row(file) for file in new[first : first + 1000]])


async def update(connection: AsyncConnection, file: File) -> bool:
    """Replace the row of `file.n`; False when there is none any more."""
    done = await connection.execute(sa.update(files).where(files.c.n == file.n).values(to_row(file)))
    return bool(done.rowcount)


async def update_if(connection: AsyncConnection, file: File, seen: File) -> bool:
    """Replace the row if neither bytes nor state changed since `seen`; False when they did."""
    statement = (
        sa.update(files)
        .where(files.c.n == seen.n, files.c.generation == seen.generation)
        .where(files.c.state == seen.state.value, files.c.mtime_ns.is_not_distinct_from(seen.mtime_ns))
        .values(to_row(file))
    )
    return bool((await connection.execute(statement)).rowcount)


async def update_all_if(connection: AsyncConnection, changes: Sequence[tuple[File, File]]) -> list[File]:
    """As `update_if`, for some hundreds of (file, seen) at once; return those that were taken."""
    query = sa.select(files.c.n, files.c.generation, files.c.state, files.c.mtime_ns)
    query = query.where(files.c.n.in_([seen.n for _, seen in changes]))
    there = {(row.n, row.generation, row.state, row.mtime_ns) for row in await connection.execute(query)}
    taken = [
        file for file, seen in changes if (seen.n, seen.generation, seen.state.value, seen.mtime_ns) in there
    ]
    if taken:
        new = [{name: value for name, value in to_row(file).items() if name != "n"} for file in taken]
        statement = sa.update(files).where(files.c.n == sa.bindparam("number"))
        await connection.execute(
            statement, [{**row, "number": file.n} for row, file in zip(new, taken, strict=True)]
        )
    return taken


async def remove(connection: AsyncConnection, n: int) -> bool:
    return bool((await connection.execute(sa.delete(files).where(files.c.n == n))).rowcount)


async def get(connection: AsyncConnection, n: int) -> File | None:
    row = (await connection.execute(sa.select(files).where(files.c.n == n))).one_or_none()
    return from_row(row) if row else None


async def at_path(connection: AsyncConnection, storage_n: int, path: str) -> File | None:
    """Return the live File at the path, of which there is at most one."""
    query = sa.select(files).where(files.c.storage_n == storage_n, files.c.path == path, _LIVE)
    row = (await connection.execute(query)).one_or_none()
    return from_row(row) if row else None


async def is_doomed(connection: AsyncConnection, storage_n: int, path: str) -> bool:
    """Whether the bytes at the path, if there are any, are those of a File that waits for its deletion."""
    # An expression, which no index serves: else all that wait for deletion would be looked at.
    doomed = files.c.state.concat("") == FileState.TO_BE_DELETED.value
    query = sa.select(files.c.n).where(files.c.storage_n == storage_n, files.c.path == path, doomed)
    return (await connection.execute(query.limit(1))).first() is not None


async def at_paths(connection: AsyncConnection, storage_n: int, wanted: Sequence[str]) -> dict[str, File]:
    """Return the live Files at these paths, at most some hundreds, by path."""
    query = sa.select(files).where(files.c.storage_n == storage_n, files.c.path.in_(wanted), _LIVE)
    return {row.path: from_row(row) for row in await connection.execute(query)}


async def with_path(connection: AsyncConnection, path: str, limit: int = 100) -> list[File]:
    """Return live Files with the path on any storage, by number, at most `limit`."""
    query = sa.select(files).where(files.c.path == path, _LIVE).order_by(files.c.n).limit(limit)
    return [from_row(row) for row in await connection.execute(query)]


async def unhashed(connection: AsyncConnection, limit: int) -> list[int]:
    """Return numbers of Files whose bytes were seen and not hashed, at most `limit`."""
    query = sa.select(files.c.n).where(files.c.sha256.is_(None), files.c.mtime_ns.is_not(None), _LIVE)
    return list((await connection.execute(query.limit(limit))).scalars())


async def usage(connection: AsyncConnection, storage_ns: Sequence[int]) -> dict[int, Usage]:
    """Return what lies on each storage; all are in the answer."""
    kept = sa.text("SELECT storage_n, files, bytes FROM storage_usage")  # by triggers, see entries.py
    known = {row[0]: Usage(files=row[1], bytes=row[2]) for row in await connection.execute(kept)}
    return {n: known.get(n, Usage(0, 0)) for n in storage_ns}


async def listing(
    connection: AsyncConnection,
    wanted: FileFilter,
    sort: Sequence[FileSort],
    page: Page,
    *,
    within: Sequence[int] | None,
    closed: Sequence[tuple[int, str]] = (),
) -> Listing[File]:
    """Return one page. Ties end in the number, ascending, so pages never overlap.

    within  numbers of the storages the caller may see; None: all
    closed  folders, (storage's number, path), whose Files the caller may not see
    """
    conditions = _conditions(connection, wanted, within)
    conditions += [
        sa.not_(sa.and_(files.c.storage_n == n, files.c.path > f"{path}/", files.c.path < f"{path}0"))
        for n, path in closed
    ]
    order = _order(sort)
    hits = None
    if page.count:
        count = sa.select(sa.func.count()).select_from(files).where(*conditions)
        hits = int((await connection.execute(count)).scalar_one())
    kind = "files:" + ",".join(f"{field.value}{'-' if down else ''}" for field, down in order)
    query = sa.select(files).where(*conditions)
    for field, down in order:
        column = _COLUMNS[field]
        query = query.order_by(column.desc() if down else column.asc())
    if page.cursor is None:
        if page.number == 0 or page.first > 2**62:
            return Listing([], hits)
        query = query.limit(page.number).offset(page.first)
        return Listing([from_row(row) for row in await connection.execute(query)], hits)
    if page.cursor != "*":
        query = query.where(_after(order, decode_cursor(kind, page.cursor, len(order))))
    rows = (await connection.execute(query.limit(page.number + 1))).all()
    more = len(rows) > page.number
    rows = rows[: page.number]
    mark = None
    if more and rows:
        mark = encode_cursor(kind, tuple(rows[-1]._mapping[_COLUMNS[field]] for field, _ in order))
    return Listing([from_row(row) for row in rows], hits, mark)


def _order(sort: Sequence[FileSort]) -> list[tuple[FileField, bool]]:
    order: dict[FileField, bool] = {}
    for entry in sort:
        order.setdefault(entry.field, entry.descending)
        if entry.field is FileField.ID:
            break  # unique: what follows decides nothing
    order.setdefault(FileField.ID, False)
    return list(order.items())


def _after(order: Sequence[tuple[FileField, bool]], keys: Sequence[Key]) -> sa.ColumnElement[bool]:
    """Return "comes after the mark" as an OR over the first place that differs."""
    for (field, _), key in zip(order, keys, strict=True):
        text = field in (FileField.STATE, FileField.FILENAME, FileField.EXTENSION)
        if isinstance(key, str) is not text:
            return sa.false()
    ways = []
    for place, (field, down) in enumerate(order):
        same = [_COLUMNS[order[i][0]] == keys[i] for i in range(place)]
        column = _COLUMNS[field]
        ways.append(sa.and_(*same, column < keys[place] if down else column > keys[place]))
    first, down = order[0]
    leading = _COLUMNS[first] <= keys[0] if down else _COLUMNS[first] >= keys[0]
    return sa.and_(leading, sa.or_(*ways))  # the leading condition alone lets an index jump there


def _conditions(
    connection: AsyncConnection, wanted: FileFilter, within: Sequence[int] | None
) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.ids is not None:
        conditions.append(files.c.n.in_(_numbers(wanted.ids)))
    storages = None if wanted.storage_ids is None else set(_numbers(wanted.storage_ids))
    if within is not None:
        storages = set(within) if storages is None else storages & set(within)
    if storages is not None:
        column: sa.ColumnElement[int] = files.c.storage_n
        if wanted.path is not None and _selects_by_range(wanted.path):
            # A range of paths says more than the storage does; "+ 0" keeps SQLite's planner, which
            # would rather have an equality, from walking the whole storage.
            column = column + 0
        conditions.append(column.in_(sorted(storages)))
    if wanted.states:
        conditions.append(files.c.state.in_([state.value for state in wanted.states]))
    if wanted.sha1:
        conditions.append(files.c.sha1.in_([digest.lower() for digest in wanted.sha1]))
    if wanted.sha256:
        conditions.append(files.c.sha256.in_([digest.lower() for digest in wanted.sha256]))
    if wanted.with_bytes:
        conditions.append(files.c.size >= 0)
    if wanted.in_item is not None:
        conditions.append(in_item() if wanted.in_item else sa.not_(in_item()))
    if wanted.exclude_queued:
        conditions.append(sa.not_(queued()))
    if wanted.path is not None and not wanted.path.everything:
        conditions += path_conditions(wanted.path)
    return conditions


def _is_one_folder(pattern: PathPattern) -> bool:
    """Whether all that is selected, and nothing else, has one parent."""
    return not pattern.exact_range() and not pattern.wild and not pattern.ignore_case


def _selects_by_range(pattern: PathPattern) -> bool:
    return bool(pattern.literal) and not _is_one_folder(pattern)


def path_conditions(pattern: PathPattern) -> list[sa.ColumnElement[bool]]:
    """Return what selects the same paths as `pattern.matches`, leading with what an index can give."""
    column = files.c.folded if pattern.ignore_case else files.c.path
    if _is_one_folder(pattern):
        return [files.c.parent == "/".join(pattern.literal)]
    equal, low, high = pattern.key_range()
    conditions: list[sa.ColumnElement[bool]] = []
    if low is not None and high is not None:
        between = sa.and_(column > low, column < high)
        if low == high:
            conditions.append(column == equal)
        else:
            conditions.append(sa.or_(column == equal, between) if equal else between)
    if not pattern.exact_range():
        conditions.append(column.regexp_match(pattern.regex()))
    return conditions


def _numbers(ids: Sequence[str]) -> list[int]:
    return [n for n in map(number_of, ids) if n is not None]
