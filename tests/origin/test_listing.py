"""Lists of Files: what is selected, in what order, in pages that neither overlap nor miss."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from origin.catalog import files as rows
from origin.catalog.database import Database, next_number
from origin.catalog.storages import save
from origin.core import paths
from origin.core.paging import Page
from origin.core.paths import PathPattern
from origin.core.query import FileField, FileFilter, FileSort
from origin.domain.model import File, Method, Storage
from origin.domain.states import FileState
from origin.errors import Invalid
from tests.support.path_table import ENTITIES, cases


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{tmp_path}/catalog.db")
    async with database.write() as connection:
        for n in (1, 2):
            method = Method(await next_number(connection, "method"), f"file:///{n}/")
            await save(connection, Storage(n, f"s{n}", (method,)), new=True)
    yield database
    await database.close()


async def add(database: Database, *files: File) -> None:
    async with database.write() as connection:
        for file in files:
            await rows.insert(connection, file)


async def select(
    database: Database,
    wanted: FileFilter | None = None,
    sort: tuple[FileSort, ...] = (),
    page: Page | None = None,
) -> tuple[list[File], int | None, str | None]:
    async with database.read() as connection:
        found = await rows.listing(
            connection, wanted or FileFilter(), sort, page or Page(number=10_000), within=None
        )
    return found.entries, found.hits, found.next_cursor


def pattern_filter(path: str, **options: bool) -> FileFilter:
    return FileFilter(path=PathPattern.parse(path, **options))


@pytest.mark.parametrize(("path", "recursive", "wildcard", "expected"), cases())
async def test_the_table_of_paths_holds_in_sql(
    database: Database, path: str, recursive: bool, wildcard: bool, expected: list[str]
) -> None:
    await add(database, *(File(n, 1, entity) for n, entity in enumerate(ENTITIES, 1)))
    for fold in (True, False):
        wanted = pattern_filter(path, recursive=recursive, wildcard=wildcard, ignore_case=fold)
        found, hits, _ = await select(database, wanted)
        assert [file.path for file in found] == expected
        assert hits == len(expected)


async def test_sql_and_memory_select_the_same_of_random_paths(database: Database) -> None:
    chance = random.Random(7)
    names = ["a", "A", "ab", "a.b", "é", "É", "ß", "b*", "?", "\\", "a%", "_", "0", "-", "a b"]
    made = {"/".join(chance.choices(names, k=chance.randint(1, 4))) for _ in range(300)}
    await add(database, *(File(n, 1, path) for n, path in enumerate(sorted(made), 1)))
    for _ in range(300):
        query = "/".join(chance.choices([*names, "*", "a*", "?", "", "..", "."], k=chance.randint(1, 4)))
        options = {key: chance.random() < 0.5 for key in ("recursive", "wildcard", "ignore_case")}
        pattern = PathPattern.parse(query, **options)
        found, hits, _ = await select(database, FileFilter(path=pattern))
        assert {file.path for file in found} == {p for p in made if pattern.matches(p)}, (query, options)
        assert hits == len(found)


FILES = [
    File(1, 1, "b/x.mov", FileState.CLOSED, 30, "a1" * 20, "b1" * 32, mtime_ns=3_000_000),
    File(2, 1, "a/y.MP4", FileState.OPEN, -1, changed_ms=9),
    File(3, 2, "c", FileState.CLOSED, 30, "a2" * 20, "b2" * 32, mtime_ns=1_000_000),
    File(4, 2, "b/x.mov", FileState.LOST, 5, "a1" * 20, "b1" * 32, mtime_ns=1_500_000),
    File(10, 1, "z.tar.gz", FileState.CLOSED, 7, mtime_ns=2_000_000),
]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (FileFilter(), [1, 2, 3, 4, 10]),
        (FileFilter(ids=("VX-1", "VX-3", "VX-99", "nonsense", "VX-01")), [1, 3]),
        (FileFilter(ids=()), []),
        (FileFilter(storage_ids=("VX-2",)), [3, 4]),
        (FileFilter(storage_ids=("nonsense",)), []),
        (FileFilter(states=(FileState.OPEN, FileState.LOST)), [2, 4]),
        (FileFilter(sha1=("A1" * 20,)), [1, 4]),
        (FileFilter(sha256=("b2" * 32, "b1" * 32), states=(FileState.CLOSED,)), [1, 3]),
        (pattern_filter("b/"), [1, 4]),
    ],
)
async def test_filters_join_with_and_members_with_or(
    database: Database, wanted: FileFilter, numbers: list[int]
) -> None:
    await add(database, *FILES)
    found, hits, _ = await select(database, wanted)
    assert ([file.n for file in found], hits) == (numbers, len(numbers))


@pytest.mark.parametrize(
    ("sort", "numbers"),
    [
        ((), [1, 2, 3, 4, 10]),
        ((FileSort(FileField.ID, True),), [10, 4, 3, 2, 1]),
        ((FileSort(FileField.SIZE),), [2, 4, 10, 1, 3]),
        ((FileSort(FileField.SIZE, True),), [1, 3, 10, 4, 2]),
        ((FileSort(FileField.STATE), FileSort(FileField.ID, True)), [10, 3, 1, 4, 2]),
        ((FileSort(FileField.TIMESTAMP),), [3, 4, 10, 1, 2]),
        ((FileSort(FileField.FILENAME),), [3, 1, 4, 2, 10]),
        ((FileSort(FileField.EXTENSION),), [3, 2, 10, 1, 4]),
    ],
)
async def test_sorts_end_in_the_number(
    database: Database, sort: tuple[FileSort, ...], numbers: list[int]
) -> None:
    await add(database, *FILES)
    found, _, _ = await select(database, sort=sort)
    assert [file.n for file in found] == numbers


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("field", list(FileField))
async def test_pages_by_offset_and_by_key_give_each_file_once(
    database: Database, field: FileField, descending: bool
) -> None:
    chance = random.Random(3)
    made = [
        File(
            n,
            1,
            f"{chance.choice('abc')}/{n}.{chance.choice(['mov', 'mxf', ''])}",
            chance.choice([FileState.OPEN, FileState.CLOSED]),
            chance.randint(-1, 3),
            mtime_ns=chance.randint(0, 3) * 1_000_000,
        )
        for n in range(1, 54)
    ]
    await add(database, *made)
    sort = (FileSort(field, descending), FileSort(FileField.SIZE, not descending))
    whole, _, _ = await select(database, sort=sort)
    by_offset: list[File] = []
    for first in range(0, 60, 7):
        by_offset += (await select(database, sort=sort, page=Page(first=first, number=7)))[0]
    by_key: list[File] = []
    cursor: str | None = "*"
    while cursor:
        some, hits, cursor = await select(database, sort=sort, page=Page(number=7, cursor=cursor))
        assert hits == 53
        by_key += some
    assert len(whole) == 53
    assert by_offset == by_key == whole


async def test_cursor_of_another_order_or_made_up_is_invalid(database: Database) -> None:
    await add(database, *FILES)
    _, _, cursor = await select(database, page=Page(number=2, cursor="*"))
    assert cursor
    for bad, sort in (
        (cursor, (FileSort(FileField.SIZE),)),
        ("nonsense", ()),
        ("", ()),
        (cursor[:-3], ()),
        ("ü", ()),
    ):
        with pytest.raises(Invalid):
            await select(database, sort=sort, page=Page(number=2, cursor=bad))


async def test_count_false_does_not_count_and_number_0_only_counts(database: Database) -> None:
    await add(database, *FILES)
    assert (await select(database, page=Page(count=False)))[1] is None
    assert await select(database, page=Page(number=0)) == ([], 5, None)
    assert await select(database, page=Page(first=10**30)) == ([], 5, None)


async def test_what_is_being_deleted_leaves_its_path_free(database: Database) -> None:
    await add(database, File(1, 1, "a", FileState.TO_BE_DELETED), File(2, 1, "a", FileState.CLOSED))
    async with database.read() as connection:
        found = await rows.at_path(connection, 1, "a")
    assert found is not None
    assert found.n == 2


IN_FOLDER = FileFilter(storage_ids=("VX-1",), path=PathPattern.parse("a/", recursive=False))


@pytest.mark.parametrize(
    ("wanted", "sort"),
    [
        (pattern_filter("a/b/"), ()),
        (pattern_filter("a/b", recursive=False), ()),
        (pattern_filter("a/*/c", wildcard=True), ()),
        (pattern_filter("A/B/", ignore_case=True), ()),
        (IN_FOLDER, ()),
        (FileFilter(sha256=("b1" * 32,)), ()),
        (FileFilter(sha1=("b1" * 20,)), ()),
        (FileFilter(storage_ids=("VX-1",)), (FileSort(FileField.SIZE),)),
        (FileFilter(), (FileSort(FileField.TIMESTAMP, True),)),
        (FileFilter(), (FileSort(FileField.FILENAME),)),
    ],
)
async def test_query_is_answered_from_an_index(
    database: Database, wanted: FileFilter, sort: tuple[FileSort, ...]
) -> None:
    made = [
        File(n, 1 + n % 2, f"{n % 7}/{n % 11}/{n}", size=n, mtime_ns=n, sha1=f"{n:040x}", sha256=f"{n:064x}")
        for n in range(1, 500)
    ]
    await add(database, *made)
    async with database.write() as connection:
        await connection.execute(sa.text("ANALYZE"))
        query = sa.select(rows.files).where(*rows._conditions(connection, wanted, None)).limit(10)
        for entry in sort:
            column = rows._COLUMNS[entry.field]
            query = query.order_by(column.desc() if entry.descending else column)
        compiled = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        plan = (await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + compiled)).all()
    assert all("USING INDEX" in str(row) for row in plan), plan


async def test_rows_survive_their_round_trip(database: Database) -> None:
    file = File(
        5,
        1,
        "ü/ñ.mov",
        FileState.BEING_READ,
        2**50,
        "a" * 40,
        "b" * 64,
        2**62,
        7,
        2**41,
        2**41 + 1,
        {"key": "välue"},
    )
    await add(database, file)
    async with database.read() as connection:
        assert await rows.get(connection, 5) == file
    assert paths.extension(file.path) == "mov"
