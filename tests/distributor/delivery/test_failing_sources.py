"""Sources that cut, stall, lie or change amid a body: the body goes on, or ends unclean (contract §5)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from distributor.errors import VersionChanged
from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import SEGMENT, range_of
from tests.support.source import Fault

N = 50_000
PLACES = [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, N - 1]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
async def test_body_goes_on_from_the_same_source_wherever_it_broke_off(
    place: int, kind: str, make_bench: MakeBench
) -> None:
    async with make_bench(stall_timeout=0.5 if kind == "stall" else 5.0) as bench:
        asset = bench.source.add("a", N, digest=True)
        bench.source.fault("a", Fault(**{f"{kind}_after": place}), on=1)  # type: ignore[arg-type]
        got = await bench.get("a")
        assert (got.error, got.body) == (None, asset.content("a"))
        second = bench.source.seen("a")[1]
        assert second.headers.get("if-range", asset.entity_tag()) == asset.entity_tag()
        if kind != "reset":  # which may swallow what was sent just before it
            assert second.range == f"bytes={place}-"
        await bench.idle()
        assert (await bench.get("a")).state == (200, "hit", "local")


@pytest.mark.parametrize("place", PLACES)
async def test_body_goes_on_from_the_other_source(place: int, make_bench: MakeBench) -> None:
    async with make_bench(sources=2) as bench:
        for source in bench.sources:
            asset = source.add("a", N, digest=True)
        bench.sources[0].fault("a", Fault(cut_after=place))
        got = await bench.get("a")
        assert (got.error, got.body) == (None, asset.content("a"))
        assert [seen.range for seen in bench.sources[1].seen("a")] == [f"bytes={place}-"]
        await bench.idle()
        assert (await bench.get("a")).cache == "hit"


async def test_two_sources_that_both_break_off_again_and_again_bring_the_whole(
    make_bench: MakeBench,
) -> None:
    async with make_bench(sources=2, segment=1 << 20) as bench:
        size = 3_000_000
        for source in bench.sources:
            asset = source.add("a", size)
            source.fault("a", Fault(cut_after=200_000))
        got = await bench.get("a")
        assert (got.error, got.body) == (None, asset.content("a"))
        assert bench.observer.sums["resumed"] == size // 200_000 - (size % 200_000 == 0)


BOUND = [
    pytest.param({}, id="strong-tag"),
    pytest.param({"etag": "none"}, id="last-modified"),
    pytest.param({"etag": "weak"}, id="weak-tag-and-date"),
    pytest.param({"etag": "none", "last_modified": None, "digest": True}, id="digest-alone"),
]
UNBOUND = [
    pytest.param({"etag": "weak", "last_modified": None}, id="weak-tag"),
    pytest.param({"etag": "none", "last_modified": None}, id="none"),
]


@pytest.mark.parametrize("made", BOUND)
async def test_validator_binds_the_resumption(made: dict[str, Any], make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, **made)
        bench.source.fault("a", Fault(cut_after=20_000), on=1)
        got = await bench.get("a")
        assert (got.error, got.body) == (None, asset.content("a"))
        sent = bench.source.seen("a")[1].headers.get("if-range")
        if made.get("etag") is None:
            assert sent == asset.entity_tag()
        elif "last_modified" in made:
            assert sent is None
        else:
            assert sent == "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize("made", UNBOUND)
async def test_without_a_strong_validator_a_cut_body_is_not_resumed(  # RFC 9110 §15.3.7.3
    made: dict[str, Any], make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, **made)
        bench.source.fault("a", Fault(cut_after=20_000), on=1)
        got = await bench.get("a")
        assert got.error is not None and got.body == asset.content("a", 0, len(got.body))
        await bench.idle()
        assert bench.store.get("a") is None
        again = await bench.get("a")
        assert (again.error, again.body) == (None, asset.content("a"))
        assert [seen.range for seen in bench.source.seen("a")] == [None, None]


async def test_another_version_amid_a_fetch_is_never_spliced(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        old = bench.source.add("a", N).content("a")
        bench.source.fault("a", Fault(cut_after=20_000), on=1)
        bench.source.fault("a", Fault(version=1), on=range(2, 99))
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(3)]
        for task in tasks:
            got = await task
            assert type(got.error).__name__ == "VersionChanged"
            assert got.body == old[: len(got.body)]
        await bench.idle()
        assert bench.store.get("a") is None
        again = await bench.get("a")
        assert (again.cache, again.error) == ("miss", None)
        assert again.body == bench.source.assets["a"].content("a") != old
        assert bench.observer.sums["fetch", "version"] == 1


async def test_other_version_for_a_range_ahead_ends_the_fetch(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        old = bench.source.add("a", N).content("a")
        gate = bench.source.hold("a", 1000)
        first = await bench.read("a")
        await first.until(1000)
        bench.source.add("a", N, version=1)
        got = await bench.get("a", range_of(40_000, 40_009))
        assert got.error is not None and got.body == b""
        gate.open()
        with pytest.raises(VersionChanged):
            await first.rest()
        assert bytes(first.taken) == old[: len(first.taken)]
        await bench.idle()
        assert (await bench.get("a")).body == bench.source.assets["a"].content("a")


LIES = [
    pytest.param(Fault(content_range=f"bytes 0-99/{N}"), id="another-start"),
    pytest.param(Fault(content_range=f"bytes 20000-{N - 1}/{N + 1}"), id="another-total"),
    pytest.param(Fault(content_range=f"bytes 20000-{N - 2}/{N}"), id="shorter"),
    pytest.param(Fault(content_range="bytes abc"), id="no-content-range"),
    pytest.param(Fault(ignore_range=True), id="the-whole"),
    pytest.param(Fault(status=416, headers=[("Content-Range", "bytes */10")]), id="416"),
    pytest.param(Fault(status=404), id="404"),
    pytest.param(Fault(status=500), id="500"),
    pytest.param(Fault(drop="reset"), id="reset"),
    pytest.param(Fault(head=b"\x00\x00"), id="garbage"),
]


@pytest.mark.parametrize("lie", LIES)
async def test_answer_that_does_not_continue_the_body_is_not_taken(lie: Fault, make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        bench.source.fault("a", Fault(cut_after=20_000), on=1)
        bench.source.fault("a", lie, on=2)
        got = await bench.get("a")
        assert got.body == asset.content("a", 0, len(got.body))
        assert (got.error is None) == (len(got.body) == N)
        await bench.idle()
        bench.clock.advance(60)
        again = await bench.get("a")
        assert (again.error, again.body) == (None, asset.content("a"))


async def test_range_that_brings_another_range_than_asked_goes_to_the_next_source(
    make_bench: MakeBench,
) -> None:
    async with make_bench(sources=2) as bench:
        for source in bench.sources:
            asset = source.add("a", N)
        bench.sources[0].fault("a", Fault(content_range=f"bytes 0-9/{N}"))
        got = await bench.get("a", range_of(40_000, 40_009))
        assert (got.error, got.body) == (None, asset.content("a", 40_000, 40_010))
        await bench.idle()
        assert (await bench.get("a")).body == asset.content("a")


@pytest.mark.parametrize("wrong", ["wrong", "corrupt"])
@pytest.mark.parametrize("size", [1, SEGMENT, N])
async def test_body_that_does_not_hash_to_its_digest_neither_ends_cleanly_nor_becomes_a_hit(
    wrong: str, size: int, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        bench.source.add("a", size, digest="wrong" if wrong == "wrong" else True)
        if wrong == "corrupt":
            bench.source.fault("a", Fault(corrupt_at=size // 2), on=1)
        tasks = [asyncio.create_task(bench.get("a")) for _ in range(3)]
        for task in tasks:
            got = await task
            assert type(got.error).__name__ == "DigestMismatch"
            assert len(got.body) < size
        await bench.idle()
        assert bench.store.get("a") is None
        assert bench.observer.sums["fetch", "digest"] == 1
        assert bench.observer.sums["source error", "digest"] == 1
        again = await bench.get("a")
        assert again.cache == "miss"
        assert (again.error is None) == (wrong == "corrupt")


async def test_last_byte_of_a_200_waits_for_the_digest_and_that_of_a_206_does_not(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, digest=True)
        gate = bench.source.hold("a", N - 1)
        whole = await bench.read("a")
        await whole.until(N - 1)
        part = await bench.read("a", range_of(0, N - 1))
        await part.until(N - 1)
        gate.open()
        assert await part.rest() == asset.content("a")
        assert await whole.rest() == asset.content("a")


async def test_unknown_length_cut_short_never_ends_cleanly(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, framing="chunked")
        bench.source.fault("a", Fault(cut_after=20_000), on=1)
        got = await bench.get("a")
        assert type(got.error).__name__ == "BodyShort"
        assert got.body == asset.content("a", 0, len(got.body))
        await bench.idle()
        assert bench.store.get("a") is None
        assert (await bench.get("a")).body == asset.content("a")


@pytest.mark.parametrize("surplus", [-10, 10])
async def test_body_of_another_length_than_declared_is_not_taken_for_the_asset(
    surplus: int, make_bench: MakeBench
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, digest=True)
        bench.source.fault("a", Fault(surplus=surplus), on=1)
        got = await bench.get("a")
        assert (got.error, got.body) == (None, asset.content("a"))
        await bench.idle()
        assert (await bench.get("a")).cache == "hit"


async def test_source_that_never_goes_on_fails_the_body_after_two_rounds_and_is_resumed_later(
    make_bench: MakeBench,
) -> None:
    async with make_bench(sources=2) as bench:
        for source in bench.sources:
            asset = source.add("a", N)
            source.fault("a", Fault(cut_after=0), match=lambda seen: seen.range is not None)
        bench.sources[0].fault("a", Fault(cut_after=20_000), on=1)
        got = await bench.get("a")
        assert type(got.error).__name__ == "BodyShort"
        assert got.body == asset.content("a", 0, 20_000)
        await bench.idle()
        for source in bench.sources:
            source.heal("a")
            source.forget()
        again = await bench.get("a")
        assert (again.error, again.body, again.cache) == (None, asset.content("a"), "miss")
        assert "fwd=partial; fwd-status=206; stored" in again.fields["cache-status"]
        assert [seen.range for source in bench.sources for seen in source.seen("a")] == ["bytes=20000-"]


async def test_source_that_failed_stands_behind_the_other_for_a_while(make_bench: MakeBench) -> None:
    async with make_bench(sources=2) as bench:
        for source in bench.sources:
            for name in "ab":
                source.add(name, N)
        bench.sources[0].fault("a", Fault(cut_after=10))
        await bench.fill("a")
        bench.sources[0].forget()
        await bench.fill("b")
        assert bench.sources[0].requests == []


async def test_asset_gone_amid_the_body_is_forgotten(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        bench.source.fault("a", Fault(cut_after=20_000), on=1)
        bench.source.fault("a", Fault(status=404), on=range(2, 99))
        got = await bench.get("a")
        assert got.error is not None and len(got.body) < N
        await bench.idle()
        assert bench.store.get("a") is None
        assert type((await bench.get("a")).error).__name__ == "UnknownAsset"


async def test_restart_resumes_what_was_stored_in_part(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N, digest=True)
        gate = bench.source.hold("a", 20_000)
        reading = await bench.read("a")
        await reading.until(20_000)
        await bench.edge.close()
        await reading.leave()
        bench.begin()
        gate.open()
        got = await bench.get("a")
        assert (got.cache, got.error, got.body) == ("miss", None, asset.content("a"))
        assert [seen.range for seen in bench.source.seen("a")] == [None, "bytes=20000-"]
        await bench.idle()
        assert (await bench.get("a")).cache == "hit"


async def test_what_was_stored_in_part_of_another_version_is_replaced(make_bench: MakeBench) -> None:
    async with make_bench() as bench:
        bench.source.add("a", N)
        gate = bench.source.hold("a", 20_000)
        reading = await bench.read("a")
        await reading.until(20_000)
        await bench.edge.close()
        await reading.leave()
        bench.begin()
        gate.open()
        asset = bench.source.add("a", N + 5, version=1)
        got = await bench.get("a")
        assert (got.cache, got.error, got.body) == ("miss", None, asset.content("a"))
        assert "fwd=stale; fwd-status=200; stored" in got.fields["cache-status"]
        await bench.idle()
        assert (await bench.get("a")).cache == "hit"


async def test_all_bytes_there_but_never_verified_cost_one_segment_to_confirm(
    make_bench: MakeBench,
) -> None:
    async with make_bench() as bench:
        asset = bench.source.add("a", N)
        await bench.fill("a")
        stored = bench.store.get("a")
        assert stored is not None
        stored.complete = False
        bench.source.forget()
        got = await bench.get("a")
        assert (got.cache, got.error, got.body) == ("miss", None, asset.content("a"))
        assert [seen.range for seen in bench.source.seen("a")] == [f"bytes={N - 1}-"]
        stored.complete = True
