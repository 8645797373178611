"""One client connection: its requests in order, its deadlines, its end.

    FRESH ──first octet──▶ HEAD ──head whole──▶ ANSWERING ──▶ IDLE ──▶ HEAD …
      │                     │                       │           │
      └─────────────────────┴──────── LINGERING ◀───┴───────────┘ ──▶ closed

aiohttp's RequestHandler gives the transport, the parser, back-pressure and the bookkeeping of the
server. Its request loop is replaced: one head at a time is parsed (see head.py), and no task, timer
or request object is made per request. Deadlines are numbers that one sweeper looks at.

`EdgeServer.shortcut` is the seam for answers that need none of this: it sees the octets of an idle
connection first and says whether it has answered them.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import re
import socket
import struct
import sys
import termios
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple, cast

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler

from distributor.api.body import RequestBody
from distributor.api.errors import BAD_REQUEST, REQUEST_TIMEOUT, TOO_MANY_CLIENTS, Problem
from distributor.api.head import MAX_FIELD, MAX_HEAD, BadHead, Head, find_end, read_head
from distributor.api.messages import Request
from distributor.api.meter import Meter
from distributor.http.fields import Fields
from distributor.ports import Clock, Observer

__all__ = ["UNSENT", "EdgeProtocol", "EdgeServer", "ServerLimits"]

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds without a byte to send after which a client that closed its half has left
LINGER = 2.0  # seconds for a client to read the last answer and close (RFC 9112 §9.6)
REFUSED_AT_ONCE = 1000  # connections past the limit that are given time to read why
DRAINABLE = 64 * 1024  # bytes of an unread request body that are worth keeping the connection
# Bytes that the kernel takes of an answer before it has sent them on. Measured: with more of 64 answers of a
# MiB under way the reader no longer finds what it reads in a cache.
UNSENT = 256 * 1024
_PARSER_BUFFER = 1 << 30  # bodies are taken from the parser as they come: its flow control never sets in
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds: the close is a reset
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class ServerLimits(NamedTuple):
    """Bounds of one listener; seconds, bytes a second (0: none), connections."""

    max_clients: int = 10_000
    header_timeout: float = 10.0
    idle_timeout: float = 75.0
    min_send_rate: int = 1024


class State(Enum):
    FRESH = "fresh"
    HEAD = "head"
    ANSWERING = "answering"
    IDLE = "idle"
    LINGERING = "lingering"


Answerer = Callable[[Request, "EdgeProtocol"], Awaitable[bool]]
ProblemWriter = Callable[[Problem, Fields], bytes]
Shortcut = Callable[["EdgeProtocol", bytes], bool]


class EdgeServer(web.Server):
    """The connections of one listener.

    answer     answers a request on its connection; True: the connection may go on
    problem    makes the octets of an answer to what is no request (400, 408, 503)
    listener   "public" or "operator", for the observer
    shortcut   see above; None: every request takes the ordinary way
    draining   while True every answer closes its connection
    max_body   most bytes of a request body that are ever held; 0: bodies are dropped
    admitted   connections that are open and were not refused
    """

    def __init__(
        self,
        answer: Answerer,
        problem: ProblemWriter,
        *,
        listener: str,
        limits: ServerLimits,
        observer: Observer,
        clock: Clock,
        max_body: int = 0,
    ) -> None:
        super().__init__(_never_called, handler_cancellation=True)
        self.answer = answer
        self.problem = problem
        self.listener = listener
        self.limits = limits
        self.observer = observer
        self.clock = clock
        self.max_body = max_body
        self.shortcut: Shortcut | None = None
        self.draining = False
        self.open: set[EdgeProtocol] = set()
        self.admitted = 0
        self._quiet: asyncio.Event | None = None
        shortest = min(limits.header_timeout, limits.idle_timeout)
        self._interval = min(1.0, max(shortest / 4, 0.05))
        self._sweeper: asyncio.TimerHandle | None = None

    def __call__(self) -> RequestHandler:
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._interval, self._sweep)
        return EdgeProtocol(self, loop=self._loop)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.open):
            connection.sweep(now)
        self._sweeper = self._loop.call_later(self._interval, self._sweep)

    @property
    def busy(self) -> int:
        """Connections with an answer under way."""
        return sum(connection.state is State.ANSWERING for connection in self.open)

    def close_idle(self) -> None:
        """Close what has no request under way; the others close after their answer."""
        self.draining = True
        for connection in list(self.open):
            connection.close_if_idle()

    async def wait_quiet(self, seconds: float) -> None:
        """Return when no answer is under way, at the latest after `seconds`."""
        self._quiet = asyncio.Event()
        self.settled()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), seconds)
        self._quiet = None

    def settled(self) -> None:
        """An answer is over, or a connection."""
        if self._quiet is not None and not self.busy:
            self._quiet.set()

    async def stop(self) -> None:
        """Cut what is still open and stop the sweeper."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        tasks = [connection.task for connection in self.open if connection.task is not None]
        for connection in list(self.open):
            connection.cut("shutdown")
        if tasks:
            await asyncio.wait(tasks, timeout=LINGER)


