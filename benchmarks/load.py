"""Run wrk, or the loader in load.c, on the client core."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import CLIENT_CORE, pinned

HERE = Path(__file__).parent
_SIZES = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Load(NamedTuple):
    """rate: answers per second; volume: bytes per second; p50, p99: seconds; bad: no 200, 206 or 304."""

    rate: float
    volume: float
    p50: float
    p99: float
    bad: int


def wrk(
    url: str, seconds: float, headers: Iterable[str] = (), *, script: str | None = None, connections: int = 64
) -> Load:
    command = [*pinned(CLIENT_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    if script is not None:
        command += ["-s", str(HERE / script)]
    for header in headers:
        command += ["-H", header]
    done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    out = done.stdout
    bad = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    for group in re.findall(r"Socket errors: (.*)", out):
        bad += sum(int(n) for n in re.findall(r"\d+", group))
    rate = re.search(r"Requests/sec: +([\d.]+)", out)
    volume = re.search(r"Transfer/sec: +([\d.]+)([KMG]?B)", out)
    if rate is None or volume is None:
        raise RuntimeError(out)
    moved = float(volume[1]) * _SIZES[volume[2]]
    return Load(float(rate[1]), moved, _percentile(out, 50), _percentile(out, 99), bad)


def _percentile(out: str, share: int) -> float:
    match = re.search(rf"^ +{share}% +([\d.]+)(us|ms|s|m)$", out, re.M)
    return float(match[1]) * _UNITS[match[2]] if match else float("nan")


@functools.cache
def _loader() -> str | None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    target = Path(tempfile.mkdtemp(prefix="load-")) / "load"
    subprocess.run([compiler, "-O2", "-o", str(target), str(HERE / "load.c")], check=True)
    return str(target)


def loader_available() -> bool:
    return _loader() is not None


def load(
    port: int, path: str, seconds: float, *, method: str = "GET", rate: float = 0, connections: int = 64
) -> Load:
    """As wrk, also for HEAD, and at a fixed rate (latency then counts from when a request was due)."""
    program = _loader()
    assert program is not None
    with tempfile.NamedTemporaryFile("w", suffix=".requests") as heads:
        heads.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")
        heads.flush()
        words = [port, connections, seconds, rate, heads.name, int(method == "HEAD")]
        command = [*pinned(CLIENT_CORE), program, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return Load(found["rate"], found["bytes"] / seconds, found["p50"] / 1e6, found["p99"] / 1e6, found["bad"])
