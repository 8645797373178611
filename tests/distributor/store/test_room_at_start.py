"""Room in a store that is full when it starts, before it knows who could leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.errors import SpaceExhausted
from distributor.store import shelf
from distributor.store.index import Found
from distributor.store.store import DiskStore
from tests.support.stores import content, fill, read, recovered, until, within_limit


def make(path: Path) -> DiskStore:
    return DiskStore(path, limit=10_000, segment=1000, durability="none")


async def full_and_unread(path: Path) -> tuple[DiskStore, asyncio.Event]:
    """A store that is full at its start, and what lets it read the rows of those who could leave."""
    store = make(path)
    await store.start()
    await recovered(store)
    for n in range(10):
        await fill(store, f"k{n}", content(n, 1000))
    await store.close()
    store, let = make(path), asyncio.Event()
    pages = store._shelf.index.pages

    async def held() -> AsyncIterator[list[Found]]:
        await let.wait()
        async for page in pages():
            yield page

    store._shelf.index.pages = held  # type: ignore[method-assign]
    await store.start()
    return store, let


async def test_a_fill_waits_for_those_who_may_leave_to_be_read_at_a_start(tmp_path: Path) -> None:
    store, let = await full_and_unread(tmp_path)
    filling = asyncio.create_task(fill(store, "new", content("new", 5000)))
    await until(store._shelf._room.locked)
    let.set()
    assert await read(store, await filling) == content("new", 5000)
    await recovered(store)
    assert within_limit(store) and store.get("new") is not None
    await store.close()


async def test_a_fill_waits_no_longer_than_a_viewer_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "_PATIENCE", 0.05)
    store, let = await full_and_unread(tmp_path)
    with pytest.raises(SpaceExhausted):
        await fill(store, "new", content("new", 5000))
    let.set()
    await recovered(store)
    assert store.usage().complete == 10_000
    await store.close()
