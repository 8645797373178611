"""Connections: short bodies, half-closed clients, stalls, and clients that wait for leave to send."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp.web_protocol import RequestHandler

from tests.support.origin_service import Service, basic, running_origin

AUTH = b"Authorization: " + basic().encode() + b"\r\n"


def put(length: int | None, *, path: str = "torn", extra: bytes = b"") -> bytes:
    framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    target = f"/content/media/{path}".encode()
    return b"PUT " + target + b" HTTP/1.1\r\nHost: x\r\n" + AUTH + framing + extra + b"\r\n"


@pytest.mark.parametrize("size", [0, 10, 200_000], ids=lambda n: f"{n} octets")
async def test_short_body_and_half_close_is_400_and_leaves_nothing(service: Service, size: int) -> None:
    answer = await service.exchange(put(1_000_000) + b"x" * size, half_close=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert service.on_disk() == {}
    assert (await service("GET", "/content/media/torn")).status == 404


async def test_short_body_leaves_the_former_bytes(service: Service) -> None:
    await service.put("media/torn", b"whole")
    await service.exchange(put(1000) + b"y" * 10, half_close=True)
    reply = await service("GET", "/content/media/torn")
    assert reply.body == b"whole"
    assert service.on_disk() == {"torn": b"whole"}


async def test_chunked_body_without_its_end_is_400(service: Service) -> None:
    answer = await service.exchange(put(None) + b"5\r\nhello\r\n", half_close=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert service.on_disk() == {}


async def test_broken_chunk_leaves_nothing(service: Service) -> None:
    answer = await service.exchange(put(None) + b"5\r\nhello\r\nZZ\r\n", half_close=True)
    assert b" 201 " not in answer
    assert service.on_disk() == {}


@pytest.mark.parametrize("size", [13, 300_000])
async def test_whole_body_and_half_close_is_201(service: Service, size: int) -> None:
    answer = await service.exchange(put(size) + b"z" * size, half_close=True)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert service.on_disk() == {"torn": b"z" * size}


async def test_get_and_half_close_is_answered_whole(service: Service) -> None:
    body = b"m" * 3_000_000
    await service.put("media/a", body)
    answer = await service.exchange(b"GET /content/media/a HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True)
    assert answer.endswith(b"\r\n\r\n" + body)


async def test_two_pipelined_requests_and_half_close_are_both_answered(service: Service) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await service.exchange(one + one, half_close=True)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_client_that_resets_mid_body_leaves_nothing(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(put(10_000_000) + b"x" * 900_000)
    await writer.drain()
    async with asyncio.timeout(10):
        while not service.on_disk():
            await asyncio.sleep(0.01)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.close()
    async with asyncio.timeout(10):
        while service.on_disk():
            await asyncio.sleep(0.01)
    assert reader is not None


async def test_body_that_stalls_is_400_after_the_idle_timeout(tmp_path: Path) -> None:
    async with running_origin(tmp_path, limits={"idle_timeout": "300ms"}) as service:
        answer = await service.exchange(put(1000) + b"x" * 10)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert service.on_disk() == {}


async def test_head_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    async with running_origin(tmp_path, limits={"header_timeout": "200ms"}) as service:
        assert await service.exchange(b"") == b""
        assert b" 200 " not in await service.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")


async def test_idle_connection_is_closed_after_the_idle_timeout(tmp_path: Path) -> None:
    async with running_origin(tmp_path, limits={"idle_timeout": "200ms"}) as service:
        answer = await service.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200") == 1


async def test_client_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    async with running_origin(tmp_path, limits={"idle_timeout": "300ms"}) as service:
        # Not uploaded: a busy machine may itself be slower than this idle timeout.
        (tmp_path / "media" / "big").write_bytes(b"b" * 30_000_000)
        await service.services.files.create(await service.admin(), "VX-1", "big")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", service.port))
        await loop.sock_sendall(sock, b"GET /content/media/big HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            while service.origin._count_connections() < 1:
                await asyncio.sleep(0.01)
            while service.origin._count_connections() > 0:
                await asyncio.sleep(0.02)
        sock.close()


async def test_more_connections_than_max_clients_are_503(tmp_path: Path) -> None:
    async with running_origin(tmp_path, limits={"max_clients": 1}) as service:
        first = await asyncio.open_connection("127.0.0.1", service.port)
        first[1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await first[0].readline()).startswith(b"HTTP/1.1 200")
        assert (await service.exchange(b"")).startswith(b"HTTP/1.1 503 ")
        first[1].close()


async def test_leave_to_send_is_given_once_and_only_when_the_body_is_wanted(service: Service) -> None:
    # RFC 9110 §10.1.1
    expect = b"Expect: 100-continue\r\n"
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(put(3, extra=expect))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
        writer.close()
    refused = await service.exchange(put(3, extra=expect).replace(AUTH, b""))
    assert refused.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nConnection: close\r\n" in refused


async def test_what_is_no_http_gets_400_without_a_traceback(service: Service) -> None:
    answer = await service.exchange(b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b"Traceback" not in answer
    assert b'{"messages":' in answer


async def test_content_coding_of_an_upload_is_stored_as_sent(service: Service) -> None:
    import gzip

    packed = gzip.compress(b"text " * 100)
    await service.put("media/a.gz", packed, **{"Content-Encoding": "gzip"})
    assert service.on_disk() == {"a.gz": packed}


PRIVATE = """
_messages _current_request _waiter _close _force_close _handle_request handle_error
_reading_paused _buffer_paused _request_count _lingering_time finish_response
"""


@pytest.mark.parametrize("name", PRIVATE.split())
def test_aiohttp_still_has_the_private_name(name: str) -> None:
    assert hasattr(RequestHandler, name)
