"""Everything at once, from a seed: small store, many clients, purges, new versions, failing sources.

Every answer is held to the one rule that matters: its bytes are of the one version its ETag names, at
the place its Content-Range names, and it ended cleanly only if it is whole.
"""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source, asset_bytes
from tests.support.wire import Reply

SIZES = (0, 1, 4_096, 65_535, 65_536, 65_537, 200_000, 1_000_003)
LIMIT = 3 << 20
CLIENTS = 12
REQUESTS = 60  # each client
FRESHNESS = ("max-age=600", "max-age=0", "no-cache", "no-store", "max-age=0, stale-while-revalidate=9")


class Chaos:
    def __init__(self, edge: Edge, sources: tuple[Source, Source], seed: int) -> None:
        self.edge, self.sources = edge, sources
        self.chance = random.Random(seed)
        self.ids = [f"{n}/s{size}" for n in range(3) for size in SIZES]
        self.control = {one: self.chance.choice(FRESHNESS) for one in self.ids}
        self.digests = {one: self.chance.random() < 0.5 for one in self.ids}
        self.versions = dict.fromkeys(self.ids, 0)
        for one in self.ids:
            self.publish(one)
        for source in sources:
            for at in (0, 1, 4096, 65_536, 100_000):
                fault = Fault(cut_after=at) if self.chance.random() < 0.5 else Fault(reset_after=at)
                source.fault(None, fault, match=lambda _: self.chance.random() < 0.02)
            source.fault(None, Fault(status=503), match=lambda _: self.chance.random() < 0.02)
            source.fault(None, Fault(drop="reset"), match=lambda _: self.chance.random() < 0.02)
        self.statuses: list[int] = []

    def publish(self, asset_id: str) -> None:
        size = int(asset_id.rpartition("s")[2])
        for source in self.sources:
            source.add(
                asset_id,
                size,
                version=self.versions[asset_id],
                digest=self.digests[asset_id],
                headers=[("Cache-Control", self.control[asset_id])],
            )

    def range_field(self, size: int) -> list[tuple[str, str]]:
        kind = self.chance.random()
        if kind < 0.4 or size == 0:
            return []
        first = self.chance.randrange(size)
        if kind < 0.5:
            return [("Range", f"bytes=-{first + 1}")]
        if kind < 0.6:
            return [("Range", f"bytes={first}-")]
        return [("Range", f"bytes={first}-{first + self.chance.randrange(150_000)}")]

    async def client(self) -> None:
        for _ in range(REQUESTS):
            asset_id = self.chance.choice(self.ids)
            if self.chance.random() < 0.03:
                await self.edge.operate(
                    "POST", "/purge", {"ids": [asset_id], "soft": self.chance.random() < 0.5}
                )
            if self.chance.random() < 0.03:
                self.versions[asset_id] += 1
                self.publish(asset_id)
            headers = self.range_field(int(asset_id.rpartition("s")[2]))
            self.check(asset_id, bool(headers), await self.edge.get(asset_id, headers))

    def check(self, asset_id: str, ranged: bool, reply: Reply) -> None:
        self.statuses.append(reply.status)
        if reply.status in (502, 503):
            return
        assert reply.status == 200 or (ranged and reply.status == 206), (asset_id, reply)
        tag = re.fullmatch(r'"v(\d+)-([0-9a-f]+)"', reply["ETag"] or "")
        assert tag is not None, reply
        version, size = int(tag[1]), int(tag[2], 16)
        start, stop = 0, size
        if reply.status == 206:
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", reply["Content-Range"] or "")
            assert span is not None and int(span[3]) == size
            start, stop = int(span[1]), int(span[2]) + 1
        assert reply["Content-Length"] == str(stop - start)
        got = start + len(reply.body)
        assert got <= stop
        assert reply.body == asset_bytes(asset_id, start, got, version), (asset_id, version, start, got)
        assert (reply.end == "complete") == (got == stop)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_answer_has_a_wrong_byte_whatever_happens_together(
    seed: int, start_edge: StartEdge, sources: tuple[Source, Source]
) -> None:
    edge = await start_edge(
        *sources,
        cache__limit="3M",
        cache__fill="asked" if seed == 2 else "whole",
        cache__eviction="s3-fifo" if seed == 3 else "lru",
        origin__backoff="10ms",
        freshness__stale_if_error="0s",
    )
    chaos = Chaos(edge, sources, seed)
    clients = [asyncio.create_task(chaos.client()) for _ in range(CLIENTS)]
    done, _ = await asyncio.wait(clients, return_when=asyncio.FIRST_EXCEPTION)
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    for task in done:
        task.result()
    assert len(chaos.statuses) == CLIENTS * REQUESTS
    well = sum(status in (200, 206) for status in chaos.statuses)
    assert well > 0.9 * len(chaos.statuses)
    await edge.idle()
    assert (await edge.status())["storageUsed"] <= LIMIT
    assert edge.blob_bytes() <= LIMIT + (1 << 20)  # the file system rounds each up to its blocks
    assert edge.tracebacks() == []
