"""Purge and prefetch amid everything else (contract §8)."""

from __future__ import annotations

import asyncio

import pytest

from distributor.errors import EdgeError, FetchCancelled, Overloaded, StoreError, UnknownAsset
from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import SEGMENT, range_of
from tests.support.memory_store import MemoryStore
from tests.support.source import Fault

N = 50_000


@pytest.mark.parametrize("how", [{"ids": ["dir/a"]}, {"prefix": "dir/"}, {"bucket": "default"}], ids=str)
async def test_purge_during_a_fetch_lets_its_readers_finish_and_keeps_nothing(
    how: dict[str, object], make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        old = bench.source.add("dir/a", N, digest=True).content("dir/a")
        gate = bench.source.hold("dir/a", 20_000)
        readings = [await bench.read("dir/a") for _ in range(3)]
        await readings[0].until(19_999)
        assert await bench.purger.purge(**how) == (1, 20_000)  # type: ignore[arg-type]
        new = bench.source.add("dir/a", N, version=1)
        got = await bench.get("dir/a", range_of(0, 999))
        assert (got.cache, got.body) == ("miss", new.content("dir/a", 0, 1000))
        await readings[1].leave()
        gate.open()
        assert await readings[0].rest() == await readings[2].rest() == old
        await bench.idle()
        got = await bench.get("dir/a")
        assert (got.cache, got.body) == ("hit", new.content("dir/a"))
        assert bench.source.count("dir/a") == 2


async def test_fetch_cut_loose_stops_once_its_last_reader_leaves(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        bench.source.hold("a", 20_000)
        reading = await bench.read("a")
        await reading.until(10_000)
        await bench.purger.purge(ids=["a"])
        assert bench.edge.fetches_in_flight == 1
        await reading.leave()
        await bench.idle()
        assert bench.store.get("a") is None
        assert bench.observer.sums["fetch", "cancelled"] == 1
        async with asyncio.timeout(10):
            while not bench.source.seen("a")[0].over:
                await asyncio.sleep(0.005)


async def test_fetch_cut_loose_without_readers_stops_at_once(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        bench.source.hold("a", 20_000)
        reading = await bench.read("a")
        await reading.until(20_000)
        await reading.leave()
        assert await bench.purger.purge(ids=["a"]) == (1, 20_000)
        await bench.idle()
        assert bench.store.usage().partial == 0


async def test_purge_before_the_head_makes_those_who_wait_begin_anew_together(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(4)]
        await bench.source.until(lambda: bench.source.count("a") == 1)
        await bench.purger.purge(ids=["a"])
        new = bench.source.add("a", N, version=1)
        replies = [await task for task in tasks]
        assert sorted(reply.cache or "" for reply in replies) == ["miss", "pending", "pending", "pending"]
        assert all(reply.body == new.content("a") for reply in replies)
        assert bench.source.count("a") == 2
        await bench.idle()
        assert (await bench.get("a")).body == new.content("a")


async def test_purge_in_the_same_tick_as_the_request_leaves_nobody_waiting(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        task = asyncio.create_task(bench.get("a"))
        await asyncio.sleep(0)
        await bench.purger.purge(ids=["a"])
        assert (await asyncio.wait_for(task, 5)).body == asset.content("a")


async def test_purged_while_it_is_read_as_a_hit_is_read_to_the_end(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", 9 << 20)
        await bench.fill("a")
        reading = await bench.read("a")
        await reading.until(1)
        assert (await bench.purger.purge(ids=["a"]))[0] == 1
        assert await reading.rest() == asset.content("a")
        assert (await bench.get("a", range_of(0, 0))).cache == "miss"
        assert bench.source.count("a") == 2


async def test_purge_between_the_decision_and_the_open_is_a_miss(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        await bench.fill("a")
        task = asyncio.create_task(bench.get("a"))
        purge = asyncio.create_task(bench.purger.purge(ids=["a"]))
        got = await task
        await purge
        assert (got.error, got.body) == (None, asset.content("a"))


async def test_purge_takes_what_it_names_and_nothing_else(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        for name in ("x/1", "x/2", "y/1"):
            bench.source.add(name, N)
            await bench.fill(name)
        bench.source.add("z", N, headers=[("X-Distribution-Bucket", "other")])
        await bench.fill("z")
        assert await bench.purger.purge(ids=["nothing", "x/1"]) == (1, N)
        assert await bench.purger.purge(prefix="x/") == (1, N)
        assert await bench.purger.purge(bucket="other") == (1, N)
        assert [stored.key for stored in bench.store.scan(None, 10)] == ["y/1"]
        await bench.idle()
        assert bench.store.usage().complete == N


async def test_purge_takes_all_queries_of_an_id(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        for query in (None, "q=1", "q=2"):
            await bench.get("a", query=query)
        await bench.idle()
        assert await bench.purger.purge(ids=["a"]) == (3, 3 * N)


async def test_purge_waits_for_a_store_that_is_still_being_read(memory_bench: MakeBench) -> None:
    async with memory_bench() as bench:
        bench.source.add("a", N)
        await bench.fill("a")
        assert isinstance(bench.store, MemoryStore)
        bench.store.recovering = True
        purge = asyncio.create_task(bench.purger.purge(prefix="a"))
        await asyncio.sleep(0.05)
        assert not purge.done()
        bench.store.recovering = False
        assert await purge == (1, N)


async def test_purge_gives_up_on_a_store_that_is_never_read(
    memory_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.delivery.invalidation.RECOVERY", 0.01)
    async with memory_bench() as bench:
        assert isinstance(bench.store, MemoryStore)
        bench.store.recovering = True
        with pytest.raises(Overloaded):
            await bench.purger.purge(ids=["a"])
        bench.store.recovering = False


async def test_two_requests_while_the_store_is_still_being_read_are_one_miss_or_hits(
    memory_bench: MakeBench,
) -> None:
    async with memory_bench() as bench:
        assert isinstance(bench.store, MemoryStore)
        asset = bench.source.add("a", N)
        for expected in (["miss", "pending"], ["hit", "hit"]):
            bench.store.recovering = True
            replies = await asyncio.gather(bench.get("a"), bench.get("a"))
            assert sorted(reply.cache or "" for reply in replies) == sorted(expected)
            assert all(reply.body == asset.content("a") for reply in replies)
            await bench.idle()
        assert bench.source.count("a") == 1


# --- prefetch ---


@pytest.mark.parametrize("fill", ["whole", "asked"])
async def test_prefetch_makes_the_whole_a_hit_and_costs_nothing_the_second_time(
    fill: str, make_bench: MakeBench
) -> None:
    async with make_bench(fill=fill) as bench:
        asset = bench.source.add("a", N)
        if fill == "asked":
            await bench.get("a", range_of(5 * SEGMENT, 6 * SEGMENT - 1))
            await bench.idle()
        await bench.edge.prefetch("a", "a", bench.clock.now())
        got = await bench.get("a")
        assert (got.state, got.body) == ((200, "hit", "local"), asset.content("a"))
        bench.source.forget()
        await bench.edge.prefetch("a", "a", bench.clock.now())
        assert bench.source.requests == []


async def test_prefetch_joins_the_fetch_under_way_and_clients_are_pending_on_one(
    make_bench: MakeBench,
) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 1000)
        reading = await bench.read("a", range_of(0, 2000))
        prefetch = asyncio.create_task(bench.edge.prefetch("a", "a", bench.clock.now()))
        await asyncio.sleep(0)
        assert (await bench.head("a")).cache == "pending"
        gate.open()
        assert await reading.rest() == asset.content("a", 0, 2001)
        await prefetch
        assert (await bench.get("a")).cache == "hit"
        assert bench.source.body_bytes("a") <= N + 2 * SEGMENT


async def test_prefetch_of_what_cannot_be_had_or_kept_says_so(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        with pytest.raises(UnknownAsset):
            await bench.edge.prefetch("a", "a", bench.clock.now())
        with pytest.raises(UnknownAsset):
            await bench.edge.prefetch("a", "a", bench.clock.now())
        assert bench.source.count("a") == 1
        bench.source.add("b", N, headers=[("Cache-Control", "no-store")])
        with pytest.raises(StoreError):
            await bench.edge.prefetch("b", "b", bench.clock.now())
        bench.served = {"mine"}
        bench.source.add("c", N)
        with pytest.raises(EdgeError):
            await bench.edge.prefetch("c", "c", bench.clock.now())


async def test_prefetch_that_is_purged_says_so(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        prefetch = asyncio.create_task(bench.edge.prefetch("a", "a", bench.clock.now()))
        await bench.source.until(lambda: bench.source.count("a") == 1)
        await bench.purger.purge(ids=["a"])
        with pytest.raises(FetchCancelled):
            await prefetch


async def test_prefetch_of_something_stale_confirms_it(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N, headers=[("Cache-Control", "max-age=10")], date=False)
        await bench.fill("a")
        bench.clock.advance(60)
        await bench.edge.prefetch("a", "a", bench.clock.now())
        assert [seen.status for seen in bench.source.seen("a")] == [200, 304]
        assert (await bench.get("a")).cache == "hit"
