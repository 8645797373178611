"""An origin that tells a real edge what changes, over a relay that can be cut.

async with told_edge(tmp_path) as pair:
    await pair.put("clip.bin", b"old")
    await pair.warm("media/clip.bin", b"old")
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from origin.services import edges
from tests.support.edge import TOKEN, Edge
from tests.support.origin_service import Service, running_origin


class Relay:
    """A port that stays the same, whichever port the edge has; closed: connections are cut at once."""

    def __init__(self) -> None:
        self.target = 0
        self.closed = True
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        self.closed = True
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.closed:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._open |= {writer, back}
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._open -= {writer, back}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@dataclass(slots=True)
class Pair:
    service: Service
    edge: Edge
    relay: Relay

    async def put(self, path: str, body: bytes, storage: str = "media") -> str:
        """Upload; return the File's id."""
        answer = await self.service.put(f"{storage}/{path}", body)
        assert answer.status in (200, 201), answer.body
        return str(answer.headers["X-File-Id"])

    async def warm(self, asset: str, body: bytes) -> None:
        """Have the edge hold the asset, so that it is a hit."""
        assert (await self.edge.get(asset)).body == body
        await self.edge.settled(asset)

    async def gone(self, *assets: str) -> None:
        """The very next GET of each is 404, and then one more, for it is remembered."""
        for asset in assets * 2:
            assert (await self.edge.get(asset)).status == 404, asset

    async def holds(self, body: bytes, *assets: str) -> None:
        """The very next GET of each has these bytes."""
        for asset in assets:
            reply = await self.edge.get(asset)
            assert (reply.status, reply.body) == (200, body), asset

    async def job_done(self, id: str) -> None:
        """Wait for the end of a job, of which no moment passes before this returns."""
        admin = await self.service.admin()
        async with asyncio.timeout(20):
            while True:
                # a task made before the look, so that no change is missed
                news = asyncio.create_task(self.service.services.jobs.changed(1.0))
                job = await self.service.services.jobs.get(admin, id)
                if job.finished_ms is not None:
                    news.cancel()
                    assert job.state.value.startswith("FINISHED"), job
                    return
                await news


@asynccontextmanager
async def told_edge(folder: Path, **extra: Any) -> AsyncIterator[Pair]:
    """A pair that works; storages as in `origin_config`. extra: settings of the origin."""
    relay = Relay()
    url = await relay.start()
    patient = pytest.MonkeyPatch()
    patient.setattr(edges, "DEADLINE", 30.0)  # however busy the machine is
    (folder / "origin").mkdir(exist_ok=True)
    try:
        async with running_origin(
            folder / "origin", edges=[{"url": url, "token": TOKEN}], **extra
        ) as service:
            sources = [f"{service.url}/content/{{id}}"]
            async with Edge(folder / "at-the-edge", sources, {"freshness.negative_ttl": "60s"}) as edge:
                relay.target, relay.closed = edge.operator_port, False
                yield Pair(service, edge, relay)
    finally:
        patient.undo()
        await relay.stop()
