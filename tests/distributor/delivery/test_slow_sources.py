"""A source that slows to a trickle is left for another, if there is one that may do better."""

from __future__ import annotations

import asyncio

import pytest

from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import SEGMENT
from tests.support.source import Fault

N = 60_000
TRICKLE = 2_000  # bytes a second: the whole would take half a minute
LEAST = {"min_rate": 20_000, "pace_window": 0.2}


@pytest.mark.parametrize("first", [0, 1, SEGMENT - 1, SEGMENT, 30_000])
async def test_body_goes_on_from_the_faster_source(first: int, memory_bench: MakeBench) -> None:
    async with memory_bench(sources=2, **LEAST) as bench:
        slow, fast = bench.sources
        for source in bench.sources:
            asset = source.add("a", N)
        slow.fault("a", Fault(rate=TRICKLE, rate_after=first), on=1)
        got = await asyncio.wait_for(bench.get("a"), 10)
        assert got.body == asset.content("a")
        await bench.idle()
        assert (await bench.get("a")).cache == "hit"
        resumed = fast.requests[0].headers
        assert int(resumed["range"].removeprefix("bytes=").removesuffix("-")) >= first
        assert resumed["if-range"] == asset.entity_tag()
        assert (slow.count("a"), fast.count("a")) == (1, 1)
        assert bench.observer.sums["source error", "stall"] == 1
        # It stands behind now, and is not out of reach.
        assert bench.pool._ranking.order(bench.clock.monotonic()) == ["1", "0"]


async def test_only_source_is_kept_however_slow(memory_bench: MakeBench) -> None:
    async with memory_bench(**LEAST) as bench:
        asset = bench.source.add("a", 3_000, rate=TRICKLE)
        assert (await bench.get("a")).body == asset.content("a")
        assert bench.source.count("a") == 1


async def test_sources_that_are_all_slow_are_not_left_again_and_again(memory_bench: MakeBench) -> None:
    async with memory_bench(sources=2, **LEAST) as bench:
        for source in bench.sources:
            asset = source.add("a", 4_000, rate=TRICKLE)
        assert (await bench.get("a")).body == asset.content("a")
        assert sum(source.count("a") for source in bench.sources) == 2


async def test_body_that_could_not_be_resumed_is_waited_for(memory_bench: MakeBench) -> None:
    async with memory_bench(sources=2, **LEAST) as bench:
        for source in bench.sources:
            asset = source.add("a", 3_000, rate=TRICKLE, etag="none", last_modified=None)
        assert (await bench.get("a")).body == asset.content("a")
        assert sum(source.count("a") for source in bench.sources) == 1


@pytest.mark.parametrize("lifetime", ["max-age=60", "no-store"], ids=["stored", "passed through"])
async def test_what_the_slower_source_has_sent_is_kept(lifetime: str, memory_bench: MakeBench) -> None:
    async with memory_bench(sources=2, **LEAST) as bench:
        slow, fast = bench.sources
        for source in bench.sources:
            asset = source.add("a", N, headers=[("Cache-Control", lifetime)])
        slow.fault("a", Fault(rate=TRICKLE, rate_after=1000), on=1)
        got = await asyncio.wait_for(bench.get("a"), 10)
        assert got.body == asset.content("a")
        await bench.idle()
        assert (bench.store.get("a") is None) == (lifetime == "no-store")
        assert int(fast.requests[0].headers["range"].removeprefix("bytes=").split("-")[0]) >= 1000
        assert fast.requests[0].headers["if-range"] == asset.entity_tag()
        assert (slow.count("a"), fast.count("a")) == (1, 1)
        assert bench.observer.sums["received"] == N  # none twice
