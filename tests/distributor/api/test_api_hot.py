"""The short way: the same octets as the ordinary way, and never when something has changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from distributor.api import hot_assets
from distributor.api.logs import LogWriter
from distributor.app import Application
from distributor.config import load
from tests.support.assets import asset_bytes
from tests.support.edge import settings
from tests.support.source import Source

SMALL, MIDDLE, LARGE = "small.bin", "middle.mp4", "large.mkv"
SIZES = {SMALL: 5000, MIDDLE: 300_000, LARGE: 500_017}
TAG = '"v1"'
# What may differ between two answers of one second.
_OWN = re.compile(
    rb"X-Request-Id: [^\r]*\r\n|edge;dur=[0-9.]+|Age: \d+\r\n|ttl=\d+|(?<=boundary=)\w+|--[0-9a-f]{32}"
)


@dataclass
class Node:
    application: Application
    source: Source

    @property
    def port(self) -> int:
        return int(self.application.public.url.rpartition(":")[2])

    def short_answers(self) -> int:
        """How many answers took the short way so far."""
        return self.application._metrics.hot.answers

    async def ready(self, *assets: str) -> None:
        """Have `assets` stored, recognised and at hand."""
        for asset in assets:
            request = head(asset)
            async with connected(self) as talk:
                for _ in range(1000):
                    assert (await talk(request)).startswith(b"HTTP/1.1 200")
                    await self.application.hot.assets.warmed()
                    before = self.short_answers()
                    await talk(request)
                    if self.short_answers() > before or (asset == LARGE and await self._stored(asset)):
                        break

    async def _stored(self, asset: str) -> bool:
        stored = self.application.store.get(asset)
        return stored is not None and stored.complete and asset in self.application.hot.assets


@pytest_asyncio.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(hot_assets, "AT_ONCE", 400_000)
    async with Source() as source:
        for asset, size in SIZES.items():
            source.add(asset, size, etag=TAG, headers=[("Cache-Control", "max-age=3600")])
        async with running(tmp_path, source) as started:
            yield started


@asynccontextmanager
async def running(tmp_path: Path, source: Source) -> AsyncIterator[Node]:
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path, [source.url], {"log.access": False})))
    with (tmp_path / "log").open("wb") as log:
        writer = LogWriter(log)
        application = Application(load(path, [], {}), writer)
        try:
            await application.start()
            yield Node(application, source)
        finally:
            await application.stop()
            writer.close()


def head(asset: str, *lines: str, method: str = "GET", prefix: str = "/assets/") -> bytes:
    fields = "".join(f"{line}\r\n" for line in ("Host: edge.example", "User-Agent: test", *lines))
    return f"{method} {prefix}{asset} HTTP/1.1\r\n{fields}\r\n".encode()


@asynccontextmanager
async def connected(node: Node):
    """A function that sends octets, in the pieces given, and returns the answer's octets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)

    async def talk(*pieces: bytes, no_body: bool = False) -> bytes:
        for number, piece in enumerate(pieces):
            writer.write(piece)
            await writer.drain()
            if number + 1 < len(pieces):
                # The rest of a head is sent once the node has taken the first part.
                while not any(one._received for one in node.application.public.server.open):
                    await asyncio.sleep(0)
        start = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = re.search(rb"Content-Length: (\d+)", start)
        if no_body or length is None or start.startswith((b"HTTP/1.1 304", b"HTTP/1.1 204")):
            return start
        return start + await asyncio.wait_for(reader.readexactly(int(length[1])), 10)

    try:
        yield talk
    finally:
        writer.transport.abort()


def alike(answer: bytes) -> bytes:
    return _OWN.sub(b"", answer)


LINES: dict[str, tuple[str, ...]] = {
    "whole": (),
    "same tag": (f"If-None-Match: {TAG}",),
    "weak tag": (f"If-None-Match: W/{TAG}",),
    "other tag": ('If-None-Match: "v0"',),
    "first bytes": ("Range: bytes=0-99",),
    "one byte": ("Range: bytes=17-17",),
    "to the end": ("Range: bytes=4000-",),
    "past the end": ("Range: bytes=4000-99999999999999999",),
    "leading zeros": ("Range: bytes=0010-0019",),
    "beyond": ("Range: bytes=99999999999-",),
    "backwards": ("Range: bytes=50-20",),
    "suffix": ("Range: bytes=-5",),
    "two ranges": ("Range: bytes=0-0,9-9",),
    "range and tag": ("Range: bytes=5-9", f"If-None-Match: {TAG}"),
    "range, other tag": ('If-None-Match: "v0"', "Range: bytes=5-9"),
    "if-range": ("Range: bytes=5-9", f"If-Range: {TAG}"),
    "if-range, other": ("Range: bytes=5-9", 'If-Range: "v0"'),
    "if-match": (f"If-Match: {TAG}",),
    "if-match, other": ('If-Match: "v0"',),
    "date": ("If-Modified-Since: Sat, 21 Nov 2026 00:00:00 GMT",),
    "tag list": (f'If-None-Match: "x", {TAG}',),
    "star": ("If-None-Match: *",),
    "only if cached": ("Cache-Control: only-if-cached",),
    "keep-alive": ("Connection: keep-alive",),
    "own id": ("X-Request-Id: abc-123",),
    "bad id": ("X-Request-Id: a b",),
    "lower case names": ("range: bytes=1-2",),
    "odd spacing": ("Range:  bytes=1-2",),
    "range in capitals": ("Range: BYTES=1-2",),
    "two range lines": ("Range: bytes=1-2", "Range: bytes=3-4"),
}


