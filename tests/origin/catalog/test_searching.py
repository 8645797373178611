"""Whatever way a page is found, it is what a plain filter and sort over all entries gives."""

from __future__ import annotations

import datetime
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from origin.catalog import files, search_facets, search_pages
from origin.catalog.database import Database
from origin.catalog.searching import Searcher, Window
from origin.core.search import Field, Range, SearchQuery, Sort, parse_filter, parse_text
from origin.core.words import words
from origin.domain.model import File
from tests.support.catalog_rows import add_file, add_storage, make_file

NAMES = {1: "nodeum", 2: "MTC606", 3: "MTC628", 4: "MTC/631 b"}
DAY = 86_400_000


def catalog() -> list[File]:
    """About 150 entries, each its own content; some on two storages, some with metadata."""
    rng = random.Random(7)
    made = []
    for n in range(1, 151):
        storage = rng.choice([1, 1, 2, 4])
        folder = rng.choice(["video/VIDEO ARRI/reload/master", "video/Réel 7", "audio", ""])
        name = f"{rng.choice(['A9C001', 'B2', 'straße'])}.{n:05}{rng.choice(['.ari', '.MOV', ''])}"
        file = make_file(
            n * 60,  # so that they are in many zones
            storage,
            f"{folder}/{name}".lstrip("/"),
            f"content {n}",
            size=rng.choice([0, 10, 10, 500, 150_000, 2_000_000]),
            modified_ms=rng.randrange(0, 60) * 10 * DAY,
            metadata={"camera": rng.choice(["Alexa LF", "Red"])} if n % 3 == 0 else {},
        )
        made.append(file)
        if n % 4 == 0:
            made.append(make_file(n * 60 + 1, 3, file.path, f"content {n}", size=file.size))
    return made


@pytest.fixture(scope="module")
def held() -> list[File]:
    return catalog()


@pytest.fixture
async def database(tmp_path: Path, held: list[File]) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{tmp_path}/catalog.db")
    async with database.write() as connection:
        for n, name in NAMES.items():
            await add_storage(connection, n, name, archive=n == 3)
        for file in held:
            await add_file(connection, file)
    yield database
    await database.close()


@pytest.fixture
async def searcher(tmp_path: Path, database: Database) -> AsyncIterator[Searcher]:
    searcher = Searcher(f"sqlite:///{tmp_path}/catalog.db")
    yield searcher
    await searcher.close()


def query(q: str = "", sort: Sort = Sort.ID, descending: bool = False, **filters: str) -> SearchQuery:
    text = parse_text(q)
    given = tuple(f for name, value in filters.items() for f in parse_filter(Field(name), [value]))
    return SearchQuery(text.clauses, text.filters + given, text.nothing, sort, descending)


class Plain:
    """The contract over a list in memory: entries by the number of the primary copy."""

    def __init__(self, held: list[File]) -> None:
        self.entries: dict[tuple[str | None, int, str], list[File]] = {}
        for file in sorted(held, key=lambda f: f.n):
            self.entries.setdefault((file.sha256, file.size, file.path), []).append(file)

    def find(self, wanted: SearchQuery) -> list[int]:
        found = [copies for copies in self.entries.values() if self.fits(wanted, copies)]
        keys: dict[Sort, Any] = {
            Sort.ID: lambda c: c[0].n,
            Sort.PATH: lambda c: (NAMES[c[0].storage_n] + "/", c[0].path, c[0].n),
            Sort.NAME: lambda c: (base(c[0]), c[0].n),
            Sort.SIZE: lambda c: (c[0].size, c[0].n),
            Sort.MODIFIED: lambda c: (c[0].timestamp_ms, c[0].n),
        }
        found.sort(key=keys[wanted.sort], reverse=wanted.descending)
        return [copies[0].n for copies in found]

    def fits(self, wanted: SearchQuery, copies: list[File]) -> bool:
        first = copies[0]
        texts = [c.path for c in copies] + [NAMES[c.storage_n] for c in copies]
        texts += list(first.metadata.values())
        for clause in wanted.clauses:
            pool = texts if clause.key is None else [first.metadata.get(clause.key, "")]
            needle = " " + " ".join(clause.words) + ("" if clause.prefix else " ")
            if not any(needle in f" {' '.join(words(t))} " for t in pool):
                return False
        return not wanted.nothing and all(
            any(self.holds(f.field, v, copies) for v in f.any_of) for f in wanted.filters
        )

    def holds(self, name: Field, value: Any, copies: list[File]) -> bool:
        first = copies[0]
        path = f"{NAMES[first.storage_n]}/{first.path}"
        if isinstance(value, Range):
            number = first.size if name is Field.SIZE else first.timestamp_ms
            if name is Field.CACHED_DATE:
                online = [max(c.created_ms, c.timestamp_ms) for c in copies if c.storage_n != 3]
                number = min(online, default=-(2**62) - 1)
            low = -(2**62) if value.low is None else value.low
            return low <= number <= (2**62 if value.high is None else value.high)
        if name is Field.VOLUME:
            return bool({value, *value.split(",")} & {NAMES[c.storage_n] for c in copies})
        if name is Field.EXTENSION:
            return value == (first.name.rpartition(".")[2].lower() if "." in first.name else "")
        if name is Field.CACHED:
            return value is any(c.storage_n != 3 for c in copies)
        if name is Field.HASH:
            return value in (first.sha1, first.sha256)
        if name is Field.NAME:
            return value == base(first)
        if name is Field.PATH:
            return value == path
        if name is Field.PARENT:
            return value == path.rpartition("/")[0]
        assert name is Field.UNDER
        return any(f"{NAMES[c.storage_n]}/{c.path}".startswith(value + "/") for c in copies)


