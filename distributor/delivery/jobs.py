"""Long work that operators ask for: prefetch and verify, with progress, one of each kind at a time.

queued ──▶ running ──▶ done        (single objects may have failed: `failed`, `errors`)
   │          ├──────▶ failed      a defect, or the store went away
   └──────────┴──────▶ cancelled
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from distributor.core.model import StoredResponse
from distributor.errors import (
    BlobDamaged,
    Conflict,
    DiskFailed,
    EdgeError,
    Overloaded,
    UnknownAsset,
)
from distributor.ports import Clock, Observer, Store

__all__ = ["Job", "JobState", "Jobs", "ObjectError"]

log = logging.getLogger(__name__)

KEPT_FOR = 3600.0  # seconds after the end
MOST_ENDED = 1000  # jobs kept, whatever their age
MOST_QUEUED = 100  # jobs that have not ended; one holds up to 1000 ids
MOST_ERRORS = 100
PREFETCHES = 4  # objects of a job under way at once
BATCH = 500
WINDOW = 1024 * 1024


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ObjectError(NamedTuple):
    """Why one object of a job failed."""

    asset_id: str
    error: EdgeError


@dataclass(eq=False)
class Job:
    """Progress of one job. Counts are objects, times Unix seconds.

    total   objects to see to, as far as known
    done    objects seen to, failed ones included
    bytes   bytes prefetched or read back
    errors  the first 100
    """

    id: str
    kind: Literal["prefetch", "verify"]
    created_at: float
    total: int
    state: JobState = JobState.QUEUED
    done: int = 0
    failed: int = 0
    bytes: int = 0
    finished_at: float | None = None
    errors: list[ObjectError] = field(default_factory=list)
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        return self.finished_at is not None

    def fail(self, asset_id: str, error: EdgeError) -> None:
        """Note that an object failed."""
        self.failed += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(ObjectError(asset_id, error))


class Jobs:
    """All jobs of this process; lost when it ends.

    fetch        has one asset complete and fresh and returns its bytes; raises EdgeError
    verify_rate  bytes a second that verify reads
    """

    def __init__(
        self,
        store: Store,
        fetch: Callable[[str], Awaitable[int]],
        observer: Observer,
        clock: Clock,
        *,
        verify_rate: int,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._observer = observer
        self._clock = clock
        self._verify_rate = verify_rate
        self._jobs: dict[str, Job] = {}
        self._prefetching = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._next_read = 0.0

    # --- asking -----------------------------------------------------------------------------------

    def list(self) -> list[Job]:
        """Every job that is still known, oldest first."""
        self._forget()
        return [*self._jobs.values()]

    def get(self, job_id: str) -> Job | None:
        """None: there is no such job, or none any more."""
        self._forget()
        return self._jobs.get(job_id)

    def prefetch(self, ids: tuple[str, ...]) -> Job:
        """Begin to fetch `ids`. Raises Overloaded when too many jobs wait."""
        job = self._job("prefetch", len(ids))
        return self._begin(job, lambda: self._run_prefetch(job, ids))

    def verify(self, *, ids: tuple[str, ...] | None = None, prefix: str | None = None) -> Job:
        """Begin to verify what is stored: of `ids`, with `prefix`, or all. Raises Conflict: one runs."""
        if any(job.kind == "verify" and not job.ended for job in self._jobs.values()):
            raise Conflict("a verify job is running")
        total = len(ids) if ids is not None else self._store.usage().complete_objects
        job = self._job("verify", total)
        return self._begin(job, lambda: self._run_verify(job, ids, prefix))

    async def cancel(self, job: Job) -> None:
        """End `job` now. Raises Conflict when it has ended."""
        if job.ended or job.task is None:
            raise Conflict("the job has ended")
        job.task.cancel()
        await asyncio.wait([job.task])
        if not job.ended:  # cancelled before its first step
            job.state, job.finished_at = JobState.CANCELLED, self._clock.now()

    async def close(self) -> None:
        """End all jobs."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None and not job.ended]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._thread.shutdown(wait=False)

    # --- the life of a job ------------------------------------------------------------------------

    def _job(self, kind: Literal["prefetch", "verify"], total: int) -> Job:
        self._forget()
        if sum(not job.ended for job in self._jobs.values()) >= MOST_QUEUED:
            raise Overloaded("too many jobs wait", retry_after=60)
        job = Job(secrets.token_hex(8), kind, self._clock.now(), total)
        self._jobs[job.id] = job
        return job

    def _begin(self, job: Job, work: Callable[[], Awaitable[None]]) -> Job:
        job.task = asyncio.get_running_loop().create_task(self._run(job, work))
        return job

    async def _run(self, job: Job, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            job.state = JobState.CANCELLED
        except Exception:
            log.exception("job %s failed", job.id)
            job.state = JobState.FAILED
        else:
            job.state = JobState.DONE
        finally:
            job.finished_at = self._clock.now()

    def _forget(self) -> None:
        now = self._clock.now()
        ended = [job for job in self._jobs.values() if job.finished_at is not None]
        surplus = len(ended) - MOST_ENDED
        for number, job in enumerate(ended):
            if number < surplus or now - (job.finished_at or now) > KEPT_FOR:
                del self._jobs[job.id]

    # --- prefetch ---------------------------------------------------------------------------------

    async def _run_prefetch(self, job: Job, ids: tuple[str, ...]) -> None:
        async with self._prefetching:
            job.state = JobState.RUNNING
            waiting = iter(ids)

            async def one_after_another() -> None:
                for asset_id in waiting:
                    try:
                        # Not `+=` in one line: it would read the sum before it waits.
                        size = await self._fetch(asset_id)
                        job.bytes += size
                    except EdgeError as error:
                        job.fail(asset_id, error)
                    job.done += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(min(PREFETCHES, len(ids))):
                    group.create_task(one_after_another())

    # --- verify -----------------------------------------------------------------------------------

    async def _run_verify(self, job: Job, ids: tuple[str, ...] | None, prefix: str | None) -> None:
        job.state = JobState.RUNNING
        if ids is not None:
            for asset_id in ids:
                found = [stored for stored in self._store.variants(asset_id) if stored.complete]
                if not found:
                    job.fail(asset_id, UnknownAsset("it is not stored"))
                for stored in found:
                    await self._verify(job, stored)
                job.done += 1
            return
        if prefix is not None:
            job.total = 0
        async for stored in self._complete(prefix or ""):
            if prefix is not None:
                job.total += 1
            await self._verify(job, stored)
            job.done += 1
        job.total = job.done

    async def _complete(self, prefix: str) -> AsyncIterator[StoredResponse]:
        after: str | None = None
        while batch := self._store.scan(after, BATCH):
            after = batch[-1].key
            for stored in batch:
                if stored.complete and not stored.detached and stored.asset_id.startswith(prefix):
                    yield stored
            await asyncio.sleep(0)

    async def _verify(self, job: Job, stored: StoredResponse) -> None:
        expected = stored.representation.digest or stored.sha256
        length = stored.length
        if expected is None or length is None:
            return
        try:
            blob = await self._store.open(stored)
        except EdgeError as error:
            job.fail(stored.asset_id, error)  # BlobDamaged: the store has removed and counted it
            return
        try:
            sound = await self._hash(job, blob.fd, length) == expected
        except EdgeError as error:
            job.fail(stored.asset_id, error)
            return
        finally:
            blob.close()
        if stored.detached or expected != (stored.representation.digest or stored.sha256):
            return  # replaced or purged meanwhile
        if sound:
            self._observer.verified("ok")
            return
        job.fail(stored.asset_id, BlobDamaged("the stored bytes are not those that were written"))
        await self._store.remove(stored, corrupt=True)

    async def _hash(self, job: Job, fd: int, length: int) -> bytes:
        """sha-256 of the whole file, read at the bounded rate. Raises DiskFailed."""
        digest, position = hashlib.sha256(), 0
        loop = asyncio.get_running_loop()
        while position < length:
            await self._pace(min(WINDOW, length - position))
            reading = loop.run_in_executor(self._thread, _update, digest, fd, position, length)
            try:
                count = await asyncio.shield(reading)
            except asyncio.CancelledError:
                # The descriptor is given back once we return: not under the thread's feet.
                await asyncio.wait([reading])
                raise
            except OSError as error:
                raise DiskFailed("read", error) from error
            if count == 0:
                break  # shorter than it should be: the digest will differ
            position += count
            job.bytes += count
        return digest.digest()

    async def _pace(self, count: int) -> None:
        now = self._clock.monotonic()
        self._next_read = max(self._next_read, now)
        delay = self._next_read - now
        self._next_read += count / self._verify_rate
        await asyncio.sleep(delay)


def _update(digest: Any, fd: int, position: int, length: int) -> int:
    data = os.pread(fd, min(WINDOW, length - position), position)
    digest.update(data)
    return len(data)
