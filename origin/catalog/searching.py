"""Searches, on threads and read connections of their own, so that they neither wait for writers nor
stop the event loop. No walk uses OFFSET: a page is what comes after a (sort value, id) on an index.

How a page is found:
- few candidates (one of the plan's drivers lists at most FEW): they are tested and sorted;
- by id with words: the full-text index gives its matches in that order;
- else the index of the sort order, of one volume if one is asked for, is walked from the mark, each row
  tested. Where matches are sparse there (WALK steps gave no full page), all matches are sorted instead.
"""

# ruff: noqa: S608  (every f-string below joins constants; all values are bound)

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from origin.catalog.search_plan import Driver, Param, Plan, Test, make_plan
from origin.core.marks import Mark
from origin.core.search import AGE_CLASSES, SIZE_CLASSES, Bucket, Facets, Field, SearchQuery, Sort
from origin.core.words import words
from origin.errors import Unavailable

T = TypeVar("T")

THREADS = 2
WAITING = 64  # searches in line; more are told to come again
COUNTED = 10_000  # matches are counted so far and no farther
FEW = 20_000
WALK = 600_000  # steps of SQLite's machine, about 15 ms; not time, which a busy neighbour takes away
DEADLINE = 10.0  # seconds a search may take
_TICK = 1_000
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Location:
    """A storage that holds a copy of an entry, and the File that is the copy."""

    storage_n: int
    file_n: int
    path: str
    state: str


@dataclass(frozen=True, slots=True)
class Entry:
    """locations: the primary copy's first, the others in no order.

    project, asset  ids, of the primary copy; None for none. tags: of all copies' assets, in order
    """

    id: int
    storage_n: int
    path: str
    size: int
    modified_ms: int
    cached_ms: int | None
    sha1: str | None
    metadata: Mapping[str, str]
    locations: tuple[Location, ...]
    project: str | None = None
    asset: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """count: None when there are more than COUNTED; last: mark after the last entry, None without one."""

    entries: list[Entry]
    count: int | None
    last: Mark | None
    facets: Facets | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """after: where a walk stands, None at its beginning. skip: entries left out first; not for walks.

    facets, facet_limit  which, and how many buckets of each; now_ms: what ages are counted from
    """

    rows: int
    after: Mark | None = None
    skip: int = 0
    facets: tuple[Field, ...] = ()
    facet_limit: int = 10
    now_ms: int = 0


