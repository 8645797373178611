"""Facets: how many entries, and how many bytes, of all matches have each value."""

# ruff: noqa: S608  (every f-string below joins constants; all values are bound)

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from origin.catalog.search_pages import FEW, Hunt
from origin.catalog.search_plan import Param, Plan
from origin.catalog.summaries import PERIOD_BITS, size_class
from origin.core.search import AGE_CLASSES, SIZE_CLASSES, Bucket, Facets, Field

_DAY_MS = 86_400_000


def _age_class(column: str, now_ms: int) -> str:
    """Return an expression for the place of a date's class in AGE_CLASSES."""
    whens = " ".join(
        f"WHEN {column} > {now_ms - bound * _DAY_MS} THEN {i}"
        for i, (_, bound) in enumerate(AGE_CLASSES)
        if bound is not None
    )
    return f"CASE {whens} ELSE {len(AGE_CLASSES) - 1} END"


_Sums = tuple[int, int]
"""Entries, and bytes."""

_Found = dict[Field | None, dict[Any, _Sums]]
"""Sums of each value of each facet; None: of all."""


def facets(hunt: Hunt, wanted: tuple[Field, ...], limit: int, now_ms: int) -> Facets:
    """wanted, limit: which, and how many buckets of each; now_ms: what ages are counted from."""
    plan = hunt.plan
    if plan.drivers or plan.texts or len(plan.tests) > len(plan.unseen):
        source, params = hunt.source(hunt.few() or hunt.by_words())
        found = _looked_through(hunt, source, params, wanted, now_ms)
    else:
        found = _of_all(hunt, wanted, now_ms)
        if plan.unseen:
            _take_away(found, _looked_through(hunt, *_unseen(plan), wanted, now_ms))
    total, size = found[None].get(None, (0, 0))
    buckets = {
        facet: [
            Bucket(val, *sums)
            for key, sums in found[facet].items()
            if (val := _val(hunt, facet, key)) is not None
        ]
        for facet in wanted
    }
    return Facets(total, size, {facet: _first(facet, buckets[facet], limit) for facet in wanted})


def _unseen(plan: Plan) -> tuple[str, list[Param]]:
    """Each by its index, and once though several fit."""
    each = " UNION ".join(f"SELECT e.id FROM entries e WHERE {test.sql}" for test in plan.unseen)
    return f"FROM entries e WHERE e.id IN ({each})", [p for test in plan.unseen for p in test.params]


def _take_away(found: _Found, less: _Found) -> None:
    for facet, values in less.items():
        for value, (entries, size) in values.items():
            held = found[facet].get(value, (0, 0))
            found[facet][value] = (held[0] - entries, held[1] - size)
        found[facet] = {value: sums for value, sums in found[facet].items() if sums[0]}


def _looked_through(
    hunt: Hunt, source: str, params: list[Param], wanted: tuple[Field, ...], now_ms: int
) -> _Found:
    columns = {
        Field.EXTENSION: "e.extension",
        Field.SIZE: size_class("e.size"),
        Field.MODIFIED: _age_class("e.modified_ms", now_ms),
        Field.CACHED: "e.cached_ms IS NOT NULL",
    }
    chosen = [facet for facet in wanted if facet in columns]
    keys = "".join(f"{columns[facet]}, " for facet in chosen)
    group = f" GROUP BY {', '.join(str(i + 1) for i in range(len(chosen)))}" if chosen else ""
    sql = f"SELECT {keys}count(*), coalesce(sum(max(e.size, 0)), 0) {source}{group}"
    cube = hunt.connection.execute(sql, params).fetchall()
    found: _Found = {None: {None: _total(row[-2:] for row in cube)}}
    for place, facet in enumerate(chosen):
        sums = found[facet] = {}
        for row in cube:
            entries, size = sums.get(row[place], (0, 0))
            sums[row[place]] = (entries + row[-2], size + row[-1])
    if Field.VOLUME in wanted:
        volumes = _VOLUMES_OF_FEW if found[None][None][0] <= FEW else _VOLUMES_OF_MANY
        rows = hunt.connection.execute(volumes.format(f"SELECT e.id {source}"), params)
        found[Field.VOLUME] = {n: (entries, size) for n, entries, size in rows}
    return found


