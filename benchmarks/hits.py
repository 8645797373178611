"""Hits: requests per second, CPU time per gigabyte and latency at 70 % of the peak, one core each."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks.load import Load, load, loader_available, wrk
from benchmarks.report import Table, spread
from benchmarks.servers import Server, SourceProcess, everybody, our_edge, source
from tests.support.source import auto_asset

SMALL, MIDDLE, LARGE, HUGE = "s4096/a.bin", "s65536/a.bin", "s1048576/a.bin", "s268435456/a.bin"
HEAVY = "s67108864/a.bin"
WARMINGS = 50


def _etag(asset_id: str) -> str:
    asset = auto_asset(asset_id)
    assert asset is not None
    return asset.entity_tag() or ""


def _warm(server: Server, origin: SourceProcess, asset_id: str) -> None:
    """Fetch until an answer comes without the source being asked."""
    for _ in range(WARMINGS):
        origin.reset()
        with urllib.request.urlopen(server.url(asset_id)) as answer:
            while answer.read(1 << 20):
                pass
        if origin.seen(asset_id)[0] == 0:
            return
    raise RuntimeError(f"{server.name} does not keep {asset_id}")


def _case(name: str, server: Server, seconds: float) -> Load:
    plain = {"GET 4 KiB": SMALL, "GET 64 KiB": MIDDLE, "GET 1 MiB": LARGE, "GET 64 MiB": HEAVY}
    if name in plain:
        return wrk(server.url(plain[name]), seconds)
    if name == "64 KiB ranges of 256 MiB":
        return wrk(server.url(HUGE), seconds, script="range.lua")
    if name == "304 by If-None-Match":
        return wrk(server.url(SMALL), seconds, [f"If-None-Match: {_etag(SMALL)}"])
    return load(server.port, server.path(SMALL), seconds, method="HEAD")


def run(directory: Path, rounds: int, seconds: float) -> Table:
    cases = ["GET 4 KiB", "GET 64 KiB", "GET 1 MiB", "64 KiB ranges of 256 MiB", "304 by If-None-Match"]
    if loader_available():
        cases.append("HEAD")
    with source() as origin, everybody(directory, origin) as servers:
        rates: dict[tuple[str, str], list[float]] = defaultdict(list)
        for server in servers:
            for asset_id in (SMALL, MIDDLE, LARGE, HUGE):
                _warm(server, origin, asset_id)
        for name in cases:
            for number in range(rounds):
                order = servers if number % 2 == 0 else servers[::-1]
                for server in order:
                    found = _case(name, server, seconds)
                    if found.bad:
                        raise RuntimeError(f"{server.name}, {name}: {found.bad} bad answers")
                    rates[name, server.name].append(found.rate)
        names = [server.name for server in servers]
    rows, ratios = [], {}
    for name in cases:
        row = [name, *(spread(rates[name, one]) for one in names)]
        if len(names) > 1:
            best = max(median(rates[name, peer]) for peer in names[1:])
            ratios[name] = median(rates[name, names[0]]) / best
            row.append(f"**{ratios[name]:.2f}**")
        rows.append(row)
    columns = ["requests per second", *names, *(["ratio to the better peer"] if ratios else [])]
    note = (
        f"64 connections, kept alive; {rounds} rounds of {seconds:g} s, in turns; access logs off, "
        "metrics on at this edge. wrk, but for HEAD, which it cannot do (`benchmarks/load.c`)."
    )
    return Table("Hits", note, columns, rows, ratios)


def cost(directory: Path, rounds: int, seconds: float) -> Table:
    """CPU seconds per gigabyte of 64 MiB hits; p99 of 4 KiB at 70 % of each one's own peak; log on."""
    with source() as origin, everybody(directory, origin) as servers:
        cpu: dict[str, list[float]] = defaultdict(list)
        tail: dict[str, list[float]] = defaultdict(list)
        for server in servers:
            for asset_id in (SMALL, HEAVY):
                _warm(server, origin, asset_id)
        for _ in range(rounds):
            for server in servers:
                before = server.cpu_seconds()
                found = _case("GET 64 MiB", server, seconds)
                spent = server.cpu_seconds() - before
                cpu[server.name].append(spent / (found.volume * seconds / 1e9))
                if loader_available():
                    peak = load(server.port, server.path(SMALL), seconds / 2).rate
                    loaded = load(server.port, server.path(SMALL), seconds, rate=0.7 * peak)
                    tail[server.name].append(loaded.p99 * 1000)
        names = [server.name for server in servers]
        logged = _logged(directory, origin, servers[0], rounds, seconds)
    rows = [["CPU seconds per GB, 64 MiB hits", *(spread(cpu[n], "{:.3f}") for n in names)]]
    if loader_available():
        rows.append(["p99 at 70 % of its own peak, 4 KiB, ms", *(spread(tail[n], "{:.2f}") for n in names)])
    rows.append(["rate with the access log on / off, 4 KiB", logged, *["–"] * (len(names) - 1)])
    return Table("What hits cost", "As above.", ["", *names], rows)


def _logged(directory: Path, origin: SourceProcess, silent: Server, rounds: int, seconds: float) -> str:
    changes = {"log.access": True, "log.level": "info"}
    log = directory / "access.log"
    with our_edge(directory / "logging", origin.url, changes, log_file=log) as talking:
        _warm(talking, origin, SMALL)
        found = []
        for _ in range(rounds):
            off = wrk(silent.url(SMALL), seconds).rate
            found.append(wrk(talking.url(SMALL), seconds).rate / off)
        return spread(found, "{:.2f}")
