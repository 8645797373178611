"""Tasks: made, changed and run. A run is a job of the one queue; what it does is in `workers/task.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import tasks as rows
from origin.catalog.database import Database, next_number
from origin.core.conditions import Condition, Order
from origin.domain.model import Caller, Job
from origin.domain.rights import Thing, Verb
from origin.domain.states import FINAL
from origin.domain.tasks import (
    NEED_DESTINATION,
    RUNNABLE,
    TASK,
    End,
    Task,
    TaskEnd,
    TaskFile,
    TaskRun,
    priority_of,
)
from origin.errors import Conflict, Invalid, NotFound, Unauthenticated
from origin.ports import Clock
from origin.services.access import Access
from origin.services.jobs import Jobs


class InProgress(Conflict):
    """The task has a run that is not over."""


class NotRunning(Conflict):
    """The task has no run to stop."""


class Tasks:
    """Their creators and administrators see and change them; to others they are NotFound."""

    def __init__(self, database: Database, clock: Clock, access: Access, jobs: Jobs) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._jobs = jobs

    def require_writer(self, caller: Caller) -> None:
        """Making, changing and running tasks needs the right to write. Raises Forbidden."""
        self._access.require(caller, Verb.WRITE, Thing(public=False))

    def _whose(self, caller: Caller) -> str | None:
        if caller.user is None:
            raise Unauthenticated
        return None if caller.admin else caller.name

    # --- tasks ------------------------------------------------------------------------------------

    async def listing(self, caller: Caller) -> list[Task]:
        """By number."""
        whose = self._whose(caller)
        async with self._database.read() as connection:
            found = await rows.everything(connection, whose)
        return [task for task in found if not _gone(task)]

    async def get(self, caller: Caller, key: int | str) -> Task:
        """By number, or by name: of equal names the lowest number."""
        async with self._database.read() as connection:
            return await self._get(connection, caller, key)

    async def _get(self, connection: AsyncConnection, caller: Caller, key: int | str) -> Task:
        whose = self._whose(caller)
        if isinstance(key, int):
            task = await rows.get(connection, key)
        else:
            task = await rows.named(connection, key, whose)
        if task is None or (whose is not None and task.user != whose) or _gone(task):
            raise NotFound("Task", str(key))
        return task

    async def create(self, caller: Caller, name: str, fields: Mapping[str, object]) -> Task:
        self.require_writer(caller)
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            task = Task(
                n=await next_number(connection, "task"),
                name=name,
                user=caller.name,
                modified_by=caller.name,
                created_ms=now,
                modified_ms=now,
                fields=dict(fields),
            )
            await rows.insert(connection, task)
        return task

    async def update(
        self, caller: Caller, key: int | str, *, name: str | None, fields: Mapping[str, object]
    ) -> Task:
        """Fields that are not given stay. A run under way keeps what it began with."""
        self.require_writer(caller)
        async with self._database.write() as connection:
            task = await self._get(connection, caller, key)
            values: dict[str, object] = {
                "fields": {**task.fields, **fields},
                "modified_by": caller.name,
                "modified_ms": self._clock.now_ms(),
            }
            if name is not None:
                values["name"] = name
            await rows.change(connection, task.n, values)
            return await self._get(connection, caller, task.n)

    async def delete(self, caller: Caller, key: int | str) -> Task | None:
        """Return None when it is gone, the task when its run must end first, which it is told to."""
        self.require_writer(caller)
        async with self._database.write() as connection:
            task = await self._get(connection, caller, key)
            if not _busy(task):
                await rows.remove(connection, task.n)
                return None
            await rows.change(connection, task.n, {"deleting": True})
        assert task.last is not None
        await self._jobs.abort(caller, f"VX-{task.last.job_n}", "the task was deleted")
        async with self._database.read() as connection:
            return await rows.get(connection, task.n)

    # --- sources and destinations -----------------------------------------------------------------

    async def ends(self, caller: Caller, key: int | str, kind: str) -> tuple[Task, list[TaskEnd]]:
        """kind: source or destination."""
        async with self._database.read() as connection:
            task = await self._get(connection, caller, key)
            return task, await rows.ends(connection, task.n, kind)

    async def ends_of(self, found: Sequence[Task]) -> dict[int, list[TaskEnd]]:
        async with self._database.read() as connection:
            ends = await rows.ends_of(connection, [task.n for task in found])
        grouped: dict[int, list[TaskEnd]] = {}
        for end in ends:
            grouped.setdefault(end.task_n, []).append(end)
        return grouped

    async def add_end(self, caller: Caller, key: int | str, kind: str, end: End) -> TaskEnd:
        self.require_writer(caller)
        async with self._database.write() as connection:
            task = await self._get(connection, caller, key)
            made = TaskEnd(await next_number(connection, "task end"), task.n, kind, end)
            await rows.save_end(connection, made, new=True)
        return made

    async def get_end(self, caller: Caller, key: int | str, kind: str, n: int) -> TaskEnd:
        _, found = await self.ends(caller, key, kind)
        for end in found:
            if end.n == n:
                return end
        raise NotFound("TaskEnd", str(n))

    async def update_end(self, caller: Caller, key: int | str, kind: str, n: int, end: End) -> TaskEnd:
        self.require_writer(caller)
        old = await self.get_end(caller, key, kind, n)
        async with self._database.write() as connection:
            await rows.save_end(connection, replace(old, end=end), new=False)
        return replace(old, end=end)

    async def remove_end(self, caller: Caller, key: int | str, kind: str, n: int) -> None:
        self.require_writer(caller)
        await self.get_end(caller, key, kind, n)
        async with self._database.write() as connection:
            await rows.remove_end(connection, n)

    # --- running ----------------------------------------------------------------------------------

    async def run(self, caller: Caller, key: int | str) -> Job:
        """Start a run. Raises Invalid for what cannot run, InProgress."""
        self.require_writer(caller)
        async with self._database.write() as connection:
            task = await self._get(connection, caller, key)
            if _busy(task) or task.deleting:
                raise InProgress("the task is running already", context="task", id=str(task.n))
            if task.action not in RUNNABLE:
                raise Invalid("workflow_action", "cannot be run here", task.action)
            sources = await rows.ends(connection, task.n, "source")
            targets = await rows.ends(connection, task.n, "destination")
            if not sources:
                raise Invalid("task_sources", "can't be blank")
            if task.action in NEED_DESTINATION and not targets:
                raise Invalid("task_destinations", "can't be blank")
            priority = task.fields.get("priority", 5)
            job = await self._jobs.enqueue(
                connection,
                TASK,
                user=caller.name,
                priority=priority_of(priority if isinstance(priority, int) else 5),
                data={"task": str(task.n), "taskName": task.name},
                input={
                    "task": task.n,
                    "action": task.action,
                    "conflict": str(task.fields.get("conflict_resolution") or "rename"),
                    "sources": [asdict(source.end) for source in sources],
                    "destinations": [asdict(target.end) for target in targets],
                },
            )
            await rows.insert_run(connection, job.n, task)
            await rows.change(connection, task.n, {"run_n": job.n})
        await self._jobs.notify()
        return job

    async def stop(self, caller: Caller, key: int | str) -> TaskRun:
        """Tell the run under way to stop. Raises NotRunning."""
        self.require_writer(caller)
        task = await self.get(caller, key)
        if task.last is None or not _busy(task):
            raise NotRunning("the task is not running", context="task", id=str(task.n))
        await self._jobs.abort(caller, f"VX-{task.last.job_n}", "stopped by a user")
        return await self.run_of(caller, task.last.job_n, task.n)

    async def run_of(self, caller: Caller, job_n: int, task_n: int | None = None) -> TaskRun:
        """One run. task_n: whose it must be. Raises NotFound."""
        whose = self._whose(caller)
        async with self._database.read() as connection:
            found = await rows.run(connection, job_n)
        if (
            found is None
            or (task_n is not None and found.task_n != task_n)
            or (whose is not None and found.user != whose)
        ):
            raise NotFound("TaskExecution", str(job_n))
        return found

    async def runs(self, caller: Caller, task_n: int | None = None) -> list[TaskRun]:
        """By number, the newest 10,000."""
        whose = self._whose(caller)
        async with self._database.read() as connection:
            return await rows.runs(connection, whose, task_n)

    async def files_of(
        self,
        caller: Caller,
        job_n: int,
        wanted: Sequence[Condition],
        order: Sequence[Order],
        first: int,
        number: int,
    ) -> tuple[list[TaskFile], int]:
        """One page of a run's files, and how many fit. Raises NotFound for another's run."""
        await self.run_of(caller, job_n)
        async with self._database.read() as connection:
            return await rows.run_files(connection, job_n, wanted, order, first, number)


def _busy(task: Task) -> bool:
    return task.last is not None and task.last.state not in FINAL


def _gone(task: Task) -> bool:
    """Deleted while it ran, and the run is over."""
    return task.deleting and not _busy(task)
