"""How a page of matches is found. No walk uses OFFSET: a page is what comes after a (sort value, id).

- few candidates (one of the plan's drivers lists at most FEW): they are tested and sorted;
- by id with words: the full-text index gives its matches in that order;
- else the index of the sort order, of one volume or extension if one is asked for, is walked from the
  mark, each row tested. That is short where matches are spread evenly over the order;
- where WALK steps gave no full page, matches lie close together somewhere else in the order. Then only
  those zones (see summaries.py) that have candidates are looked through, the first in the order first;
- where zones do not tell either, all matches are sorted.
"""

# ruff: noqa: S608  (every f-string below joins constants; all values are bound)

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from typing import Any

from origin.catalog.search_plan import Driver, Param, Plan, Test
from origin.catalog.summaries import ZONE_BITS
from origin.core.marks import Mark
from origin.core.search import SearchQuery, Sort

COUNTED = 10_000  # matches are counted so far and no farther
FEW = 20_000
WALK = 100_000  # steps of SQLite's machine: not time, which a busy neighbour takes away
LISTED = 3_000_000  # steps that listing the zones of candidates may take
BATCHES = (16, 64, 256)  # zones looked through, before all matches are sorted instead
DEEP = 5_000  # entries left out by their number, beyond which zones help no more
DEADLINE = 10.0  # seconds a search may take
_TICK = 1_000


_Zone = tuple[int, int, Any]


