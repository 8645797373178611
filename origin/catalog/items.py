"""Items, shapes and components, and which Files they hold: tables and queries.

A File that goes takes its places in components with it; the components and shapes stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.database import next_number
from origin.catalog.tables import files, jobs, metadata
from origin.domain.items import Component, Item, Place, Shape
from origin.domain.states import FINAL

IMPORT = "PLACEHOLDER_IMPORT"  # the type of the jobs that make items


items = sa.Table(
    "items",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.Integer, nullable=False),
)

external_ids = sa.Table(
    "item_external_ids",
    metadata,
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("item_n", sa.Integer, sa.ForeignKey("items.n", ondelete="CASCADE"), nullable=False, index=True),
)

shapes = sa.Table(
    "shapes",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("item_n", sa.Integer, sa.ForeignKey("items.n", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("tags", sa.JSON, nullable=False),
)

components = sa.Table(
    "components",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "shape_n", sa.Integer, sa.ForeignKey("shapes.n", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("kind", sa.Text, nullable=False),
)

component_files = sa.Table(
    "component_files",
    metadata,
    sa.Column("component_n", sa.Integer, sa.ForeignKey("components.n", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "file_n", sa.Integer, sa.ForeignKey("files.n", ondelete="CASCADE"), primary_key=True, index=True
    ),
)


def in_item() -> sa.ColumnElement[bool]:
    """The condition that a row of `files` stands in a component."""
    return sa.exists().where(component_files.c.file_n == files.c.n)


def queued() -> sa.ColumnElement[bool]:
    """The condition that an unfinished import job names a row of `files`."""
    named = sa.select(jobs.c.input["file_n"].as_integer()).where(
        jobs.c.type == IMPORT, jobs.c.state.not_in([state.value for state in FINAL])
    )
    return files.c.n.in_(named)


async def import_of(connection: AsyncConnection, file_n: int) -> int | None:
    """Return the number of an unfinished import job that names the File, or None."""
    query = (
        sa.select(jobs.c.n)
        .where(jobs.c.type == IMPORT, jobs.c.state.not_in([state.value for state in FINAL]))
        .where(jobs.c.input["file_n"].as_integer() == file_n)
        .limit(1)
    )
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else int(found)


async def places(connection: AsyncConnection, file_ns: Sequence[int]) -> list[Place]:
    """Return where the Files stand, by item, shape and component."""
    query = (
        sa.select(component_files.c.file_n, shapes.c.item_n, components.c.shape_n, components.c.n)
        .join(components, components.c.n == component_files.c.component_n)
        .join(shapes, shapes.c.n == components.c.shape_n)
        .where(component_files.c.file_n.in_(file_ns))
        .order_by(shapes.c.item_n, components.c.shape_n, components.c.n, component_files.c.file_n)
    )
    return [Place(*map(int, row)) for row in await connection.execute(query)]


async def storage_in_use(connection: AsyncConnection, storage_n: int) -> int | None:
    """Return the number of a File on the storage that belongs to an item, or None."""
    query = sa.select(files.c.n).where(files.c.storage_n == storage_n, in_item()).limit(1)
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else int(found)


async def take_out(connection: AsyncConnection, file_n: int, item_n: int | None = None) -> int:
    """Take the File out of the components of one item, or of all; return from how many."""
    statement = sa.delete(component_files).where(component_files.c.file_n == file_n)
    if item_n is not None:
        of_item = (
            sa.select(components.c.n)
            .join(shapes, shapes.c.n == components.c.shape_n)
            .where(shapes.c.item_n == item_n)
        )
        statement = statement.where(component_files.c.component_n.in_(of_item))
    return int((await connection.execute(statement)).rowcount)


async def join(connection: AsyncConnection, old_n: int, new_n: int, *, replace: bool) -> None:
    """Put File `new_n` into every component of `old_n`; replace: and take the old one out."""
    held = sa.select(component_files.c.component_n).where(component_files.c.file_n == new_n)
    rows = sa.select(component_files.c.component_n, sa.literal(new_n)).where(
        component_files.c.file_n == old_n, component_files.c.component_n.not_in(held)
    )
    await connection.execute(sa.insert(component_files).from_select(["component_n", "file_n"], rows))
    if replace:
        await take_out(connection, old_n)


async def taken_external_id(connection: AsyncConnection, wanted: Iterable[str]) -> tuple[str, int] | None:
    """Return one of the external ids that an item has already, and that item's number."""
    query = sa.select(external_ids.c.value, external_ids.c.item_n).where(
        external_ids.c.value.in_(list(wanted))
    )
    row = (await connection.execute(query.limit(1))).one_or_none()
    return None if row is None else (str(row[0]), int(row[1]))


async def insert_item(
    connection: AsyncConnection, n: int, metadata_: Mapping[str, object], ids: Iterable[str], now_ms: int
) -> None:
    values = {"n": n, "metadata": dict(metadata_), "created_ms": now_ms}
    await connection.execute(sa.insert(items).values(values))
    for value in ids:
        await connection.execute(sa.insert(external_ids).values(value=value, item_n=n))


async def insert_shape(
    connection: AsyncConnection,
    item_n: int,
    tags: Sequence[str],
    parts: Sequence[tuple[str, Sequence[int]]],
) -> int:
    """Add a shape; parts: (kind, numbers of Files), one component each. Return the shape's number."""
    n = await next_number(connection, "shape")
    await connection.execute(sa.insert(shapes).values(n=n, item_n=item_n, tags=list(tags)))
    for kind, file_ns in parts:
        component_n = await next_number(connection, "component")
        row = {"n": component_n, "shape_n": n, "kind": kind}
        await connection.execute(sa.insert(components).values(row))
        for file_n in file_ns:
            await connection.execute(
                sa.insert(component_files).values(component_n=component_n, file_n=file_n)
            )
    return n


async def get(connection: AsyncConnection, n: int) -> Item | None:
    row = (await connection.execute(sa.select(items).where(items.c.n == n))).one_or_none()
    if row is None:
        return None
    ids = sa.select(external_ids.c.value).where(external_ids.c.item_n == n).order_by(external_ids.c.value)
    query = sa.select(shapes).where(shapes.c.item_n == n).order_by(shapes.c.n)
    return Item(
        n=n,
        external_ids=tuple((await connection.execute(ids)).scalars()),
        metadata=row.metadata,
        shapes=tuple([await _shape(connection, found) for found in await connection.execute(query)]),
        created_ms=row.created_ms,
    )


async def _shape(connection: AsyncConnection, row: sa.Row[Any]) -> Shape:
    query = (
        sa.select(components.c.n, components.c.kind, component_files.c.file_n)
        .outerjoin(component_files, component_files.c.component_n == components.c.n)
        .where(components.c.shape_n == row.n)
        .order_by(components.c.n, component_files.c.file_n)
    )
    held: dict[int, tuple[str, list[int]]] = {}
    for n, kind, file_n in await connection.execute(query):
        entry = held.setdefault(n, (kind, []))
        if file_n is not None:
            entry[1].append(file_n)
    made = tuple(Component(n, kind, tuple(ns)) for n, (kind, ns) in held.items())
    return Shape(row.n, tuple(row.tags), made)
