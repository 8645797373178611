"""Queries on Workers, their tasks and what they produced. A task is a row here and one in `jobs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import jobs as job_rows
from origin.catalog.tables import assets, jobs, worker_outputs, worker_tasks, workers
from origin.domain.states import FINAL, JobState
from origin.domain.workers import WORKER_TASK, Worker, WorkerTask, status_of

_ENDED = [state.value for state in FINAL]


# --- workers --------------------------------------------------------------------------------------


def _worker(row: Any) -> Worker:
    return Worker(
        n=row.n,
        name=row.name,
        type=row.type,
        extensions=tuple(row.extensions),
        description=row.description,
        parameters=row.parameters,
        docs=row.docs,
        token_n=row.token_n,
        seen_ms=row.seen_ms,
    )


async def everyone(connection: AsyncConnection) -> list[Worker]:
    """By name."""
    return [_worker(row) for row in await connection.execute(sa.select(workers).order_by(workers.c.name))]


async def by_name(connection: AsyncConnection, name: str) -> Worker | None:
    row = (await connection.execute(sa.select(workers).where(workers.c.name == name))).one_or_none()
    return _worker(row) if row else None


async def by_token(connection: AsyncConnection, token_n: int) -> Worker | None:
    row = (await connection.execute(sa.select(workers).where(workers.c.token_n == token_n))).one_or_none()
    return _worker(row) if row else None


async def save(connection: AsyncConnection, worker: Worker) -> None:
    """In place of whoever has the name."""
    await remove(connection, worker.name)
    row = {
        "n": worker.n,
        "name": worker.name,
        "type": worker.type,
        "extensions": list(worker.extensions),
        "description": worker.description,
        "parameters": worker.parameters,
        "docs": worker.docs,
        "token_n": worker.token_n,
        "seen_ms": worker.seen_ms,
    }
    await connection.execute(sa.insert(workers).values(row))


async def remove(connection: AsyncConnection, name: str) -> None:
    await connection.execute(sa.delete(workers).where(workers.c.name == name))


async def seen(connection: AsyncConnection, name: str, now_ms: int) -> None:
    await connection.execute(sa.update(workers).where(workers.c.name == name).values(seen_ms=now_ms))


async def busy(connection: AsyncConnection) -> set[str]:
    """Return the names of workers that hold a task."""
    query = (
        sa.select(worker_tasks.c.worker)
        .join(jobs, jobs.c.n == worker_tasks.c.job_n)
        .where(jobs.c.state == JobState.STARTED.value)
    )
    return set((await connection.execute(query)).scalars())


# --- tasks ----------------------------------------------------------------------------------------

_TASK = sa.select(worker_tasks, jobs).join(jobs, jobs.c.n == worker_tasks.c.job_n)
_NAMES = (
    "storage_n",
    "project_n",
    "project_id",
    "asset_n",
    "asset_id",
    "version",
    "file_n",
    "filename",
    "extension",
    "worker_type",
    "options",
    "worker",
    "lease_id",
    "progress",
    "queued_ms",
)


def _task(row: Any) -> WorkerTask:
    held = row._mapping
    values = {name: held[worker_tasks.c[name]] for name in _NAMES}
    return WorkerTask(job=job_rows.from_row(_JobRow(held)), priority=held[worker_tasks.c.priority], **values)


class _JobRow:
    """The columns of `jobs` in a row of several tables, some of which have equal names."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __getattr__(self, name: str) -> Any:
        return self._held[jobs.c[name]]


async def insert(connection: AsyncConnection, task: WorkerTask) -> None:
    """The job is there already."""
    values = {name: getattr(task, name) for name in _NAMES}
    values |= {"job_n": task.job.n, "priority": task.priority, "options": dict(task.options)}
    await connection.execute(sa.insert(worker_tasks).values(values))


async def get(connection: AsyncConnection, n: int) -> WorkerTask | None:
    row = (await connection.execute(_TASK.where(jobs.c.n == n))).one_or_none()
    return _task(row) if row else None


