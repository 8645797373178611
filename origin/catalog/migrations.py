"""From any earlier form of the catalog to the present one, each step once, in one transaction.

A change of the tables adds a step to STEPS and never edits an old one. New tables need no step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import entries, outbox, summaries, tables
from origin.errors import Unavailable

Step = Callable[[AsyncConnection], Awaitable[None]]


async def _tokens_refresh(connection: AsyncConnection) -> None:
    await connection.execute(sa.text("ALTER TABLE tokens ADD COLUMN refresh_ms BIGINT"))


async def _summaries(connection: AsyncConnection) -> None:
    """`entry_counts` and `entry_zones`, of which `entry_total` was a part."""
    await connection.execute(sa.text("DROP TABLE IF EXISTS entry_total"))
    if await connection.run_sync(lambda sync: sa.inspect(sync).has_table("entry_volumes")):
        await summaries.rebuild(connection)


async def _triggers_by_path(connection: AsyncConnection) -> None:
    """Made anew by `_install`: for the Files of a folder they walked through all of the storage."""
    for name in ("tags_added", "tags_removed", "edges_project_added", "edges_project_changed"):
        await connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {name}"))


async def _methods_metadata(connection: AsyncConnection) -> None:
    await connection.execute(sa.text("ALTER TABLE methods ADD COLUMN metadata JSON NOT NULL DEFAULT '{}'"))


STEPS: tuple[Step, ...] = (_tokens_refresh, _summaries, _triggers_by_path, _methods_metadata)
VERSION = 1 + len(STEPS)


async def run(connection: AsyncConnection) -> None:
    """Bring the tables up to date. Raises Unavailable for a catalog of a newer program."""
    have = await connection.run_sync(lambda sync: sa.inspect(sync).has_table(tables.schema.name))
    await connection.run_sync(tables.metadata.create_all)
    if not have:
        await connection.execute(sa.insert(tables.schema).values(version=VERSION))
        await _install(connection)
        return
    version = (await connection.execute(sa.select(tables.schema.c.version))).scalar_one()
    if version > VERSION:
        raise Unavailable(f"the catalog has version {version}, this program knows {VERSION}")
    for step in STEPS[version - 1 :]:
        await step(connection)
    if version != VERSION:
        await connection.execute(sa.update(tables.schema).values(version=VERSION))
    await _install(connection)


async def _install(connection: AsyncConnection) -> None:
    await entries.install(connection)
    await outbox.install(connection)