def base(file: File) -> str:
    return file.name.rpartition(".")[0] if "." in file.name else file.name


QUERIES = {
    "all": query(),
    "word": query("reload"),
    "word of a volume name": query("mtc606"),
    "accents": query("reel"),
    "folded fully": query("STRASSE"),
    "prefix": query("a9c0*"),
    "phrase": query('"video arri"'),
    "phrase with prefix": query("a9c001.000*"),
    "dotted name": query("A9C001.00007.ari"),
    "two words": query("master b2"),
    "metadata": query("meta.camera:alexa"),
    "metadata of no such value": query("meta.camera:arri"),
    "volume": query(volume_s_names="MTC606"),
    "volume of copies": query("volume:MTC628"),
    "on both": query("volume:nodeum volume:MTC628"),
    "either": query(volume_s_names="MTC606|MTC/631 b"),
    "commas": query(volume_s_names="MTC606,MTC628"),
    "unknown volume": query(volume_s_names="none"),
    "extension": query(file_extension=".ARI"),
    "no extension": query(file_extension=""),
    "volume and extension": query("ext:mov", volume_s_names="nodeum"),
    "size": query(file_size="10..1000"),
    "size above": query("size:>10"),
    "size or size": query(file_size="0|>=2000000"),
    "date": query(file_modification_date="1970-02..1970-06"),
    "cached": query(file_in_cache="true"),
    "cached date": query(file_in_cache_date=">=1971"),
    "under": query(under="nodeum/video"),
    "under a volume": query('path:"MTC/631 b"'),
    "under, of a copy": query(under="MTC628/video"),
    "parent": query(file_parent_path="nodeum"),
    "parent deep": query(file_parent_path="nodeum/video/Réel 7"),
    "name": query(file_base_name="B2"),
    "word and size": query("reload size:<=10"),
    "word, volume and date": query("video date:1970", volume_s_names="nodeum"),
    "nothing": query("--- ***"),
    "syntax is text": query('reload NEAR(" OR'),
}

# FEW, WALK, LISTED, and how many zones may be looked through.
LIMITS = {
    "few": (20_000, 10**9, 10**9, (16, 64, 256)),
    "walks": (0, 10**9, 10**9, (16, 64, 256)),
    "zones": (0, 0, 10**9, (2, 6, 10**6)),
    "few zones, then sorted": (0, 0, 10**9, (1, 4)),
    "sorted": (0, 0, 0, (2, 5)),
}


async def walk(searcher: Searcher, wanted: SearchQuery, rows: int) -> tuple[list[int], int | None]:
    ids: list[int] = []
    found = await searcher.search(wanted, Window(rows), NAMES, ())
    count = found.count
    while found.entries:
        ids += [entry.id for entry in found.entries]
        found = await searcher.search(wanted, Window(rows, found.last), NAMES, ())
        assert found.count == count
    return ids, count


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
async def test_every_walk_gives_each_match_once_in_order(
    searcher: Searcher,
    held: list[File],
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int, int, tuple[int, ...]],
) -> None:
    for name, limit in zip(("FEW", "WALK", "LISTED", "BATCHES"), limits, strict=True):
        monkeypatch.setattr(search_pages, name, limit)
    monkeypatch.setattr(search_pages, "_TICK", 20)  # so that few steps are noticed
    plain = Plain(held)
    found_any = 0
    for name, base_query in QUERIES.items():
        for sort in Sort:
            for descending in (False, True):
                wanted = SearchQuery(
                    base_query.clauses, base_query.filters, base_query.nothing, sort, descending
                )
                expected = plain.find(wanted)
                ids, count = await walk(searcher, wanted, 41)
                assert ids == expected, (name, sort, descending)
                assert count == len(expected)
                skipped = await searcher.search(wanted, Window(5, skip=3), NAMES, ())
                assert [e.id for e in skipped.entries] == expected[3:8], (name, sort, descending)
                found_any += bool(expected)
    assert found_any > 250  # the queries do find something


