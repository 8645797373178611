"""A whole edge in this process, by a clock that stands still, before a source that answers by script.

    site.script("a", Given([("Cache-Control", "max-age=60"), ("ETag", '"1"')]))
    first = await site.get("a")                 # over real sockets
    site.clock.advance(61)
    second = await site.get("a")                # the source was asked If-None-Match and said 304
    assert site.seen("a")[1].headers["if-none-match"] == '"1"'

In a field value `{+60}` stands for the HTTP-date 60 seconds after the time of the answer, `{-5}` for
one before it, `{+0}` for now; `{@-5}` for one before the script was set. A source's answer has
`Date: {+0}` unless it is given one, or `""` for none. The n-th answer of a script answers the n-th
request, the last one all that follow; it is a 304 where the request's conditions hold (`confirms`).
"""

from __future__ import annotations

import asyncio
import io
import itertools
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from distributor.api.logs import LogWriter
from distributor.app import Application
from distributor.config import load
from distributor.http.fields import format_date
from tests.support.fake_clock import FakeClock
from tests.support.wire import Reply, ask

Headers = list[tuple[str, str]]
_DATE = re.compile(r"\{([+-]\d+)\}")
_PINNED = re.compile(r"\{@([+-]\d+)\}")


@dataclass
class Given:
    """One answer of the source.

    body      None: `answer <n> to <id>`
    confirms  be a 304 where the request's condition names this answer's validator
    update    fields of that 304; None: the validators only
    ranges    answer a Range by 206
    raw       these octets instead of it all, then close
    """

    fields: Headers = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    confirms: bool = True
    update: Headers | None = None
    ranges: bool = False
    raw: bytes | None = None


@dataclass
class Asked:
    """A request as the source saw it; names in lower case, several lines combined."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def conditional(self) -> bool:
        return bool({"if-none-match", "if-modified-since"} & set(self.headers))


class SteppedClock(FakeClock):
    """Wall time stands still until it is told; the monotonic clock runs with the machine's."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self._monotonic


