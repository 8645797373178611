"""Connections: what stock aiohttp lacks for uploads, half-closed clients and time limits.

    waiting ──octets──▶ head ──whole──▶ in hand ──answered──▶ waiting …
       │                 │                │
       └── idle_timeout ─┴ header_timeout ┴ stalled body, or a client that does not read ──▶ closed

Half-close. aiohttp 3.14 answers `eof_received` with a false value, the loop closes the transport, and
a client that shuts down its sending side after a short body hears nothing, nor does one that does so
after a whole one. Here a connection with a request in hand stays open for sending: an incomplete
payload fails with IncompleteBody, which becomes a 400, and after the answer the connection closes.

Leans on names of aiohttp that are not public (`_messages`, `_current_request`, `_waiter`, `_close`,
`_reading_paused`, `_handle_request`): the minor version is pinned, tests/origin/test_protocol.py holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from origin.domain.model import ANONYMOUS, Caller
from origin.errors import IncompleteBody
from origin.services.limits import Left

log = logging.getLogger("origin.http")

MAX_TARGET = 64 * 1024  # a path of 4096 octets may be written with three octets each, and has a query
MAX_FIELD = 32 * 1024
READ_BUFFER = 256 * 1024
_STALLED = "no byte of the body came for too long"


class ServerLimits(NamedTuple):
    """Seconds, but max_clients (connections) and max_document (bytes that `request.read` takes)."""

    max_clients: int = 1000
    header_timeout: float = 10.0
    idle_timeout: float = 75.0
    max_document: int = 16 << 20


class Done(Protocol):
    """Called once an answer is sent, or has failed to be; seconds since the head was whole."""

    def __call__(self, request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None: ...


Answerer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Prepare = Callable[[web.Request, web.StreamResponse], None]
Problem = Callable[[int, str], web.Response]


class OriginRequest(web.Request):
    """As aiohttp's, but that the server has a last look at an answer's fields.

    began            monotonic seconds when the head was whole
    answer_expected  "100-continue" was sent, and neither it nor an answer to it has gone out
    id               of the request, for logs and X-Request-Id
    dialect          that answers; caller: who asks, once known
    left             of the caller's limit on requests; None: not limited
    """

    ATTRS = web.Request.ATTRS | {"server", "began", "answer_expected", "id", "dialect", "caller", "left"}

    server: OriginServer
    began: float
    answer_expected: bool
    id = ""
    dialect = "none"
    caller: Caller = ANONYMOUS
    left: Left | None = None

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        self.server.prepare(self, response)


class OriginServer(web.Server):
    """All connections of the origin.

    answer   makes the response to a request; raises nothing
    prepare  adds to the fields of every answer, just before they are sent
    problem  makes the answer to what is no request: (status, sentence)
    """

    def __init__(
        self, answer: Answerer, *, prepare: Prepare, problem: Problem, done: Done, limits: ServerLimits
    ) -> None:
        super().__init__(answer, request_factory=self._request)  # type: ignore[arg-type]
        self.prepare = prepare
        self.problem = problem
        self.done = done
        self.limits = limits
        self.open: set[OriginProtocol] = set()
        self.draining = False
        self._quiet = asyncio.Event()
        shortest = min(limits.header_timeout, limits.idle_timeout)
        self._interval = min(1.0, max(shortest / 4, 0.02))
        self._sweeper: asyncio.TimerHandle | None = None

    def __call__(self) -> RequestHandler:
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._interval, self._sweep)
        return OriginProtocol(
            self,
            loop=self._loop,
            keepalive_timeout=self.limits.idle_timeout,
            access_log=None,
            logger=log,
            max_line_size=MAX_TARGET,
            max_field_size=MAX_FIELD,
            read_bufsize=READ_BUFFER,
            auto_decompress=False,  # stored are the octets that were sent
            lingering_time=10.0,
        )

    def _request(
        self,
        message: Any,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: Any,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        request = OriginRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=self.limits.max_document
        )
        request.server = self
        request.began = time.monotonic()
        request.answer_expected = "100-continue" in request.headers.get("Expect", "").lower()
        if isinstance(protocol, OriginProtocol):
            protocol.taken(payload)
        return request

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.open):
            connection.sweep(now)
        self._sweeper = self._loop.call_later(self._interval, self._sweep)

    async def drain(self, seconds: float) -> None:
        """Close what is idle, and wait until no request is in hand, at most so long.

        aiohttp's own shutdown stops reading at once, and so breaks every upload under way.
        """
        self.draining = True
        self.pre_shutdown()
        self.settled()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()

    def settled(self) -> None:
        """A request has been answered."""
        if self.draining and not any(connection.in_hand for connection in self.open):
            self._quiet.set()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's name
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        await super().shutdown(timeout)


class OriginProtocol(RequestHandler):
    __slots__ = (
        "_head_since",
        "_heard",
        "_limits",
        "_payload",
        "_pending",
        "_server",
        "_unread",
        "half_closed",
    )

    def __init__(self, server: OriginServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._limits = server.limits
        self._payload: StreamReader | None = None  # of the request in hand
        self._head_since: float | None = None  # when the first octet of an unfinished head came
        self._heard = time.monotonic()  # when octets last came
        self._pending = 0  # octets in the transport's write buffer at the last look ...
        self._unread = self._heard  # ... and when fewer were last seen
        self.half_closed = False

    # --- a request's life -------------------------------------------------------------------------

    def taken(self, payload: StreamReader) -> None:
        """A request came out of the parser's queue."""
        self._payload = payload

    async def _handle_request(self, *args: Any) -> Any:
        try:
            return await super()._handle_request(*args)
        finally:
            self._payload = None
            if (self.half_closed or self._server.draining) and not self._messages:
                self._close = True
            self._server.settled()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(request, OriginRequest) and request.answer_expected:
            # The client waits for leave to send its body, and got an answer instead.
            self._lingering_time = 0.0
            if not resp.prepared:
                resp.force_close()
        began = getattr(request, "began", time.monotonic())
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._server.done(request, resp, time.monotonic() - began)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was under way")
        if status == 500:
            log.error("a request failed", exc_info=exc)
        text = "the request failed here" if status >= 500 else "this is not a request that can be read"
        response = self._server.problem(status, text)
        response.force_close()
        return response

    @property
    def in_hand(self) -> bool:
        """A request is being answered, or is about to be."""
        return self._payload is not None or bool(self._messages) or self._current_request is not None

    # --- the transport's calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._heard = self._unread = time.monotonic()
        self._head_since = self._heard
        self._server.open.add(self)
        if len(self._server.open) > self._limits.max_clients and self.transport is not None:
            self.transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
                b"Connection: close\r\n\r\n"
            )
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.open.discard(self)
        super().connection_lost(exc)
        self._server.settled()

    def close(self) -> None:
        if self._payload is not None and not self._payload.is_eof():
            return  # a closing connection reads no more: wait for the rest of the body
        super().close()

    def data_received(self, data: bytes) -> None:
        if data:
            self._heard = time.monotonic()
        super().data_received(data)
        if self.in_hand:
            self._head_since = None
        elif data and self._head_since is None:
            self._head_since = self._heard

    def eof_received(self) -> bool | None:  # type: ignore[override]
        if self._close or self._force_close or not self.in_hand:
            return None
        self.half_closed = True
        self._fail_payloads("the body ended before its declared length")
        return True

    def _fail_payloads(self, reason: str) -> None:
        payloads = [payload for _, payload in self._messages]
        if self._payload is not None:
            payloads.append(self._payload)
        for payload in payloads:
            if not payload.is_eof():
                payload.set_exception(IncompleteBody(reason))
                payload.feed_eof()  # so that nobody waits for the rest of it
                self.half_closed = True  # what would follow cannot be found any more

    # --- deadlines --------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        if self.transport is None:
            return
        if not self.in_hand and self._head_since is not None:
            if now - self._head_since > self._limits.header_timeout:
                self._time_out_head()
            return
        payload = self._payload
        if (
            payload is not None
            and not payload.is_eof()
            and not self._reading_paused  # it is we who do not read
            and not self._buffer_paused
            and now - self._heard > self._limits.idle_timeout
        ):
            self._fail_payloads(_STALLED)
        pending = self.transport.get_write_buffer_size()
        if not pending or pending < self._pending:
            self._unread = now
        elif now - self._unread > self._limits.idle_timeout:
            self.transport.abort()
        self._pending = pending

    def _time_out_head(self) -> None:
        if self.transport is not None and self._request_count == 0 and self._heard > (self._head_since or 0):
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        self.force_close()
