"""Memory, and latency of a hit, with 10,000 idle connections open."""

from __future__ import annotations

import resource
import socket
import urllib.request
from pathlib import Path
from statistics import median

from benchmarks.load import wrk
from benchmarks.report import Table, seconds, size
from benchmarks.servers import Server, everybody, source

SMALL = "s4096/hot.bin"


def _measure(server: Server, rounds: int) -> tuple[float, float]:
    """p50 and p99 with one connection, the median of rounds."""
    found = [wrk(server.url(SMALL), 2, connections=1) for _ in range(rounds)]
    return median(one.p50 for one in found), median(one.p99 for one in found)


def run(directory: Path, rounds: int, count: int) -> Table:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(count, hard - 500)
    rows = []
    with source() as origin, everybody(directory, origin, {"limits.max_clients": count + 100}) as servers:
        for server in servers:
            with urllib.request.urlopen(server.url(SMALL)) as answer:
                answer.read()
            before, memory = _measure(server, rounds), server.rss()
            idle = []
            try:
                for _ in range(count):
                    idle.append(socket.create_connection(("127.0.0.1", server.port), 10))
                after, grown = _measure(server, rounds), server.rss() - memory
            except OSError as error:
                rows.append([server.name, *["–"] * 3, f"after {len(idle):,}: {error}"])
                continue
            finally:
                for sock in idle:
                    sock.close()
            pairs = [f"{seconds(one)} / {seconds(other)}" for one, other in (before, after)]
            rows.append(
                [server.name, *pairs, size(memory), f"{size(grown)} ({grown / count / 1024:.1f} KiB each)"]
            )
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    columns = ["", "p50 / p99 alone", "p50 / p99 with them", "resident alone", "more with them"]
    note = f"{count:,} connections that have sent nothing; 4 KiB hits on one more."
    return Table("Idle connections", note, columns, rows)
