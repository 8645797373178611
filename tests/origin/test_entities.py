"""Entities without bytes, states, moved paths, and uploads in chunks."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.domain.states import FileState
from origin.errors import AlreadyExists, Conflict, IncompleteBody, Invalid, NotFound
from origin.services.transfers import KEPT_MS, merge
from tests.support.origin_service import Service, running_origin


async def one(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_entity_needs_no_bytes_and_reading_it_is_404(service: Service) -> None:
    file = await service.services.files.create(await service.admin(), "VX-1", "/a//b/../c")
    assert (file.path, file.state, file.size, file.sha1) == ("a/c", FileState.OPEN, -1, None)
    assert service.on_disk() == {}
    assert (await service("GET", f"/content/{file.id}")).status == 404


async def test_entity_takes_in_bytes_that_are_there(service: Service) -> None:
    (service.folder / "media" / "a").write_bytes(b"here")
    files = service.services.files
    file = await files.create(await service.admin(), "VX-1", "a", state=FileState.CLOSED)
    assert file.size == 4
    await files.hasher.settle()
    assert (await service.file("a")).sha256 == hashlib.sha256(b"here").hexdigest()


async def test_taken_path_is_refused_or_its_state_updated(service: Service) -> None:
    admin, files = await service.admin(), service.services.files
    first = await files.create(admin, "VX-1", "a", state=FileState.TO_APPEAR)
    with pytest.raises(AlreadyExists) as caught:
        await files.create(admin, "VX-1", "a")
    assert (caught.value.storage_id, caught.value.file_id, caught.value.path) == ("VX-1", first.id, "a")
    again = await files.create(admin, "VX-1", "a", state=FileState.UNKNOWN, create_only=False)
    assert (again.n, again.state) == (first.n, FileState.UNKNOWN)


@pytest.mark.parametrize("path", ["..", "a/../..", "", "/", "a\0b", "x" * 256, "a/" * 2100 + "b", "\ud800"])
async def test_path_that_cannot_be_made_is_invalid(service: Service, path: str) -> None:
    admin = await service.admin()
    with pytest.raises(Invalid):
        await service.services.files.create(admin, "VX-1", path)
    with pytest.raises(Invalid):
        await service.services.files.upload(admin, "VX-1", path, one(b"x"))
    assert service.on_disk() == {}


async def test_entities_that_no_folder_could_hold_exist_together(service: Service) -> None:
    admin, files = await service.admin(), service.services.files
    for path in ("foo", "foo/bar", "foo/bar/baz"):
        await files.create(admin, "VX-1", path)
    assert (await service("GET", "/admin/v1/files")).json["hits"] == 3


async def test_closing_looks_at_the_bytes(service: Service) -> None:
    admin, files = await service.admin(), service.services.files
    file = await files.create(admin, "VX-1", "a")
    (service.folder / "media" / "a").write_bytes(b"grown")
    closed = await files.set_state(admin, file.id, FileState.CLOSED)
    assert (closed.state, closed.size) == (FileState.CLOSED, 5)
    await files.hasher.settle()
    assert (await service.file("a")).sha1 == hashlib.sha1(b"grown").hexdigest()


async def test_filling_an_entity_closes_it_and_keeps_its_id(service: Service) -> None:
    file = await service.services.files.create(await service.admin(), "VX-1", "a")
    reply = await service("PUT", f"/content/{file.id}", body=b"filled")
    assert (reply.json["id"], reply.json["state"]) == (file.id, "CLOSED")
    assert service.on_disk() == {"a": b"filled"}


async def test_archived_file_is_a_conflict_and_lost_one_is_read_when_its_bytes_are_back(
    service: Service,
) -> None:
    admin, files = await service.admin(), service.services.files
    await service.put("media/a", b"x")
    file = await service.file("a")
    await files.set_state(admin, file.id, FileState.ARCHIVED)
    assert (await service("GET", "/content/media/a")).status == 409
    await files.set_state(admin, file.id, FileState.LOST)
    assert (await service("GET", "/content/media/a")).body == b"x"


async def test_forgotten_entity_leaves_its_bytes(service: Service) -> None:
    await service.put("media/a", b"x")
    file = await service.file("a")
    await service.services.files.forget(await service.admin(), file.id)
    assert service.on_disk() == {"a": b"x"}
    with pytest.raises(NotFound):
        await service.file("a")


async def test_moved_path_is_a_new_file_with_the_old_ones_hashes_to_come(service: Service) -> None:
    admin, files = await service.admin(), service.services.files
    await service.put("media/a", b"bytes")
    old = await service.file("a")
    os.rename(service.folder / "media" / "a", service.folder / "media" / "b")
    new = await files.set_path(admin, old.id, "b")
    assert (new.n != old.n, new.path, new.state) == (True, "b", FileState.CLOSED)
    with pytest.raises(NotFound):
        await files.get(admin, old.id)
    await files.hasher.settle()
    assert (await service("GET", "/content/media/b")).body == b"bytes"
    assert (await service.file("b")).sha256 == old.sha256


async def test_duplicate_keeps_the_old_entity_and_taken_target_is_used(service: Service) -> None:
    admin, files = await service.admin(), service.services.files
    first = await files.create(admin, "VX-1", "a")
    there = await files.create(admin, "VX-2", "b")
    found = await files.set_path(admin, first.id, "b", storage_id="VX-2", duplicate=True)
    assert found.n == there.n
    assert (await files.get(admin, first.id)).path == "a"


async def test_path_on_several_storages_is_a_conflict_without_a_storage(service: Service) -> None:
    admin, files = await service.admin(), service.services.files
    await files.create(admin, "VX-1", "a")
    only = await files.create(admin, "VX-2", "b")
    await files.create(admin, "VX-2", "a")
    with pytest.raises(Conflict):
        await files.find(admin, "a")
    assert await files.find(admin, "/b/") == only


class TestTransfers:
    async def put(
        self, service: Service, index: int, body: bytes, *, size: int = 13, name: str = "t1"
    ) -> object:
        return await service.services.transfers.put(
            await service.admin(),
            name,
            "VX-1",
            "c.txt",
            one(body),
            index=index,
            size=size,
            declared_length=len(body),
        )

    async def test_chunks_in_any_order_make_the_file(self, service: Service) -> None:
        assert await self.put(service, 7, b"files\n") is None
        assert "c.txt" not in service.on_disk()
        assert await self.put(service, 7, b"files\n") is None
        file = await self.put(service, 0, b"hello, ")
        assert file == await service.file("c.txt")
        assert service.on_disk() == {"c.txt": b"hello, files\n"}
        assert (await service.file("c.txt")).sha256 == hashlib.sha256(b"hello, files\n").hexdigest()

    async def test_chunk_repeated_after_the_end_gives_the_file_again(self, service: Service) -> None:
        file = await self.put(service, 0, b"hello, files\n")
        assert await self.put(service, 7, b"files\n") == file
        assert service.on_disk() == {"c.txt": b"hello, files\n"}

    async def test_torn_chunk_leaves_no_mark(self, service: Service) -> None:
        with pytest.raises(IncompleteBody):
            await service.services.transfers.put(
                await service.admin(), "t1", "VX-1", "c.txt", one(b"hel"), index=0, size=13, declared_length=7
            )
        assert await self.put(service, 7, b"files\n") is None
        assert await self.put(service, 0, b"hello, ") is not None

    @pytest.mark.parametrize(("index", "body", "size"), [(0, b"x", 12), (13, b"x", 13), (12, b"xy", 13)])
    async def test_chunk_that_does_not_fit_is_invalid(
        self, service: Service, index: int, body: bytes, size: int
    ) -> None:
        await self.put(service, 0, b"h")
        with pytest.raises(Invalid):
            await self.put(service, index, body, size=size)

    async def test_parallel_chunks_make_the_file_once(self, service: Service) -> None:
        body = os.urandom(1_000_000)
        step = 50_000
        found = await asyncio.gather(
            *(
                self.put(service, index, body[index : index + step], size=len(body))
                for index in range(0, len(body), step)
            )
        )
        files = [file for file in found if file is not None]
        assert files
        assert service.on_disk() == {"c.txt": body}
        assert all(file == files[0] for file in files)

    async def test_transfer_survives_a_restart(self, tmp_path: Path) -> None:
        async with running_origin(tmp_path) as service:
            assert await self.put(service, 0, b"hello, ") is None
        async with running_origin(tmp_path) as service:
            assert await self.put(service, 7, b"files\n") is not None
            assert service.on_disk() == {"c.txt": b"hello, files\n"}

    async def test_transfer_without_a_chunk_for_a_day_is_dropped(self, tmp_path: Path) -> None:
        class Clock:
            ms = 10**12

            def now_ms(self) -> int:
                return self.ms

        clock = Clock()
        async with running_origin(tmp_path, clock=clock, jobs={"runners": 0}) as service:
            await self.put(service, 0, b"hello, ")
            clock.ms += KEPT_MS - 1
            assert await service.services.transfers.expire() == 0
            clock.ms += 1
            assert await service.services.transfers.expire() == 1
            assert service.on_disk() == {}

    async def test_empty_file_is_one_empty_chunk(self, service: Service) -> None:
        assert await self.put(service, 0, b"", size=0) is not None
        assert service.on_disk() == {"c.txt": b""}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20))
def test_merged_ranges_hold_the_same_bytes_and_none_touch(ranges: list[tuple[int, int]]) -> None:
    merged = merge(ranges)
    assert {b for first, last in ranges for b in range(first, last)} == {
        b for first, last in merged for b in range(first, last)
    }
    assert all(left[1] < right[0] for left, right in itertools.pairwise(merged))


async def test_row_is_read_once_until_anything_is_written(service: Service) -> None:
    await service.put("media/a", b"x")
    first = await service.file("a")
    assert await service.file("a") is first
    await service.services.files.create(await service.admin(), "VX-2", "elsewhere")
    again = await service.file("a")
    assert (again is not first, again == first) == (True, True)
