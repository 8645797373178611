"""Names of metrics in the rules and the dashboard are those that the operation page explains."""

from __future__ import annotations

import json
import re

import yaml

from distributor.metrics import METRICS
from docs.generate import ROOT
from origin.api.metrics import Metrics as OriginMetrics

SERIES = re.compile(r"(?<![:\w])distributor_[a-z0-9_]+")
RECORDED = re.compile(r"\binstance:distributor_\w+(?::\w+)?")


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Return type letter and labels of every row of the operation page's table, by full name."""
    page = (ROOT / "docs/operation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([CGH]) \| ([^|]*)\|", page, re.MULTILINE)
    return {
        f"distributor_{name}": (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in rows
    }


def test_operation_page_explains_every_metric_of_the_edge_with_its_labels() -> None:
    exposed = {
        f"distributor_{name}": (spec.kind[0].upper(), frozenset(spec.labels))
        for name, spec in METRICS.items()
    }
    assert documented() == exposed


def test_operation_page_names_every_metric_of_the_origin() -> None:
    page = (ROOT / "docs/operation.md").read_text(encoding="utf-8")
    families = {family.name: family for family in OriginMetrics().registry.collect()}
    exposed = {
        f"{name}_total" if family.type == "counter" else name
        for name, family in families.items()
        if name.startswith("origin_")
    }
    assert set(re.findall(r"`(origin_[a-z_]+)`", page)) == exposed


def test_values_that_rules_and_dashboard_select_are_those_counted() -> None:
    texts = [
        (ROOT / "config" / name).read_text(encoding="utf-8")
        for name in ("prometheus-rules.yml", "grafana-dashboard.json")
    ]
    selected = re.findall(r"(distributor_\w+)\{([^}]*)\}", " ".join(texts).replace('\\"', '"'))
    assert selected
    for name, matchers in selected:
        spec = METRICS[re.sub("_bucket$", "", name).removeprefix("distributor_")]
        for label, value in re.findall(r'(\w+)!?="([a-z_]+)"', matchers):
            known = {labels[spec.labels.index(label)] for labels in spec.known}
            assert value in known or not known, (name, label, value)


def series() -> set[str]:
    """Return every name that a histogram, counter or gauge of the page is scraped under."""
    names = set()
    for name, (kind, _) in documented().items():
        names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "H" else {name}
    return names


def test_rules_ask_for_metrics_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "config/prometheus-rules.yml").read_text(encoding="utf-8"))
    flat = [rule for group in rules["groups"] for rule in group["rules"]]
    expressions = " ".join(rule["expr"] for rule in flat)
    assert set(SERIES.findall(expressions)) <= series()
    recorded = {rule["record"] for rule in flat if "record" in rule}
    assert set(RECORDED.findall(expressions)) <= recorded
    assert all(rule["annotations"]["summary"] for rule in flat if "alert" in rule)


def test_rules_match_series_of_equal_labels_or_say_on_which() -> None:
    rules = yaml.safe_load((ROOT / "config/prometheus-rules.yml").read_text(encoding="utf-8"))
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        for left, word, right in re.findall(
            r"(distributor_\w+)[^()]*?(\band\b|\bunless\b|[<>*/+-])(?! on) (?:rate\()?(distributor_\w+)",
            rule["expr"],
        ):
            assert documented()[left][1] == documented()[right][1], (rule["expr"], word)


def test_dashboard_asks_for_metrics_that_exist_and_shows_each() -> None:
    dashboard = json.loads((ROOT / "config/grafana-dashboard.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    expressions += [note["expr"] for note in dashboard["annotations"]["list"]]
    expressions += [dashboard["templating"]["list"][1]["query"]]
    asked = set(SERIES.findall(" ".join(expressions)))
    assert asked <= series()
    shown = {re.sub("_bucket$", "", name) for name in asked}
    assert set(documented()) - shown == {"distributor_evictions_total"}  # its bytes are shown


def test_panels_do_not_overlap_and_ids_are_unique() -> None:
    panels = json.loads((ROOT / "config/grafana-dashboard.json").read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_grouping_labels_are_those_of_the_metrics() -> None:
    text = (ROOT / "config/grafana-dashboard.json").read_text(encoding="utf-8")
    for labels, name in re.findall(r"by \(([a-z_, ]+)\) \((?:rate\()?(distributor_\w+)", text):
        base = re.sub("_bucket$", "", name)
        assert set(labels.split(", ")) - {"le"} <= documented()[base][1], name
