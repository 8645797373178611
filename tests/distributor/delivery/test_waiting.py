"""Who waits and who is woken: bytes, slots, the table of fetches, and what is remembered."""

from __future__ import annotations

import asyncio

import pytest

from distributor.delivery.inflight import InFlight
from distributor.delivery.memory import Memory
from distributor.delivery.slots import Slots
from distributor.delivery.waiters import Waiters
from distributor.errors import Overloaded
from distributor.ports import Observer


async def test_only_those_whose_byte_came_are_woken() -> None:
    waiters = Waiters()
    tasks = {at: asyncio.create_task(waiters.wait(at)) for at in (0, 4, 5, 9, 10)}
    await asyncio.sleep(0)
    waiters.wake(5, 10)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [at for at, task in tasks.items() if task.done()] == [5, 9]
    waiters.wake_all()
    await asyncio.wait_for(asyncio.gather(*tasks.values()), 5)


async def test_cancelled_waiter_is_forgotten() -> None:
    waiters = Waiters()
    task = asyncio.create_task(waiters.wait(3))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not waiters._waiting
    waiters.wake(0, 10)


async def test_slots_let_some_in_some_wait_and_refuse_the_rest() -> None:
    slots = Slots(1, 1, Observer())
    await slots.take()
    waiting = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await slots.take()
    slots.give()
    await asyncio.wait_for(waiting, 5)


async def test_slot_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributor.delivery.slots.LONGEST_WAIT", 0.01)
    slots = Slots(1, 1, Observer())
    await slots.take()
    with pytest.raises(Overloaded):
        await slots.take()
    slots.give()
    await slots.take()


class Started:
    def __init__(self, key: str) -> None:
        self.key = key
        self.starts = 0

    def start(self) -> None:
        self.starts += 1


def test_of_all_who_join_one_starts() -> None:
    table: InFlight[Started] = InFlight()
    made = [table.join_or_start("a", lambda: Started("a")) for _ in range(5)]
    assert [new for _, new in made] == [True, False, False, False, False]
    assert len({id(one) for one, _ in made}) == 1
    assert made[0][0].starts == 1


def test_who_leaves_takes_only_itself_out() -> None:
    table: InFlight[Started] = InFlight()
    first, _ = table.join_or_start("a", lambda: Started("a"))
    table.leave(first)
    second, new = table.join_or_start("a", lambda: Started("a"))
    table.leave(first)
    assert (new, table.get("a"), list(table)) == (True, second, [second])


def test_fetch_that_gets_another_key_is_found_under_that_unless_it_is_taken() -> None:
    table: InFlight[Started] = InFlight()
    first, _ = table.join_or_start("a", lambda: Started("a"))
    first.key = "a\n1"
    table.moved(first, "a")
    assert (table.get("a"), table.get("a\n1")) == (None, first)
    second, _ = table.join_or_start("a", lambda: Started("a"))
    second.key = "a\n1"
    table.moved(second, "a")
    assert (table.get("a\n1"), len(table)) == (first, 1)


def test_what_is_remembered_is_forgotten_in_time_and_the_oldest_first() -> None:
    memory: Memory[int] = Memory(most=2)
    memory.put("a", 1, 10.0)
    memory.put("b", 2, 20.0)
    assert memory.get("a", 9.9) == (1, 10.0)
    assert memory.get("a", 10.0) is None
    memory.put("c", 3, 20.0)
    memory.put("d", 4, 20.0)
    assert [memory.get(key, 0.0) is not None for key in "bcd"] == [False, True, True]
    memory.forget_if(lambda key: key == "c")
    memory.forget("x")
    assert len(memory) == 1
