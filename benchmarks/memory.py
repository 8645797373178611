"""Resident memory while 4 GiB stream to 50 slow clients."""

from __future__ import annotations

import selectors
import socket
import time
from pathlib import Path

from benchmarks.report import Table, size
from benchmarks.servers import our_edge, source
from tests.support.assets import asset_piece

LENGTH = 4 << 30
CLIENTS = 50


def run(directory: Path, quick: bool) -> Table:
    length = LENGTH // 8 if quick else LENGTH
    asset_id = f"s{length}/slow.bin"
    with source() as origin, our_edge(directory, origin.url, {"cache.limit": "10G"}) as server:
        edge = server.edge
        idle = edge.rss()
        received, peak = _stream(server.port, asset_id, length, 15 if quick else 40, edge.rss)
        held = edge.peak_rss()
        asked, sent = origin.seen(asset_id)
    rows = [
        ["resident before", size(idle)],
        ["highest while streaming", size(max(peak, held))],
        ["fetched meanwhile", f"{size(sent)} in {asked} request(s)"],
        ["read and compared by the clients", size(received)],
    ]
    note = f"{CLIENTS} clients of one cold {size(length)} asset, each reading about 1 MB/s."
    return Table("Memory", note, ["", ""], rows)


def _stream(port: int, asset_id: str, length: int, patience: float, rss: object) -> tuple[int, int]:
    """Read slowly from all; (bytes compared, highest resident bytes seen)."""
    assert callable(rss)
    request = f"GET /assets/{asset_id} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    chooser = selectors.DefaultSelector()
    places: dict[socket.socket, int] = {}
    for _ in range(CLIENTS):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request)
        places[sock] = -1
        chooser.register(sock, selectors.EVENT_READ, sock)
    received, peak = 0, 0
    end = time.monotonic() + patience
    while (now := time.monotonic()) < end:
        for key, _ in chooser.select(0.05):
            sock = key.data
            data = sock.recv(65536)
            if places[sock] < 0:
                _, _, data = data.partition(b"\r\n\r\n")
                places[sock] = 0
            at = places[sock]
            if data != asset_piece(asset_id, at, at + len(data)).tobytes():
                raise RuntimeError(f"wrong bytes at {at}")
            places[sock] = at + len(data)
            received += len(data)
        peak = max(peak, rss())
        time.sleep(max(0.0, 0.065 - (time.monotonic() - now)))
    for sock in places:
        sock.close()
    return received, peak