class Hunt:
    """One search on one connection, within its transaction."""

    def __init__(
        self, connection: sqlite3.Connection, query: SearchQuery, plan: Plan, names: Mapping[int, str]
    ) -> None:
        self.connection = connection
        self.query = query
        self.plan = plan
        self.names = names
        self.deadline = time.monotonic() + DEADLINE
        self.places = {n: f"{name}/\0" for n, name in names.items()}
        if query.sort is Sort.PATH:
            connection.create_function("place", 1, lambda n: self.places.get(n, ""), deterministic=True)
        self._few: Driver | None = None
        self._chosen = False

    def few(self) -> Driver | None:
        """Return the driver with the fewest candidates, if those are at most FEW."""
        if not self._chosen:
            best = FEW + 1
            for driver in self.plan.drivers:
                count = f"SELECT count(*) FROM (SELECT 1 FROM ({driver.sql}) LIMIT {best})"
                found = self.connection.execute(count, driver.params).fetchone()[0]
                if found < best:
                    best, self._few = found, driver
            self._chosen = True
        return self._few

    def tests(self, driver: Driver | None) -> tuple[str, list[Param]]:
        """Return what remains to be tested of candidates; all, when none drives."""
        left: list[Test] = []
        if driver is None or driver is not self.by_words():
            left += self.plan.texts
        left += [t for i, t in enumerate(self.plan.tests) if driver is None or i != driver.covers]
        sql = "".join(f" AND {test.sql}" for test in left)
        return sql, [param for test in left for param in test.params]

    def by_words(self) -> Driver | None:
        return self.plan.drivers[0] if self.plan.match is not None else None

    def source(self, driver: Driver | None) -> tuple[str, list[Param]]:
        """Return FROM and WHERE that give all matches as `entries e`, once each."""
        tests, params = self.tests(driver)
        if driver is None:
            return f"FROM entries e NOT INDEXED WHERE 1{tests}", params
        if driver.index is not None and driver.covers is not None:
            covered = self.plan.tests[driver.covers].sql
            return (
                f"FROM entries e INDEXED BY {driver.index} WHERE {covered}{tests}",
                [*driver.params, *params],
            )
        return (
            f"FROM ({driver.sql}) d CROSS JOIN entries e ON e.id = d.id WHERE 1{tests}",
            [*driver.params, *params],
        )

    def count(self) -> int | None:
        plan = self.plan
        if not plan.drivers and not plan.texts and not plan.tests:
            every = "SELECT coalesce(sum(entries), 0) FROM entry_counts WHERE facet = 'cached'"
            return int(self.connection.execute(every).fetchone()[0])
        driver = self.few() or (plan.drivers[0] if plan.drivers else None)
        tests, _ = self.tests(driver)
        if driver is not None and not tests:  # candidates are the matches: no need to look at them
            source, params = f"FROM ({driver.sql})", list(driver.params)
        else:
            source, params = self.source(driver)
        sql = f"SELECT count(*) FROM (SELECT 1 {source} LIMIT {COUNTED + 1})"
        found = int(self.connection.execute(sql, params).fetchone()[0])
        return found if found <= COUNTED else None

    # --- pages ------------------------------------------------------------------------------------

    def page(self, after: Mark | None, rows: int, skip: int) -> list[tuple[int, Any]]:
        """Return (id, sort value) of the next entries."""
        few = self.few()
        if few is not None:
            return self._sorted(few, after, rows, skip)
        if self.query.sort is Sort.ID and self.plan.match is not None:
            return self._by_words(after, rows, skip)
        walk = self._by_path if self.query.sort is Sort.PATH else self._walk
        if not self.plan.drivers and not self.plan.tests:
            return walk(after, rows, skip)
        with contextlib.suppress(_Interrupted), self.limited(WALK):
            return walk(after, rows, skip)
        found = self._by_zones(after, rows + skip)
        if found is not None:
            return found[skip:]
        if not self.plan.drivers:
            return walk(after, rows, skip)
        return self._sorted(self.plan.drivers[0], after, rows, skip)

    @contextlib.contextmanager
    def limited(self, steps: int) -> Iterator[None]:
        """Raise _Interrupted when what is done inside takes more steps of SQLite's machine."""
        left = steps // _TICK

        def tick() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        self.connection.set_progress_handler(tick, _TICK)
        try:
            yield
        except sqlite3.OperationalError as error:
            if left >= 0:
                raise
            raise _Interrupted from error
        finally:
            self.connection.set_progress_handler(lambda: time.monotonic() > self.deadline, 100_000)

    def _sorted(self, driver: Driver, after: Mark | None, rows: int, skip: int) -> list[tuple[int, Any]]:
        source, params = self.source(driver)
        return self._ordered(source, params, after, rows, skip, _KEYS[self.query.sort])

    def _ordered(
        self, source: str, params: list[Param], after: Mark | None, rows: int, skip: int, key: str
    ) -> list[tuple[int, Any]]:
        """Sort all that `source` gives as `entries e`."""
        condition, marks = self._after(key, after)
        sql = f"SELECT e.id, {key} {source}{condition} ORDER BY {self._order(key)} LIMIT ? OFFSET ?"
        return self.connection.execute(sql, [*params, *marks, rows, skip]).fetchall()

    def _by_zones(self, after: Mark | None, need: int) -> list[tuple[int, Any]] | None:
        """Return the first `need` matches after the mark; None when zones do not tell where they are."""
        zones = self._zones(after) if need <= DEEP else None
        if zones is None:
            return None
        found: list[tuple[int, Any]] = []
        for start, end in itertools.pairwise((0, *BATCHES)):
            found = self._first_of(found, zones[start:end], after, need)
            if len(found) == need:  # the others matter only as far as they begin before the last of these
                last = _rank(found[-1])
                down = self.query.descending
                needed = [zone for zone in zones if (zone[2] >= last if down else zone[2] <= last)]
                if len(needed) > BATCHES[-1]:
                    return None
                return self._first_of(
                    found, needed[end:], after, need, Mark(found[-1][0], found[-1][1], None)
                )
            if end >= len(zones):
                return found
        return None

    def _first_of(
        self,
        found: list[tuple[int, Any]],
        zones: list[_Zone],
        after: Mark | None,
        need: int,
        before: Mark | None = None,
    ) -> list[tuple[int, Any]]:
        """Return the first of what was found and of what is in the zones, between the marks."""
        if zones:
            found = found + self._in_zones(zones, after, before, need)
            found.sort(key=lambda row: (_rank(row), row[0]), reverse=self.query.descending)
        return found[:need]

    def _zones(self, after: Mark | None) -> list[_Zone] | None:
        """Return (zone, storage, its bound) of zones with candidates after the mark, in order of their
        bounds, at most one more than are looked through. None when there are too many candidates."""
        low, high = _BOUNDS[self.query.sort]
        condition, marks, direction = "", [], ""
        if self.query.descending:
            low, high, direction = high, low, " DESC"
        if after is not None:
            condition = f" AND {high} {'<=' if direction else '>='} ?"
            marks = [after.id if after.key is None else after.key]
        storages = json.dumps([n for _, n in self._primaries()])
        listed = f"z.zone IN (SELECT d.id >> {ZONE_BITS} FROM ({{}}) d)"
        candidates = [
            (driver.zones or listed.format(driver.sql), driver.params) for driver in self.plan.drivers
        ]
        for where, params in candidates or [("1", ())]:
            sql = (
                f"SELECT z.zone, z.storage_n, {low} FROM entry_zones z WHERE {where}"
                # "+": or SQLite would look for each of the zones with each of the storages.
                f" AND +z.storage_n IN (SELECT value FROM json_each(?)){condition}"
                f" ORDER BY 3{direction} LIMIT {BATCHES[-1] + 1}"
            )
            with contextlib.suppress(_Interrupted), self.limited(LISTED):
                return self.connection.execute(sql, [*params, storages, *marks]).fetchall()
        return None

    def _in_zones(
        self, zones: list[_Zone], after: Mark | None, before: Mark | None, rows: int
    ) -> list[tuple[int, Any]]:
        tests, params = self.tests(None)
        key = _KEYS[self.query.sort].replace("place(e.storage_n)", "z.place")
        bound, marks = self._after(key, before, reverse=True)
        listed = ", ".join(["(?, ?, ?)"] * len(zones))
        first = f"(z.zone << {ZONE_BITS})"
        source = (
            f"FROM (SELECT column1 AS zone, column2 AS storage_n, column3 AS place FROM (VALUES {listed})) z"
            f" CROSS JOIN entries e NOT INDEXED ON e.id BETWEEN {first} AND {first} + {2**ZONE_BITS - 1}"
            f" AND e.storage_n = z.storage_n WHERE 1{bound}{tests}"
        )
        named = [part for zone, n, _ in zones for part in (zone, n, self.places[n])]
        return self._ordered(source, [*named, *marks, *params], after, rows, 0, key)

    def _by_words(self, after: Mark | None, rows: int, skip: int) -> list[tuple[int, Any]]:
        driver = self.by_words()
        assert driver is not None
        tests, params = self.tests(driver)
        down = self.query.descending
        condition = "" if after is None else f" AND s.rowid {'<' if down else '>'} ?"
        join = " CROSS JOIN entries e ON e.id = s.rowid" if tests else ""
        sql = (
            f"SELECT s.rowid, NULL FROM entry_search s{join} WHERE s.entry_search MATCH ?{condition}{tests}"
            f" ORDER BY s.rowid {'DESC' if down else 'ASC'} LIMIT ? OFFSET ?"
        )
        marks = [] if after is None else [after.id]
        return self.connection.execute(sql, [*driver.params, *marks, *params, rows, skip]).fetchall()

    def _walk(self, after: Mark | None, rows: int, skip: int) -> list[tuple[int, Any]]:
        sort, volume = self.query.sort, self.plan.volume
        tests, params = self.tests(None)
        if sort is Sort.SIZE and self.plan.extension is not None:  # what tells most about a size
            key = _KEYS[sort]
            source = "entries e INDEXED BY entries_extension"
            condition, marks = self._after(key, after)
            order = self._order(key)
            condition, marks = f" AND e.extension = ?{condition}", [self.plan.extension, *marks]
        elif volume is not None and sort in _INDEX_OF_VOLUME:
            key = _KEYS[sort].replace("e.", "v.")
            source = f"entry_volumes v {_INDEX_OF_VOLUME[sort]} CROSS JOIN entries e ON e.id = v.id"
            condition, marks = self._after(key, after, "v.id")
            order = self._order(key, "v.id")
            condition, marks = f" AND v.storage_n = ?{condition}", [volume, *marks]
        else:
            key = _KEYS[sort]
            source = f"entries e {_BY[sort]}"
            condition, marks = self._after(key, after)
            order = self._order(key)
        sql = f"SELECT e.id, {key} FROM {source} WHERE 1{condition}{tests} ORDER BY {order} LIMIT ? OFFSET ?"
        return self.connection.execute(sql, [*marks, *params, rows, skip]).fetchall()

    def _by_path(self, after: Mark | None, rows: int, skip: int) -> list[tuple[int, Any]]:
        """Walk storage by storage, in the order of their names."""
        tests, params = self.tests(None)
        down = self.query.descending
        place, _, path = str(after.key).partition("\0") if after is not None else ("", "", "")
        found: list[tuple[int, Any]] = []
        order = "e.path DESC, e.id DESC" if down else "e.path, e.id"
        for name, n in sorted(self._primaries(), reverse=down):
            if len(found) >= rows:
                break
            condition, marks = "", []
            if after is not None:
                if name != place and (name > place) is down:
                    continue  # all of it lies before the mark
                if name == place:
                    condition = f" AND (e.path, e.id) {'<' if down else '>'} (?, ?)"
                    marks = [path, after.id]
            sql = (
                f"SELECT e.id, e.path FROM entries e INDEXED BY entries_path WHERE e.storage_n = ?{condition}"
                f"{tests} ORDER BY {order} LIMIT ?"
            )
            limit = rows + skip - len(found)
            part = self.connection.execute(sql, [n, *marks, *params, limit]).fetchall()
            skipped = min(skip, len(part))
            skip -= skipped
            found += [(id, f"{name}\0{own}") for id, own in part[skipped:]]
        return found

    def _primaries(self) -> list[tuple[str, int]]:
        """Return (place, number) of the storages whose entries can match; fewer, with a volume asked for."""
        places = [(f"{name}/", n) for n, name in self.names.items()]
        if self.plan.volume is None:
            return places
        some = (
            "SELECT n.value FROM json_each(?) n WHERE EXISTS"
            " (SELECT 1 FROM entry_volumes WHERE storage_n = ? AND primary_n = n.value)"
        )
        asked = json.dumps([n for _, n in places])
        found = {n for (n,) in self.connection.execute(some, [asked, self.plan.volume])}
        return [place for place in places if place[1] in found]

    def _after(
        self, key: str, after: Mark | None, id: str = "e.id", *, reverse: bool = False
    ) -> tuple[str, list[Param]]:
        """Return the condition to come after a mark; reverse: before it."""
        if after is None:
            return "", []
        sign = "<" if self.query.descending is not reverse else ">"
        if self.query.sort is Sort.ID or after.key is None:
            return f" AND {id} {sign} ?", [after.id]
        return f" AND ({key}, {id}) {sign} (?, ?)", [after.key, after.id]

    def _order(self, key: str, id: str = "e.id") -> str:
        direction = " DESC" if self.query.descending else ""
        return f"{key}{direction}, {id}{direction}" if self.query.sort is not Sort.ID else f"{id}{direction}"


