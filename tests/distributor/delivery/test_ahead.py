"""Ranges ahead of the fill, and `fill: asked`: what the source is asked for, and that but once (§5)."""

from __future__ import annotations

import asyncio

import pytest

from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import SEGMENT, Bench, range_of
from tests.support.source import Fault

N = 200_000


def ranges(bench: Bench, asset_id: str = "a") -> list[str | None]:
    return [seen.range for seen in bench.source.seen(asset_id)]


async def test_range_far_ahead_gets_its_own_request_on_the_grid_and_is_kept(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 1000)
        first = await bench.read("a")
        await first.until(1000)
        start, stop = 8 * SEGMENT + 10, 9 * SEGMENT + 20
        got = await bench.get("a", range_of(start, stop - 1))
        assert got.state == (206, "pending", "local")
        assert got.body == asset.content("a", start, stop)
        assert ranges(bench) == [None, f"bytes={8 * SEGMENT}-{10 * SEGMENT - 1}"]
        assert bench.source.seen("a")[1].headers["if-range"] == asset.entity_tag()
        gate.open()
        assert await first.rest() == asset.content("a")
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")
        # The fill stopped where the range had begun, and went on behind it.
        assert ranges(bench)[2:] == [f"bytes={10 * SEGMENT}-"]
        assert bench.observer.sums["segment"] == 1


async def test_no_byte_is_fetched_twice_however_ranges_fall(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 0)
        first = await bench.read("a")
        asks = [(30, 31), (10, 12), (11, 20), (40, 41), (12, 13), (30, 45)]
        for low, high in asks:
            got = await bench.get("a", range_of(low * SEGMENT, high * SEGMENT - 1))
            assert got.body == asset.content("a", low * SEGMENT, high * SEGMENT)
        ahead = sum(seen.sent for seen in bench.source.seen("a")[1:])
        covered = {cell for low, high in asks for cell in range(low, high)}
        assert ahead == len(covered) * SEGMENT
        gate.open()
        assert await first.rest() == asset.content("a")
        await bench.idle()
        assert (await bench.get("a")).cache == "hit"


@pytest.mark.parametrize("segment", [0, 1])
async def test_range_in_the_segment_being_filled_or_the_next_waits_for_the_fill(
    segment: int, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 1000)
        first = await bench.read("a")
        await first.until(1000)
        start = segment * SEGMENT + 2000
        task = asyncio.create_task(bench.get("a", range_of(start, start + 9)))
        await asyncio.sleep(0.01)
        assert bench.source.count("a") == 1
        gate.open()
        assert (await task).body == asset.content("a", start, start + 10)
        await first.rest()


async def test_seek_into_a_cold_asset_asks_for_its_segments_first_then_for_the_rest(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", SEGMENT)
        got = await bench.get("a", range_of(20 * SEGMENT + 1, 20 * SEGMENT + 10))
        assert got.state == (206, "miss", "local")
        assert got.body == asset.content("a", 20 * SEGMENT + 1, 20 * SEGMENT + 11)
        assert ranges(bench)[0] == f"bytes={20 * SEGMENT}-{21 * SEGMENT - 1}"
        gate.open()
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")
        assert bench.source.body_bytes("a") <= N + SEGMENT


async def test_range_past_the_end_of_a_cold_asset_is_416_and_the_fetch_goes_on(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        got = await bench.get("a", range_of(N))
        assert type(got.error).__name__ == "RangeNotSatisfiable"
        assert (got.cache, got.fields["content-range"]) == ("miss", f"bytes */{N}")
        await bench.idle()
        assert (await bench.get("a")).cache == "hit"


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "pending"])
async def test_source_that_ignores_range_makes_the_reader_wait(cold: bool, make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, ranges=False)
        far = range_of(150_000, 150_099)
        if cold:
            got = await bench.get("a", far)
        else:
            gate = bench.source.hold("a", 1000)
            first = await bench.read("a")
            await first.until(1000)
            second = await bench.read("a", far)
            task = asyncio.create_task(second.rest())
            await bench.source.until(lambda: bench.source.count("a") >= 2)
            third = asyncio.create_task(bench.get("a", far))
            await asyncio.sleep(0.05)
            gate.open()
            assert await task == asset.content("a", 150_000, 150_100)
            assert await first.rest() == asset.content("a")
            got = await third
        assert got.body == asset.content("a", 150_000, 150_100)
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")
        assert bench.source.body_bytes("a") <= 4 * N


