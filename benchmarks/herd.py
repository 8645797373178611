"""A herd on a cold asset: requests at the source, every body compared, time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.crowd import ask_all
from benchmarks.report import Table, seconds, size
from benchmarks.servers import everybody, source
from tests.support.source import asset_bytes

CASES = [(200, 100_000), (1_000, 100_000), (200, 67_108_864), (1_000, 67_108_864)]


def run(directory: Path, quick: bool) -> Table:
    rows = []
    with source() as origin, everybody(directory, origin) as servers:
        for clients, length in CASES[:3] if quick else CASES:
            for server in servers:
                asset_id = f"s{length}/herd-{clients}-{server.name.replace(' ', '-')}.bin"
                expected = asset_bytes(asset_id, 0, length)
                origin.reset()
                found = ask_all(server.port, server.path(asset_id), clients, expected)
                asked, sent = origin.seen(asset_id)
                rows.append(
                    [
                        f"{clients:,} × {size(length)}",
                        server.name,
                        str(asked),
                        size(sent),
                        str(found.wrong),
                        seconds(max(found.first, default=0)),
                        seconds(found.seconds),
                        f"{found.bytes / found.seconds / 1e9:.2f} GB/s",
                    ]
                )
    columns = [
        "herd",
        "",
        "source requests",
        "source bytes",
        "wrong bodies",
        "last first byte",
        "time",
        "rate",
    ]
    note = (
        "All clients connect, then ask at once for an asset nobody has; each body is compared byte by byte, "
        "and wrong also when it is not there after 90 s. "
        "The comparing client and the source share one core, so it bounds the rate of the large ones."
    )
    return Table("A herd on a cold asset", note, columns, rows)
