"""An edge without HTTP in front: real sources and connections, a store of choice, answers read to the end.

    async with Bench(store) as bench:
        bench.source.add("a", 100_000)
        got = await bench.get("a", range_of(10, 19))
        assert (got.status, got.cache, got.body) == (206, "miss", ...)

On leaving, everything must be given back: tasks, pins, reservations, connections.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from distributor.core.keys import cache_key
from distributor.core.model import AssetRequest, FileSlice
from distributor.delivery.answer import Answer
from distributor.delivery.edge import Edge
from distributor.delivery.invalidation import Invalidation
from distributor.delivery.means import Means
from distributor.errors import EdgeError
from distributor.http import fields as hf
from distributor.ports import Body, Observer, Store
from distributor.store.store import DiskStore
from distributor.upstream.client import HttpSource, make_session
from distributor.upstream.pool import SourcePool
from tests.support.memory_store import MemoryStore
from tests.support.source import Source
from tests.support.stores import settled

SEGMENT = 4096
NODE = "edge-1"


def range_of(first: int, last: int | str = "") -> list[tuple[str, str]]:
    return [("Range", f"bytes={first}-{last}")]


class ShiftedClock:
    """Real time, an hour ago; `advance` brings it nearer. So a source's Date is never in the past."""

    def __init__(self) -> None:
        self.shift = -3600.0

    def now(self) -> float:
        return time.time() + self.shift

    def monotonic(self) -> float:
        return time.monotonic() + self.shift + 7200.0

    def advance(self, seconds: float) -> None:
        self.shift += seconds
        assert self.shift <= 0


class Counting(Observer):
    """sums: of calls, by name and first argument."""

    def __init__(self) -> None:
        self.sums: Counter[Any] = Counter()

    def fetch_ended(self, result: str, seconds: float) -> None:
        self.sums["fetch", result] += 1

    def fetch_waiting(self, change: int) -> None:
        self.sums["waiting"] += change

    def collapsed(self) -> None:
        self.sums["collapsed"] += 1

    def collapsed_waiting(self, change: int) -> None:
        self.sums["collapsed waiting"] += change

    def resumed(self) -> None:
        self.sums["resumed"] += 1

    def segment_fetch(self) -> None:
        self.sums["segment"] += 1

    def source_error(self, source: str, reason: str) -> None:
        self.sums["source error", reason] += 1

    def revalidated(self, result: str) -> None:
        self.sums["revalidated", result] += 1

    def stale_served(self, reason: str) -> None:
        self.sums["stale", reason] += 1

    def store_refused(self, reason: str) -> None:
        self.sums["refused", reason] += 1

    def negatives(self, count: int) -> None:
        self.sums["negatives"] = count

    def source_received(self, source: str, count: int) -> None:
        self.sums["received"] += count


@dataclass
class Got:
    """An answer, read to its end.

    fields  by lower-case name, several lines combined;  error: of the answer, or what ended the body
    """

    status: int
    fields: dict[str, str]
    body: bytes
    error: EdgeError | None
    answer: Answer

    @property
    def cache(self) -> str | None:
        return self.answer.cache.value if self.answer.cache is not None else None

    @property
    def source(self) -> str:
        return self.answer.data_source

    @property
    def state(self) -> tuple[int, str | None, str]:
        return self.status, self.cache, self.source


class Reading:
    """The body of an answer, taken at the pace of a test."""

    def __init__(self, answer: Answer, *, fail_slice_at: int | None = None) -> None:
        self.answer = answer
        self.taken = bytearray()
        self.over = False
        self._fail_at = fail_slice_at
        assert answer.body is not None, answer.error
        self._body: Body = answer.body
        self._pieces = aiter(self._body)

    async def piece(self) -> bytes:
        """The next piece's bytes; b"" at the end."""
        piece = await anext(self._pieces, None)
        if piece is None:
            self.over = True
            return b""
        data = await self._bytes(piece)
        self.taken += data
        return data or await self.piece()

    async def _bytes(self, piece: bytes | FileSlice) -> bytes:
        if not isinstance(piece, FileSlice):
            return piece
        assert piece.count > 0
        if self._fail_at is not None and piece.start <= self._fail_at < piece.start + piece.count:
            sent = self._fail_at - piece.start
            self._fail_at = None
            await self._body.slice_failed(piece, sent)
            return os.pread(piece.fd, sent, piece.start)
        data = os.pread(piece.fd, piece.count, piece.start)
        assert len(data) == piece.count, "a slice that is not on disk"
        return data

    async def until(self, count: int) -> bytes:
        """At least `count` bytes in all."""
        while len(self.taken) < count:
            assert await self.piece(), "ended early"
        return bytes(self.taken)

    async def rest(self) -> bytes:
        """All, to the end; closes."""
        try:
            while await self.piece():
                pass
        finally:
            await self._body.aclose()
        if self._body.length is not None:
            assert len(self.taken) == self._body.length, "a clean end of another length than said"
        return bytes(self.taken)

    async def leave(self) -> None:
        await self._pieces.aclose()  # type: ignore[attr-defined]
        await self._body.aclose()


