"""Time to ready after a restart with n stored assets, clean and after kill -9."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Table, seconds, size
from benchmarks.servers import our_edge, source
from distributor.store.store import DiskStore
from distributor.units import parse_bytes
from tests.support.edge import Edge
from tests.support.source import asset_bytes
from tests.support.stores import recovered

LENGTH = 4096
TASKS = 64
PAUSE, IDLE = 1.0, 0.05  # seconds; the share of a core below which a server is at rest


async def _fill(cache: dict[str, Any], count: int) -> None:
    """Store assets 1 … count - 1 as the edge would that has fetched asset 0: they differ in their bytes."""
    store = DiskStore(
        Path(cache["directory"]),
        limit=parse_bytes(cache["limit"]),
        segment=parse_bytes(cache["segment"]),
        durability="none",
    )
    await store.start()
    await recovered(store)
    template = store.get(f"s{LENGTH}/0.bin")
    assert template is not None
    gc.freeze()  # as the edge does: its tables grow large, and need not be looked through again and again
    numbers = iter(range(1, count))

    async def put() -> None:
        for number in numbers:
            asset_id = f"s{LENGTH}/{number}.bin"
            body, now = asset_bytes(asset_id, 0, LENGTH), time.time()
            stored = await store.begin(asset_id, asset_id, template.representation, now)
            await store.write(stored, 0, body)
            await store.commit(stored, hashlib.sha256(body).digest(), now)
            store.release(stored)

    try:
        await asyncio.gather(*(put() for _ in range(TASKS)))
    finally:
        await store.close()


async def _check(edge: Edge, count: int) -> int:
    """How many of a hundred stored assets are no hit, or wrong."""
    bad = 0
    for number in range(0, count, max(1, count // 100)):
        asset_id = f"s{LENGTH}/{number}.bin"
        reply = await edge.get(asset_id)
        bad += reply.cache != "hit" or reply.body != asset_bytes(asset_id, 0, LENGTH)
    return bad


async def _ask_first(edge: Edge) -> None:
    await edge.get(f"s{LENGTH}/0.bin")
    await edge.idle()


def _busy_seconds(edge: Edge) -> float:
    """Seconds until the edge, which nobody asks for anything, does no more."""
    began = time.monotonic()
    spent = -1.0
    while (now := edge.cpu_seconds()) - spent > IDLE * PAUSE:
        spent = now
        time.sleep(PAUSE)
    return time.monotonic() - began


def run(directory: Path, counts: list[int]) -> Table:
    rows = []
    with source() as origin:
        for count in counts:
            with our_edge(directory / str(count), origin.url) as server:
                edge = server.edge
                asyncio.run(_ask_first(edge))
                asyncio.run(edge.stop())
                asyncio.run(_fill(edge.settings["cache"], count))
                edge.start_now()
                clean = edge.ready_seconds
                asyncio.run(_check(edge, count))
                edge.kill_now()
                edge.start_now()
                killed = edge.ready_seconds
                lost = asyncio.run(_check(edge, count))
                busy = _busy_seconds(edge)
                rows.append(
                    [
                        f"{count:,}",
                        seconds(clean),
                        seconds(killed),
                        str(lost),
                        seconds(busy),
                        size(edge.rss()),
                    ]
                )
    columns = [
        "stored assets",
        "ready after SIGTERM",
        "ready after kill -9",
        "lost of 100 asked",
        "all looked at after",
        "resident then",
    ]
    note = (
        "Process start to `ready`, Python's own start included. Assets of 4 KiB are served from the first "
        "moment on; behind that every one stored is looked at."
    )
    return Table("Restart", note, columns, rows)
