"""A million entries: how long searches, lists and counts of the origin's catalog take.

    python -m benchmarks.origin_catalog --catalog /var/tmp/million.db --write

makes the catalog if it is not there (minutes, 5 GB), measures everything and writes docs/catalog.md.
Parts of it: `build`, `search`, `list`, `fresh`, as in `python -m benchmarks.origin_catalog search …`.

The catalog: 1,000,000 entries with 2,500,000 copies on 200 volumes: reels of camera frames, proxies and
sound, on one online storage and on tapes, filled tape by tape as an archive is. `search` asks each kind
of question in each order, both ways, from call to answer, on the first page (its count included), deep
in the walk and for its last page; 100 entries a page. Warm is asked again and again; for cold the
connections are made anew and the file is dropped from the page cache first. Processor time is given
too: a busy neighbour does not add to it. `list` pages through Files as the dialects list them, and counts.
`fresh` writes Files and searches for each as soon as it is committed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import os
import platform
import random
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import machine
from origin.catalog import files, tree
from origin.catalog.database import Database
from origin.catalog.searching import Searcher, Window
from origin.core.marks import Mark
from origin.core.paging import Page, encode_cursor
from origin.core.query import FileFilter
from origin.core.search import Field, SearchQuery, Sort, parse_filter, parse_text
from origin.domain.model import File
from origin.domain.states import FileState
from origin.errors import Unavailable

ONLINE = 1
_CODECS = (
    ("ari", 9_550_848),
    ("dpx", 12_746_752),
    ("mov", 1_200_000_000),
    ("wav", 48_000_000),
    ("xml", 4_000),
)
_SHOWS = ("nordlicht", "palomar", "reload", "the long way", "Ærø", "video arri", "winter")


def rows(count: int, volumes: int, seed: int = 1) -> Iterator[tuple[object, ...]]:
    """Yield rows of `files`, in order of their numbers: `count` contents, two and a half copies of each."""
    rng = random.Random(seed)
    n = 0
    tape = 2
    for content in range(count):
        reel, frame = divmod(content, 2_000)
        show = _SHOWS[reel % len(_SHOWS)]
        codec, typical = _CODECS[0] if frame < 1_400 else _CODECS[1 + frame % 4]
        clip = f"A{reel % 1000:03}C{frame // 100:03}"
        folder = f"video/{show}/reel {reel:03}/{'master' if codec in ('ari', 'dpx') else 'proxy'}"
        name = f"{clip}.{content:010}.{codec}"
        size = int(typical * rng.uniform(0.7, 1.3))
        modified = 1_500_000_000_000 + content * 200_000 + rng.randrange(86_400_000)
        hashed = hashlib.sha256(content.to_bytes(8, "big")).hexdigest()
        if frame % 1000 == 0:
            tape = 2 + (tape - 1) % (volumes - 1)
        # Every other content is still online as well as on its two tapes.
        second = 2 + (tape - 2 + 7) % (volumes - 1)
        places = [tape, second] if content % 2 else [ONLINE, tape, second]
        for storage in places:
            n += 1
            archived = "CLOSED" if storage == ONLINE else "ARCHIVED"
            yield (
                n, storage, f"{folder}/{name}", f"{folder}/{name}".casefold(), folder, name, codec, archived,
                size, hashed[:40], hashed, modified * 1_000_000, modified, 1, modified + 1000, modified,
                '{"camera": "Alexa LF"}' if codec == "ari" else "{}",
            )  # fmt: skip


async def build(path: Path, count: int, volumes: int) -> None:
    """Make the catalog anew, as if its Files had been there before the search index."""
    for suffix in ("", "-wal", "-shm", ".lock"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    database = await Database.open(f"sqlite:///{path}")
    await database.close()
    plain = sqlite3.connect(path)
    plain.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000;")
    begun = time.monotonic()
    for n in range(1, volumes + 1):
        name = "nodeum" if n == ONLINE else f"MTC{600 + n}"
        plain.execute(
            "INSERT INTO storages VALUES (?, ?, ?, 'READY', 1, ?, NULL, 0, NULL, '{}')",
            (n, name, "LOCAL" if n == ONLINE else "ARCHIVE", n != ONLINE),
        )
    # Filling in an order of its own is many times as fast without the indexes and triggers.
    later = plain.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND (tbl_name = 'files' AND type"
        " IN ('index', 'trigger') OR name LIKE 'storages_%' AND type = 'trigger')"
    ).fetchall()
    for kind, name, _ in later:
        plain.execute(f"DROP {kind} {name}")
    plain.executemany(f"INSERT INTO files VALUES ({','.join('?' * 17)})", rows(count, volumes))
    for _, _, sql in later:
        plain.execute(sql)
    plain.execute("INSERT OR REPLACE INTO sequences VALUES ('file', (SELECT max(n) FROM files))")
    plain.execute("DELETE FROM search_dirty")
    plain.execute("DELETE FROM folders")
    plain.commit()
    plain.close()
    print(f"files: {time.monotonic() - begun:.0f} s")
    begun = time.monotonic()
    database = await Database.open(f"sqlite:///{path}")  # takes the Files in
    async with database.read() as connection:
        made = (await connection.exec_driver_sql("SELECT count(*) FROM entries")).scalar_one()
    await database.close()
    size = path.stat().st_size
    print(f"index: {time.monotonic() - begun:.0f} s; {made} entries; {size / 1e9:.2f} GB")


def query(q: str = "", **filters: str) -> SearchQuery:
    text = parse_text(q)
    given = tuple(f for name, value in filters.items() for f in parse_filter(Field(name), [value]))
    return SearchQuery(text.clauses, text.filters + given, text.nothing)


QUERIES = {
    "no filter": query(),
    "volume (online)": query(volume_s_names="nodeum"),
    "volume (tape)": query(volume_s_names="MTC631"),
    "volume and extension": query(volume_s_names="nodeum", file_extension="ari"),
    "tape and extension": query(volume_s_names="MTC631", file_extension="ari"),
    "word": query("reload"),
    "rare word": query("0000143000"),
    "word and volume": query("reload", volume_s_names="nodeum"),
    "prefix": query("A09*"),
    "long prefix": query("00001430*"),
    "phrase": query('"video arri"'),
    "size range": query(file_size="1000000..10000000"),
    "date range": query(file_modification_date="2019"),
    "under": query(under="nodeum/video/reload"),
}
DEEP = (1_000, 500_000)
PAGE = 100


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds; cpu: the 95th percentile of the processor time."""

    p50: float
    p95: float
    cpu: float

    @classmethod
    def of(cls, spent: list[float], work: list[float]) -> Timing:
        return cls(statistics.median(spent), _p95(spent), _p95(work))

    def __str__(self) -> str:
        return f"{self.p50:>8.1f} /{self.p95:>6.1f} /{self.cpu:>5.1f}"


