"""Readers that wait for a byte, woken by the writer: no polling, and nobody is woken in vain."""

from __future__ import annotations

import asyncio


class Waiters:
    """Futures by the position they wait for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def wait(self, position: int) -> None:
        """Return once the byte at `position` is there, or all are woken. Cancelling it is harmless."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((position, future))
        await future

    def wake(self, start: int, stop: int) -> None:
        """The bytes [start, stop) are there."""
        woken = [future for position, future in self._waiting if start <= position < stop]
        if woken:
            self._waiting = [item for item in self._waiting if not start <= item[0] < stop]
            _set(woken)

    def wake_all(self) -> None:
        """Something else has changed: let everybody look again."""
        waiting, self._waiting = self._waiting, []
        _set([future for _, future in waiting])


def _set(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
