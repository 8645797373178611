"""Uploads that wait for a slot go by priority, and a slot is never lost."""

from __future__ import annotations

import asyncio

import pytest

from origin.errors import TooMany
from origin.services.slots import Slots


async def test_of_those_that_wait_the_highest_priority_goes_first_then_the_earliest() -> None:
    slots = Slots(size=1)
    order: list[str] = []

    async def upload(name: str, priority: int) -> None:
        async with slots.taken(priority):
            order.append(name)

    async with slots.taken():
        tasks = []
        for name, priority in (("low", 1), ("first", 500), ("second", 500), ("high", 1000)):
            tasks.append(asyncio.create_task(upload(name, priority)))
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == ["high", "first", "second", "low"]


async def test_more_than_may_wait_are_refused() -> None:
    slots = Slots(size=1, waiting=0)
    async with slots.taken():
        with pytest.raises(TooMany):
            async with slots.taken():
                pass
    async with slots.taken():
        pass


async def test_who_waits_too_long_is_refused_and_keeps_no_place() -> None:
    slots = Slots(size=1, patience=0.01)
    async with slots.taken():
        with pytest.raises(TooMany):
            async with slots.taken():
                pass
    async with slots.taken():
        pass


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    slots = Slots(size=1)

    async def upload() -> None:
        async with slots.taken():
            pass

    async with slots.taken():
        task = asyncio.create_task(upload())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(1), slots.taken():
        pass


async def test_a_slot_given_to_a_wait_that_is_cancelled_in_the_same_turn_goes_on() -> None:
    slots = Slots(size=1)

    async def upload() -> None:
        async with slots.taken():
            pass

    async with slots.taken():
        task = asyncio.create_task(upload())
        await asyncio.sleep(0)
    task.cancel()  # its turn has come, but it has not run yet
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(1), slots.taken():
        pass