@dataclasses.dataclass(frozen=True)
class Row:
    """What one question in one order took. at: how deep, or "first" or "last" → its timing."""

    question: str
    sort: str
    matches: str
    at: Mapping[str, Timing]


@dataclasses.dataclass(frozen=True)
class Trial:
    """How `search` asks."""

    path: Path
    names: dict[int, str]
    repeats: int
    cold: bool


async def search(path: Path, repeats: int, cold: bool, only: str) -> list[Row]:
    plain = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    trial = Trial(path, dict(plain.execute("SELECT n, name FROM storages")), repeats, cold)
    plain.close()
    print(f"{'cold' if cold else 'warm'}: median / p95 / p95 of processor time, ms")
    places = ("first", *map(str, DEEP), "last")
    print(f"{'question':<24}{'order':<30}{'matches':>9}  " + "".join(f"{p:>24}" for p in places))
    rows = []
    for name, asked in ((name, asked) for name, asked in QUERIES.items() if only in name):
        for sort in Sort:
            for down in (False, True):
                wanted = dataclasses.replace(asked, sort=sort, descending=down)
                row = await _row(trial, name, wanted)
                cells = "".join(f"{row.at.get(place, '-')!s:>24}" for place in places)
                print(f"{row.question:<24}{row.sort:<30}{row.matches:>9}  {cells}", flush=True)
                rows.append(row)
    for place in places:
        timed = [row.at[place] for row in rows if place in row.at]
        if timed:
            print(
                f"worst p95, {place}: {max(t.p95 for t in timed):.1f} ms; processor "
                f"{max(t.cpu for t in timed):.1f} ms"
            )
    return rows


