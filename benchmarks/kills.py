"""Ten kill -9 at random moments under load: wrong answers, lost complete assets, time to ready."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from statistics import median

from benchmarks.report import Table, seconds
from tests.fault.test_kill9 import FRESH, ROUNDS, SIZES, Load
from tests.support.edge import Edge
from tests.support.source import Source


async def _kills(directory: Path) -> tuple[Load, list[float], list[str]]:
    chance = random.Random()
    ids = [f"{number}/s{size}" for number in range(6) for size in SIZES]
    ready: list[float] = []
    lost: list[str] = []
    async with Source() as source:
        for asset_id in ids:
            source.add(asset_id, int(asset_id.rpartition("s")[2]), headers=FRESH, rate=20_000_000)
        edge = Edge(directory, [source.url], {"cache.durability": "fsync"})
        load = Load(edge, source, ids, chance)
        async with edge:
            for _ in range(ROUNDS):
                clients = [asyncio.create_task(load.client()) for _ in range(8)]
                await asyncio.sleep(chance.uniform(0.05, 2.0))
                await edge.kill()
                await asyncio.gather(*clients)
                load.killed()
                await edge.start()
                ready.append(edge.ready_seconds)
                for asset_id in sorted(load.complete):
                    reply = await edge.get(asset_id)
                    load.check(asset_id, reply, None)
                    if reply.cache != "hit":
                        lost.append(asset_id)
    return load, ready, lost


def run(directory: Path) -> Table:
    load, ready, lost = asyncio.run(_kills(directory))
    rows = [
        ["answers compared", f"{load.answers:,}"],
        ["wrong answers", str(len(load.wrong))],
        ["complete assets lost", str(len(lost))],
        ["time to ready", f"{seconds(median(ready))}, at most {seconds(max(ready))}"],
    ]
    note = f"{ROUNDS} kills under 8 clients that get, range and purge {len(SIZES) * 6} assets."
    return Table("kill -9", note, ["", ""], rows)
