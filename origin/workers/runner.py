"""Runners: they take jobs from the durable queue and carry them out, `jobs.runners` at once.

The life of a lease: claimed with the job, renewed every third of its time, gone with the job's end.
A runner that lost it commits nothing more: every commit names the owner. A lease that ran out makes
its job READY again, or FAILED_TOTAL when it was taken up too often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import jobs as rows
from origin.catalog.database import Database
from origin.domain.model import Job
from origin.domain.states import JobState
from origin.errors import OriginError, Unavailable
from origin.ports import Clock
from origin.services.edges import Edges
from origin.services.jobs import JobEnded, Jobs

log = logging.getLogger("origin.jobs")

_POLL = 5.0  # seconds between looks when nothing wakes a runner: for leases that run out
_RETRY_MIN_MS, _RETRY_MAX_MS = 1_000, 60_000


class Runner:
    """count: jobs run at once; lease: seconds; attempts: how often a job may be taken up."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        jobs: Jobs,
        edges: Edges,
        *,
        name: str,
        count: int,
        lease: float = 60.0,
        attempts: int = 5,
    ) -> None:
        self._database = database
        self._clock = clock
        self._jobs = jobs
        self._edges = edges
        self._prefix = f"{name}:"
        self._owner = self._prefix + secrets.token_hex(8)
        self._count = count
        self._lease_ms = int(lease * 1000)
        self._attempts = attempts
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take back what a former run of this service left leased, then begin."""
        async with self._database.write() as connection:
            for job in await rows.expired(connection, 2**62, self._jobs.types):
                if (job.lease_owner or "").startswith(self._prefix):
                    await self._give_back(connection, job)
        self._tasks = [asyncio.create_task(self._loop(i), name=f"runner-{i}") for i in range(self._count)]

    async def stop(self) -> None:
        """Cancel what runs; it is taken up at its last commit by the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _loop(self, number: int) -> None:
        owner = f"{self._owner}:{number}"
        while True:
            try:
                self._jobs.wake.clear()
                job = await self._claim(owner)
                if job is not None:
                    await self._carry_out(job, owner)
                    continue
                await self._sleep()
            except Unavailable as error:
                log.warning("jobs wait: %s", error)
                await asyncio.sleep(1)
            except Exception:
                log.exception("a runner failed and goes on")
                await asyncio.sleep(1)

    async def _claim(self, owner: str) -> Job | None:
        now = self._clock.now_ms()
        async with self._database.read() as connection:
            expired = await rows.expired(connection, now, self._jobs.types)
        if expired:
            async with self._database.write() as connection:
                for job in await rows.expired(connection, now, self._jobs.types):
                    await self._give_back(connection, job)
        async with self._database.write() as connection:
            return await rows.claim(connection, owner, self._jobs.types, now, self._lease_ms)

    async def _give_back(self, connection: AsyncConnection, job: Job) -> None:
        """The runner of this job is gone."""
        if job.state is JobState.ABORTED_PENDING:
            await self._end(connection, job, JobState.ABORTED)
        elif job.attempts >= self._attempts:
            await self._end(connection, job, JobState.FAILED_TOTAL, "lease expired")
        else:
            await rows.update(
                connection, replace(job, state=JobState.READY, lease_owner=None, lease_until_ms=None)
            )

    async def _sleep(self) -> None:
        async with self._database.read() as connection:
            due = await rows.next_due_ms(connection, self._jobs.types)
        wait = _POLL if due is None else min(_POLL, max(0.05, (due - self._clock.now_ms()) / 1000))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._jobs.wake.wait()

    async def _carry_out(self, job: Job, owner: str) -> None:
        run = LeasedRun(self._database, self._clock, job, owner)
        heart = asyncio.create_task(self._beat(run))
        try:
            try:
                warning = await self._jobs.task(job.type).run(run)
                await self._edges.told()
            except JobEnded:
                await self._settle(run, JobState.ABORTED, only_if=JobState.ABORTED_PENDING)
            except Unavailable as error:
                await self._postpone(run, str(error))
            except OriginError as error:
                await self._settle(run, JobState.FAILED_TOTAL, str(error))
            except Exception as error:
                log.exception("job %s failed", job.id)
                await self._settle(run, JobState.FAILED_TOTAL, f"internal error ({type(error).__name__})")
            else:
                await self._settle(run, JobState.FINISHED_WARNING if warning else JobState.FINISHED, warning)
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
            await self._jobs.notify()

    async def _beat(self, run: LeasedRun) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            async with self._database.write() as connection:
                until = self._clock.now_ms() + self._lease_ms
                if not await rows.change(connection, run.job.n, run.owner, lease_until_ms=until):
                    return

    async def _settle(
        self, run: LeasedRun, state: JobState, message: str | None = None, only_if: JobState | None = None
    ) -> None:
        """Record the end, if the lease still holds."""
        async with self._database.write() as connection:
            job = await rows.get(connection, run.job.n)
            if job is None or job.lease_owner != run.owner or (only_if and job.state is not only_if):
                return
            await self._end(connection, job, state, message)

    async def _end(
        self, connection: AsyncConnection, job: Job, state: JobState, message: str | None = None
    ) -> None:
        data = {**job.data, "errorMessage": message} if message else job.data
        job = replace(
            job,
            state=state,
            finished_ms=self._clock.now_ms(),
            lease_owner=None,
            lease_until_ms=None,
            error=message,
            data=data,
        )
        if state in (JobState.ABORTED, JobState.FAILED_TOTAL):
            await self._jobs.task(job.type).undo(connection, job)
        await rows.update(connection, job)

    async def _postpone(self, run: LeasedRun, reason: str) -> None:
        """A storage does not answer now: wait longer the longer it has not."""
        async with self._database.write() as connection:
            job = await rows.get(connection, run.job.n)
            if job is None or job.lease_owner != run.owner:
                return
            if job.state is JobState.ABORTED_PENDING:
                await self._end(connection, job, JobState.ABORTED)
                return
            now = self._clock.now_ms()
            delay = min(_RETRY_MAX_MS, max(_RETRY_MIN_MS, (now - (job.started_ms or now)) // 2))
            job = replace(
                job,
                state=JobState.WAITING,
                waiting=reason,
                not_before_ms=now + delay,
                attempts=0,  # it ended cleanly: only crashes count
                lease_owner=None,
                lease_until_ms=None,
            )
            await rows.update(connection, job)


class LeasedRun:
    """One job in one runner's hands. Fulfils `services.jobs.Run`."""

    def __init__(self, database: Database, clock: Clock, job: Job, owner: str) -> None:
        self._database = database
        self._clock = clock
        self.job = job
        self.owner = owner
        self._looked_ms = 0
        self._told_ms = 0

    async def check(self) -> None:
        now = self._clock.now_ms()
        if now - self._looked_ms < 500:
            return
        self._looked_ms = now
        async with self._database.read() as connection:
            self._require(await rows.get(connection, self.job.n))

    def _require(self, job: Job | None) -> None:
        if job is None or job.lease_owner != self.owner or job.state is not JobState.STARTED:
            raise JobEnded
        self.job = job

    async def progress(self, done: int, total: int | None) -> None:
        now = self._clock.now_ms()
        if now - self._told_ms < 1000 and done != total:
            await self.check()
            return
        self._told_ms = self._looked_ms = now
        async with self.commit(done=done, total=total):
            pass

    @contextlib.asynccontextmanager
    async def commit(self, **columns: Any) -> AsyncIterator[AsyncConnection]:
        async with self._database.write() as connection:
            self._require(await rows.get(connection, self.job.n))
            yield connection
            if columns:
                await rows.change(connection, self.job.n, self.owner, **columns)
        self.job = replace(self.job, **columns)
