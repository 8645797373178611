"""The body of one request: where it ends, and at most `limit` of its bytes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from distributor.api.head import BadHead
from distributor.api.messages import BodyTooLarge

__all__ = ["RequestBody"]

log = logging.getLogger(__name__)


class _Parser(Protocol):
    def feed_data(self, data: bytes, /) -> Any: ...


class _Payload(Protocol):
    def read_nowait(self, n: int = -1) -> bytes: ...
    def is_eof(self) -> bool: ...


class RequestBody:
    """Takes the octets that follow a head, through aiohttp's parser.

    length  declared bytes; None: chunked
    limit   most bytes ever held; 0: the body is of no interest and is dropped as it comes
    over    the last octet has come, or the body is malformed
    """

    def __init__(self, parser: _Parser, payload: _Payload, length: int | None, limit: int) -> None:
        self.length = length
        self.over = False
        self._parser = parser
        self._payload = payload
        self._left = length
        self._limit = limit
        self._held = bytearray()
        self._too_large = length is not None and length > limit
        self._bad = False
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what follows it.

        What follows a chunked body has been through the parser and is lost: the caller ends the
        connection after the answer.
        """
        rest = b""
        if self._left is not None:
            data, rest = data[: self._left], data[self._left :]
            self._left -= len(data)
        try:
            self._parser.feed_data(data)
            got = self._payload.read_nowait()
        except Exception as error:
            log.debug("malformed request body: %s", type(error).__name__)
            self._bad = self.over = True
        else:
            self._hold(got)
            self.over = self._payload.is_eof()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return rest

    def _hold(self, got: bytes) -> None:
        if self._too_large or len(self._held) + len(got) > self._limit:
            self._too_large = True
            self._held.clear()
        else:
            self._held += got

    async def read(self) -> bytes:
        """Return the whole. Raises BodyTooLarge, at once where the length is declared, or BadHead."""
        while not (self.over or self._too_large):
            await self._more()
        if self._bad:
            raise BadHead("request body")
        if self._too_large:
            raise BodyTooLarge
        return bytes(self._held)

    async def wait_over(self) -> bool:
        """Wait for the end; False: it is malformed, so nothing after it can be trusted."""
        while not self.over:
            await self._more()
        return not self._bad

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
