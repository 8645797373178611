"""Sources that cut, stall, lie, change and die, at every class of byte boundary.

Whatever they do, three things hold: the bytes a client got are the first bytes of one version; an
answer that ended cleanly is that version whole; the request after it, once sources are well again,
gets the whole and becomes a hit.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.fault.conftest import SEGMENT, Site
from tests.support.source import Fault
from tests.support.wire import Reply, range_of

N = 5 * SEGMENT + 100
BOUNDARIES = [
    pytest.param(0, id="0"),
    pytest.param(1, id="1"),
    pytest.param(SEGMENT - 1, id="segment-1"),
    pytest.param(SEGMENT, id="segment"),
    pytest.param(SEGMENT + 1, id="segment+1"),
    pytest.param(N - 1, id="N-1"),
]
FRESH = [("Cache-Control", "max-age=600")]


def add(site: Site, asset: str, **settings: Any) -> bytes:
    for source in site.sources:
        source.add(asset, N, headers=list(FRESH), **settings)
    return site.sources[0].assets[asset].content(asset)


def fault(site: Site, asset: str, what: Fault, on: Any = None) -> None:
    site.sources[0].fault(asset, what, on=on, also=site.sources[1:])


def heal(site: Site, asset: str) -> None:
    for source in site.sources:
        source.heal(asset)


def assert_whole(reply: Reply, content: bytes) -> None:
    assert (reply.status, reply.end, len(reply.body)) == (200, "complete", len(content))
    assert reply.body == content


async def assert_becomes_a_hit(site: Site, asset: str, content: bytes) -> None:
    await site.edge.idle()
    assert_whole(await site.edge.get(asset), content)
    await site.edge.settled(asset)
    reply = await site.edge.get(asset)
    assert reply.cache == "hit"
    assert_whole(reply, content)
    part = await site.edge.get(asset, range_of(SEGMENT - 1, SEGMENT))
    assert part.body == content[SEGMENT - 1 : SEGMENT + 1]


BREAKS = [
    pytest.param("cut_after", id="cut"),
    pytest.param("reset_after", id="reset"),
    pytest.param("stall_after", id="stall"),
]


def broken(how: str, at: int) -> Fault:
    settings: dict[str, Any] = {how: at}
    return Fault(**settings)


@pytest.mark.parametrize("at", BOUNDARIES)
@pytest.mark.parametrize("how", BREAKS)
async def test_break_is_not_seen_by_the_client(how: str, at: int, site: Site, asset: str) -> None:
    content = add(site, asset)
    fault(site, asset, broken(how, at), on=1)
    assert_whole(await site.edge.get(asset), content)
    assert site.count(asset) == 2
    assert site.body_bytes(asset) <= N + at + SEGMENT
    await assert_becomes_a_hit(site, asset, content)


@pytest.mark.parametrize("at", BOUNDARIES)
@pytest.mark.parametrize("how", BREAKS)
async def test_break_amid_a_range_is_not_seen_by_the_client(
    how: str, at: int, site: Site, asset: str
) -> None:
    content = add(site, asset)
    fault(site, asset, broken(how, at), on=1)
    first, last = SEGMENT - 10, 3 * SEGMENT + 10
    reply = await site.edge.get(asset, range_of(first, last))
    assert (reply.status, reply.end, reply.body) == (206, "complete", content[first : last + 1])
    await assert_becomes_a_hit(site, asset, content)


@pytest.mark.parametrize("at", BOUNDARIES)
@pytest.mark.parametrize("how", BREAKS)
async def test_every_reader_of_a_broken_fetch_gets_every_byte(
    how: str, at: int, site: Site, asset: str
) -> None:
    content = add(site, asset)
    fault(site, asset, broken(how, at), on=1)
    for reply in await asyncio.gather(*(site.edge.get(asset) for _ in range(8))):
        assert_whole(reply, content)
    assert site.count(asset) == 2


@pytest.mark.parametrize("at", BOUNDARIES)
async def test_version_changed_at_a_break_is_never_spliced(at: int, site: Site, asset: str) -> None:
    old = add(site, asset)
    fault(site, asset, Fault(cut_after=at), on=1)
    fault(site, asset, Fault(version=1), on=range(2, 99))
    reply = await site.edge.get(asset)
    if reply.status == 200 and reply.end == "complete":
        # Nothing of the old version had gone out: the new one, whole, is as right.
        assert reply.body == site.sources[0].assets[asset].content(asset) or at == N - 1
    elif reply.status == 200:
        assert reply.body == old[: len(reply.body)]
        assert len(reply.body) <= at
    else:
        assert (reply.status, at) == (502, 0)
    for source in site.sources:
        source.assets[asset] = replace(source.assets[asset], version=1)
    await assert_becomes_a_hit(site, asset, site.sources[0].assets[asset].content(asset))


@pytest.mark.parametrize("at", BOUNDARIES)
async def test_byte_that_the_digest_does_not_cover_never_becomes_a_hit(
    at: int, site: Site, asset: str
) -> None:
    content = add(site, asset, digest=True)
    fault(site, asset, Fault(corrupt_at=at), on=1)
    reply = await site.edge.get(asset)
    assert (reply.status, reply.end) == (200, "short")
    await assert_becomes_a_hit(site, asset, content)


@pytest.mark.parametrize("surplus", [1, SEGMENT, -1, -SEGMENT], ids=["+1", "+segment", "-1", "-segment"])
async def test_length_that_is_not_as_declared_never_becomes_a_hit(
    surplus: int, site: Site, asset: str
) -> None:
    content = add(site, asset)
    fault(site, asset, Fault(surplus=surplus), on=1)
    reply = await site.edge.get(asset)
    assert reply.body == content[: len(reply.body)]
    if reply.end == "complete":
        assert reply.body == content
    await assert_becomes_a_hit(site, asset, content)


@pytest.mark.parametrize("at", BOUNDARIES)
async def test_death_of_all_sources_ends_the_answer_short_and_recovery_ends_it_well(
    at: int, site: Site, asset: str
) -> None:
    content = add(site, asset)
    fault(site, asset, Fault(reset_after=at), on=1)
    fault(site, asset, Fault(drop="reset"), on=range(2, 99))
    reply = await site.edge.get(asset)
    if reply.status == 200:
        assert reply.end == "short"
        assert reply.body == content[: len(reply.body)]
        assert len(reply.body) <= at
    else:
        assert (reply.status, at) == (502, 0)
    heal(site, asset)
    await assert_becomes_a_hit(site, asset, content)


async def test_sources_that_refuse_connections_and_come_back(site: Site, asset: str) -> None:
    content = add(site, asset)
    for source in site.sources:
        await source.stop()
    for _ in range(2):
        assert (await site.edge.get(asset)).status in (502, 504)
    for source in site.sources:
        await source.restart()
    await assert_becomes_a_hit(site, asset, content)


@pytest.mark.parametrize("at", BOUNDARIES)
async def test_answer_to_the_resumption_that_ignores_range_is_no_splice(
    at: int, site: Site, asset: str
) -> None:
    content = add(site, asset)
    fault(site, asset, Fault(cut_after=at), on=1)
    fault(site, asset, Fault(ignore_range=True), on=range(2, 99))
    reply = await site.edge.get(asset)
    if reply.status == 200:
        assert reply.body == content[: len(reply.body)]
        assert reply.end == "short" or len(reply.body) == N
    heal(site, asset)
    await assert_becomes_a_hit(site, asset, content)


RANGES = [
    pytest.param("bytes 0-{last}/{n}", id="another-start"),
    pytest.param("bytes {first}-{last}/{more}", id="another-total"),
    pytest.param("bytes {first}-{less}/{n}", id="another-end"),
    pytest.param("bytes */{n}", id="unsatisfied"),
    pytest.param("seconds {first}-{last}/{n}", id="another-unit"),
    pytest.param("", id="none"),
]


@pytest.mark.parametrize("text", RANGES)
@pytest.mark.parametrize("at", [1, SEGMENT, N - 1])
async def test_lying_content_range_is_no_splice(text: str, at: int, site: Site, asset: str) -> None:
    content = add(site, asset)
    lie = text.format(first=at, last=N - 1, n=N, more=N + 1, less=N - 2)
    what = Fault(content_range=lie) if lie else Fault(headers=[("Content-Range", "")])
    fault(site, asset, Fault(cut_after=at), on=1)
    fault(site, asset, what, on=range(2, 99))
    reply = await site.edge.get(asset)
    assert reply.status == 200
    assert reply.body == content[: len(reply.body)]
    assert reply.end == "short" or len(reply.body) == N
    heal(site, asset)
    await assert_becomes_a_hit(site, asset, content)


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("at", [0, 1, SEGMENT, N - 1])
async def test_unknown_length_that_is_cut_is_never_taken_for_whole(
    framing: str, at: int, site: Site, asset: str
) -> None:
    content = add(site, asset, framing=framing)
    fault(site, asset, Fault(reset_after=at), on=range(1, 99))
    reply = await site.edge.get(asset)
    if reply.status == 200:
        assert reply.body == content[: len(reply.body)]
        assert reply.end == "short" or len(reply.body) == N  # piece by piece, under the strong tag
    else:
        assert reply.status == 502
    heal(site, asset)
    await assert_becomes_a_hit(site, asset, content)


async def test_failing_fetch_is_not_tried_by_every_waiter_anew(site: Site, asset: str) -> None:
    add(site, asset)
    gate = asyncio.Event()
    fault(site, asset, Fault(gate=gate), on=1)
    fault(site, asset, Fault(status=500), on=range(1, 999))
    tasks = [asyncio.create_task(site.edge.get(asset)) for _ in range(30)]

    async def joined() -> bool:
        return await site.edge.metric("collapsed_waiters") >= 29

    await site.edge.until(joined, timeout=5)
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {502}
    assert site.count(asset) <= 2 * len(site.sources)


async def test_source_that_slows_to_a_trickle_is_left_for_another_if_there_is_one(
    site: Site, asset: str
) -> None:
    content = add(site, asset)
    alone = len(site.sources) == 1
    # At this rate the rest would take the better part of an hour; alone, a quarter of a second.
    fault(
        site,
        asset,
        Fault(rate=400, rate_after=N - 100) if alone else Fault(rate=100, rate_after=SEGMENT),
        on=1,
    )
    assert_whole(await site.edge.get(asset), content)
    assert site.count(asset) == len(site.sources)
    await assert_becomes_a_hit(site, asset, content)


async def test_trickling_source_is_no_failure(site: Site, asset: str) -> None:
    content = add(site, asset, rate=800_000)
    assert_whole(await site.edge.get(asset), content)
    assert site.count(asset) == 1
