"""What the edge takes from inside aiohttp. When this fails, read its changes before raising the pin."""

from __future__ import annotations

import asyncio
import inspect

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web_protocol import RequestHandler


def test_the_minor_version_is_the_one_that_was_read() -> None:
    assert aiohttp.__version__.startswith("3.14.")


def test_the_parser_is_the_one_in_c() -> None:
    assert HttpRequestParser.__module__ == "aiohttp._http_parser"


@pytest.mark.parametrize(
    "name",
    [
        "_buffer_paused",
        "_close",
        "_force_close",
        "_parser",
        "_paused",
        "_task_handler",
        "transport",
    ],
)
def test_the_attributes_used_are_slots_of_the_request_handler(name: str) -> None:
    assert hasattr(RequestHandler, name)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (BaseProtocol, "_drain_helper"),
        (BaseProtocol, "_pause_reading_for_buffer"),
        (BaseProtocol, "_resume_reading_for_buffer"),
        (BaseProtocol, "pause_reading"),
        (BaseProtocol, "resume_reading"),
        (RequestHandler, "start"),
        (RequestHandler, "data_received"),
        (RequestHandler, "eof_received"),
        (RequestHandler, "force_close"),
    ],
)
def test_the_methods_used_or_replaced_are_there(owner: type, name: str) -> None:
    assert callable(getattr(owner, name))


def test_the_request_loop_is_begun_by_connection_made_and_ended_by_connection_lost() -> None:
    assert "self.start()" in inspect.getsource(RequestHandler.connection_made)
    assert "handler_cancellation" in inspect.getsource(RequestHandler.connection_lost)


async def test_the_parser_gives_one_message_with_its_payload_for_one_head() -> None:
    parser = HttpRequestParser(BaseProtocol(asyncio.get_running_loop()), asyncio.get_running_loop(), 65536)
    octets = b"POST /a?b HTTP/1.1\r\nHost: edge\r\nContent-Length: 3\r\n\r\n"
    messages, upgraded, tail = parser.feed_data(octets)
    assert len(messages) == 1 and not upgraded and tail == b""
    message, payload = messages[0]
    assert message.raw_headers == ((b"Host", b"edge"), (b"Content-Length", b"3"))
    assert not payload.is_eof()
    parser.feed_data(b"abc")
    assert payload.is_eof() and payload.read_nowait() == b"abc"
