"""Durable work: leases, order, abort, retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.database import Database
from origin.core.paging import Page
from origin.core.query import JobField, JobFilter, JobSort
from origin.domain.model import ANONYMOUS, Caller, Job, User
from origin.domain.states import FINAL, JOB_CHANGES, FileState, JobState, Priority, may_become
from origin.errors import Conflict, Invalid, NotFound, Unauthenticated, Unavailable
from origin.services.access import Access
from origin.services.edges import Edges
from origin.services.jobs import Jobs, Run
from origin.services.storages import Storages
from origin.workers.runner import Runner
from tests.support.origin_service import Service, running_origin

ADMIN = Caller(User(1, "admin", admin=True))
JOE = Caller(User(2, "joe", write=True))


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms


class Work:
    """A task whose body the test gives."""

    type = "WORK"
    steps = ("Only",)

    def __init__(self, body: Callable[[Run], Awaitable[str | None]]) -> None:
        self._body = body
        self.undone: list[int] = []

    async def run(self, run: Run) -> str | None:
        return await self._body(run)

    async def undo(self, connection: AsyncConnection, job: Job) -> None:
        self.undone.append(job.n)


class Bench:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.jobs = Jobs(database, self.clock)
        self.runners: list[Runner] = []

    async def add(self, priority: Priority = Priority.MEDIUM, **options: object) -> Job:
        async with self.database.write() as connection:
            job = await self.jobs.enqueue(
                connection,
                "WORK",
                user="joe",
                input={"x": 1},
                priority=priority,
                **options,  # type: ignore[arg-type]
            )
        await self.jobs.notify()
        return job

    async def start(self, body: Callable[[Run], Awaitable[str | None]], **options: object) -> Work:
        work = Work(body)
        self.jobs.register(work)
        settings = {"name": "o", "count": 1, **options}
        access = Access(self.database, self.clock, anonymous_reads=True)
        edges = Edges(self.database, Storages(self.database, self.clock, access, roots=[]), [])
        runner = Runner(self.database, self.clock, self.jobs, edges, **settings)  # type: ignore[arg-type]
        self.runners.append(runner)
        await runner.start()
        return work


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = await Database.open(f"sqlite:///{tmp_path}/catalog.db")
    bench = Bench(database)
    yield bench
    for runner in bench.runners:
        await runner.stop()
    await database.close()


def test_final_states_lead_nowhere_and_the_others_lead_to_one() -> None:
    for state in JobState:
        assert (not JOB_CHANGES[state]) is (state in FINAL)
        seen, todo = set(), {state}
        while todo:
            seen |= todo
            todo = {new for old in todo for new in JOB_CHANGES[old]} - seen
        assert seen & FINAL
    assert may_become(JobState.ABORTED_PENDING, JobState.FINISHED)
    assert not may_become(JobState.FINISHED, JobState.READY)


async def test_jobs_run_by_priority_then_age(bench: Bench) -> None:
    order: list[int] = []
    ranks = [Priority.LOW, Priority.MEDIUM, Priority.IMMEDIATE, Priority.MEDIUM, Priority.LOWEST]
    made = [await bench.add(rank) for rank in ranks]

    async def body(run: Run) -> None:
        order.append(run.job.n)

    await bench.start(body)
    for job in made:
        await bench.jobs.wait(job.id, 10)
    assert order == [made[i].n for i in (2, 1, 3, 0, 4)]


async def test_no_job_is_run_twice_by_several_runners(bench: Bench) -> None:
    ran: list[int] = []

    async def body(run: Run) -> None:
        ran.append(run.job.n)
        await asyncio.sleep(0)

    made = [await bench.add() for _ in range(20)]
    await bench.start(body, count=4)
    for job in made:
        await bench.jobs.wait(job.id, 10)
    assert sorted(ran) == [job.n for job in made]


async def test_warning_and_error_are_kept(bench: Bench) -> None:
    async def body(run: Run) -> str | None:
        if run.job.priority is Priority.LOW:
            raise Invalid("path", "bad")
        if run.job.priority is Priority.LOWEST:
            raise RuntimeError("secret detail")
        return "mind the gap"

    work = await bench.start(body)
    warned = await bench.jobs.wait((await bench.add()).id, 10)
    failed = await bench.jobs.wait((await bench.add(Priority.LOW)).id, 10)
    broken = await bench.jobs.wait((await bench.add(Priority.LOWEST)).id, 10)
    assert (warned.state, warned.error) == (JobState.FINISHED_WARNING, "mind the gap")
    assert (failed.state, failed.data["errorMessage"]) == (JobState.FAILED_TOTAL, "path: bad")
    assert broken.state is JobState.FAILED_TOTAL
    assert "secret" not in str(broken)
    assert work.undone == [failed.n, broken.n]


async def test_storage_error_is_tried_again_later(bench: Bench) -> None:
    tries = 0

    async def body(run: Run) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unavailable("VX-1 cannot be reached")

    job = await bench.add()
    await bench.start(body)
    async with asyncio.timeout(10):
        while (waiting := await bench.jobs.get(ADMIN, job.id)).state is not JobState.WAITING:
            await asyncio.sleep(0.005)
    assert waiting.waiting == "VX-1 cannot be reached"
    bench.clock.ms += 60_000
    await bench.jobs.notify()
    assert (await bench.jobs.wait(job.id, 10)).state is JobState.FINISHED
    assert tries == 2


async def test_abort_before_start_is_final_at_once_and_undone(bench: Bench) -> None:
    work = Work(lambda run: asyncio.sleep(0, None))
    bench.jobs.register(work)
    job = await bench.add()
    aborted = await bench.jobs.abort(JOE, job.id, "changed my mind")
    assert (aborted.state, aborted.data["abortReason"]) == (JobState.ABORTED, "changed my mind")
    assert work.undone == [job.n]
    assert (await bench.jobs.abort(JOE, job.id)).state is JobState.ABORTED


async def test_abort_of_a_running_job_is_seen_by_its_task(bench: Bench) -> None:
    started = asyncio.Event()

    async def body(run: Run) -> None:
        started.set()
        while True:
            bench.clock.ms += 1000
            await run.check()
            await asyncio.sleep(0)

    work = await bench.start(body)
    job = await bench.add()
    await started.wait()
    assert (await bench.jobs.abort(JOE, job.id)).state in (JobState.ABORTED_PENDING, JobState.ABORTED)
    assert (await bench.jobs.wait(job.id, 10)).state is JobState.ABORTED
    assert work.undone == [job.n]


async def test_abort_past_the_point_of_no_return_ends_finished(bench: Bench) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def body(run: Run) -> None:
        started.set()
        await go.wait()

    await bench.start(body)
    job = await bench.add()
    await started.wait()
    await bench.jobs.abort(JOE, job.id)
    go.set()
    assert (await bench.jobs.wait(job.id, 10)).state is JobState.FINISHED


async def test_lease_that_ran_out_gives_the_job_to_another_and_the_first_commits_nothing(
    bench: Bench,
) -> None:
    first, go = asyncio.Event(), asyncio.Event()
    outcomes: list[str] = []

    async def body(run: Run) -> None:
        if not first.is_set():
            first.set()
            await go.wait()
            try:
                async with run.commit(step=1):
                    outcomes.append("committed")
            except Exception as error:
                outcomes.append(type(error).__name__)
                raise

    await bench.start(body, lease=1000.0)
    job = await bench.add()
    await first.wait()
    bench.clock.ms += 1_000_001
    await bench.start(body, name="other", lease=1000.0)
    done = await bench.jobs.wait(job.id, 10)
    assert (done.state, done.attempts) == (JobState.FINISHED, 2)
    go.set()
    async with asyncio.timeout(10):
        while not outcomes:
            await asyncio.sleep(0.005)
    assert outcomes == ["JobEnded"]


async def test_job_whose_runners_die_too_often_fails(bench: Bench) -> None:
    job = await bench.add()
    for _ in range(3):
        hang = asyncio.Event()

        async def body(run: Run, hang: asyncio.Event = hang) -> None:
            hang.set()
            await asyncio.sleep(1000)

        await bench.start(body, attempts=3)
        await hang.wait()
        await bench.runners[-1].stop()
    await bench.start(body, attempts=3)
    done = await bench.jobs.wait(job.id, 10)
    assert (done.state, done.error) == (JobState.FAILED_TOTAL, "lease expired")


async def test_progress_and_step_are_committed(bench: Bench) -> None:
    async def body(run: Run) -> None:
        await run.progress(10, 10)
        async with run.commit(step=1):
            pass

    await bench.start(body)
    done = await bench.jobs.wait((await bench.add()).id, 10)
    assert (done.done, done.total, done.step) == (10, 10, 1)


async def test_another_users_job_is_not_found_and_not_listed(bench: Bench) -> None:
    job = await bench.add()
    other = Caller(User(3, "ann"))
    for call in (bench.jobs.get, bench.jobs.abort, bench.jobs.run_again):
        with pytest.raises(NotFound):
            await call(other, job.id)  # type: ignore[operator]
    assert (await bench.jobs.listing(other, JobFilter(), (), Page())).entries == []
    assert (await bench.jobs.listing(other, JobFilter(user="joe"), (), Page())).entries == []
    assert (await bench.jobs.listing(ADMIN, JobFilter(user="joe"), (), Page())).hits == 1
    with pytest.raises(Unauthenticated):
        await bench.jobs.get(ANONYMOUS, job.id)


async def test_lists_filter_and_sort(bench: Bench) -> None:
    low = await bench.add(Priority.LOW, data={"item": "VX-1", 'quo"te': "x"})
    high = await bench.add(Priority.HIGH, data={"item": "VX-2"})

    async def ids(wanted: JobFilter, *sort: JobSort) -> list[str]:
        return [job.id for job in (await bench.jobs.listing(ADMIN, wanted, sort, Page())).entries]

    assert await ids(JobFilter()) == [low.id, high.id]
    assert await ids(JobFilter(), JobSort(JobField.PRIORITY)) == [high.id, low.id]
    assert await ids(JobFilter(), JobSort(JobField.ID, descending=True)) == [high.id, low.id]
    assert await ids(JobFilter(data=(("item", "VX-1"),))) == [low.id]
    assert await ids(JobFilter(data=(('quo"te', "x"),))) == [low.id]
    assert await ids(JobFilter(types=("OTHER",))) == []
    assert await ids(JobFilter(states=(JobState.READY,), ids=(high.id, "nonsense"))) == [high.id]


async def test_records_of_running_jobs_are_not_removed(bench: Bench) -> None:
    ended, ready = await bench.add(), await bench.add()
    bench.jobs.register(Work(lambda run: asyncio.sleep(0, None)))
    await bench.jobs.abort(JOE, ended.id)
    with pytest.raises(Conflict):
        await bench.jobs.remove(JOE, [ended.id, ready.id])
    assert (await bench.jobs.get(JOE, ended.id)).state is JobState.ABORTED
    await bench.jobs.remove(JOE, [ended.id])
    with pytest.raises(NotFound):
        await bench.jobs.get(JOE, ended.id)


async def test_aborted_delete_gives_the_file_back(tmp_path: Path) -> None:
    async with running_origin(tmp_path, jobs={"runners": 0}) as service:
        admin = await service.admin()
        await service.put("media/a", b"x")
        file = await service.file("a")
        job = await service.services.files.delete(admin, file.id)
        again = await service.services.files.delete(admin, file.id)
        assert again == job
        assert (await service("GET", f"/content/{file.id}")).status == 404
        await service.services.jobs.abort(admin, job.id)
        assert (await service.file("a")).state is FileState.CLOSED
        assert (await service("GET", "/content/media/a")).body == b"x"


async def test_upload_to_the_path_of_a_file_being_deleted_keeps_the_new_bytes(tmp_path: Path) -> None:
    async with running_origin(tmp_path, jobs={"runners": 0}) as service:
        await service.put("media/a", b"old")
        old = await service.file("a")
        job = await service.services.files.delete(await service.admin(), old.id)
        reply = await service.put("media/a", b"new")
        assert reply.json["id"] != old.id
    async with running_origin(tmp_path) as service:
        assert (await service.services.jobs.wait(job.id, 10)).state is JobState.FINISHED
        assert (await service("GET", "/content/media/a")).body == b"new"
        assert (await service("GET", f"/content/{old.id}")).status == 404


async def test_delete_waits_for_a_storage_that_cannot_be_reached(service: Service) -> None:
    await service.put("media/a", b"x")
    (service.folder / "media").rename(service.folder / "unplugged")
    reply = await service("DELETE", "/content/media/a")
    assert reply.status == 202
    async with asyncio.timeout(10):
        while True:
            job = await service.services.jobs.get(await service.admin(), reply.json["job"])
            if job.state is JobState.WAITING:
                break
            await asyncio.sleep(0.01)
    (service.folder / "unplugged").rename(service.folder / "media")
    assert (await service.services.jobs.wait(job.id, 20)).state is JobState.FINISHED
    assert service.on_disk() == {}
