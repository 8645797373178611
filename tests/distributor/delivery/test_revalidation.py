"""Stale: confirmed, replaced, gone, or served all the same (contract §6, RFC 9111 §4.3, RFC 5861)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import Bench, range_of
from tests.support.source import Asset, Fault

N = 30_000


def add(bench: Bench, control: str = "max-age=10", **made: Any) -> Asset:
    return bench.source.add("a", N, headers=[("Cache-Control", control)], date=False, **made)


async def stale(bench: Bench, control: str = "max-age=10", **made: Any) -> Asset:
    """The asset `a` stored whole, and 60 seconds old."""
    asset = add(bench, control, **made)
    assert (await bench.fill("a")).cache == "miss"
    bench.clock.advance(60)
    return asset


async def test_304_makes_all_who_waited_hits_and_costs_no_body(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = await stale(bench)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(10)]
        await bench.source.until(lambda: bench.source.count("a") == 2)
        gate.set()
        for task in tasks:
            got = await task
            assert (got.state, got.body) == ((200, "hit", "local"), asset.content("a"))
            assert got.fields["cache-status"] == "edge-1; fwd=stale; fwd-status=304"
        assert [seen.status for seen in bench.source.seen("a")] == [200, 304]
        sent = bench.source.seen("a")[1].headers
        assert sent["if-none-match"] == asset.entity_tag()
        assert sent["if-modified-since"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert (await bench.get("a")).fields["cache-status"].startswith("edge-1; hit; ttl=")
        assert bench.source.count("a") == 2


async def test_304_renews_fields_but_not_those_of_the_body(make_bench: MakeBench) -> None:  # RFC 9111 §3.2
    async with make_bench() as bench:
        asset = await stale(bench)
        asset.headers[:] = [
            ("Cache-Control", "max-age=100"),
            ("X-Colour", "blue"),
            ("Content-Length", "5"),
            ("Content-Encoding", "gzip"),
        ]
        got = await bench.get("a")
        assert (got.fields["x-colour"], got.fields["cache-control"]) == ("blue", "max-age=100")
        assert got.fields["content-length"] == str(N)
        assert "content-encoding" not in got.fields
        bench.clock.advance(90)
        assert (await bench.get("a")).fields["cache-status"].startswith("edge-1; hit; ttl=")


async def test_another_version_is_one_miss_and_pending_for_those_who_waited(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        old = await stale(bench)
        new = add(bench, version=1)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(6)]
        await bench.source.until(lambda: bench.source.count("a") == 2)
        gate.set()
        replies = [await task for task in tasks]
        assert Counter(reply.cache for reply in replies) == {"miss": 1, "pending": 5}
        assert all(reply.body == new.content("a") != old.content("a") for reply in replies)
        assert replies[0].fields["cache-status"] == "edge-1; fwd=stale; fwd-status=200; stored"
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")


@pytest.mark.parametrize(("status", "name"), [(404, "UnknownAsset"), (410, "AssetGone")])
async def test_gone_at_the_source_is_removed_and_remembered(
    status: int, name: str, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        await stale(bench)
        bench.source.fault("a", Fault(status=status))
        for _ in range(2):
            assert type((await bench.get("a")).error).__name__ == name
        await bench.idle()
        assert bench.store.get("a") is None
        assert bench.source.count("a") == 2


ERRORS = [
    pytest.param(Fault(status=500), id="500"),
    pytest.param(Fault(status=503), id="503"),
    pytest.param(Fault(drop="close"), id="no-answer"),
    pytest.param(Fault(head=b"nonsense\r\n\r\n"), id="nonsense"),
]


@pytest.mark.parametrize("fault", ERRORS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_stale_is_served_while_no_source_gives_better_than_5xx(
    fault: Fault, method: str, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        asset = await stale(bench)
        bench.source.fault("a", fault, method=None)
        tasks = [asyncio.create_task(bench.get("a", method=method)) for _ in range(3)]
        for task in tasks:
            got = await task
            assert (got.status, got.cache) == (200, "hit")
            assert got.body == (asset.content("a") if method == "GET" else b"")
            assert got.fields["cache-status"].startswith("edge-1; hit; ttl=-5")
        bench.source.heal()
        bench.clock.advance(5)  # whoever has just failed is left alone for a moment
        assert (await bench.get("a")).fields["cache-status"] == "edge-1; fwd=stale; fwd-status=304"


@pytest.mark.parametrize(
    "control",
    [
        "max-age=10, must-revalidate",
        "max-age=10, proxy-revalidate",
        "s-maxage=10",
        "no-cache",
        "max-age=10, stale-if-error=20",
    ],
)
async def test_stale_is_not_served_where_the_source_forbids_it(control: str, make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        await stale(bench, control)
        bench.source.fault("a", Fault(status=503), method=None)
        assert type((await bench.get("a")).error).__name__ == "SourceRefused"
        assert type((await bench.head("a")).error).__name__ == "SourceRefused"


async def test_stale_is_not_served_for_a_source_that_refuses_by_4xx(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        await stale(bench)
        bench.source.fault("a", Fault(status=403), method=None)
        for method in ("GET", "HEAD", "GET", "HEAD"):
            assert type((await bench.get("a", method=method)).error).__name__ == "SourceRefused"


async def test_stale_for_too_long_is_not_served(make_bench: MakeBench) -> None:
    async with make_bench(stale_if_error=100.0) as bench:
        await stale(bench)
        await bench.source.stop()
        bench.clock.advance(40)
        assert (await bench.get("a")).cache == "hit"
        bench.clock.advance(20)
        assert (await bench.get("a")).error is not None


async def test_stale_while_revalidate_answers_at_once_and_asks_behind(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        old = await stale(bench, "max-age=10, stale-while-revalidate=100")
        new = add(bench, version=1)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        for _ in range(3):
            got = await bench.get("a")
            assert (got.state, got.body) == ((200, "hit", "local"), old.content("a"))
        await bench.source.until(lambda: bench.source.count("a") == 2)
        gate.set()
        await bench.idle()
        assert bench.source.count("a") == 2
        got = await bench.get("a")
        assert (got.cache, got.body) == ("hit", new.content("a"))


async def test_head_of_what_may_be_stale_for_a_while_starts_no_fetch(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        await stale(bench, "max-age=10, stale-while-revalidate=100")
        add(bench, version=1)
        assert (await bench.head("a")).cache == "hit"
        await bench.source.until(lambda: bench.source.count("a", "HEAD") == 1)
        assert bench.source.count("a", "GET") == 1


async def test_what_may_be_stale_for_a_while_asks_no_source_for_a_request_that_forbids_it(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        await stale(bench, "max-age=10, stale-while-revalidate=100")
        for headers in ([("Cache-Control", "only-if-cached")], [("CDN-Loop", "edge-1")]):
            assert (await bench.get("a", headers)).cache == "hit"
        await bench.idle()
        assert bench.source.count("a", None) == 1


@pytest.mark.parametrize("control", ["no-store", "private"])
async def test_new_version_that_may_not_be_stored_takes_the_old_one_away(
    control: str, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        await stale(bench)
        new = add(bench, control, version=1)
        got = await bench.get("a")
        assert (got.state, got.body) == ((200, "miss", "external"), new.content("a"))
        await bench.idle()
        assert bench.store.get("a") is None
        await bench.source.stop()
        assert (await bench.get("a")).error is not None


async def test_range_of_a_stale_asset_is_served_once_it_is_confirmed(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = await stale(bench)
        got = await bench.get("a", range_of(20_000, 20_009))
        assert (got.state, got.body) == ((206, "hit", "local"), asset.content("a", 20_000, 20_010))
        assert [seen.status for seen in bench.source.seen("a")] == [200, 304]


async def test_soft_purged_is_revalidated_and_good_for_stale_if_error(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = add(bench, "max-age=1000")
        await bench.fill("a")
        assert await bench.purger.purge(ids=["a"], soft=True) == (1, N)
        bench.source.fault("a", Fault(status=500), on=range(1, 3))
        got = await bench.get("a")
        assert (got.cache, got.fields["cache-status"]) == ("hit", "edge-1; hit; ttl=-1")
        bench.clock.advance(5)
        got = await bench.get("a")
        assert (got.body, got.fields["cache-status"]) == (
            asset.content("a"),
            "edge-1; fwd=stale; fwd-status=304",
        )
        assert (await bench.get("a")).fields["cache-status"].startswith("edge-1; hit; ttl=9")


async def test_304_of_another_version_is_not_believed(make_bench: MakeBench) -> None:  # RFC 9111 §4.3.4
    async with make_bench() as bench:
        await stale(bench)
        new = add(bench, version=1)
        bench.source.fault("a", Fault(status=304, headers=[("ETag", '"x"')]), on=1)
        got = await bench.get("a")
        assert (got.cache, got.body) == ("miss", new.content("a"))


async def test_purged_while_it_is_revalidated_is_fetched_anew(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = await stale(bench)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        task = asyncio.create_task(bench.get("a"))
        await bench.source.until(lambda: bench.source.count("a") == 2)
        assert await bench.purger.purge(ids=["a"]) == (1, N)
        gate.set()
        got = await task
        assert (got.cache, got.body) == ("miss", asset.content("a"))
        assert bench.source.seen("a")[-1].status == 200


async def test_evicted_while_it_is_revalidated_is_no_victim(make_bench: MakeBench) -> None:
    async with make_bench(limit=N + 5_000) as bench:
        asset = await stale(bench)
        other = bench.source.add("b", N)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        task = asyncio.create_task(bench.get("a"))
        await bench.source.until(lambda: bench.source.count("a") == 2)
        got = await bench.get("b")
        assert (got.source, got.body) == ("external", other.content("b"))
        gate.set()
        assert (await task).body == asset.content("a")


async def test_each_use_of_no_cache_is_confirmed(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        add(bench, "no-cache")
        await bench.fill("a")
        for count in (2, 3):
            assert (await bench.get("a")).cache == "hit"
            assert [seen.status for seen in bench.source.seen("a")][1:] == [304] * (count - 1)
