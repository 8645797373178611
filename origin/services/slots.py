"""Slots for uploads: how many run at once, and who of those that wait is next."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator

from origin.errors import TooMany

DEFAULT_PRIORITY = 500


class Slots:
    """size: uploads at once; waiting: uploads that may wait; patience: seconds one waits at most."""

    def __init__(self, size: int = 64, waiting: int = 1024, patience: float = 60.0) -> None:
        self._free = size
        self._most_waiting = waiting
        self._patience = patience
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @contextlib.asynccontextmanager
    async def taken(self, priority: int = DEFAULT_PRIORITY) -> AsyncIterator[None]:
        """Hold a slot. Of those that wait the highest priority goes first, then the earliest.

        Raises TooMany when too many wait already, or none comes free in time. Cancelling gives the
        place in the queue, or the slot, back.
        """
        await self._take(priority)
        try:
            yield
        finally:
            self._give()

    async def _take(self, priority: int) -> None:
        if self._free > 0:  # nobody waits while a slot is free
            self._free -= 1
            return
        if sum(not entry[2].done() for entry in self._queue) >= self._most_waiting:
            raise TooMany("too many uploads wait already", retry_after=10)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (-priority, next(self._order), turn))
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                self._give()  # the slot came in the same turn of the loop as the end of the wait
            turn.cancel()
            if isinstance(error, TimeoutError):
                raise TooMany("no slot for an upload came free in time", retry_after=10) from error
            raise

    def _give(self) -> None:
        while self._queue:
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
