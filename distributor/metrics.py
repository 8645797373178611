"""Every Prometheus name of the edge, and the Observer that counts for them.

Counts are plain numbers in dictionaries, added to on the event loop without locks, and made into
Prometheus families when somebody scrapes; gauges that others know are asked for at that time. Label
values come from closed sets; those that are known beforehand are there, at 0, from the start.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from distributor.core.model import Outcome
from distributor.ports import Observer, Store

__all__ = ["METRICS", "HotCounts", "HotRow", "Metrics", "Spec"]

Labels = tuple[str, ...]


class Spec(NamedTuple):
    """One metric, without the `distributor_` that all begin with.

    known  label values that are there from the start; may be empty
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    help: str
    known: tuple[Labels, ...] = ()


def _each(*values: str) -> tuple[Labels, ...]:
    return tuple((value,) for value in values)


_NONE: tuple[Labels, ...] = ((),)
_CACHE = _each("hit", "pending", "miss", "none")
_ANSWERS = (
    ("hit", "local"),
    ("pending", "local"),
    ("miss", "local"),
    ("miss", "external"),
    ("none", "none"),
)

METRICS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("http_requests_total", "counter", ("route", "method", "code"), "Answers."),
        Spec("http_connections_open", "gauge", ("listener",), "Connections.", _each("public", "operator")),
        Spec(
            "http_connections_refused_total",
            "counter",
            ("reason",),
            "Connections refused, or ended because of what the client did.",
            _each("limit", "header_timeout", "slow_reader", "bad_request"),
        ),
        Spec("asset_requests_total", "counter", ("cache", "data_source"), "Answers for assets.", _ANSWERS),
        Spec("asset_body_bytes_total", "counter", ("cache", "data_source"), "Body bytes sent.", _ANSWERS),
        Spec("asset_ttfb_seconds", "histogram", ("cache",), "Head read to first byte written.", _CACHE),
        Spec("asset_duration_seconds", "histogram", ("cache",), "Head read to last byte written.", _CACHE),
        Spec(
            "asset_ranges_total",
            "counter",
            ("kind",),
            "Requests with Range.",
            _each("single", "multi", "ignored", "unsatisfiable"),
        ),
        Spec(
            "asset_aborted_total",
            "counter",
            ("reason",),
            "Answers cut short.",
            _each("client", "source", "digest", "version", "slow_reader", "shutdown"),
        ),
        Spec("fetches_in_flight", "gauge", (), "Fetches under way.", _NONE),
        Spec("fetches_waiting", "gauge", (), "Fetches queued for a connection.", _NONE),
        Spec("collapsed_waiters", "gauge", (), "Readers now on a fetch they did not start.", _NONE),
        Spec(
            "fetches_total",
            "counter",
            ("result",),
            "Fetches that ended.",
            _each("complete", "failed", "digest", "version", "cancelled", "unstored"),
        ),
        Spec(
            "fetch_duration_seconds",
            "histogram",
            ("result",),
            "Life of a fetch.",
            _each("complete", "failed"),
        ),
        Spec("collapsed_requests_total", "counter", (), "Requests that joined a fetch under way.", _NONE),
        Spec("fetch_resumes_total", "counter", (), "Fetches resumed midway.", _NONE),
        Spec("segment_fetches_total", "counter", (), "Ranged requests ahead of the fill.", _NONE),
        Spec("source_requests_total", "counter", ("source", "method", "code"), "Answers of sources."),
        Spec("source_errors_total", "counter", ("source", "reason"), "Failures of sources."),
        Spec("source_latency_seconds", "histogram", ("source",), "Request sent to header fields received."),
        Spec("source_received_bytes_total", "counter", ("source",), "Body bytes from sources."),
        Spec("source_up", "gauge", ("source",), "1 usable, 0 put behind the others."),
        Spec(
            "revalidations_total",
            "counter",
            ("result",),
            "Revalidations.",
            _each("not_modified", "changed", "gone", "error"),
        ),
        Spec("stale_served_total", "counter", ("reason",), "Stale answers.", _each("revalidating", "error")),
        Spec("store_bytes", "gauge", ("kind",), "Their sum is storageUsed."),
        Spec("store_objects", "gauge", ("state",), "Stored responses."),
        Spec("store_limit_bytes", "gauge", (), "cache.limit."),
        Spec("store_disk_free_bytes", "gauge", (), "Free on the store's file system."),
        Spec("store_longest_idle_seconds", "gauge", (), "Since the last use of the next victim."),
        Spec("evictions_total", "counter", ("reason",), "Evictions.", _each("room", "limit")),
        Spec("evicted_bytes_total", "counter", ("reason",), "Bytes evicted.", _each("room", "limit")),
        Spec(
            "store_refusals_total",
            "counter",
            ("reason",),
            "Responses not stored.",
            _each("too_large", "no_room", "not_storable", "store_failed"),
        ),
        Spec(
            "store_errors_total",
            "counter",
            ("op",),
            "Disk operations that failed.",
            _each("read", "write", "sync", "index"),
        ),
        Spec("purged_total", "counter", ("mode",), "Stored responses purged.", _each("hard", "soft")),
        Spec(
            "verified_total", "counter", ("result",), "Objects verified.", _each("ok", "corrupt", "missing")
        ),
        Spec("negative_entries", "gauge", (), "Remembered 404, 410 and 421.", _NONE),
        Spec("start_time_seconds", "gauge", (), "Unix time at which the process started."),
        Spec("build_info", "gauge", ("version",), "Always 1."),
    )
}

BOUNDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
"""Upper bounds of all histograms, seconds: from a hit of a small object to a film at play speed."""


class _Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(BOUNDS, value)] += 1
        self.total += value

    def merge(self, other: _Histogram) -> None:
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, count at or below it), the last one "+Inf"."""
        running, found = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            running += count
            found.append((bound, float(running)))
        return found


class HotRow:
    """Answers of one status to one method, and their body bytes, since they were taken last."""

    __slots__ = ("answers", "body_bytes", "head_only", "status")

    def __init__(self, head_only: bool, status: int) -> None:
        self.head_only, self.status = head_only, status
        self.answers = self.body_bytes = 0


class HotCounts:
    """Hits answered the short way: counted in a few numbers, taken into the families at each scrape.

    Time to first and to last byte are the same number there: one write does it all.

    quick   seconds spent on all answers that took no longer than the histograms' first bound
    slow    the others, which `note` has already put where they belong
    """

    __slots__ = ("_rows", "quick", "slow")

    def __init__(self) -> None:
        self._rows: dict[tuple[bool, int], HotRow] = {}
        self.quick = 0.0
        self.slow = _Histogram()

    def row(self, head_only: bool, status: int) -> HotRow:
        """Where answers of one kind are counted, for as long as the process lives."""
        return self._rows.setdefault((head_only, status), HotRow(head_only, status))

    @property
    def answers(self) -> int:
        return sum(row.answers for row in self._rows.values())

    def note(self, seconds: float) -> None:
        """One answer was written `seconds` after its octets came."""
        if seconds <= BOUNDS[0]:
            self.quick += seconds
        else:
            self.slow.observe(seconds)

    def take(self) -> tuple[list[tuple[bool, int, int, int]], _Histogram]:
        """What was noted since the last call: (HEAD?, status, answers, body bytes), and durations."""
        taken = [(row.head_only, row.status, row.answers, row.body_bytes) for row in self._rows.values()]
        durations, self.slow = self.slow, _Histogram()
        durations.counts[0] += self.answers - sum(durations.counts)
        durations.total += self.quick
        self.quick = 0.0
        for row in self._rows.values():
            row.answers = row.body_bytes = 0
        return taken, durations


class Metrics(Observer, Collector):
    """Counts, and says so in Prometheus' text format."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._started = time.time()
        self._store: Store | None = None
        self._in_flight: Callable[[], int] | None = None
        self.hot = HotCounts()
        self._values: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        for spec in METRICS.values():
            if spec.kind == "histogram":
                self._histograms[spec.name] = {labels: _Histogram() for labels in spec.known}
            else:
                self._values[spec.name] = dict.fromkeys(spec.known, 0)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def watch(self, store: Store, fetches_in_flight: Callable[[], int]) -> None:
        """Ask these for what they know, at each scrape."""
        self._store, self._in_flight = store, fetches_in_flight

    def text(self) -> bytes:
        """The page of /metrics, text format 0.0.4."""
        return generate_latest(self._registry)

    # --- counting -------------------------------------------------------------------------------------

    def _add(self, name: str, labels: Labels = (), count: float = 1) -> None:
        values = self._values[name]
        values[labels] = values.get(labels, 0) + count

    def _set(self, name: str, labels: Labels, value: float) -> None:
        self._values[name][labels] = value

    def _observe(self, name: str, labels: Labels, value: float) -> None:
        histograms = self._histograms[name]
        histogram = histograms.get(labels)
        if histogram is None:
            histogram = histograms[labels] = _Histogram()
        histogram.observe(value)

    def request(self, outcome: Outcome) -> None:
        self._add("http_requests_total", (outcome.route, outcome.method, str(outcome.status)))
        if outcome.route != "assets":
            return
        cache = outcome.cache.value if outcome.cache is not None else "none"
        answer = (cache, outcome.data_source)
        self._add("asset_requests_total", answer)
        if outcome.body_bytes and outcome.status < 400:
            self._add("asset_body_bytes_total", answer, outcome.body_bytes)
        if outcome.ttfb:
            self._observe("asset_ttfb_seconds", (cache,), outcome.ttfb)
        self._observe("asset_duration_seconds", (cache,), outcome.duration)
        if outcome.range_kind is not None:
            self._add("asset_ranges_total", (outcome.range_kind,))
        if outcome.aborted is not None:
            self._add("asset_aborted_total", (outcome.aborted,))

    def connection(self, listener: str, change: int) -> None:
        self._add("http_connections_open", (listener,), change)

    def connection_refused(self, reason: str) -> None:
        self._add("http_connections_refused_total", (reason,))

    def fetch_began(self) -> None:
        self._add("fetches_in_flight")

    def fetch_ended(self, result: str, seconds: float) -> None:
        self._add("fetches_in_flight", (), -1)
        self._add("fetches_total", (result,))
        self._observe("fetch_duration_seconds", (result,), seconds)

    def fetch_waiting(self, change: int) -> None:
        self._add("fetches_waiting", (), change)

    def collapsed(self) -> None:
        self._add("collapsed_requests_total")

    def collapsed_waiting(self, change: int) -> None:
        self._add("collapsed_waiters", (), change)

    def resumed(self) -> None:
        self._add("fetch_resumes_total")

    def segment_fetch(self) -> None:
        self._add("segment_fetches_total")

    def source_request(self, source: str, method: str, code: int) -> None:
        self._add("source_requests_total", (source, method, str(code)))

    def source_error(self, source: str, reason: str) -> None:
        self._add("source_errors_total", (source, reason))

    def source_latency(self, source: str, seconds: float) -> None:
        self._observe("source_latency_seconds", (source,), seconds)

    def source_received(self, source: str, count: int) -> None:
        self._add("source_received_bytes_total", (source,), count)

    def source_up(self, source: str, up: bool) -> None:
        self._set("source_up", (source,), int(up))

    def revalidated(self, result: str) -> None:
        self._add("revalidations_total", (result,))

    def stale_served(self, reason: str) -> None:
        self._add("stale_served_total", (reason,))

    def evicted(self, reason: str, count: int) -> None:
        """One stored response of `count` bytes left."""
        self._add("evictions_total", (reason,))
        self._add("evicted_bytes_total", (reason,), count)

    def store_refused(self, reason: str) -> None:
        self._add("store_refusals_total", (reason,))

    def store_error(self, op: str) -> None:
        self._add("store_errors_total", (op,))

    def purged(self, mode: str, count: int) -> None:
        self._add("purged_total", (mode,), count)

    def verified(self, result: str, count: int = 1) -> None:
        self._add("verified_total", (result,), count)

    def negatives(self, count: int) -> None:
        self._set("negative_entries", (), count)

    # --- telling --------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Bring in what others know."""
        self._take_hot()
        self._set("start_time_seconds", (), self._started)
        self._set("build_info", (self._version,), 1)
        if self._in_flight is not None:
            self._set("fetches_in_flight", (), self._in_flight())
        if self._store is None:
            return
        usage = self._store.usage()
        self._set("store_bytes", ("complete",), usage.complete)
        self._set("store_bytes", ("partial",), usage.partial)
        self._set("store_bytes", ("reserved",), usage.reserved)
        self._set("store_objects", ("complete",), usage.complete_objects)
        self._set("store_objects", ("partial",), usage.partial_objects)
        self._set("store_limit_bytes", (), usage.limit)
        self._set("store_disk_free_bytes", (), usage.disk_free)
        self._set("store_longest_idle_seconds", (), usage.idle)

    def _take_hot(self) -> None:
        answers, durations = self.hot.take()
        for head_only, status, count, size in answers:
            if not count:
                continue
            source = "none" if head_only or status == 304 else "local"
            self._add("http_requests_total", ("assets", "HEAD" if head_only else "GET", str(status)), count)
            self._add("asset_requests_total", ("hit", source), count)
            if size:
                self._add("asset_body_bytes_total", ("hit", source), size)
            if status == 206:
                self._add("asset_ranges_total", ("single",), count)
        self._histograms["asset_ttfb_seconds"]["hit",].merge(durations)
        self._histograms["asset_duration_seconds"]["hit",].merge(durations)

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering does not collect

    def collect(self) -> Iterator[Metric]:
        self._ask()
        for spec in METRICS.values():
            name = f"distributor_{spec.name}"
            if spec.kind == "histogram":
                yield self._histogram(name, spec)
            elif spec.kind == "counter":
                counter = CounterMetricFamily(name, spec.help, labels=spec.labels)
                for labels, value in self._values[spec.name].items():
                    counter.add_metric(labels, value)
                yield counter
            else:
                gauge = GaugeMetricFamily(name, spec.help, labels=spec.labels)
                for labels, value in self._values[spec.name].items():
                    gauge.add_metric(labels, value)
                yield gauge

    def _histogram(self, name: str, spec: Spec) -> Metric:
        family = HistogramMetricFamily(name, spec.help, labels=spec.labels)
        for labels, histogram in self._histograms[spec.name].items():
            family.add_metric(labels, histogram.buckets(), histogram.total)
        return family
