"""Start our edge and its peers before one source, each pinned to the server core."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import CLIENT_CORE, SERVER_CORE, pinned
from tests.support.edge import ROOT, Edge

__all__ = [
    "ROOT",
    "OurEdge",
    "Server",
    "SourceProcess",
    "everybody",
    "free_port",
    "nginx",
    "our_edge",
    "source",
    "varnish",
]

NGINX = """
user root; worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; sendfile on; tcp_nopush off; tcp_nodelay on; server_tokens off;
  keepalive_requests 1000000000; keepalive_timeout 1h; open_file_cache max=10000 inactive=1h;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/temp;
  proxy_cache_path {directory}/cache keys_zone=k:64m max_size=20g inactive=1d use_temp_path=off;
  upstream source {{ server 127.0.0.1:{source}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location /assets/ {{
      proxy_pass http://source/content/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache k; proxy_cache_key $uri{key}; proxy_cache_valid 200 206 1h; proxy_cache_lock on;
      proxy_max_temp_file_size 0;
      {more}
    }}
  }}
}}
"""
SLICE = "slice 1m; proxy_set_header Range $slice_range;"

VCL = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{source}"; }}
sub vcl_recv {{ set req.url = regsub(req.url, "^/assets/", "/content/"); return (hash); }}
sub vcl_backend_response {{ set beresp.ttl = 1h; set beresp.grace = 0s; }}
"""

# One thread, all in memory, nothing logged, nothing added. Its settings are full of names of their own.
TRAFFIC_SERVER = """
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.http.cache.required_headers INT 0
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 3600
CONFIG proxy.config.http.insert_response_via_str INT 0
CONFIG proxy.config.http.negative_caching_enabled INT 0
CONFIG proxy.config.cache.enable_read_while_writer INT 1
CONFIG proxy.config.http.background_fill_active_timeout INT 0
CONFIG proxy.config.http.background_fill_completed_threshold FLOAT 0.0
CONFIG proxy.config.http.cache.open_write_fail_action INT 5
CONFIG proxy.config.http.cache.max_open_write_retries INT 5
CONFIG proxy.config.cache.ram_cache.size INT 6442450944
CONFIG proxy.config.cache.ram_cache_cutoff INT 1073741824
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.net.connections_throttle INT 20000
"""
IP_ALLOW = "ip_allow: [{apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL}]\n"
RUN_ROOT = """
prefix: /usr
exec_prefix: /usr
bindir: /usr/bin
sbindir: /usr/sbin
includedir: /usr/include
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
sysconfdir: {directory}/etc
localstatedir: {directory}
datadir: {directory}/cache
cachedir: {directory}/cache
runtimedir: {directory}/run
logdir: {directory}/log
"""

