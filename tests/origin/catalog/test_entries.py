"""The index is what the Files say, after any sequence of changes: compared with a plain re-telling."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from origin.catalog import entries, files, migrations, storages, summaries
from origin.catalog.database import Database
from origin.core.words import words
from origin.domain.model import File
from origin.domain.states import FileState
from tests.support.catalog_rows import add_file, add_storage, make_file

READABLE = {FileState.CLOSED, FileState.BEING_READ, FileState.ARCHIVED}
ARCHIVES = {3, 4}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{tmp_path}/catalog.db")
    async with database.write() as connection:
        for n, name in enumerate(["nodeum", "MTC606", "MTC628", "MTC 629/a"], 1):
            await add_storage(connection, n, name, archive=n in ARCHIVES)
    yield database
    await database.close()


@dataclass(frozen=True)
class Told:
    id: int
    locations: frozenset[tuple[int, str, int]]
    cached_ms: int | None
    words: frozenset[str]


def tell(all_files: dict[int, File]) -> dict[int, Told]:
    """What the entries must be, from the contract's words."""
    readable = [f for f in all_files.values() if f.state in READABLE]
    groups: dict[Any, list[File]] = defaultdict(list)
    contents: dict[Any, list[File]] = defaultdict(list)
    for file in readable:
        groups[(file.sha256, file.size, file.path) if file.sha256 else file.n].append(file)
        if file.sha256:
            contents[file.sha256, file.size].append(file)
    told = {}
    for group in groups.values():
        primary = min(group, key=lambda f: f.n)
        copies = group
        if primary.sha256 and primary.size > 0:
            everywhere = contents[primary.sha256, primary.size]
            if len({f.path for f in everywhere}) <= entries.CROWD:
                copies = everywhere
        best: dict[int, File] = {}
        for copy in sorted(copies, key=lambda f: (f.path != primary.path, f.n)):
            best.setdefault(copy.storage_n, copy)
        online = [
            max(f.created_ms, f.timestamp_ms)
            for f in copies
            if f.state is not FileState.ARCHIVED and f.storage_n not in ARCHIVES
        ]
        text = [f.path for f in best.values()] + list(primary.metadata.values())
        told[primary.n] = Told(
            primary.n,
            frozenset((f.storage_n, f.path, f.n) for f in best.values()),
            min(online, default=None),
            frozenset(word for part in text for word in words(part)),
        )
    return told


async def indexed(database: Database) -> dict[int, Told]:
    async with database.read() as connection:
        rows = (await connection.exec_driver_sql("SELECT id, cached_ms FROM entries")).all()
        volumes = (
            await connection.exec_driver_sql("SELECT id, storage_n, path, file_n FROM entry_volumes")
        ).all()
        texts = dict((await connection.exec_driver_sql("SELECT id, text FROM entry_words")).all())
    assert texts.keys() == {row[0] for row in rows}
    return {
        id: Told(
            id,
            frozenset((v[1], v[2], v[3]) for v in volumes if v[0] == id),
            cached,
            frozenset(word for word in texts[id].split() if not word.startswith("¤")),
        )
        for id, cached in rows
    }


async def sound(database: Database) -> None:
    """The full-text index agrees with its content, word by word; what is summed up agrees with the
    entries; no work is left over."""
    async with database.write() as connection:
        await connection.exec_driver_sql("INSERT INTO entry_search (entry_search) VALUES ('integrity-check')")
        left = (await connection.exec_driver_sql("SELECT count(*) FROM search_dirty")).scalar_one()
        counts = (await connection.exec_driver_sql(_COUNTS)).all()
        outside = (await connection.exec_driver_sql(_OUTSIDE)).scalar_one()
        zones = (await connection.exec_driver_sql("SELECT zone, storage_n FROM entry_zones")).all()
        await summaries.rebuild(connection)
        assert counts == (await connection.exec_driver_sql(_COUNTS)).all()
        exact = (await connection.exec_driver_sql("SELECT zone, storage_n FROM entry_zones")).all()
    assert left == 0
    assert outside == 0
    assert set(exact) <= set(zones)


_COUNTS = "SELECT facet, value, entries, bytes FROM entry_counts WHERE entries <> 0 ORDER BY 1, 2"
_OUTSIDE = f"""
    SELECT count(*) FROM entries e LEFT JOIN entry_zones z
        ON z.zone = e.id >> {summaries.ZONE_BITS} AND z.storage_n = e.storage_n
    WHERE z.zone IS NULL OR NOT (e.path BETWEEN z.low_path AND z.high_path
        AND e.base BETWEEN z.low_base AND z.high_base AND e.size BETWEEN z.low_size AND z.high_size
        AND e.modified_ms BETWEEN z.low_modified AND z.high_modified)"""


def change(rng: random.Random, held: dict[int, File], n: int) -> File | int:
    """Return a File to write, or the number of one to remove."""
    if held and rng.random() < 0.5:
        old = held[rng.choice(sorted(held))]
        kind = rng.randrange(5)
        if kind == 0:
            return old.n
        if kind == 1:
            return replace(old, state=rng.choice(list(FileState)))
        if kind == 2:
            return replace(old, metadata={"camera": rng.choice(["Alexa", "Réd one"])})
        fresh = make_file(old.n, old.storage_n, old.path, rng.choice(["one", "two", "", None]))
        return replace(fresh, created_ms=rng.randrange(1, 9) * 1_000_000)
    path = rng.choice(["a/A9C001.0143.ari", "a/b.mov", "b/c d/Ünï.ari", "top.txt"])
    return make_file(
        n,
        rng.randrange(1, 5),
        path,
        rng.choice(["one", "two", "", None]),
        state=rng.choice([*READABLE, FileState.OPEN]),
        modified_ms=rng.randrange(1, 9) * 1_000_000,
    )


