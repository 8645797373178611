"""Every Prometheus name of the origin, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Label values come from closed sets: no client can make new series."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("dialect", "method", "code")
        self._requests = Counter(
            "origin_http_requests",
            "Answers sent, by dialect, method and status",
            labels,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "origin_http_request_seconds",
            "From the whole head of a request to the end of its answer",
            ("dialect",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._sent = Counter(
            "origin_http_sent_bytes",
            "Octets of answers, heads included",
            ("dialect",),
            registry=self.registry,
        )
        self._files = Gauge(
            "origin_storage_files", "Files in the catalog", ("storage",), registry=self.registry
        )
        self._bytes = Gauge(
            "origin_storage_bytes", "Bytes of those Files", ("storage",), registry=self.registry
        )
        self._jobs = Gauge("origin_jobs", "Jobs by state", ("state",), registry=self.registry)
        self._connections = Gauge("origin_connections", "Open client connections", registry=self.registry)

        self._waiting = Gauge(
            "origin_edge_changes_waiting",
            "Changes that an edge has not heard of, by its place in the settings, from 1",
            ("edge",),
            registry=registry,
        )
        self._failures = Gauge(
            "origin_edge_failures",
            "Calls to an edge that failed since the start",
            ("edge",),
            registry=registry,
        )

    def answered(self, dialect: str, method: str, status: int, seconds: float, sent: int) -> None:
        method = method if method in _METHODS else "other"
        self._requests.labels(dialect, method, str(status)).inc()
        self._seconds.labels(dialect).observe(seconds)
        self._sent.labels(dialect).inc(max(0, sent))

    def look(self, storages: dict[str, tuple[int, int]], jobs: dict[str, int], connections: int) -> None:
        """Set the gauges: storage id → (files, bytes), job state → count."""
        self._files.clear()
        self._bytes.clear()
        for name, (files, size) in storages.items():
            self._files.labels(name).set(files)
            self._bytes.labels(name).set(size)
        for state, count in jobs.items():
            self._jobs.labels(state).set(count)
        self._connections.set(connections)

    def look_at_edges(self, waiting: list[int], failures: list[int]) -> None:
        """Set the gauges: one entry for each edge."""
        for place, (changes, failed) in enumerate(zip(waiting, failures, strict=True), 1):
            self._waiting.labels(str(place)).set(changes)
            self._failures.labels(str(place)).set(failed)

    def text(self) -> bytes:
        return generate_latest(self.registry)
