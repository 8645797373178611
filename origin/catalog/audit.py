"""The audit log: who changed what, and when. A record is committed with the first change that a request
makes, in the same transaction, so neither is there without the other."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import filtering
from origin.catalog.tables import metadata
from origin.core.conditions import Condition

changes = sa.Table(
    "audit",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at_ms", sa.Integer, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("token_n", sa.Integer),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("dialect", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("address", sa.Text),
)
sa.Index("audit_user", changes.c.user, changes.c.n)


@dataclass(slots=True)
class Act:
    """A request that may change something. user: None until it is known who asks.

    path     as sent, without the query; at most MAX_PATH characters of it are kept
    written  the record is part of a transaction, or committed
    """

    at_ms: int
    method: str
    path: str
    dialect: str
    request_id: str
    address: str | None = None
    user: str | None = None
    token_n: int | None = None
    written: bool = False


MAX_PATH = 2000
acting: ContextVar[Act | None] = ContextVar("acting", default=None)
"""What the present task does on behalf of a request; None in the service's own work."""


async def record(connection: AsyncConnection) -> Act | None:
    """Write the present act's record, once; return the act if this call wrote it."""
    act = acting.get()
    if act is None or act.user is None or act.written:
        return None
    await connection.execute(
        sa.insert(changes).values(
            at_ms=act.at_ms,
            user=act.user,
            token_n=act.token_n,
            method=act.method,
            path=act.path[:MAX_PATH],
            dialect=act.dialect,
            request_id=act.request_id,
            address=act.address,
        )
    )
    act.written = True
    return act


_COLUMNS = {
    "id": "n",
    "user": '"user"',
    "api_key_id": "token_n",
    "method": "method",
    "path": "path",
    "dialect": "dialect",
    "request_id": "request_id",
}


async def listing(
    connection: AsyncConnection, wanted: list[Condition], first: int, number: int
) -> tuple[list[Any], int]:
    """Return rows, newest first, and how many there are."""
    given: dict[str, Any] = {}
    source = f"FROM audit WHERE 1{filtering.where(wanted, _COLUMNS, given)}"
    total = int((await connection.execute(sa.text(f"SELECT count(*) {source}"), given)).scalar_one())
    if first >= total:
        return [], total
    paged = sa.text(f"SELECT * {source} ORDER BY n DESC LIMIT :number OFFSET :first")
    return list(await connection.execute(paged, {**given, "number": number, "first": first})), total