class Searcher:
    """url: as in the setting `catalog`. Only SQLite catalogs can be searched: others are Unavailable."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        self._path = parsed.database if parsed.get_backend_name() == "sqlite" else None
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="search")
        self._in_line = 0

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        for connection in self._open:
            connection.close()
        self._open = []

    async def search(
        self,
        query: SearchQuery,
        window: Window,
        names: Mapping[int, str],
        hidden: Sequence[int],
        closed: Sequence[tuple[int, str]] = (),
    ) -> Found:
        """names: storages the caller may see, number → name; hidden: the others; closed: see `make_plan`.

        One consistent read. Raises Unavailable when too many wait, or when it takes too long.
        """
        return await self._run(functools.partial(_search, query, window, names, (hidden, closed)))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._in_line >= WAITING:
            raise Unavailable("too many searches at once", retry_after=1)
        self._in_line += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._in_thread, work)
        finally:
            self._in_line -= 1

    def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection()
        end = time.monotonic() + DEADLINE
        connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
        try:
            connection.execute("BEGIN")
            return work(connection)
        except sqlite3.OperationalError as error:
            raise Unavailable("the search took too long, or the catalog is busy", retry_after=2) from error
        finally:
            connection.set_progress_handler(None, 0)
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            if self._path is None:
                raise Unavailable("the catalog search needs a catalog in SQLite", retry_after=3600)
            found = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            found.execute("PRAGMA query_only = ON")
            found.execute("PRAGMA busy_timeout = 5000")
            found.execute("PRAGMA cache_size = -32768")
            found.execute("PRAGMA mmap_size = 2147418112")
            found.execute("PRAGMA temp_store = MEMORY")
            found.create_function("folded", 1, _folded, deterministic=True)
            self._local.connection = found
            self._open.append(found)
        return found


def _folded(text: str | None) -> str:
    return f" {' '.join(words(text))} " if isinstance(text, str) else ""


# --- one search -----------------------------------------------------------------------------------


class _Hunt:
    """One search on one connection, within its transaction."""

    def __init__(
        self, connection: sqlite3.Connection, query: SearchQuery, plan: Plan, names: Mapping[int, str]
    ) -> None:
        self.connection = connection
        self.query = query
        self.plan = plan
        self.names = names
        self.deadline = time.monotonic() + DEADLINE
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
            return f"FROM entries e WHERE 1{tests}", params
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
            return int(self.connection.execute("SELECT entries FROM entry_total").fetchone()[0])
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
        if self.plan.drivers:
            with contextlib.suppress(_Interrupted), self.limited(WALK):
                return walk(after, rows, skip)
            return self._sorted(self.plan.drivers[0], after, rows, skip)
        return walk(after, rows, skip)

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
        if self.query.sort is Sort.PATH:
            return self._sorted_by_path(source, params, after, rows, skip)
        key = _KEYS[self.query.sort]
        condition, marks = self._after(key, after)
        sql = f"SELECT e.id, {key} {source}{condition} ORDER BY {self._order(key)} LIMIT ? OFFSET ?"
        return self.connection.execute(sql, [*params, *marks, rows, skip]).fetchall()

    def _sorted_by_path(
        self, source: str, params: list[Param], after: Mark | None, rows: int, skip: int
    ) -> list[tuple[int, Any]]:
        places = {n: f"{name}/" for n, name in self.names.items()}
        self.connection.create_function("place", 1, lambda n: places.get(n, ""), deterministic=True)
        condition, marks = "", []
        sign, direction = ("<", " DESC") if self.query.descending else (">", "")
        if after is not None:
            place, _, path = str(after.key).partition("\0")
            condition = f" AND (place(e.storage_n), e.path, e.id) {sign} (?, ?, ?)"
            marks = [place, path, after.id]
        sql = (
            f"SELECT e.id, place(e.storage_n), e.path {source}{condition}"
            f" ORDER BY 2{direction}, 3{direction}, 1{direction} LIMIT ? OFFSET ?"
        )
        found = self.connection.execute(sql, [*params, *marks, rows, skip]).fetchall()
        return [(id, f"{place}\0{path}") for id, place, path in found]

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
        if volume is not None and sort in _BY_VOLUME:
            key = _BY_VOLUME[sort].replace("e.", "v.")
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
        some = "SELECT EXISTS (SELECT 1 FROM entry_volumes WHERE storage_n = ? AND primary_n = ?)"
        volume = self.plan.volume
        return [p for p in places if self.connection.execute(some, (volume, p[1])).fetchone()[0]]

    def _after(self, key: str, after: Mark | None, id: str = "e.id") -> tuple[str, list[Param]]:
        if after is None:
            return "", []
        sign = "<" if self.query.descending else ">"
        if self.query.sort is Sort.ID or after.key is None:
            return f" AND {id} {sign} ?", [after.id]
        return f" AND ({key}, {id}) {sign} (?, ?)", [after.key, after.id]

    def _order(self, key: str, id: str = "e.id") -> str:
        direction = " DESC" if self.query.descending else ""
        return f"{key}{direction}, {id}{direction}" if self.query.sort is not Sort.ID else f"{id}{direction}"


_KEYS = {Sort.ID: "NULL", Sort.NAME: "e.base", Sort.SIZE: "e.size", Sort.MODIFIED: "e.modified_ms"}
_BY = {
    Sort.ID: "NOT INDEXED",
    Sort.NAME: "INDEXED BY entries_base",
    Sort.SIZE: "INDEXED BY entries_size",
    Sort.MODIFIED: "INDEXED BY entries_modified",
}
_BY_VOLUME = {sort: key for sort, key in _KEYS.items() if sort is not Sort.ID}
_INDEX_OF_VOLUME = {
    Sort.NAME: "INDEXED BY entry_volumes_base",
    Sort.SIZE: "INDEXED BY entry_volumes_size",
    Sort.MODIFIED: "INDEXED BY entry_volumes_modified",
}


class _Interrupted(Exception):
    """A walk took too long: another way is taken."""


def _search(
    query: SearchQuery,
    window: Window,
    names: Mapping[int, str],
    unseen: tuple[Sequence[int], Sequence[tuple[int, str]]],
    connection: sqlite3.Connection,
) -> Found:
    plan = make_plan(query, names, *unseen)
    if plan.nothing:
        facets = Facets(0, 0, dict.fromkeys(window.facets, ())) if window.facets else None
        return Found([], 0, window.after, facets)
    hunt = _Hunt(connection, query, plan, names)
    count = window.after.count if window.after is not None else hunt.count()
    found: list[tuple[int, Any]] = []
    if window.rows and count != 0 and (count is None or window.skip < count) and window.skip < 2**62:
        found = hunt.page(window.after, window.rows, window.skip)
    elif window.rows and window.after is not None:
        found = hunt.page(window.after, window.rows, 0)  # nothing when the walk began; perhaps by now
    last = Mark(found[-1][0], found[-1][1], count) if found else window.after
    facets = _facets(hunt, window) if window.facets else None
    return Found(_entries(connection, [id for id, _ in found]), count, last, facets)


def _entries(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Entry]:
    """Return the entries in the order of `ids`."""
    if not ids:
        return []
    marks = ",".join("?" * len(ids))
    locations: dict[int, list[Location]] = {}
    sql = (
        "SELECT v.id, v.storage_n, v.file_n, v.path, f.state FROM entry_volumes v"
        f" JOIN files f ON f.n = v.file_n WHERE v.id IN ({marks}) ORDER BY v.id, v.file_n"
    )
    for id, storage_n, file_n, path, state in connection.execute(sql, ids):
        locations.setdefault(id, []).append(Location(storage_n, file_n, path, state))
    sql = (
        "SELECT e.id, e.storage_n, e.path, e.size, e.modified_ms, e.cached_ms, e.sha1, f.metadata"
        f" FROM entries e JOIN files f ON f.n = e.id WHERE e.id IN ({marks})"
    )
    found = {}
    owners = _owners(connection, [copy for copies in locations.values() for copy in copies])
    for id, storage_n, path, size, modified, cached, sha1, metadata in connection.execute(sql, ids):
        copies = sorted(locations.get(id, []), key=lambda copy: copy.file_n != id)
        owned = [owners[place] for copy in copies if (place := _place(copy.storage_n, copy.path)) in owners]
        own = owners.get(_place(storage_n, path), (None, None, ()))
        found[id] = Entry(
            id,
            storage_n,
            path,
            size,
            modified,
            cached,
            sha1,
            json.loads(metadata) if metadata and metadata != "{}" else {},
            tuple(copies),
            own[0],
            own[1],
            tuple(sorted({tag for _, _, tags in owned for tag in tags})),
        )
    return [found[id] for id in ids]


_Owner = tuple[str | None, str | None, tuple[str, ...]]


def _place(storage_n: int, path: str) -> tuple[int, str, str]:
    """Return storage and the two folders that a project and an asset would have."""
    first, _, rest = path.partition("/")
    return storage_n, first, rest.partition("/")[0] if "/" in rest else ""


def _owners(connection: sqlite3.Connection, copies: Sequence[Location]) -> dict[tuple[int, str, str], _Owner]:
    """Return project, asset and its tags for the places that belong to a project."""
    places = {_place(copy.storage_n, copy.path) for copy in copies}
    firsts = sorted({place[1] for place in places})
    if not firsts:
        return {}
    sql = f"SELECT n, storage_n, id FROM projects WHERE id IN ({','.join('?' * len(firsts))})"
    projects = {(storage_n, id): n for n, storage_n, id in connection.execute(sql, firsts)}
    found: dict[tuple[int, str, str], _Owner] = {}
    for place in places:
        project_n = projects.get(place[:2])
        if project_n is None:
            continue
        found[place] = (place[1], None, ())
        sql = "SELECT n FROM assets WHERE project_n = ? AND id = ?"
        row = connection.execute(sql, (project_n, place[2])).fetchone() if place[2] else None
        if row is not None:
            tags = connection.execute("SELECT tag FROM asset_tags WHERE asset_n = ?", row)
            found[place] = (place[1], place[2], tuple(tag for (tag,) in tags))
    return found


# --- facets ---------------------------------------------------------------------------------------


def _classes(value: str, classes: Sequence[tuple[str, int | None]], unit: int, origin: str = "") -> str:
    """Return a CASE that gives the number of the class."""
    whens = " ".join(
        f"WHEN {value} {'>' if origin else '<'} {origin + ' - ' if origin else ''}{bound * unit} THEN {i}"
        for i, (_, bound) in enumerate(classes)
        if bound is not None
    )
    return f"CASE {whens} ELSE {len(classes) - 1} END"


def _facets(hunt: _Hunt, window: Window) -> Facets:
    driver = hunt.few() or hunt.by_words()
    source, params = hunt.source(driver)
    wanted = window.facets
    if driver is None and not hunt.tests(None)[0]:
        return _all_facets(hunt, window)
    columns = {
        Field.EXTENSION: "e.extension",
        Field.SIZE: _classes("e.size", SIZE_CLASSES, 1),
        Field.MODIFIED: _classes("e.modified_ms", AGE_CLASSES, _DAY_MS, str(int(window.now_ms))),
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
        buckets[facet] = _first(facet, found, window.facet_limit)
    if Field.VOLUME in wanted:
        buckets[Field.VOLUME] = _first(
            Field.VOLUME, _volumes(hunt, driver, source, params), window.facet_limit
        )
    return Facets(total, size, {facet: buckets[facet] for facet in wanted})


_TOTALS = "SELECT count(*), coalesce(sum(max(size, 0)), 0) FROM entries"


def _all_facets(hunt: _Hunt, window: Window) -> Facets:
    """Of the whole catalog: each facet is one run over an index that has all it needs."""
    buckets: dict[Field, tuple[Bucket, ...]] = {}
    run = hunt.connection.execute
    for facet in window.facets:
        if facet is Field.VOLUME:
            found = _volumes(hunt, None, "", [])
        elif facet is Field.EXTENSION:
            sql = "SELECT extension, count(*), sum(max(size, 0)) FROM entries INDEXED BY entries_extension"
            found = [Bucket(_val(facet, key), n, size) for key, n, size in run(f"{sql} GROUP BY 1")]
        elif facet is Field.CACHED:
            parts = [(True, "cached_ms > -1e18"), (False, "cached_ms IS NULL")]
            sql = f"{_TOTALS} INDEXED BY entries_cached WHERE"
            found = [Bucket(value, *run(f"{sql} {test}").fetchone()) for value, test in parts]
        else:
            found = _ranges(hunt, facet, window.now_ms)
        buckets[facet] = _first(facet, [b for b in found if b.files_count], window.facet_limit)
    total, size = run(f"{_TOTALS} INDEXED BY entries_extension").fetchone()
    return Facets(total, size, buckets)


def _ranges(hunt: _Hunt, facet: Field, now_ms: int) -> list[Bucket]:
    """One range of the index for each class of size or age."""
    by_size = facet is Field.SIZE
    classes = SIZE_CLASSES if by_size else AGE_CLASSES
    column, index = ("size", "entries_size") if by_size else ("modified_ms", "entries_modified")
    found, low, high = [], -(2**62), 2**62
    for name, bound in classes:
        if by_size:
            start, end = low, high if bound is None else bound - 1
            low = end + 1
        else:
            start, end = low if bound is None else now_ms - bound * _DAY_MS + 1, high
            high = start - 1
        sql = f"{_TOTALS} INDEXED BY {index} WHERE {column} BETWEEN ? AND ?"
        found.append(Bucket(name, *hunt.connection.execute(sql, [start, end]).fetchone()))
    return found


def _volumes(hunt: _Hunt, driver: Driver | None, source: str, params: list[Param]) -> list[Bucket]:
    if driver is None and not hunt.tests(None)[0]:
        sql, params = "SELECT storage_n, count(*), sum(max(size, 0)) FROM entry_volumes GROUP BY 1", []
    else:
        sql = (
            "SELECT v.storage_n, count(*), sum(max(v.size, 0))"
            f" FROM (SELECT e.id {source}) m CROSS JOIN entry_volumes v ON v.id = m.id GROUP BY 1"
        )
    return [
        Bucket(hunt.names[n], count, size)
        for n, count, size in hunt.connection.execute(sql, params)
        if n in hunt.names
    ]


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