async def test_a_walk_goes_on_exactly_though_entries_come_and_go(
    searcher: Searcher, database: Database
) -> None:
    wanted = query(sort=Sort.MODIFIED)
    before, _ = await walk(searcher, wanted, 50)
    first = await searcher.search(wanted, Window(20), NAMES, ())
    async with database.write() as connection:
        for id in (before[5], before[19], before[40]):
            await files.remove(connection, id)
        await add_file(connection, make_file(99_990, 2, "late.ari", "late", modified_ms=999 * DAY))
        await add_file(connection, make_file(99_991, 2, "early.ari", "early", modified_ms=0))
    rest = await searcher.search(wanted, Window(1000, first.last), NAMES, ())
    assert [e.id for e in rest.entries] == [*(i for i in before[20:] if i != before[40]), 99_990]
    end = await searcher.search(wanted, Window(10, rest.last), NAMES, ())
    assert (end.entries, end.last) == ([], rest.last)


@pytest.mark.parametrize("steps", [0, 10**9], ids=["zones", "walks"])
async def test_hidden_storages_hide_their_entries_and_names(
    searcher: Searcher, held: list[File], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(search_pages, "WALK", steps)
    monkeypatch.setattr(search_pages, "_TICK", 20)
    shown = {n: name for n, name in NAMES.items() if n != 2}
    places = {f.n: f for f in held}
    for sort in Sort:
        for descending in (False, True):
            wanted = query(sort=sort, descending=descending)
            expected = [
                n
                for n in Plain(held).find(wanted)
                if places[n].storage_n != 2
                and not (places[n].storage_n == 1 and places[n].path.startswith("audio/"))
            ]
            ids: list[int] = []
            found = await searcher.search(wanted, Window(7), shown, (2,), ((1, "audio"),))
            while found.entries:
                ids += [entry.id for entry in found.entries]
                found = await searcher.search(wanted, Window(7, found.last), shown, (2,), ((1, "audio"),))
            assert ids == expected, (sort, descending)
    assert (await searcher.search(query("mtc606"), Window(10), shown, (2,))).count == 0
    assert (await searcher.search(query(volume_s_names="MTC606"), Window(10), shown, (2,))).count == 0


async def test_counts_stop_at_the_bound(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_pages, "COUNTED", 10)
    assert (await searcher.search(query("reload"), Window(1), NAMES, ())).count is None
    assert (await searcher.search(query(), Window(1), NAMES, ())).count == 150


@pytest.mark.parametrize(
    ("hidden", "closed"),
    [
        ((), ()),
        ((2, 4), ()),
        ((), ((1, "video/VIDEO ARRI"), (4, "audio"))),
        ((2,), ((1, "video"), (2, "audio"))),
    ],
    ids=["all seen", "hidden", "closed", "both"],
)
@pytest.mark.parametrize("few", [0, 20_000])
async def test_facets_add_up(
    searcher: Searcher,
    held: list[File],
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    hidden: tuple[int, ...],
    closed: tuple[tuple[int, str], ...],
) -> None:
    monkeypatch.setattr(search_pages, "FEW", few)
    monkeypatch.setattr(search_facets, "FEW", few)
    shown = {n: name for n, name in NAMES.items() if n not in hidden}
    now = int(datetime.datetime(1971, 12, 1, tzinfo=datetime.UTC).timestamp() * 1000)
    wanted_facets = (Field.EXTENSION, Field.VOLUME, Field.SIZE, Field.MODIFIED, Field.CACHED)
    plain = Plain(held)
    for name in ("all", "word", "volume", "size", "under"):
        wanted = QUERIES[name]
        ids = set(plain.find(wanted))
        copies = [
            c
            for c in plain.entries.values()
            if c[0].n in ids
            and c[0].storage_n not in hidden
            and not any(c[0].storage_n == n and c[0].path.startswith(f"{path}/") for n, path in closed)
        ]
        window = Window(0, facets=wanted_facets, facet_limit=100, now_ms=now)
        found = (await searcher.search(wanted, window, shown, hidden, closed)).facets
        assert found is not None
        assert found.files_count == len(copies)
        assert found.file_size_sum == sum(c[0].size for c in copies)
        for facet in wanted_facets:
            if facet is not Field.VOLUME:
                assert sum(b.files_count for b in found.buckets[facet]) == len(copies), (name, facet)
        volumes = {b.val: b.files_count for b in found.buckets[Field.VOLUME]}
        expected = {NAMES[f.storage_n] for c in copies for f in c if f.storage_n not in hidden}
        assert volumes == {n: sum(any(NAMES[f.storage_n] == n for f in c) for c in copies) for n in expected}
        sizes = {b.val: b.files_count for b in found.buckets[Field.SIZE]}
        assert sizes.get("less_10_mb", 0) == sum(1_000_000 <= c[0].size < 10_000_000 for c in copies)
        ages = {b.val: b.files_count for b in found.buckets[Field.MODIFIED]}
        assert ages.get("less_6_months", 0) == sum(
            90 * DAY <= now - c[0].timestamp_ms < 180 * DAY for c in copies
        )
