"""The edge's two ports over fakes of what lies below them, on real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from distributor.api.disk import DiskReader
from distributor.api.middleware import Frontend
from distributor.api.operator import MAX_BODY, OperatorApi
from distributor.api.protocol import EdgeServer, ServerLimits
from distributor.api.public import PublicApi
from distributor.core.model import AssetRequest, FileSlice, Outcome, Representation
from distributor.delivery.answer import Answer
from distributor.delivery.jobs import Jobs
from distributor.delivery.node import Command, Node
from distributor.errors import EdgeError, UnknownAsset
from distributor.http.cache_status import CacheState
from distributor.http.freshness import Policy
from distributor.ports import Observer, SystemClock, Usage
from distributor.store.overrides import Overrides
from tests.support.memory_store import MemoryStore
from tests.support.wire import ask

Piece = bytes | FileSlice | Exception | asyncio.Event


class PieceBody:
    """A body of given pieces: an Event is waited for, an exception raised.

    after_failure  pieces that follow once a slice could not be read
    """

    def __init__(
        self, length: int | None, pieces: Iterable[Piece], after_failure: Iterable[Piece] | None = None
    ) -> None:
        self.length = length
        self.pieces = list(pieces)
        self.after_failure = after_failure
        self.closed = False
        self.finished = False
        self.failed_at: int | None = None

    async def __aiter__(self) -> AsyncIterator[bytes | FileSlice]:
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif isinstance(piece, Exception):
                raise piece
            else:
                yield piece
        self.finished = True

    async def slice_failed(self, piece: FileSlice, sent: int) -> None:
        self.failed_at = sent
        if self.after_failure is None:
            raise EdgeError("no other means")
        self.pieces = list(self.after_failure)

    async def aclose(self) -> None:
        self.closed = True


def whole(data: bytes, *, cache: CacheState = CacheState.HIT, **more: Any) -> Answer:
    """A 200 of bytes in memory."""
    fields = (("Content-Type", "video/mp4"), ("Content-Length", str(len(data))), ("X-Cache", cache.value))
    return Answer(200, fields, PieceBody(len(data), [data]), cache, "local", **more)


class FakeEdge:
    """Answers from a table; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[AssetRequest], Answer | Awaitable[Answer]]] = {}
        self.asked: list[AssetRequest] = []
        self.bodies: list[PieceBody] = []
        self.fetches_in_flight = 0
        self.purges: list[dict[str, Any]] = []
        self.purged = (0, 0)
        self.prefetched: list[str] = []
        self.prefetch_answer: Callable[[str], Awaitable[None]] | None = None
        self.forgotten = 0

    async def answer(self, request: AssetRequest) -> Answer:
        self.asked.append(request)
        make = self.answers.get(request.asset_id)
        if make is None:
            return Answer(0, error=UnknownAsset())
        answer = make(request)
        answer = answer if isinstance(answer, Answer) else await answer
        if request.method == "HEAD":
            answer.body = None
        if isinstance(answer.body, PieceBody):
            self.bodies.append(answer.body)
        return answer

    async def purge(self, **what: Any) -> tuple[int, int]:
        self.purges.append(what)
        return self.purged

    async def prefetch(self, asset_id: str) -> None:
        if self.prefetch_answer is not None:
            await self.prefetch_answer(asset_id)
        self.prefetched.append(asset_id)

    def filling(self, key: str) -> bool:
        return False

    def forget_negatives(self) -> None:
        self.forgotten += 1


