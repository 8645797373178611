from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.errors import DiskFailed
from distributor.store import rows
from distributor.store.blobs import Disk
from distributor.store.index import Index, RefusedValue, StrictDisk
from tests.support.faulty_disk import FaultyDisk
from tests.support.stores import until


def row(held: int, complete: bool = True) -> bytes:
    """A row as far as the index looks into it."""
    made = bytearray(rows._BODY)
    made[rows._CHECK.size] = rows.VERSION
    made[rows._CHECK.size + 1] = 1 if complete else 0
    rows._HELD.pack_into(made, rows._HELD_AT, held)
    return bytes(made)


def make(path: Path, disk: Disk | None = None) -> Index:
    return Index(
        path / "index", disk or Disk(), sync=False, failed=lambda problem: None, worked=lambda op: None
    )


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    index = make(tmp_path)
    await index.open()
    yield index
    await index.close()


async def test_what_was_flushed_is_there_after_a_restart_with_the_bytes_it_tells_of(tmp_path: Path) -> None:
    index = make(tmp_path)
    assert await index.open() == (0, True)
    for n in range(10):
        index.put(f"k{n}", row(100))
    index.put("partial", row(7, complete=False))
    index.delete("k3")
    index.put("k4", row(250))
    await index.close()
    index = make(tmp_path)
    assert await index.open() == (8 * 100 + 250, False)
    found = await index.read("k4")
    assert found is not None
    assert (found.row, found.size) == (row(250), 250)
    assert await index.read("k3") is None
    keys = [found.key async for page in index.pages() for found in page]
    assert sorted(key for key in keys if key) == sorted(["partial", *(f"k{n}" for n in range(10) if n != 3)])
    await index.close()


async def test_the_last_word_on_a_key_counts_and_is_read_before_it_is_written(index: Index) -> None:
    for n in range(100):
        index.put("a", row(n))
    found = await index.read("a")
    assert found is not None and found.row == row(99)
    index.delete("a")
    assert await index.read("a") is None
    await index.flush()
    assert await index.read("a") is None


async def test_rows_come_in_the_order_in_which_they_were_last_written(index: Index) -> None:
    for key in ("a", "b", "c"):
        index.put(key, row(1))
        await index.flush()
    index.put("a", row(1))
    await index.flush()
    assert [found.key async for page in index.pages() for found in page] == ["b", "c", "a"]


async def test_notes_survive_a_failing_disk_and_are_written_once_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.store.index._RETRY", 0.001)
    disk = FaultyDisk()
    index = make(tmp_path, disk)
    await index.open()
    disk._only, disk._nth, disk._lasting = "index", 1, True
    index.put("a", row(5))
    with pytest.raises(DiskFailed) as failure:
        await index.flush()
    assert failure.value.op == "index"
    index.put("a", row(6))
    disk.heal()
    await until(lambda: not index.noted())
    await index.flush()
    found = await index.read("a")
    assert found is not None and found.row == row(6)
    await index.close()


async def test_many_notes_are_few_transactions(tmp_path: Path) -> None:
    disk = FaultyDisk()
    index = make(tmp_path, disk)
    await index.open()
    before = disk.calls.count("index")
    for n in range(1000):
        index.put(f"k{n}", row(1))
    await asyncio.gather(*(index.flush() for _ in range(20)))
    assert disk.calls.count("index") - before <= 2
    await index.close()


@pytest.mark.parametrize("value", ["text", 5, None, {"a": 1}, bytearray(b"x")], ids=repr)
def test_only_bytes_are_stored(tmp_path: Path, value: object) -> None:
    with pytest.raises(RefusedValue):
        StrictDisk(str(tmp_path)).store(value, False)


@pytest.mark.parametrize("key", [b"bytes", 5, 1.5, None, ("a",)], ids=repr)
def test_only_text_is_a_key(tmp_path: Path, key: object) -> None:
    with pytest.raises(RefusedValue):
        StrictDisk(str(tmp_path)).put(key)


@pytest.mark.parametrize(
    ("mode", "filename"), [(4, None), (2, None), (1, "ab/cd.val"), (3, "x")], ids=["pickle", "2", "file", "3"]
)
def test_only_plain_bytes_are_read(tmp_path: Path, mode: int, filename: str | None) -> None:
    # CVE-2025-69872
    disk = StrictDisk(str(tmp_path))
    with pytest.raises(RefusedValue):
        disk.fetch(mode, filename, pickle.dumps("x"), False)
    with pytest.raises(RefusedValue):
        disk.get(pickle.dumps("x"), False)
    assert disk.fetch(1, None, b"x", False) == b"x"


def test_a_file_that_a_row_names_is_not_deleted(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    StrictDisk(str(tmp_path / "index")).remove("../victim")
    assert victim.exists()
