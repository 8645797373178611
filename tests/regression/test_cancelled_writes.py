"""A task cancelled amid a transaction once left SQLite's write lock behind: all later writes failed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest
import sqlalchemy as sa

from origin.catalog.database import Database


@pytest.mark.parametrize("seed", range(3))
async def test_a_cancelled_write_leaves_no_lock_and_nothing_of_itself(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    database = await Database.open(f"sqlite:///{tmp_path}/catalog.db")
    async with database.write() as connection:
        await connection.execute(sa.text("CREATE TABLE notes (n INTEGER PRIMARY KEY, text TEXT)"))

    async def write() -> None:
        async with database.write() as connection:
            for _ in range(4):
                await connection.execute(sa.text("INSERT INTO notes (text) VALUES ('lost') RETURNING n"))
                rows = await connection.stream(sa.text("SELECT * FROM notes"))
                async for _row in rows:
                    break  # the cursor stays open
            await asyncio.Event().wait()

    for number in range(40):
        task = asyncio.create_task(write())
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5), database.write() as connection:
            await connection.execute(sa.text("INSERT INTO notes (text) VALUES ('kept')"))
            found = (await connection.execute(sa.text("SELECT text FROM notes"))).scalars().all()
        assert found == ["kept"] * (number + 1)
    await database.close()