class Scripted:
    """The source.

    delays  by id, seconds by which the clock moves on before each answer's head
    gates   by id, no answer before this event is set
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.scripts: dict[str, list[Given]] = {}
        self.requests: dict[str, list[Asked]] = {}
        self.delays: dict[str, float] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            key, text = name.lower(), value.strip()
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        asset_id = target.partition("?")[0].removeprefix("/")
        asked = Asked(method, target, headers)
        seen = self.requests.setdefault(asset_id, [])
        seen.append(asked)
        if asset_id in self.gates:
            await self.gates[asset_id].wait()
        self.clock.advance(self.delays.get(asset_id, 0.0))
        script = self.scripts.get(asset_id, [Given(status=404)])
        given = script[min(len(seen), len(script)) - 1]
        if given.raw is not None:
            writer.write(given.raw)
            await writer.drain()
            return False
        body = given.body if given.body is not None else f"answer {len(seen)} to {asset_id}".encode()
        writer.write(self._answer(asked, given, body))
        await writer.drain()
        return True

    def _answer(self, asked: Asked, given: Given, body: bytes) -> bytes:
        status, fields = given.status, given.fields
        if given.confirms and _holds(asked, self.dated(fields)):
            kept = [(n, v) for n, v in fields if n.lower() in ("etag", "last-modified")]
            fields = kept if given.update is None else given.update
            status, body = 304, b""
        elif given.ranges and status == 200 and "range" in asked.headers:
            status, body, fields = _part(asked, fields, body)
        names = {name.lower() for name, _ in fields}
        lines = [] if "date" in names else [("Date", "{+0}")]
        lines += [(name, value) for name, value in fields if (name, value) != ("Date", "")]
        if status not in (204, 304) and not {"content-length", "transfer-encoding"} & names:
            lines.append(("Content-Length", str(len(body))))
        text = "".join(f"{name}: {value}\r\n" for name, value in self.dated(lines))
        head = f"HTTP/1.1 {status} Status\r\n{text}\r\n".encode("latin-1")
        return head if asked.method == "HEAD" or status in (204, 304) else head + body

    def dated(self, fields: Iterable[tuple[str, str]], pattern: re.Pattern[str] = _DATE) -> Headers:
        now = int(self.clock.now())
        return [(n, pattern.sub(lambda found: format_date(now + int(found[1])), v)) for n, v in fields]


def _holds(asked: Asked, fields: Headers) -> bool:
    own = {name.lower(): value for name, value in fields}
    tags = asked.headers.get("if-none-match")
    if tags is not None:
        return "etag" in own and own["etag"].removeprefix("W/") in tags.replace("W/", "").split(", ")
    since = asked.headers.get("if-modified-since")
    return since is not None and since == own.get("last-modified")


def _part(asked: Asked, fields: Headers, body: bytes) -> tuple[int, bytes, Headers]:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers["range"])
    own = {name.lower(): value for name, value in fields}
    bound = asked.headers.get("if-range")
    if found is None or (bound is not None and bound not in (own.get("etag"), own.get("last-modified"))):
        return 200, body, fields
    start, stop = int(found[1]), min(len(body), int(found[2] or len(body)) + 1)
    return 206, body[start:stop], [*fields, ("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")]


class CacheSite:
    """See the head of this file. `settings`: by dotted key, beside `origin.transparent`."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.clock = SteppedClock()
        self.source = Scripted(self.clock)
        self._directory = directory
        self._settings = {key.replace("__", "."): value for key, value in settings.items()}
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> CacheSite:
        await self.source.start()
        changes = {
            "public_api.port": 0,
            "operator_api.port": 0,
            "operator_api.token": "token",
            "origin.sources.0.url": f"http://127.0.0.1:{self.source.port}/{{id}}",
            "origin.transparent": "true",
            "origin.backoff": "0s",
            "cache.directory": str(self._directory),
            "cache.limit": "64M",
            "cache.segment": "4K",
            "cache.durability": "none",
            "log.access": "false",
            **self._settings,
        }
        config = load(None, tuple(f"{key}={value}" for key, value in changes.items()), {})
        self._writer = LogWriter(io.BytesIO())
        self.app = Application(config, self._writer, self.clock)
        await self.app.start()
        self.port = int(self.app.public.url.rpartition(":")[2])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.stop()
        self._writer.close()
        self.source.server.close()

    def new_id(self) -> str:
        """An id that nobody else uses, without a telling extension."""
        return f"asset-{next(self._numbers)}"

    def script(self, asset_id: str, *answers: Given) -> None:
        """Have the source answer so; `{@…}` is told from now on."""
        pinned = [replace(one, fields=self.source.dated(one.fields, _PINNED)) for one in answers]
        self.source.scripts[asset_id] = pinned

    def seen(self, asset_id: str) -> list[Asked]:
        return self.source.requests.get(asset_id, [])

    async def get(self, asset_id: str, headers: Iterable[tuple[str, str]] = (), method: str = "GET") -> Reply:
        """One request on a connection of its own; `{+0}` in values as in the source's."""
        dated = self.source.dated(headers)
        return await ask(self.port, f"/assets/{asset_id}", method, dated)

    async def idle(self) -> None:
        """Wait until no fetch and no look-up is under way."""
        edge = self.app.edge
        while edge._tasks or edge._lookups._tasks:
            tasks = {fetch._task for fetch in edge._tasks if fetch._task is not None}
            await asyncio.wait(tasks | edge._lookups._tasks)
            await asyncio.sleep(0)

    async def fill(self, asset_id: str, headers: Iterable[tuple[str, str]] = ()) -> Reply:
        """Ask once, and wait until what is to be stored is stored."""
        reply = await self.get(asset_id, headers)
        await self.idle()
        return reply


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CacheSite]:
    """One transparent edge for a module whose tests share its loop (`loop_scope="module"`)."""
    async with CacheSite(tmp_path_factory.mktemp("site")) as made:
        yield made