SQUID = """
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1 no-vhost
cache_peer 127.0.0.1 parent {source} 0 no-query originserver no-digest
http_access allow all
cache_mem 6 GB
maximum_object_size 1 GB
maximum_object_size_in_memory 1 GB
memory_cache_mode always
range_offset_limit none
collapsed_forwarding on
read_ahead_gap 64 MB
access_log none
cache_store_log none
cache_log /dev/null
pid_filename none
max_filedescriptors 20000
client_idle_pconn_timeout 1 hour
shutdown_lifetime 1 second
via off
coredump_dir /
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """Something that answers on `port` for paths that begin with `prefix`."""

    def __init__(self, name: str, port: int, pid: int, prefix: str = "/assets/") -> None:
        self.name, self.port, self._pid, self._prefix = name, port, pid, prefix

    def path(self, asset_id: str) -> str:
        return self._prefix + asset_id

    def url(self, asset_id: str) -> str:
        return f"http://127.0.0.1:{self.port}{self.path(asset_id)}"

    def pids(self) -> list[int]:
        """All its processes, for CPU time and memory."""
        found, todo = [], [self._pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
                todo += [int(child) for child in tasks.read_text().split()]
        return found

    def cpu_seconds(self) -> float:
        ticks = 0
        for pid in self.pids():
            parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(parts[11]) + int(parts[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total


class SourceProcess:
    """tests.support.source in a process of its own, on the client core; ids `s<bytes>/…` exist."""

    def __init__(self, *options: str) -> None:
        words = [sys.executable, "-m", "tests.support.source", "--uvloop", "--auto", "--max-age", "36000"]
        self._process = subprocess.Popen(
            [*pinned(CLIENT_CORE), *words, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.readline())
        self.port: int = found["port"]
        self.url: str = found["url"]

    def _control(self, name: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_/{name}") as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def reset(self) -> None:
        self._control("reset")

    def seen(self, asset_id: str) -> tuple[int, int]:
        """Requests of any method, and body bytes, for one id since the last reset."""
        gets, heads, sent = self._control("stats")["assets"].get(asset_id, (0, 0, 0))
        return gets + heads, sent

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _await_port(port: int) -> None:
    end = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@contextmanager
def source(*options: str) -> Iterator[SourceProcess]:
    process = SourceProcess(*options)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def _running(name: str, command: list[str], port: int, prefix: str = "/assets/") -> Iterator[Server]:
    process = subprocess.Popen(
        [*pinned(SERVER_CORE), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_port(port)
        yield Server(name, port, process.pid, prefix)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def nginx(directory: Path, source_port: int, *, slices: bool = False) -> Iterator[Server]:
    directory.mkdir(parents=True)
    port = free_port()
    config = directory / "nginx.conf"
    key, more = ("$slice_range", SLICE) if slices else ("", "")
    text = NGINX.format(directory=directory, source=source_port, port=port, key=key, more=more)
    config.write_text(text)
    name = "nginx slice 1m" if slices else "nginx"
    with _running(name, ["nginx", "-c", str(config)], port) as server:
        yield server


@contextmanager
def varnish(directory: Path, source_port: int) -> Iterator[Server]:
    directory.mkdir(parents=True)
    port = free_port()
    config = directory / "default.vcl"
    config.write_text(VCL.format(source=source_port))
    storage = ["-s", "malloc,6G", "-n", str(directory / "work")]
    command = ["varnishd", "-j", "none", "-F", "-a", f"127.0.0.1:{port}", "-f", str(config), *storage]
    with _running("Varnish", command, port) as server:
        yield server


@contextmanager
def traffic_server(directory: Path, source_port: int) -> Iterator[Server]:
    port = free_port()
    for name in ("etc", "cache", "run", "log"):
        (directory / name).mkdir(parents=True)
    (directory / "runroot.yaml").write_text(RUN_ROOT.format(directory=directory))
    (directory / "etc/records.config").write_text(TRAFFIC_SERVER.format(port=port))
    (directory / "etc/storage.config").write_text(f"{directory}/cache 8G\n")
    to = f"http://127.0.0.1:{source_port}/content/"
    (directory / "etc/remap.config").write_text(f"map /assets/ {to}\n")
    (directory / "etc/ip_allow.yaml").write_text(IP_ALLOW)
    command = ["traffic_server", f"--run-root={directory}/runroot.yaml"]
    with _running("Traffic Server", command, port) as server:
        yield server


@contextmanager
def squid(directory: Path, source_port: int) -> Iterator[Server]:
    directory.mkdir(parents=True)
    port = free_port()
    config = directory / "squid.conf"
    config.write_text(SQUID.format(source=source_port, port=port))
    # It passes paths on as they are: its clients ask with the source's.
    with _running("Squid", ["squid", "-N", "-f", str(config)], port, "/content/") as server:
        yield server


PEERS = {"nginx": nginx, "varnishd": varnish, "traffic_server": traffic_server, "squid": squid}


class OurEdge(Server):
    """The edge as a Server; `edge` gives metrics, kill and restart."""

    def __init__(self, name: str, edge: Edge) -> None:
        super().__init__(name, edge.port, edge.pid)
        self.edge = edge


@contextmanager
def our_edge(
    directory: Path,
    source_url: str,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str = "this edge",
    log_file: Path | None = None,
) -> Iterator[OurEdge]:
    """Default settings but for the log (none) and what `changes` says."""
    settings = {"cache.segment": "1M", "cache.limit": "20G", "log.access": False}
    edge = Edge(directory, [source_url], {**settings, **(changes or {})}, prefix=pinned(SERVER_CORE))
    edge.settings["cache"].pop("durability")
    edge.settings["origin"].pop("stall_timeout")
    edge.log_file = log_file
    edge.start_now()
    try:
        yield OurEdge(name, edge)
    finally:
        edge.kill_now()


@contextmanager
def everybody(
    directory: Path, source: SourceProcess, changes: Mapping[str, Any] | None = None
) -> Iterator[list[Server]]:
    """Our edge first, then each peer that is installed."""
    with ExitStack() as stack:
        servers: list[Server] = [stack.enter_context(our_edge(directory / "edge", source.url, changes))]
        for program, start in PEERS.items():
            if shutil.which(program):
                servers.append(stack.enter_context(start(directory / program, source.port)))
        yield servers
