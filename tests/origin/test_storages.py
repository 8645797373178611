"""Storages: names, places, how full they are, and going."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from origin.domain.states import StorageState, StorageType
from origin.errors import Conflict, Forbidden, Invalid, NotFound
from origin.services.storages import NewMethod
from tests.support.origin_service import Service, running_origin


@pytest.mark.parametrize(
    "name",
    [
        "list",
        "auth",
        "user",
        "workers",
        "catalog",
        "docs",
        "v1",
        "v22",
        ".",
        "..",
        "",
        "a\nb",
        " a",
        "x" * 256,
    ],
)
async def test_forbidden_names_are_refused(service: Service, name: str) -> None:
    with pytest.raises(Invalid):
        await service.services.storages.create(await service.admin(), name)


async def test_name_of_anothers_id_is_refused(service: Service) -> None:
    with pytest.raises(Invalid):
        await service.services.storages.create(await service.admin(), "VX-1")


async def test_taken_name_is_a_conflict(service: Service) -> None:
    with pytest.raises(Conflict):
        await service.services.storages.create(await service.admin(), "media")


async def test_bucket_is_the_name_where_urls_can_bear_it_else_the_id(service: Service) -> None:
    storages, admin = service.services.storages, await service.admin()
    plain = await storages.create(admin, "Films.2-x_y")
    other = await storages.create(admin, "nodeum/video pool")
    assert plain.bucket == "Films.2-x_y"
    assert other.bucket == other.id
    for storage in (plain, other):
        assert (await service.put(f"{storage.bucket}/a", b"x")).status == 201
        reply = await service("GET", f"/content/{storage.bucket}/a")
        assert reply.headers["X-Distribution-Bucket"] == storage.bucket


async def test_storage_without_a_place_gets_one_below_the_first_root(service: Service) -> None:
    storage = await service.services.storages.create(await service.admin(), None)
    assert storage.name == storage.id
    assert storage.methods[0].uri == f"file://{service.folder}/roots/storages/{storage.n}/"
    assert (service.folder / "roots" / "storages" / str(storage.n)).is_dir()


@pytest.mark.parametrize("place", ["/tmp/elsewhere", "{}/roots/../outside", "{}/roots/link/x", "{}/rootsx"])
async def test_place_outside_the_roots_is_forbidden(service: Service, place: str) -> None:
    (service.folder / "roots").mkdir()
    os.symlink(service.folder, service.folder / "roots" / "link")
    uri = "file:" + place.format(service.folder)
    with pytest.raises(Forbidden):
        await service.services.storages.create(await service.admin(), "x", [NewMethod(uri)])


@pytest.mark.parametrize("place", ["roots/a", "roots/a/b", "roots"])
async def test_place_equal_inside_or_around_anothers_is_a_conflict(service: Service, place: str) -> None:
    storages, admin = service.services.storages, await service.admin()
    await storages.create(admin, "first", [NewMethod(f"file:{service.folder}/roots/a")])
    with pytest.raises(Conflict):
        await storages.create(admin, "second", [NewMethod(f"file:{service.folder}/{place}")])


async def test_only_administrators_change_storages(service: Service) -> None:
    access, admin = service.services.access, await service.admin()
    await access.create_user(admin, "joe", "pw", write=True)
    joe = await access.authenticate_password("joe", "pw")
    storages = service.services.storages
    with pytest.raises(Forbidden):
        await storages.create(joe, "x")
    with pytest.raises(Forbidden):
        await storages.update(joe, "VX-1", name="y")
    with pytest.raises(Forbidden):
        await storages.delete(joe, "VX-1")


async def test_deleting_keeps_the_bytes_and_drops_the_files(service: Service) -> None:
    storages, admin = service.services.storages, await service.admin()
    await service.put("media/a", b"x")
    with pytest.raises(Conflict):
        await storages.delete(admin, "VX-1", only_if_empty=True)
    await storages.delete(admin, "VX-1")
    assert service.on_disk() == {"a": b"x"}
    with pytest.raises(NotFound):
        await storages.get(admin, "VX-1")
    assert (await service("GET", "/content/media/a")).status == 404
    assert (await service("GET", "/admin/v1/files")).json["hits"] == 0


async def test_usage_counts_files_and_bytes(service: Service) -> None:
    storages, admin = service.services.storages, await service.admin()
    await service.put("media/a", b"x" * 10)
    await service.put("media/b", b"x" * 5)
    await service.services.files.create(admin, "VX-1", "entity")
    usage = await storages.usage(["VX-1", "VX-2"])
    assert (usage["VX-1"].files, usage["VX-1"].bytes) == (3, 15)
    assert (usage["VX-2"].files, usage["VX-2"].bytes) == (0, 0)


async def test_capacity_bounds_uploads(service: Service) -> None:
    storages, admin = service.services.storages, await service.admin()
    storage = await storages.create(admin, "small", capacity=10)
    assert (await service.put("small/a", b"x" * 8)).status == 201
    assert await storages.free(storage) == 2
    assert (await service.put("small/b", b"x" * 3)).status == 507
    assert (await service.put("small/b", b"x" * 2)).status == 201


@pytest.mark.parametrize(
    "change", [{"state": StorageState.DISABLED}, {"type": StorageType.SHARED}], ids=["disabled", "shared"]
)
async def test_storage_that_is_not_writable_refuses_writes_with_409(
    service: Service, change: dict[str, object]
) -> None:
    await service.put("media/a", b"x")
    await service.services.storages.update(await service.admin(), "VX-1", **change)  # type: ignore[arg-type]
    assert (await service.put("media/b", b"x")).status == 409
    assert (await service("DELETE", "/content/media/a")).status == 409
    assert (await service("GET", "/content/media/a")).body == b"x"


async def test_storage_that_cannot_be_reached_is_503_and_the_others_work(tmp_path: Path) -> None:
    async with running_origin(tmp_path) as service:
        await service.put("media/a", b"x")
    (tmp_path / "media").rename(tmp_path / "unplugged")
    (tmp_path / "media").write_bytes(b"in the way")
    async with running_origin(tmp_path) as service:
        storage = service.services.storages.known(1)
        assert storage.state is StorageState.OFFLINE
        reply = await service("GET", "/content/media/a")
        assert (reply.status, "Retry-After" in reply.headers) == (503, True)
        assert (await service.put("archive/a", b"x")).status == 201


async def test_roomiest_is_the_storage_with_most_free_capacity(service: Service) -> None:
    storages, admin = service.services.storages, await service.admin()
    for id, capacity in (("VX-1", 100), ("VX-2", 300), ("VX-3", 200)):
        await storages.update(admin, id, capacity=capacity)
    assert (await storages.roomiest(admin)).id == "VX-2"
    await service.put("archive/a", b"x" * 150)
    assert (await storages.roomiest(admin)).id == "VX-3"
