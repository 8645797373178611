"""The machine the figures are of, and which core does what."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
CLIENT_CORE = CORES[-1]


def pinned(core: int) -> list[str]:
    """Words that put a command on one core."""
    return ["taskset", "-c", str(core)]


def _first(command: list[str], pattern: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(pattern, done.stdout + done.stderr)
    return str(match[1]) if match else "?"


def description() -> list[str]:
    """Lines for a reader who wants to repeat the run."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    versions = {
        "Python": platform.python_version(),
        "nginx": _first(["nginx", "-v"], r"nginx/(\S+)"),
        "Varnish": _first(["varnishd", "-V"], r"varnish-(\S+)"),
        "Traffic Server": _first(["traffic_server", "-V"], r"Traffic Server (\S+)"),
        "Squid": _first(["squid", "-v"], r"Version (\S+)"),
        "wrk": _first(["wrk", "-v"], r"wrk (\S+)"),
    }
    return [
        f"{len(CORES)} cores of {model[1].strip() if model else platform.machine()}, "
        f"{int(memory[1] if memory else 0) / 2**20:.0f} GiB of memory, "
        f"Linux {platform.release().partition('-')[0]}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"every server on core {SERVER_CORE}, every client and source on core {CLIENT_CORE}, over loopback",
    ]
