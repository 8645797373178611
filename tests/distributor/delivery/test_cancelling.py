"""Cancelled after every number of turns of the loop: a client, the whole edge, or by a purge.

Nothing may be held afterwards (the bench looks at that), and the next client gets every byte.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from distributor.errors import EdgeError
from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import Bench, finish, range_of

N = 20_000
TURNS = range(0, 120, 3)

SITUATIONS = {
    "miss": {},
    "external": {"headers": [("Cache-Control", "no-store")]},
    "stale": {"headers": [("Cache-Control", "no-cache")]},
    "chunked": {"framing": "chunked", "digest": True},
}


async def client(bench: Bench, asset_id: str, headers: list[tuple[str, str]]) -> None:
    """A client as the API is one: whatever happens, it closes the body."""
    answer = await bench.ask(asset_id, headers)
    try:
        with suppress(EdgeError):
            await finish(answer)
    finally:
        if answer.body is not None:
            await answer.body.aclose()


async def prepared(bench: Bench, situation: str) -> list[str]:
    """One asset for each number of turns, in the situation."""
    names = [f"asset-{turns}" for turns in TURNS]
    made: dict[str, Any] = SITUATIONS[situation]
    for name in names:
        bench.source.add(name, N, **made)
        if situation == "stale":
            await bench.fill(name)
    return names


async def turn(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("headers", [[], range_of(12_000, 12_999)], ids=["whole", "range"])
@pytest.mark.parametrize("fill", ["whole", "asked"])
async def test_client_cancelled_at_any_turn_leaves_nothing_and_spoils_nothing(
    situation: str, headers: list[tuple[str, str]], fill: str, make_bench: MakeBench
) -> None:
    async with make_bench(fill=fill) as bench:
        for turns, name in zip(TURNS, await prepared(bench, situation), strict=True):
            task = asyncio.create_task(client(bench, name, headers))
            await turn(turns)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            got = await bench.get(name)
            assert (got.error, got.body) == (None, bench.source.assets[name].content(name)), turns
        await bench.idle()


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("fill", ["whole", "asked"])
async def test_edge_closed_at_any_turn_leaves_nothing_and_a_new_one_goes_on(
    situation: str, fill: str, make_bench: MakeBench
) -> None:
    async with make_bench(fill=fill) as bench:
        for turns, name in zip(TURNS, await prepared(bench, situation), strict=True):
            tasks = [
                asyncio.create_task(client(bench, name, headers))
                for headers in ([], range_of(12_000, 12_999))
            ]
            await turn(turns)
            await bench.edge.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await bench.edge.close()
            bench.begin()
            got = await bench.get(name)
            assert (got.error, got.body) == (None, bench.source.assets[name].content(name)), turns
        await bench.idle()


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("fill", ["whole", "asked"])
async def test_purge_at_any_turn_costs_no_reader_a_byte_and_keeps_nothing_old(
    situation: str, fill: str, make_bench: MakeBench
) -> None:
    async with make_bench(fill=fill) as bench:
        for turns, name in zip(TURNS, await prepared(bench, situation), strict=True):
            old = bench.source.assets[name].content(name)
            tasks = [
                asyncio.create_task(bench.get(name)),
                asyncio.create_task(bench.get(name, range_of(12_000, 12_999))),
            ]
            await turn(turns)
            # From here on the source has another version: what comes later must not be the old one.
            bench.source.assets[name].version = 1
            new = bench.source.assets[name].content(name)
            await bench.purger.purge(ids=[name])
            late = await bench.get(name)
            assert (late.error, late.body) == (None, new), turns
            whole, part = await asyncio.gather(*tasks)
            assert whole.error is not None or whole.body in (old, new), turns
            expected = [one[12_000:13_000] if part.status == 206 else one for one in (old, new)]
            assert part.error is not None or part.body in expected, turns
        await bench.idle()
