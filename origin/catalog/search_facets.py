"""Facets: how many entries, and how many bytes, of all matches have each value."""

# ruff: noqa: S608  (every f-string below joins constants; all values are bound)

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from origin.catalog.search_pages import Hunt
from origin.catalog.search_plan import Param
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


def facets(hunt: Hunt, wanted: tuple[Field, ...], limit: int, now_ms: int) -> Facets:
    """wanted, limit: which, and how many buckets of each; now_ms: what ages are counted from."""
    driver = hunt.few() or hunt.by_words()
    source, params = hunt.source(driver)
    if driver is None and not hunt.tests(None)[0]:
        return _of_all(hunt, wanted, limit, now_ms)
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
    total, size = sum(row[-2] for row in cube), sum(row[-1] for row in cube)
    buckets: dict[Field, tuple[Bucket, ...]] = {}
    for place, facet in enumerate(chosen):
        sums: dict[Any, list[int]] = {}
        for row in cube:
            held = sums.setdefault(row[place], [0, 0])
            held[0] += row[-2]
            held[1] += row[-1]
        found = [Bucket(_val(facet, key), held[0], held[1]) for key, held in sums.items()]
        buckets[facet] = _first(facet, found, limit)
    if Field.VOLUME in wanted:
        buckets[Field.VOLUME] = _first(Field.VOLUME, _volumes(hunt, source, params), limit)
    return Facets(total, size, {facet: buckets[facet] for facet in wanted})


def _of_all(hunt: Hunt, wanted: tuple[Field, ...], limit: int, now_ms: int) -> Facets:
    """Of the whole catalog: off what is counted as entries come and go."""
    counts: dict[str, dict[Any, _Sums]] = {}
    sql = "SELECT facet, value, entries, bytes FROM entry_counts WHERE entries > 0"
    for facet, value, entries, size in hunt.connection.execute(sql):
        counts.setdefault(facet, {})[value] = (entries, size)
    by_age = _ages(hunt, counts.get("period", {}), now_ms) if Field.MODIFIED in wanted else {}
    held = {
        Field.EXTENSION: counts.get("extension", {}),
        Field.SIZE: counts.get("size", {}),
        Field.MODIFIED: by_age,
        Field.CACHED: counts.get("cached", {}),
    }
    buckets = {
        facet: [Bucket(_val(facet, value), *sums) for value, sums in held[facet].items()]
        for facet in wanted
        if facet in held
    }
    if Field.VOLUME in wanted:
        rows = ((n, *sums) for n, sums in counts.get("volume", {}).items())
        buckets[Field.VOLUME] = _named(hunt, rows)
    total, size = _total(counts.get("cached", {}).values())
    return Facets(total, size, {facet: _first(facet, buckets[facet], limit) for facet in wanted})


_Sums = tuple[int, int]


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


def _volumes(hunt: Hunt, source: str, params: list[Param]) -> list[Bucket]:
    sql = (
        "SELECT v.storage_n, count(*), sum(max(v.size, 0))"
        f" FROM (SELECT e.id {source}) m CROSS JOIN entry_volumes v ON v.id = m.id GROUP BY 1"
    )
    return _named(hunt, hunt.connection.execute(sql, params))


def _named(hunt: Hunt, rows: Iterable[Any]) -> list[Bucket]:
    return [Bucket(hunt.names[n], entries, size) for n, entries, size in rows if n in hunt.names]


def _val(facet: Field, key: Any) -> str | bool:
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
