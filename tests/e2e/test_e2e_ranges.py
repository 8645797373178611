"""Contract §4 over real sockets: ranges (RFC 9110 §14), the same in every state, compared byte by byte."""

from __future__ import annotations

import json

import pytest

from tests.support.edge import Edge
from tests.support.multipart import parts_of
from tests.support.source import Source
from tests.support.states import STATES, X_CACHE, add, ask_in
from tests.support.wire import Reply

N = 300_001
WHOLE = "whole"
UNSATISFIABLE = "unsatisfiable"
Spans = list[tuple[int, int]]  # first and last byte

SINGLE = [
    pytest.param("bytes=0-99", (0, 99), id="first-hundred"),
    pytest.param("bytes=0010-0019", (10, 19), id="leading-zeros"),
    pytest.param("Bytes=0-9", (0, 9), id="unit-in-capitals"),
    pytest.param("bytes=0-", (0, N - 1), id="from-zero-open"),
    pytest.param("bytes=299999-", (299_999, N - 1), id="last-two-open"),
    pytest.param("bytes=-500", (N - 500, N - 1), id="suffix"),
    pytest.param("bytes=-999999", (0, N - 1), id="suffix-longer-than-all"),
    pytest.param("bytes=5-99999999999999999999999", (5, N - 1), id="last-of-23-digits"),
    pytest.param("bytes=100-18446744073709551616", (100, N - 1), id="last-2-to-the-64"),
    pytest.param("bytes=65535-65536", (65_535, 65_536), id="across-a-segment-border"),
    pytest.param("bytes=65536-131071", (65_536, 131_071), id="exactly-one-segment"),
    pytest.param("bytes=,0-9,", (0, 9), id="empty-list-elements"),
    pytest.param("bytes=0-9,300001-", (0, 9), id="unsatisfiable-one-dropped"),
    pytest.param("bytes=0-9,5-19", (0, 19), id="overlapping-merged"),
    pytest.param("bytes=10-19,0-9", (0, 19), id="adjacent-merged"),
    pytest.param("bytes=300000-300000", (N - 1, N - 1), id="last-byte"),
]
MALFORMED = [
    "bytes=5-2",
    "bytes=abc",
    "bytes=-",
    "bytes=+1-5",
    "bytes=0-9,abc",
    "0-9",
    "bytes=\u0661-\u0665",
    "items=0-5",
    "bytes 0-5",
    "bytes=",
    "bytes=0 - 5",
    "bytes=0x1-0x5",
    "bytes=" + ",".join(f"{i * 1000}-{i * 1000}" for i in range(17)),
]
PAST_THE_END = ["bytes=300001-", "bytes=-0", "bytes=300001-,400000-500000", "bytes=18446744073709551616-"]


def body_of(source: Source, asset: str, first: int = 0, last: int = N - 1) -> bytes:
    return source.assets[asset].content(asset, first, last + 1)


def assert_single(reply: Reply, source: Source, asset: str, span: tuple[int, int]) -> None:
    first, last = span
    assert (reply.status, reply.end) == (206, "complete")
    assert reply["Content-Range"] == f"bytes {first}-{last}/{N}"
    assert reply["Content-Length"] == str(last - first + 1)
    assert reply.body == body_of(source, asset, first, last)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("field", "span"), SINGLE)
async def test_single_range_gives_its_bytes_and_no_other(
    state: str, field: str, span: tuple[int, int], edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, [("Range", field)])
    assert_single(reply, source, asset, span)
    assert reply.cache == X_CACHE[state]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("field", MALFORMED)
async def test_malformed_range_is_ignored_as_a_whole(
    state: str, field: str, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, [("Range", field)])
    assert (reply.status, reply.end, reply["Content-Length"]) == (200, "complete", str(N))
    assert "Content-Range" not in reply
    assert reply.body == body_of(source, asset)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("field", PAST_THE_END)
async def test_range_past_the_end_is_416_with_a_json_body(
    state: str, field: str, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, [("Range", field)])
    assert (reply.status, reply.end) == (416, "complete")
    assert reply["Content-Range"] == f"bytes */{N}"
    assert reply["Content-Type"] == "application/json"
    assert reply["Cache-Control"] == "no-store"
    assert json.loads(reply.body)["type"] == "range_not_satisfiable"
    assert reply.cache == X_CACHE[state]
    assert "X-Data-Source" not in reply


