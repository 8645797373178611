"""Jobs: durable work. The row, with its whole input, is committed before anybody is answered.

A kind of job is a `Task`, registered once by `app.py`. Runners (`origin/workers/`) take jobs here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import jobs as rows
from origin.catalog.database import Database, next_number
from origin.core.paging import Listing, Page
from origin.core.query import JobFilter, JobSort
from origin.domain.model import Caller, Job, number_of
from origin.domain.states import FINAL, JobState, Priority
from origin.errors import Conflict, Invalid, NotFound, Unauthenticated
from origin.ports import Clock


class JobEnded(Exception):
    """The job was aborted, or its lease is another's: stop working on it. Not an error."""


class Run(Protocol):
    """What a task may do while it runs."""

    @property
    def job(self) -> Job:
        """As last committed."""
        ...

    async def check(self) -> None:
        """Raise JobEnded if the job is no longer this runner's to run. Cheap; call it often."""
        ...

    async def progress(self, done: int, total: int | None) -> None:
        """Commit progress, at most once a second; also a `check`."""
        ...

    def commit(self, **columns: Any) -> Any:
        """`async with run.commit(step=2) as connection:` one transaction that holds only if the lease does.

        columns: of the job, set in the same transaction.
        """
        ...


class Task(Protocol):
    """One kind of job. Every step can be repeated: a crash takes the job up at its last commit."""

    @property
    def type(self) -> str: ...

    @property
    def steps(self) -> tuple[str, ...]: ...

    async def run(self, run: Run) -> str | None:
        """Do it. Return None, or a warning, with which the job ends FINISHED_WARNING.

        Unavailable: tried again later. Other OriginErrors: FAILED_TOTAL, their message is the error.
        """
        ...

    async def undo(self, connection: AsyncConnection, job: Job) -> None:
        """Put back what the job had marked; it ended ABORTED or FAILED_TOTAL in this transaction."""
        ...


@runtime_checkable
class Renewable(Protocol):
    """A task whose jobs keep things of their own run in `input` or `data`."""

    async def renewed(
        self, connection: AsyncConnection, job: Job
    ) -> tuple[Mapping[str, object], Mapping[str, str]]:
        """Return input and data for a new job with what `job` was asked for."""
        ...


Dropped = Callable[[AsyncConnection, Job], Awaitable[None]]
"""Called with a job that was aborted, in the same transaction, to throw away what it had made."""