def _rank(row: tuple[int, Any]) -> Any:
    id, value = row
    return id if value is None else value


_KEYS = {
    Sort.ID: "NULL",
    Sort.PATH: "place(e.storage_n) || e.path",
    Sort.NAME: "e.base",
    Sort.SIZE: "e.size",
    Sort.MODIFIED: "e.modified_ms",
}
_BOUNDS = {
    Sort.ID: (f"(z.zone << {ZONE_BITS})", f"((z.zone << {ZONE_BITS}) + {2**ZONE_BITS - 1})"),
    Sort.PATH: ("place(z.storage_n) || z.low_path", "place(z.storage_n) || z.high_path"),
    Sort.NAME: ("z.low_base", "z.high_base"),
    Sort.SIZE: ("z.low_size", "z.high_size"),
    Sort.MODIFIED: ("z.low_modified", "z.high_modified"),
}
"""Of a zone, on the keys of its entries: none is less than the first, none greater than the second."""
_BY = {
    Sort.ID: "NOT INDEXED",
    Sort.NAME: "INDEXED BY entries_base",
    Sort.SIZE: "INDEXED BY entries_size",
    Sort.MODIFIED: "INDEXED BY entries_modified",
}
_INDEX_OF_VOLUME = {
    Sort.NAME: "INDEXED BY entry_volumes_base",
    Sort.SIZE: "INDEXED BY entry_volumes_size",
    Sort.MODIFIED: "INDEXED BY entry_volumes_modified",
}


class _Interrupted(Exception):
    """A walk took too long: another way is taken."""
