"""An HTTP/1.1 client that reports what really came over the socket: every byte, and how it ended.

reply = await ask(port, "/assets/a.mp4", headers=[("Range", "bytes=0-9")])
assert (reply.status, reply.body, reply.end) == (206, b"...", "complete")

async with Wire(port) as wire:                 # one connection, step by step
    await wire.request("/assets/a.mp4")
    head = await wire.head()
    first = await wire.read(100)               # exactly 100 body bytes
    reply = await wire.rest()                  # what is left
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

End = Literal["complete", "short", "closed"]
TIMEOUT = 15.0


@dataclass
class Reply:
    """One answer.

    end   "complete": as its framing says; "closed": ended by closing, framing left it open;
          "short": the connection ended before Content-Length or the last chunk, or was reset
    body  kept unless it was only hashed; `size` and `sha256` are always of what came
    """

    status: int
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    size: int = 0
    end: End = "complete"
    reset: bool = False
    hasher: object = field(default=None, repr=False)

    def __getitem__(self, name: str) -> str | None:
        """All lines of a field joined by ", "; None when it is absent."""
        lines = self.all(name)
        return ", ".join(lines) if lines else None

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def cache(self) -> str | None:
        return self["X-Cache"]

    @property
    def names(self) -> set[str]:
        return {key.lower() for key, _ in self.headers}


class Wire:
    """One client connection. Steps: request (or send), head, read…, rest."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", buffer: int = 1 << 18) -> None:
        self.port, self.host, self.buffer = port, host, buffer
        self._method = "GET"

    async def __aenter__(self) -> Wire:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=self.buffer)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def request(
        self,
        target: str,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        *,
        version: str = "1.1",
        body: bytes = b"",
    ) -> None:
        self._method = method
        given = list(headers)
        lines = [f"{method} {target} HTTP/{version}"]
        if version == "1.1" and not any(name.lower() == "host" for name, _ in given):
            lines.append(f"Host: {self.host}:{self.port}")
        if body and not any(name.lower() == "content-length" for name, _ in given):
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in given]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + body)

    async def head(self) -> Reply:
        """Read one head; interim (1xx) ones are passed over. Raises ConnectionError when none comes."""
        while True:
            try:
                block = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), TIMEOUT)
            except asyncio.IncompleteReadError as error:
                raise ConnectionError(f"closed before a head; got {error.partial!r}") from None
            lines = block[:-4].decode("latin-1").split("\r\n")
            version, status, *_ = lines[0].split(" ", 2)
            headers = []
            for line in lines[1:]:
                name, colon, value = line.partition(":")
                if not colon or name != name.strip() or not name:
                    raise ValueError(f"bad header line {line!r}")
                headers.append((name, value.strip()))
            if not 100 <= int(status) < 200:
                break
        self.reply = Reply(int(status), version, headers)
        self._left: int | None = None
        self._chunk: int | None = None
        reply = self.reply
        if self._method == "HEAD" or reply.status in (204, 304):
            self._left = 0
        elif (reply["Transfer-Encoding"] or "").lower() == "chunked":
            if "Content-Length" in reply:
                raise ValueError("both Transfer-Encoding and Content-Length")
            self._chunk = 0
        elif "Content-Length" in reply:
            self._left = int(reply["Content-Length"] or "")
        return reply

    async def _some(self, most: int) -> bytes:
        """Up to `most` body bytes; b"" at the end, whose kind is then in reply.end."""
        reply = self.reply
        try:
            if self._chunk is not None:
                return await self._chunked(most)
            if self._left == 0:
                return b""
            want = most if self._left is None else min(most, self._left)
            data = await asyncio.wait_for(self.reader.read(want), TIMEOUT)
            if data and self._left is not None:
                self._left -= len(data)
            if not data:
                reply.end = "closed" if self._left is None else "short"
            return data
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            reply.end, reply.reset = "short", isinstance(error, ConnectionError)
            return b""

    async def _chunked(self, most: int) -> bytes:
        if self._chunk == 0:
            line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), TIMEOUT)
            self._chunk = int(line.split(b";")[0], 16)
            if self._chunk == 0:
                while await asyncio.wait_for(self.reader.readuntil(b"\r\n"), TIMEOUT) != b"\r\n":
                    pass
                self._chunk, self._left = None, 0
                return b""
        assert self._chunk is not None
        data = await asyncio.wait_for(self.reader.read(min(most, self._chunk)), TIMEOUT)
        if not data:
            raise asyncio.IncompleteReadError(b"", self._chunk)
        self._chunk -= len(data)
        if self._chunk == 0:
            await asyncio.wait_for(self.reader.readexactly(2), TIMEOUT)
        return data

    async def read(self, count: int) -> bytes:
        """Exactly `count` body bytes, fewer only where the body ends (see reply.end)."""
        parts, got = [], 0
        while got < count:
            part = await self._some(count - got)
            if not part:
                break
            parts.append(part)
            got += len(part)
        self.reply.size += got
        return b"".join(parts)

    async def rest(self, *, keep: bool = True) -> Reply:
        """Read to the end. keep: put the bytes read by this call in reply.body; else only hash them."""
        reply, parts = self.reply, []
        digest = hashlib.sha256()
        while part := await self._some(1 << 18):
            reply.size += len(part)
            if keep:
                parts.append(part)
            else:
                digest.update(part)
        reply.body = b"".join(parts)
        reply.hasher = digest
        return reply

    async def get(self, target: str, method: str = "GET", headers: Iterable[tuple[str, str]] = ()) -> Reply:
        """A whole exchange on this connection."""
        await self.request(target, method, headers)
        await self.head()
        return await self.rest()

    async def closed(self) -> bytes:
        """Wait until the other side closes; whatever still came. A reset counts as closed."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), TIMEOUT)
        except ConnectionError:
            return b""


async def ask(
    port: int,
    target: str,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    *,
    version: str = "1.1",
    body: bytes = b"",
    keep: bool = True,
) -> Reply:
    """One exchange on a connection of its own."""
    async with Wire(port) as wire:
        await wire.request(target, method, headers, version=version, body=body)
        await wire.head()
        return await wire.rest(keep=keep)


async def raw(port: int, octets: bytes) -> bytes:
    """Send octets, return all that comes until the other side closes (or resets)."""
    async with Wire(port) as wire:
        wire.send(octets)
        return await wire.closed()


def range_of(first: int | str, last: int | str = "") -> list[tuple[str, str]]:
    return [("Range", f"bytes={first}-{last}")]
