"""Sending one answer: the head, then the pieces of its body, as fast as the client takes them.

Small answers go through the transport. Bodies that stream go to the socket itself, by way of a
duplicate of its descriptor that the loop may watch (it refuses to watch one that a transport owns):
bytes by send, pieces of files by sendfile, so that nothing is held in this process but the piece
at hand. A client that is slow is waited for; the connection's meter judges it meanwhile.

    whole file <= SMALL    read and sent with the head in one write
    pieces                 cold windows are read ahead in a thread, then sendfile
    a body that fails      before the head: NotBegun; after it: the connection is cut
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from http import HTTPStatus

from distributor.api.disk import WINDOW, DiskReader, Pages
from distributor.api.protocol import UNSENT, EdgeProtocol
from distributor.core.model import FileSlice
from distributor.errors import EdgeError, SourceProtocol
from distributor.ports import Body

__all__ = ["NotBegun", "Sender", "serialize_head"]

SMALL = 64 * 1024
FAIR_SHARE = 1024 * 1024  # bytes sent to one client before others get their turn

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
# As RFC 9110 has them; the standard library's are older.
_STATUS_LINES[413] = "HTTP/1.1 413 Content Too Large"
_STATUS_LINES[416] = "HTTP/1.1 416 Range Not Satisfiable"
_UNBOUNDED = 0x7FFF_FFFF
_CLIENT_GONE = (ConnectionError, TimeoutError)


class NotBegun(Exception):
    """The body failed before anything was sent: another answer can be given.

    error  what it raised
    """

    def __init__(self, error: EdgeError) -> None:
        super().__init__(str(error))
        self.error = error


def serialize_head(status: int, fields: Iterable[tuple[str, str]], common: str) -> bytes:
    """Return the head of an answer; `common` is field lines that end in CR LF.

    A character stands for one octet (ISO 8859-1): what came from a source goes out as it came in.
    Raises ValueError where a field holds CR, LF or NUL: it would be taken for something else.
    """
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} "
    lines = [line, *[f"{name}: {value}" for name, value in fields]]
    text = "\r\n".join(lines)
    ends = len(lines) - 1
    if text.count("\n") != ends or text.count("\r") != ends or "\0" in text:
        raise ValueError("a header field holds CR, LF or NUL")
    return f"{text}\r\n{common}\r\n".encode("latin-1", "replace")


class Sender:
    """Sends one answer over one connection.

    sent         body bytes handed over so far
    first_byte   monotonic time at which the head was handed over; None before
    """

    def __init__(self, connection: EdgeProtocol, disk: DiskReader) -> None:
        self.sent = 0
        self.first_byte: float | None = None
        self._connection = connection
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._descriptor = -1
        self._since_yield = 0
        self._pages: tuple[int, Pages] | None = None
        self._chunked = False
        self._chunk_left = 0
        self._remaining: int | None = None

    async def whole(self, head: bytes, body: bytes) -> None:
        """Send an answer that is in memory. Raises ConnectionError when the client has left."""
        self._connection.write(head + body if body else head)
        self.first_byte = time.monotonic()
        self.sent = len(body)
        await self._connection.drain()

    async def stream(self, head: bytes, body: Body, *, chunked: bool, at_once: bool) -> None:
        """Send an answer whose body comes in pieces. The caller closes the body.

        chunked  frame the pieces (RFC 9112 §7.1); else exactly `body.length` bytes are sent, or, where
                 that is None, whatever comes
        at_once  the head goes out before the first piece is there

        Raises NotBegun; EdgeError when the body failed midway; ConnectionError when the client left.
        After the latter two the connection must be cut. Cancelling it leaves an answer cut short.
        """
        self._chunked, self._remaining = chunked, body.length
        pieces = aiter(body)
        first: bytes | FileSlice | None = None
        if not at_once:
            try:
                first = await anext(pieces, None)
            except EdgeError as error:
                raise NotBegun(error) from error
        if first is not None and await self._sent_small(head, body, first):
            await _exhaust(pieces)
            return
        try:
            await self._open_socket()
            await self._send(head, more=first is not None)
            self.first_byte = time.monotonic()
            if first is not None:
                await self._piece(body, first)
            async for piece in pieces:
                await self._piece(body, piece)
            if self._chunk_left or self._remaining:
                raise SourceProtocol("the body is shorter than it declared")
            if chunked:
                await self._send(b"0\r\n\r\n")
        finally:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
                self._socket.close()

    async def _sent_small(self, head: bytes, body: Body, piece: bytes | FileSlice) -> bool:
        """Send a body of one small piece together with its head; False: it is not such a body."""
        if self._chunked or body.length is None or body.length > SMALL:
            return False
        if isinstance(piece, FileSlice):
            if piece.count != body.length:
                return False
            try:
                data = await self._disk.read(piece.fd, piece.start, piece.count)
            except OSError:
                return False  # met again, and dealt with, on the long way
        else:
            data = piece
        if len(data) != body.length:
            return False
        await self.whole(head, data)
        return True

    # --- pieces -----------------------------------------------------------------------------------

    async def _piece(self, body: Body, piece: bytes | FileSlice) -> None:
        count = piece.count if isinstance(piece, FileSlice) else len(piece)
        if self._remaining is not None:
            if count > self._remaining:
                raise SourceProtocol("the body is longer than it declared")
            self._remaining -= count
        if isinstance(piece, FileSlice):
            await self._file(body, piece)
        elif self._chunked:
            await self._chunks(piece)
        elif piece:
            await self._send(piece)
            self.sent += count

    async def _chunks(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            await self._open_chunk(len(view))
            part = view[: self._chunk_left]
            await self._send(part, more=True)
            self.sent += len(part)
            await self._fill_chunk(len(part))
            view = view[len(part) :]

    async def _open_chunk(self, count: int) -> None:
        if self._chunk_left == 0:
            self._chunk_left = count
            await self._send(b"%x\r\n" % count, more=True)

    async def _fill_chunk(self, count: int) -> None:
        self._chunk_left -= count
        if self._chunk_left == 0:
            await self._send(b"\r\n")

    async def _file(self, body: Body, piece: FileSlice) -> None:
        """Send a piece of a file. Where the disk fails the body goes on by other means."""
        begun = self.sent
        while (done := self.sent - begun) < piece.count:
            part = piece.count - done
            if self._chunked:
                # A chunk begun by a piece that failed is filled up by those that follow it.
                await self._open_chunk(min(part, WINDOW))
                part = min(part, self._chunk_left)
            start, before = piece.start + done, self.sent
            try:
                if not self.at_hand(piece.fd, start, min(part, WINDOW)):
                    await self._disk.load(piece.fd, start, min(part, WINDOW))
                await self._sendfile(piece.fd, start, part)
            except _CLIENT_GONE:
                raise
            except OSError as error:
                if self._chunked:
                    self._chunk_left -= self.sent - before
                await self._slice_failed(body, piece, self.sent - begun, error)
                return
            if self._chunked:
                await self._fill_chunk(self.sent - before)

    async def _slice_failed(self, body: Body, piece: FileSlice, done: int, error: OSError) -> None:
        if self._remaining is not None:
            self._remaining += piece.count - done
        try:
            await body.slice_failed(piece, done)
        except EdgeError as failure:
            raise failure from error

    # --- the socket -------------------------------------------------------------------------------

    async def _open_socket(self) -> None:
        await self._connection.flush()
        self._socket = socket.socket(fileno=os.dup(self._connection.socket.fileno()))
        self._socket.setblocking(False)
        # Of a film the kernel may take more: each time that it asks for some costs more than what it holds.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNBOUNDED)
        self._descriptor = self._socket.fileno()

    def _open(self) -> socket.socket:
        """The duplicate, while the connection lives. Raises ConnectionResetError."""
        _ = self._connection.socket
        if self._socket is None:
            raise ConnectionResetError("the client left")
        return self._socket

    async def _send(self, data: bytes | memoryview, *, more: bool = False) -> None:
        """Send all of `data`; more: the kernel may wait for what comes next."""
        flags = socket.MSG_MORE if more else 0
        view = memoryview(data)
        while view:
            try:
                count = self._open().send(view, flags)
            except BlockingIOError:
                await self._writable()
                continue
            view = view[count:]
            await self._handed(count)

    async def _sendfile(self, fd: int, start: int, count: int) -> None:
        """Send some or all of `count` bytes of a file, whose first window is at hand. Raises OSError."""
        window = min(count, WINDOW)
        try:
            self._open()
            sent = self.send_part(fd, start, window)
        except BlockingIOError:
            sent = 0
        if sent == window:
            await self._yielding(sent)
            return
        # The client takes less than there is: it is sent more from the loop whenever it does.
        self._since_yield = 0
        pump = _Pump(self, fd, start + sent, count - sent)
        descriptor = self._descriptor
        self._loop.add_writer(descriptor, pump.send)
        try:
            await pump.over
        finally:
            self._loop.remove_writer(descriptor)
        if pump.error is not None:
            raise pump.error

    def send_part(self, fd: int, start: int, count: int) -> int:
        """Send what the socket takes now of `count` bytes of a file. Raises OSError."""
        sent = os.sendfile(self._descriptor, fd, start, count)
        if not sent:
            raise OSError("the blob is shorter than its segment map says")
        self._connection.meter.hand(sent)
        self.sent += sent
        return sent

    def at_hand(self, fd: int, start: int, count: int) -> bool:
        """Whether these bytes of a file can be sent without waiting for the disk. Raises OSError."""
        clock = time.monotonic()
        if self._pages is None or self._pages[0] != fd:
            self._pages = fd, self._disk.pages(fd, clock)
        return self._disk.resident(fd, start, count, self._pages[1], clock)

    async def _handed(self, count: int) -> None:
        self._connection.meter.hand(count)
        await self._yielding(count)

    async def _yielding(self, count: int) -> None:
        """After FAIR_SHARE bytes let others have their turn."""
        self._since_yield += count
        if self._since_yield >= FAIR_SHARE:
            self._since_yield = 0
            await asyncio.sleep(0)

    async def _writable(self) -> None:
        self._since_yield = 0
        descriptor = self._open().fileno()
        ready = self._loop.create_future()
        self._loop.add_writer(descriptor, _wake, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(descriptor)


class _Pump:
    """Sends a part of a file from the loop's own callbacks, a window at a time.

    over   done when all is sent, what comes next is not at hand, or nothing can be sent
    error  why nothing can be sent
    """

    def __init__(self, sender: Sender, fd: int, start: int, count: int) -> None:
        self._sender = sender
        self._fd, self._start, self._stop = fd, start, start + count
        self.error: OSError | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self) -> None:
        """The socket takes more."""
        if self.over.done():
            return
        window = min(self._stop - self._start, WINDOW)
        try:
            if not self._sender.at_hand(self._fd, self._start, window):
                self.over.set_result(None)
                return
            self._start += self._sender.send_part(self._fd, self._start, window)
        except BlockingIOError:
            return
        except OSError as error:
            self.error = error
            self.over.set_result(None)
            return
        if self._start == self._stop:
            self.over.set_result(None)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _exhaust(pieces: AsyncIterator[bytes | FileSlice]) -> None:
    """Let the body come to its own end: some give their last word only then."""
    async for piece in pieces:
        if isinstance(piece, FileSlice) or piece:
            raise SourceProtocol("the body is longer than it declared")
