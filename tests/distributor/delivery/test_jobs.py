"""Jobs: their life, their bounds, and how long they are remembered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from distributor.core.model import Representation
from distributor.delivery import jobs as module
from distributor.delivery.jobs import Job, Jobs, JobState
from distributor.errors import BlobDamaged, Conflict, DiskFailed, Overloaded, UnknownAsset
from distributor.http.freshness import Policy
from distributor.ports import Observer
from tests.support.memory_store import MemoryStore


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Bench:
    """Jobs over a store in memory; `answers` says what fetching an id raises."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.answers: dict[str, Exception] = {}
        self.gate: asyncio.Event | None = None
        self.under_way = self.most_under_way = 0
        self.jobs = Jobs(self.store, self.fetch, Observer(), self.clock, verify_rate=1 << 40)

    async def fetch(self, asset_id: str) -> int:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        if asset_id in self.answers:
            raise self.answers[asset_id]
        return 10

    async def put(self, asset_id: str, data: bytes) -> None:
        representation = Representation(length=len(data), policy=Policy(freshness_lifetime=60.0))
        stored = await self.store.begin(asset_id, asset_id, representation, self.clock.time)
        await self.store.write(stored, 0, data)
        await self.store.commit(stored, hashlib.sha256(data).digest(), self.clock.time)
        self.store.release(stored)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.jobs.close()


async def ended(job: Job) -> Job:
    assert job.task is not None
    await asyncio.wait([job.task], timeout=10)
    assert job.ended
    return job


async def test_a_prefetch_sees_to_every_id_though_some_fail(bench: Bench) -> None:
    bench.answers = {"b": UnknownAsset(), "c": DiskFailed("write")}
    job = await ended(bench.jobs.prefetch(("a", "b", "c", "d")))
    assert (job.state, job.done, job.failed, job.bytes) == (JobState.DONE, 4, 2, 20)
    assert sorted(error.asset_id for error in job.errors) == ["b", "c"]


async def test_a_defect_ends_the_job_as_failed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.answers = {"a": RuntimeError("defect")}
    job = await ended(bench.jobs.prefetch(("a",)))
    assert job.state is JobState.FAILED
    caplog.clear()


async def test_only_a_few_objects_are_fetched_at_once_and_one_job_after_another(bench: Bench) -> None:
    bench.gate = asyncio.Event()
    first = bench.jobs.prefetch(tuple(str(number) for number in range(20)))
    second = bench.jobs.prefetch(("x",))
    await asyncio.sleep(0.01)
    assert (first.state, second.state) == (JobState.RUNNING, JobState.QUEUED)
    assert bench.under_way == module.PREFETCHES
    bench.gate.set()
    await ended(first)
    await ended(second)
    assert bench.most_under_way == module.PREFETCHES


async def test_errors_are_bounded_and_counted_beyond(bench: Bench) -> None:
    ids = tuple(str(number) for number in range(150))
    bench.answers = dict.fromkeys(ids, UnknownAsset())
    job = await ended(bench.jobs.prefetch(ids))
    assert (len(job.errors), job.failed) == (100, 150)


async def test_cancelling_ends_a_job_now_whatever_it_waits_for(bench: Bench) -> None:
    bench.gate = asyncio.Event()
    running, queued = bench.jobs.prefetch(("a",)), bench.jobs.prefetch(("b",))
    await bench.jobs.cancel(queued)  # before its first step
    await bench.jobs.cancel(running)
    assert running.state is queued.state is JobState.CANCELLED
    assert bench.under_way == 0
    with pytest.raises(Conflict):
        await bench.jobs.cancel(running)


async def test_jobs_are_kept_for_an_hour_after_their_end(bench: Bench) -> None:
    job = await ended(bench.jobs.prefetch(()))
    bench.clock.time += 3599
    assert bench.jobs.get(job.id) is job and bench.jobs.list() == [job]
    bench.clock.time += 2
    assert bench.jobs.get(job.id) is None and bench.jobs.list() == []


async def test_jobs_that_wait_are_bounded(bench: Bench) -> None:
    bench.gate = asyncio.Event()
    for _ in range(module.MOST_QUEUED):
        bench.jobs.prefetch(("a",))
    with pytest.raises(Overloaded):
        bench.jobs.prefetch(("a",))


async def test_verify_reads_every_byte_of_what_is_complete(bench: Bench) -> None:
    await bench.put("a", b"x" * (3 << 20))
    await bench.put("b", b"y" * 17)
    await bench.put("c", b"")
    job = await ended(bench.jobs.verify())
    assert (job.state, job.total, job.done, job.failed, job.bytes) == (JobState.DONE, 3, 3, 0, (3 << 20) + 17)


async def test_verify_removes_what_does_not_hash_to_its_digest_and_goes_on(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        await bench.put(name, name.encode() * 9000)
    bench.store.damage("b", 100)
    job = await ended(bench.jobs.verify(prefix=""))
    assert (job.done, job.failed) == (3, 1)
    assert isinstance(job.errors[0].error, BlobDamaged)
    assert bench.store.get("b") is None
    assert bench.store.get("a") is not None and bench.store.get("c") is not None


async def test_a_disk_that_fails_under_verify_is_no_verdict_on_the_object(bench: Bench) -> None:
    await bench.put("a", b"x" * 100)
    bench.store.fail("open", error=DiskFailed("read"), times=1)
    job = await ended(bench.jobs.verify())
    assert (job.state, job.failed) == (JobState.DONE, 1)
    assert bench.store.get("a") is not None


async def test_an_object_purged_while_it_is_verified_is_no_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.put("a", b"x" * 100)
    bench.store.damage("a", 3)
    stored = bench.store.get("a")
    assert stored is not None

    async def purged_meanwhile(_: int) -> None:
        await bench.store.remove(stored)

    monkeypatch.setattr(bench.jobs, "_pace", purged_meanwhile)
    job = await ended(bench.jobs.verify())
    assert (job.state, job.failed) == (JobState.DONE, 0)


async def test_verify_reads_no_faster_than_its_rate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        bench.clock.time += seconds

    slow = Jobs(bench.store, bench.fetch, Observer(), bench.clock, verify_rate=1 << 20)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    for _ in range(5):
        await slow._pace(1 << 20)
    assert slept == [0.0, 1.0, 1.0, 1.0, 1.0]
    await slow.close()
