"""Contract §9: twenty-four faults of another node of this kind, none of which this one may have."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.multipart import parts_of
from tests.support.source import Fault, Source
from tests.support.states import fill
from tests.support.wire import Wire, range_of

N = 3 << 20


async def test_01_range_while_pending_gives_100_bytes_and_no_more(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 2 << 20)
    async with Wire(edge.port) as first:
        await first.request(f"/assets/{asset}")
        await first.head()
        await gate.reached.wait()
        reply = await edge.get(asset, range_of(0, 99))
        assert (reply.status, reply.cache, reply["Content-Length"]) == (206, "pending", "100")
        assert reply.body == source.assets[asset].content(asset, 0, 100)
        gate.open()
        await first.rest()


async def test_02_sixty_simultaneous_gets_of_a_cold_asset_make_one_source_get(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    replies = await asyncio.gather(*(edge.get(asset) for _ in range(60)))
    assert source.count(asset, None) == 1
    assert [r.cache for r in replies].count("miss") == 1
    expected = source.assets[asset].content(asset)
    assert all((r.status, r.end) == (200, "complete") and r.body == expected for r in replies)


async def test_03_first_byte_follows_the_sources_first_byte(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 1)
    async with Wire(edge.port) as wire:
        await wire.request(f"/assets/{asset}")
        await wire.head()
        assert await wire.read(1) == source.assets[asset].content(asset, 0, 1)
        gate.open()
        assert (await wire.rest()).end == "complete"


async def test_04_head_tells_nothing_of_files_outside_the_store(edge: Edge, source: Source) -> None:
    existing, missing = [
        await edge.ask(f"/api/v1/assets/..%2f..%2f..%2f..%2fetc%2f{name}", "HEAD")
        for name in ("passwd", "no-such-file")
    ]
    assert existing.status == missing.status == 404
    assert existing["Content-Length"] == missing["Content-Length"]
    assert source.requests == []


async def test_04_id_is_not_read_as_a_number(edge: Edge, source: Source, asset: str) -> None:
    source.add("1", N)
    assert (await edge.get("1")).status == 200
    assert (await edge.get("1a")).status == 404
    assert (await edge.get("01")).status == 404


async def test_05_kill_9_loses_nothing_that_was_complete(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__durability="fsync")
        for number in range(5):
            source.add(f"n{number}", 100_000)
            await fill(edge, f"n{number}")
        await edge.kill()
        await edge.start()
        for number in range(5):
            reply = await edge.get(f"n{number}")
            assert (reply.cache, reply.body) == ("hit", source.assets[f"n{number}"].content(f"n{number}"))
        assert source.count() == 5


def _damage(cache: Path, how: str) -> None:
    """Spoil every file of the index: whatever is no blob, by its size and name unknown to us."""
    files = [
        p for p in cache.rglob("*") if p.is_file() and re.search(r"\.(db|sqlite\d?)(-wal|-shm)?$", p.name)
    ]
    assert files, "no index file found"
    for path in files:
        if how == "removed":
            path.unlink()
        elif how == "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 7])
        else:
            path.write_bytes(b"\xde\xad\xbe\xef" * (path.stat().st_size // 4 + 1))


@pytest.mark.parametrize("how", ["garbage", "truncated", "removed"])
async def test_06_damaged_index_neither_keeps_the_node_down_nor_gives_a_wrong_byte(
    how: str, start_edge: StartEdge
) -> None:
    async with Source() as source:
        edge = await start_edge(source)
        for number in range(4):
            source.add(f"n{number}", 100_000)
            await fill(edge, f"n{number}")
        await edge.stop()
        _damage(edge.cache, how)
        await edge.start()
        for number in range(4):
            for _ in range(2):
                reply = await edge.get(f"n{number}")
                assert (reply.status, reply.end) == (200, "complete")
                assert reply.body == source.assets[f"n{number}"].content(f"n{number}")
                await edge.idle()


async def test_07_node_starts_with_all_sources_down_and_serves_what_it_has(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source)
        source.add("a", N, headers=[("Cache-Control", "max-age=600")])
        await fill(edge, "a")
        expected = source.assets["a"].content("a")
        await source.stop()
        await edge.kill()
        await edge.start()
        assert (await edge.ask("/readyz")).status == 200
        reply = await edge.get("a")
        assert (reply.cache, reply.body) == ("hit", expected)
        assert (await edge.get("b")).status in (502, 504)


async def test_07_source_that_answers_with_nothing_empties_no_store(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source)
        source.add("a", N, headers=[("Cache-Control", "max-age=600")])
        await fill(edge, "a")
        expected = source.assets.pop("a").content("a")
        await edge.kill()
        await edge.start()
        assert (await edge.get("b")).status == 404
        assert (await edge.get("a")).body == expected


async def test_08_asset_larger_than_the_store_is_external_at_once_and_evicts_nothing(
    start_edge: StartEdge,
) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__limit="2M")
        source.add("small", 100_000)
        await fill(edge, "small")
        source.add("huge", N)
        reply = await edge.get("huge")
        assert (reply["X-Data-Source"], reply.body) == ("external", source.assets["huge"].content("huge"))
        status = await edge.status()
        assert (status["downloadsInProgress"], status["objectsInCache"]) == (0, 1)
        assert (await edge.get("small")).cache == "hit"


async def test_09_two_fetches_that_do_not_fit_together_both_give_their_bytes(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__limit="4M")
        for name in ("a", "b"):
            source.add(name, N)
            source.fault(name, Fault(delay=0.01))
        replies = await asyncio.gather(*(edge.get(name) for name in ("a", "b")))
        for name, reply in zip("ab", replies, strict=True):
            assert (reply.status, reply.end) == (200, "complete")
            assert reply.body == source.assets[name].content(name)
        assert (await edge.status())["storageUsed"] <= 4 << 20


FAILURES = [
    pytest.param({}, Fault(reset_after=1_000_000), id="cut"),
    pytest.param({}, Fault(stall_after=1_000_000), id="stall"),
    pytest.param({"digest": True}, Fault(corrupt_at=1_000_000), id="wrong-digest"),
    pytest.param({}, Fault(surplus=5), id="too-long"),
]


@pytest.mark.parametrize(("made", "failure"), FAILURES)
async def test_10_after_a_failure_the_other_source_is_taken(
    made: dict[str, bool], failure: Fault, start_edge: StartEdge, sources: tuple[Source, Source]
) -> None:
    edge = await start_edge(*sources, origin__stall_timeout="300ms", origin__backoff="60s")
    for one in sources:
        one.add("a", N, **made)
        one.add("b", N, **made)
    bad, good = sources
    bad.fault(None, failure)
    expected = good.assets["a"].content("a")
    for _ in range(2):  # a wrong digest is known only at the end: it cuts the first answer short
        reply = await edge.get("a")
        assert reply.body == expected or reply.end == "short"
        await edge.idle()
    assert (reply.end, reply.body) == ("complete", expected)
    if bad.requests:
        before = len(bad.requests)
        assert (await edge.get("b")).body == good.assets["b"].content("b")
        assert len(bad.requests) == before


async def test_11_full_disk_does_not_cut_transfers(tmp_path: Path, start_edge: StartEdge) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed: no way to make writes fail")
    async with Source() as source:
        edge = Edge(tmp_path / "full", [source.url], prefix=["prlimit", f"--fsize={2 << 20}"])
        source.add("large", N)
        source.add("small", 100_000)
        async with edge:
            for name in ("large", "small", "large"):
                reply = await edge.get(name)
                assert (reply.status, reply.end) == (200, "complete")
                assert reply.body == source.assets[name].content(name)
            assert (await edge.ask("/healthz")).status == 200
            await edge.idle()
            assert (await edge.get("small")).cache == "hit"


async def test_12_dropped_bucket_is_421_at_once_and_after_a_restart(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source)
        source.add("a", N)
        await fill(edge, "a")
        assert (await edge.operate("POST", "/set-buckets", {"buckets": ["other"]}))[0] == 200
        assert (await edge.get("a")).status == 421
        await edge.kill()
        await edge.start()
        assert (await edge.get("a")).status == 421
        assert json.loads((await edge.ask("/buckets")).body) == {"bucketIds": ["other"]}
        assert (await edge.operate("POST", "/set-buckets", {}))[0] == 200
        assert (await edge.get("a")).cache == "hit"
        assert source.count("a") == 1


@pytest.mark.parametrize("tag", ["strong", "none"])
async def test_13_entity_tag_is_the_same_after_a_re_fetch(
    tag: str, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, etag=tag)
    await fill(edge, asset)
    before = await edge.get(asset)
    assert (await edge.operate("POST", "/purge", {"ids": [asset]}))[0] == 200
    source.add(asset, N, etag=tag, last_modified=1_700_000_900)
    await fill(edge, asset)
    after = await edge.get(asset)
    assert before["ETag"] == after["ETag"]
    assert not (after["ETag"] or "W/").startswith("W/")


async def test_13_entity_tag_is_on_head_pending_and_miss(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    gate = source.hold(asset, 100)
    tag = source.assets[asset].entity_tag()
    assert (await edge.head(asset))["ETag"] == tag
    async with Wire(edge.port) as first:
        await first.request(f"/assets/{asset}")
        assert (await first.head())["ETag"] == tag
        pending = await edge.head(asset)
        assert (pending.cache, pending["ETag"]) == ("pending", tag)
        gate.open()
        await first.rest()


async def test_14_content_type_and_length_are_the_same_pending_and_hit(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, content_type="application/x-odd")
    gate = source.hold(asset, 100)
    found = []
    async with Wire(edge.port) as first, Wire(edge.port) as second:
        for wire in (first, second):
            await wire.request(f"/assets/{asset}")
            found.append(await wire.head())
        gate.open()
        await asyncio.gather(first.rest(), second.rest())
    await edge.settled(asset)
    found.append(await edge.get(asset))
    assert [reply.cache for reply in found] == ["miss", "pending", "hit"]
    assert {(reply["Content-Type"], reply["Content-Length"]) for reply in found} == {
        ("application/x-odd", str(N))
    }


async def test_15_several_ranges_are_multipart(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    for _ in range(2):
        reply = await edge.get(asset, [("Range", "bytes=0-9,1000000-1000009")])
        assert reply.status == 206
        parts = parts_of(reply["Content-Type"] or "", reply.body)
        assert [(p.first, p.body) for p in parts] == [
            (at, source.assets[asset].content(asset, at, at + 10)) for at in (0, 1_000_000)
        ]
        await edge.idle()


@pytest.mark.parametrize("fill_mode", ["whole", "asked"])
async def test_16_416_is_json_and_not_to_be_stored_in_every_mode(
    fill_mode: str, start_edge: StartEdge
) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__fill=fill_mode)
        source.add("a", N, headers=[("Cache-Control", "max-age=31536000")])
        for _ in range(2):
            reply = await edge.get("a", range_of(N))
            assert (reply.status, reply["Content-Range"]) == (416, f"bytes */{N}")
            assert (reply["Content-Type"], reply["Cache-Control"]) == ("application/json", "no-store")
            await edge.idle()


async def test_17_head_and_get_of_what_no_source_has_are_both_404(edge: Edge, asset: str) -> None:
    for one, methods in ((f"a/{asset}", ("HEAD", "GET")), (f"b/{asset}", ("GET", "HEAD"))):
        for method in methods:
            assert (await edge.ask(f"/assets/{one}", method)).status == 404


async def test_18_status_and_buckets_answer_head_and_need_no_source(edge: Edge, source: Source) -> None:
    await source.stop()
    for path in ("/status", "/buckets", "/api/v1/status", "/api/v1/buckets"):
        get, head = [await edge.ask(path, method) for method in ("GET", "HEAD")]
        assert (get.status, head.status, head.body) == (200, 200, b"")
        assert get.names == head.names
        json.loads(get.body)
    await source.restart()


async def test_19_error_bodies_are_fixed_sentences(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, origin__stall_timeout="200ms")
        source.fault("5xx", Fault(status=500, body=b"Traceback: /etc/secret"))
        source.fault("garbage", Fault(head=b"secret-banner\r\n\r\n"))
        source.fault("silent", Fault(gate=asyncio.Event()))
        bodies = [
            (await edge.get(name)).body for name in ("5xx", "garbage", "silent", "none", "%zz", "a%2Fb")
        ]
        await source.stop()
        bodies.append((await edge.get("down")).body)
    for body in bodies:
        document = json.loads(body)
        assert set(document) == {"type", "message"}
        for leak in ("127.0.0.1", str(source.port), "http:", "secret", "Error", "content", "/", "%zz"):
            assert leak not in document["message"], document
    assert edge.tracebacks() == []


async def test_20_unknown_query_parameter_is_ignored(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, 1000)
    for target in (f"/assets/{asset}?x=1&y", "/status?z=%", "/buckets?q=1", "/healthz?a", "/metrics?name=x"):
        assert (await edge.ask(target)).status == 200


async def test_21_unknown_id_is_asked_for_once_per_negative_ttl(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, freshness__negative_ttl="300ms")
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            assert (await edge.get("none")).status == 404
        if asyncio.get_running_loop().time() - began < 0.3:
            assert source.count("none", None) == 1

        async def asked_again() -> bool:
            await edge.get("none")
            return source.count("none", None) == 2

        await edge.until(asked_again)


async def test_22_preflight_allows_reading_only_and_may_be_kept(edge: Edge, asset: str) -> None:
    ask = [("Origin", "https://p.example"), ("Access-Control-Request-Method", "PUT")]
    for path in (f"/assets/{asset}", "/status", "/api/v1/buckets"):
        reply = await edge.ask(path, "OPTIONS", ask)
        assert (reply.status, reply["Access-Control-Max-Age"]) == (204, "86400")
        assert reply["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
        assert reply["Access-Control-Allow-Origin"] == "*"
        allowed = {name.strip() for name in (reply["Access-Control-Allow-Headers"] or "").split(",")}
        assert {"Range", "If-Range", "If-None-Match", "X-Request-Id"} <= allowed


async def test_23_bytes_are_counted_and_logged(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source)
        source.add("a", 123_457)
        await fill(edge, "a")
        await edge.get("a", [*range_of(10, 4330), ("X-Request-Id", "find-me")])
        hits = {"cache": "hit", "data_source": "local"}

        async def counted() -> bool:
            return await edge.metric("asset_body_bytes_total", **hits) >= 4321

        await edge.until(counted)
        assert await edge.metric("asset_body_bytes_total", cache="hit", data_source="local") == 4321
        assert await edge.metric("asset_body_bytes_total", cache="miss") == 123_457
        assert await edge.metric("source_received_bytes_total") == 123_457

        async def logged() -> bool:
            return any("find-me" in line and re.search(r"\b4321\b", line) for line in edge.log)

        await edge.until(logged)


async def test_24_pass_through_keeps_cache_control_and_checks_time_and_digest(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__max_object="1M", origin__stall_timeout="300ms")
        control = [("Cache-Control", "public, max-age=77")]
        source.add("good", N, digest=True, headers=control)
        reply = await edge.get("good")
        assert (reply["X-Data-Source"], reply["Cache-Control"]) == ("external", "public, max-age=77")
        assert reply.body == source.assets["good"].content("good")
        source.add("bad", N, digest="wrong", headers=control)
        assert (await edge.get("bad")).end == "short"
        source.add("stalls", N, etag="none", last_modified=None)
        source.fault("stalls", Fault(stall_after=500_000))
        stalled = await edge.get("stalls")
        assert stalled.end == "short"
        assert stalled.body == source.assets["stalls"].content("stalls", 0, len(stalled.body))
