"""Which policy misses less: generated traces played to the edge's own accounts, at several sizes."""

from __future__ import annotations

import itertools
import random
from bisect import bisect
from collections.abc import Callable, Iterator

from benchmarks.report import Table, size
from distributor.core.simulation import Access, Simulation, simulate

REQUESTS = 400_000
ASSETS = 40_000
SEED = 20260101


def assets(chosen: random.Random, count: int) -> list[int]:
    """Bytes of each: nine of ten are segments of 0.2 to 4 MB, the others clips of 8 to 200 MB."""
    return [
        chosen.randint(200_000, 4_000_000)
        if chosen.random() < 0.9
        else chosen.randint(8_000_000, 200_000_000)
        for _ in range(count)
    ]


def zipf(count: int, requests: int, *, scan: float = 0.0, drift: float = 0.0) -> Iterator[Access]:
    """Popularity falls as 1/rank^0.9.

    scan   share of requests that walk through an archive, each asset of it asked for once
    drift  share of the assets whose rank is passed on to a new asset, over the whole trace
    """
    chosen = random.Random(SEED)
    sizes = assets(chosen, count)
    weights = list(itertools.accumulate((rank + 1) ** -0.9 for rank in range(count)))
    named = list(range(count))
    new = archive = count
    renewals = drift * count / requests
    for _ in range(requests):
        if chosen.random() < renewals:
            named[chosen.randrange(count)] = new
            new += 1
        if chosen.random() < scan:
            archive += 1
            yield Access(f"archive-{archive}", chosen.randint(200_000, 20_000_000))
            continue
        rank = min(count - 1, bisect(weights, chosen.random() * weights[-1]))
        yield Access(str(named[rank]), sizes[rank])


TRACES: dict[str, Callable[[int, int], Iterator[Access]]] = {
    "Zipf": lambda count, requests: zipf(count, requests),
    "Zipf, a third of it a scan": lambda count, requests: zipf(count, requests, scan=1 / 3),
    "Zipf, half of the catalogue renewed": lambda count, requests: zipf(count, requests, drift=0.5),
}


def run(quick: bool) -> Table:
    count, requests = (ASSETS // 10, REQUESTS // 10) if quick else (ASSETS, REQUESTS)
    whole = sum(assets(random.Random(SEED), count))
    rows = []
    for name, trace in TRACES.items():
        for part in (100, 10):
            limit = whole // part
            lru, fifo = simulate(
                trace(count, requests), [Simulation("lru", limit), Simulation("s3-fifo", limit)]
            )
            rows.append(
                [
                    name,
                    f"{size(limit)} ({100 // part} %)",
                    *(f"{t.object_miss_ratio:.3f} / {t.byte_miss_ratio:.3f}" for t in (lru, fifo)),
                ]
            )
    note = (
        f"Generated traces of {requests:,} requests for {count:,} assets, {size(whole)} in all: objects /"
        " bytes missed. `distributor simulate` does the same with a trace of your own."
    )
    return Table("Eviction", note, ["trace", "cache.limit", "lru", "s3-fifo"], rows)