@pytest.mark.parametrize("state", STATES)
async def test_two_range_fields_are_ignored(state: str, edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, [("Range", "bytes=0-9"), ("Range", "bytes=20-29")])
    assert reply.status == 200
    assert reply.body == body_of(source, asset)


MULTI = [
    pytest.param("bytes=0-9 ,\t20-29", [(0, 9), (20, 29)], id="spaces-and-tabs"),
    pytest.param("bytes=100-199,0-49", [(100, 199), (0, 49)], id="order-asked-is-kept"),
    pytest.param("bytes=200000-200009,0-9,-10", [(200_000, 200_009), (0, 9), (N - 10, N - 1)], id="suffix"),
    pytest.param("bytes=50-59,0-9,55-69,5-14", [(50, 69), (0, 14)], id="merged-where-first-stood"),
    pytest.param("bytes=0-9,400000-,65530-65540", [(0, 9), (65_530, 65_540)], id="one-dropped"),
    pytest.param(
        "bytes=" + ",".join(f"{i * 1000}-{i * 1000}" for i in range(16)),
        [(i * 1000, i * 1000) for i in range(16)],
        id="sixteen",
    ),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("field", "spans"), MULTI)
async def test_several_ranges_come_as_multipart_of_exact_length(
    state: str, field: str, spans: Spans, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N, content_type="video/x-test")
    reply = await ask_in(state, edge, source, asset, [("Range", field)])
    assert reply.end == "complete"
    if state == "external" and reply.status == 200:
        assert reply.body == body_of(source, asset)
        return
    assert reply.status == 206
    assert "Content-Range" not in reply
    assert reply["Content-Length"] == str(len(reply.body))
    parts = parts_of(reply["Content-Type"] or "", reply.body)
    assert [(p.first, p.last) for p in parts] == spans
    for part in parts:
        assert part.total == N
        assert part.headers["content-type"] == "video/x-test"
        assert part.body == body_of(source, asset, part.first, part.last)


async def test_boundary_differs_from_answer_to_answer(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "hit", N)
    one = await ask_in("hit", edge, source, asset, [("Range", "bytes=0-9,20-29")])
    other = await edge.get(asset, [("Range", "bytes=0-9,20-29")])
    assert one["Content-Type"] != other["Content-Type"]


async def test_open_range_of_an_empty_representation_is_416(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "hit", 0)
    for _ in ("miss", "hit"):
        reply = await edge.get(asset, [("Range", "bytes=0-")])
        assert (reply.status, reply["Content-Range"]) == (416, "bytes */0")


async def test_suffix_of_an_empty_representation_is_200_without_bytes(
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "hit", 0)
    for _ in ("miss", "hit"):
        reply = await edge.get(asset, [("Range", "bytes=-5")])
        assert (reply.status, reply.body, reply["Content-Length"]) == (200, b"", "0")


async def test_range_of_unknown_length_gives_the_whole_until_complete(
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "pending", N, framing="chunked")
    for state, status in (("pending", 200), ("hit", 206)):
        reply = await ask_in(state, edge, source, asset, [("Range", "bytes=10-19")])
        if state == "pending":
            await edge.settled(asset)
            assert reply["Transfer-Encoding"] == "chunked"
        assert (reply.status, reply.end) == (status, "complete")
        assert reply.body == (body_of(source, asset) if status == 200 else body_of(source, asset, 10, 19))


async def test_range_far_ahead_on_a_cold_asset_does_not_wait_for_the_fill(
    edge: Edge, source: Source, asset: str
) -> None:
    size = 16 << 20
    source.add(asset, size)
    gate = source.hold(asset, 0)  # the fill, from the start, gets nowhere
    reply = await edge.get(asset, [("Range", f"bytes={10 << 20}-{(10 << 20) + 999}")])
    gate.open()
    assert reply.status == 206
    assert reply.body == source.assets[asset].content(asset, 10 << 20, (10 << 20) + 1000)
