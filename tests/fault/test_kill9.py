"""Ten times kill -9 at a random moment under load: no wrong byte, nothing complete lost, soon ready."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.support.edge import Edge
from tests.support.source import Source
from tests.support.wire import Reply, Wire, range_of

ROUNDS = 10
SIZES = (1, 4_096, 65_536, 65_537, 300_001, 1_000_000, 3_000_000)
READY_SECONDS = 10.0  # generous: two shared cores; what it took is printed
FRESH = [("Cache-Control", "max-age=3600")]


class Load:
    """Clients that ask at random and compare; they note which assets they saw complete."""

    def __init__(self, edge: Edge, source: Source, ids: list[str], chance: random.Random) -> None:
        self.edge, self.source, self.ids, self.chance = edge, source, ids, chance
        self.complete: set[str] = set()
        self.purging: set[str] = set()
        self.purges: Counter[str] = Counter()
        self.answers = 0
        self.wrong: list[str] = []

    def check(self, asset_id: str, reply: Reply, span: tuple[int, int] | None) -> None:
        made = self.source.assets[asset_id]
        start, stop = span or (0, made.size)
        if reply.status not in (200, 206):
            self.wrong.append(f"{asset_id}: {reply.status}")
        elif reply.body != made.content(asset_id, start, start + len(reply.body)):
            self.wrong.append(f"{asset_id} {span}: wrong bytes")
        elif reply.end == "complete" and len(reply.body) != stop - start:
            self.wrong.append(f"{asset_id} {span}: {len(reply.body)} bytes ended cleanly")
        self.answers += 1

    async def client(self) -> None:
        while True:
            asset_id = self.chance.choice(self.ids)
            size = self.source.assets[asset_id].size
            span = None
            if self.chance.random() < 0.4:
                start = self.chance.randrange(size)
                span = (start, min(size, start + self.chance.randrange(1, 200_000)))
            purges = self.purges[asset_id]
            try:
                reply = await self.edge.get(asset_id, range_of(span[0], span[1] - 1) if span else [])
            except (ConnectionError, OSError, asyncio.IncompleteReadError):
                return  # killed before the head
            self.check(asset_id, reply, span)
            if reply.cache == "hit" and purges == self.purges[asset_id] and asset_id not in self.purging:
                self.complete.add(asset_id)
            if self.chance.random() < 0.05:
                await self.purge(self.chance.choice(self.ids))

    async def purge(self, asset_id: str) -> None:
        """An answer that was begun before the purge was over says nothing of what is stored after it."""
        if asset_id in self.purging:
            return
        self.purges[asset_id] += 1
        self.complete.discard(asset_id)
        self.purging.add(asset_id)
        with suppress(ConnectionError, OSError, asyncio.IncompleteReadError):
            await self.edge.operate("POST", "/purge", {"ids": [asset_id]})
            self.purges[asset_id] += 1
            self.purging.discard(asset_id)

    def killed(self) -> None:
        """Purges that the kill interrupted may or may not have been carried out."""
        self.purging.clear()


async def test_ten_kills_under_load_cost_no_complete_asset_and_give_no_wrong_byte(tmp_path: Path) -> None:
    chance = random.Random(9)
    ids = [f"{number}/s{size}" for number in range(6) for size in SIZES]
    async with Source() as source:
        for asset_id in ids:
            source.add(asset_id, int(asset_id.rpartition("s")[2]), headers=FRESH, rate=20_000_000)
        edge = Edge(tmp_path, [source.url], {"cache.durability": "fsync", "cache.limit": "256M"})
        ready, lost = [], []
        load = Load(edge, source, ids, chance)
        await edge.start()
        try:
            for _ in range(ROUNDS):
                clients = [asyncio.create_task(load.client()) for _ in range(8)]
                await asyncio.sleep(chance.uniform(0.02, 0.8))  # the experiment itself: any moment
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
                for asset_id in chance.sample(ids, 10):
                    load.check(asset_id, await edge.get(asset_id), None)
        finally:
            await edge.kill()
        print(f"{load.answers} answers, ready in {min(ready):.2f}-{max(ready):.2f} s")
        assert load.wrong == []
        assert lost == []
        assert load.complete, "the load never saw a hit: the test has shown nothing"
        assert max(ready) < READY_SECONDS
        assert edge.tracebacks() == []


async def test_partial_asset_is_resumed_or_dropped_after_kill_9(tmp_path: Path) -> None:
    async with Source() as source:
        size = 4 << 20
        source.add("a", size, headers=FRESH)
        gate = source.hold("a", 3 << 20)
        edge = Edge(tmp_path, [source.url], {"cache.durability": "fsync"})
        async with edge:
            async with Wire(edge.port) as wire:
                await wire.request("/assets/a")
                await wire.head()
                first = await wire.read(2 << 20)
                await edge.kill()
                cut = await wire.rest()
            assert first + cut.body == source.assets["a"].content("a", 0, cut.size)
            assert cut.end == "short"
            gate.open()
            await edge.start()
            reply = await edge.get("a")
            assert (reply.end, reply.body) == ("complete", source.assets["a"].content("a"))
            assert reply.cache != "hit"
            await edge.settled("a")
            assert (await edge.status())["storageUsed"] == size


async def test_second_process_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    async with Source() as source:
        first = Edge(tmp_path, [source.url])
        async with first:
            second = Edge(tmp_path, [source.url])
            try:
                await second.start()
            except RuntimeError:
                pass
            else:
                await second.kill()
                raise AssertionError("two processes own one cache directory")
            assert (await first.ask("/healthz")).status == 200