async def test_run_ahead_that_fails_leaves_its_reader_to_the_fill(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 1000)
        first = await bench.read("a")
        await first.until(1000)
        bench.source.fault("a", Fault(status=500), match=lambda seen: seen.range is not None)
        task = asyncio.create_task(bench.get("a", range_of(100_000, 100_099)))
        await bench.source.until(lambda: bench.source.count("a") >= 3)
        await asyncio.sleep(0.3)
        gate.open()
        bench.source.heal("a")
        assert (await task).body == asset.content("a", 100_000, 100_100)
        assert await first.rest() == asset.content("a")


async def test_range_of_unknown_length_gives_the_whole_until_complete(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, framing="chunked")
        got = await bench.get("a", range_of(10, 19))
        assert (got.status, got.body, got.fields.get("content-length")) == (200, asset.content("a"), None)
        await bench.idle()
        hit = await bench.get("a", range_of(10, 19))
        assert (hit.status, hit.cache, hit.body) == (206, "hit", asset.content("a", 10, 20))
        whole = await bench.get("a")
        assert (whole.fields["content-length"], whole.body) == (str(N), asset.content("a"))


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, N])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_any_length_in_any_framing_becomes_a_hit(
    size: int, framing: str, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", size, framing=framing, digest=True)
        got = await bench.fill("a")
        assert (got.state, got.body, got.error) == ((200, "miss", "local"), asset.content("a"), None)
        hit = await bench.get("a")
        assert (hit.state, hit.body) == ((200, "hit", "local"), asset.content("a"))
        usage = bench.store.usage()
        assert (usage.complete, usage.partial, usage.reserved) == (size, 0, 0)


async def test_several_ranges_of_a_cold_asset_come_as_multipart_of_exact_length(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a.mp4", N)
        gate = bench.source.hold("a.mp4", 1000)
        asked = [("Range", "bytes=150000-150009,5-9,-3")]
        task = asyncio.create_task(bench.get("a.mp4", asked))
        await bench.source.until(lambda: bench.source.count("a.mp4") >= 2)
        await asyncio.sleep(0.02)
        gate.open()
        got = await task
        assert (got.status, got.fields["content-length"]) == (206, str(len(got.body)))
        for start, stop in ((150_000, 150_010), (5, 10), (N - 3, N)):
            part = f"Content-Range: bytes {start}-{stop - 1}/{N}\r\n\r\n".encode()
            assert part + asset.content("a.mp4", start, stop) + b"\r\n--" in got.body
        assert "content-range" not in got.fields
        await bench.idle()


# --- fill: asked ---


async def test_fill_asked_takes_only_asked_segments_and_makes_them_hits(make_bench: MakeBench) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N)
        got = await bench.get("a", range_of(SEGMENT + 1, SEGMENT + 10))
        assert got.state == (206, "miss", "local")
        assert got.body == asset.content("a", SEGMENT + 1, SEGMENT + 11)
        await bench.idle()
        again = await bench.get("a", range_of(SEGMENT, 2 * SEGMENT - 1))
        assert again.state == (206, "hit", "local")
        assert again.body == asset.content("a", SEGMENT, 2 * SEGMENT)
        other = await bench.get("a", range_of(10 * SEGMENT, 12 * SEGMENT))
        assert (other.cache, other.body) == ("miss", asset.content("a", 10 * SEGMENT, 12 * SEGMENT + 1))
        assert "fwd=partial" in other.fields["cache-status"]
        await bench.idle()
        assert ranges(bench) == [
            f"bytes={SEGMENT}-{2 * SEGMENT - 1}",
            f"bytes={10 * SEGMENT}-{13 * SEGMENT - 1}",
        ]
        assert bench.source.body_bytes("a") == 4 * SEGMENT == bench.store.usage().partial


@pytest.mark.parametrize(
    ("asked", "first", "most"),
    [
        pytest.param("bytes=-500", N - 500, 2 * SEGMENT, id="suffix"),
        pytest.param("bytes=100000-100009,5000-5009", 100_000, 3 * SEGMENT, id="two"),
        pytest.param("bytes=150000-", 150_000, N - 150_000 + SEGMENT, id="open"),
    ],
)
async def test_fill_asked_takes_no_more_of_a_cold_asset_than_what_is_asked(
    asked: str, first: int, most: int, make_bench: MakeBench
) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N)
        bench.source.hold("a", 0)
        got = await bench.get("a", [("Range", asked)])
        assert (got.status, got.error) == (206, None)
        assert asset.content("a", first, first + 5) in got.body
        await bench.idle()
        assert bench.store.usage().partial <= most
        again = await bench.get("a", [("Range", asked)])
        assert (again.cache, len(again.body)) == ("hit", len(got.body))