async def _row(trial: Trial, name: str, wanted: SearchQuery) -> Row:
    searcher = Searcher(f"sqlite:///{trial.path}")
    try:
        first = await searcher.search(wanted, Window(1), trial.names, ())
        marks = await _marks(searcher, wanted, trial.names, first.count)
    finally:
        await searcher.close()
    at = {place: await _timed(trial, wanted, mark) for place, mark in marks.items()}
    direction = " down" if wanted.descending else ""
    matches = "> 10,000" if first.count is None else f"{first.count:,}"
    return Row(name, f"{wanted.sort.value}{direction}", matches, at)


async def _marks(
    searcher: Searcher, wanted: SearchQuery, names: dict[int, str], count: int | None
) -> dict[str, Mark | None]:
    """Return where pages are asked for that the walk reaches; None: from its beginning."""
    found: dict[str, Mark | None] = {"first": None}
    for depth in DEEP:
        if count is not None and depth >= count:
            break
        with contextlib.suppress(Unavailable):
            there = await searcher.search(wanted, Window(1, skip=depth - 1), names, ())
            if there.entries and there.last is not None:
                found[str(depth)] = dataclasses.replace(there.last, count=count)
    # What the walk the other way ends its first page with is where this one begins its last.
    other = dataclasses.replace(wanted, descending=not wanted.descending)
    end = await searcher.search(other, Window(PAGE + 1), names, ())
    if len(end.entries) > PAGE and end.last is not None:
        found["last"] = dataclasses.replace(end.last, count=count)
    return found


async def _timed(trial: Trial, wanted: SearchQuery, mark: Mark | None) -> Timing:
    spent: list[float] = []
    work: list[float] = []
    searcher = Searcher(f"sqlite:///{trial.path}")
    for turn in range(trial.repeats + 1):
        if trial.cold:
            await searcher.close()  # what is mapped cannot be dropped
            forget(trial.path)
            searcher = Searcher(f"sqlite:///{trial.path}")
        begun, used = time.perf_counter(), time.process_time()
        await searcher.search(wanted, Window(PAGE, mark), trial.names, ())
        if turn or trial.cold:  # else the first warms up
            spent.append((time.perf_counter() - begun) * 1000)
            work.append((time.process_time() - used) * 1000)
    await searcher.close()
    return Timing.of(spent, work)


def _p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]


