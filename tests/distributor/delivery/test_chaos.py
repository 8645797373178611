"""Clients, purges, versions, failing sources and failing disks, all at once and at random.

Whatever happens, a body is a prefix of one version's bytes, a clean end is the whole of what was
asked, and afterwards nothing is held: the bench looks at that when it closes.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from distributor.errors import EdgeError
from tests.distributor.delivery.conftest import MakeBench
from tests.support.delivery import SEGMENT, Bench, Reading
from tests.support.memory_store import MemoryStore
from tests.support.source import Fault, asset_bytes

IDS = ["a", "b", "c"]
SIZES = {"a": 10 * SEGMENT + 77, "b": 40 * SEGMENT, "c": 1}


class Chaos:
    """One run under one seed."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.dice = random.Random(seed)
        self.versions = dict.fromkeys(IDS, 0)
        self.answers = 0

    def offer(self, asset_id: str) -> None:
        """The present version on every source, made in one of several ways."""
        dice = self.dice
        made: dict[str, Any] = dice.choice(
            [
                {},
                {"digest": True},
                {"framing": "chunked"},
                {"etag": "none", "digest": True},
                {"ranges": False},
            ]
        )
        control = dice.choice(["max-age=60", "max-age=0", "no-cache", "max-age=0, stale-while-revalidate=9"])
        if dice.random() < 0.1:
            control = "no-store"
        for source in self.bench.sources:
            source.add(
                asset_id,
                SIZES[asset_id],
                version=self.versions[asset_id],
                headers=[("Cache-Control", control)],
                # Another second for another version, so that both kinds of validator tell them apart.
                last_modified=1_700_000_000 + self.versions[asset_id],
                **made,
            )

    def matches(self, asset_id: str, start: int, got: bytes) -> bool:
        """One of the versions that ever were, and no mixture of two."""
        stop = start + len(got)
        return any(
            got == asset_bytes(asset_id, start, stop, version)
            for version in range(self.versions[asset_id] + 1)
        )

    async def client(self) -> None:
        dice, asset_id = self.dice, self.dice.choice(IDS)
        size = SIZES[asset_id]
        start = dice.randrange(size) if dice.random() < 0.6 else 0
        stop = min(size, start + dice.choice([1, 100, SEGMENT, 5 * SEGMENT, size]))
        ranged = dice.random() < 0.7
        headers = [("Range", f"bytes={start}-{stop - 1}")] if ranged else []
        method = "HEAD" if dice.random() < 0.1 else "GET"
        answer = await self.bench.ask(asset_id, headers, method=method)
        self.answers += 1
        if answer.body is None:
            return
        if answer.status == 200:
            start, stop = 0, size
        reading = Reading(answer, fail_slice_at=start if dice.random() < 0.05 else None)
        try:
            if dice.random() < 0.3:
                await reading.piece()
                await asyncio.sleep(dice.random() * 0.02)
            else:
                await reading.rest()
                assert len(reading.taken) == stop - start
        except EdgeError:
            pass
        finally:
            await reading.leave()
        assert self.matches(asset_id, start, bytes(reading.taken)), (asset_id, start, len(reading.taken))

    async def client_that_may_be_cancelled(self) -> None:
        task = asyncio.create_task(self.client())
        if self.dice.random() < 0.3:
            await asyncio.sleep(self.dice.random() * 0.02)
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def mischief(self) -> None:
        dice, bench = self.dice, self.bench
        asset_id, source = dice.choice(IDS), dice.choice(bench.sources)
        match dice.randrange(7):
            case 0:
                await bench.purger.purge(ids=[asset_id], soft=dice.random() < 0.3)
            case 1:
                self.versions[asset_id] += 1
                self.offer(asset_id)
            case 2:
                fault = dice.choice(
                    [
                        Fault(cut_after=dice.randrange(SIZES[asset_id])),
                        Fault(reset_after=dice.randrange(SIZES[asset_id])),
                        Fault(stall_after=dice.randrange(SIZES[asset_id])),
                        Fault(status=dice.choice([404, 500, 416])),
                        Fault(drop="reset"),
                        Fault(ignore_range=True),
                        Fault(delay=0.02),
                        Fault(rate=2_000_000),
                    ]
                )
                source.fault(asset_id, fault, on=range(1, 3))
            case 3:
                source.heal()
            case 4:
                if isinstance(bench.store, MemoryStore):
                    op = dice.choice(["begin", "reserve", "write", "open", "digest", "commit", "checkpoint"])
                    bench.store.fail(op, after=dice.randrange(20), times=dice.randrange(1, 3))
            case 5:
                gate = source.hold(asset_id, dice.randrange(SIZES[asset_id]))
                await asyncio.sleep(dice.random() * 0.03)
                gate.open()
            case 6:
                with suppress(EdgeError):
                    await bench.edge.prefetch(asset_id, asset_id, bench.clock.now())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fill", ["whole", "asked"])
async def test_no_wrong_byte_and_nothing_held_whatever_happens(
    seed: int, fill: str, make_bench: MakeBench
) -> None:
    room = 30 * SEGMENT if seed % 2 else 256 << 20
    async with make_bench(
        fill=fill, sources=2, stall_timeout=0.25, backoff=0.05, negative_ttl=0.05, limit=room
    ) as bench:
        chaos = Chaos(bench, seed)
        for asset_id in IDS:
            chaos.offer(asset_id)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(120):
                group.create_task(chaos.client_that_may_be_cancelled())
                if chaos.dice.random() < 0.4:
                    group.create_task(chaos.mischief())
                await asyncio.sleep(chaos.dice.random() * 0.004)
        for source in bench.sources:
            source.heal()
        if isinstance(bench.store, MemoryStore):
            bench.store.heal()
        await bench.idle()
        assert chaos.answers > 50
        await asyncio.sleep(0.1)
        for asset_id in IDS:  # and it is as good as new
            await bench.purger.purge(ids=[asset_id])
            got = await bench.get(asset_id)
            assert got.error is None
            assert got.body == asset_bytes(asset_id, 0, SIZES[asset_id], chaos.versions[asset_id])