async def test_fill_asked_of_the_whole_becomes_complete(make_bench: MakeBench) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N)
        await bench.get("a", range_of(50_000, 50_010))
        await bench.idle()
        got = await bench.get("a")
        assert (got.cache, got.body) == ("miss", asset.content("a"))
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")
        assert bench.source.body_bytes("a") == N


async def test_fill_asked_goes_on_to_the_end_of_the_segment_though_the_client_leaves(
    make_bench: MakeBench,
) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 10_000)
        reading = await bench.read("a", range_of(9_000, 11_000))
        await reading.until(1_000)
        await reading.leave()
        gate.open()
        await bench.idle()
        got = await bench.get("a", range_of(2 * SEGMENT, 3 * SEGMENT - 1))
        assert (got.cache, got.body) == ("hit", asset.content("a", 2 * SEGMENT, 3 * SEGMENT))


async def test_fill_asked_range_joined_while_another_is_fetched_is_fetched_too(make_bench: MakeBench) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N)
        gate = bench.source.hold("a", 10_000)
        first = await bench.read("a", range_of(9_000, 11_000))
        await first.until(1_000)
        second = await bench.get("a", range_of(100_000, 100_100))
        assert (second.cache, second.body) == ("pending", asset.content("a", 100_000, 100_101))
        gate.open()
        assert await first.rest() == asset.content("a", 9_000, 11_001)
        await bench.idle()
        assert bench.source.body_bytes("a") == 2 * SEGMENT


async def test_stale_part_under_fill_asked_is_confirmed_without_a_body(make_bench: MakeBench) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N, headers=[("Cache-Control", "max-age=10")], date=False)
        await bench.get("a", range_of(5_000, 5_009))
        await bench.idle()
        bench.clock.advance(60)
        got = await bench.get("a", range_of(5_000, 5_009))
        assert (got.state, got.body) == ((206, "hit", "local"), asset.content("a", 5_000, 5_010))
        assert [seen.status for seen in bench.source.seen("a")] == [206, 304]


@pytest.mark.parametrize(
    "headers",
    [
        [("Range", "bytes=5000-5009"), ("If-Range", '"other"')],
        [("If-None-Match", "*")],
        [("Range", f"bytes={N}-")],
        [("Range", "bytes=5000-5009,100000-100009")],
    ],
    ids=["if-range-fails", "304", "416", "two-ranges"],
)
async def test_stale_part_under_fill_asked_answers_whatever_is_asked_of_it(
    headers: list[tuple[str, str]], make_bench: MakeBench
) -> None:
    async with make_bench(fill="asked") as bench, make_bench() as other:
        for one in (bench, other):
            one.source.add("a", N, headers=[("Cache-Control", "max-age=10")], date=False)
        await other.fill("a")
        await bench.get("a", range_of(5_000, 5_009))
        await bench.idle()
        bench.clock.advance(60)
        got, expected = await bench.get("a", headers), await other.get("a", headers)
        assert (got.status, type(got.error)) == (expected.status, type(expected.error))
        if "multipart" not in got.fields.get("content-type", ""):
            assert got.body == expected.body
        await bench.idle()


async def test_all_bytes_there_but_never_verified_under_fill_asked_become_a_hit(
    make_bench: MakeBench,
) -> None:
    async with make_bench(fill="asked") as bench:
        asset = bench.source.add("a", N)
        await bench.fill("a")
        stored = bench.store.get("a")
        assert stored is not None
        stored.complete = False
        bench.source.forget()
        got = await bench.get("a")
        assert (got.error, got.body) == (None, asset.content("a"))
        assert bench.source.body_bytes("a") <= SEGMENT
        stored.complete = True