@pytest.mark.parametrize("seed", range(3))
async def test_entries_are_what_the_files_say_after_any_changes(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    held: dict[int, File] = {}
    for n in range(100, 160):
        async with database.write() as connection:
            for step in range(rng.choice([1, 1, 3])):
                done = change(rng, held, n * 10 + step)
                if isinstance(done, int):
                    await files.remove(connection, done)
                    del held[done]
                    continue
                others = [f for f in held.values() if (f.storage_n, f.path) == (done.storage_n, done.path)]
                if any(f.n != done.n and f.state is not FileState.TO_BE_DELETED for f in others):
                    continue
                if done.n in held:
                    await files.update(connection, done)
                else:
                    await add_file(connection, done)
                held[done.n] = done
        assert await indexed(database) == tell(held)
        async with database.read() as connection:
            usage = await files.usage(connection, [1, 2, 3, 4])
        for storage, used in usage.items():
            there = [file.size for file in held.values() if file.storage_n == storage]
            assert (used.files, used.bytes) == (len(there), sum(max(size, 0) for size in there))
    await sound(database)


async def test_a_storage_that_goes_takes_its_copies_out_of_every_entry(database: Database) -> None:
    held = [make_file(10, 1, "a/x.ari"), make_file(11, 3, "a/x.ari"), make_file(12, 3, "other/x.ari")]
    async with database.write() as connection:
        for file in held:
            await add_file(connection, file)
    async with database.write() as connection:
        await storages.remove(connection, 1)
    assert await indexed(database) == tell({file.n: file for file in held[1:]})
    await sound(database)


async def test_an_undone_transaction_leaves_the_index_as_it_was(database: Database) -> None:
    async with database.write() as connection:
        await add_file(connection, make_file(10, 1, "a/x.ari"))
    before = await indexed(database)
    with pytest.raises(ZeroDivisionError):
        async with database.write() as connection:
            await files.remove(connection, 10)
            await entries.settle(connection)
            raise ZeroDivisionError
    assert await indexed(database) == before
    await sound(database)


async def test_contents_at_more_paths_than_the_bound_count_only_copies_of_equal_path(
    database: Database,
) -> None:
    held = {}
    for n in range(1, entries.CROWD + 3):
        async with database.write() as connection:
            for storage in (1, 3):
                file = make_file(n * 10 + storage, storage, f"frames/{n:04}.dpx", "black")
                await add_file(connection, file)
                held[file.n] = file
        if n in (1, 2, entries.CROWD, entries.CROWD + 1, entries.CROWD + 2):
            assert await indexed(database) == tell(held), n
    for n in (entries.CROWD + 2, entries.CROWD + 1):
        async with database.write() as connection:
            for storage in (1, 3):
                await files.remove(connection, n * 10 + storage)
                del held[n * 10 + storage]
        assert await indexed(database) == tell(held)
    await sound(database)


async def test_folders_are_those_above_live_files_and_share_their_numbers(database: Database) -> None:
    async def folders() -> dict[str, int]:
        async with database.read() as connection:
            rows = await connection.exec_driver_sql("SELECT path, n FROM folders WHERE storage_n = 1")
            return {row[0]: row[1] for row in rows}

    roots = await folders()
    assert list(roots) == [""]
    async with database.write() as connection:
        await add_file(connection, make_file(1000, 1, "a/b/c/x.ari"))
        await add_file(connection, make_file(1001, 1, "a/y.ari"))
    made = await folders()
    assert set(made) == {"", "a", "a/b", "a/b/c"}
    assert len(set(made.values())) == 4
    async with database.write() as connection:
        await files.remove(connection, 1000)
    assert set(await folders()) == {"", "a"}
    async with database.write() as connection:
        await files.remove(connection, 1001)
    assert await folders() == roots


async def test_a_catalog_from_before_the_index_is_taken_in_when_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    database = await Database.open(url)
    async with database.write() as connection:
        await add_storage(connection, 1, "nodeum")
        await add_file(connection, make_file(10, 1, "a/x.ari"))
    before = await indexed(database)
    async with database.write() as connection:
        for table in ("entries", "entry_words", "entry_volumes", "entry_counts", "entry_zones", "folders"):
            await connection.exec_driver_sql(f"DELETE FROM {table}")
    await database.close()
    database = await Database.open(url)
    assert await indexed(database) == before
    await sound(database)
    await database.close()


async def test_a_catalog_from_before_the_summaries_is_summed_up(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/old.db")
    async with database.write() as connection:
        await add_storage(connection, 1, "nodeum")
        await add_file(connection, make_file(10, 1, "a/x.ari"))
    async with database.write() as connection:
        before = (await connection.exec_driver_sql("SELECT * FROM entry_zones")).all()
        for statement in (
            "DROP TABLE entry_counts",
            "DROP TABLE entry_zones",
            "CREATE TABLE entry_total (entries INTEGER NOT NULL)",
        ):
            await connection.exec_driver_sql(statement)
        await migrations._summaries(connection)
        assert (await connection.exec_driver_sql("SELECT * FROM entry_zones")).all() == before != []
    await sound(database)
    await database.close()
