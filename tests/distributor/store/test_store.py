"""What this store promises beyond the contract: proofs, damage, restarts, one owner, few descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.errors import BlobDamaged, DiskFailed, SpaceExhausted, StoreError
from distributor.store import rows, table
from distributor.store.store import DiskStore
from tests.support.fake_clock import FakeClock
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


def make(path: Path, **more: object) -> DiskStore:
    settings: dict[str, object] = {"limit": 100_000, "segment": 1000, "durability": "none", **more}
    return DiskStore(path, **settings)  # type: ignore[arg-type]


async def started(path: Path, **more: object) -> DiskStore:
    store = make(path, **more)
    await store.start()
    await recovered(store)
    await settled(store)
    return store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    store = await started(tmp_path)
    yield store
    await store.close()


def blob_path(path: Path, blob: str) -> Path:
    return path / "blobs" / blob[:2] / blob[2:]


def files(path: Path) -> set[str]:
    return {d.name + f.name for d in (path / "blobs").iterdir() for f in d.iterdir()} | {
        f.name for f in (path / "loose").iterdir()
    }


# The directory


async def test_a_directory_has_one_owner_and_says_who(tmp_path: Path) -> None:
    first = await started(tmp_path)
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
        await make(tmp_path).start()
    await first.close()
    await (await started(tmp_path)).close()


async def test_a_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "edge"
    store = await started(path)
    stored = await fill(store, "a", b"x")
    assert path.stat().st_mode & 0o777 == 0o700
    assert blob_path(path, stored.blob).stat().st_mode & 0o777 == 0o600
    await store.close()


async def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        await make(tmp_path / "file" / "edge").start()


async def test_with_durability_none_nothing_is_synced(tmp_path: Path) -> None:
    for durability, expected in [("none", False), ("fsync", True)]:
        disk = FaultyDisk()
        store = await started(tmp_path / durability, disk=disk, durability=durability)
        await fill(store, "a", content("a", 2500))
        assert ("fdatasync" in disk.calls) is expected
        assert ("sync_directory" in disk.calls) is expected
        await store.close()


async def test_no_name_on_disk_tells_of_an_id(tmp_path: Path) -> None:
    store = await started(tmp_path)
    await fill(store, "../../etc/passwd", b"x")
    assert all(set(name) <= set("0123456789abcdef") and len(name) == 16 for name in files(tmp_path))
    await store.close()


async def test_a_key_that_is_no_unicode_text_is_refused_and_harms_no_other(store: DiskStore) -> None:
    with pytest.raises(StoreError):
        await store.begin("a\udcff", "a", described(1), NOW)
    await fill(store, "b", b"x")


# Proof


async def test_segments_of_an_earlier_process_are_checked_once_before_use(tmp_path: Path) -> None:
    store = await started(tmp_path)
    stored = await fill(store, "a", content("a", 4500))
    assert store.proven(stored, 0, 4500)
    await store.close()
    disk = FaultyDisk()
    store = await started(tmp_path, disk=disk)
    again = store.get("a")
    assert again is not None
    assert not store.proven(again, 1000, 1001)
    await store.prove(again, 1000, 3000)
    assert disk.calls.count("pread") == 2
    assert store.proven(again, 1000, 3000)
    assert not store.proven(again, 999, 3000)
    await store.prove(again, 0, 4500)
    await store.prove(again, 0, 4500)
    assert disk.calls.count("pread") == 5
    assert store.proven(again, 0, 4500)
    await store.close()


async def test_a_byte_that_changed_on_disk_is_never_proven(tmp_path: Path) -> None:
    store = await started(tmp_path)
    stored = await fill(store, "a", content("a", 4500))
    await store.close()
    with blob_path(tmp_path, stored.blob).open("r+b") as file:
        file.seek(2300)
        file.write(bytes([content("a", 4500)[2300] ^ 1]))
    seen = Remembering()
    store = await started(tmp_path, observer=seen)
    again = store.get("a")
    assert again is not None
    await store.prove(again, 0, 2000)
    with pytest.raises(BlobDamaged):
        await store.prove(again, 0, 4500)
    assert store.get("a") is None
    assert again.detached
    assert seen.counts["verified", "corrupt"] == 1
    await settled(store)
    assert store.usage().complete == 0
    assert files(tmp_path) == set()
    await store.close()


async def test_a_file_touched_behind_our_back_is_proven_anew(tmp_path: Path) -> None:
    store = await started(tmp_path)
    stored = await fill(store, "a", content("a", 2000))
    (await store.open(stored)).close()
    assert store.proven(stored, 0, 2000)
    with blob_path(tmp_path, stored.blob).open("r+b") as file:
        file.write(bytes([content("a", 2000)[0] ^ 1]))
    os.utime(blob_path(tmp_path, stored.blob), (1, 1))
    blob = await store.open(stored)
    assert not store.proven(stored, 0, 1000)
    with pytest.raises(BlobDamaged):
        await store.prove(stored, 0, 1000)
    blob.close()
    await store.close()


@pytest.mark.parametrize("damage", ["gone", "short", "long"])
async def test_opening_a_file_that_is_not_whole_removes_it(
    store: DiskStore, tmp_path: Path, damage: str
) -> None:
    stored = await fill(store, "a", content("a", 2000))
    path = blob_path(tmp_path, stored.blob)
    fd = store._shelf.fds.forget(stored.blob)
    assert fd is not None
    os.close(fd)
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, 1999 if damage == "short" else 2001)
    with pytest.raises(BlobDamaged):
        await store.open(stored)
    assert store.get("a") is None
    await settled(store)
    assert store.usage().complete == 0


async def test_a_resumed_fill_finds_damage_before_it_is_committed(tmp_path: Path) -> None:
    store = await started(tmp_path)
    body = content("a", 3000)
    stored = await store.begin("a", "a", described(3000), NOW)
    await store.write(stored, 0, body[:1500])
    await store.checkpoint(stored)
    store.release(stored)
    await store.close()
    with (tmp_path / "loose" / stored.blob).open("r+b") as file:
        file.seek(1200)
        file.write(bytes([body[1200] ^ 1]))
    store = await started(tmp_path)
    again = store.get("a")
    assert again is not None
    store.retain(again)
    await store.reserve(again, 1500)
    await store.write(again, 1500, body[1500:])
    assert not store.proven(again, 1000, 2000), "what was appended does not prove what was there"
    assert store.proven(again, 2000, 3000)
    with pytest.raises(BlobDamaged):
        await store.digest(again)
    store.release(again)
    await settled(store)
    assert store.get("a") is None
    assert files(tmp_path) == set()
    await store.close()


# Restarts


async def test_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    store = await started(tmp_path, limit=3000)
    stored = [await fill(store, key, content(key, 1000)) for key in ("a", "b", "c")]
    store.touch(stored[0], NOW + 10, hit=True)
    await store.close()
    store = await started(tmp_path, limit=3000)
    await fill(store, "d", content("d", 1000))
    assert [s.key for s in store.scan(None, 10)] == ["a", "c", "d"]
    await store.close()


async def test_bytes_written_after_the_last_checkpoint_are_given_up(tmp_path: Path) -> None:
    store = await started(tmp_path)
    stored = await store.begin("a", "a", described(500_0), NOW)
    await store.write(stored, 0, content("a", 5000)[:1200])
    await store.checkpoint(stored)
    await store.write(stored, 1200, content("a", 5000)[1200:3000])
    await crash(store)
    store = await started(tmp_path)
    again = store.get("a")
    assert again is not None
    assert list(again.segments.prefixes()) == [(0, 1000), (1, 200)]
    assert await read(store, again, 0, 1200) == content("a", 5000)[:1200]
    assert store.usage().partial == 1200
    await store.close()


async def test_large_bytes_after_the_last_checkpoint_leave_the_disk_at_the_start(tmp_path: Path) -> None:
    store = await started(tmp_path, limit=10 << 20, segment=1 << 20)
    stored = await store.begin("a", "a", described(8 << 20), NOW)
    await store.write(stored, 0, b"x" * (1 << 20))
    await store.checkpoint(stored)
    await store.write(stored, 1 << 20, b"y" * (4 << 20))
    await crash(store)
    store = make(tmp_path, limit=10 << 20, segment=1 << 20)
    await store.start()
    await recovered(store)
    assert store.usage().partial == 1 << 20
    assert (tmp_path / "loose" / stored.blob).stat().st_blocks * 512 < 2 << 20
    assert (tmp_path / "loose" / stored.blob).stat().st_size == 8 << 20
    await store.close()


async def test_a_blob_that_was_never_checkpointed_is_deleted(tmp_path: Path) -> None:
    store = await started(tmp_path)
    stored = await store.begin("a", "a", described(5000), NOW)
    await store.write(stored, 0, bytes(1200))
    await crash(store)
    assert files(tmp_path) == {stored.blob}
    store = await started(tmp_path)
    assert store.get("a") is None
    assert files(tmp_path) == set()
    assert store.usage().partial == 0
    await store.close()


async def test_a_commit_whose_file_was_not_yet_moved_is_a_hit_after_the_restart(tmp_path: Path) -> None:
    disk = FaultyDisk(only="rename", lasting=True)
    store = await started(tmp_path, disk=disk)
    stored = await fill(store, "a", content("a", 2500))
    assert stored.complete
    assert await read(store, stored) == content("a", 2500)
    await store.close()
    assert (tmp_path / "loose" / stored.blob).exists()
    store = await started(tmp_path)
    again = store.get("a")
    assert again is not None
    assert blob_path(tmp_path, stored.blob).exists()
    assert await read(store, again) == content("a", 2500)
    assert store.usage().complete == 2500
    await store.close()


async def test_what_lies_on_disk_without_a_row_or_otherwise_than_its_row_goes(tmp_path: Path) -> None:
    store = await started(tmp_path)
    blobs = {key: (await fill(store, key, content(key, 2000))).blob for key in ("gone", "short", "kept")}
    await store.close()
    blob_path(tmp_path, blobs["gone"]).unlink()
    os.truncate(blob_path(tmp_path, blobs["short"]), 1500)
    orphan = blob_path(tmp_path, "ab" * 8)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    (tmp_path / "loose" / ("cd" * 8)).write_bytes(b"nobody's either")
    seen = Remembering()
    store = await started(tmp_path, observer=seen)
    assert [s.key for s in store.scan(None, 10)] == ["kept"]
    assert files(tmp_path) == {blobs["kept"]}
    assert store.usage().complete == 2000
    assert seen.counts["verified", "missing"] == 1
    assert seen.counts["verified", "corrupt"] == 1
    await store.close()


async def test_a_lower_limit_is_kept_from_the_start(tmp_path: Path) -> None:
    store = await started(tmp_path, limit=10_000)
    for n in range(10):
        await fill(store, f"k{n}", content(n, 1000))
    await store.close()
    seen = Remembering()
    store = await started(tmp_path, limit=4500, observer=seen)
    await until(lambda: within_limit(store))
    assert [s.key for s in store.scan(None, 20)] == ["k6", "k7", "k8", "k9"]
    assert seen.counts["evicted", "limit"] == 6
    assert seen.counts["evicted bytes", "limit"] == 6000
    await store.close()


async def test_a_look_up_need_not_wait_for_the_reconciliation(tmp_path: Path) -> None:
    store = await started(tmp_path)
    for n in range(20):
        await fill(store, f"k{n}", content(n, 1000))
    await store.close()
    store = make(tmp_path)
    await store.start()
    assert store.recovering
    found = await store.find("k19")
    assert found is not None and found.complete
    assert await read(store, found) == content(19, 1000)
    assert await store.find("none") is None
    replaced = await fill(store, "k3", b"new")
    await recovered(store)
    assert store.get("k3") is replaced
    assert store.get("k19") is found
    assert store.usage().complete == 19_003
    await settled(store)
    assert len(files(tmp_path)) == 20
    await store.close()


async def test_the_limit_holds_while_nothing_has_been_read_yet(tmp_path: Path) -> None:
    store = await started(tmp_path, limit=10_000)
    for n in range(10):
        await fill(store, f"k{n}", content(n, 1000))
    await store.close()
    store = make(tmp_path, limit=10_000)
    await store.start()
    with contextlib.suppress(SpaceExhausted):
        await fill(store, "new", content("new", 5000))
    usage = store.usage()
    assert usage.complete + usage.partial + usage.reserved <= 10_000
    await recovered(store)
    assert within_limit(store)
    await store.close()


async def crash(store: DiskStore) -> None:
    """End as a killed process does: nothing more is written, the lock falls."""
    for loop in store._loops:
        loop.cancel()
    await asyncio.gather(*store._loops, return_exceptions=True)
    await settled(store)
    index = store._shelf.index
    await index.flush()
    assert index._writer is not None
    index._writer.cancel()
    await asyncio.gather(index._writer, return_exceptions=True)
    await index._in_thread(index._close)
    index._thread.shutdown()
    store._shelf.fds.close_all()
    await store._give_directory()


# The index


@pytest.mark.parametrize("damage", ["garbage", "cut", "table"])
async def test_a_damaged_index_is_put_aside_and_the_node_starts(tmp_path: Path, damage: str) -> None:
    store = await started(tmp_path)
    for n in range(300):
        await fill(store, f"k{n}", b"x")
    await store.close()
    database = tmp_path / "index" / "cache.db"
    for extra in ("-wal", "-shm"):
        database.with_name(database.name + extra).unlink(missing_ok=True)
    if damage == "garbage":
        database.write_bytes(b"not a database " * 1000)
    elif damage == "cut":
        os.truncate(database, database.stat().st_size // 2)
    else:
        with sqlite3.connect(database) as connection:
            connection.execute("DROP TABLE Cache")
        connection.close()
    store = await started(tmp_path)
    await until(lambda: not store._shelf.index.damaged.is_set())
    await fill(store, "new", content("new", 2000))
    assert within_limit(store)
    assert files(tmp_path) == {s.blob for s in store.scan(None, 1000)}
    await store.close()
    store = await started(tmp_path)
    again = store.get("new")
    assert again is not None
    assert await read(store, again) == content("new", 2000)
    await store.close()


async def test_an_index_damaged_while_running_is_written_anew_from_memory(tmp_path: Path) -> None:
    store = await started(tmp_path)
    for n in range(50):
        await fill(store, f"k{n}", content(n, 100))
    await store._shelf.rebuild_index()
    await fill(store, "after", content("after", 100))
    await store.close()
    store = await started(tmp_path)
    assert len(store.scan(None, 100)) == 51
    found = store.get("k7")
    assert found is not None
    assert await read(store, found) == content(7, 100)
    await store.close()


@pytest.mark.parametrize(
    "value",
    [
        "CAST(substr(value, 1, 30) || x'00' || substr(value, 32) AS BLOB)",
        "CAST(x'c3' AS TEXT)",
        "substr(value, 1, 40)",
        "NULL",
        "5",
    ],
    ids=["a byte changed", "text that is none", "cut", "nothing", "a number"],
)
async def test_a_damaged_row_goes_with_its_blob_and_no_other(tmp_path: Path, value: str) -> None:
    store = await started(tmp_path)
    bad, good = await fill(store, "bad", b"xx"), await fill(store, "good", b"yyy")
    await store.close()
    change_row(tmp_path, f"UPDATE Cache SET value = {value} WHERE key = 'bad'")
    seen = Remembering()
    store = await started(tmp_path, observer=seen)
    assert store.get("bad") is None
    assert store.get("good") is not None
    assert seen.counts["verified", "corrupt"] == 1
    assert files(tmp_path) == {good.blob}
    assert bad.blob != good.blob
    assert store.usage().complete == 3
    await store.close()
    with sqlite3.connect(tmp_path / "index" / "cache.db") as connection:
        assert [key for (key,) in connection.execute("SELECT key FROM Cache")] == ["good"]
    connection.close()


async def test_a_planted_pickle_is_never_loaded(tmp_path: Path) -> None:  # CVE-2025-69872
    store = await started(tmp_path)
    await fill(store, "good", b"yyy")
    await store.close()
    proof = tmp_path / "executed"
    pickled = b"cos\nsystem\n(S'touch " + str(proof).encode() + b"'\ntR."
    for mode, key in ((4, "'planted'"), (1, "'planted too'"), (1, "x'80049500'")):
        change_row(
            tmp_path,
            "INSERT INTO Cache (key, raw, store_time, access_time, size, mode, filename, value) VALUES"
            f" ({key}, {0 if key.startswith('x') else 1}, 0, 0, 5, {mode}, NULL, ?)",
            pickled,
        )
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    change_row(
        tmp_path, "INSERT INTO Cache (key, raw, size, mode, filename) VALUES ('file', 1, 5, 2, '../victim')"
    )
    store = await started(tmp_path)
    assert [s.key for s in store.scan(None, 10)] == ["good"]
    for key in ("planted", "planted too", "file"):
        assert store.get(key) is None
        await fill(store, key, b"now ours")
    await store.close()
    assert not proof.exists()
    assert victim.read_bytes() == b"mine"


def change_row(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path / "index" / "cache.db") as connection:
        connection.execute(statement, values)
    connection.close()


async def test_a_row_that_fits_its_checksum_and_is_nonsense_leaves_when_it_is_looked_at(
    tmp_path: Path,
) -> None:
    store = await started(tmp_path)
    stored = await fill(store, "a", b"xx")
    assert isinstance(stored, rows.Entry)
    stored.packed = None
    stored.sums.append(7)
    store._shelf.index.put("a", rows.pack(stored))
    await store.close()
    seen = Remembering()
    store = await started(tmp_path, observer=seen)
    assert store.get("a") is None
    assert seen.counts["verified", "corrupt"] == 1
    await settled(store)
    assert files(tmp_path) == set()
    assert store.usage().complete == 0
    await store.close()


# Memory and descriptors


async def test_identity_holds_while_an_entry_is_held_though_it_has_cooled(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_WARM", 3)
    held = await fill(store, "held", content("held", 1500))
    store.touch(held, NOW + 1, hit=True)
    for n in range(10):
        await fill(store, f"k{n}", b"x")
    raw = store._shelf.table.raw("held")
    assert isinstance(raw, bytes), "it is packed by now"
    store.touch(held, NOW + 2, hit=True)
    assert store.get("held") is held
    for n in range(10):
        assert store.get(f"k{n}") is not None
    assert store.get("held") is held
    del held
    for n in range(10):
        assert store.get(f"k{n}") is not None
    again = store.get("held")
    assert again is not None
    assert (again.hits, again.last_used_at) == (2, NOW + 2)
    assert store.proven(again, 0, 1500), "this process wrote it"
    assert await read(store, again) == content("held", 1500)


async def test_a_cooled_entry_that_leaves_is_detached_for_who_holds_it(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_WARM", 1)
    held = await fill(store, "held", b"x")
    await fill(store, "other", b"x")
    assert isinstance(store._shelf.table.raw("held"), bytes)
    await store.remove(held)
    assert held.detached
    assert store.get("held") is None
    new = await fill(store, "held", b"new")
    store.touch(held, NOW, hit=True)
    assert store.get("held") is new


async def test_idle_descriptors_are_bounded_and_used_ones_stay_open(store: DiskStore) -> None:
    fds = store._shelf.fds
    fds._limit = 4
    stored = [await fill(store, f"k{n}", content(n, 100)) for n in range(10)]
    assert len(fds) <= 4
    blobs = [await store.open(s) for s in stored]
    assert len(fds) == 10
    for n, blob in enumerate(blobs):
        assert os.pread(blob.fd, 100, 0) == content(n, 100)
        blob.close()
    assert len(fds) <= 4


async def test_a_removed_response_with_many_opened_since_is_still_readable(store: DiskStore) -> None:
    store._shelf.fds._limit = 2
    held = await fill(store, "held", content("held", 500))
    store.retain(held)
    await store.remove(held)
    for n in range(6):
        await read(store, await fill(store, f"k{n}", content(n, 100)))
    assert await read(store, held) == content("held", 500)
    store.release(held)
    await settled(store)
    assert len(store._shelf.fds) <= 2


# The rest


async def test_a_renewed_representation_survives_a_restart(tmp_path: Path) -> None:
    store = await started(tmp_path)
    stored = await fill(store, "a", b"abc")
    await store.mark_stale(stored)
    said = described(3, etag='"two"', bucket="caf\udce9")
    await store.renew(stored, said)
    await store.close()
    store = await started(tmp_path)
    again = store.get("a")
    assert again is not None
    assert again.representation == said
    assert not again.stale_marked
    await store.close()


async def test_digest_is_taken_on_the_way_in_however_the_segments_came(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = await started(tmp_path, disk=disk)
    body = content("a", 5000)
    stored = await store.begin("a", "a", described(5000), NOW)
    await store.write(stored, 2000, body[2000:3000])
    for start in (0, 500, 1000):
        await store.write(stored, start, body[start : start + 500])
    await store.write(stored, 1500, body[1500:2000])
    await store.write(stored, 3000, body[3000:])
    reads = disk.calls.count("pread")
    assert reads == 1, "only the segment that came before its turn is read back"
    assert await store.digest(stored) == hashlib.sha256(body).digest()
    assert disk.calls.count("pread") == reads
    store.release(stored)
    await store.close()


async def test_idle_is_since_the_next_victim_was_used(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    store = await started(tmp_path, clock=clock)
    assert store.usage().idle == 0.0
    first = await fill(store, "a", b"x")
    await fill(store, "b", b"x", now=NOW + 1)
    clock.advance(100)
    assert store.usage().idle == 100
    store.touch(first, NOW + 90, hit=False)
    assert store.usage().idle == 99
    assert first.hits == 0
    assert store.usage().disk_free > 0
    await store.close()


async def test_an_observer_may_be_told_nothing_of_a_store_that_works(tmp_path: Path) -> None:
    seen = Remembering()
    store = await started(tmp_path, observer=seen)
    for n in range(5):
        await read(store, await fill(store, f"k{n}", content(n, 3000)))
    await store.close()
    store = await started(tmp_path, observer=seen)
    await store.close()
    assert not seen.counts


async def test_closing_twice_and_closing_what_never_started_is_harmless(tmp_path: Path) -> None:
    store = await started(tmp_path)
    await store.close()
    await store.close()
    await make(tmp_path / "other").close()


async def test_room_is_refused_while_what_is_on_disk_cannot_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.store.shelf._PATIENCE", 0.01)
    disk = FaultyDisk(only="names", lasting=True)
    store = make(tmp_path, disk=disk)
    await store.start()
    with pytest.raises((SpaceExhausted, DiskFailed)):
        await fill(store, "a", b"x")
    assert not store.healthy
    await store.close()


def test_a_store_of_another_process_is_not_taken(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from distributor.store.store import DiskStore\n"
        "async def main():\n"
        "    store = DiskStore(Path(sys.argv[1]), limit=1000, durability='none')\n"
        "    await store.start(); print('ready', flush=True); sys.stdin.read(); await store.close()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"

        async def second() -> None:
            with pytest.raises(StoreError, match=f"in use by process {child.pid}"):
                await make(tmp_path).start()

        asyncio.run(second())
        child.communicate(b"")
    assert child.returncode == 0