@pytest.mark.parametrize("asset", [SMALL, MIDDLE, LARGE])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_both_ways_give_the_same_octets(node: Node, asset: str, method: str) -> None:
    await node.ready(asset)
    no_body = method == "HEAD"
    for name, lines in LINES.items():
        request = head(asset, *lines, method=method)
        async with connected(node) as talk:
            # In two pieces a head is never recognised: that is the ordinary way.
            before = node.short_answers()
            ordinary = await talk(request[:20], request[20:], no_body=no_body)
            assert node.short_answers() == before, name
            learning = await talk(request, no_body=no_body)
            again = [await talk(request, no_body=no_body) for _ in range(3)]
        assert alike(learning) == alike(ordinary), name
        assert [alike(answer) for answer in again] == [alike(ordinary)] * 3, name


@pytest.mark.parametrize(
    "name",
    ["whole", "same tag", "weak tag", "other tag", "first bytes", "to the end", "range and tag", "own id"],
)
@pytest.mark.parametrize("asset", [SMALL, MIDDLE])
async def test_what_players_and_balancers_send_takes_the_short_way(node: Node, asset: str, name: str) -> None:
    await node.ready(asset)
    for method in ("GET", "HEAD"):
        request = head(asset, *LINES[name], method=method)
        async with connected(node) as talk:
            await talk(request, no_body=method == "HEAD")
            before = node.short_answers()
            await talk(request, no_body=method == "HEAD")
            assert node.short_answers() == before + 1


