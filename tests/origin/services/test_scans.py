"""Scans bring the catalog in line with the disk, and judge only bytes that were once seen."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from origin.app import Origin
from origin.catalog import files as file_rows
from origin.core.query import FileFilter
from origin.domain.model import Caller, File
from origin.domain.states import FileState, StorageState
from origin.errors import Forbidden, StorageOffline
from origin.services.storages import NewMethod
from tests.support.vidispine import running


class Scanned:
    def __init__(self, app: Origin, admin: Caller, root: Path) -> None:
        self.services = app.services
        self.admin = admin
        self.root = root

    async def scan(self) -> dict[str, File]:
        """Scan the storage media, wait for hashes, and return its Files by path."""
        await self.services.scans.scan(self.services.storages.known(1))
        await self.services.files.hasher.settle()
        return await self.files()

    async def files(self) -> dict[str, File]:
        wanted = FileFilter(storage_ids=("VX-1",))
        found = await self.services.files.listing(self.admin, wanted)
        return {file.path: file for file in found.entries}


@pytest_asyncio.fixture
async def scanned(tmp_path: Path) -> AsyncIterator[Scanned]:
    async with running(tmp_path) as (app, _):
        admin = await app.services.access.authenticate_password("admin", "secret")
        yield Scanned(app, admin, tmp_path / "media")


async def test_a_new_file_is_open_and_closed_once_it_rests(scanned: Scanned) -> None:
    (scanned.root / "sub").mkdir()
    (scanned.root / "sub/a b").write_bytes(b"found")
    file = (await scanned.scan())["sub/a b"]
    assert (file.state, file.size) == (FileState.OPEN, 5)
    file = (await scanned.scan())["sub/a b"]
    assert file.state is FileState.CLOSED
    assert file.sha1 == hashlib.sha1(b"found").hexdigest()


async def test_a_growing_file_stays_open(scanned: Scanned) -> None:
    (scanned.root / "a").write_bytes(b"1")
    await scanned.scan()
    (scanned.root / "a").write_bytes(b"12")
    file = (await scanned.scan())["a"]
    assert (file.state, file.size) == (FileState.OPEN, 2)


async def test_changed_bytes_are_taken_in_and_hashed(scanned: Scanned) -> None:
    (scanned.root / "a").write_bytes(b"1")
    for _ in range(2):
        await scanned.scan()
    (scanned.root / "a").write_bytes(b"other")
    file = (await scanned.scan())["a"]
    assert (file.state, file.size) == (FileState.CLOSED, 5)
    assert file.sha256 == hashlib.sha256(b"other").hexdigest()


async def test_bytes_that_are_gone_are_missing_then_lost_and_closed_when_they_return(
    scanned: Scanned,
) -> None:
    (scanned.root / "a").write_bytes(b"1")
    for _ in range(2):
        await scanned.scan()
    id_ = (await scanned.files())["a"].id
    (scanned.root / "a").rename(scanned.root.parent / "aside")
    states = [(await scanned.scan())["a"].state for _ in range(3)]
    assert states == [FileState.MISSING, FileState.LOST, FileState.LOST]
    (scanned.root.parent / "aside").rename(scanned.root / "a")
    file = (await scanned.scan())["a"]
    assert (file.id, file.state) == (id_, FileState.CLOSED)


@pytest.mark.parametrize("state", [FileState.OPEN, FileState.CLOSED, FileState.TO_APPEAR])
async def test_an_entity_without_bytes_keeps_the_state_its_client_gave_it(
    scanned: Scanned, state: FileState
) -> None:
    await scanned.services.files.create(scanned.admin, "VX-1", "later", state=state)
    for _ in range(2):
        assert (await scanned.scan())["later"].state is state


async def test_temporary_files_are_not_seen(scanned: Scanned) -> None:
    (scanned.root / ".part-0123").write_bytes(b"under way")
    assert await scanned.scan() == {}


async def test_a_storage_that_is_away_is_offline_and_its_files_are_not_judged(scanned: Scanned) -> None:
    (scanned.root / "a").write_bytes(b"1")
    for _ in range(2):
        await scanned.scan()
    scanned.root.rename(scanned.root.parent / "unmounted")
    with pytest.raises(StorageOffline):
        await scanned.scan()
    assert scanned.services.storages.known(1).state is StorageState.OFFLINE
    assert (await scanned.files())["a"].state is FileState.CLOSED
    (scanned.root.parent / "unmounted").rename(scanned.root)
    await scanned.scan()
    assert scanned.services.storages.known(1).state is StorageState.READY


async def test_a_storage_may_leave_new_files_alone(scanned: Scanned) -> None:
    await scanned.services.storages.update(scanned.admin, "VX-1", metadata={"autoDetect": "false"})
    (scanned.root / "a").write_bytes(b"1")
    assert await scanned.scan() == {}


async def test_a_rescan_is_for_administrators(scanned: Scanned) -> None:
    await scanned.services.access.create_user(scanned.admin, "walt", "writes", write=True)
    walt = await scanned.services.access.authenticate_password("walt", "writes")
    with pytest.raises(Forbidden):
        await scanned.services.scans.rescan(walt, "VX-1")


async def test_a_storage_made_over_rest_is_scanned_when_asked(scanned: Scanned, tmp_path: Path) -> None:
    method = NewMethod(f"file://{tmp_path}/extra")
    storage = await scanned.services.storages.create(scanned.admin, "extra", [method])
    (tmp_path / "extra/a").write_bytes(b"1")
    await scanned.services.scans.scan(storage)
    assert scanned.services.storages.known(storage.n).state is StorageState.READY
    assert scanned.services.storages.known(storage.n).scanned_ms is not None


async def test_what_changed_while_the_origin_was_down_is_noticed_at_its_start(tmp_path: Path) -> None:
    async with running(tmp_path) as (app, _):
        await app.services.scans.scan(app.services.storages.known(1))
    (tmp_path / "media" / "came").write_bytes(b"while it was down")
    async with running(tmp_path) as (_, client):
        async with asyncio.timeout(20):  # long before the interval is over
            while (await client("GET", "/API/storage/VX-1/file/path/came")).status == 404:
                await asyncio.sleep(0.05)
        assert (await client("GET", "/API/storage/VX-1/file/path/came")).json["size"] == 17


async def test_a_storage_without_scans_is_not_scanned_at_the_start_either(tmp_path: Path) -> None:
    async with running(tmp_path) as (app, client):
        await app.services.scans.scan(app.services.storages.known(1))
        body = b'{"scanInterval": -1}'
        headers = {"Content-Type": "application/json"}
        assert (await client("PUT", "/API/storage/VX-1", body=body, headers=headers)).status == 200
    async with running(tmp_path) as (app, _):
        assert 1 not in app.services.scans._wanted


async def test_what_was_changed_by_somebody_else_since_it_was_seen_stays_theirs(scanned: Scanned) -> None:
    for name in ("a", "b", "c"):
        (scanned.root / name).write_bytes(b"1")
    await scanned.scan()
    seen = await scanned.scan()
    database = scanned.services.files._database
    await scanned.services.files.set_state(scanned.admin, seen["b"].id, FileState.BEING_READ)
    changes = [(replace(file, state=FileState.MISSING, changed_ms=9), file) for file in seen.values()]
    async with database.write() as connection:
        taken = await file_rows.update_all_if(connection, changes)
        assert await file_rows.update_all_if(connection, changes) == []
    assert sorted(file.path for file in taken) == ["a", "c"]
    states = {path: file.state for path, file in (await scanned.files()).items()}
    assert states == {"a": FileState.MISSING, "b": FileState.BEING_READ, "c": FileState.MISSING}
