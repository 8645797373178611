"""The nth call of the disk fails, for every n, through fill, verify, commit, evict and recover.

After each: no wrong byte, the limit kept, nothing on disk that nobody knows of, and a second start of
the node finds what was committed or nothing, and works.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from pathlib import Path

import pytest

from distributor.errors import DiskFailed, SpaceExhausted, StoreError
from distributor.ports import Store
from distributor.store import shelf as shelf_module
from distributor.store.blobs import Disk
from distributor.store.store import DiskStore
from tests.support.faulty_disk import FaultyDisk
from tests.support.stores import (
    NOW,
    Remembering,
    content,
    described,
    fill,
    read,
    recovered,
    settled,
    until,
    within_limit,
)

LIMIT = 12_000
# Calls that can find the disk full, and calls made only where bytes are to be durable.
GROWING = {"open", "pwrite", "ftruncate", "rename", "make_directory", "index"}
SYNCING = {"fdatasync", "sync_directory"}


def make(path: Path, disk: Disk | None = None, **more: object) -> DiskStore:
    settings: dict[str, object] = {"limit": LIMIT, "segment": 1000, "durability": "none", **more}
    return DiskStore(path, disk=disk, **settings)  # type: ignore[arg-type]


async def check_all(store: Store) -> None:
    """Whatever is found is what was put there under that key, or is reported as unreadable."""
    assert within_limit(store)
    for stored in store.scan(None, 100):
        body = content(stored.key, 4000)
        for start, filled in [(i * 1000, n) for i, n in stored.segments.prefixes()]:
            with contextlib.suppress(StoreError):
                assert await read(store, stored, start, start + filled) == body[start : start + filled]
    assert within_limit(store)


async def live(store: Store, committed: set[str]) -> None:
    """A life of a store, from one fill to the next restart; every error of the disk is survived."""
    # A disk that goes on failing keeps the store from ever being done with its start.
    await until(lambda: not store.recovering or not store.healthy)
    await check_all(store)
    for key in ("a", "b", "c", "d"):
        with contextlib.suppress(StoreError):
            stored = await fill(store, key, content(key, 4000), piece=2500)
            committed.add(stored.key)
        assert within_limit(store)
    await settled(store)
    with contextlib.suppress(StoreError):
        partial = await store.begin("e", "e", described(4000), NOW)
        try:
            await store.write(partial, 0, content("e", 4000)[:1500])
            await store.checkpoint(partial)
            await store.write(partial, 2000, content("e", 4000)[2000:3000])
        finally:
            store.release(partial)
    for stored in store.scan(None, 100)[:1]:
        with contextlib.suppress(StoreError):
            blob = await store.open(stored)
            await store.remove(stored)
            blob.close()
    await settled(store)
    await check_all(store)


async def whole_life(path: Path, disk: FaultyDisk, **more: object) -> set[str]:
    """Two lives, on a disk that may fail in either; keys that were committed."""
    committed: set[str] = set()
    for _ in range(2):
        store = make(path, disk, **more)
        try:
            await store.start()
        except StoreError:
            continue
        try:
            await live(store, committed)
        finally:
            await store.close()
    return committed


async def second_start_is_fine(path: Path) -> None:
    store = make(path)
    await store.start()
    await recovered(store)
    await settled(store)
    found = store.scan(None, 100)
    for stored in found:
        body = content(stored.key, 4000)
        assert (
            await read(store, stored, 0, stored.segments.available(0)) == body[: stored.segments.available(0)]
        )
        if stored.complete:
            assert await read(store, stored) == body
    usage = store.usage()
    assert usage.complete == sum(s.segments.present for s in found if s.complete)
    assert within_limit(store)
    await fill(store, "new", content("new", 4000))
    assert store.healthy
    await settled(store)
    known = {s.blob for s in store.scan(None, 100)}
    await store.close()
    assert files(path) == known


def files(path: Path) -> set[str]:
    """Names of all blobs on disk."""
    settled_ones = {d.name + f.name for d in (path / "blobs").iterdir() for f in d.iterdir()}
    return settled_ones | {f.name for f in (path / "loose").iterdir()}


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "_PATIENCE", 0.5)
    monkeypatch.setattr("distributor.store.recovery._PAUSE", 0.001)
    monkeypatch.setattr("distributor.store.index._RETRY", 0.001)


@pytest.mark.parametrize(
    ("error", "lasting", "durability", "only"),
    [
        (errno.EIO, False, "none", None),
        (errno.EIO, False, "fsync", SYNCING),
        (errno.ENOSPC, False, "none", GROWING),
        (errno.EIO, True, "none", None),
    ],
    ids=["one fails", "one that syncs fails", "one finds the disk full", "all from one on fail"],
)
async def test_no_wrong_byte_and_no_lost_room_whichever_call_fails(
    tmp_path: Path, error: int, lasting: bool, durability: str, only: set[str] | None
) -> None:
    dry = FaultyDisk()
    assert await whole_life(tmp_path / "dry", dry, durability=durability) == {"a", "b", "c", "d"}
    worth = [n for n, name in enumerate(dry.calls, 1) if only is None or name in only]
    assert len(worth) >= 10
    for n in worth[:: 5 if lasting else 2 if error == errno.ENOSPC else 1]:
        path = tmp_path / str(n)
        disk = FaultyDisk(n, error=error, lasting=lasting)
        try:
            async with asyncio.timeout(30):
                await whole_life(path, disk, durability=durability)
                await second_start_is_fine(path)
        except BaseException:
            print(f"call {n} failed: {disk.calls[n - 1 :][:1]}")
            raise


async def test_writes_that_come_up_short_are_continued(tmp_path: Path) -> None:
    disk = FaultyDisk(short=True)
    store = make(tmp_path, disk)
    await store.start()
    stored = await fill(store, "a", content("a", 4000))
    assert disk.calls.count("pwrite") > 5
    assert await read(store, stored) == content("a", 4000)
    await store.close()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
async def test_a_write_that_fails_leaves_a_true_map_and_can_be_repeated(tmp_path: Path, error: int) -> None:
    disk = FaultyDisk(only="pwrite", nth=2, error=error, lasting=True)
    seen = Remembering()
    store = make(tmp_path, disk, observer=seen)
    await store.start()
    body = content("a", 4000)
    stored = await store.begin("a", "a", described(4000), NOW)
    await store.write(stored, 0, body[:500])
    with pytest.raises(DiskFailed) as failure:
        await store.write(stored, 500, body[500:2500])
    assert failure.value.op == "write"
    assert seen.counts["store_error", "write"] >= 1
    assert not store.healthy
    assert list(stored.segments.prefixes()) == [(0, 500)]
    assert (store.usage().partial, store.usage().reserved) == (500, 3500)
    disk.heal()
    await store.write(stored, 500, body[500:])
    assert store.healthy
    digest = await store.digest(stored)
    await store.commit(stored, digest, NOW)
    store.release(stored)
    assert await read(store, stored) == body
    await store.close()


async def test_a_full_disk_evicts_once_and_the_write_goes_through(tmp_path: Path) -> None:
    disk = FaultyDisk(error=errno.ENOSPC)
    seen = Remembering()
    store = make(tmp_path, disk, observer=seen)
    await store.start()
    await fill(store, "old", content("old", 2000))
    stored = await store.begin("a", "a", described(4000), NOW)
    disk._nth, disk._only = disk.calls.count("pwrite") + 1, "pwrite"
    # Nobody can free 8 MiB here: what may leave is too little, so nobody leaves.
    with pytest.raises(DiskFailed):
        await store.write(stored, 0, content("a", 4000))
    assert store.get("old") is not None
    store.release(stored)
    await store.close()

    large = make(tmp_path / "large", disk, observer=seen, limit=64 << 20, segment=1 << 20)
    disk.heal()
    await large.start()
    await fill(large, "old", bytes(9 << 20))
    stored = await large.begin("a", "a", described(4000), NOW)
    disk._nth = disk.calls.count("pwrite") + 1
    await large.write(stored, 0, content("a", 4000))
    assert await read(large, stored) == content("a", 4000)
    assert large.get("old") is None
    assert seen.counts["evicted", "room"] == 1
    large.release(stored)
    await large.close()


async def test_a_deletion_that_fails_keeps_the_bytes_in_the_accounts_until_it_succeeds(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk()
    store = make(tmp_path, disk)
    await store.start()
    stored = await fill(store, "a", content("a", 4000))
    disk._only, disk._lasting, disk._nth = "unlink", True, 1
    await store.remove(stored)
    await settled(store)
    assert store.get("a") is None
    assert store.usage().complete == 4000
    disk.heal()
    await store._shelf.bury_undead()
    assert store.usage().complete == 0
    assert files(tmp_path) == set()
    await store.close()


async def test_room_that_cannot_be_made_is_not_given(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = make(tmp_path, disk)
    await store.start()
    for key in ("a", "b", "c"):
        await fill(store, key, content(key, 4000))
    disk._only, disk._lasting, disk._nth = "unlink", True, 1
    with pytest.raises((DiskFailed, SpaceExhausted)):
        await fill(store, "d", content("d", 4000))
    assert within_limit(store)
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if len(f.name) in (14, 16)) <= LIMIT
    await store.close()


async def test_a_row_that_cannot_be_written_is_no_commit(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = make(tmp_path, disk)
    await store.start()
    await recovered(store)
    disk._only, disk._lasting, disk._nth = "index", True, 1
    with pytest.raises(DiskFailed) as failure:
        await fill(store, "a", content("a", 4000))
    assert failure.value.op == "index"
    assert not store.healthy
    disk.heal()
    await store.close()
    again = make(tmp_path)
    await again.start()
    await recovered(again)
    found = again.get("a")
    assert found is None or not found.complete
    await again.close()


def test_the_faulty_disk_stands_in_for_every_call_of_the_disk() -> None:
    ours = {name for name, value in vars(Disk).items() if callable(value) and not name.startswith("_")}
    assert ours <= set(vars(FaultyDisk))
