"""An HTTP/1.1 source that serves made-up assets and misbehaves exactly as told.

Written on a bare asyncio protocol, so that it can lie at the byte level: nothing of aiohttp corrects
it. Bytes are a function of asset id, version and position, so an asset of 4 GiB costs no memory.

    async with Source() as source:
        source.add("clip.mp4", 8 << 20, headers=[("Cache-Control", "max-age=60")])
        source.fault("clip.mp4", Fault(cut_after=1_000_000), on=1)      # first GET only
        gate = source.hold("clip.mp4", at=65_536)                      # no byte past 65,536 ...
        ...                                                            # request {source.url}
        await gate.reached.wait(); gate.open()                         # ... until now
        assert source.count("clip.mp4") == 2

As a process of its own, `python -m tests.support.source --port 0 s65536/a.bin=65536`: prints one JSON
line with its address; then GET /_/stats, POST /_/reset, POST /_/assets. An id with a path segment
`s<digits>` exists by itself, with that many bytes, when `--auto` is given.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import signal
import socket
import struct
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable
from dataclasses import asdict, dataclass, field, replace
from email.utils import formatdate
from typing import Any, Literal, cast
from urllib.parse import unquote

from tests.support.assets import (
    Asset,
    Headers,
    asked_span,
    asset_bytes,
    asset_digest,
    asset_fields,
    auto_asset,
    judge_condition,
)

__all__ = ["Asset", "Fault", "Gate", "Seen", "Source", "asset_bytes", "asset_digest", "auto_asset"]

_PIECE = 256 * 1024
_REASONS = {200: "OK", 206: "Partial Content", 304: "Not Modified", 404: "Not Found", 410: "Gone"}


@dataclass
class Fault:
    """One misbehaviour; unset members leave the answer as it is. Counts are bytes of this body.

    drop            close without a byte of answer: "close" or "reset"
    delay           seconds before the head
    gate            no head before this event is set
    status, headers, body   another answer altogether (headers alone: added to the usual answer)
    head            raw bytes in place of the whole head (the connection is then closed)
    stall_after     then silence, until the client goes
    cut_after       then the connection ends
    reset_after     then the connection is reset
    rate            bytes per second, once rate_after bytes were sent
    surplus         body bytes more (or, below 0, fewer) than Content-Length says; the connection is closed
    content_range   this Content-Range on a 206
    ignore_range    200 with the whole
    version         from this request on, the asset is this version
    corrupt_at      the byte at this position of the body is flipped
    """

    drop: Literal["close", "reset"] | None = None
    delay: float = 0.0
    gate: asyncio.Event | None = None
    status: int | None = None
    headers: Headers = field(default_factory=list)
    body: bytes | None = None
    head: bytes | None = None
    stall_after: int | None = None
    cut_after: int | None = None
    reset_after: int | None = None
    rate: float | None = None
    rate_after: int = 0
    surplus: int = 0
    content_range: str | None = None
    ignore_range: bool = False
    version: int | None = None
    corrupt_at: int | None = None


@dataclass
class Seen:
    """One request as it came. `sent`: body bytes handed to the socket so far; `over`: answer ended."""

    method: str
    target: str
    asset_id: str
    headers: dict[str, str]
    raw: Headers
    connection: int
    status: int = 0
    sent: int = 0
    over: bool = False
    at: float = 0.0

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class Gate:
    """Holds every body of one asset at one position; `reached` tells that one came so far."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def passed(self) -> None:
        self.reached.set()
        await self._opened.wait()


@dataclass
class _Rule:
    fault: Fault
    on: Container[int] | None
    method: str | None
    match: Callable[[Seen], bool] | None
    met: int = 0

    def applies(self, seen: Seen) -> bool:
        if self.method is not None and seen.method != self.method:
            return False
        if self.match is not None and not self.match(seen):
            return False
        self.met += 1
        return self.on is None or self.met in self.on


