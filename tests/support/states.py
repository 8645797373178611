"""Bring an asset into each state an edge may find it in, and ask for it there.

miss          nothing is stored
pending       a fetch is held at byte `at`; it goes on once the head of the answer has come
hit           stored whole
external      the source says no-store: passed through
revalidated   stored whole but stale; the source confirms it
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tests.support.edge import Edge
from tests.support.source import Asset, Source
from tests.support.wire import Reply, Wire

STATES = ("miss", "pending", "hit", "external", "revalidated")
X_CACHE = {"miss": "miss", "pending": "pending", "hit": "hit", "external": "miss", "revalidated": "hit"}


def add(source: Source, asset_id: str, state: str, size: int, **settings: Any) -> Asset:
    """Put the asset on the source with the freshness that the state needs."""
    control = {"external": "no-store", "revalidated": "max-age=0"}.get(state, "max-age=600")
    headers = [("Cache-Control", control), *settings.pop("headers", [])]
    return source.add(asset_id, size, headers=headers, **settings)


async def ask_in(
    state: str,
    edge: Edge,
    source: Source,
    asset_id: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    method: str = "GET",
    at: int = 70_000,
) -> Reply:
    """Bring the asset, already added, into `state`, then ask for it. Compare the bytes yourself."""
    target = f"/assets/{asset_id}"
    if state in ("hit", "revalidated"):
        await fill(edge, asset_id)
    if state != "pending":
        return await edge.ask(target, method, headers)
    async with Wire(edge.port) as first:
        at = min(at, source.assets[asset_id].size)
        gate = source.hold(asset_id, at)
        await first.request(target)
        await gate.reached.wait()
        await first.head()
        held_back = 1 if source.assets[asset_id].digest and at == source.assets[asset_id].size else 0
        await first.read(at - held_back)
        async with Wire(edge.port) as wire:
            await wire.request(target, method, headers)
            await wire.head()
            gate.open()
            reply, _ = await asyncio.gather(wire.rest(), first.rest(keep=False))
            return reply


async def fill(edge: Edge, asset_id: str) -> None:
    """GET the whole and wait until it is stored."""
    await edge.get(asset_id, keep=False)
    await edge.idle()


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
