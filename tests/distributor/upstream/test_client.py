"""One exchange with one source: what is sent, and what each way of failing is called (contract §6)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from distributor.errors import (
    BodyShort,
    SourceError,
    SourceProtocol,
    SourceStalled,
    SourceTimeout,
    SourceUnreachable,
)
from distributor.ports import Observer, SourceRequest
from distributor.upstream.client import HttpExchange, HttpSource, make_session
from tests.support.source import Fault, Source

N = 50_000
GET = SourceRequest("GET", "dir/a b.mp4")


class Client:
    """A source under test and what talks to it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.session = make_session()

    def of(self, url: str | None = None, **settings: Any) -> HttpSource:
        given = {
            "user_agent": "distributor/1",
            "connect_timeout": 5.0,
            "stall_timeout": 0.5,
            "observer": Observer(),
        }
        return HttpSource("one", url or self.source.url, self.session, **{**given, **settings})

    async def open(self, request: SourceRequest = GET, **settings: Any) -> HttpExchange:
        return await self.of(**settings).open(request)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Source() as source:
        source.add("dir/a b.mp4", N)
        made = Client(source)
        yield made
        await made.session.close()


async def rest(exchange: HttpExchange) -> bytes:
    out = b""
    while data := await exchange.read():
        out += data
    return out


async def test_only_the_contracts_fields_are_sent(client: Client) -> None:
    exchange = await client.open(GET._replace(fields=(("Via", "1.1 edge-1"),)))
    assert await rest(exchange) == client.source.assets["dir/a b.mp4"].content("dir/a b.mp4")
    exchange.close()
    seen = client.source.requests[0]
    assert seen.target == "/content/dir/a%20b.mp4"
    assert seen.headers == {
        "host": f"127.0.0.1:{client.source.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "user-agent": "distributor/1",
        "want-repr-digest": "sha-256=10",
        "via": "1.1 edge-1",
    }


@pytest.mark.parametrize(
    ("start", "stop", "field"), [(0, 1, "bytes=0-0"), (5, 9, "bytes=5-8"), (7, None, "bytes=7-")]
)
async def test_range_is_sent_with_its_condition(
    start: int, stop: int | None, field: str, client: Client
) -> None:
    tag = client.source.assets["dir/a b.mp4"].entity_tag()
    exchange = await client.open(GET._replace(start=start, stop=stop, condition=tag))
    assert exchange.status == 206
    assert await rest(exchange) == client.source.assets["dir/a b.mp4"].content("dir/a b.mp4", start, stop)
    assert (client.source.requests[0].range, client.source.requests[0].headers["if-range"]) == (field, tag)


async def test_fields_set_for_the_source_are_stronger_than_those_of_the_request(client: Client) -> None:
    request = GET._replace(fields=(("Authorization", "theirs"), ("Accept", "text/x")))
    headers = {"authorization": "ours", "User-Agent": "set"}
    (await client.open(request, headers=headers)).close()
    seen = client.source.requests[0].headers
    assert (seen["authorization"], seen["user-agent"], seen["accept"]) == ("ours", "set", "text/x")


async def test_connection_is_used_again_after_a_body_that_was_read_to_its_end(client: Client) -> None:
    for _ in range(3):
        exchange = await client.open()
        await rest(exchange)
        exchange.close()
    assert client.source.connections == 1


async def test_connection_of_a_body_that_was_dropped_is_cut(client: Client) -> None:
    client.source.add("dir/a b.mp4", 64 << 20)
    (await client.open()).close()
    async with asyncio.timeout(10):
        while not client.source.requests[0].over:
            await asyncio.sleep(0.005)
    assert client.source.requests[0].sent < 64 << 20


async def test_redirects_are_not_followed(client: Client) -> None:
    client.source.fault("dir/a b.mp4", Fault(status=302, headers=[("Location", "/content/other")]))
    exchange = await client.open()
    assert (exchange.status, len(client.source.requests)) == (302, 1)
    exchange.close()


