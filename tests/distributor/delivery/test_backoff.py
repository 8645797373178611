"""Fetches that fail do not stampede: one asks for all, and the next waits its turn."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from distributor.core.retry import LONGEST_PAUSE
from distributor.delivery.backoff import FORGOTTEN, Backoff
from distributor.errors import SourceError
from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import Bench
from tests.support.fake_clock import FakeClock
from tests.support.source import Fault

N = 20_000
CLIENTS = 200
HAMMERED = 1.5  # seconds; attempts fit in at 0, 0.1, 0.3, 0.7 and 1.5, each of two rounds
MOST_ATTEMPTS = 6


async def hammer(bench: Bench, method: str = "GET") -> Counter[int]:
    """Every client asks again as soon as it has its answer. Answers by status, 0 for errors."""
    end = asyncio.get_running_loop().time() + HAMMERED
    answers: Counter[int] = Counter()

    async def client() -> None:
        while asyncio.get_running_loop().time() < end:
            got = await bench.get("a", method=method)
            answers[0 if got.answer.error is not None else got.status] += 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answers


@pytest.mark.parametrize("transparent", [False, True], ids=["plain", "transparent"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_failing_asset_under_many_clients_costs_a_few_attempts(
    method: str, transparent: bool, memory_bench: MakeBench
) -> None:
    async with memory_bench(transparent=transparent, backoff=0.0) as bench:
        bench.source.fault("a", Fault(status=500, body=b"no"), method=None)
        answers = await hammer(bench, method)
        assert sum(answers.values()) >= CLIENTS
        assert bench.source.count("a", None) <= 2 * MOST_ATTEMPTS
        bench.source.heal("a")
        asset = bench.source.add("a", N)
        await bench.idle()
        assert (await bench.get("a")).body == asset.content("a")


async def test_stale_asset_under_many_clients_is_served_while_its_source_fails(
    memory_bench: MakeBench,
) -> None:
    async with memory_bench(backoff=0.0) as bench:
        asset = bench.source.add("a", N, headers=[("Cache-Control", "max-age=10")], date=False)
        await bench.fill("a")
        bench.clock.advance(60)
        bench.source.fault("a", Fault(status=500))
        answers = await hammer(bench)
        assert set(answers) == {200}
        assert bench.source.count("a") - 1 <= 2 * MOST_ATTEMPTS
        bench.source.heal("a")
        await asyncio.sleep(bench.edge._backoff.pause(bench.request("a").key))
        got = await bench.get("a")
        assert (got.body, got.fields["cache-status"]) == (
            asset.content("a"),
            "edge-1; fwd=stale; fwd-status=304",
        )


async def test_asset_that_breaks_off_midway_is_not_begun_by_everybody(memory_bench: MakeBench) -> None:
    async with memory_bench(backoff=0.0) as bench:
        bench.source.add("a", N, etag="none", last_modified=None)
        bench.source.fault("a", Fault(cut_after=N // 2))
        await hammer(bench)
        assert bench.source.count("a") <= MOST_ATTEMPTS


async def test_purge_lets_an_asset_be_asked_for_at_once(memory_bench: MakeBench) -> None:
    async with memory_bench(backoff=0.0) as bench:
        bench.source.fault("a", Fault(status=500))
        await bench.get("a")
        key = bench.request("a").key
        assert bench.edge._backoff.pause(key) > 0
        await bench.purger.purge(ids=["a"])
        assert bench.edge._backoff.pause(key) == 0


def test_pause_doubles_with_failures_in_a_row_up_to_a_bound() -> None:
    clock = FakeClock()
    backoff = Backoff(clock)
    pauses = []
    for _ in range(8):
        backoff.failed("a", SourceError())
        pauses.append(backoff.pause("a"))
        clock.advance(pauses[-1])
        assert backoff.pause("a") == pytest.approx(0)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])
    assert backoff.pause("b") == 0


def test_failures_that_end_while_the_pause_lasts_are_one() -> None:
    backoff = Backoff(FakeClock())
    for _ in range(CLIENTS):
        backoff.failed("a", SourceError())
    assert backoff.pause("a") == pytest.approx(0.1)


@pytest.mark.parametrize("end", ["success", "time"])
def test_count_begins_anew_after_a_success_or_a_long_while(end: str) -> None:
    clock = FakeClock()
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.failed("a", SourceError())
        clock.advance(LONGEST_PAUSE)
    if end == "success":
        backoff.succeeded("a")
    else:
        clock.advance(FORGOTTEN)
    backoff.failed("a", SourceError())
    assert backoff.pause("a") == pytest.approx(0.1)
