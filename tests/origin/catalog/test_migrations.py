"""A catalog of any earlier form is brought up to date, with what it holds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from origin.catalog import storages as storage_rows
from origin.catalog.database import Database
from origin.catalog.migrations import VERSION
from origin.errors import Unavailable
from tests.support.origin_service import running_origin


async def test_a_catalog_of_the_first_version_is_read_and_then_of_the_present_one(tmp_path: Path) -> None:
    async with running_origin(tmp_path) as service:
        assert (await service.put("media/a.bin", b"kept")).status == 201
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("ALTER TABLE tokens DROP COLUMN refresh_ms")
        connection.execute("ALTER TABLE methods DROP COLUMN metadata")
        connection.execute("UPDATE schema SET version = 1")
    connection.close()
    async with running_origin(tmp_path) as service:
        assert (await service("GET", "/content/media/a.bin")).body == b"kept"
        token = await service("GET", "/API/token?autoRefresh=true", headers={"Accept": "text/plain"})
        fields = {"Authorization": f"token {token.body.decode().strip()}"}
        assert (await service("GET", "/API/storage", headers=fields, user=None)).status == 200
    database = await Database.open(f"sqlite:///{tmp_path}/catalog.db")
    async with database.read() as reading:
        found = await storage_rows.everything(reading)
        version = (await reading.exec_driver_sql("SELECT version FROM schema")).scalar_one()
    await database.close()
    assert [dict(method.metadata) for storage in found for method in storage.methods] == [{}, {}, {}]
    assert version == VERSION


async def test_a_catalog_of_a_later_program_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await (await Database.open(url)).close()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("UPDATE schema SET version = version + 1")
    connection.close()
    with pytest.raises(Unavailable, match="this program knows"):
        await Database.open(url)
