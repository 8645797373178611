"""What every Store does, whatever it is made of: `ports.Store`, told as facts.

A new store: one more line in MAKERS.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from distributor.errors import BlobDamaged, SpaceExhausted, TooLarge
from distributor.ports import Store
from distributor.store.store import DiskStore
from tests.support.stores import NOW, begin, content, described, fill, read, recovered, settled, within_limit

LIMIT = 10_000
SEGMENT = 1000
MAKERS: dict[str, Callable[..., Store]] = {
    "disk, lru": lambda path, **more: DiskStore(path, eviction="lru", durability="none", **more),
    "disk, s3-fifo": lambda path, **more: DiskStore(path, eviction="s3-fifo", durability="none", **more),
    "disk, fsync": lambda path, **more: DiskStore(path, eviction="lru", durability="fsync", **more),
}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Store]:
    def made(**more: Any) -> Store:
        settings = {"limit": LIMIT, "segment": SEGMENT, **more}
        store: Store = request.param(tmp_path / "edge", **settings)
        return store

    return made


@pytest.fixture
async def store(make: Callable[..., Store]) -> AsyncIterator[Store]:
    store = make()
    await store.start()
    await recovered(store)
    yield store
    await settled(store)
    assert within_limit(store)
    await store.close()


@pytest.mark.parametrize("length", [0, 1, 999, 1000, 1001, 5500])
@pytest.mark.parametrize("known", [True, False], ids=["length known", "length unknown"])
async def test_what_is_stored_is_read_back(store: Store, length: int, known: bool) -> None:
    body = content("a", length)
    stored = await fill(store, "a", body, piece=700, known=known)
    assert stored.complete
    assert stored.sha256 == hashlib.sha256(body).digest()
    assert (stored.length, stored.representation.length) == (length, length)
    assert store.get("a") is stored
    assert await read(store, stored) == body
    usage = store.usage()
    assert (usage.complete, usage.partial, usage.reserved) == (length, 0, 0)
    assert (usage.complete_objects, usage.partial_objects) == (1, 0)


async def test_segments_may_come_in_any_order_and_bytes_are_readable_at_once(store: Store) -> None:
    body = content("a", 4500)
    stored = await begin(store, "a", "a", described(4500), NOW)
    for index in (3, 0, 4, 2, 1):
        part = body[index * SEGMENT : (index + 1) * SEGMENT]
        await store.write(stored, index * SEGMENT, part[:300])
        await store.write(stored, index * SEGMENT + 300, part[300:])
        assert await read(store, stored, index * SEGMENT, index * SEGMENT + len(part)) == part
    digest = await store.digest(stored)
    assert digest == hashlib.sha256(body).digest()
    await store.commit(stored, digest, NOW)
    store.release(stored)
    assert await read(store, stored) == body


async def test_several_writers_fill_segments_of_their_own_at_once(store: Store) -> None:
    body = content("a", 6000)
    stored = await begin(store, "a", "a", described(6000), NOW)

    async def writer(first: int) -> None:
        for position in range(first, first + 2000, 250):
            await store.write(stored, position, body[position : position + 250])

    await asyncio.gather(writer(0), writer(2000), writer(4000))
    assert await store.digest(stored) == hashlib.sha256(body).digest()
    assert await read(store, stored) == body
    store.release(stored)


async def test_bytes_that_leave_a_gap_in_a_segment_are_refused(store: Store) -> None:
    stored = await begin(store, "a", "a", described(3000), NOW)
    for position, data in [(1, b"x"), (1001, b"x"), (2999, b"xx")]:
        with pytest.raises(ValueError):
            await store.write(stored, position, data)
    assert stored.segments.present == 0
    store.release(stored)


async def test_bytes_beyond_what_was_reserved_are_refused(store: Store) -> None:
    stored = await begin(store, "a", "a", described(None), NOW)
    await store.write(stored, 0, bytes(SEGMENT))
    with pytest.raises(SpaceExhausted):
        await store.write(stored, SEGMENT, b"x")
    await store.reserve(stored, 1)
    await store.write(stored, SEGMENT, b"x")
    assert stored.segments.present == SEGMENT + 1
    store.release(stored)


async def test_what_was_reserved_and_not_written_goes_back_with_the_fetch(store: Store) -> None:
    stored = await begin(store, "a", "a", described(5000), NOW)
    assert store.usage().reserved == 5000
    await store.write(stored, 0, bytes(1500))
    assert (store.usage().partial, store.usage().reserved) == (1500, 3500)
    store.release(stored)
    assert (store.usage().partial, store.usage().reserved) == (1500, 0)


async def test_reserving_each_part_of_a_known_length_takes_no_more_than_the_whole(store: Store) -> None:
    stored = await begin(store, "a", "a", described(9000), NOW)
    await store.reserve(stored, 3000)
    assert store.usage().reserved == 9000
    store.release(stored)


async def test_a_fetch_that_ends_before_its_first_byte_leaves_nothing(store: Store) -> None:
    stored = await begin(store, "a", "a", described(5000), NOW)
    store.release(stored)
    await settled(store)
    assert store.get("a") is None
    assert store.usage().partial_objects == 0


async def test_a_full_store_gives_room_by_evicting(store: Store) -> None:
    for n in range(15):
        await fill(store, f"k{n}", content(n, 1000))
        assert within_limit(store)
    kept = [n for n in range(15) if store.get(f"k{n}")]
    assert len(kept) == 10
    for n in kept:
        stored = store.get(f"k{n}")
        assert stored is not None
        assert await read(store, stored) == content(n, 1000)


async def test_larger_than_the_store_is_refused_and_evicts_nothing(store: Store) -> None:
    await fill(store, "a", content("a", 1000))
    with pytest.raises(TooLarge):
        await begin(store, "b", "b", described(LIMIT + 1), NOW)
    stored = await begin(store, "c", "c", described(None), NOW)
    with pytest.raises(TooLarge):
        await store.reserve(stored, LIMIT)
    store.release(stored)
    assert store.get("a") is not None


async def test_larger_than_the_largest_object_is_refused(make: Callable[..., Store]) -> None:
    store = make(max_object=500)
    await store.start()
    with pytest.raises(TooLarge):
        await begin(store, "a", "a", described(501), NOW)
    await fill(store, "b", content("b", 500))
    await store.close()


async def test_what_is_pinned_is_not_evicted_and_nothing_leaves_in_vain(store: Store) -> None:
    pinned = [await fill(store, f"p{n}", content(n, 1000)) for n in range(5)]
    for stored in pinned:
        store.retain(stored)
    await fill(store, "free", content("free", 1000))
    with pytest.raises(SpaceExhausted):
        await begin(store, "big", "big", described(6000), NOW)
    assert store.get("free") is not None
    await fill(store, "fits", content("fits", 900))
    for stored in pinned:
        assert store.get(stored.key) is stored
        store.release(stored)


async def test_who_has_it_open_reads_to_the_end_though_it_is_removed(store: Store) -> None:
    body = content("a", 5000)
    stored = await fill(store, "a", body)
    blob = await store.open(stored)
    assert await store.remove(stored) == 5000
    assert store.get("a") is None
    assert stored.detached
    assert os.pread(blob.fd, 5000, 0) == body
    assert store.usage().complete == 5000, "its bytes are still on the disk"
    blob.close()
    blob.close()
    await settled(store)
    assert store.usage().complete == 0
    with pytest.raises(BlobDamaged):
        await store.open(stored)
    assert await store.remove(stored) == 0


async def test_who_pinned_it_can_open_it_after_it_was_removed(store: Store) -> None:
    body = content("a", 5000)
    stored = await fill(store, "a", body)
    store.retain(stored)
    await store.remove(stored)
    assert await read(store, stored) == body
    store.release(stored)
    await settled(store)
    assert store.usage().complete == 0


async def test_a_fetch_goes_on_when_its_response_is_removed_and_nothing_is_kept(store: Store) -> None:
    body = content("a", 5000)
    stored = await begin(store, "a", "a", described(5000), NOW)
    await store.write(stored, 0, body[:2500])
    await store.remove(stored)
    await store.write(stored, 2500, body[2500:])
    assert await read(store, stored) == body
    digest = await store.digest(stored)
    await store.checkpoint(stored)
    await store.commit(stored, digest, NOW)
    store.release(stored)
    await settled(store)
    assert store.get("a") is None
    usage = store.usage()
    assert (usage.complete, usage.partial, usage.reserved) == (0, 0, 0)
    assert (usage.complete_objects, usage.partial_objects) == (0, 0)


async def test_a_new_version_takes_the_place_of_the_old_whose_readers_finish(store: Store) -> None:
    old_body, new_body = content("old", 4000), content("new", 3000)
    old = await fill(store, "a", old_body)
    blob = await store.open(old)
    new = await fill(store, "a", new_body)
    assert store.get("a") is new
    assert old.detached
    assert os.pread(blob.fd, 4000, 0) == old_body
    assert store.usage().complete == 7000
    blob.close()
    await settled(store)
    assert store.usage().complete == 3000
    assert await read(store, new) == new_body


async def test_a_new_version_may_take_the_room_of_the_old(store: Store) -> None:
    await fill(store, "other", content("other", 900))
    await fill(store, "a", content("old", 8000))
    new = await fill(store, "a", content("new", 9000))
    assert store.get("other") is not None, "the old version leaves first"
    assert await read(store, new) == content("new", 9000)


async def test_cancelling_a_begin_leaves_nothing_reserved(store: Store) -> None:
    for turns in range(12):
        begun = asyncio.create_task(begin(store, "a", "a", described(5000), NOW))
        for _ in range(turns):
            await asyncio.sleep(0)
        begun.cancel()
        try:
            stored = await begun
        except asyncio.CancelledError:
            pass
        else:
            store.release(stored)
        await settled(store)
        assert store.usage().reserved == 0
        assert store.get("a") is None


async def test_cancelling_a_write_leaves_the_map_true(store: Store) -> None:
    body = content("a", 9000)
    stored = await begin(store, "a", "a", described(9000), NOW)
    for turn in range(9):
        write = asyncio.create_task(store.write(stored, turn * 1000, body[turn * 1000 : (turn + 1) * 1000]))
        for _ in range(turn):
            await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait([write])
        await settled(store)
        present = stored.segments.filled(turn)
        assert present in (0, 1000)
        if not present:
            await store.write(stored, turn * 1000, body[turn * 1000 : (turn + 1) * 1000])
    assert await read(store, stored) == body
    assert await store.digest(stored) == hashlib.sha256(body).digest()
    store.release(stored)


async def test_all_is_there_after_a_restart(make: Callable[..., Store]) -> None:
    store = make()
    await store.start()
    whole = await fill(store, "whole", content("whole", 2500), now=NOW)
    store.touch(whole, NOW + 5, hit=True)
    await store.mark_stale(whole)
    query = await begin(store, "a?x=1", "a", described(10), NOW, query="x=1", variant=None)
    await store.write(query, 0, bytes(10))
    await store.commit(query, await store.digest(query), NOW)
    store.release(query)
    partial = await begin(store, "partial", "partial", described(4000, bucket="news"), NOW)
    await store.write(partial, 2000, content("partial", 4000)[2000:3500])
    await store.checkpoint(partial)
    store.release(partial)
    before = store.usage()
    await store.close()

    store = make()
    await store.start()
    found = await store.find("whole")
    assert found is not None
    assert found.complete and found.stale_marked
    assert (found.hits, found.last_used_at, found.created_at) == (1, NOW + 5, NOW)
    assert found.sha256 == hashlib.sha256(content("whole", 2500)).digest()
    assert found.representation == described(2500)
    assert await read(store, found) == content("whole", 2500)
    await recovered(store)
    assert store.usage()[:6] == before[:6]
    again = store.get("a?x=1")
    assert again is not None
    assert (again.asset_id, again.query, again.variant) == ("a", "x=1", None)
    resumed = store.get("partial")
    assert resumed is not None
    assert resumed.representation.bucket == "news"
    assert list(resumed.segments.prefixes()) == [(2, 1000), (3, 500)]
    body = content("partial", 4000)
    store.retain(resumed)
    await store.reserve(resumed, 2500)
    await store.write(resumed, 3500, body[3500:])
    await store.write(resumed, 0, body[:2000])
    assert await read(store, resumed) == body
    digest = await store.digest(resumed)
    assert digest == hashlib.sha256(body).digest()
    await store.commit(resumed, digest, NOW)
    store.release(resumed)
    await store.close()


async def test_a_renewed_response_keeps_its_bytes_and_is_no_longer_marked_stale(store: Store) -> None:
    stored = await fill(store, "a", content("a", 100))
    await store.mark_stale(stored)
    assert stored.stale_marked
    await store.renew(stored, described(None, etag='"two"'))
    assert not stored.stale_marked
    assert (stored.representation.etag, stored.representation.length) == ('"two"', 100)
    assert await read(store, stored) == content("a", 100)


async def test_scan_lists_by_key_what_comes_after(store: Store) -> None:
    for key in ("b", "a/2", "c", "a", "a/10"):
        await fill(store, key, b"x")
    assert [s.key for s in store.scan(None, 10)] == ["a", "a/10", "a/2", "b", "c"]
    assert [s.key for s in store.scan(None, 2)] == ["a", "a/10"]
    assert [s.key for s in store.scan("a/10", 2)] == ["a/2", "b"]
    assert store.scan("c", 2) == []


async def test_variants_are_all_of_one_asset_and_of_no_other(store: Store) -> None:
    for key, asset in [("a", "a"), ("a?x=1", "a"), ("a\nv1", "a"), ("a?x=1\nv1", "a"), ("ab", "ab")]:
        stored = await begin(store, key, asset, described(1), NOW)
        await store.write(stored, 0, b"x")
        store.release(stored)
    assert {s.key for s in store.variants("a")} == {"a", "a?x=1", "a\nv1", "a?x=1\nv1"}
    assert [s.key for s in store.variants("ab")] == ["ab"]
    assert store.variants("none") == []
    assert {s.key for s in store.alike("a")} == {"a", "a\nv1"}
    assert {s.key for s in store.alike("a?x=1")} == {"a?x=1", "a?x=1\nv1"}
    assert store.alike("none") == []
    await settled(store)


async def test_two_look_ups_give_the_same_object_while_somebody_holds_it(store: Store) -> None:
    stored = await fill(store, "a", b"x")
    again = await store.find("a")
    assert again is stored


async def test_room_is_given_by_the_length_that_a_body_had_in_the_end(store: Store) -> None:
    stored = await begin(store, "a", "a", described(None), NOW, reserve=5000)
    await store.write(stored, 0, bytes(1200))
    await store.finish_length(stored, 1200)
    assert (store.usage().partial, store.usage().reserved) == (1200, 0)
    assert stored.segments.complete
    store.release(stored)