class Bench:
    """See the head of this file."""

    def __init__(
        self,
        store: Store,
        *,
        sources: int = 1,
        stall_timeout: float = 5.0,
        max_connections: int = 100,
        negative_ttl: float = 5.0,
        stale_if_error: float = 86400.0,
        backoff: float = 10.0,
        **means: Any,
    ) -> None:
        self.store = store
        self.clock = ShiftedClock()
        self.observer = Counting()
        self.served: set[str] | None = None
        self.sources = [Source() for _ in range(sources)]
        self._session: aiohttp.ClientSession | None = None
        self._stall_timeout = stall_timeout
        self._max_connections = max_connections
        self._backoff = backoff
        self._freshness = {"negative_ttl": negative_ttl, "stale_if_error": stale_if_error}
        self._means = means
        self._stack = AsyncExitStack()

    @property
    def source(self) -> Source:
        return self.sources[0]

    async def __aenter__(self) -> Bench:
        await self.store.start()
        for source in self.sources:
            await self._stack.enter_async_context(source)
        self._session = make_session()
        self.begin()
        return self

    def begin(self) -> None:
        """A new edge over the same store, as after a restart."""
        assert self._session is not None
        transparent = self._means.get("transparent", False)
        clients = [
            HttpSource(
                str(number),
                source.url,
                self._session,
                user_agent="distributor/test",
                connect_timeout=2.0,
                stall_timeout=self._stall_timeout,
                observer=self.observer,
                clock=self.clock,
            )
            for number, source in enumerate(self.sources)
        ]
        self.pool = SourcePool(
            clients,
            clock=self.clock,
            observer=self.observer,
            max_connections=self._max_connections,
            backoff=self._backoff,
            transparent=transparent,
        )
        settings = {"segment": SEGMENT, "default_ttl": 60.0, **self._means}
        self.means = Means(
            store=self.store,
            pool=self.pool,
            clock=self.clock,
            observer=self.observer,
            node_id=NODE,
            served=lambda bucket: self.served is None or bucket in self.served,
            **settings,
        )
        self.edge = Edge(self.means, **self._freshness)
        self.purger = Invalidation(self.store, self.edge, self.observer)

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            await self.edge.close()
            if kind is None:
                await self._given_back()
        finally:
            assert self._session is not None
            await self._session.close()
            await self._stack.aclose()
            await self.store.close()

    async def _given_back(self) -> None:
        if isinstance(self.store, DiskStore):
            await settled(self.store)
        usage = self.store.usage()
        assert usage.reserved == 0, "room is still reserved"
        assert usage.complete + usage.partial <= usage.limit
        for stored in self.store.scan(None, 10_000):
            assert stored.pins == 0, f"{stored.key} is still pinned"
        if isinstance(self.store, MemoryStore):
            assert not [s for s in self.store.everything if s.detached], "a detached blob is still held"
        for name, place in self.pool._places.items():
            assert place._value == self._max_connections, f"a connection to source {name} is still held"
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in names if name.startswith(("fetch ", "run ", "look-up "))]
        assert self.observer.sums["collapsed waiting"] == 0
        assert self.observer.sums["waiting"] == 0
        assert self.edge.fetches_in_flight == 0

    # --- asking ---

    def request(
        self,
        asset_id: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        method: Literal["GET", "HEAD"] = "GET",
        query: str | None = None,
    ) -> AssetRequest:
        key = cache_key(asset_id, query)
        return AssetRequest(method, asset_id, key, query, tuple(headers), self.clock.now(), "request-1")

    async def ask(self, asset_id: str, headers: Iterable[tuple[str, str]] = (), **more: Any) -> Answer:
        return await self.edge.answer(self.request(asset_id, headers, **more))

    async def read(self, asset_id: str, headers: Iterable[tuple[str, str]] = (), **more: Any) -> Reading:
        return Reading(await self.ask(asset_id, headers), **more)

    async def get(self, asset_id: str, headers: Iterable[tuple[str, str]] = (), **more: Any) -> Got:
        return await finish(await self.ask(asset_id, headers, **more))

    async def head(self, asset_id: str, headers: Iterable[tuple[str, str]] = ()) -> Got:
        return await self.get(asset_id, headers, method="HEAD")

    async def idle(self) -> None:
        """Wait until no fetch is under way."""
        while self.edge._tasks:
            await asyncio.wait({fetch._task for fetch in self.edge._tasks if fetch._task is not None})
        if isinstance(self.store, DiskStore):
            await settled(self.store)

    async def fill(self, asset_id: str) -> Got:
        """Have the whole stored."""
        got = await self.get(asset_id)
        await self.idle()
        return got


async def finish(answer: Answer) -> Got:
    """Read an answer to its end."""
    fields: dict[str, str] = {}
    for name, _ in answer.fields:
        fields[name.lower()] = hf.get(answer.fields, name) or ""
    got = Got(answer.status, fields, b"", answer.error, answer)
    if answer.body is not None:
        reading = Reading(answer)
        try:
            await reading.rest()
        except EdgeError as error:
            got.error = error
        got.body = bytes(reading.taken)
    return got
