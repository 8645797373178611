"""Queries on tasks, their ends, their runs and the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import filtering
from origin.catalog.tables import jobs, task_ends, task_files, task_runs, tasks
from origin.core.conditions import Condition, Order
from origin.domain.states import JobState
from origin.domain.tasks import End, Task, TaskEnd, TaskFile, TaskRun, TaskState

MOST = 10_000  # rows of one list
_JOB = (
    jobs.c.n.label("job_n"),
    jobs.c.state.label("job_state"),
    jobs.c.step.label("job_step"),
    jobs.c.data.label("job_data"),
    jobs.c.user.label("job_user"),
    jobs.c.created_ms.label("job_created_ms"),
    jobs.c.started_ms.label("job_started_ms"),
    jobs.c.finished_ms.label("job_finished_ms"),
    jobs.c.done.label("job_done"),
    jobs.c.total.label("job_total"),
)
_TASKS = sa.select(tasks, *_JOB).select_from(tasks.outerjoin(jobs, jobs.c.n == tasks.c.run_n))
_RUNS = sa.select(task_runs, *_JOB[1:]).select_from(task_runs.join(jobs, jobs.c.n == task_runs.c.job_n))


def _state(row: Any) -> TaskState | None:
    if row.job_n is None or row.job_state is None:
        return None
    return TaskState(
        job_n=row.job_n,
        state=JobState(row.job_state),
        step=row.job_step,
        aborted_by_user="abortReason" in (row.job_data or {}),
        created_ms=row.job_created_ms,
        started_ms=row.job_started_ms,
        finished_ms=row.job_finished_ms,
        done_bytes=row.job_done,
        total_bytes=row.job_total,
    )


def _task(row: Any) -> Task:
    return Task(
        n=row.n,
        name=row.name,
        user=row.user,
        modified_by=row.modified_by,
        created_ms=row.created_ms,
        modified_ms=row.modified_ms,
        fields=row.fields,
        run_n=row.run_n,
        deleting=row.deleting,
        last=_state(row),
    )


async def everything(connection: AsyncConnection, user: str | None) -> list[Task]:
    """Return tasks by number; user: whose, None for all."""
    query = _TASKS.order_by(tasks.c.n).limit(MOST)
    if user is not None:
        query = query.where(tasks.c.user == user)
    return [_task(row) for row in await connection.execute(query)]


async def get(connection: AsyncConnection, n: int) -> Task | None:
    row = (await connection.execute(_TASKS.where(tasks.c.n == n))).one_or_none()
    return _task(row) if row else None


async def named(connection: AsyncConnection, name: str, user: str | None) -> Task | None:
    """Return the one with the lowest number of those so named."""
    query = _TASKS.where(tasks.c.name == name, sa.not_(tasks.c.deleting)).order_by(tasks.c.n).limit(1)
    if user is not None:
        query = query.where(tasks.c.user == user)
    row = (await connection.execute(query)).one_or_none()
    return _task(row) if row else None


async def insert(connection: AsyncConnection, task: Task) -> None:
    await connection.execute(
        sa.insert(tasks).values(
            n=task.n,
            name=task.name,
            user=task.user,
            modified_by=task.modified_by,
            created_ms=task.created_ms,
            modified_ms=task.modified_ms,
            fields=dict(task.fields),
            run_n=None,
            deleting=False,
        )
    )


async def change(connection: AsyncConnection, n: int, values: Mapping[str, Any]) -> None:
    await connection.execute(sa.update(tasks).where(tasks.c.n == n).values(**values))


async def remove(connection: AsyncConnection, n: int) -> None:
    await connection.execute(sa.delete(tasks).where(tasks.c.n == n))


# --- ends -----------------------------------------------------------------------------------------


async def ends(connection: AsyncConnection, task_n: int, kind: str) -> list[TaskEnd]:
    query = sa.select(task_ends).where(task_ends.c.task_n == task_n, task_ends.c.kind == kind)
    rows = await connection.execute(query.order_by(task_ends.c.n))
    return [TaskEnd(row.n, row.task_n, row.kind, End(**row.end)) for row in rows]


async def ends_of(connection: AsyncConnection, task_ns: Sequence[int]) -> list[TaskEnd]:
    query = sa.select(task_ends).where(task_ends.c.task_n.in_(task_ns)).order_by(task_ends.c.n)
    return [TaskEnd(row.n, row.task_n, row.kind, End(**row.end)) for row in await connection.execute(query)]


async def save_end(connection: AsyncConnection, end: TaskEnd, *, new: bool) -> None:
    values = {"n": end.n, "task_n": end.task_n, "kind": end.kind, "end": asdict(end.end)}
    if new:
        await connection.execute(sa.insert(task_ends).values(values))
    else:
        await connection.execute(sa.update(task_ends).where(task_ends.c.n == end.n).values(values))


async def remove_end(connection: AsyncConnection, n: int) -> None:
    await connection.execute(sa.delete(task_ends).where(task_ends.c.n == n))


# --- runs -----------------------------------------------------------------------------------------


async def insert_run(connection: AsyncConnection, job_n: int, task: Task) -> None:
    await connection.execute(
        sa.insert(task_runs).values(
            job_n=job_n,
            task_n=task.n,
            name=task.name,
            fields=dict(task.fields),
            files=0,
            done=0,
            ended=0,
            failed=0,
        )
    )


def _run(row: Any) -> TaskRun:
    state = _state(row)
    assert state is not None
    return TaskRun(
        task_n=row.task_n,
        name=row.name,
        user=row.job_user,
        fields=row.fields,
        state=state,
        files=row.files,
        done=row.done,
        ended=row.ended,
        failed=row.failed,
    )


async def runs(connection: AsyncConnection, user: str | None, task_n: int | None = None) -> list[TaskRun]:
    """Return runs by number, the newest MOST of them. user: who started them, None for all."""
    query = _RUNS.order_by(task_runs.c.job_n.desc()).limit(MOST)
    if user is not None:
        query = query.where(jobs.c.user == user)
    if task_n is not None:
        query = query.where(task_runs.c.task_n == task_n)
    found = [_run(row) for row in await connection.execute(query)]
    return found[::-1]


async def run(connection: AsyncConnection, job_n: int) -> TaskRun | None:
    row = (await connection.execute(_RUNS.where(task_runs.c.job_n == job_n))).one_or_none()
    return _run(row) if row else None


async def planned(connection: AsyncConnection, job_n: int, files: int) -> None:
    """Note how many files a run has; none of them is over."""
    values = {"files": files, "done": 0, "ended": 0, "failed": 0}
    await connection.execute(sa.update(task_runs).where(task_runs.c.job_n == job_n).values(**values))


async def tally(connection: AsyncConnection, job_n: int, result: str) -> None:
    """Count one more file of a run as over."""
    values: dict[str, Any] = {"ended": task_runs.c.ended + 1}
    if result in ("done", "failed"):
        values[result] = task_runs.c[result] + 1
    await connection.execute(sa.update(task_runs).where(task_runs.c.job_n == job_n).values(**values))


# --- files of a run -------------------------------------------------------------------------------


async def clear_files(connection: AsyncConnection, job_n: int) -> None:
    await connection.execute(sa.delete(task_files).where(task_files.c.job_n == job_n))


async def insert_files(connection: AsyncConnection, job_n: int, found: Sequence[TaskFile]) -> None:
    if found:
        await connection.execute(sa.insert(task_files), [{"job_n": job_n, **asdict(file)} for file in found])


def _file(row: Any) -> TaskFile:
    values = {name: getattr(row, name) for name in TaskFile.__dataclass_fields__}
    return TaskFile(**values)


async def next_file(connection: AsyncConnection, job_n: int, after: int) -> TaskFile | None:
    """Return the first that waits of those behind the place `after`."""
    query = sa.select(task_files).where(
        task_files.c.job_n == job_n, task_files.c.place > after, task_files.c.result == "waiting"
    )
    row = (await connection.execute(query.order_by(task_files.c.place).limit(1))).one_or_none()
    return _file(row) if row else None


async def end_file(
    connection: AsyncConnection, job_n: int, place: int, result: str, message: str | None
) -> None:
    statement = sa.update(task_files).where(task_files.c.job_n == job_n, task_files.c.place == place)
    await connection.execute(statement.values(result=result, message=message))
    await tally(connection, job_n, result)


_FILE_COLUMNS = {
    "id": "file_n",
    "file_id": "file_n",
    "name": "substr(path, length(rtrim(path, replace(path, '/', ''))) + 1)",
    "type": "'file'",
    "size": "CASE WHEN size >= 0 THEN size END",
    "result": "result",
    "message": "message",
}
"""Fields that lists of a run's files are filtered and sorted by; all others are null for all. `name`:
what follows the last "/"."""


async def run_files(
    connection: AsyncConnection,
    job_n: int,
    wanted: Sequence[Condition],
    order: Sequence[Order],
    first: int,
    number: int,
) -> tuple[list[TaskFile], int]:
    """Return one page, in the order of the run unless ordered otherwise, and how many there are."""
    given: dict[str, Any] = {"job": job_n}
    source = f"FROM task_files WHERE job_n = :job{filtering.where(wanted, _FILE_COLUMNS, given)}"
    total = int((await connection.execute(sa.text(f"SELECT count(*) {source}"), given)).scalar_one())
    if first >= total:
        return [], total
    keys = ", ".join([*filtering.order_by(order, _FILE_COLUMNS), "place"])
    paged = sa.text(f"SELECT * {source} ORDER BY {keys} LIMIT :number OFFSET :first")
    rows = await connection.execute(paged, {**given, "number": number, "first": first})
    return [_file(row) for row in rows], total


async def bytes_over(connection: AsyncConnection, job_n: int) -> int:
    """Return the bytes of the files of a run that are over."""
    total = sa.func.coalesce(sa.func.sum(sa.case((task_files.c.size > 0, task_files.c.size), else_=0)), 0)
    query = sa.select(total).where(task_files.c.job_n == job_n, task_files.c.result != "waiting")
    return int((await connection.execute(query)).scalar_one())
