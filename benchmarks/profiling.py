"""python -m benchmarks.profiling [CASE…]: where the edge spends its time under one kind of load.

    hits    a small asset that is stored; range  64 KiB out of a large one; miss  a cold asset each time

Needs wrk for hits and range. The profiler slows Python code down, not what C code does: read shares of
a column, not requests per second.
"""

from __future__ import annotations

import argparse
import pstats
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.load import wrk
from benchmarks.machine import SERVER_CORE, pinned
from benchmarks.servers import ROOT, free_port, source

SMALL, LARGE = "s4096/a.bin", "s268435456/a.bin"
READY_SECONDS = 30.0


def _get(url: str) -> None:
    with urllib.request.urlopen(url) as answer:
        while answer.read(1 << 20):
            pass


def _hits(base: str, seconds: float) -> None:
    _get(f"{base}/{SMALL}")
    wrk(f"{base}/{SMALL}", seconds)


def _range(base: str, seconds: float) -> None:
    _get(f"{base}/{LARGE}")
    wrk(f"{base}/{LARGE}", seconds, script="range.lua")


def _miss(base: str, seconds: float) -> None:
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        _get(f"{base}/s65536/{number}.bin")


CASES: dict[str, Callable[[str, float], None]] = {"hits": _hits, "range": _range, "miss": _miss}


def _wait(port: int) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            _get(f"http://127.0.0.1:{port}/readyz")
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def profile(directory: Path, case: str, seconds: float) -> pstats.Stats:
    """Run an edge of its own under the profiler and `case` against it; return what was found."""
    found, port = directory / "profile", free_port()
    with source() as origin:
        settings = {
            "public_api.port": port,
            "operator_api.port": 0,
            "operator_api.token_file": directory / "token",
            "cache.directory": directory / "cache",
            "origin.sources.0.url": f"http://127.0.0.1:{origin.port}/content/{{id}}",
            "log.access": "false",
        }
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        config = ROOT / "config/distributor.yaml"
        words = ["-m", "cProfile", "-o", str(found), "-m", "distributor", "serve", "--config", str(config)]
        process = subprocess.Popen(
            [*pinned(SERVER_CORE), sys.executable, *words, *sets], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            _wait(port)
            CASES[case](f"http://127.0.0.1:{port}/assets", seconds)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    return pstats.Stats(str(found))


def main() -> int:
    parser = argparse.ArgumentParser(description="Where the edge spends its time.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {', '.join(CASES)}; all when none")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load")
    parser.add_argument("--lines", type=int, default=25, help="functions shown, most own time first")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for case in options.cases or list(CASES):
        if case != "miss" and shutil.which("wrk") is None:
            print(f"{case}: skipped, there is no wrk")
            continue
        with tempfile.TemporaryDirectory() as directory:
            print(f"=== {case} ===", flush=True)
            profile(Path(directory), case, options.seconds).sort_stats("tottime").print_stats(options.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
