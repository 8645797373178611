"""Queries on Jobs: the durable queue and its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.tables import jobs
from origin.core.paging import Listing, Page
from origin.core.query import JobField, JobFilter, JobSort
from origin.domain.model import Job, number_of
from origin.domain.states import FINAL, JobState, Priority

_COLUMNS: dict[JobField, sa.Column[Any]] = {
    JobField.ID: jobs.c.n,
    JobField.TYPE: jobs.c.type,
    JobField.STATE: jobs.c.state,
    JobField.USER: jobs.c.user,
    JobField.START_TIME: jobs.c.created_ms,
    JobField.PRIORITY: jobs.c.priority,
}


def to_row(job: Job) -> dict[str, Any]:
    return {
        "n": job.n,
        "type": job.type,
        "state": job.state.value,
        "priority": int(job.priority),
        "user": job.user,
        "created_ms": job.created_ms,
        "started_ms": job.started_ms,
        "finished_ms": job.finished_ms,
        "step": job.step,
        "steps": list(job.steps),
        "done": job.done,
        "total": job.total,
        "unit": job.unit,
        "attempts": job.attempts,
        "lease_owner": job.lease_owner,
        "lease_until_ms": job.lease_until_ms,
        "not_before_ms": job.not_before_ms,
        "error": job.error,
        "waiting": job.waiting,
        "data": dict(job.data),
        "input": dict(job.input),
    }


def from_row(row: Any) -> Job:
    return Job(
        n=row.n,
        type=row.type,
        state=JobState(row.state),
        priority=Priority(row.priority),
        user=row.user,
        created_ms=row.created_ms,
        started_ms=row.started_ms,
        finished_ms=row.finished_ms,
        step=row.step,
        steps=tuple(row.steps),
        done=row.done,
        total=row.total,
        unit=row.unit,
        attempts=row.attempts,
        lease_owner=row.lease_owner,
        lease_until_ms=row.lease_until_ms,
        not_before_ms=row.not_before_ms,
        error=row.error,
        waiting=row.waiting,
        data=row.data,
        input=row.input,
    )


async def insert(connection: AsyncConnection, job: Job) -> None:
    await connection.execute(sa.insert(jobs).values(to_row(job)))


async def get(connection: AsyncConnection, n: int) -> Job | None:
    row = (await connection.execute(sa.select(jobs).where(jobs.c.n == n))).one_or_none()
    return from_row(row) if row else None


async def update(connection: AsyncConnection, job: Job) -> None:
    await connection.execute(sa.update(jobs).where(jobs.c.n == job.n).values(to_row(job)))


async def change(connection: AsyncConnection, n: int, owner: str, **columns: Any) -> bool:
    """Set columns of a job whose lease `owner` holds; False when the lease is lost."""
    statement = sa.update(jobs).where(jobs.c.n == n, jobs.c.lease_owner == owner).values(**columns)
    return bool((await connection.execute(statement)).rowcount)


async def remove(connection: AsyncConnection, ns: Sequence[int]) -> None:
    await connection.execute(sa.delete(jobs).where(jobs.c.n.in_(ns)))


async def claim(
    connection: AsyncConnection, owner: str, types: Sequence[str], now_ms: int, lease_ms: int
) -> Job | None:
    """Give `owner` the lease of the job that is due first, or return None. One transaction, so that
    two owners never get the same."""
    ready = sa.or_(
        jobs.c.state == JobState.READY.value,
        sa.and_(
            jobs.c.state == JobState.WAITING.value,
            sa.func.coalesce(jobs.c.not_before_ms, 0) <= now_ms,
        ),
    )
    query = (
        sa.select(jobs)
        .where(jobs.c.type.in_(types), ready)
        .order_by(jobs.c.priority, jobs.c.n)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    taken = {
        "state": JobState.STARTED.value,
        "started_ms": row.started_ms if row.started_ms is not None else now_ms,
        "attempts": row.attempts + 1,
        "lease_owner": owner,
        "lease_until_ms": now_ms + lease_ms,
        "waiting": None,
        "not_before_ms": None,
    }
    await connection.execute(sa.update(jobs).where(jobs.c.n == row.n).values(taken))
    return await get(connection, row.n)


async def expired(connection: AsyncConnection, now_ms: int, types: Sequence[str]) -> list[Job]:
    """Return jobs of these types whose runner is gone: leased, and the lease is over."""
    query = sa.select(jobs).where(
        jobs.c.type.in_(types),
        jobs.c.state.in_([JobState.STARTED.value, JobState.ABORTED_PENDING.value]),
        jobs.c.lease_until_ms <= now_ms,
    )
    return [from_row(row) for row in await connection.execute(query)]


async def next_due_ms(connection: AsyncConnection, types: Sequence[str]) -> int | None:
    """Return when the first WAITING job may be tried again, or None."""
    query = sa.select(sa.func.min(jobs.c.not_before_ms)).where(
        jobs.c.state == JobState.WAITING.value, jobs.c.type.in_(types)
    )
    value = (await connection.execute(query)).scalar_one_or_none()
    return None if value is None else int(value)


async def unfinished(connection: AsyncConnection, type: str, key: str, value: str) -> Job | None:
    """Return the oldest job of the type, not yet over, whose data has the pair."""
    query = (
        sa.select(jobs)
        .where(jobs.c.type == type, jobs.c.state.not_in([state.value for state in FINAL]))
        .where(_has(key, value))
        .order_by(jobs.c.n)
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return from_row(row) if row else None


async def temporaries(connection: AsyncConnection) -> list[str]:
    """Return `input.temporary` of the jobs that are not yet over and have one."""
    name = jobs.c.input["temporary"].as_string()
    query = sa.select(name).where(jobs.c.state.not_in([state.value for state in FINAL]), name.is_not(None))
    return list((await connection.execute(query)).scalars())


async def count_by_state(connection: AsyncConnection) -> dict[JobState, int]:
    query = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
    return {JobState(row[0]): row[1] for row in await connection.execute(query)}


async def listing(
    connection: AsyncConnection, wanted: JobFilter, sort: Sequence[JobSort], page: Page
) -> Listing[Job]:
    """Return one page, by offset. Ties end in the number, ascending."""
    conditions = _conditions(wanted)
    hits = None
    if page.count:
        count = sa.select(sa.func.count()).select_from(jobs).where(*conditions)
        hits = int((await connection.execute(count)).scalar_one())
    if page.number == 0 or page.first > 2**62:
        return Listing([], hits)
    query = sa.select(jobs).where(*conditions)
    for entry in (*sort, JobSort(JobField.ID)):
        column = _COLUMNS[entry.field]
        query = query.order_by(column.desc() if entry.descending else column.asc())
    query = query.limit(page.number).offset(page.first)
    return Listing([from_row(row) for row in await connection.execute(query)], hits)


def _has(key: str, value: str) -> sa.ColumnElement[bool]:
    """Whether `data` has the pair; the key may be any text."""
    # A path such as $."key" cannot be written for every key: SQLite knows no escapes in it.
    pairs = sa.func.json_each(jobs.c.data).table_valued("key", "value")
    return sa.exists().select_from(pairs).where(pairs.c.key == key, pairs.c.value == value)


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.ids is not None:
        conditions.append(jobs.c.n.in_([n for n in map(number_of, wanted.ids) if n is not None]))
    if wanted.types:
        conditions.append(jobs.c.type.in_(wanted.types))
    if wanted.states:
        conditions.append(jobs.c.state.in_([state.value for state in wanted.states]))
    if wanted.user is not None:
        conditions.append(jobs.c.user == wanted.user)
    for key, value in wanted.data:
        conditions.append(_has(key, value))
    if wanted.started_from_ms is not None:
        conditions.append(jobs.c.created_ms >= wanted.started_from_ms)
    if wanted.started_to_ms is not None:
        conditions.append(jobs.c.created_ms <= wanted.started_to_ms)
    if wanted.finished_from_ms is not None:
        conditions.append(jobs.c.finished_ms >= wanted.finished_from_ms)
    if wanted.finished_to_ms is not None:
        conditions.append(jobs.c.finished_ms <= wanted.finished_to_ms)
    return conditions
