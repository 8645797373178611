"""Notifications of jobs: who is to be called, what each job has been told of, what is still to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.database import next_number
from origin.catalog.tables import jobs, metadata
from origin.domain.model import make_id

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("user", sa.Text, nullable=False, index=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("timeout", sa.Integer, nullable=False),
    sa.Column("retry", sa.Integer, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("extradata", sa.Text),
    sa.Column("triggers", sa.JSON, nullable=False),
)

# One row a job that names a notification: what state of it was last turned into deliveries.
watches = sa.Table(
    "notification_watches",
    metadata,
    sa.Column("job_n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("notification_n", sa.Integer, nullable=False, index=True),
    sa.Column("told", sa.Text, nullable=False),
    sa.Column("over", sa.Boolean, nullable=False, index=True),
)

deliveries = sa.Table(
    "notification_deliveries",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("job_n", sa.Integer, nullable=False, index=True),
    sa.Column(
        "notification_n", sa.Integer, sa.ForeignKey("notifications.n", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_ms", sa.Integer, nullable=False),
)

# How far the list of jobs has been looked through for jobs that name a notification.
marks = sa.Table("notification_marks", metadata, sa.Column("job_n", sa.Integer, primary_key=True))


@dataclass(frozen=True, slots=True)
class Notification:
    """A callback. timeout: seconds; retry: further attempts; triggers: among create, update,
    finished, fail, stop."""

    n: int
    user: str
    url: str
    method: str = "POST"
    timeout: int = 10
    retry: int = 3
    content_type: str = "application/json"
    extradata: str | None = None
    triggers: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return make_id(self.n)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One call to make. key: the same for every attempt; fields: (key, value) pairs of the body."""

    n: int
    job_n: int
    notification: Notification
    key: str
    fields: tuple[tuple[str, str], ...]
    attempts: int


async def insert(connection: AsyncConnection, made: Notification) -> Notification:
    """Give it a number and keep it."""
    made = replace(made, n=await next_number(connection, "notification"))
    values = {name: getattr(made, name) for name in notifications.columns.keys()}  # noqa: SIM118
    await connection.execute(sa.insert(notifications).values({**values, "triggers": list(made.triggers)}))
    return made


async def get(connection: AsyncConnection, n: int) -> Notification | None:
    row = (await connection.execute(sa.select(notifications).where(notifications.c.n == n))).one_or_none()
    return _from_row(row) if row else None


async def of_user(connection: AsyncConnection, user: str) -> list[Notification]:
    query = sa.select(notifications).where(notifications.c.user == user).order_by(notifications.c.n)
    return [_from_row(row) for row in await connection.execute(query)]


async def remove(connection: AsyncConnection, n: int) -> None:
    """With what is still to send."""
    await connection.execute(sa.delete(deliveries).where(deliveries.c.notification_n == n))
    await connection.execute(sa.delete(watches).where(watches.c.notification_n == n))
    await connection.execute(sa.delete(notifications).where(notifications.c.n == n))


def _from_row(row: Any) -> Notification:
    values = {name: getattr(row, name) for name in notifications.columns.keys()}  # noqa: SIM118
    return Notification(**{**values, "triggers": tuple(row.triggers)})


# --- watching jobs --------------------------------------------------------------------------------


async def watch_new_jobs(connection: AsyncConnection, key: str, slack: int) -> None:
    """Begin to watch jobs, made since the last call, whose data names a notification under `key`.

    slack  numbers before the mark looked at again, for databases whose transactions may commit in
           another order than they took their numbers
    """
    mark = (await connection.execute(sa.select(sa.func.max(marks.c.job_n)))).scalar_one_or_none() or 0
    last = (await connection.execute(sa.select(sa.func.max(jobs.c.n)))).scalar_one_or_none() or 0
    if last > mark:
        known = sa.select(watches.c.job_n).where(watches.c.job_n > mark - slack)
        query = (
            sa.select(jobs.c.n, jobs.c.data[key].as_string())
            .where(jobs.c.n > mark - slack, jobs.c.n.not_in(known))
            .where(jobs.c.data[key].as_string().is_not(None))
        )
        for job_n, id in (await connection.execute(query)).all():
            number = str(id).removeprefix("VX-")
            values = {"job_n": job_n, "notification_n": int(number) if number.isdigit() else 0}
            await connection.execute(sa.insert(watches).values(**values, told="", over=False))
        await connection.execute(sa.delete(marks))
        await connection.execute(sa.insert(marks).values(job_n=last))


async def watched(connection: AsyncConnection) -> Sequence[Any]:
    """Return (job_n, notification_n, told, state) of jobs whose state has not been told of.

    state  None when the job's record is gone
    """
    query = (
        sa.select(watches.c.job_n, watches.c.notification_n, watches.c.told, jobs.c.state)
        .outerjoin(jobs, jobs.c.n == watches.c.job_n)
        .where(watches.c.over.is_(False))
        .where(sa.or_(jobs.c.state.is_(None), jobs.c.state != watches.c.told))
        .order_by(watches.c.job_n)
        .limit(500)
    )
    return (await connection.execute(query)).all()


async def told(connection: AsyncConnection, job_n: int, state: str, *, over: bool) -> None:
    values = {"told": state, "over": over}
    await connection.execute(sa.update(watches).where(watches.c.job_n == job_n).values(**values))


async def add_delivery(
    connection: AsyncConnection,
    job_n: int,
    notification_n: int,
    key: str,
    fields: Sequence[tuple[str, str]],
    now_ms: int,
) -> None:
    await connection.execute(
        sa.insert(deliveries).values(
            n=await next_number(connection, "delivery"),
            job_n=job_n,
            notification_n=notification_n,
            key=key,
            fields=[list(field) for field in fields],
            attempts=0,
            due_ms=now_ms,
        )
    )


async def due(connection: AsyncConnection, now_ms: int, limit: int) -> list[Delivery]:
    """Return the first undelivered call of each job, where it is due: calls of a job go in order."""
    first = sa.select(sa.func.min(deliveries.c.n)).group_by(deliveries.c.job_n)
    query = (
        sa.select(deliveries, notifications)
        .join(notifications, notifications.c.n == deliveries.c.notification_n)
        .where(deliveries.c.n.in_(first), deliveries.c.due_ms <= now_ms)
        .order_by(deliveries.c.n)
        .limit(limit)
    )
    made = []
    for row in await connection.execute(query):
        held = row._mapping
        values = {column.name: held[column] for column in notifications.columns}
        made.append(
            Delivery(
                n=held[deliveries.c.n],
                job_n=held[deliveries.c.job_n],
                notification=Notification(**{**values, "triggers": tuple(values["triggers"])}),
                key=held[deliveries.c.key],
                fields=tuple((str(key), str(value)) for key, value in held[deliveries.c.fields]),
                attempts=held[deliveries.c.attempts],
            )
        )
    return made


async def delivered(connection: AsyncConnection, n: int) -> None:
    await connection.execute(sa.delete(deliveries).where(deliveries.c.n == n))


async def postpone(connection: AsyncConnection, n: int, attempts: int, due_ms: int) -> None:
    values = {"attempts": attempts, "due_ms": due_ms}
    await connection.execute(sa.update(deliveries).where(deliveries.c.n == n).values(**values))
