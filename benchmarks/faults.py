"""What a client sees of a source's faults, and what a store of a fixed size takes on disk."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import Table, seconds, size
from tests.support.edge import Edge
from tests.support.source import Fault, Source
from tests.support.wire import Reply

LENGTH = 8 << 20
HALF = LENGTH // 2


@dataclass
class Case:
    """name: what the source does; when: to which of its GETs; made: of the asset."""

    name: str
    fault: Fault
    when: range | None
    digest: bool = False


FIRST = range(1, 2)
CASES = [
    Case("closes amid the body", Fault(cut_after=HALF), FIRST),
    Case("resets amid the body", Fault(reset_after=HALF), FIRST),
    Case("falls silent amid the body (stall_timeout 1 s)", Fault(stall_after=HALF), FIRST),
    Case("falls silent before the head", Fault(gate=asyncio.Event()), FIRST),
    Case("answers 500", Fault(status=500), FIRST),
    Case("answers 500, all of them, always", Fault(status=500), None),
    Case("answers 503, all of them, always", Fault(status=503), None),
    Case("closes without an answer", Fault(drop="close"), FIRST),
    Case("answers with no HTTP", Fault(head=b"\x00garbage\r\n\r\n"), FIRST),
    Case("sends more than Content-Length says", Fault(surplus=1000), FIRST),
    Case("sends less than Content-Length says", Fault(surplus=-1000), FIRST),
    Case("sends a byte that its digest contradicts", Fault(corrupt_at=HALF), FIRST, digest=True),
    Case("breaks amid the body, then has another version", Fault(cut_after=HALF), FIRST),
    Case("breaks amid the body and ignores Range from then on", Fault(cut_after=HALF), FIRST),
    Case("breaks amid the body, and all are gone", Fault(reset_after=HALF), FIRST),
]


async def _one(directory: Path, case: Case, count: int) -> tuple[str, float]:
    servers = [Source() for _ in range(count)]
    for server in servers:
        await server.start()
        server.add("a", LENGTH, digest=case.digest)
    servers[0].fault("a", case.fault, on=case.when, also=servers[1:])
    later = range(2, 99)
    if "another version" in case.name:
        servers[0].fault("a", Fault(version=1), on=later, also=servers[1:])
    if "ignores Range" in case.name:
        servers[0].fault("a", Fault(ignore_range=True), on=later, also=servers[1:])
    if "all are gone" in case.name:
        servers[0].fault("a", Fault(drop="reset"), on=later, also=servers[1:])
    expected = servers[0].assets["a"].content("a")
    try:
        async with Edge(directory, [server.url for server in servers]) as edge:
            began = time.monotonic()
            reply = await edge.get("a")
            took = time.monotonic() - began
            version = max(server.assets["a"].version for server in servers)
            for server in servers:
                server.heal()
                server.assets["a"] = replace(server.assets["a"], version=version)
            await edge.idle()
            again = await edge.get("a")
            whole = again.end == "complete" and again.body == servers[0].assets["a"].content("a")
            return f"{_seen(reply, expected)}; next request {'whole' if whole else 'NOT whole'}", took
    finally:
        for server in servers:
            await server.stop()


def _seen(reply: Reply, expected: bytes) -> str:
    if reply.status != 200:
        return f"{reply.status} JSON"
    if reply.end == "complete":
        return "every byte" if reply.body == expected else "WRONG BYTES"
    if reply.body == expected[: len(reply.body)]:
        return f"cut at {size(len(reply.body))}, all right so far"
    return f"cut at {size(len(reply.body))}, before the end"


def run(directory: Path) -> Table:
    rows = []
    for number, case in enumerate(CASES):
        row = [case.name]
        for count in (1, 2):
            seen, took = asyncio.run(_one(directory / f"{number}-{count}", case, count))
            row.append(f"{seen} ({seconds(took)})")
        rows.append(row)
    note = f"An asset of {size(LENGTH)} with a strong ETag; two sources have the same. In brackets: time."
    return Table("Faults of sources, and what the client saw", note, ["the source", "one", "two"], rows)


async def _push(directory: Path, limit: int, total: int) -> tuple[int, int, int, int]:
    """Highest storageUsed and blob bytes on disk; requests; wrong answers."""
    chance = random.Random(1)
    used = disk = asked = wrong = 0
    async with Source() as source:
        edge = Edge(directory, [source.url], {"cache.limit": limit, "cache.segment": "1M"})
        async with edge:
            while total > 0:
                name, length = f"n{asked}", chance.choice((10_000, 300_000, 2_000_000, 20_000_000))
                source.add(name, length)
                reply = await edge.get(name)
                wrong += reply.body != source.assets[name].content(name)
                total -= length
                asked += 1
                used = max(used, (await edge.status())["storageUsed"])
                disk = max(disk, edge.blob_bytes())
    return used, disk, asked, wrong


def room(directory: Path) -> Table:
    """Push twice the limit through."""
    limit = 256 << 20
    used, disk, asked, wrong = asyncio.run(_push(directory, limit, 2 * limit))
    rows = [
        ["limit", f"{limit:,}"],
        ["highest `storageUsed`", f"{used:,}"],
        ["most given to blobs by the file system", f"{disk:,}"],
        ["assets, wrong answers", f"{asked:,}, {wrong}"],
    ]
    return Table("Room", "Twice the limit pushed through, looked at after every asset.", ["", "bytes"], rows)
