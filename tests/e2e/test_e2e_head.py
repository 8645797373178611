"""Contract §3.6: HEAD asks, but never starts a fetch, reserves or stores."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source
from tests.support.states import add, ask_in, fill

N = 200_000


async def test_head_of_a_cold_asset_asks_by_head_and_stores_nothing(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, digest=True)
    before = await edge.status()
    reply = await edge.head(asset)
    after = await edge.status()
    assert (reply.status, reply.cache, reply["Content-Length"]) == (200, "miss", str(N))
    assert reply["ETag"] == source.assets[asset].entity_tag()
    assert [s.method for s in source.seen(asset)] == ["HEAD"]
    assert (before["storageUsed"], before["objectsInCache"]) == (
        after["storageUsed"],
        after["objectsInCache"],
    )
    assert after["downloadsInProgress"] == 0


async def test_head_answer_is_remembered(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    for _ in range(3):
        assert (await edge.head(asset)).status == 200
    assert source.count(asset, "HEAD") == 1


async def test_equal_heads_at_the_same_time_are_one(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    gate = asyncio.Event()
    source.fault(asset, Fault(gate=gate), method="HEAD")
    tasks = [asyncio.create_task(edge.head(asset)) for _ in range(10)]
    await source.until(lambda: source.count(asset, "HEAD") == 1)
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
    assert source.count(asset, None) == 1


@pytest.mark.parametrize("status", [405, 501])
async def test_source_without_head_is_asked_for_its_first_byte(
    status: int, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    source.fault(asset, Fault(status=status), method="HEAD")
    reply = await edge.head(asset)
    assert (reply.status, reply["Content-Length"]) == (200, str(N))
    assert [(s.method, s.range) for s in source.seen(asset)] == [("HEAD", None), ("GET", "bytes=0-0")]


@pytest.mark.parametrize("state", ["miss", "pending", "hit"])
async def test_head_has_the_fields_of_get(state: str, edge: Edge, source: Source, asset: str) -> None:
    for name in ("get", "head"):
        add(source, f"{name}/{asset}", state, N, digest=True)
    get = await ask_in(state, edge, source, f"get/{asset}")
    head = await ask_in(state, edge, source, f"head/{asset}", method="HEAD")
    assert get.names - {"x-data-source"} == head.names
    assert head["Content-Length"] == str(N)


@pytest.mark.parametrize("state", ["miss", "hit"])
async def test_range_is_ignored_on_head(state: str, edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, state, N)  # RFC 9110 §14.2
    for value in ("bytes=0-9", "bytes=999999999-"):
        reply = await ask_in(state, edge, source, asset, [("Range", value)], method="HEAD")
        assert (reply.status, reply["Content-Length"], "Content-Range" in reply) == (200, str(N), False)


@pytest.mark.parametrize("state", ["miss", "hit"])
async def test_other_preconditions_hold_on_head(state: str, edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, state, N)
    tag = source.assets[asset].entity_tag() or ""
    assert (await ask_in(state, edge, source, asset, [("If-None-Match", tag)], method="HEAD")).status == 304
    refused = await edge.head(asset, [("If-Match", '"other"')])
    assert refused.status == 412
    assert refused.body == b""


async def test_head_of_what_no_source_has_is_404(edge: Edge, source: Source, asset: str) -> None:
    reply = await edge.head(asset)
    assert (reply.status, reply.body, reply["Content-Type"]) == (404, b"", "application/json")


async def test_stale_is_revalidated_by_a_conditional_head(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "revalidated", N)
    await fill(edge, asset)
    reply = await edge.head(asset)
    assert (reply.status, reply.cache) == (200, "hit")
    last = source.seen(asset)[-1]
    assert last.method == "HEAD"
    assert last.headers["if-none-match"] == source.assets[asset].entity_tag()


async def test_head_while_all_sources_are_down_is_an_error_without_an_address(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, origin__backoff="0s")
        await source.stop()
        reply = await edge.head("a.mp4")
        assert reply.status in (502, 504)
        assert reply.body == b""