class Recorder(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.refused: list[str] = []
        self.open = 0

    def request(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def connection(self, listener: str, change: int) -> None:
        self.open += change

    def connection_refused(self, reason: str) -> None:
        self.refused.append(reason)


class FakeStore:
    """Only what the API reads of a store."""

    healthy = True
    recovering = False

    def __init__(self) -> None:
        self.current = Usage(1 << 30, 300, 20, 5, 3, 1, 1 << 40, 0.0)

    def usage(self) -> Usage:
        return self.current


async def unsaved(_: Overrides) -> None:
    return None


def serving_node(**more: Any) -> Node:
    node = Node(
        more.get("node_id", "edge-1"),
        "0.1.0",
        more.get("buckets", "all"),
        more.get("worker_id"),
        more.get("overrides", Overrides()),
        more.get("save", unsaved),
    )
    node.change(Command.READY)
    return node


class Front:
    """The public port, listening. async with Front(…) as front: front.port"""

    def __init__(self, limits: ServerLimits | None = None, **more: Any) -> None:
        self.edge = FakeEdge()
        self.store = FakeStore()
        self.observer = Recorder()
        self.node = serving_node()
        self.disk = DiskReader()
        self.limits = limits or ServerLimits()
        self.more = more
        self.port = 0

    async def __aenter__(self) -> Front:
        api = PublicApi(
            self.edge,
            self.node,
            self.store,  # type: ignore[arg-type]
            lambda: b"# metrics\n",
            key_query=self.more.get("key_query", False),
            strip_query=self.more.get("strip_query", frozenset()),
        )
        frontend = Frontend(
            self.more.get("routes", api),
            cors=self.more.get("cors", True),
            disk=self.disk,
            observer=self.observer,
            access_log=self.more.get("access_log"),
        )
        self.server = EdgeServer(
            frontend.answer,
            frontend.problem,
            listener="public",
            limits=self.limits,
            observer=self.observer,
            clock=SystemClock(),
            max_body=self.more.get("max_body", 0),
        )
        loop = asyncio.get_running_loop()
        self.listening = await loop.create_server(self.server, "127.0.0.1", 0)
        self.port = self.listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listening.close()
        await self.server.stop()
        self.disk.close()

    async def until(self, fact: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until `fact()` is true."""
        end = asyncio.get_running_loop().time() + timeout
        while not fact():
            if asyncio.get_running_loop().time() > end:
                raise TimeoutError("what was waited for did not happen")
            await asyncio.sleep(0.005)


class FakeControl:
    """Moves a node between its states; nothing listens or stops."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def stop_api(self) -> None:
        self.node.change(Command.STOP_API)

    async def start_api(self) -> None:
        self.node.change(Command.START_API)

    async def drain(self) -> None:
        self.node.change(Command.DRAIN)

    async def shutdown(self) -> None:
        self.node.change(Command.SHUTDOWN)


class OperatorFront(Front):
    """The operator port over a MemoryStore; purges and prefetches reach the fake edge."""

    TOKEN = "s3cret-token"

    def __init__(self, **more: Any) -> None:
        super().__init__(max_body=MAX_BODY, cors=False, **more)
        self.memory = MemoryStore()
        self.store = self.memory  # type: ignore[assignment]

    async def __aenter__(self) -> OperatorFront:
        self.jobs = Jobs(self.memory, self._fetch, self.observer, SystemClock(), verify_rate=1 << 30)
        self.more["routes"] = OperatorApi(
            self.TOKEN,
            node=self.node,
            store=self.memory,
            assets=self.edge,
            purger=self.edge,
            jobs=self.jobs,
            control=FakeControl(self.node),
            clock=SystemClock(),
        )
        await super().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.jobs.close()
        await super().__aexit__()

    async def _fetch(self, asset_id: str) -> int:
        await self.edge.prefetch(asset_id)
        return len(asset_id)

    async def put(
        self, asset_id: str, data: bytes, *, bucket: str = "default", complete: bool = True
    ) -> None:
        """Store a response."""
        now = SystemClock().now()
        representation = Representation(
            length=len(data),
            etag='"v1"',
            date=int(now),
            response_time=now,
            bucket=bucket,
            policy=Policy(freshness_lifetime=60.0),
        )
        stored = await self.memory.begin(asset_id, asset_id, representation, now)
        await self.memory.write(stored, 0, data if complete else data[: len(data) // 2])
        if complete:
            await self.memory.commit(stored, hashlib.sha256(data).digest(), now)
        self.memory.release(stored)

    async def call(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> tuple[int, Any]:
        """One request with the token: status and decoded body."""
        lines = [("Authorization", f"Bearer {self.TOKEN}"), *headers]
        if document is not None:
            body = json.dumps(document).encode()
            lines.append(("Content-Type", "application/json"))
        reply = await ask(self.port, f"/api/v1{path}", method, lines, body=body or b"")
        self.reply = reply
        return reply.status, json.loads(reply.body) if reply.body else None
