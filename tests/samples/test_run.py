"""`make run`: both programs, a clip, and lines to paste; driven as a person at a terminal would."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST_LINE = "Ctrl-C stops both."
DEADLINE = 90.0


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Run:
    """The runner as a child; everything it prints, read line by line, is in `printed`."""

    def __init__(self, directory: Path, ports: list[int]) -> None:
        origin, public, operator = map(str, ports)
        keep = {name: value for name, value in os.environ.items() if "__" not in name}
        self.printed = ""
        self.process = subprocess.Popen(
            [sys.executable, "samples/run.py", "--directory", str(directory)],
            cwd=ROOT,
            env={
                **keep,
                "ORIGIN__API__PORT": origin,
                "DISTRIBUTOR__PUBLIC_API__PORT": public,
                "DISTRIBUTOR__OPERATOR_API__PORT": operator,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._deadline = threading.Timer(DEADLINE, self.process.kill)
        self._deadline.start()

    def read_to(self, last: str | None = None) -> str:
        """Read up to the line `last`, or to the end; the deadline kills the runner, which ends it too."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if last is not None and line.strip() == last:
                return self.printed
        assert last is None, f"ended before {last!r}:\n{self.printed}"
        return self.printed

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if any, and return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        self.read_to()
        code = self.process.wait()
        self._deadline.cancel()
        return code

    def commands(self) -> list[str]:
        return [line for line in self.printed.splitlines() if line.startswith("curl ")]

    def discard(self) -> None:
        self._deadline.cancel()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate()


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for run in started:
        run.discard()


def body(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        return bytes(response.read())


def wait_stored(url: str) -> None:
    """Return once the edge has the whole on its disk: a moment after the first client has it."""
    deadline = time.monotonic() + DEADLINE
    state = ""
    while state != "hit":
        assert time.monotonic() < deadline, state
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as response:
            state = response.headers["X-Cache"]


def pasted(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.lower()


def test_first_run_shows_miss_hit_and_range_and_a_second_finds_its_data(
    tmp_path: Path, runs: list[Run]
) -> None:
    ports = free_ports(3)
    first = Run(tmp_path / "var", ports)
    runs.append(first)
    first.read_to(LAST_LINE)
    assert len(first.commands()) == 3
    assets = f"http://127.0.0.1:{ports[1]}/api/v1/assets/media"
    if shutil.which("curl"):
        whole, ranged, again = first.commands()
        miss, part = pasted(whole), pasted(ranged)
        wait_stored(f"{assets}/clip.mp4")
        hit = pasted(again)
        assert "http/1.1 200" in miss
        assert "x-cache: miss" in miss
        assert "x-cache: hit" in hit
        assert "http/1.1 206" in part
        assert "content-range: bytes 1000-1099/" in part
    for name in ("clip.mp4", "hls/index.m3u8", "hls/segment-3.ts"):
        sent = hashlib.sha256(body(f"{assets}/{name}")).digest()
        assert sent == hashlib.sha256((ROOT / "samples/media" / name).read_bytes()).digest()
    wait_stored(f"{assets}/clip.mp4")
    assert first.end(signal.SIGINT) == 0, first.printed

    second = Run(tmp_path / "var", ports)
    runs.append(second)
    second.read_to(LAST_LINE)
    assert "# a hit: the edge has kept the clip since an earlier run" in second.printed
    assert second.end(signal.SIGTERM) == 0, second.printed


@pytest.mark.parametrize(
    ("taken", "variable"),
    [
        (0, "ORIGIN__API__PORT"),
        (1, "DISTRIBUTOR__PUBLIC_API__PORT"),
        (2, "DISTRIBUTOR__OPERATOR_API__PORT"),
    ],
)
def test_port_in_use_is_said_with_the_variable_that_changes_it(
    tmp_path: Path, runs: list[Run], taken: int, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        ports = free_ports(3)
        ports[taken] = occupant.getsockname()[1]
        run = Run(tmp_path / "var", ports)
        runs.append(run)
        assert run.end() == 1
    assert f"cannot listen on 127.0.0.1:{ports[taken]}: Address already in use" in run.printed
    assert f"{variable}=" in run.printed


def test_child_that_ends_is_reported_with_its_last_words_and_the_other_stops(
    tmp_path: Path, runs: list[Run]
) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/edge").write_text("in the way of the edge's directory")
    ports = free_ports(3)
    run = Run(tmp_path / "var", ports)
    runs.append(run)
    assert run.end() == 1
    assert "the edge has ended (exit code " in run.printed
    assert "its last log lines:\n    " in run.printed
    socket.create_server(("127.0.0.1", ports[0])).close()  # nobody is left on the origin's port


def test_unusable_setting_is_said_with_its_key(tmp_path: Path, runs: list[Run]) -> None:
    run = Run(tmp_path / "var", [1, 70000, 2])
    runs.append(run)
    assert run.end() == 2
    assert run.printed.startswith("public_api.port: must be at most 65535, not 70000")
