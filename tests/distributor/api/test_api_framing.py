"""What a connection makes of octets, well framed or not (RFC 9112), over real sockets."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from distributor.api.protocol import ServerLimits
from tests.support.front import Front, whole
from tests.support.wire import Wire, ask, raw

H = b"Host: edge\r\n"
END = b"\r\n\r\n"

MALFORMED = {
    "content-length and transfer-encoding": b"GET /status HTTP/1.1\r\n"
    + H
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    "differing content-lengths": b"GET /status HTTP/1.1\r\n"
    + H
    + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "signed content-length": b"POST /status HTTP/1.1\r\n" + H + b"Content-Length: +3\r\n\r\nabc",
    "endless content-length": b"GET /status HTTP/1.1\r\n"
    + H
    + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "list of content-lengths": b"GET /status HTTP/1.1\r\n" + H + b"Content-Length: 3, 3\r\n\r\nabc",
    "chunked is not last": b"GET /status HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked from HTTP/1.0": b"GET /status HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET /status HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "second host": b"GET /status HTTP/1.1\r\n" + H + H + b"\r\n",
    "host that is none": b"GET /status HTTP/1.1\r\nHost: a b\r\n\r\n",
    "obs-fold": b"GET /status HTTP/1.1\r\n" + H + b"A: b\r\n c\r\n\r\n",
    "obs-fold with a tab": b"GET /status HTTP/1.1\r\n" + H + b"A: b\r\n\tc\r\n\r\n",
    "space before the colon": b"GET /status HTTP/1.1\r\nHost : edge\r\n\r\n",
    "space in a name": b"GET /status HTTP/1.1\r\n" + H + b"a b: c\r\n\r\n",
    "empty name": b"GET /status HTTP/1.1\r\n" + H + b": c\r\n\r\n",
    "no colon": b"GET /status HTTP/1.1\r\n" + H + b"abc\r\n\r\n",
    "NUL in a value": b"GET /status HTTP/1.1\r\n" + H + b"A: b\0c\r\n\r\n",
    "NUL in the target": b"GET /status\0 HTTP/1.1\r\n" + H + b"\r\n",
    "control in the target": b"GET /assets/a\x01 HTTP/1.1\r\n" + H + b"\r\n",
    "bare LF": b"GET /status HTTP/1.1\nHost: edge\n\n",
    "bare LF between fields": b"GET /status HTTP/1.1\r\nHost: edge\nA: b\r\n\r\n",
    "bare CR in a value": b"GET /status HTTP/1.1\r\n" + H + b"A: b\rc\r\n\r\n",
    "20,000 octets in a field": b"GET /status HTTP/1.1\r\n" + H + b"A: " + b"x" * 20_000 + END,
    "20,000 octets in the target": b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n" + H + b"\r\n",
    "too many fields": b"GET /status HTTP/1.1\r\n" + H + b"A: b\r\n" * 200 + b"\r\n",
    "a head without end": b"GET /status HTTP/1.1\r\n" + H + (b"A: " + b"x" * 1000 + b"\r\n") * 70,
    "HTTP/0.9": b"GET /status\r\n\r\n",
    "HTTP/2.0": b"GET /status HTTP/2.0\r\n" + H + b"\r\n",
    "HTTP/1.2": b"GET /status HTTP/1.2\r\n" + H + b"\r\n",
    "lower-case version": b"GET /status http/1.1\r\n" + H + b"\r\n",
    "two spaces": b"GET  /status HTTP/1.1\r\n" + H + b"\r\n",
    "space in the target": b"GET /assets/a b HTTP/1.1\r\n" + H + b"\r\n",
    "trailing space": b"GET /status HTTP/1.1 \r\n" + H + b"\r\n",
    "no origin-form": b"GET status HTTP/1.1\r\n" + H + b"\r\n",
    "absolute-form without authority": b"GET http:///status HTTP/1.1\r\n" + H + b"\r\n",
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + bytes(20),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_framing_is_400_in_json_and_the_connection_ends(octets: bytes) -> None:
    async with Front() as front:
        got = await raw(front.port, octets)
        head, _, body = got.partition(END)
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert json.loads(body) == {"type": "bad_request", "message": "The request is malformed."}
        fields = {line.split(b":")[0].lower(): line.split(b": ", 1)[1] for line in head.split(b"\r\n")[1:]}
        assert fields[b"content-type"] == b"application/json"
        assert fields[b"cache-control"] == b"no-store"
        assert fields[b"content-length"] == str(len(body)).encode()
        assert fields[b"connection"] == b"close"
        assert fields[b"access-control-allow-origin"] == b"*"
        assert front.observer.refused == ["bad_request"]
        await front.until(lambda: front.observer.open == 0)


@pytest.mark.parametrize(
    "target",
    ["http://other.example/status", "http://other.example:99/api/v1/status?x", "https://h/status"],
)
async def test_of_an_absolute_form_target_only_path_and_query_are_used(target: str) -> None:
    async with Front() as front:
        reply = await ask(front.port, target)  # RFC 9112 §3.2.2
        assert (reply.status, json.loads(reply.body)["id"]) == (200, "edge-1")


@pytest.mark.parametrize("method", ["PURGE", "get", "Get", "FOO", "POST", "PUT", "CONNECT", "TRACE"])
async def test_other_methods_are_405_on_known_paths_and_404_elsewhere(method: str) -> None:
    async with Front() as front, Wire(front.port) as wire:
        for target in ("/status", "/api/v1/buckets", "/assets/a", "/metrics", "/healthz"):
            reply = await wire.get(target, method)
            assert (reply.status, reply["Allow"]) == (405, "GET, HEAD, OPTIONS"), target
            assert json.loads(reply.body)["type"] == "method_not_allowed"
        for target in ("/status/", "/assets", "/assets/", "/Status", "/api/v1/healthz", "/"):
            assert (await wire.get(target, method)).status == 404, target
        assert not front.edge.asked


async def test_requests_sent_in_one_go_are_answered_in_order() -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: whole(b"first")
        front.edge.answers["b"] = lambda _: whole(b"second")
        got = await raw(
            front.port,
            b"GET /assets/a HTTP/1.1\r\n" + H + b"\r\n"
            b"HEAD /assets/b HTTP/1.1\r\n" + H + b"\r\n"
            b"FOO /status HTTP/1.1\r\n" + H + b"\r\n"
            b"GET /assets/b HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n"
            b"GET /assets/a HTTP/1.1\r\n" + H + b"\r\n",
        )
        assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"200", b"200", b"405", b"200"]
        assert got.count(b"first") == 1
        assert got.endswith(b"\r\n\r\nsecond")


async def test_what_follows_a_good_request_and_is_none_does_not_cost_the_good_one_its_answer() -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: whole(b"first")
        got = await raw(front.port, b"GET /assets/a HTTP/1.1\r\n" + H + b"\r\n" + b"\x00\x01\x02garbage")
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"first" in got and b"HTTP/1.1 400 Bad Request" in got


async def test_a_head_may_come_octet_by_octet() -> None:
    async with Front() as front, Wire(front.port) as wire:
        for octet in b"\r\nGET /healthz HTTP/1.1\r\nHost: edge\r\n\r\n":
            wire.send(bytes([octet]))
            await asyncio.sleep(0)
        await wire.head()
        assert (await wire.rest()).body == b'{"status":"ok"}'


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 5\r\n\r\nabcde", b"Content-Length: 0\r\n\r\n"],
    ids=["five octets", "none"],
)
async def test_a_body_on_get_is_read_past_and_never_taken_for_a_request(body: bytes) -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        request = b"GET /assets/a HTTP/1.1\r\n" + H + body
        async with Wire(front.port) as wire:
            wire.send(request + request)
            for _ in range(2):
                await wire.head()
                assert (await wire.rest()).body == b"bytes"


async def test_a_chunked_body_on_get_ends_the_connection_after_the_answer() -> None:
    smuggled = b"GET /assets/b HTTP/1.1\r\n" + H + b"\r\n"
    async with Front() as front:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        got = await raw(
            front.port,
            b"GET /assets/a HTTP/1.1\r\n"
            + H
            + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            + smuggled,
        )
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert got.endswith(b"bytes")
        assert b"Connection: close" in got
        assert [request.asset_id for request in front.edge.asked] == ["a"]


async def test_a_large_body_on_get_is_not_waited_for() -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        wire.send(b"GET /assets/a HTTP/1.1\r\n" + H + b"Content-Length: 1000000000\r\n\r\n" + b"x" * 100_000)
        assert (await wire.head())["Connection"] == "close"
        assert (await wire.rest()).body == b"bytes"
        await front.until(lambda: front.observer.open == 0)


async def test_a_client_that_closes_its_half_still_gets_its_answer() -> None:
    async with Front() as front, Wire(front.port) as wire:
        gate = asyncio.Event()

        async def later(_: object) -> object:
            await gate.wait()
            return whole(b"x" * 300_000)

        front.edge.answers["a"] = later  # type: ignore[assignment]
        wire.send(b"GET /assets/a HTTP/1.1\r\n" + H + b"\r\n")
        wire.writer.write_eof()
        await front.until(lambda: front.edge.asked)
        gate.set()
        await wire.head()
        assert (await wire.rest()).size == 300_000


async def test_http_1_0_is_answered_and_closed_unless_it_asks_to_keep_alive() -> None:
    async with Front() as front:
        assert b"Connection: close" in await raw(front.port, b"GET /status HTTP/1.0\r\n\r\n")
        async with Wire(front.port) as wire:
            for _ in range(2):
                wire.send(b"GET /status HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert (await wire.head())["Connection"] == "keep-alive"
                await wire.rest()


@pytest.mark.parametrize("target", ["/status", "/nothing", "/assets/none", "/assets/a"])
async def test_connection_close_is_honoured_after_every_status(target: str) -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        await wire.request(target, headers=[("Connection", "close")])
        assert (await wire.head())["Connection"] == "close"
        await wire.rest()
        assert await wire.closed() == b""


# Deadlines and bounds

SHORT = ServerLimits(max_clients=2, header_timeout=0.2, idle_timeout=0.4, min_send_rate=0)


async def test_a_head_that_does_not_come_to_its_end_is_408_and_close() -> None:
    async with Front(SHORT) as front:
        got = await raw(front.port, b"GET /status HTTP/1.1\r\nHost: ed")
        assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert got.endswith(b'{"type":"request_timeout","message":"The request did not arrive in time."}')
        assert front.observer.refused == ["header_timeout"]


async def test_octets_that_trickle_in_do_not_put_the_deadline_of_a_head_off() -> None:
    async with Front(SHORT) as front, Wire(front.port) as wire:
        wire.send(b"GET /status HTTP/1.1\r\n")

        async def trickle() -> None:
            while True:
                wire.send(b"A: b\r\n")
                await asyncio.sleep(0.02)

        task = asyncio.create_task(trickle())
        assert (await wire.head()).status == 408
        task.cancel()


async def test_idle_connections_are_closed_without_a_word() -> None:
    async with Front(SHORT) as front:
        async with Wire(front.port) as wire:
            assert await wire.closed() == b""
        async with Wire(front.port) as wire:
            await wire.get("/status")
            assert await wire.closed() == b""


async def test_connections_past_the_limit_are_503_with_retry_after_and_end() -> None:
    async with Front(ServerLimits(max_clients=2)) as front:
        async with Wire(front.port) as one, Wire(front.port) as two:
            await one.get("/status")
            await two.get("/status")
            async with Wire(front.port) as third:
                reply = await third.head()
                assert (reply.status, reply["Retry-After"], reply["Connection"]) == (503, "1", "close")
                assert json.loads((await third.rest()).body)["type"] == "unavailable"
                assert await third.closed() == b""
            assert front.observer.refused == ["limit"]
            assert (await one.get("/status")).status == 200
        await front.until(lambda: front.observer.open == 0)
        assert (await ask(front.port, "/status")).status == 200


async def test_while_draining_every_answer_closes_its_connection() -> None:
    async with Front() as front, Wire(front.port) as wire:
        await wire.get("/status")
        front.server.draining = True
        reply = await wire.get("/status")
        assert (reply.status, reply["Connection"]) == (200, "close")
        assert await wire.closed() == b""
