"""How many fetches are under way at once: the others wait their turn, and not too many of them."""

from __future__ import annotations

import asyncio

from distributor.errors import Overloaded
from distributor.ports import Observer

LONGEST_WAIT = 30.0  # seconds


class Slots:
    """`most` at once; `waiting` more may wait. Raises Overloaded beyond."""

    def __init__(self, most: int, waiting: int, observer: Observer) -> None:
        self._free = asyncio.Semaphore(most)
        self._most_waiting = waiting
        self._waiting = 0
        self._observer = observer

    async def take(self) -> None:
        """Return with a slot; `give` it back. Raises Overloaded, at once or after LONGEST_WAIT."""
        if not self._free.locked():
            await self._free.acquire()
            return
        if self._waiting >= self._most_waiting:
            raise Overloaded("too many fetches are waiting")
        self._waiting += 1
        self._observer.fetch_waiting(1)
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded("no fetch ended in time") from None
        finally:
            self._waiting -= 1
            self._observer.fetch_waiting(-1)

    def give(self) -> None:
        self._free.release()
