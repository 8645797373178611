"""A real `distributor serve` in a child process, on ports the system chose.

async with Edge(tmp_path, [source.url], {"cache.limit": "64M"}) as edge:
    reply = await edge.get("clip.mp4")
    assert (await edge.metrics())["distributor_fetches_total{result=complete}"] == 1
    edge.kill(); await edge.start()          # same directory, same settings, new ports
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.support.wire import Reply, ask

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "test-token-4f1d"
START_TIMEOUT = 30.0

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([^ ]+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def settings(directory: Path, sources: Iterable[str | Mapping[str, Any]], changes: Mapping[str, Any]) -> Any:
    """The settings tree; `changes` by dotted key."""
    tree: dict[str, Any] = {
        "id": "edge-1",
        "public_api": {"host": "127.0.0.1", "port": 0},
        "operator_api": {"host": "127.0.0.1", "port": 0, "token": TOKEN},
        "origin": {
            "sources": [{"url": s} if isinstance(s, str) else dict(s) for s in sources],
            "connect_timeout": "1s",
            "stall_timeout": "1s",
        },
        "cache": {
            "directory": str(directory / "edge"),
            "limit": "256M",
            "segment": "64K",
            "durability": "none",
        },
        "log": {"level": "info", "format": "text", "access": True},
    }
    for key, value in changes.items():
        *groups, last = key.split(".")
        group = tree
        for name in groups:
            group = group.setdefault(name, {})
        group[last] = value
    return tree


class Edge:
    """One edge; start and kill as often as you like.

    port, operator_port   of the process that runs now
    log                   lines of all its lives
    """

    def __init__(
        self,
        directory: Path,
        sources: Iterable[str | Mapping[str, Any]],
        changes: Mapping[str, Any] | None = None,
        *,
        prefix: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.cache = directory / "edge"
        self.settings = settings(directory, sources, changes or {})
        self.log: list[str] = []
        self.log_file: Path | None = None  # set before start: the log goes there, nothing reads it
        self.port = self.operator_port = 0
        self.ready_seconds = 0.0
        self._prefix = list(prefix)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._reading: threading.Thread | None = None
        self._ready = threading.Event()
        self._ready_line: str | None = None

    def start_now(self) -> Edge:
        """Run; returns when the log says ready. Raises RuntimeError with the log when it does not.

        Bound to no event loop, so that one edge can serve many tests; blocks.
        """
        config = self.directory / "edge.yaml"
        self.directory.mkdir(parents=True, exist_ok=True)
        config.write_text(yaml.safe_dump(self.settings))
        began = time.monotonic()
        self._process = subprocess.Popen(
            [*self._prefix, sys.executable, "-m", "distributor", "serve", "--config", str(config)],
            stdout=subprocess.PIPE if self.log_file is None else self.log_file.open("wb"),
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"},
        )
        self._ready.clear()
        self._ready_line = None
        self._reading = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reading.start()
        self._ready.wait(START_TIMEOUT)
        line = self._ready_line_now()
        if line is None:
            self.kill_now()
            raise RuntimeError("the edge did not become ready:\n" + "\n".join(self.log[-40:]))
        self.ready_seconds = time.monotonic() - began
        self.port, self.operator_port = _ports(line)
        return self

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        if self.log_file is not None:
            self._await_ready_in(self.log_file, process)
            return
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip("\n")
                self.log.append(text)
                if not self._ready.is_set() and _is_ready(text):
                    self._ready_line = text
                    self._ready.set()
        self._ready.set()

    def _await_ready_in(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None and not self._ready.is_set():
            for text in path.read_text(errors="replace").splitlines():
                if _is_ready(text):
                    self._ready_line = text
                    self._ready.set()
            time.sleep(0.01)
        self._ready.set()

    def _ready_line_now(self) -> str | None:
        return self._ready_line

    async def start(self) -> Edge:
        """As start_now, without blocking."""
        return await asyncio.to_thread(self.start_now)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_now(self, timeout: float | None = None) -> int:
        """Exit code, once it has ended and its log was read to the end."""
        assert self._process is not None and self._reading is not None
        code = self._process.wait(timeout)
        self._reading.join(timeout)
        return code

    def kill_now(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        if self._process is not None:
            self.wait_now()

    async def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM, then wait for the exit code; killed when it takes longer than `timeout`."""
        if self._process is None:
            return 0
        if self.running:
            self._process.terminate()
        try:
            return await asyncio.to_thread(self.wait_now, timeout)
        except subprocess.TimeoutExpired:
            await self.kill()
            raise

    async def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        await asyncio.to_thread(self.kill_now)

    async def __aenter__(self) -> Edge:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self.kill()

    # --- asking ---

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(
        self,
        asset_id: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        method: str = "GET",
        keep: bool = True,
    ) -> Reply:
        return await ask(self.port, f"/assets/{asset_id}", method, headers, keep=keep)

    async def head(self, asset_id: str, headers: Iterable[tuple[str, str]] = ()) -> Reply:
        return await ask(self.port, f"/assets/{asset_id}", "HEAD", headers)

    async def ask(
        self, target: str, method: str = "GET", headers: Iterable[tuple[str, str]] = (), **more: Any
    ) -> Reply:
        return await ask(self.port, target, method, headers, **more)

    async def settled(self, asset_id: str, timeout: float = 20.0) -> None:
        """Wait until the asset is stored whole: until HEAD says hit."""
        end = time.monotonic() + timeout
        while (reply := await self.head(asset_id)).cache != "hit":
            if time.monotonic() > end:
                raise TimeoutError(f"{asset_id} did not become a hit: {reply}")
            await asyncio.sleep(0.01)

    async def until(self, fact: Callable[[], Awaitable[object]], timeout: float = 10.0) -> None:
        """Wait until `await fact()` is true; the other process cannot wake us, so it is asked again."""
        end = time.monotonic() + timeout
        while not await fact():
            if time.monotonic() > end:
                raise TimeoutError("what was waited for did not happen")
            await asyncio.sleep(0.01)

    async def idle(self) -> None:
        """Wait until no fetch is under way."""

        async def nothing() -> bool:
            return bool((await self.status())["downloadsInProgress"] == 0)

        await self.until(nothing)

    async def status(self) -> dict[str, Any]:
        reply = await ask(self.port, "/status")
        found: dict[str, Any] = json.loads(reply.body)
        return found

    async def operate(
        self, method: str, path: str, document: Any = None, *, token: str = TOKEN
    ) -> tuple[int, Any]:
        """One call of the operator API: status and decoded body (None when empty)."""
        headers = [("Authorization", f"Bearer {token}")]
        body = b""
        if document is not None:
            body = json.dumps(document).encode()
            headers.append(("Content-Type", "application/json"))
        reply = await ask(self.operator_port, f"/api/v1{path}", method, headers, body=body)
        return reply.status, json.loads(reply.body) if reply.body else None

    async def metrics(self) -> dict[str, float]:
        """Samples as `name{label=value,…}` (labels by name, unquoted), or `name` without labels."""
        reply = await ask(self.port, "/metrics")
        return parse_metrics(reply.body.decode())

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` (without `distributor_`) whose labels include these."""
        total = 0.0
        wanted = set(labels.items())
        for key, value in (await self.metrics()).items():
            family, _, rest = key.partition("{")
            pairs = {tuple(p.split("=", 1)) for p in rest.rstrip("}").split(",") if p}
            if family == f"distributor_{name}" and wanted <= pairs:
                total += value
        return total

    # --- measuring ---

    def rss(self) -> int:
        """Resident bytes now."""
        return _status_bytes(self.pid, "VmRSS")

    def peak_rss(self) -> int:
        return _status_bytes(self.pid, "VmHWM")

    def cpu_seconds(self) -> float:
        parts = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def blob_bytes(self) -> int:
        """Bytes that the file system gave to files of the cache directory, the index (SQLite) aside."""
        total = 0
        for path in self.cache.rglob("*"):
            with suppress(FileNotFoundError):  # the edge deletes while we look
                if ".db" not in path.name and path.is_file():
                    total += path.lstat().st_blocks * 512
        return total

    def tracebacks(self) -> list[str]:
        return [line for line in self.log if "Traceback" in line]


def parse_metrics(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line)
        if match is not None:
            labels = ",".join(f"{name}={value}" for name, value in sorted(_LABEL.findall(match[2] or "")))
            found[f"{match[1]}{{{labels}}}" if labels else match[1]] = float(match[3])
    return found


def _is_ready(line: str) -> bool:
    return re.search(r"\bready\b", line) is not None and len(re.findall(r":(\d{2,5})\b(?!:)", line)) >= 2


def _ports(line: str) -> tuple[int, int]:
    """Public and operator port of a ready line, which names the public address first."""
    found = [int(port) for port in re.findall(r"(?:127\.0\.0\.1|localhost|\]):(\d{1,5})\b", line)]
    return found[0], found[1]


def _status_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0