_VOLUMES_OF_FEW = (
    "SELECT v.storage_n, count(*), sum(max(v.size, 0)) FROM ({}) m"
    " CROSS JOIN entry_volumes v ON v.id = m.id GROUP BY 1"
)
# Volume by volume, off an index that has all it needs: nothing is sorted.
_VOLUMES_OF_MANY = (
    "SELECT storage_n, count(*), sum(max(size, 0)) FROM entry_volumes INDEXED BY entry_volumes_storage"
    " WHERE +id IN ({}) GROUP BY 1"
)


def _of_all(hunt: Hunt, wanted: tuple[Field, ...], now_ms: int) -> _Found:
    """Of the whole catalog: off what is counted as entries come and go."""
    counts: dict[str, dict[Any, _Sums]] = {}
    sql = "SELECT facet, value, entries, bytes FROM entry_counts WHERE entries > 0"
    for facet, value, entries, size in hunt.connection.execute(sql):
        counts.setdefault(facet, {})[value] = (entries, size)
    cached = counts.get("cached", {})
    return {
        None: {None: _total(cached.values())},
        Field.EXTENSION: counts.get("extension", {}),
        Field.VOLUME: counts.get("volume", {}),
        Field.SIZE: counts.get("size", {}),
        Field.MODIFIED: _ages(hunt, counts.get("period", {}), now_ms) if Field.MODIFIED in wanted else {},
        Field.CACHED: cached,
    }


def _total(sums: Iterable[_Sums]) -> _Sums:
    found = list(sums)
    return sum(entries for entries, _ in found), sum(size for _, size in found)


def _ages(hunt: Hunt, periods: dict[Any, _Sums], now_ms: int) -> dict[int, _Sums]:
    """Return the sums of each class that has entries."""
    found: dict[int, _Sums] = {}
    before = (0, 0)
    for place, (_, bound) in enumerate(AGE_CLASSES):
        if bound is None:
            sums = _total(periods.values())
        else:
            sums = _since(hunt, periods, now_ms - bound * _DAY_MS + 1)
        if sums[0] > before[0]:
            found[place] = (sums[0] - before[0], sums[1] - before[1])
        before = sums
    return found


def _since(hunt: Hunt, periods: dict[Any, _Sums], moment: int) -> _Sums:
    """Whole periods are counted already; of the one that the moment is in, the index is asked."""
    here = moment >> PERIOD_BITS
    part = hunt.connection.execute(
        "SELECT count(*), coalesce(sum(max(size, 0)), 0) FROM entries INDEXED BY entries_modified"
        " WHERE modified_ms BETWEEN ? AND ?",
        [moment, ((here + 1) << PERIOD_BITS) - 1],
    ).fetchone()
    return _total([part, *(sums for period, sums in periods.items() if period > here)])


def _val(hunt: Hunt, facet: Field, key: Any) -> str | bool | None:
    """None: of a volume that the caller may not see."""
    if facet is Field.VOLUME:
        return hunt.names.get(key)
    if facet is Field.EXTENSION:
        return f".{key}" if key else ""
    if facet is Field.CACHED:
        return bool(key)
    classes = SIZE_CLASSES if facet is Field.SIZE else AGE_CLASSES
    return classes[int(key)][0]


def _first(facet: Field, buckets: list[Bucket], limit: int) -> tuple[Bucket, ...]:
    """Most files first, then by val; classes keep their own order. At most `limit`."""
    if facet in (Field.SIZE, Field.MODIFIED):
        order = [name for name, _ in (SIZE_CLASSES if facet is Field.SIZE else AGE_CLASSES)]
        return tuple(sorted(buckets, key=lambda b: order.index(str(b.val)))[:limit])
    return tuple(sorted(buckets, key=lambda b: (-b.files_count, str(b.val)))[:limit])
