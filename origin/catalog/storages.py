"""Queries on Storages and their methods."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import outbox
from origin.catalog.tables import methods, storages
from origin.domain.model import Method, Storage
from origin.domain.states import StorageState, StorageType


async def everything(connection: AsyncConnection) -> list[Storage]:
    """Return all storages with their methods, by number."""
    found: dict[int, list[Method]] = {}
    for row in await connection.execute(sa.select(methods).order_by(methods.c.n)):
        method = Method(
            n=row.n,
            uri=row.uri,
            read=row.read,
            write=row.write,
            browse=row.browse,
            bandwidth=row.bandwidth,
            type=row.type,
            metadata=row.metadata,
        )
        found.setdefault(row.storage_n, []).append(method)
    rows = await connection.execute(sa.select(storages).order_by(storages.c.n))
    return [
        Storage(
            n=row.n,
            name=row.name,
            methods=tuple(found.get(row.n, ())),
            type=StorageType(row.type),
            state=StorageState(row.state),
            public=row.public,
            archive=row.archive,
            capacity=row.capacity,
            created_ms=row.created_ms,
            scanned_ms=row.scanned_ms,
            metadata=row.metadata,
        )
        for row in rows
    ]


async def save(connection: AsyncConnection, storage: Storage, *, new: bool) -> None:
    """Write a storage with its methods, in place of what was."""
    row = _row(storage)
    if new:
        await connection.execute(sa.insert(storages).values(row))
    else:
        await connection.execute(sa.update(storages).where(storages.c.n == storage.n).values(row))
        places = sa.select(methods.c.uri).where(methods.c.storage_n == storage.n)
        before = set((await connection.execute(places)).scalars())
        if before != {method.uri for method in storage.methods}:
            await outbox.note_storage(connection, storage.n)
        await connection.execute(sa.delete(methods).where(methods.c.storage_n == storage.n))
    for method in storage.methods:
        await connection.execute(
            sa.insert(methods).values(
                n=method.n,
                storage_n=storage.n,
                uri=method.uri,
                read=method.read,
                write=method.write,
                browse=method.browse,
                bandwidth=method.bandwidth,
                type=method.type,
                metadata=dict(method.metadata),
            )
        )


async def remove(connection: AsyncConnection, n: int) -> None:
    """Remove a storage with its methods and Files."""
    await connection.execute(sa.delete(storages).where(storages.c.n == n))


def _row(storage: Storage) -> dict[str, Any]:
    return {
        "n": storage.n,
        "name": storage.name,
        "type": storage.type.value,
        "state": storage.state.value,
        "public": storage.public,
        "archive": storage.archive,
        "capacity": storage.capacity,
        "created_ms": storage.created_ms,
        "scanned_ms": storage.scanned_ms,
        "metadata": dict(storage.metadata),
    }
