"""python -m benchmarks [CASE…] [--quick] [--write]: what is claimed, measured beside peers.

Runs against whichever of nginx, Varnish, Traffic Server and Squid are installed; needs taskset, and
wrk for hits, gcc for disturbance. Results are kept in var/benchmarks.json; --write makes docs/benchmarks.md
and its plot of all that are kept; what --quick finds is not kept.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import disturbance, eviction, faults, herd, hits, idle, kills, memory, report, restart, seek
from benchmarks.report import Table

Case = tuple[tuple[str, ...], Callable[[Path, argparse.Namespace], Table]]

CASES: dict[str, Case] = {
    "hits": (("wrk",), lambda d, o: hits.run(d, o.rounds, o.seconds)),
    "cost": (("wrk",), lambda d, o: hits.cost(d, o.rounds, o.seconds)),
    "miss": ((), lambda d, o: disturbance.first_byte(d, 50 if o.quick else 300)),
    "herd": ((), lambda d, o: herd.run(d, o.quick)),
    "seek": ((), lambda d, o: seek.run(d, o.rounds)),
    "disturbance": (("gcc",), lambda d, o: disturbance.run(d, o.rounds, (32 if o.quick else 128) << 20)),
    "idle": (("wrk",), lambda d, o: idle.run(d, o.rounds, 1_000 if o.quick else 10_000)),
    "memory": ((), lambda d, o: memory.run(d, o.quick)),
    "room": ((), lambda d, _: faults.room(d)),
    "faults": ((), lambda d, _: faults.run(d)),
    "kill9": ((), lambda d, _: kills.run(d)),
    "eviction": ((), lambda _, o: eviction.run(o.quick)),
    "restart": ((), lambda d, o: restart.run(d, [1_000] if o.quick else o.stored)),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {', '.join(CASES)}; all when none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one round of one server")
    parser.add_argument("--stored", type=int, nargs="+", default=[1_000, 10_000], help="counts for restart")
    parser.add_argument("--quick", action="store_true", help="small: shows that it runs")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its plot")
    parser.add_argument("--directory", type=Path, help="where stores are put; a temporary one by default")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if shutil.which("taskset") is None:
        print("taskset (util-linux) is needed to give each side its core", file=sys.stderr)
        return 1
    failed = 0
    for name in options.cases or CASES:
        needs, run = CASES[name]
        missing = [tool for tool in needs if shutil.which(tool) is None]
        if missing:
            print(f"{name}: skipped, {', '.join(missing)} not installed", file=sys.stderr)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=options.directory, ignore_cleanup_errors=True) as directory:
            try:
                table = run(Path(directory), options)
            except Exception as error:  # the other cases are still worth having
                print(f"{name}: failed: {error!r}", file=sys.stderr)
                failed += 1
                continue
        if not options.quick:
            report.remember(name, table)
        print(f"\n{table.title} ({time.monotonic() - began:.0f} s)\n{table.note}\n{table.text()}", flush=True)
    if options.write and report.RESULTS.exists():
        report.write(CASES)
        print(f"\nwrote {report.PAGE} and {report.PLOT}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