async def _never_called(_: web.BaseRequest) -> web.StreamResponse:
    raise RuntimeError("EdgeProtocol.start() replaces aiohttp's request loop")


class EdgeProtocol(RequestHandler):
    """One connection.

    descriptor   of the transport's socket; only to be written to while the transport holds nothing
    last_range   how HotTier recognised the last range asked for here
    direct       `send` of a socket of our own on the same connection, likewise; None: not opened yet
    cut_reason   why this node ended the connection amid an answer; None: the client did
    meter        bytes handed to the connection, for min_send_rate
    """

    __slots__ = (
        "_admitted",
        "_body",
        "_expects",
        "_half_closed",
        "_handed_before",
        "_keep",
        "_own_socket",
        "_quick",
        "_received",
        "_scanned",
        "_server",
        "_wake",
        "cut_reason",
        "deadline",
        "descriptor",
        "direct",
        "last_range",
        "meter",
        "peer",
        "state",
        "task",
    )

    def __init__(self, server: EdgeServer, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=0,
            access_log=cast(logging.Logger, None),
            max_line_size=MAX_FIELD,
            max_field_size=MAX_FIELD,
            read_bufsize=_PARSER_BUFFER,
            auto_decompress=False,
        )
        self._server = server
        self._admitted = False
        self._received = bytearray()
        self._scanned = 0
        self._wake: asyncio.Future[None] | None = None
        self._body: RequestBody | None = None
        self._expects = False
        self._keep = True
        self._half_closed = False
        self._handed_before = 0
        self._own_socket: socket.socket | None = None
        self._quick: Shortcut | None = None
        self.cut_reason: str | None = None
        self.deadline = math.inf
        self.meter = Meter(server.limits.min_send_rate)
        self.descriptor = -1
        self.direct: Callable[..., int] | None = None
        self.last_range: tuple[bytes, bytes, Any] | None = None
        self.peer = "-"
        self.state = State.FRESH
        self.task: asyncio.Task[None] | None = None

    # --- what the transport tells ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else "-"
        self.deadline = time.monotonic() + min(server.limits.header_timeout, server.limits.idle_timeout)
        self._admitted = server.admitted < server.limits.max_clients
        server.open.add(self)
        server.observer.connection(server.listener, 1)
        if not self._admitted:
            BaseProtocol.connection_made(self, transport)
            self._refuse(TOO_MANY_CLIENTS, "limit")
            if len(server.open) - server.admitted > REFUSED_AT_ONCE:
                self.cut()
            return
        server.admitted += 1
        super().connection_made(transport)
        self.descriptor = self.socket.fileno()
        self.task = self._task_handler

    def connection_lost(self, exc: BaseException | None) -> None:
        server = self._server
        if self in server.open:
            server.open.discard(self)
            server.admitted -= self._admitted
            server.observer.connection(server.listener, -1)
        super().connection_lost(exc)
        if self._own_socket is not None:
            self._own_socket.close()
        if self._wake is not None and not self._wake.done():
            self._wake.cancel()
        server.settled()

    def data_received(self, data: bytes) -> None:
        quick = self._quick
        if quick is not None:
            if not self._server.draining and quick(self, data):
                self.state = State.IDLE
                return
            self._quick = None
        if self.state is State.LINGERING or self._force_close:
            return
        body = self._body
        if body is not None and not body.over:
            self._received += body.feed(data)
            return
        self._received += data
        if self._wake is None:  # a request is being answered: what follows waits its turn
            if len(self._received) > MAX_HEAD:
                self._pause_reading_for_buffer()
            return
        self._look_for_head()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp always lets the transport close
        """A client may close its half and still read its answer (RFC 9112 §9.6).

        One that has left altogether looks the same until something is sent to it: see _expire.
        """
        self._half_closed = True
        self._quick = None
        self.deadline = time.monotonic() + PATIENCE
        self._handed_before = self.meter.handed
        self._keep = False
        if self._body is not None and not self._body.over:
            return False  # the rest of the body will never come
        if self.state is State.LINGERING:
            return False
        # No: nothing but part of a head has come, or nothing at all.
        return self._wake is None or self._wake.done()

    def pause_reading(self) -> None:
        """Asked by aiohttp's payloads. Bodies are taken from them as they come: there is no need."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """As pause_reading. aiohttp's own would call data_received from within data_received."""

    # --- requests in order ------------------------------------------------------------------------

    async def start(self) -> None:
        """Answer requests until the connection is to end. Cancelled when the client leaves."""
        try:
            while (request := await self._next()) is not None:
                keep = await self._server.answer(request, self)
                if not (keep and self._keep and await self._body_over()):
                    break
        except BadHead as error:
            log.debug("malformed request from %s: %s", self.peer, error)
            self._refuse(BAD_REQUEST, "bad_request")
        except ConnectionError:
            self.force_close()
        except asyncio.CancelledError:
            if self.state is not State.LINGERING:
                self.force_close()
            raise
        except Exception:
            log.exception("defect while serving a connection")
            self.force_close()
        else:
            self._linger()
        finally:
            self._server.settled()

    async def _next(self) -> Request | None:
        """Wait for a whole head. None: the connection is to end. Raises BadHead."""
        while True:
            end = find_end(self._received, self._scanned)
            if end >= 0:
                return self._begin(end)
            self._scanned = len(self._received)
            if self._half_closed or self._close or (self._server.draining and self.state is State.IDLE):
                return None
            self._expect_head()
            self._quick = None if self._received else self._server.shortcut
            self._wake = self._loop.create_future()
            self._server.settled()
            try:
                await self._wake
            finally:
                self._wake = None

    def _expect_head(self) -> None:
        now, limits = time.monotonic(), self._server.limits
        if self._received:
            if self.state is not State.HEAD:
                self.state = State.HEAD
                self.deadline = now + limits.header_timeout
        elif self.state is State.ANSWERING:
            self.state = State.IDLE
            self.deadline = now + limits.idle_timeout
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def _look_for_head(self) -> None:
        """Wake the request loop when there is something for it; else see to the deadline."""
        try:
            end = find_end(self._received, self._scanned)
        except BadHead:
            end = 0  # the loop will meet it again and refuse
        if end < 0:
            self._scanned = len(self._received)
            self._expect_head()
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _begin(self, end: int) -> Request:
        octets = bytes(self._received[:end])
        alone = end == len(self._received)
        del self._received[:end]
        self._scanned = 0
        if self._parser is None:
            raise ConnectionResetError("the client left")
        head = read_head(self._parser, octets)
        self.state = State.ANSWERING
        self.deadline = time.monotonic() + PATIENCE if self._half_closed else math.inf
        self._keep = not (head.message.should_close or self._half_closed)
        self._open_body(head)
        return self._request(head, octets if alone and self._body is None else b"")

    def _request(self, head: Head, octets: bytes) -> Request:
        target = head.target
        if not target.startswith("/") and target != "*":
            # absolute-form (RFC 9112 §3.2.2): of scheme and authority nothing is used
            rest = target.partition("://")[2]
            cut = re.search(r"[/?#]", rest)
            target = rest[cut.start() :] if cut else "/"
            if not target.startswith("/"):
                target = "/" + target
        path, mark, query = target.partition("?")
        asked = head.message.headers.get("X-Request-Id")
        return Request(
            method=head.method,
            path=path,
            query=query if mark else None,
            http10=head.http10,
            headers=head.message.headers,
            fields=tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in head.message.raw_headers),
            request_id=asked if asked and _REQUEST_ID.fullmatch(asked) else os.urandom(8).hex(),
            peer=self.peer,
            now=self._server.clock.now(),
            started=time.monotonic(),
            read_body=self.read_body,
            octets=octets,
        )

    # --- request bodies -----------------------------------------------------------------------------

    def _open_body(self, head: Head) -> None:
        if head.length == 0 or self._parser is None:
            self._body = None
            return
        self._body = RequestBody(self._parser, head.payload, head.length, self._server.max_body)
        self._expects = head.expects_continue
        if head.length is None or head.length > DRAINABLE or head.expects_continue:
            self._keep = False
        if self._received:
            begun = bytes(self._received)
            self._received.clear()
            self._received += self._body.feed(begun)

    async def read_body(self) -> bytes:
        """Return the whole request body. Raises BodyTooLarge, BadHead, TimeoutError."""
        body = self._body
        if body is None:
            return b""
        if self._expects and not body.over and self.transport is not None:
            self._expects = False
            if body.length is None or body.length <= self._server.max_body:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with asyncio.timeout(self._server.limits.header_timeout):
            return await body.read()

    async def _body_over(self) -> bool:
        """Wait for the rest of a small request body; False: the connection cannot go on."""
        body = self._body
        if body is None:
            return True
        try:
            async with asyncio.timeout(LINGER):
                sound = await body.wait_over()
        except TimeoutError:
            return False
        self._body = None
        return sound

    # --- answering ------------------------------------------------------------------------------------

    @property
    def keeps(self) -> bool:
        """Whether the connection may go on after the answer under way."""
        return self._keep and not self._server.draining

    @property
    def socket(self) -> socket.socket:
        """The socket below the transport. Raises ConnectionResetError when the client has left."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        return cast(socket.socket, transport.get_extra_info("socket"))

    def open_direct(self) -> Callable[..., int]:
        """Open `direct`: unlike a descriptor it takes flags, and costs less. Raises OSError."""
        self._own_socket = socket.socket(fileno=os.dup(self.descriptor))
        self.direct = self._own_socket.send
        return self.direct

    def write(self, data: bytes) -> None:
        """Hand `data` to the transport. Raises ConnectionResetError when the client has left."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        self.meter.hand(len(data))
        transport.write(data)

    async def drain(self) -> None:
        """Wait while the transport holds more than it should."""
        if self._paused:
            await self._drain_helper()

    async def flush(self) -> None:
        """Wait until the transport holds nothing, so that the socket may be written to directly."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        if transport.get_write_buffer_size() == 0:
            return
        transport.set_write_buffer_limits(high=0)
        try:
            await self.drain()
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits()

    def cut(self, reason: str | None = None, *, reset: bool = False) -> None:
        """End the connection now, amid what it is sending.

        reason  for the log and the metrics; None: known already
        reset   by RST: what is still queued is dropped, and no reader takes the end for a clean one
        """
        if reason is not None and self.cut_reason is None:
            self.cut_reason = reason
        transport = self.transport
        if transport is None:
            return
        if reset:
            with suppress(OSError):
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._force_close = True
        self._quick = None
        transport.abort()

    # --- deadlines and the end ------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """See to the deadline and to the rate at which the client reads."""
        if now >= self.deadline:
            self._expire()
        elif not self.meter.settled and self.meter.rate:
            self._watch_rate(now)

    def _watch_rate(self, now: float) -> None:
        if not self.meter.fast_enough(self._queued(), now):
            self._server.observer.connection_refused("slow_reader")
            self.cut("slow_reader", reset=True)

    def _queued(self) -> int:
        """Bytes handed over that the client's end has not acknowledged."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return 0
        return transport.get_write_buffer_size() + _unacknowledged(self.socket)

    def _expire(self) -> None:
        self.deadline = math.inf
        if self.state is State.ANSWERING:
            # The client has closed its half. If there was nothing to send meanwhile, nothing can have
            # told us whether it still listens: it is taken to have left.
            if self.meter.handed == self._handed_before and self._queued() == 0:
                self.cut()
                return
            self._handed_before = self.meter.handed
            self.deadline = time.monotonic() + PATIENCE
            return
        if self.state in (State.IDLE, State.LINGERING) and self._queued():
            # The client still takes its last answer; whether fast enough the meter says.
            self.deadline = time.monotonic() + LINGER
            return
        if self.state is State.HEAD:
            self._refuse(REQUEST_TIMEOUT, "header_timeout")
            return
        if self.state is State.FRESH:
            self._server.observer.connection_refused("header_timeout")
        self.force_close()

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""
        if self.state in (State.IDLE, State.FRESH):
            self.force_close()

    def _refuse(self, problem: Problem, reason: str) -> None:
        """Answer what is no request, and end the connection."""
        self._server.observer.connection_refused(reason)
        fields = (("Retry-After", "1"),) if problem.status == 503 else ()
        with suppress(ConnectionError):
            self.write(self._server.problem(problem, fields))
        self._linger()

    def _linger(self) -> None:
        """Send our end, then drop what still comes until the client has closed (RFC 9112 §9.6).

        Closing at once would answer octets still on their way with a reset, and a reset takes the
        answer from a client that has not read it yet.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.state = State.LINGERING
        self._received.clear()
        self._body = None
        self._quick = None
        if self._wake is not None and not self._wake.done():
            self._wake.cancel()
        if self._half_closed:
            transport.close()
            return
        self.deadline = time.monotonic() + LINGER
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        with suppress(OSError, RuntimeError):
            transport.write_eof()


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes in the kernel's send queue that the other end has not acknowledged."""
    try:
        count = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)
