"""Tables, and the page and plot made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import description
from benchmarks.svg import bars
from tests.support.edge import ROOT

RESULTS = ROOT / "var" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks.svg"


@dataclass
class Table:
    """One claim's figures.

    note    how it was measured, and what the columns mean; one paragraph
    ratios  case → our edge over the better peer (above 1.0 we are ahead); goes into the plot
    """

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]
    ratios: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Iterable[float], form: str = "{:,.0f}") -> str:
    """Median, and least to most."""
    found = sorted(values)
    low, high = form.format(found[0]), form.format(found[-1])
    middle = form.format(median(found))
    return middle if len(found) == 1 else f"{middle} ({low}–{high})"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def remember(name: str, table: Table) -> None:
    """Keep a table, so that cases may be run one by one and written together."""
    RESULTS.parent.mkdir(exist_ok=True)
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[name] = asdict(table)
    RESULTS.write_text(json.dumps(kept, indent=1))


def write(order: Iterable[str]) -> None:
    """Write the page and the plot of all tables remembered, in this order."""
    kept = json.loads(RESULTS.read_text())
    tables = [Table(**kept[name]) for name in order if name in kept]
    ratios = {case: ratio for table in tables for case, ratio in table.ratios.items()}
    parts = [
        "# Benchmarks",
        "Made by `make bench ARGS=--write`; only ratios within one run count, for "
        "absolute figures drift with the machine's neighbours. Figures are medians of interleaved rounds, "
        "least to most in brackets.",
        "\n".join(f"- {line}" for line in description()),
    ]
    if ratios:
        PLOT.parent.mkdir(exist_ok=True)
        PLOT.write_text(bars("This edge over the better of its peers; 1.0 is level", ratios))
        parts.append("![This edge over the better of its peers](benchmarks.svg)")
    for table in tables:
        parts.append(f"## {table.title}\n\n{table.note}\n\n{table.text()}")
    PAGE.parent.mkdir(exist_ok=True)
    Path(PAGE).write_text("\n\n".join(parts) + "\n")
