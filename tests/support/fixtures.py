"""One edge process for most tests, a source of its own for each of them, and unique asset ids.

Tests that change settings, kill the process or fill the store start their own through `start_edge`.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.edge import Edge
from tests.support.source import Source

_numbers = itertools.count(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class SharedEdge(Edge):
    source_port: int


@pytest.fixture(scope="session")
def shared_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedEdge]:
    port = free_port()
    edge = SharedEdge(
        tmp_path_factory.mktemp("edge"),
        [f"http://127.0.0.1:{port}/content/{{id}}"],
        {"origin.backoff": "50ms", "freshness.negative_ttl": "60s"},
    )
    edge.source_port = port
    edge.start_now()
    yield edge
    edge.kill_now()


@pytest_asyncio.fixture
async def source(shared_edge: SharedEdge) -> AsyncIterator[Source]:
    """The source of the shared edge; what it has and does is this test's alone."""
    server = Source()
    await server.start(shared_edge.source_port)
    yield server
    await server.stop()


@pytest.fixture
def edge(shared_edge: SharedEdge, source: Source) -> Iterator[Edge]:
    """The shared edge; no test may leave a traceback in its log, or kill it."""
    if not shared_edge.running:
        shared_edge.start_now()
    before = len(shared_edge.log)
    yield shared_edge
    assert shared_edge.running
    bad = [line for line in shared_edge.log[before:] if "Traceback" in line]
    assert not bad, "\n".join(shared_edge.log[before:])


@pytest.fixture
def asset(request: pytest.FixtureRequest) -> str:
    """An id that no other test uses."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    return f"{next(_numbers)}/{name}.mp4"


StartEdge = Callable[..., Awaitable[Edge]]


@pytest_asyncio.fixture
async def start_edge(tmp_path: Path) -> AsyncIterator[StartEdge]:
    """start_edge(*sources, key=value…): an edge of this test's own; dots in keys are written `__`."""
    running: list[Edge] = []

    async def start(*sources: Source | str, **changes: Any) -> Edge:
        urls = [s if isinstance(s, str) else s.url for s in sources]
        directory = tmp_path / f"edge-{len(running) + 1}"
        edge = Edge(directory, urls, {k.replace("__", "."): v for k, v in changes.items()})
        running.append(edge)
        return await edge.start()

    yield start
    for edge in running:
        if edge.running:
            await edge.kill()


@pytest_asyncio.fixture
async def sources() -> AsyncIterator[tuple[Source, Source]]:
    """Two sources that know of no edge yet."""
    async with Source() as one, Source() as other:
        yield one, other
