"""/metrics: the contract's names and labels, and nothing that a client could make grow."""

from __future__ import annotations

import re
from typing import Any

import pytest

from distributor.core.model import Outcome
from distributor.http.cache_status import CacheState
from distributor.metrics import METRICS, Metrics
from distributor.ports import Observer, Usage

# Contract §7, as it stands there: name, kind, labels.
CONTRACT = """
http_requests_total C route method code
http_connections_open G listener
http_connections_refused_total C reason
asset_requests_total C cache data_source
asset_body_bytes_total C cache data_source
asset_ttfb_seconds H cache
asset_duration_seconds H cache
asset_ranges_total C kind
asset_aborted_total C reason
fetches_in_flight G
fetches_waiting G
collapsed_waiters G
fetches_total C result
fetch_duration_seconds H result
collapsed_requests_total C
fetch_resumes_total C
segment_fetches_total C
source_requests_total C source method code
source_errors_total C source reason
source_latency_seconds H source
source_received_bytes_total C source
source_up G source
revalidations_total C result
stale_served_total C reason
store_bytes G kind
store_objects G state
store_limit_bytes G
store_disk_free_bytes G
store_longest_idle_seconds G
evictions_total C reason
evicted_bytes_total C reason
store_refusals_total C reason
store_errors_total C op
purged_total C mode
verified_total C result
negative_entries G
start_time_seconds G
build_info G version
"""
KINDS = {"C": "counter", "G": "gauge", "H": "histogram"}


class FilledStore:
    def usage(self) -> Usage:
        return Usage(1000, 300, 20, 5, 3, 1, 4000, 7.5)


def exercised() -> Metrics:
    """Metrics of which every callback was called once."""
    metrics = Metrics("0.1.0")
    metrics.watch(FilledStore(), lambda: 2)  # type: ignore[arg-type]
    metrics.request(
        Outcome(
            route="assets",
            method="GET",
            status=206,
            cache=CacheState.HIT,
            data_source="local",
            body_bytes=100,
            ttfb=0.01,
            duration=0.02,
            range_kind="single",
            aborted="client",
        )
    )
    calls: dict[str, tuple[Any, ...]] = {
        "connection": ("public", 1),
        "connection_refused": ("limit",),
        "fetch_began": (),
        "fetch_ended": ("complete", 1.5),
        "fetch_waiting": (1,),
        "collapsed": (),
        "collapsed_waiting": (1,),
        "resumed": (),
        "segment_fetch": (),
        "source_request": ("1", "GET", 200),
        "source_error": ("1", "connect"),
        "source_latency": ("1", 0.2),
        "source_received": ("1", 4096),
        "source_up": ("1", True),
        "revalidated": ("not_modified",),
        "stale_served": ("error",),
        "evicted": ("room", 77),
        "store_refused": ("no_room",),
        "store_error": ("read",),
        "purged": ("hard", 3),
        "verified": ("ok",),
        "negatives": (4,),
    }
    assert {*calls, "request"} == {name for name in vars(Observer) if not name.startswith("_")}
    for name, arguments in calls.items():
        getattr(metrics, name)(*arguments)
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    text = metrics.text().decode()
    return {
        match[1]: float(match[2])
        for match in re.finditer(r"^(distributor_\S+|process_\S+) (\S+)$", text, re.M)
    }


def test_names_kinds_and_labels_are_those_of_the_contract() -> None:
    expected = {}
    for line in CONTRACT.strip().splitlines():
        name, kind, *labels = line.split()
        expected[name] = (KINDS[kind], tuple(labels))
    assert {name: (spec.kind, spec.labels) for name, spec in METRICS.items()} == expected


def test_every_metric_is_on_the_page_with_its_type() -> None:
    text = exercised().text().decode()
    for name, spec in METRICS.items():
        assert f"# TYPE distributor_{name} {spec.kind}\n" in text
        assert re.search(rf"^distributor_{name}(_count)?[{{ ]", text, re.M), name
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text


def test_what_is_observed_is_counted_where_the_contract_says() -> None:
    found = samples(exercised())
    expected = {
        'distributor_http_requests_total{code="206",method="GET",route="assets"}': 1,
        'distributor_asset_requests_total{cache="hit",data_source="local"}': 1,
        'distributor_asset_body_bytes_total{cache="hit",data_source="local"}': 100,
        'distributor_asset_ttfb_seconds_bucket{cache="hit",le="0.01"}': 1,
        'distributor_asset_ttfb_seconds_bucket{cache="hit",le="0.005"}': 0,
        'distributor_asset_ttfb_seconds_bucket{cache="hit",le="+Inf"}': 1,
        'distributor_asset_duration_seconds_count{cache="hit"}': 1,
        'distributor_asset_ranges_total{kind="single"}': 1,
        'distributor_asset_aborted_total{reason="client"}': 1,
        "distributor_fetches_in_flight": 2,
        'distributor_fetch_duration_seconds_sum{result="complete"}': 1.5,
        'distributor_source_received_bytes_total{source="1"}': 4096,
        'distributor_source_up{source="1"}': 1,
        'distributor_store_bytes{kind="complete"}': 300,
        'distributor_store_bytes{kind="reserved"}': 5,
        'distributor_store_objects{state="partial"}': 1,
        "distributor_store_longest_idle_seconds": 7.5,
        'distributor_evictions_total{reason="room"}': 1,
        'distributor_evicted_bytes_total{reason="room"}': 77,
        'distributor_purged_total{mode="hard"}': 3,
        "distributor_negative_entries": 4,
        'distributor_build_info{version="0.1.0"}': 1,
    }
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize("name", [name for name, spec in METRICS.items() if spec.known])
def test_closed_label_sets_are_there_at_zero_from_the_start(name: str) -> None:
    found = samples(Metrics("0.1.0"))
    suffix = "_count" if METRICS[name].kind == "histogram" else ""
    assert any(re.match(rf"distributor_{name}{suffix}(\{{|$)", sample) for sample in found)


def test_an_error_answer_counts_no_asset_bytes() -> None:
    metrics = Metrics("0.1.0")
    metrics.request(Outcome(route="assets", method="GET", status=404, body_bytes=64, ttfb=0.1, duration=0.1))
    found = samples(metrics)
    assert found['distributor_asset_requests_total{cache="none",data_source="none"}'] == 1
    assert sum(value for name, value in found.items() if "asset_body_bytes" in name) == 0
