"""Contract §3.4: what X-Cache and X-Data-Source say of each case, and that the bytes agree."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source
from tests.support.states import STATES, X_CACHE, add, ask_in, fill
from tests.support.wire import Wire, range_of

N = 200_000


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("headers", [[], range_of(10, 99_999)], ids=["whole", "range"])
async def test_get_tells_state_and_data_source(
    state: str, headers: list[tuple[str, str]], edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, headers)
    assert reply.cache == X_CACHE[state]
    assert reply["X-Data-Source"] == ("external" if state == "external" else "local")
    span = (10, 100_000) if headers else (0, N)
    assert (reply.end, reply.body) == ("complete", source.assets[asset].content(asset, *span))


@pytest.mark.parametrize("state", ["miss", "pending", "hit", "revalidated"])
async def test_head_has_the_state_of_a_get_of_the_whole_and_no_data_source(
    state: str, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, method="HEAD")
    assert (reply.status, reply.cache, reply["Content-Length"]) == (200, X_CACHE[state], str(N))
    assert "X-Data-Source" not in reply


@pytest.mark.parametrize("clients", [2, 60])
async def test_of_simultaneous_requests_for_a_cold_asset_exactly_one_is_the_miss(
    clients: int, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    gate = asyncio.Event()
    source.fault(asset, Fault(gate=gate), on=1)
    tasks = [asyncio.create_task(edge.get(asset)) for _ in range(clients)]
    await source.until(lambda: source.count(asset) == 1)
    gate.set()
    replies = await asyncio.gather(*tasks)
    states = Counter(reply.cache for reply in replies)
    assert states["miss"] == 1
    assert states["miss"] + states["pending"] + states["hit"] == clients
    assert all(reply.body == source.assets[asset].content(asset) for reply in replies)
    assert source.count(asset) == 1


async def test_range_already_on_disk_is_pending_while_the_fetch_goes_on(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 100_000)
    async with Wire(edge.port) as first:
        await first.request(f"/assets/{asset}")
        await first.head()
        assert await first.read(100_000) == source.assets[asset].content(asset, 0, 100_000)
        reply = await edge.get(asset, range_of(0, 999))
        assert (reply.cache, reply["X-Data-Source"]) == ("pending", "local")
        assert reply.body == source.assets[asset].content(asset, 0, 1000)
        gate.open()
        assert (await first.rest()).end == "complete"


async def test_fill_asked_makes_a_range_on_disk_a_hit(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__fill="asked")
        size = 1 << 20
        source.add("a.mp4", size)
        cold = await edge.get("a.mp4", range_of(70_000, 70_999))
        assert (cold.status, cold.cache) == (206, "miss")
        assert cold.body == source.assets["a.mp4"].content("a.mp4", 70_000, 71_000)
        await edge.idle()
        again = await edge.get("a.mp4", range_of(66_000, 130_000))
        assert (again.status, again.cache, again["X-Data-Source"]) == (206, "hit", "local")
        assert again.body == source.assets["a.mp4"].content("a.mp4", 66_000, 130_001)
        assert source.body_bytes("a.mp4") == 65_536
        other = await edge.get("a.mp4", range_of(500_000, 500_099))
        assert other.cache in ("miss", "pending")
        assert other.body == source.assets["a.mp4"].content("a.mp4", 500_000, 500_100)


async def test_stale_confirmed_by_the_source_is_a_hit_and_costs_no_body(
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "revalidated", N)
    await fill(edge, asset)
    reply = await edge.get(asset)
    assert (reply.cache, reply.body) == ("hit", source.assets[asset].content(asset))
    assert [s.status for s in source.seen(asset, "GET")] == [200, 304]


async def test_stale_replaced_by_the_source_is_a_miss_with_the_new_bytes(
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "revalidated", N)
    await fill(edge, asset)
    old = source.assets[asset].content(asset)
    add(source, asset, "revalidated", N, version=1)
    reply = await edge.get(asset)
    new = source.assets[asset].content(asset)
    assert (reply.cache, reply.body) == ("miss", new)
    assert old != new


async def test_who_waited_on_a_revalidation_that_brings_another_version_is_pending(
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "revalidated", N)
    await fill(edge, asset)
    add(source, asset, "revalidated", N, version=1)
    gate = asyncio.Event()
    source.fault(asset, Fault(gate=gate), on=1)
    first = asyncio.create_task(edge.get(asset))
    await source.until(lambda: source.count(asset) == 2)
    others = [asyncio.create_task(edge.get(asset)) for _ in range(5)]
    await edge.until(lambda: _answering(edge, 6))
    gate.set()
    replies = await asyncio.gather(first, *others)
    assert sorted(reply.cache or "" for reply in replies) == ["miss", *["pending"] * 5]
    assert all(reply.body == source.assets[asset].content(asset) for reply in replies)
    assert source.count(asset) == 2


async def _answering(edge: Edge, count: int) -> bool:
    return await edge.metric("http_connections_open", listener="public") >= count


async def test_passed_through_is_a_miss_each_time_and_nobody_waits_for_it(
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "external", N)
    gate = source.hold(asset, 100_000)
    async with Wire(edge.port) as first:
        await first.request(f"/assets/{asset}")
        head = await first.head()
        assert (head.cache, head["X-Data-Source"]) == ("miss", "external")
        await gate.reached.wait()
        second = asyncio.create_task(edge.get(asset))
        await source.until(lambda: source.count(asset) == 2)
        gate.open()
        reply = await second
        assert (reply.cache, reply["X-Data-Source"]) == ("miss", "external")
        assert reply.body == (await first.rest()).body == source.assets[asset].content(asset)
    assert (await edge.head(asset)).cache == "miss"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"cache__max_object": "100K"}, id="larger-than-max-object"),
        pytest.param({"cache__limit": "150K", "cache__segment": "4K"}, id="larger-than-the-store"),
    ],
)
async def test_too_large_is_external_and_evicts_nothing(
    changes: dict[str, str], start_edge: StartEdge
) -> None:
    async with Source() as source:
        edge = await start_edge(source, **changes)
        source.add("small", 50_000)
        source.add("large", N)
        await fill(edge, "small")
        for headers, span in (([], (0, N)), (range_of(150_000, 150_099), (150_000, 150_100))):
            reply = await edge.get("large", headers)
            assert (reply.cache, reply["X-Data-Source"], reply.end) == ("miss", "external", "complete")
            assert reply.body == source.assets["large"].content("large", *span)
            assert "detail=too-large" in (reply["Cache-Status"] or "")
        assert (await edge.get("small")).cache == "hit"
        status = await edge.status()
        assert (status["objectsInCache"], status["downloadsInProgress"]) == (1, 0)