def forget(path: Path) -> None:
    """Drop the file from the kernel's page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


async def listings(path: Path, repeats: int, cold: bool) -> dict[str, Timing]:
    """Lists by the tables of Files: a folder's children, all Files by number, how full storages are."""
    database = await Database.open(f"sqlite:///{path}")
    try:
        async with database.read() as connection:
            root = await tree.folder_at(connection, ONLINE, "")
            inner = await tree.folder_at(connection, ONLINE, "video/reload/reel 002/master")
            total = (await connection.exec_driver_sql("SELECT max(n) FROM files")).scalar_one()
        assert root is not None and inner is not None
        last = encode_cursor("files:fileId", (total - 101,))

        async def children(folder: tree.Folder, first: int) -> None:
            async with database.read() as connection:
                await tree.children(connection, folder, [], [], first, 100)

        async def by_number(cursor: str, count: bool = False) -> None:
            async with database.read() as connection:
                page = Page(number=100, cursor=cursor, count=count)
                await files.listing(connection, FileFilter(), (), page, within=None)

        async def usage() -> None:
            async with database.read() as connection:
                await files.usage(connection, range(1, 201))

        asked: dict[str, Callable[[], Awaitable[None]]] = {
            "children of a root": lambda: children(root, 0),
            "children, first page": lambda: children(inner, 0),
            "children, last page": lambda: children(inner, 600),
            "all files by number, first page": lambda: by_number("*"),
            "all files by number, last page": lambda: by_number(last),
            "all files, counted": lambda: by_number("*", count=True),
            "how full 200 storages are": usage,
        }
        found = {}
        for name, ask in asked.items():
            spent, work = [], []
            for turn in range(repeats + 1):
                if cold:
                    forget(path)
                begun, used = time.perf_counter(), time.process_time()
                await ask()
                if turn or cold:
                    spent.append((time.perf_counter() - begun) * 1000)
                    work.append((time.process_time() - used) * 1000)
            found[name] = Timing.of(spent, work)
            print(f"{name:<34}{found[name]}", flush=True)
        return found
    finally:
        await database.close()


async def facets(path: Path) -> dict[str, float]:
    """Return seconds for all five facets of a question; the best of three."""
    every = (Field.EXTENSION, Field.VOLUME, Field.SIZE, Field.MODIFIED, Field.CACHED)
    window = Window(0, facets=every, now_ms=int(time.time() * 1000))
    searcher = Searcher(f"sqlite:///{path}")
    plain = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    names = dict(plain.execute("SELECT n, name FROM storages"))
    plain.close()
    found = {}
    try:
        for name in ("no filter", "word", "volume (online)", "volume (tape)", "date range"):
            spent = []
            for _ in range(3):
                begun = time.perf_counter()
                await searcher.search(QUERIES[name], window, names, ())
                spent.append(time.perf_counter() - begun)
            found[name] = min(spent)
            print(f"five facets, {name}: {found[name]:.3f} s", flush=True)
    finally:
        await searcher.close()
    return found


async def fresh(path: Path, count: int = 40) -> dict[str, Timing]:
    """Files one by one: written and committed, found by the first search after that, and removed."""
    database = await Database.open(f"sqlite:///{path}")
    searcher = Searcher(f"sqlite:///{path}")
    async with database.read() as connection:
        last = (await connection.exec_driver_sql("SELECT max(n) FROM files")).scalar_one()
    names = {ONLINE: "nodeum"}
    spent: dict[str, list[float]] = {"written": [], "found": [], "removed": []}
    try:
        for n in range(last + 1, last + 1 + count):
            file = _new_file(n)
            begun = time.perf_counter()
            async with database.write() as connection:
                await files.insert(connection, file)
            spent["written"].append((time.perf_counter() - begun) * 1000)
            begun = time.perf_counter()
            there = await searcher.search(query(f"fresh{n}"), Window(1), names, ())
            spent["found"].append((time.perf_counter() - begun) * 1000)
            if [entry.id for entry in there.entries] != [n]:
                raise SystemExit(f"file {n} was not found")
            begun = time.perf_counter()
            async with database.write() as connection:
                await files.remove(connection, n)
            spent["removed"].append((time.perf_counter() - begun) * 1000)
    finally:
        await searcher.close()
        await database.close()
    found = {name: Timing.of(values, [0.0]) for name, values in spent.items()}
    for name, timing in found.items():
        print(f"one file {name}: median {timing.p50:.1f}, p95 {timing.p95:.1f} ms")
    print(f"{count} of {count} were found by the first search after the commit")
    return found


