"""Contract §5: while an asset is being fetched."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source
from tests.support.states import fill
from tests.support.wire import Wire, range_of

SEGMENT = 65_536
N = 1 << 20


async def test_cold_get_of_the_whole_costs_one_get_and_no_head(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    assert (await edge.get(asset)).body == source.assets[asset].content(asset)
    await edge.idle()
    assert [(s.method, s.range) for s in source.seen(asset)] == [("GET", None)]


async def test_client_that_leaves_does_not_stop_the_fetch(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 100_000)
    async with Wire(edge.port) as wire:
        await wire.request(f"/assets/{asset}")
        await wire.head()
        await wire.read(50_000)
    gate.open()
    await edge.settled(asset)
    reply = await edge.get(asset)
    assert (reply.cache, reply.body) == ("hit", source.assets[asset].content(asset))
    assert source.count(asset) == 1


async def test_second_reader_gets_every_byte_though_the_first_leaves(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 300_000)
    async with Wire(edge.port) as second:
        async with Wire(edge.port) as first:
            await first.request(f"/assets/{asset}")
            await first.head()
            await first.read(100)
            await second.request(f"/assets/{asset}")
            assert (await second.head()).cache == "pending"
        gate.open()
        assert (await second.rest()).body == source.assets[asset].content(asset)


async def test_slow_reader_does_not_slow_the_fill(edge: Edge, source: Source, asset: str) -> None:
    size = 32 << 20
    source.add(asset, size)
    async with Wire(edge.port, buffer=4096) as slow:
        await slow.request(f"/assets/{asset}")
        await slow.head()
        await slow.read(1000)
        await edge.settled(asset)  # the whole is stored though hardly a byte of it was read
        assert (await edge.get(asset, keep=False)).size == size
        rest = await slow.rest()
        assert (rest.end, rest.size) == ("complete", size)
        assert (
            hashlib.sha256(rest.body).digest()
            == hashlib.sha256(source.assets[asset].content(asset, 1000)).digest()
        )


@pytest.mark.parametrize("at", [1, 100, SEGMENT - 1, SEGMENT, SEGMENT + 1])
async def test_bytes_go_out_as_they_arrive(at: int, edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    gate = source.hold(asset, at)
    async with Wire(edge.port) as wire:
        await wire.request(f"/assets/{asset}")
        head = await wire.head()
        assert head["Content-Length"] == str(N)
        first = await wire.read(at)  # though the source gives no more than this
        gate.open()
        assert first + (await wire.rest()).body == source.assets[asset].content(asset)


async def test_head_goes_out_before_the_first_body_byte(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 0)
    async with Wire(edge.port) as wire:
        await wire.request(f"/assets/{asset}")
        assert (await wire.head()).cache == "miss"
        gate.open()
        assert (await wire.rest()).body == source.assets[asset].content(asset)


async def test_range_far_ahead_gets_its_own_request_of_whole_segments_and_is_kept(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 1000)
    async with Wire(edge.port) as wire:
        await wire.request(f"/assets/{asset}")
        await wire.head()
        await gate.reached.wait()
        first, last = 8 * SEGMENT + 10, 9 * SEGMENT + 20
        reply = await edge.get(asset, range_of(first, last))
        assert (reply.status, reply.cache) == (206, "pending")
        assert reply.body == source.assets[asset].content(asset, first, last + 1)
        asked = [s.range for s in source.seen(asset)][1:]
        assert asked == [f"bytes={8 * SEGMENT}-{10 * SEGMENT - 1}"]
        assert source.seen(asset)[1].headers["if-range"] == source.assets[asset].entity_tag()
        gate.open()
        assert (await wire.rest()).body == source.assets[asset].content(asset)
    await edge.settled(asset)
    later = [s.range or "" for s in source.seen(asset)][2:]
    assert later == [f"bytes={10 * SEGMENT}-"]  # what the range brought was not asked for again
    assert (await edge.get(asset)).body == source.assets[asset].content(asset)


async def test_range_in_the_next_segment_waits_for_the_fill(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 1000)
    async with Wire(edge.port) as wire, Wire(edge.port) as other:
        await wire.request(f"/assets/{asset}")
        await wire.head()
        await gate.reached.wait()
        await other.request(f"/assets/{asset}", headers=range_of(SEGMENT + 5, SEGMENT + 9))
        assert (await other.head()).status == 206
        assert source.count(asset) == 1
        gate.open()
        assert (await other.rest()).body == source.assets[asset].content(asset, SEGMENT + 5, SEGMENT + 10)


async def test_seek_into_a_cold_asset_costs_little_before_its_bytes_come(
    edge: Edge, source: Source, asset: str
) -> None:
    size, at = 192 << 20, 150 << 20
    source.add(asset, size)
    gate = source.hold(asset, SEGMENT)
    reply = await edge.get(asset, range_of(at, at + 999))
    assert reply.body == source.assets[asset].content(asset, at, at + 1000)
    assert source.body_bytes(asset) <= 3 * SEGMENT
    await edge.operate("POST", "/purge", {"ids": [asset]})
    gate.open()


async def test_source_without_ranges_makes_the_reader_wait(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N, ranges=False)
    reply = await edge.get(asset, range_of(900_000, 900_099))
    assert reply.status == 206
    assert reply.body == source.assets[asset].content(asset, 900_000, 900_100)
    await edge.settled(asset)
    assert (await edge.get(asset)).body == source.assets[asset].content(asset)
    assert source.body_bytes(asset) <= 2 * N


VALIDATORS = [
    pytest.param({}, id="strong-tag"),
    pytest.param({"etag": "none"}, id="strong-last-modified"),
]


@pytest.mark.parametrize("made", VALIDATORS)
async def test_cut_body_goes_on_with_the_validator_as_if_range(
    made: dict[str, str], edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, **made)
    source.fault(asset, Fault(cut_after=300_000), on=1)
    reply = await edge.get(asset)
    assert (reply.end, reply.body) == ("complete", source.assets[asset].content(asset))
    second = source.seen(asset, "GET")[1]
    expected = source.assets[asset].entity_tag() or "Tue, 14 Nov 2023 22:13:20 GMT"
    assert (second.headers["if-range"], second.range) == (expected, "bytes=300000-")


async def test_without_a_strong_validator_a_cut_fetch_is_not_resumed(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, etag="weak", last_modified=None)
    source.fault(asset, Fault(cut_after=300_000), on=1)
    reply = await edge.get(asset)
    assert reply.end == "short"
    assert reply.body == source.assets[asset].content(asset, 0, len(reply.body))
    await edge.idle()
    again = await edge.get(asset)
    assert (again.end, again.body) == ("complete", source.assets[asset].content(asset))
    assert all(s.range is None for s in source.seen(asset))


async def test_version_that_changes_amid_a_fetch_is_never_spliced(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    old = source.assets[asset].content(asset)
    source.fault(asset, Fault(cut_after=300_000), on=1)
    source.fault(asset, Fault(version=1), on=range(2, 99))
    reply = await edge.get(asset)
    assert reply.end == "short"
    assert reply.body == old[: len(reply.body)]
    await edge.idle()
    again = await edge.get(asset)
    assert (again.end, again.body) == ("complete", source.assets[asset].content(asset))
    assert again.body != old


LIES = [
    pytest.param(Fault(content_range=f"bytes 0-99/{N}"), id="another-start"),
    pytest.param(Fault(content_range=f"bytes 300000-{N - 1}/{N + 1}"), id="another-total"),
    pytest.param(Fault(content_range="bytes abc"), id="no-content-range"),
    pytest.param(Fault(status=416, headers=[("Content-Range", "bytes */10")]), id="416"),
]


@pytest.mark.parametrize("lie", LIES)
async def test_206_that_does_not_carry_what_was_asked_is_not_taken(
    lie: Fault, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    source.fault(asset, Fault(cut_after=300_000), on=1)
    source.fault(asset, lie, on=2)
    reply = await edge.get(asset)
    assert reply.body == source.assets[asset].content(asset, 0, len(reply.body))
    assert reply.end == ("complete" if len(reply.body) == N else "short")
    await edge.idle()
    again = await edge.get(asset)
    assert (again.end, again.body) == ("complete", source.assets[asset].content(asset))


async def test_long_body_is_not_taken_for_the_asset(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    source.fault(asset, Fault(surplus=10), on=1)
    reply = await edge.get(asset)
    assert reply.body == source.assets[asset].content(asset, 0, len(reply.body))
    assert len(reply.body) <= N


async def test_last_byte_waits_for_the_digest_to_be_checked(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N, digest=True)
    source.fault(asset, Fault(corrupt_at=500_000), on=1)
    reply = await edge.get(asset)
    assert (reply.end, len(reply.body) < N) == ("short", True)
    await edge.idle()
    again = await edge.get(asset)
    assert (again.end, again.cache, again.body) == ("complete", "miss", source.assets[asset].content(asset))
    await edge.settled(asset)


async def test_wrong_digest_never_becomes_a_hit(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N, digest="wrong")
    for _ in range(3):
        reply = await edge.get(asset)
        assert reply.cache != "hit"
        assert (reply.end if reply.status == 200 else "short") == "short"
        await edge.idle()


async def test_trickle_is_passed_on_byte_by_byte(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, 2000, rate=4000)
    async with Wire(edge.port) as wire:
        await wire.request(f"/assets/{asset}")
        await wire.head()
        assert await wire.read(1) == source.assets[asset].content(asset, 0, 1)
        assert source.body_bytes(asset) < 2000
        rest = await wire.rest()
        assert (rest.end, rest.body) == ("complete", source.assets[asset].content(asset, 1))


async def test_unknown_length_cut_short_never_ends_cleanly(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N, framing="chunked", etag="none", last_modified=None)
    source.fault(asset, Fault(cut_after=300_000))
    reply = await edge.get(asset)
    assert reply.end == "short"
    assert reply.body == source.assets[asset].content(asset, 0, len(reply.body))


async def test_http_1_0_client_of_a_broken_body_of_unknown_length_is_reset(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, framing="chunked", etag="none", last_modified=None)
    source.fault(asset, Fault(cut_after=300_000))
    reply = await edge.ask(f"/assets/{asset}", version="1.0")
    assert (reply.end, reply.reset) == ("short", True)


async def test_asset_purged_while_it_is_read_is_read_to_the_end(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 200_000)
    async with Wire(edge.port) as wire:
        await wire.request(f"/assets/{asset}")
        await wire.head()
        await wire.read(1000)
        code, _ = await edge.operate("POST", "/purge", {"ids": [asset]})
        assert code == 200
        gate.open()
        rest = await wire.rest()
        assert (rest.end, rest.body) == ("complete", source.assets[asset].content(asset, 1000))
    await edge.idle()
    assert (await edge.get(asset)).cache == "miss"


async def test_room_is_made_and_the_limit_is_never_passed(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__limit="4M")
        for number in range(12):
            name = f"n{number}"
            source.add(name, N)
            assert (await edge.get(name)).body == source.assets[name].content(name)
            assert (await edge.status())["storageUsed"] <= 4 << 20
        await edge.idle()
        assert (await edge.get("n11")).cache == "hit"
        assert (await edge.get("n0")).cache == "miss"


async def test_unknown_length_that_outgrows_the_room_goes_on_to_its_readers(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__limit="1M")
        source.add("big", 3 << 20, framing="chunked")
        reply = await edge.get("big")
        assert (reply.end, reply.body) == ("complete", source.assets["big"].content("big"))
        await edge.idle()
        assert (await edge.status())["storageUsed"] <= 1 << 20
        assert (await edge.get("big", keep=False)).cache == "miss"


async def test_who_waited_for_what_may_not_be_shared_is_sent_to_the_source_on_their_own(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Cache-Control", "private")])
    gate = asyncio.Event()
    source.fault(asset, Fault(gate=gate), on=1)
    tasks = [asyncio.create_task(edge.get(asset)) for _ in range(4)]
    await source.until(lambda: source.count(asset) == 1)

    async def joined() -> bool:
        return await edge.metric("collapsed_waiters") >= 3

    await edge.until(joined)
    gate.set()
    for reply in await asyncio.gather(*tasks):
        assert (reply["X-Data-Source"], reply.body) == ("external", source.assets[asset].content(asset))
    assert source.count(asset) == 4


async def test_fill_goes_on_to_the_end_after_a_range_of_a_cold_asset(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    reply = await edge.get(asset, range_of(0, 99))
    assert (reply.status, reply.cache, len(reply.body)) == (206, "miss", 100)
    await edge.settled(asset)
    assert (await edge.get(asset)).body == source.assets[asset].content(asset)


async def test_two_sources_go_on_for_each_other_amid_a_body(
    start_edge: StartEdge, sources: tuple[Source, Source]
) -> None:
    edge = await start_edge(*sources)
    for one in sources:
        one.add("a", N)
        one.fault("a", Fault(reset_after=400_000), on=1)
    reply = await edge.get("a")
    assert (reply.end, reply.body) == ("complete", sources[0].assets["a"].content("a"))
    await fill(edge, "a")
    assert (await edge.get("a")).cache == "hit"
