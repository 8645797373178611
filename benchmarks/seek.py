"""A seek into a cold film: time and source bytes for 1,000 bytes at 150 MiB of 192 MiB."""

from __future__ import annotations

import shutil
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.report import Table, seconds, size
from benchmarks.servers import Server, everybody, nginx, our_edge, source
from tests.support.source import asset_bytes

LENGTH, AT, COUNT = 192 << 20, 150 << 20, 1000
RATE = 100_000_000


def _ask(port: int, target: str, first: int, last: int) -> tuple[float, bytes]:
    """Seconds to the last byte, and the body."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        began = time.perf_counter()
        request = f"GET {target} HTTP/1.1\r\nHost: a\r\nRange: bytes={first}-{last}\r\n\r\n"
        sock.sendall(request.encode())
        got = b""
        while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < last - first + 1:
            part = sock.recv(65536)
            if not part:
                break
            got += part
        return time.perf_counter() - began, got.partition(b"\r\n\r\n")[2]


def run(directory: Path, rounds: int) -> Table:
    rows = []
    with source("--rate", str(RATE)) as origin, everybody(directory, origin) as servers, ExitStack() as more:
        asked = {"cache.fill": "asked"}
        fill = our_edge(directory / "asked", origin.url, asked, name="this edge, fill: asked")
        others: list[Server] = [more.enter_context(fill)]
        if shutil.which("nginx"):
            others.append(more.enter_context(nginx(directory / "slice", origin.port, slices=True)))
        for server in [*servers, *others]:
            times, sent = [], []
            for number in range(rounds):
                asset_id = f"s{LENGTH}/{server.name.replace(' ', '-')}-{number}.bin"
                origin.reset()
                took, body = _ask(server.port, server.path(asset_id), AT, AT + COUNT - 1)
                sent.append(origin.seen(asset_id)[1])
                times.append(took)
                if body != asset_bytes(asset_id, AT, AT + COUNT):
                    raise RuntimeError(f"{server.name}: wrong bytes")
            rows.append([server.name, seconds(median(times)), seconds(max(times)), size(median(sent))])
    note = (
        f"1,000 bytes at 150 MiB of a cold 192 MiB asset; the source gives {RATE / 1e6:.0f} MB/s a body. "
        "Source bytes: sent when the answer was complete; `fill: whole` then goes on to fetch the rest."
    )
    return Table("A seek into a cold film", note, ["", "time", "longest", "source bytes"], rows)
