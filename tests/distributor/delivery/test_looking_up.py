"""HEAD, and what is remembered without being stored (contract §3.3, §3.6)."""

from __future__ import annotations

import asyncio

import pytest

from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import range_of
from tests.support.source import Fault

N = 30_000
HOUR = [("Cache-Control", "max-age=3600")]


async def test_head_of_a_cold_asset_asks_by_head_and_stores_nothing(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a.mp4", N)
        got = await bench.head("a.mp4", [("Range", "bytes=0-9")])
        assert (got.status, got.cache, got.source, got.answer.body) == (200, "miss", "none", None)
        assert (got.fields["content-length"], got.fields["etag"]) == (str(N), asset.entity_tag())
        assert got.fields["content-type"] == "video/mp4"
        assert "x-data-source" not in got.fields
        assert (bench.source.count(None, "HEAD"), bench.source.count(None, "GET")) == (1, 0)
        assert bench.store.usage().partial_objects == 0


async def test_equal_heads_are_one_and_the_answer_is_remembered(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1, method="HEAD")
        tasks = [asyncio.create_task(bench.head("a")) for _ in range(20)]
        await bench.source.until(lambda: bench.source.count("a", "HEAD") == 1)
        tasks[0].cancel()
        gate.set()
        assert [(await task).status for task in tasks[1:]] == [200] * 19
        assert (await bench.head("a")).status == 200
        assert bench.source.count("a", "HEAD") == 1
        bench.clock.advance(6)
        await bench.head("a")
        assert bench.source.count("a", "HEAD") == 2


@pytest.mark.parametrize("status", [405, 501])
@pytest.mark.parametrize("size", [0, N])
async def test_source_without_head_is_asked_for_its_first_byte(
    status: int, size: int, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        bench.source.add("a", size)
        bench.source.fault("a", Fault(status=status), method="HEAD")
        got = await bench.head("a")
        assert (got.status, got.fields["content-length"]) == (200, str(size))
        assert bench.source.seen("a", "GET")[0].range == "bytes=0-0"
        assert bench.edge.fetches_in_flight == 0


async def test_head_while_a_fetch_is_under_way_is_pending_and_asks_nobody(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = bench.source.hold("a", 1000)
        reading = await bench.read("a")
        got = await bench.head("a")
        assert (got.status, got.cache, got.fields["content-length"]) == (200, "pending", str(N))
        gate.open()
        await reading.rest()
        await bench.idle()
        assert (await bench.head("a")).cache == "hit"
        assert bench.source.count("a", None) == 1


@pytest.mark.parametrize("version", [0, 1])
async def test_stale_is_revalidated_by_a_conditional_head(version: int, make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        made = {"headers": [("Cache-Control", "max-age=10")], "date": False}
        bench.source.add("a", N, **made)  # type: ignore[arg-type]
        await bench.fill("a")
        bench.clock.advance(60)
        asset = bench.source.add("a", N + version, version=version, **made)  # type: ignore[arg-type]
        got = await bench.head("a")
        assert (got.cache, got.fields["etag"]) == ("miss" if version else "hit", asset.entity_tag())
        assert got.fields["content-length"] == str(N + version)
        assert "if-none-match" in bench.source.seen("a", "HEAD")[0].headers
        assert bench.source.count("a", "GET") == 1
        assert (await bench.get("a")).body == asset.content("a")


async def test_preconditions_hold_on_head(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        tag = asset.entity_tag() or ""
        assert (await bench.head("a", [("If-None-Match", tag)])).status == 304
        assert type((await bench.head("a", [("If-Match", '"x"')])).error).__name__ == "PreconditionFailed"


@pytest.mark.parametrize(
    ("status", "name"), [(404, "UnknownAsset"), (410, "AssetGone"), (421, "Misdirected")]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_negative_answer_is_remembered_for_get_and_head(
    status: int, name: str, method: str, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        bench.source.fault("a", Fault(status=status), method=None)
        assert type((await bench.get("a", method=method)).error).__name__ == name
        for again in ("GET", "HEAD"):
            got = await bench.get("a", method=again)
            assert type(got.error).__name__ == name
            assert got.fields["cache-status"] in (
                "edge-1; hit; ttl=4; detail=negative",
                "edge-1; hit; ttl=5; detail=negative",
            )
        assert bench.source.count("a", None) == 1
        bench.clock.advance(6)
        await bench.get("a")
        assert bench.source.count("a", None) == 2


@pytest.mark.parametrize(("lifetime", "held"), [(0, 0), (30, 30), (3600, 60)])
async def test_negative_answer_is_held_as_long_as_the_source_says_and_no_longer_than_a_minute(
    lifetime: int, held: int, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        control = [("Cache-Control", f"max-age={lifetime}"), ("Date", "")]
        bench.source.fault("a", Fault(status=404, headers=control), on=1)
        bench.source.add("a", N)
        assert (await bench.get("a")).error is not None
        if held:
            bench.clock.advance(held - 1)
            assert (await bench.get("a")).error is not None
            bench.clock.advance(2)
        assert (await bench.get("a")).status == 200


async def test_404_counts_only_if_all_sources_say_so(make_bench: MakeBench) -> None:
    async with make_bench(sources=2) as bench:
        asset = bench.sources[1].add("a", N)
        assert (await bench.get("a")).body == asset.content("a")
        assert (await bench.head("b")).error is not None
        assert [source.count("b", "HEAD") for source in bench.sources] == [1, 1]
        bench.sources[1].fault("c", Fault(status=500), method=None)
        assert type((await bench.get("c")).error).__name__ == "SourceRefused"
        assert bench.sources[0].count("c") == 1
        bench.sources[1].heal()
        assert type((await bench.get("c")).error).__name__ == "UnknownAsset"


async def test_410_only_if_all_say_so(make_bench: MakeBench) -> None:
    async with make_bench(sources=2) as bench:
        bench.sources[0].fault("a", Fault(status=410))
        assert type((await bench.get("a")).error).__name__ == "UnknownAsset"
        bench.sources[1].fault("b", Fault(status=410))
        bench.sources[0].fault("b", Fault(status=410))
        assert type((await bench.get("b")).error).__name__ == "AssetGone"


async def test_purge_forgets_what_was_remembered(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        assert (await bench.get("a")).error is not None
        assert (await bench.head("b")).error is not None
        bench.source.add("a", N)
        bench.source.add("b", N)
        assert (await bench.get("a")).error is not None
        assert await bench.purger.purge(ids=["a", "b"]) == (0, 0)
        assert ((await bench.get("a")).status, (await bench.head("b")).status) == (200, 200)
        bench.source.add("b", N + 1)
        await bench.purger.purge(prefix="b")
        assert (await bench.head("b")).fields["content-length"] == str(N + 1)


# --- buckets ---


async def test_bucket_not_served_is_421_whatever_is_stored_and_a_hit_again_later(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, headers=[("X-Distribution-Bucket", "mine"), *HOUR])
        bench.source.add("b", N, headers=HOUR)
        bench.served = {"mine"}
        got = await bench.fill("a")
        assert (got.status, got.fields["x-distribution-bucket"]) == (200, "mine")
        for _ in range(2):
            assert type((await bench.get("b")).error).__name__ == "Misdirected"
        assert bench.source.count("b") == 1
        assert type((await bench.head("b")).error).__name__ == "Misdirected"
        bench.served = {"theirs"}
        bench.edge.forget_negatives()
        for headers in ([], [("If-None-Match", "*")], range_of(0, 0), [("Cache-Control", "only-if-cached")]):
            assert type((await bench.get("a", headers)).error).__name__ == "Misdirected"
        bench.served = None
        bench.edge.forget_negatives()
        assert ((await bench.get("a")).cache, (await bench.get("a")).body) == ("hit", asset.content("a"))
        assert (await bench.get("b")).status == 200


async def test_bucket_dropped_amid_a_fetch_is_421_for_new_requests(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 1000)
        reading = await bench.read("a")
        bench.served = {"other"}
        assert type((await bench.get("a")).error).__name__ == "Misdirected"
        gate.open()
        assert await reading.rest() == asset.content("a")
