"""The same requests in every state give the same answers (contract §3.5, §4)."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from distributor.errors import PreconditionFailed, RangeNotSatisfiable
from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import SEGMENT, Bench, Got, finish
from tests.support.source import Asset, Fault

HOUR = [("Cache-Control", "max-age=100000000")]
N = 3 * SEGMENT + 1234
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER, LATER = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"
# What tells the states apart, and no more; a multipart's boundary is made at random.
OWN = {"x-cache", "x-data-source", "age", "cache-status"}

MADE = [
    pytest.param({}, id="strong-tag"),
    pytest.param({"etag": "weak"}, id="weak-tag"),
    pytest.param({"etag": "none", "digest": True}, id="digest"),
    pytest.param({"content_type": "text/plain", "digest": True}, id="typed"),
]


def requests(asset: Asset) -> list[list[tuple[str, str]]]:
    """Forty header sections, the same each time: ranges × conditions."""
    tag = asset.entity_tag() or '"none"'
    ranges = [
        "bytes=0-99", "bytes=0-", "bytes=-500", f"bytes=-{N + 9}", f"bytes={N - 1}-{N + 99}", f"bytes={N}-",
        "bytes=-0", "bytes=5-2", "bytes=abc", "items=0-5", "bytes=0-9,20-29", f"bytes=0-9,{N}-",
        f"bytes={2 * SEGMENT}-,0-0", "bytes=0-9,5-19,-4", "bytes=" + ",".join(f"{i}-{i}" for i in range(17)),
        f"bytes={SEGMENT - 1}-{SEGMENT}", "Bytes=0010-0019", "bytes=,0-9 ,\t20-29,",
    ]  # fmt: skip
    conditions = [
        ("If-None-Match", tag), ("If-None-Match", '"other"'), ("If-None-Match", "*"), ("If-Match", tag),
        ("If-Match", '"other"'), ("If-Match", "*"), ("If-Modified-Since", MODIFIED),
        ("If-Modified-Since", EARLIER), ("If-Unmodified-Since", EARLIER), ("If-Unmodified-Since", LATER),
        ("If-Range", tag), ("If-Range", '"other"'), ("If-Range", MODIFIED), ("If-Range", EARLIER),
        ("If-None-Match", '"a,b", ' + tag), ("If-Modified-Since", "yesterday"),
    ]  # fmt: skip
    dice = random.Random(7)
    made: list[list[tuple[str, str]]] = [[]]
    made += [[("Range", value)] for value in ranges]
    made += [[condition] for condition in conditions[:6]]
    while len(made) < 40:
        made.append([dice.choice(conditions), ("Range", dice.choice(ranges))])
    return made


async def in_miss(bench: Bench, number: int, headers: list[tuple[str, str]]) -> Got:
    return await bench.get(f"{number}.mp4", headers)


async def in_hit(bench: Bench, number: int, headers: list[tuple[str, str]]) -> Got:
    await bench.fill(f"{number}.mp4")
    return await bench.get(f"{number}.mp4", headers)


async def in_pending(bench: Bench, number: int, headers: list[tuple[str, str]]) -> Got:
    gate = bench.source.hold(f"{number}.mp4", 100)
    first = await bench.read(f"{number}.mp4")
    answer = await bench.ask(f"{number}.mp4", headers)
    gate.open()
    got = await finish(answer)
    await first.rest()
    return got


async def in_part(bench: Bench, number: int, headers: list[tuple[str, str]]) -> Got:
    """Stored in part, and nobody fetching."""
    gate = bench.source.hold(f"{number}.mp4", SEGMENT + 5)
    first = await bench.read(f"{number}.mp4")
    await first.until(SEGMENT + 5)
    await bench.edge.close()
    await first.leave()
    gate.open()
    bench.begin()
    return await bench.get(f"{number}.mp4", headers)


async def in_stale(bench: Bench, number: int, headers: list[tuple[str, str]]) -> Got:
    await bench.fill(f"{number}.mp4")
    await bench.purger.purge(ids=[f"{number}.mp4"], soft=True)
    return await bench.get(f"{number}.mp4", headers)


async def in_error(bench: Bench, number: int, headers: list[tuple[str, str]]) -> Got:
    """Stale, and no source gives better than an error: served as it is."""
    await bench.fill(f"{number}.mp4")
    await bench.purger.purge(ids=[f"{number}.mp4"], soft=True)
    bench.source.fault(f"{number}.mp4", Fault(status=500))
    return await bench.get(f"{number}.mp4", headers)


def essence(got: Got) -> tuple[int, object, dict[str, str], bytes]:
    """Status, error, fields and body, with the boundary of a multipart taken out."""
    fields = {name: value for name, value in got.fields.items() if name not in OWN}
    body = got.body
    found = re.search(r"boundary=(\w+)", fields.get("content-type", ""))
    if found is not None:
        body = body.replace(found[1].encode(), b"-")
        fields["content-type"] = "multipart"
    return got.status, type(got.error), fields, body


STATES: dict[str, tuple[Callable[[Bench, int, list[tuple[str, str]]], Awaitable[Got]], str]] = {
    "miss": (in_miss, "miss"),
    "pending": (in_pending, "pending"),
    "part": (in_part, "miss"),
    "stale": (in_stale, "hit"),
    "error": (in_error, "hit"),
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("state", STATES)
async def test_answer_is_that_of_a_hit_in_every_state(
    state: str, made: dict[str, Any], memory_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.upstream.pool.pause_before", lambda _: 0.0)
    ask, cache = STATES[state]
    async with memory_bench() as bench, memory_bench() as other:
        for number, headers in enumerate(requests(Asset(N, **made))):
            for one in (bench, other):
                # The same Date on both, so that fields can be compared.
                asset = one.source.add(f"{number}.mp4", N, date=1_750_000_000, headers=HOUR, **made)
            expected = await in_hit(other, number, headers)
            got = await ask(bench, number, headers)
            assert (got.cache, expected.cache) == (cache, "hit"), headers
            mine, theirs = essence(got), essence(expected)
            # What this node can make only at the end is not there before.
            for name in ("repr-digest", "etag"):
                if name not in mine[2]:
                    theirs[2].pop(name, None)
            assert mine == theirs, headers
            check_against_the_asset(got, asset, f"{number}.mp4")
            await bench.idle()


@pytest.mark.parametrize("made", MADE)
async def test_external_answer_is_that_of_a_hit_but_for_several_ranges(
    made: dict[str, Any], memory_bench: MakeBench
) -> None:
    async with memory_bench() as bench, memory_bench(max_object=1) as other:
        for number, headers in enumerate(requests(Asset(N, **made))):
            for one in (bench, other):
                asset = one.source.add(f"{number}.mp4", N, date=1_750_000_000, headers=HOUR, **made)
            expected = await in_hit(bench, number, headers)
            got = await other.get(f"{number}.mp4", headers)
            assert got.cache == "miss"
            if expected.fields.get("content-type", "").startswith("multipart"):
                assert (got.status, got.body) == (200, asset.content(f"{number}.mp4"))
                continue
            mine, theirs = essence(got), essence(expected)
            if "repr-digest" not in mine[2]:
                theirs[2].pop("repr-digest", None)
            assert mine == theirs, headers
            assert got.source == ("external" if got.answer.body is not None else "none")


def check_against_the_asset(got: Got, asset: Asset, asset_id: str) -> None:
    """Equal to a hit could still be equally wrong."""
    if got.error is not None:
        assert isinstance(got.error, PreconditionFailed | RangeNotSatisfiable)
        assert got.body == b""
    elif got.status == 304:
        assert (got.answer.body, got.body) == (None, b"")
        assert not {"content-type", "content-length", "content-range"} & set(got.fields)
    elif got.status == 200:
        assert got.body == asset.content(asset_id)
    else:
        assert got.status == 206
        assert got.fields["content-length"] == str(len(got.body))
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", got.fields.get("content-range", ""))
        if found is not None:
            start, last, total = map(int, found.groups())
            assert (got.body, total) == (asset.content(asset_id, start, last + 1), N)
