"""Contract §4 and §3.3: preconditions and If-Range (RFC 9110 §13), the same in every state."""

from __future__ import annotations

import pytest

from tests.support.edge import Edge
from tests.support.source import Source
from tests.support.states import STATES, X_CACHE, add, ask_in

N = 200_000
TAG = '"v0-30d40"'
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"  # 1,700,000,000
BEFORE = "Tue, 14 Nov 2023 22:13:19 GMT"
AFTER = "Tue, 14 Nov 2023 22:13:21 GMT"

CASES = [
    pytest.param([("If-Match", TAG)], 200, id="if-match-strong"),
    pytest.param([("If-Match", "*")], 200, id="if-match-star"),
    pytest.param([("If-Match", '"other"')], 412, id="if-match-other"),
    pytest.param([("If-Match", "W/" + TAG)], 412, id="if-match-weak-tag"),
    pytest.param([("If-Match", f'"a,b", {TAG}')], 200, id="if-match-list-with-comma-in-quotes"),
    pytest.param([("If-Unmodified-Since", MODIFIED)], 200, id="unmodified-since-same"),
    pytest.param([("If-Unmodified-Since", BEFORE)], 412, id="unmodified-since-before"),
    pytest.param([("If-Unmodified-Since", "yesterday")], 200, id="unmodified-since-no-date"),
    pytest.param([("If-Match", TAG), ("If-Unmodified-Since", BEFORE)], 200, id="if-match-goes-first"),
    pytest.param([("If-None-Match", TAG)], 304, id="none-match-strong"),
    pytest.param([("If-None-Match", "W/" + TAG)], 304, id="none-match-weak-comparison"),
    pytest.param([("If-None-Match", "*")], 304, id="none-match-star"),
    pytest.param([("If-None-Match", f'"x" , {TAG}')], 304, id="none-match-list"),
    pytest.param([("If-None-Match", '"x,' + TAG[1:])], 200, id="none-match-comma-belongs-to-tag"),
    pytest.param([("If-None-Match", '"x"')], 200, id="none-match-other"),
    pytest.param([("If-None-Match", '"x"'), ("If-Modified-Since", AFTER)], 200, id="none-match-goes-first"),
    pytest.param([("If-Modified-Since", MODIFIED)], 304, id="modified-since-imf"),
    pytest.param([("If-Modified-Since", "Tuesday, 14-Nov-23 22:13:20 GMT")], 304, id="modified-since-rfc850"),
    pytest.param([("If-Modified-Since", "Tue Nov 14 22:13:20 2023")], 304, id="modified-since-asctime"),
    pytest.param([("If-Modified-Since", BEFORE)], 200, id="modified-since-before"),
    pytest.param([("If-Modified-Since", "0")], 200, id="modified-since-no-date"),
    pytest.param([("If-None-Match", TAG), ("Range", "bytes=0-9")], 304, id="304-before-range"),
    pytest.param([("If-Match", '"other"'), ("Range", "bytes=0-9")], 412, id="412-before-range"),
    pytest.param([("If-None-Match", TAG), ("Range", "bytes=900000-")], 304, id="304-before-416"),
]

IF_RANGE = [
    pytest.param(TAG, 206, id="same-tag"),
    pytest.param('"other"', 200, id="other-tag"),
    pytest.param("W/" + TAG, 200, id="weak-tag"),
    pytest.param(MODIFIED, 206, id="same-date"),
    pytest.param(AFTER, 200, id="later-date"),
    pytest.param(BEFORE, 200, id="earlier-date"),
    pytest.param("neither", 200, id="neither-tag-nor-date"),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("headers", "status"), CASES)
async def test_precondition_decides(
    state: str, headers: list[tuple[str, str]], status: int, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, headers)
    assert (reply.status, reply.end) == (status, "complete")
    assert reply.cache == X_CACHE[state]
    if status == 200:
        assert reply.body == source.assets[asset].content(asset)
    if status == 304:
        assert reply.body == b""
        for name in ("Content-Type", "Content-Length", "Content-Range"):
            assert name not in reply, name
        assert reply["ETag"] == TAG
        assert "Date" in reply and reply["Cache-Control"] == source.assets[asset].headers[0][1]
    if status == 412:
        assert reply["Content-Type"] == "application/json"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("value", "status"), IF_RANGE)
async def test_if_range_decides_between_part_and_whole(  # RFC 9110 §13.1.5
    state: str, value: str, status: int, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, [("Range", "bytes=100-65600"), ("If-Range", value)])
    assert (reply.status, reply.end) == (status, "complete")
    span = (100, 65_601) if status == 206 else (0, N)
    assert reply.body == source.assets[asset].content(asset, *span)


@pytest.mark.parametrize("state", ["miss", "hit"])
async def test_failed_if_range_gives_the_whole_though_the_range_is_past_the_end(
    state: str, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N)
    headers = [("Range", "bytes=900000-"), ("If-Range", '"other"')]
    reply = await ask_in(state, edge, source, asset, headers)
    assert (reply.status, reply.body) == (200, source.assets[asset].content(asset))


async def test_if_range_with_weak_stored_tag_never_matches(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "hit", N, etag="weak", last_modified=None)
    reply = await ask_in(
        "hit",
        edge,
        source,
        asset,
        [("Range", "bytes=0-9"), ("If-Range", source.assets[asset].entity_tag() or "")],
    )
    assert (reply.status, len(reply.body)) == (200, N)


async def test_if_range_date_equal_to_date_field_is_no_strong_validator(  # RFC 9110 §8.8.2.2
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "hit", N, etag="none", date=1_700_000_000.0)
    reply = await ask_in("hit", edge, source, asset, [("Range", "bytes=0-9"), ("If-Range", MODIFIED)])
    assert (reply.status, len(reply.body)) == (200, N)


async def test_preconditions_of_a_miss_are_not_forwarded_and_the_fetch_goes_on(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    reply = await edge.get(asset, [("If-None-Match", TAG)])
    assert (reply.status, reply.cache) == (304, "miss")
    await edge.settled(asset)
    (seen,) = source.seen(asset, "GET")
    assert not {"if-none-match", "if-match", "if-modified-since"} & set(seen.headers)
    assert (await edge.get(asset)).body == source.assets[asset].content(asset)
    assert source.count(asset) == 1
