"""A million entries: how long searches, lists and counts of the origin's catalog take.

    python benchmarks/origin_catalog.py build  --catalog /tmp/million.db
    python benchmarks/origin_catalog.py search --catalog /tmp/million.db
    python benchmarks/origin_catalog.py list   --catalog /tmp/million.db

`build` makes 1,000,000 entries with 2,500,000 copies on 200 volumes: reels of camera frames, proxies and
sound, on one online storage and on tapes, filled tape by tape as an archive is. `search` asks each kind
of question in each order, on the first page (its count included) and deep in the walk, and prints the
median and the 95th percentile in milliseconds, from call to answer, and the 95th percentile of the
processor time, which a busy neighbour does not add to. `list` pages through Files as the dialects list
them, and counts. `--cold` drops the page cache of the
file first (the kernel may refuse that, and then it says so).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import hashlib
import os
import random
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from origin.catalog import files, tree
from origin.catalog.database import Database
from origin.catalog.searching import Searcher, Window
from origin.core.marks import Mark
from origin.core.paging import Page, encode_cursor
from origin.core.query import FileFilter
from origin.core.search import Field, SearchQuery, Sort, parse_filter, parse_text

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
DEEP = (1_000, 500_000, 999_000)


async def search(path: Path, repeats: int, cold: bool, only: str, down: bool) -> None:
    names = {}
    plain = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    names = dict(plain.execute("SELECT n, name FROM storages"))
    total = plain.execute("SELECT count(*) FROM entries").fetchone()[0]
    plain.close()
    print(f"{total} entries, {len(names)} volumes, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    print(f"{'query':<24}{'sort':<24}{'matches':>9}  " + "".join(f"{p:>22}" for p in ("first", *DEEP)))
    searcher = Searcher(f"sqlite:///{path}")
    worst = 0.0
    try:
        for name, asked in ((name, asked) for name, asked in QUERIES.items() if only in name):
            for sort in Sort:
                wanted = dataclasses.replace(asked, sort=sort, descending=down)
                cells, count = [], 0
                marks = {0: None, **await marks_at(searcher, wanted, names)}
                for depth in (0, *DEEP):
                    if depth not in marks:
                        cells.append(f"{'-':>22}")
                        continue
                    p50, p95, cpu, count_here = await timed(
                        searcher, path, wanted, names, marks[depth], repeats, cold
                    )
                    count = count_here if depth == 0 else count
                    worst = max(worst, p95)
                    cells.append(f"{p50:>8.1f} /{p95:>6.1f} /{cpu:>5.1f}")
                shown = f"{count}" if count is not None else ">10000"
                print(f"{name:<24}{sort.value:<24}{shown:>9}  " + "".join(cells), flush=True)
        print(f"worst p95: {worst:.1f} ms")
        await facets(searcher, names)
    finally:
        await searcher.close()


async def marks_at(searcher: Searcher, wanted: SearchQuery, names: dict[int, str]) -> dict[int, Mark]:
    """Return a mark at each depth that the walk reaches."""
    found = {}
    first = await searcher.search(wanted, Window(1), names, ())
    for depth in DEEP:
        if first.count is not None and depth >= first.count:
            break
        try:
            there = await searcher.search(wanted, Window(1, skip=depth - 1), names, ())
        except Exception:
            break
        if not there.entries or there.last is None:
            break
        found[depth] = dataclasses.replace(there.last, count=first.count)
    return found


async def timed(
    searcher: Searcher,
    path: Path,
    wanted: SearchQuery,
    names: dict[int, str],
    mark: Mark | None,
    repeats: int,
    cold: bool,
) -> tuple[float, float, float, int | None]:
    spent: list[float] = []
    work: list[float] = []
    count: int | None = None
    for turn in range(repeats + 1):
        if cold:
            forget(path)
        begun, used = time.perf_counter(), time.process_time()
        found = await searcher.search(wanted, Window(100, mark), names, ())
        spent.append((time.perf_counter() - begun) * 1000)
        work.append((time.process_time() - used) * 1000)
        count = found.count
        if turn == 0 and not cold:
            spent.clear()  # warms up
            work.clear()
    return statistics.median(spent), _p95(spent), _p95(work), count


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


async def listings(path: Path, repeats: int, cold: bool) -> None:
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
            print(f"{name:<34}{statistics.median(spent):>9.1f} /{_p95(spent):>8.1f} /{_p95(work):>8.1f}")
    finally:
        await database.close()


async def facets(searcher: Searcher, names: dict[int, str]) -> None:
    every = (Field.EXTENSION, Field.VOLUME, Field.SIZE, Field.MODIFIED, Field.CACHED)
    for name in ("no filter", "word", "volume (tape)"):
        begun = time.perf_counter()
        window = Window(0, facets=every, now_ms=int(time.time() * 1000))
        await searcher.search(QUERIES[name], window, names, ())
        print(f"five facets, {name}: {time.perf_counter() - begun:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["build", "search", "list"])
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--descending", action="store_true", help="search: greatest first")
    parser.add_argument("--only", default="", help="of the kinds of question: those whose name has this")
    given = parser.parse_args()
    if given.what == "build":
        asyncio.run(build(given.catalog.absolute(), given.entries, given.volumes))
    elif given.what == "list":
        asyncio.run(listings(given.catalog.absolute(), given.repeats, given.cold))
    else:
        asyncio.run(search(given.catalog.absolute(), given.repeats, given.cold, given.only, given.descending))


if __name__ == "__main__":
    main()