class Jobs:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tasks: dict[str, Task] = {}
        self._elsewhere: dict[str, Dropped] = {}
        self.wake = asyncio.Event()  # set when a job may have become due
        self._changed = asyncio.Condition()

    def register(self, task: Task) -> None:
        self._tasks[task.type] = task

    def register_elsewhere(self, type: str, dropped: Dropped) -> None:
        """A kind of job that no runner takes: who carries it out asks, and is told that it was aborted."""
        self._elsewhere[type] = dropped

    def task(self, type: str) -> Task:
        return self._tasks[type]

    @property
    def types(self) -> list[str]:
        """Of all registered tasks, by name."""
        return sorted(self._tasks)

    # --- making -----------------------------------------------------------------------------------

    async def enqueue(
        self,
        connection: AsyncConnection,
        type: str,
        *,
        user: str,
        input: Mapping[str, object],
        priority: Priority = Priority.MEDIUM,
        data: Mapping[str, str] | None = None,
        state: JobState = JobState.READY,
    ) -> Job:
        """Add a job in the caller's transaction. Call `notify` after its commit."""
        job = Job(
            n=await next_number(connection, "job"),
            type=type,
            state=state,
            priority=priority,
            user=user,
            created_ms=self._clock.now_ms(),
            steps=self._tasks[type].steps if type in self._tasks else (),
            data=dict(data or {}),
            input=dict(input),
        )
        await rows.insert(connection, job)
        return job

    async def notify(self) -> None:
        """Wake runners, and whoever waits for a job."""
        self.wake.set()
        await self.tell()

    async def tell(self) -> None:
        """Wake whoever waits for a job: one of a kind that no runner takes has changed."""
        async with self._changed:
            self._changed.notify_all()

    async def changed(self, seconds: float) -> None:
        """Wait until a job may have changed, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait()

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, caller: Caller, id: str) -> Job:
        """Own ones, all for administrators; another's is NotFound."""
        if caller.user is None:
            raise Unauthenticated
        async with self._database.read() as connection:
            job = await rows.get(connection, number_of(id) or 0)
        if job is None or (job.user != caller.name and not caller.admin):
            raise NotFound("Job", id)
        return job

    async def listing(
        self, caller: Caller, wanted: JobFilter, sort: Sequence[JobSort], page: Page
    ) -> Listing[Job]:
        """Those the caller may see."""
        if caller.user is None:
            raise Unauthenticated
        if not caller.admin:
            if wanted.user not in (None, caller.name):
                return Listing([], 0)
            wanted = replace(wanted, user=caller.name)
        async with self._database.read() as connection:
            return await rows.listing(connection, wanted, sort, page)

    async def wait(self, id: str, seconds: float) -> Job:
        """Return the job once it is over, or as it is after `seconds`. Raises NotFound."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            async with self._changed:
                async with self._database.read() as connection:
                    job = await rows.get(connection, number_of(id) or 0)
                if job is None:
                    raise NotFound("Job", id)
                left = deadline - asyncio.get_running_loop().time()
                if job.state in FINAL or left <= 0:
                    return job
                try:
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def count(self) -> dict[JobState, int]:
        async with self._database.read() as connection:
            return await rows.count_by_state(connection)

    async def temporaries(self) -> frozenset[str]:
        """Names of temporary files that unfinished jobs hold in their input, as `temporary`."""
        async with self._database.read() as connection:
            return frozenset(await rows.temporaries(connection))

    # --- changing ---------------------------------------------------------------------------------

    async def set_priority(self, caller: Caller, id: str, priority: Priority) -> Job:
        """Re-order a job that has not ended. Raises Conflict for one that has."""
        async with self._database.write() as connection:
            job = await self._own(connection, caller, id)
            if job.state in FINAL:
                raise Conflict("the job has ended", context="job", id=id)
            job = replace(job, priority=priority)
            await rows.update(connection, job)
        await self.notify()
        return job

    async def abort(self, caller: Caller, id: str, reason: str | None = None) -> Job:
        """Ask a job to stop. What has not started is ABORTED at once; what has ended stays as it is."""
        async with self._database.write() as connection:
            job = await self._own(connection, caller, id)
            if job.state in FINAL or job.state is JobState.ABORTED_PENDING:
                return job
            if reason:
                job = replace(job, data={**job.data, "abortReason": reason})
            if job.type in self._elsewhere:
                job = replace(job, state=JobState.ABORTED, finished_ms=self._clock.now_ms())
                job = replace(job, lease_owner=None, lease_until_ms=None)
                await self._elsewhere[job.type](connection, job)
            elif job.state is JobState.STARTED:
                job = replace(job, state=JobState.ABORTED_PENDING)
            else:
                job = replace(job, state=JobState.ABORTED, finished_ms=self._clock.now_ms())
                if job.type in self._tasks:
                    await self._tasks[job.type].undo(connection, job)
            await rows.update(connection, job)
        await self.notify()
        return job

    async def run_again(self, caller: Caller, id: str, priority: Priority | None = None) -> Job:
        """Make a new job with the same input."""
        async with self._database.write() as connection:
            old = await self._own(connection, caller, id)
            if old.type in self._elsewhere:
                raise Conflict("a job of this kind is reset where it was made", context="job", id=id)
            task: object = self._tasks.get(old.type)
            input, data = old.input, old.data
            if isinstance(task, Renewable):
                input, data = await task.renewed(connection, old)
            data = {k: v for k, v in data.items() if k not in ("abortReason", "errorMessage")}
            job = await self.enqueue(
                connection,
                old.type,
                user=caller.name,
                input=input,
                priority=old.priority if priority is None else priority,
                data=data,
            )
        await self.notify()
        return job

    async def remove(self, caller: Caller, ids: Sequence[str]) -> None:
        """Remove the records of jobs that have ended; Conflict, and none removed, if one has not."""
        if len(ids) > 1000:
            raise Invalid("id", "at most 1000 at once")
        async with self._database.write() as connection:
            found = [await self._own(connection, caller, id) for id in ids]
            for job in found:
                if job.state not in FINAL:
                    raise Conflict("the job has not ended", context="job", id=job.id)
            await rows.remove(connection, [job.n for job in found])

    async def _own(self, connection: AsyncConnection, caller: Caller, id: str) -> Job:
        if caller.user is None:
            raise Unauthenticated
        job = await rows.get(connection, number_of(id) or 0)
        if job is None or (job.user != caller.name and not caller.admin):
            raise NotFound("Job", id)
        return job