async def everything(connection: AsyncConnection, after: tuple[int, int], number: int) -> list[WorkerTask]:
    """By creation, after (created_ms, number)."""
    later = sa.or_(jobs.c.created_ms > after[0], sa.and_(jobs.c.created_ms == after[0], jobs.c.n > after[1]))
    query = _TASK.where(later).order_by(jobs.c.created_ms, jobs.c.n).limit(number)
    return [_task(row) for row in await connection.execute(query)]


async def next_for(connection: AsyncConnection, worker: Worker) -> WorkerTask | None:
    """Return the task that this worker should do next: of highest priority, then the oldest."""
    other, other_job = worker_tasks.alias("other"), jobs.alias("other_job")
    at_work = (
        sa.exists()
        .select_from(other.join(other_job, other_job.c.n == other.c.job_n))
        .where(other.c.asset_n == worker_tasks.c.asset_n, other_job.c.state == JobState.STARTED.value)
    )
    query = (
        _TASK.where(worker_tasks.c.worker_type == worker.type)
        .where(jobs.c.state == JobState.READY.value, sa.not_(at_work))
        .order_by(worker_tasks.c.priority.desc(), jobs.c.created_ms, jobs.c.n)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if worker.extensions:
        query = query.where(worker_tasks.c.extension.in_(worker.extensions))
    row = (await connection.execute(query)).one_or_none()
    return _task(row) if row else None


async def change(connection: AsyncConnection, n: int, job: dict[str, Any], task: dict[str, Any]) -> None:
    """Set columns of the job and of the task."""
    if job:
        await connection.execute(sa.update(jobs).where(jobs.c.n == n).values(**job))
    if task:
        await connection.execute(sa.update(worker_tasks).where(worker_tasks.c.job_n == n).values(**task))


async def leased(
    connection: AsyncConnection, *, until_ms: int, worker: str | None = None
) -> list[WorkerTask]:
    """Return tasks at work whose lease ends by then. worker: only those it holds."""
    query = _TASK.where(jobs.c.state == JobState.STARTED.value, jobs.c.lease_until_ms <= until_ms)
    if worker is not None:
        query = query.where(worker_tasks.c.worker == worker)
    return [_task(row) for row in await connection.execute(query)]


async def unclaimed(connection: AsyncConnection, since_ms: int) -> list[int]:
    """Return the jobs' numbers of tasks that have been new since before then."""
    query = (
        sa.select(jobs.c.n)
        .join(worker_tasks, jobs.c.n == worker_tasks.c.job_n)
        .where(jobs.c.state == JobState.READY.value, worker_tasks.c.queued_ms <= since_ms)
    )
    return list((await connection.execute(query)).scalars())


async def cancel(
    connection: AsyncConnection, now_ms: int, *, project_n: int | None = None, asset_n: int | None = None
) -> None:
    """End all tasks of a project or of an asset that have not ended."""
    mine = worker_tasks.c.project_n == project_n if asset_n is None else worker_tasks.c.asset_n == asset_n
    chosen = sa.select(worker_tasks.c.job_n).where(mine)
    await connection.execute(
        sa.update(jobs)
        .where(jobs.c.n.in_(chosen), jobs.c.state.not_in(_ENDED))
        .values(state=JobState.ABORTED.value, finished_ms=now_ms, lease_owner=None, lease_until_ms=None)
    )


async def forget_ended(connection: AsyncConnection, before_ms: int) -> int:
    """Remove the records of tasks that ended before; what they came to stays with their assets."""
    query = (
        _TASK.join(assets, assets.c.n == worker_tasks.c.asset_n, isouter=True)
        .add_columns(assets.c.version.label("current"), assets.c.tasks_after)
        .where(jobs.c.type == WORKER_TASK, jobs.c.state.in_(_ENDED), jobs.c.finished_ms <= before_ms)
        .order_by(jobs.c.n)
        .limit(1000)
    )
    found = (await connection.execute(query)).all()
    for row in found:
        task = _task(row)
        if row.current == task.version and task.job.n > row.tasks_after:
            status = status_of(task.job.state)
            kept = {"status": status, "error": task.job.error or "" if status == "error" else ""}
            await connection.execute(sa.update(assets).where(assets.c.n == task.asset_n).values(**kept))
        await job_rows.remove(connection, [task.job.n])
    return len(found)


# --- output ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Output:
    """A hidden temporary file that will be published at `path`. size: bytes."""

    path: str
    storage_n: int
    temporary: str
    size: int
    sha1: str
    sha256: str


def _output(row: Any) -> Output:
    return Output(row.path, row.storage_n, row.temporary, row.size, row.sha1, row.sha256)


async def add_outputs(
    connection: AsyncConnection, job_n: int, lease_id: str, made: Sequence[Output]
) -> list[Output]:
    """Note what was made; return what it takes the place of."""
    found = []
    for first in range(0, len(made), 500):
        piece = made[first : first + 500]
        where = sa.and_(
            worker_outputs.c.job_n == job_n, worker_outputs.c.path.in_([output.path for output in piece])
        )
        found += [_output(row) for row in await connection.execute(sa.select(worker_outputs).where(where))]
        await connection.execute(sa.delete(worker_outputs).where(where))
        values = [
            {
                "job_n": job_n,
                "lease_id": lease_id,
                "path": output.path,
                "storage_n": output.storage_n,
                "temporary": output.temporary,
                "size": output.size,
                "sha1": output.sha1,
                "sha256": output.sha256,
            }
            for output in piece
        ]
        await connection.execute(sa.insert(worker_outputs), values)
    return found


async def outputs(connection: AsyncConnection, job_n: int, lease_id: str) -> list[Output]:
    """Of one claim, by path."""
    query = (
        sa.select(worker_outputs)
        .where(worker_outputs.c.job_n == job_n, worker_outputs.c.lease_id == lease_id)
        .order_by(worker_outputs.c.path)
    )
    return [_output(row) for row in await connection.execute(query)]


async def forget_outputs(connection: AsyncConnection, job_n: int) -> None:
    await connection.execute(sa.delete(worker_outputs).where(worker_outputs.c.job_n == job_n))


_HELD = (
    sa.exists()
    .select_from(jobs.join(worker_tasks, worker_tasks.c.job_n == jobs.c.n))
    .where(
        jobs.c.n == worker_outputs.c.job_n,
        jobs.c.state == JobState.STARTED.value,
        worker_tasks.c.lease_id == worker_outputs.c.lease_id,
    )
)
_ABANDONED = sa.select(worker_outputs).where(sa.not_(_HELD))


async def abandoned(connection: AsyncConnection, number: int) -> list[Output]:
    """Take away, and return, rows of what no claim that lasts, or is being published, has made."""
    found = (await connection.execute(_ABANDONED.limit(number))).all()
    for row in found:
        await connection.execute(
            sa.delete(worker_outputs).where(
                worker_outputs.c.job_n == row.job_n, worker_outputs.c.path == row.path
            )
        )
    return [_output(row) for row in found]


async def has_abandoned(connection: AsyncConnection) -> bool:
    """Whether `abandoned` would find something."""
    return (await connection.execute(_ABANDONED.limit(1))).first() is not None


async def temporaries(connection: AsyncConnection, storage_n: int) -> list[str]:
    query = sa.select(worker_outputs.c.temporary).where(worker_outputs.c.storage_n == storage_n)
    return list((await connection.execute(query)).scalars())


async def publishing(connection: AsyncConnection) -> list[WorkerTask]:
    """Return tasks whose output was on its way to its place when the service ended."""
    query = _TASK.where(jobs.c.type == WORKER_TASK, jobs.c.state == JobState.STARTED.value, jobs.c.step == 1)
    return [_task(row) for row in await connection.execute(query)]
