"""One fetch for everybody: who is the miss, who waits, who is woken when (contract §3.4, §5)."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import SEGMENT, Reading, finish, range_of
from tests.support.source import Fault

N = 100_000


@pytest.mark.parametrize("size", [0, 1, N, 8 << 20])
async def test_200_simultaneous_clients_of_a_cold_asset_cost_one_source_get(
    size: int, make_bench: MakeBench
) -> None:
    async with make_bench(segment=1 << 20 if size > N else SEGMENT) as bench:
        bench.source.add("a", size)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        clients = 200 if size <= N else 20
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(clients)]
        await bench.source.until(lambda: bench.source.count("a") == 1)
        gate.set()
        replies = await asyncio.gather(*tasks)
        assert Counter(reply.cache for reply in replies) == {"miss": 1, "pending": clients - 1}
        content = bench.source.assets["a"].content("a")
        assert all((reply.error, reply.body) == (None, content) for reply in replies)
        assert bench.source.count("a", None) == 1
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")


async def test_reader_is_woken_by_each_byte_that_comes(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        places = [1, 2, SEGMENT - 1, SEGMENT, SEGMENT + 1, N - 1]
        gates = [bench.source.hold("a", at) for at in places]
        reading = await bench.read("a")
        for gate, at in zip(gates, places, strict=True):
            assert await reading.until(at) == bench.source.assets["a"].content("a", 0, at)
            await gate.reached.wait()
            gate.open()
        assert await reading.rest() == bench.source.assets["a"].content("a")


async def test_client_that_leaves_does_not_end_the_fetch(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = bench.source.hold("a", 10_000)
        reading = await bench.read("a")
        await reading.until(10_000)
        await reading.leave()
        gate.open()
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")
        assert bench.source.count("a") == 1


async def test_client_cancelled_before_the_head_does_not_end_the_fetch(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        first = asyncio.create_task(bench.ask("a"))
        await bench.source.until(lambda: bench.source.count("a") == 1)
        second = asyncio.create_task(bench.get("a"))
        first.cancel()
        gate.set()
        got = await second
        assert (got.cache, got.body) == ("pending", bench.source.assets["a"].content("a"))
        assert first.cancelled()


async def test_second_reader_gets_every_byte_though_the_first_leaves(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = bench.source.hold("a", 5_000)
        first = await bench.read("a")
        second = await bench.read("a")
        await asyncio.gather(first.until(5_000), second.until(5_000))
        await first.leave()
        gate.open()
        assert await second.rest() == bench.source.assets["a"].content("a")


async def test_only_if_cached_joins_a_fetch_but_starts_none(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        only = [("Cache-Control", "only-if-cached")]
        assert type((await bench.get("a", only)).error).__name__ == "OnlyIfCached"
        gate = bench.source.hold("a", 100)
        reading = await bench.read("a")
        joined = await bench.read("a", only)
        gate.open()
        content = bench.source.assets["a"].content("a")
        assert await asyncio.gather(reading.rest(), joined.rest()) == [content, content]
        assert bench.source.count("a") == 1


async def test_who_waits_with_only_if_cached_for_what_may_not_be_stored_asks_no_source(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N, headers=[("Cache-Control", "no-store")])
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        first = asyncio.create_task(bench.get("a"))
        await bench.source.until(lambda: bench.source.count("a") == 1)
        second = asyncio.create_task(bench.get("a", [("Cache-Control", "only-if-cached")]))
        third = asyncio.create_task(bench.get("a", [("CDN-Loop", "edge-1")]))
        await asyncio.sleep(0)
        gate.set()
        assert (await first).state == (200, "miss", "external")
        assert type((await second).error).__name__ == "OnlyIfCached"
        assert type((await third).error).__name__ == "LoopDetected"
        assert bench.source.count("a") == 1


async def test_loop_is_refused_and_a_hit_is_served_all_the_same(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        loop = [("CDN-Loop", "other, EDGE-1; x=y")]
        assert type((await bench.get("a", loop)).error).__name__ == "LoopDetected"
        assert bench.source.requests == []
        await bench.fill("a")
        assert (await bench.get("a", loop)).state == (200, "hit", "local")


async def test_who_waited_for_what_may_not_be_shared_is_sent_to_the_source_alone(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N, headers=[("Cache-Control", "no-store")])
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(5)]
        await bench.source.until(lambda: bench.source.count("a") == 1)
        gate.set()
        replies = await asyncio.gather(*tasks)
        content = bench.source.assets["a"].content("a")
        assert [r.state for r in replies] == [(200, "miss", "external")] * 5
        assert all(r.body == content for r in replies)
        assert bench.source.count("a") == 5
        assert bench.edge.fetches_in_flight == 0


async def test_what_was_not_storable_is_stored_once_the_source_allows_it(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N, headers=[("Cache-Control", "no-store")])
        assert (await bench.get("a")).source == "external"
        bench.source.add("a", N, headers=[("Cache-Control", "max-age=60")])
        assert (await bench.get("a")).source == "external"
        assert (await bench.fill("a")).state == (200, "miss", "local")
        assert (await bench.get("a")).cache == "hit"


async def test_starter_that_leaves_before_an_answer_that_is_not_kept_leaves_no_connection(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N, headers=[("Cache-Control", "no-store")])
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        task = asyncio.create_task(bench.ask("a"))
        await bench.source.until(lambda: bench.source.count("a") == 1)
        task.cancel()
        gate.set()
        await bench.idle()


async def test_error_before_the_head_reaches_all_who_wait_each_with_its_own_exception(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate, status=503, headers=[("Retry-After", "7")]))
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(4)]
        await bench.source.until(lambda: bench.source.count("a") == 1)
        gate.set()
        errors = [(await task).error for task in tasks]
        assert [getattr(error, "status", None) for error in errors] == [503] * 4
        assert [getattr(error, "retry_after", None) for error in errors] == [7] * 4
        assert len({id(error) for error in errors}) == 4
        assert bench.source.count("a") == 2  # two rounds


async def test_more_fetches_than_allowed_wait_and_one_too_many_is_refused(make_bench: MakeBench) -> None:
    async with make_bench(max_fetches=1, max_waiting=1) as bench:
        for name in "abc":
            bench.source.add(name, N)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        first = asyncio.create_task(bench.get("a"))
        await bench.source.until(lambda: bench.source.count("a") == 1)
        second = asyncio.create_task(bench.get("b"))
        while not bench.observer.sums["waiting"]:
            await asyncio.sleep(0)
        assert type((await bench.get("c")).error).__name__ == "Overloaded"
        gate.set()
        for name, task in (("a", first), ("b", second)):
            assert (await task).body == bench.source.assets[name].content(name)


async def test_range_already_on_disk_is_pending_while_the_fetch_goes_on(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = bench.source.hold("a", 50_000)
        first = await bench.read("a")
        await first.until(50_000)
        got = await bench.get("a", range_of(0, 999))
        assert got.state == (206, "pending", "local")
        assert got.body == bench.source.assets["a"].content("a", 0, 1000)
        gate.open()
        await first.rest()


async def test_restart_of_the_node_while_clients_read_ends_them_unclean(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        bench.source.hold("a", 50_000)
        answer = await bench.ask("a")
        reading = Reading(answer)
        await reading.until(50_000)
        await bench.edge.close()
        got = await finish(answer)
        assert got.error is not None and len(got.body) < N


async def test_edge_that_is_closed_begins_nothing_and_still_serves_what_it_has(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        control = [("Cache-Control", "max-age=10, stale-while-revalidate=100")]
        bench.source.add("a", N, headers=control, date=False)
        bench.source.add("b", N)
        await bench.fill("a")
        gate = asyncio.Event()
        bench.source.fault("b", Fault(gate=gate), on=1)
        waiting = asyncio.create_task(bench.get("b"))
        await bench.source.until(lambda: bench.source.count("b") == 1)
        await bench.edge.close()
        assert type((await waiting).error).__name__ == "FetchCancelled"
        assert type((await bench.get("b")).error).__name__ == "FetchCancelled"
        bench.clock.advance(60)
        assert (await bench.get("a")).cache == "hit"
        assert bench.edge.fetches_in_flight == 0
        assert (bench.source.count("a"), bench.source.count("b")) == (1, 1)
