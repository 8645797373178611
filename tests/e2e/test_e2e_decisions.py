"""Contract §3.1–3.3: ids, queries, the order of decisions and the statuses, over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source
from tests.support.states import add, fill
from tests.support.wire import Reply, Wire, raw

N = 20_000
ONLY_IF_CACHED = [("Cache-Control", "only-if-cached")]


def assert_error(reply: Reply, status: int, kind: str) -> None:
    """§1: every error is an ErrorResponse."""
    assert (reply.status, reply.end) == (status, "complete")
    assert reply["Content-Type"] == "application/json"
    assert reply["Cache-Control"] == "no-store"
    assert reply["Access-Control-Allow-Origin"] == "*"
    document = json.loads(reply.body)
    assert document["type"] == kind
    assert isinstance(document["message"], str) and document["message"]
    for leak in ("127.0.0.1", "http://", "Traceback", "content/", "/tmp"):
        assert leak not in document["message"]


NEVER_ASKED = [
    pytest.param("%zz", 400, id="percent-without-hex"),
    pytest.param("a%4", 400, id="percent-with-one-digit"),
    pytest.param("%ff%fe", 400, id="not-utf-8"),
    pytest.param("%c0%af", 400, id="overlong-utf-8"),
    pytest.param("a%00b", 400, id="nul"),
    pytest.param("a%0ab", 400, id="line-feed"),
    pytest.param("a%7fb", 400, id="delete"),
    pytest.param("a%c2%85b", 400, id="c1-control"),
    pytest.param("a#b", 400, id="raw-hash"),
    pytest.param(".", 404, id="dot"),
    pytest.param("..", 404, id="dot-dot"),
    pytest.param("a/../b", 404, id="dot-dot-within"),
    pytest.param("a/%2e%2E/b", 404, id="dot-dot-encoded"),
    pytest.param(".%2E/a", 404, id="dot-dot-half-encoded"),
    pytest.param("a//b", 404, id="empty-segment"),
    pytest.param("a/", 404, id="slash-at-the-end"),
    pytest.param("a%2Fb", 404, id="encoded-slash"),
    pytest.param("..%2f..%2fetc%2fpasswd", 404, id="encoded-traversal"),
    pytest.param("a%5Cb", 404, id="encoded-backslash"),
    pytest.param("a\\b", 404, id="backslash"),
    pytest.param("a%252e", 404, id="encoded-percent"),
    pytest.param("a%3Fb", 404, id="question-mark"),
    pytest.param("a%23b", 404, id="encoded-hash"),
    pytest.param("a%3Cb", 404, id="less-than"),
    pytest.param("a%7Cb", 404, id="bar"),
    pytest.param("a%EF%BF%BFb", 404, id="noncharacter"),
    pytest.param("a%C2%A0b", 404, id="no-break-space-is-below-a1"),
    pytest.param("x" * 1025, 404, id="1025-octets"),
    pytest.param("%C3%A9" * 513, 404, id="1026-octets-decoded"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "status"), NEVER_ASKED)
async def test_what_cannot_be_an_id_is_refused_before_a_source_is_asked(
    method: str, path: str, status: int, edge: Edge, source: Source
) -> None:
    for base in ("/assets/", "/api/v1/assets/"):
        reply = await edge.ask(base + path, method)
        if method == "GET":
            assert_error(reply, status, {400: "bad_request", 404: "not_found"}[status])
        assert reply.status == status
    assert source.requests == []


SAME_ID = [
    pytest.param("%41b", "Ab", id="encoded-letter"),
    pytest.param("a%20b", "a b", id="space"),
    pytest.param("caf%C3%A9", "café", id="utf-8"),
    pytest.param("it's(1)!$&*+,;=:@", "it's(1)!$&*+,;=:@", id="sub-delims"),
    pytest.param("%C2%A1%F0%9F%8E%AC", "¡🎬", id="beyond-the-plane"),
    pytest.param("x" * 1024, "x" * 1024, id="1024-octets"),
    pytest.param("a/..b/c..", "a/..b/c..", id="dots-within-names"),
]


@pytest.mark.parametrize(("path", "asset_id"), SAME_ID)
async def test_id_reaches_the_source_decoded_once(
    path: str, asset_id: str, edge: Edge, source: Source
) -> None:
    made = source.add(asset_id, N, headers=[("Cache-Control", "no-store")])
    reply = await edge.ask(f"/assets/{path}")
    assert (reply.status, reply.body) == (200, made.content(asset_id))
    assert source.requests[-1].asset_id == asset_id


async def test_source_path_is_built_anew_with_upper_case_hex(edge: Edge, source: Source) -> None:
    await edge.ask("/assets/q%20/%c3%a9~%7E%41'!")
    assert source.requests[-1].target == "/content/q%20/%C3%A9~~A'!"


async def test_raw_octet_is_the_same_as_its_encoded_form(edge: Edge, source: Source, asset: str) -> None:
    one = f"é/{asset}"
    source.add(one, N)
    first = await edge.ask(f"/assets/{one}")
    assert (first.status, first.cache) == (200, "miss")
    await edge.idle()
    assert (await edge.ask(f"/assets/%C3%A9/{asset}")).cache == "hit"


async def test_root_and_api_v1_are_one_cache_entry(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    assert (await edge.ask(f"/assets/{asset}")).cache == "miss"
    await edge.idle()
    reply = await edge.ask(f"/api/v1/assets/{asset}")
    assert (reply.cache, reply.body) == ("hit", source.assets[asset].content(asset))


async def test_absolute_form_target_counts_for_its_path_only(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    reply = await edge.ask(f"http://elsewhere.example/assets/{asset}?a=b")
    assert (reply.status, reply.body) == (200, source.assets[asset].content(asset))


async def test_query_is_neither_key_nor_sent_on(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    assert (await edge.ask(f"/assets/{asset}?a=1")).cache == "miss"
    await edge.idle()
    assert (await edge.ask(f"/assets/{asset}?b=%zz")).cache == "hit"
    assert source.requests[0].target == f"/content/{asset}"


async def test_key_query_keys_and_sends_what_is_left_byte_for_byte(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, cache__key_query=True)
        source.add("a", N)
        assert (await edge.ask("/assets/a?b=%41&CMCD=x&a=1&expires=9")).cache == "miss"
        await edge.idle()
        assert (await edge.ask("/assets/a?b=%41&a=1&md5=zz")).cache == "hit"
        assert (await edge.ask("/assets/a?a=1&b=%41")).cache == "miss"
        assert [s.target for s in source.requests] == ["/content/a?b=%41&a=1", "/content/a?a=1&b=%41"]


# --- the order ---


@pytest.mark.parametrize("token", ["PUT", "POST", "DELETE", "PATCH", "PURGE", "TRACE", "BREW"])
async def test_other_methods_are_405_whatever_the_id(token: str, edge: Edge, source: Source) -> None:
    for path in ("/assets/a", "/assets/%zz", "/status", "/api/v1/buckets", "/healthz", "/metrics"):
        reply = await edge.ask(path, token)
        assert_error(reply, 405, "method_not_allowed")
        assert reply["Allow"] == "GET, HEAD, OPTIONS"
    assert source.requests == []


@pytest.mark.parametrize(
    "path", ["/status/", "/assets", "/assets/", "/Status", "/", "/api/v1", "/api/v2/status"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_path_is_404_whatever_the_method(path: str, method: str, edge: Edge) -> None:
    assert_error(await edge.ask(path, method), 404, "not_found")


async def test_options_looks_nothing_up(edge: Edge, source: Source, asset: str) -> None:
    reply = await edge.ask(f"/assets/{asset}", "OPTIONS")
    assert (reply.status, reply.body, reply["Access-Control-Max-Age"]) == (204, b"", "86400")
    assert reply["Access-Control-Allow-Methods"] == reply["Allow"] == "GET, HEAD, OPTIONS"
    assert source.requests == []


GET = b"GET /status HTTP/1.1\r\nHost: a\r\n"
FRAMING = [
    pytest.param(
        GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length-and-chunked"
    ),
    pytest.param(GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="two-lengths"),
    pytest.param(b"GET /status HTTP/1.1\r\n\r\n", id="no-host"),
    pytest.param(GET + b"Host: b\r\n\r\n", id="second-host"),
    pytest.param(GET + b"X: 1\r\n  folded\r\n\r\n", id="obs-fold"),
    pytest.param(GET + b"X : 1\r\n\r\n", id="space-before-colon"),
    pytest.param(GET + b"X: " + b"y" * 20_000 + b"\r\n\r\n", id="20000-byte-field"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="tls-hello"),
]


@pytest.mark.parametrize("octets", FRAMING)
async def test_invalid_framing_is_400_and_close(octets: bytes, edge: Edge) -> None:  # RFC 9112
    answer = await raw(edge.port, octets)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.") == 1
    assert b'"bad_request"' in answer


async def test_body_on_a_get_is_never_forwarded(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    reply = await edge.ask(f"/assets/{asset}", body=b"x" * 1000)
    assert reply.body == source.assets[asset].content(asset)
    assert "content-length" not in source.requests[0].headers
    assert "transfer-encoding" not in source.requests[0].headers


async def test_http_1_0_client_gets_no_chunks(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N, framing="chunked")
    reply = await edge.ask(f"/assets/{asset}", version="1.0")
    assert "Transfer-Encoding" not in reply
    assert (reply.end in ("closed", "complete"), reply.body) == (True, source.assets[asset].content(asset))


@pytest.mark.parametrize(
    ("headers", "status"), [([], 200), ([("Range", "bytes=0-0")], 206), ([("Range", "bytes=99999-")], 416)]
)
async def test_connection_close_is_honoured(
    headers: list[tuple[str, str]], status: int, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    for _ in range(2):
        async with Wire(edge.port) as wire:
            await wire.request(f"/assets/{asset}", headers=[*headers, ("Connection", "close")])
            assert (await wire.head()).status == status
            assert (await wire.rest()).end == "complete"
            assert await wire.closed() == b""
        await edge.idle()


async def test_only_if_cached_is_504_when_nothing_is_stored_and_asks_nobody(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    assert_error(await edge.get(asset, ONLY_IF_CACHED), 504, "gateway_timeout")
    assert source.requests == []
    await fill(edge, asset)
    reply = await edge.get(asset, ONLY_IF_CACHED)
    assert (reply.status, reply.cache, reply.body) == (200, "hit", source.assets[asset].content(asset))


@pytest.mark.parametrize("directive", ["no-cache", "no-store", "max-age=0", "min-fresh=99999"])
async def test_client_cannot_force_a_fetch(directive: str, edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    await fill(edge, asset)
    headers = [("Cache-Control", directive), ("Pragma", "no-cache")]
    assert (await edge.get(asset, headers)).cache == "hit"
    assert source.count(asset) == 1


async def test_loop_is_answered_and_a_hit_is_served_all_the_same(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    loop = [("CDN-Loop", "other, edge-1; x=y")]
    assert_error(await edge.get(asset, loop), 502, "loop_detected")
    assert source.requests == []
    await fill(edge, asset)
    reply = await edge.get(asset, loop)
    assert (reply.status, reply.cache, reply.body) == (200, "hit", source.assets[asset].content(asset))


# --- statuses of sources ---


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "not_found"), (410, "gone"), (421, "misdirected_request")]
)
async def test_negative_answer_is_remembered(
    status: int, kind: str, edge: Edge, source: Source, asset: str
) -> None:
    source.fault(asset, Fault(status=status, body=b"secret http://internal:1/"))
    for _ in range(3):
        assert_error(await edge.get(asset), status, kind)
    assert (await edge.head(asset)).status == status
    assert source.count(asset, None) == 1


async def test_negative_answer_is_forgotten_after_its_explicit_lifetime(
    edge: Edge, source: Source, asset: str
) -> None:
    source.fault(asset, Fault(status=404, headers=[("Cache-Control", "max-age=0")]), on=1)
    source.add(asset, N)
    assert (await edge.get(asset)).status == 404
    assert (await edge.get(asset)).body == source.assets[asset].content(asset)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_5xx_is_asked_twice_and_never_remembered(
    status: int, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    source.fault(asset, Fault(status=status, headers=[("Retry-After", "7")]), on=range(1, 3))
    reply = await edge.get(asset)
    if status == 503:
        assert_error(reply, 503, "unavailable")
        assert 1 <= int(reply["Retry-After"] or "") <= 3600
    else:
        assert_error(reply, 502, "bad_gateway")
    assert source.count(asset) == 2
    assert (await edge.get(asset)).body == source.assets[asset].content(asset)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 403, 418, 429])
async def test_any_other_status_is_502_and_redirects_are_not_followed(
    status: int, edge: Edge, source: Source, asset: str
) -> None:
    source.fault(asset, Fault(status=status, headers=[("Location", source.url.replace("{id}", "elsewhere"))]))
    assert_error(await edge.get(asset), 502, "bad_gateway")
    assert source.count("elsewhere", None) == 0
    assert source.count(asset) == 1  # it was an answer: a second round is for 5xx and silence


@pytest.mark.parametrize("head", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100], ids=repr)
async def test_garbage_from_the_source_is_502(head: bytes, edge: Edge, source: Source, asset: str) -> None:
    source.fault(asset, Fault(head=head))
    assert_error(await edge.get(asset), 502, "bad_gateway")


async def test_no_connection_is_502_or_504_within_two_rounds(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source)
        await source.stop()
        reply = await edge.get("a.mp4")
        assert reply.status in (502, 504)
        assert_error(reply, reply.status, {502: "bad_gateway", 504: "gateway_timeout"}[reply.status])


async def test_silence_before_the_head_is_504(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, origin__stall_timeout="200ms")
        source.fault("a.mp4", Fault(gate=asyncio.Event()))
        assert_error(await edge.get("a.mp4"), 504, "gateway_timeout")
        assert source.count("a.mp4") == 2


async def test_too_many_fetches_waiting_is_503_with_retry_after(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, limits__max_fetches=1, limits__max_waiting_fetches=1)
        gate = asyncio.Event()
        source.fault(None, Fault(gate=gate))
        for name in "abc":
            source.add(name, N)
        first = asyncio.create_task(edge.get("a"))
        await source.until(lambda: source.count("a") == 1)
        second = asyncio.create_task(edge.get("b"))

        async def waiting() -> bool:
            return await edge.metric("fetches_waiting") >= 1

        await edge.until(waiting)
        reply = await edge.get("c")
        assert_error(reply, 503, "unavailable")
        assert 1 <= int(reply["Retry-After"] or "") <= 3600
        gate.set()
        assert (await first).body == source.assets["a"].content("a")
        assert (await second).body == source.assets["b"].content("b")


# --- buckets ---


async def test_bucket_not_served_is_421_before_anything_stored_is_used(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, buckets=["mine"])
        source.add("a", N, headers=[("X-Distribution-Bucket", "mine")])
        source.add("b", N, headers=[("X-Distribution-Bucket", "theirs")])
        source.add("c", N)
        mine = await edge.get("a")
        assert (mine.status, mine["X-Distribution-Bucket"]) == (200, "mine")
        for name in ("b", "c"):
            assert_error(await edge.get(name), 421, "misdirected_request")
        await edge.idle()
        code, document = await edge.operate("POST", "/set-buckets", {"buckets": ["theirs"]})
        assert (code, document) == (200, {"bucketIds": ["theirs"]})
        for headers in ([], [("If-None-Match", "*")], [("Range", "bytes=0-0")], ONLY_IF_CACHED):
            assert_error(await edge.get("a", headers), 421, "misdirected_request")
        assert (await edge.head("a")).status == 421
        reply = await edge.get("b")
        assert (reply.status, reply.body) == (200, source.assets["b"].content("b"))


async def test_bucket_decides_before_preconditions_and_ranges_of_a_cold_asset(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, buckets=["mine"])
        add(source, "x", "hit", N)
        assert (await edge.get("x", [("If-None-Match", "*")])).status == 421
        assert (await edge.get("y", [("Range", "bytes=99999999-")])).status == 404
