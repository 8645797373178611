"""p99 of hits while 20 fetches fill at full speed, and the time a miss adds."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median

from benchmarks.load import load
from benchmarks.machine import CLIENT_CORE, pinned
from benchmarks.report import Table, seconds
from benchmarks.servers import Server, everybody, source

SMALL = "s4096/hot.bin"
FILLS = 20
RATE = 500
READ_ALL = (
    "import sys, urllib.request as u\n"
    "for url in sys.argv[1:]:\n"
    "  with u.urlopen(url) as a:\n"
    "    while a.read(1 << 20): pass\n"
)


def _fetch_all(urls: list[str]) -> list[subprocess.Popen[bytes]]:
    # What measures has the client core first: a wait for it is no fault of the server's.
    words = [*pinned(CLIENT_CORE), "nice", "-n", "15", sys.executable, "-c", READ_ALL]
    return [subprocess.Popen([*words, url]) for url in urls]


def run(directory: Path, rounds: int, length: int) -> Table:
    rows = []
    with source() as origin, everybody(directory, origin) as servers:
        for server in servers:
            with urllib.request.urlopen(server.url(SMALL)) as answer:
                answer.read()
        for server in servers:
            calm, filled = [], []
            for number in range(rounds):
                calm.append(load(server.port, server.path(SMALL), 3, rate=RATE).p99)
                name = server.name.replace(" ", "-")
                urls = [server.url(f"s{length}/{name}-{number}-{n}.bin") for n in range(FILLS)]
                readers = _fetch_all(urls)
                filled.append(load(server.port, server.path(SMALL), 3, rate=RATE).p99)
                for reader in readers:
                    reader.wait()
            times = f"{median(filled) / median(calm):.1f}"
            rows.append([server.name, seconds(median(calm)), seconds(median(filled)), times])
    note = (
        f"{RATE} hits of 4 KiB a second over 64 connections, from when each was due, alone and while {FILLS} "
        f"cold assets of {length >> 20} MiB are fetched and read as fast as may be: the server core is at "
        "its limit, and so is that of source, readers and client."
    )
    columns = ["", "p99 alone", "p99 while filling", "times"]
    return Table("Hits while others fill", note, columns, rows)


def _first_byte(port: int, target: str) -> float:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        got = b""
        while len(got.partition(b"\r\n\r\n")[2]) < 1:
            got += sock.recv(65536)
        return time.perf_counter() - began


def first_byte(directory: Path, count: int) -> Table:
    """Time to the first body byte of misses, beside the source's own."""
    rows = []
    with source() as origin, everybody(directory, origin) as servers:
        direct = Server("the source itself", origin.port, 0)
        times: dict[str, list[float]] = {one.name: [] for one in [direct, *servers]}
        for number in range(count):
            for one in [direct, *servers]:
                prefix = "/content" if one is direct else "/assets"
                target = f"{prefix}/s65536/{one.name.replace(' ', '-')}-{number}.bin"
                times[one.name].append(_first_byte(one.port, target))
        own = median(times[direct.name])
    for name, found in times.items():
        found.sort()
        p99 = found[int(len(found) * 0.99)]
        rows.append([name, seconds(median(found)), seconds(p99), seconds(median(found) - own)])
    note = f"{count} cold 64 KiB assets each, one after the other, on new connections."
    return Table("First byte of a miss", note, ["", "median", "p99", "more than the source"], rows)
