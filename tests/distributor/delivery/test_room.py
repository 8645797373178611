"""What a fetch has reserved against what its runs still bring."""

from __future__ import annotations

import asyncio

import pytest

from distributor.core.model import Representation
from distributor.delivery.room import Room
from distributor.delivery.run import Run
from distributor.errors import SpaceExhausted
from distributor.http.freshness import Policy
from tests.support.memory_store import MemoryStore

SIZE = 10


async def made(length: int | None, granted: int, limit: int = 1000) -> tuple[MemoryStore, Room]:
    store = MemoryStore(limit=limit, max_object=1000, segment=SIZE)
    representation = Representation(length=length, policy=Policy())
    stored = await store.begin("a", "a", representation, 0.0, reserve=granted)
    return store, Room(store, stored, granted)


async def test_what_is_granted_is_not_asked_for_again() -> None:
    store, room = await made(90, 90)
    await room.ensure([Run(0, 90)])
    assert (store.usage().reserved, store.calls.get("reserve")) == (90, None)
    await store.close()


async def test_stretches_are_reserved_once_however_many_runs_ask_at_once() -> None:
    store, room = await made(90, 0)
    runs = {Run(0, 20), Run(50, 70)}
    await asyncio.gather(*(room.ensure(runs) for _ in range(4)))
    assert store.usage().reserved == 40
    await store.close()


async def test_nobody_goes_on_before_the_room_is_there() -> None:
    store, room = await made(90, 0)
    runs = {Run(0, 20), Run(50, 70)}
    seen = []

    async def one() -> None:
        await room.ensure(runs)
        seen.append(store.usage().reserved)

    await asyncio.gather(one(), one(), one())
    assert seen == [40, 40, 40]
    await store.close()


async def test_room_that_is_not_to_be_had_is_asked_for_again_later() -> None:
    store, room = await made(90, 0, limit=30)
    with pytest.raises(SpaceExhausted):
        await room.ensure([Run(0, 40)])
    store.limit = 100
    await room.ensure([Run(0, 40)])
    assert store.usage().reserved == 40
    await store.close()


async def test_unknown_length_is_reserved_by_segments_as_it_comes() -> None:
    store, room = await made(None, SIZE)
    run = Run(0, None)
    for busy_until, reserved in ((1, 10), (10, 10), (11, 20), (35, 40)):
        run.busy_until = busy_until
        await room.ensure([run])
        assert store.usage().reserved == reserved
    await store.close()


async def test_tentative_run_needs_no_room_yet() -> None:
    store, room = await made(90, 90)
    ahead = Run(50, 70)
    ahead.tentative = True
    await room.ensure([Run(0, 90), ahead])
    assert store.usage().reserved == 90
    await store.close()