def _new_file(n: int) -> File:
    digest = hashlib.sha256(f"fresh {n}".encode()).hexdigest()
    return File(
        n=n,
        storage_n=ONLINE,
        path=f"video/reload/fresh/fresh{n}.mov",
        state=FileState.CLOSED,
        size=1000 + n,
        sha1=digest[:40],
        sha256=digest,
        mtime_ns=1_700_000_000_000_000_000 + n,
        generation=1,
        created_ms=1_700_000_000_000,
    )


# --- what is written ------------------------------------------------------------------------------


async def everything(path: Path, given: argparse.Namespace) -> None:
    if not path.exists():
        await build(path, given.entries, given.volumes)
    await (await Database.open(f"sqlite:///{path}")).close()  # brings an old catalog up to date
    warm = await search(path, given.repeats, False, given.only)
    cold = await search(path, max(3, given.repeats // 4), True, given.only)
    summed = await facets(path)
    listed = await listings(path, given.repeats, False)
    new = await fresh(path)
    if given.write:
        text = _document(warm, cold, summed, listed, new)
        (Path(__file__).parent.parent / "docs" / "catalog.md").write_text(text)


def _document(
    warm: list[Row],
    cold: list[Row],
    summed: dict[str, float],
    listed: dict[str, Timing],
    new: dict[str, Timing],
) -> str:
    lines = [
        "# A catalog of a million entries",
        "",
        "Made by `python -m benchmarks.origin_catalog --catalog /var/tmp/million.db --write`, which says how"
        " the catalog is made: 1,000,000 entries, 2,500,000 copies, 200 volumes. Milliseconds from call to"
        " answer, pages of 100, median / 95th percentile, in the slowest of the ten orders (five keys, both"
        " ways). The first page counts its matches.",
        "",
        f"- {machine.description()[0]}",
        f"- Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "",
        "## Searches",
        "",
        "| question | matches | first page, warm | last page, warm | first page, cold | last page, cold |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for question in dict.fromkeys(row.question for row in warm):
        cells = [question, next(row.matches for row in warm if row.question == question)]
        for rows in (warm, cold):
            cells += [_slowest(rows, question, place) for place in ("first", "last")]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Five facets at once", "", "| question | seconds |", "| --- | --- |"]
    lines += [f"| {name} | {seconds:.3f} |" for name, seconds in summed.items()]
    lines += ["", "## Lists of Files", "", "| list | ms |", "| --- | --- |"]
    lines += [f"| {name} | {timing.p50:.1f} / {timing.p95:.1f} |" for name, timing in listed.items()]
    lines += ["", "## One File, from its writing to its finding", "", "| step | ms |", "| --- | --- |"]
    lines += [f"| {name} | {timing.p50:.1f} / {timing.p95:.1f} |" for name, timing in new.items()]
    return "\n".join(lines) + "\n"


def _slowest(rows: list[Row], question: str, place: str) -> str:
    timed = [row.at[place] for row in rows if row.question == question and place in row.at]
    if not timed:
        return "–"
    worst = max(timed, key=lambda timing: timing.p95)
    return f"{worst.p50:.1f} / {worst.p95:.1f}"


async def perform(given: argparse.Namespace) -> None:
    path = given.catalog.absolute()
    if given.what == "build":
        await build(path, given.entries, given.volumes)
    elif given.what == "search":
        await search(path, given.repeats, given.cold, given.only)
        await facets(path)
    elif given.what == "list":
        await listings(path, given.repeats, given.cold)
    elif given.what == "fresh":
        await fresh(path)
    else:
        await everything(path, given)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["all", "build", "search", "list", "fresh"], default="all")
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--cold", action="store_true", help="search, list: nothing is in memory")
    parser.add_argument("--only", default="", help="of the kinds of question: those whose name has this")
    parser.add_argument("--write", action="store_true", help="all: write docs/catalog.md")
    asyncio.run(perform(parser.parse_args()))


if __name__ == "__main__":
    main()