async def test_ranges_never_seen_before_are_recognised_and_exact(node: Node) -> None:
    await node.ready(MIDDLE, LARGE)
    for asset in (MIDDLE, LARGE):
        async with connected(node) as talk:
            await talk(head(asset, "Range: bytes=0-1"))
            for start in range(0, SIZES[asset] - 70_000, SIZES[asset] // 37):
                before = node.short_answers()
                answer = await talk(head(asset, f"Range: bytes={start}-{start + 65_535}"))
                assert node.short_answers() == before + 1
                assert answer.partition(b"\r\n\r\n")[2] == asset_bytes(asset, start, start + 65_536)


async def test_field_lines_learned_with_one_asset_serve_another(node: Node) -> None:
    await node.ready(SMALL, MIDDLE)
    async with connected(node) as talk:
        await talk(head(SMALL, "Accept: video/*"))
        before = node.short_answers()
        answer = await talk(head(MIDDLE, "Accept: video/*"))
        assert node.short_answers() == before + 1
        assert answer.partition(b"\r\n\r\n")[2] == asset_bytes(MIDDLE, 0, SIZES[MIDDLE])


async def test_pipelined_requests_are_answered_in_order(node: Node) -> None:
    await node.ready(SMALL)
    request = head(SMALL)
    async with connected(node) as talk:
        first = await talk(request + request + head(SMALL, "Range: bytes=0-9"))
        second = await talk()
        third = await talk()
    assert alike(first) == alike(second)
    assert third.startswith(b"HTTP/1.1 206") and third.endswith(asset_bytes(SMALL, 0, 10))


UNTRUSTED: dict[str, bytes] = {
    "body": b"GET /assets/small.bin HTTP/1.1\r\nHost: edge.example\r\nContent-Length: 4\r\n\r\nGET ",
    "chunked": b"GET /assets/small.bin HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "upgrade": b"GET /assets/small.bin HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "old version": b"GET /assets/small.bin HTTP/1.0\r\nHost: a\r\n\r\n",
    "close": b"GET /assets/small.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("octets", UNTRUSTED.values(), ids=UNTRUSTED.keys())
async def test_heads_with_anything_to_frame_are_never_recognised(node: Node, octets: bytes) -> None:
    await node.ready(SMALL)
    before = node.short_answers()
    for _ in range(3):
        async with connected(node) as talk:
            answer = await talk(octets)
            assert answer.endswith(asset_bytes(SMALL, 0, SIZES[SMALL]))
    assert node.short_answers() == before


async def test_a_purged_asset_is_a_miss_at_once(node: Node) -> None:
    await node.ready(SMALL)
    async with connected(node) as talk:
        stored = node.application.store.get(SMALL)
        assert stored is not None
        await node.application.store.remove(stored)
        before = node.short_answers()
        assert b"X-Cache: miss" in await talk(head(SMALL))
        assert node.short_answers() == before


async def test_an_asset_that_was_purged_gets_hot_again(node: Node) -> None:
    for lines in ((), ("Range: bytes=5-9",)):
        request = head(MIDDLE, *lines)
        async with connected(node) as talk:
            for _ in range(2):
                await node.ready(MIDDLE)
                await talk(request)
                before = node.short_answers()
                first = await talk(request)
                assert node.short_answers() == before + 1
                stored = node.application.store.get(MIDDLE)
                assert stored is not None
                await node.application.store.remove(stored)
                assert (await talk(request)).partition(b"\r\n\r\n")[2] == first.partition(b"\r\n\r\n")[2]


async def test_a_range_is_not_recognised_by_what_only_surrounds_it(node: Node) -> None:
    await node.ready(MIDDLE)
    async with connected(node) as talk:
        for _ in range(3):
            await talk(head(MIDDLE, "Range: bytes=5-9", "Accept: a"))
        for asked in ("5-9,20-29", '5-9\r\nIf-Range: "x"', "-5", "", "5", "5-9 ", "a-b"):
            octets = head(MIDDLE, f"Range: bytes={asked}", "Accept: a")
            before = node.short_answers()
            async with connected(node) as other:
                ordinary = await other(octets[:20], octets[20:])
            assert alike(await talk(octets)) == alike(ordinary), asked
            assert node.short_answers() == before, asked


async def test_a_soft_purged_asset_is_revalidated_at_once(node: Node) -> None:
    await node.ready(SMALL)
    async with connected(node) as talk:
        stored = node.application.store.get(SMALL)
        assert stored is not None
        await node.application.store.mark_stale(stored)
        node.source.forget()
        assert b"fwd=stale; fwd-status=304" in await talk(head(SMALL))
        assert node.source.count(SMALL) == 1


async def test_a_bucket_no_longer_served_is_misdirected_at_once_and_back_without_a_fetch(node: Node) -> None:
    await node.ready(SMALL)
    async with connected(node) as talk:
        await node.application.node.set_buckets(("other",))
        assert (await talk(head(SMALL))).startswith(b"HTTP/1.1 421")
        await node.application.node.set_buckets(None)
        node.source.forget()
        assert b"X-Cache: hit" in await talk(head(SMALL))
        assert node.source.count(SMALL) == 0


async def test_while_draining_every_answer_closes_its_connection(node: Node) -> None:
    await node.ready(SMALL)
    async with connected(node) as talk:
        await node.application.drain()
        assert b"Connection: close" in await talk(head(SMALL))


async def test_hits_of_the_short_way_are_counted_like_others(node: Node) -> None:
    await node.ready(SMALL)
    async with connected(node) as talk:
        await talk(head(SMALL, "Range: bytes=0-9"))
        counted = _samples(node)
        before = node.short_answers()
        await talk(head(SMALL))
        await talk(head(SMALL, "Range: bytes=0-9"))
        await talk(head(SMALL, method="HEAD"), no_body=True)
        await talk(head(SMALL, method="HEAD"), no_body=True)
        assert node.short_answers() - before >= 3
        after = _samples(node)
    grown = {name: after[name] - counted.get(name, 0) for name in after}
    assert grown['distributor_http_requests_total{code="200",method="GET",route="assets"}'] == 1
    assert grown['distributor_http_requests_total{code="206",method="GET",route="assets"}'] == 1
    assert grown['distributor_http_requests_total{code="200",method="HEAD",route="assets"}'] == 2
    assert grown['distributor_asset_requests_total{cache="hit",data_source="local"}'] == 2
    assert grown['distributor_asset_body_bytes_total{cache="hit",data_source="local"}'] == SIZES[SMALL] + 10
    assert grown['distributor_asset_ranges_total{kind="single"}'] == 1
    assert grown['distributor_asset_duration_seconds_count{cache="hit"}'] == 4


def _samples(node: Node) -> dict[str, float]:
    lines = node.application._metrics.text().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


async def test_an_asset_that_leaves_takes_its_descriptor_with_it(node: Node) -> None:
    await node.ready(MIDDLE)
    tier = node.application.hot
    assert tier is not None and tier.assets.open == 1
    stored = node.application.store.get(MIDDLE)
    assert stored is not None
    await node.application.store.remove(stored)
    assert tier.assets.open == 0
    assert tier.assets.held == 0
