"""Time to ready after a restart with n stored assets, clean and after kill -9."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.report import Table, seconds, size
from benchmarks.servers import our_edge, source
from tests.support.edge import Edge
from tests.support.source import asset_bytes
from tests.support.wire import Wire

LENGTH = 4096
CONNECTIONS = 32


async def _fill(edge: Edge, count: int) -> None:
    numbers = iter(range(count))

    async def client() -> None:
        async with Wire(edge.port) as wire:
            for number in numbers:
                reply = await wire.get(f"/assets/s{LENGTH}/{number}.bin")
                if reply.status != 200:
                    raise RuntimeError(f"{reply.status} while filling")

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    await edge.idle()


async def _check(edge: Edge, count: int) -> int:
    """How many of a hundred stored assets are no hit, or wrong."""
    bad = 0
    for number in range(0, count, max(1, count // 100)):
        asset_id = f"s{LENGTH}/{number}.bin"
        reply = await edge.get(asset_id)
        bad += reply.cache != "hit" or reply.body != asset_bytes(asset_id, 0, LENGTH)
    return bad


def run(directory: Path, counts: list[int]) -> Table:
    rows = []
    with source() as origin:
        for count in counts:
            with our_edge(directory / str(count), origin.url) as server:
                edge = server.edge
                asyncio.run(_fill(edge, count))
                memory = edge.rss()
                asyncio.run(edge.stop())
                edge.start_now()
                clean = edge.ready_seconds
                asyncio.run(_check(edge, count))
                edge.kill_now()
                edge.start_now()
                killed = edge.ready_seconds
                lost = asyncio.run(_check(edge, count))
                rows.append([f"{count:,}", seconds(clean), seconds(killed), str(lost), size(memory)])
    columns = ["stored assets", "ready after SIGTERM", "ready after kill -9", "lost of 100 asked", "resident"]
    return Table("Restart", "Process start to `ready`, Python's own start included.", columns, rows)
