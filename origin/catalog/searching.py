"""Searches, on threads and read connections of their own, so that they neither wait for writers nor
stop the event loop. How a page is found is in search_pages.py."""

# ruff: noqa: S608  (every f-string below joins constants; all values are bound)

from __future__ import annotations

import asyncio
import functools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from origin.catalog.search_facets import facets
from origin.catalog.search_pages import DEADLINE, Hunt
from origin.catalog.search_plan import make_plan, narrow
from origin.core.marks import Mark
from origin.core.search import Facets, Field, SearchQuery
from origin.core.words import words
from origin.errors import Unavailable

T = TypeVar("T")

THREADS = 2
WAITING = 64  # searches in line; more are told to come again


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
    """url: as in the setting `catalog`."""

    def __init__(self, url: str) -> None:
        self._path = sa.make_url(url).database or ""
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


def _search(
    query: SearchQuery,
    window: Window,
    names: Mapping[int, str],
    unseen: tuple[Sequence[int], Sequence[tuple[int, str]]],
    connection: sqlite3.Connection,
) -> Found:
    plan = make_plan(query, names, *unseen)
    if plan.nothing:
        none = Facets(0, 0, dict.fromkeys(window.facets, ())) if window.facets else None
        return Found([], 0, window.after, none)
    if window.after is not None:
        narrow(plan, query, window.after)
    hunt = Hunt(connection, query, plan, names)
    count = window.after.count if window.after is not None else hunt.count()
    found: list[tuple[int, Any]] = []
    if window.rows and count != 0 and (count is None or window.skip < count) and window.skip < 2**62:
        found = hunt.page(window.after, window.rows, window.skip)
    elif window.rows and window.after is not None:
        found = hunt.page(window.after, window.rows, 0)  # nothing when the walk began; perhaps by now
    last = Mark(found[-1][0], found[-1][1], count) if found else window.after
    summed = facets(hunt, window.facets, window.facet_limit, window.now_ms) if window.facets else None
    return Found(_entries(connection, [id for id, _ in found]), count, last, summed)


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
