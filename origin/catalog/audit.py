"""The audit log: who changed what, and when. A record is committed with the first change that a request
makes, in the same transaction, so neither is there without the other."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.tables import metadata
from origin.core.conditions import Condition, Sign

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

changes = sa.Table(
    "audit",
    metadata,
    sa.Column("n", _BIG, primary_key=True, autoincrement=True),
    sa.Column("at_ms", _BIG, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("token_n", _BIG),
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


_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    "id": changes.c.n,
    "user": changes.c.user,
    "api_key_id": changes.c.token_n,
    "method": changes.c.method,
    "path": changes.c.path,
    "dialect": changes.c.dialect,
    "request_id": changes.c.request_id,
}


async def listing(
    connection: AsyncConnection, wanted: list[Condition], first: int, number: int
) -> tuple[list[Any], int]:
    """Return rows, newest first, and how many there are."""
    conditions = [_condition(one) for one in wanted]
    count = sa.select(sa.func.count()).select_from(changes).where(*conditions)
    total = int((await connection.execute(count)).scalar_one())
    if first >= total:
        return [], total
    query = sa.select(changes).where(*conditions).order_by(changes.c.n.desc())
    return list(await connection.execute(query.limit(number).offset(first))), total


def _condition(wanted: Condition) -> sa.ColumnElement[bool]:
    column, value = _COLUMNS[wanted.field], wanted.values[0]
    if wanted.sign in (Sign.IN, Sign.NOT_IN):
        found: sa.ColumnElement[bool] = column.in_(wanted.values)
    elif wanted.sign in (Sign.LIKE, Sign.NOT_LIKE):
        found = column.ilike(str(value))
    elif wanted.sign in (Sign.EQUAL, Sign.NOT_EQUAL):
        found = column == value
    else:
        return {
            Sign.AT_LEAST: column >= value,
            Sign.AT_MOST: column <= value,
            Sign.ABOVE: column > value,
            Sign.BELOW: column < value,
        }[wanted.sign]
    if wanted.sign in (Sign.NOT_IN, Sign.NOT_LIKE, Sign.NOT_EQUAL):
        return sa.or_(column.is_(None), sa.not_(found))
    return found