async def test_encoded_body_is_not_decoded(client: Client) -> None:
    client.source.add("dir/a b.mp4", body=b"\x1f\x8bno gzip", headers=[("Content-Encoding", "gzip")])
    assert await rest(await client.open()) == b"\x1f\x8bno gzip"


async def test_cookies_are_not_kept(client: Client) -> None:
    client.source.add("dir/a b.mp4", 5, headers=[("Set-Cookie", "a=b")])
    for _ in range(2):
        await rest(await client.open())
    assert "cookie" not in client.source.requests[1].headers


HEADS = [
    pytest.param(Fault(drop="close"), SourceProtocol, id="closed"),
    pytest.param(Fault(drop="reset"), SourceProtocol, id="reset"),
    pytest.param(Fault(head=b"SSH-2.0-x\r\n\r\n"), SourceProtocol, id="another-protocol"),
    pytest.param(
        Fault(head=b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"), SourceProtocol, id="huge"
    ),
    pytest.param(Fault(gate=asyncio.Event()), SourceTimeout, id="silent"),
]


@pytest.mark.parametrize(("fault", "error"), HEADS)
async def test_failing_before_the_head(fault: Fault, error: type[SourceError], client: Client) -> None:
    client.source.fault("dir/a b.mp4", fault)
    with pytest.raises(error) as caught:
        await client.open()
    assert type(caught.value) is error
    assert caught.value.source == "one"
    assert str(client.source.port) not in str(caught.value)


async def test_silence_before_the_head_lasts_no_longer_than_the_stall_timeout(client: Client) -> None:
    client.source.fault("dir/a b.mp4", Fault(gate=asyncio.Event()))
    began = time.monotonic()
    with pytest.raises(SourceTimeout):
        await client.open(connect_timeout=30.0, stall_timeout=0.1)
    assert time.monotonic() - began < 10


async def test_nobody_listening_is_unreachable(client: Client) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnreachable) as caught:
            await client.open(url=f"http://127.0.0.1:{unused.getsockname()[1]}/{{id}}")
    assert "127.0.0.1" not in str(caught.value)


BODIES = [
    pytest.param({"cut_after": 20_000}, {}, BodyShort, id="cut"),
    pytest.param({"cut_after": 20_000}, {"framing": "chunked"}, BodyShort, id="cut-chunked"),
    pytest.param({"stall_after": 20_000}, {}, SourceStalled, id="stall"),
    pytest.param({"surplus": -10}, {}, BodyShort, id="short"),
]


@pytest.mark.parametrize(("fault", "made", "error"), BODIES)
async def test_failing_amid_the_body_keeps_what_came(
    fault: dict[str, Any], made: dict[str, Any], error: type[SourceError], client: Client
) -> None:
    asset = client.source.add("dir/a b.mp4", N, **made)
    client.source.fault("dir/a b.mp4", Fault(**fault))
    exchange = await client.open()
    await client.source.until(lambda: client.source.requests[0].sent >= min(20_000, N))
    got = b""
    with pytest.raises(error) as caught:
        while True:
            got += await exchange.read()
    assert type(caught.value) is error
    exchange.close()
    assert got == asset.content("dir/a b.mp4", 0, N - 10 if "surplus" in fault else 20_000)


async def test_reset_is_an_error_and_not_an_end(client: Client) -> None:
    client.source.fault("dir/a b.mp4", Fault(reset_after=20_000))
    exchange = await client.open()
    with pytest.raises(SourceError):
        await rest(exchange)
    exchange.close()


async def test_cancelled_read_loses_no_byte(client: Client) -> None:
    gate = client.source.hold("dir/a b.mp4", 1000)
    exchange = await client.open(stall_timeout=5.0)
    got = b""
    while len(got) < 1000:
        got += await exchange.read()
    reading = asyncio.create_task(exchange.read())
    await asyncio.sleep(0)
    gate.open()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert got + await rest(exchange) == client.source.assets["dir/a b.mp4"].content("dir/a b.mp4")
    exchange.close()