class Source:
    """See the head of the file. `prefix`: path before the id; `auto`: makes assets that were not added."""

    def __init__(
        self, *, prefix: str = "/content/", auto: Callable[[str], Asset | None] | None = None
    ) -> None:
        self.prefix = prefix
        self.auto = auto
        self.assets: dict[str, Asset] = {}
        self.requests: list[Seen] = []
        self.connections = 0
        self.port = 0
        self._rules: dict[str | None, list[_Rule]] = defaultdict(list)
        self._gates: dict[str, list[Gate]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    # --- running ---

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and cut those that are open; `start(self.port)` comes back."""
        if self._server is not None:
            self._server.close()
            self._server = None
        open_now = list(self._open)
        for connection in open_now:
            connection.cut(reset=True)
        await asyncio.gather(*(c.ended for c in open_now), return_exceptions=True)

    async def restart(self) -> None:
        await self.start(self.port)

    async def __aenter__(self) -> Source:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Template for `origin.sources[].url`."""
        return f"http://127.0.0.1:{self.port}{self.prefix}{{id}}"

    # --- scripting ---

    def add(self, asset_id: str, size: int | None = None, **settings: Any) -> Asset:
        """Make or replace an asset; keywords as in Asset."""
        if size is None:
            size = len(settings["body"])
        asset = self.assets[asset_id] = Asset(size, **settings)
        return asset

    def fault(
        self,
        asset_id: str | None,
        fault: Fault,
        *,
        on: int | Container[int] | None = None,
        method: str | None = "GET",
        match: Callable[[Seen], bool] | None = None,
        also: Iterable[Source] = (),
    ) -> None:
        """Misbehave for an id (None: any).

        on    which of the requests from now that fit method and match, counted from 1; None: all
        also  further sources that do the same; their requests are counted together with ours
        """
        numbers = {on} if isinstance(on, int) else on
        rule = _Rule(fault, numbers, method, match)
        for source in (self, *also):
            source._rules[asset_id].append(rule)

    def heal(self, asset_id: str | None = None) -> None:
        """Forget the faults of an id; without one, all."""
        if asset_id is None:
            self._rules.clear()
        else:
            self._rules.pop(asset_id, None)

    def hold(self, asset_id: str, at: int) -> Gate:
        """Let no body of the asset go past representation position `at` until the gate is opened.

        A range that begins past `at` is not held.
        """
        gate = Gate(at)
        self._gates[asset_id].append(gate)
        return gate

    # --- what happened ---

    def seen(self, asset_id: str | None = None, method: str | None = None) -> list[Seen]:
        return [s for s in self.requests if asset_id in (None, s.asset_id) and method in (None, s.method)]

    def count(self, asset_id: str | None = None, method: str | None = "GET") -> int:
        return len(self.seen(asset_id, method))

    def body_bytes(self, asset_id: str | None = None) -> int:
        return sum(s.sent for s in self.seen(asset_id))

    def forget(self) -> None:
        self.requests.clear()

    async def until(self, fact: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until `fact()`; looked at whenever a request comes, sends or ends."""

        async def wait() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(fact()))

        await asyncio.wait_for(wait(), timeout)

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- answering ---

    def _find(self, asset_id: str) -> Asset | None:
        asset = self.assets.get(asset_id)
        if asset is None and self.auto is not None:
            asset = self.auto(asset_id)
        return asset

    def _faults(self, seen: Seen) -> list[Fault]:
        rules = self._rules.get(seen.asset_id, []) + self._rules.get(None, [])
        return [rule.fault for rule in rules if rule.applies(seen)]

    async def answer(self, seen: Seen, connection: _Connection) -> bool:
        """Answer one request; False: the connection is not to be used again."""
        faults = self._faults(seen)
        fault = _merge(faults)
        asset = self._find(seen.asset_id)
        if fault.version is not None and asset is not None:
            asset = self.assets[seen.asset_id] = replace(asset, version=fault.version)
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.gate is not None:
            await connection.first(fault.gate.wait())
        if fault.drop is not None:
            connection.cut(reset=fault.drop == "reset")
            return False
        if fault.head is not None:
            await connection.send(fault.head)
            connection.finish()
            return False
        if fault.status is not None:
            return await self._plain(seen, connection, fault.status, fault.headers, fault.body or b"")
        if asset is None:
            return await self._plain(seen, connection, 404, fault.headers, b"nothing here\n")
        return await self._asset(seen, connection, asset, fault)

    async def _plain(
        self, seen: Seen, connection: _Connection, status: int, headers: Headers, body: bytes
    ) -> bool:
        seen.status = status
        fields = _fields([("Date", formatdate(usegmt=True)), ("Content-Length", str(len(body)))], headers)
        await connection.send(_head(status, fields) + (b"" if seen.method == "HEAD" else body))
        if seen.method != "HEAD":
            seen.sent += len(body)
        return True

    async def _asset(self, seen: Seen, connection: _Connection, asset: Asset, fault: Fault) -> bool:
        fields = asset_fields(seen.asset_id, asset)
        status = judge_condition(seen.headers, asset)
        start, stop = 0, asset.size
        if status is None:
            status = 200
            if seen.method == "GET" and asset.ranges and not fault.ignore_range:
                span = asked_span(seen.headers, asset)
                if span == "unsatisfiable":
                    extra = [("Content-Range", f"bytes */{asset.size}")]
                    return await self._plain(seen, connection, 416, extra + fault.headers, b"")
                if isinstance(span, tuple):
                    status = 206
                    start, stop = span
                    content_range = f"bytes {start}-{stop - 1}/{asset.size}"
                    fields.append(("Content-Range", fault.content_range or content_range))
        if status in (304, 412):
            body_less = [f for f in fields if f[0] != "Content-Type"]
            if status == 412:
                body_less.append(("Content-Length", "0"))
            seen.status = status
            await connection.send(_head(status, _fields(_fields(body_less, asset.headers), fault.headers)))
            return True
        close = asset.framing == "close" or fault.surplus != 0
        if asset.framing == "length":
            fields.append(("Content-Length", str(stop - start)))
        elif asset.framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
        if close:
            fields.append(("Connection", "close"))
        seen.status = status
        version = "1.0" if asset.framing == "close" else "1.1"
        await connection.send(_head(status, _fields(_fields(fields, asset.headers), fault.headers), version))
        await self._note()
        if seen.method == "HEAD":
            return not close
        complete = await self._body(seen, connection, asset, fault, start, stop)
        if close and complete:
            connection.finish()
        return complete and not close

    async def _body(
        self, seen: Seen, connection: _Connection, asset: Asset, fault: Fault, start: int, stop: int
    ) -> bool:
        at, began, base = start, time.monotonic(), start
        stop += fault.surplus
        limits = [c for c in (fault.stall_after, fault.cut_after, fault.reset_after) if c is not None]
        end = min([stop, *(start + c for c in limits)])
        rate = fault.rate or asset.rate
        gates = sorted(self._gates.get(seen.asset_id, []), key=lambda gate: gate.at)
        gates = [gate for gate in gates if gate.at >= start]
        while at < end or gates:
            if gates and gates[0].at <= at:
                await connection.first(gates.pop(0).passed())
                continue
            if at >= end:
                break
            upto = min(end, at + _PIECE, *(gate.at for gate in gates[:1]))
            slow = rate and at - start >= fault.rate_after
            if slow:
                upto = min(upto, at + max(1, int(rate / 50)))
            elif rate:
                upto = min(upto, start + fault.rate_after)
            piece = asset.piece(seen.asset_id, at, upto)
            if fault.surplus > 0 and not len(piece):
                piece = b"\xee" * (upto - at)
            if fault.corrupt_at is not None and at <= start + fault.corrupt_at < at + len(piece):
                changed = bytearray(piece)
                changed[start + fault.corrupt_at - at] ^= 0xFF
                piece = bytes(changed)
            if asset.framing == "chunked":
                piece = b"%x\r\n%b\r\n" % (len(piece), bytes(piece))
                at = upto
            else:
                at += len(piece)
            await connection.send(piece)
            seen.sent = at - base
            if slow:
                await self._note()
                due = began + (at - base - fault.rate_after) / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        await self._note()
        if fault.stall_after is not None and end == start + fault.stall_after:
            await connection.first(asyncio.Event().wait())
        if fault.reset_after is not None and end == start + fault.reset_after:
            connection.cut(reset=True)
            return False
        if fault.cut_after is not None and end == start + fault.cut_after:
            connection.finish()
            return False
        if asset.framing == "chunked":
            await connection.send(b"0\r\n\r\n")
        return True


class _Gone(Exception):
    """The client closed the connection."""


class _Connection(asyncio.Protocol):
    """One connection: heads come in, answers go out one after the other."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.transport: asyncio.Transport
        self._buffer = bytearray()
        self._heads: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._skip = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=512 * 1024)
        self.source.connections += 1
        self.number = self.source.connections
        self.source._open.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._writable.set()
        self._arrived.set()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._heads.append(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            self._arrived.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, data: bytes | memoryview) -> None:
        if self.transport.is_closing():
            raise _Gone
        self.transport.write(data)
        await self._writable.wait()

    async def first(self, wait: Any) -> None:
        """Wait, or until the client is gone (then the task is cancelled)."""
        await wait

    def finish(self) -> None:
        self.transport.close()

    def cut(self, *, reset: bool) -> None:
        if reset:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()

    async def _serve(self) -> None:
        try:
            while not self.transport.is_closing():
                while not self._heads:
                    self._arrived.clear()
                    await self._arrived.wait()
                    if self.transport.is_closing():
                        return
                if not await self._one(_parse(self._heads.popleft(), self.source.prefix, self.number)):
                    break
            self.transport.close()
            await self.ended
        except _Gone:
            pass
        finally:
            self.source._open.discard(self)

    async def _one(self, seen: Seen) -> bool:
        source = self.source
        if seen.target.startswith("/_/"):
            return await _control(source, seen, self)
        source.requests.append(seen)
        await source._note()
        try:
            again = await source.answer(seen, self)
        finally:
            seen.over = True
        await source._note()
        return again and seen.headers.get("connection", "").lower() != "close"


def _parse(head: bytes, prefix: str, number: int) -> Seen:
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    raw = [(n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
    headers: dict[str, str] = {}
    for name, value in raw:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    path = target.split("?", 1)[0]
    asset_id = unquote(path[len(prefix) :]) if path.startswith(prefix) else ""
    return Seen(method, target, asset_id, headers, raw, number, at=time.monotonic())


def _merge(faults: list[Fault]) -> Fault:
    merged = Fault()
    empty = asdict(Fault(), dict_factory=dict)
    for fault in faults:
        for name, unset in empty.items():
            value = getattr(fault, name)
            if value != unset:
                setattr(merged, name, value)
    return merged


def _head(status: int, fields: Headers, version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status} {_REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _fields(made: Headers, given: Headers) -> Headers:
    """`given` replaces `made` by name; an empty value only removes."""
    names = {name.lower() for name, _ in given}
    kept = [(n, v) for n, v in made if n.lower() not in names]
    return kept + [(n, v) for n, v in given if v != ""]


# --- as a process of its own ---------------------------------------------------------------------


async def _control(source: Source, seen: Seen, connection: _Connection) -> bool:
    path, _, query = seen.target.partition("?")
    if path == "/_/reset":
        source.forget()
    elif path == "/_/asset":
        settings = dict(pair.split("=", 1) for pair in query.split("&"))
        source.add(unquote(settings.pop("id")), **{k: json.loads(unquote(v)) for k, v in settings.items()})
    by_asset: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in source.requests:
        row = by_asset[one.asset_id]
        row[0] += one.method == "GET"
        row[1] += one.method == "HEAD"
        row[2] += one.sent
    body = json.dumps({"connections": source.connections, "assets": by_asset}).encode()
    await connection.send(_head(200, [("Content-Length", str(len(body)))]) + body)
    return True


async def _main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.source", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--auto", action="store_true", help="ids with a segment s<bytes> exist")
    parser.add_argument("--rate", type=float, help="bytes per second and body")
    parser.add_argument("--digest", action="store_true", help="send Repr-Digest")
    parser.add_argument("--max-age", type=int, help="send Cache-Control: max-age")
    parser.add_argument("assets", nargs="*", metavar="ID=BYTES")
    options = parser.parse_args(None if arguments is None else list(arguments))
    headers = [] if options.max_age is None else [("Cache-Control", f"max-age={options.max_age}")]
    settings: dict[str, Any] = {"rate": options.rate, "digest": options.digest, "headers": headers}
    source = Source(auto=functools.partial(auto_asset, **settings) if options.auto else None)
    for pair in options.assets:
        asset_id, _, size = pair.rpartition("=")
        source.add(asset_id, int(size), **settings)
    await source.start(options.port)
    print(json.dumps({"port": source.port, "url": source.url}), flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await source.stop()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        sys.argv.remove("--uvloop")
        import uvloop

        uvloop.run(_main())
    else:
        asyncio.run(_main())
