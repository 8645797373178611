"""Edges with one source and with two, that give up on a silent source soon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.edge import Edge
from tests.support.fixtures import asset, free_port, sources, start_edge
from tests.support.source import Source

__all__ = ["asset", "sources", "start_edge"]

SEGMENT = 65_536


class Site:
    """An edge and the sources it knows; the edge lives through the session, the sources for one test."""

    def __init__(self, edge: Edge, ports: list[int]) -> None:
        self.edge = edge
        self.ports = ports
        self.sources: list[Source] = []

    def count(self, asset_id: str) -> int:
        return sum(source.count(asset_id) for source in self.sources)

    def body_bytes(self, asset_id: str) -> int:
        return sum(source.body_bytes(asset_id) for source in self.sources)


@pytest.fixture(scope="session", params=[1, 2], ids=["one-source", "two-sources"])
def lasting_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ports = [free_port() for _ in range(request.param)]
    changes = {
        "origin.stall_timeout": "250ms",
        "origin.backoff": "20ms",
        "freshness.negative_ttl": "0s",
    }
    urls = [f"http://127.0.0.1:{port}/content/{{id}}" for port in ports]
    edge = Edge(tmp_path_factory.mktemp("edge"), urls, changes)
    edge.start_now()
    yield Site(edge, ports)
    edge.kill_now()


@pytest_asyncio.fixture
async def site(lasting_site: Site) -> AsyncIterator[Site]:
    lasting_site.sources = [Source() for _ in lasting_site.ports]
    for source, port in zip(lasting_site.sources, lasting_site.ports, strict=True):
        await source.start(port)
    before = len(lasting_site.edge.log)
    yield lasting_site
    for source in lasting_site.sources:
        await source.stop()
    assert lasting_site.edge.running
    assert not [line for line in lasting_site.edge.log[before:] if "Traceback" in line]
