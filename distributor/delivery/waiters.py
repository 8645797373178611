"""Readers that wait for a byte, woken by the writer: no polling, and nobody is woken in vain."""

from __future__ import annotations

import asyncio


class Waiters:
    """Futures, and the position each waits for."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], int] = {}

    async def wait(self, position: int) -> None:
        """Return once the byte at `position` is there, or all are woken. Cancelling it is harmless."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = position
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    def wake(self, start: int, stop: int) -> None:
        """The bytes [start, stop) are there."""
        for future, position in list(self._waiting.items()):
            if start <= position < stop:
                self._set(future)

    def wake_all(self) -> None:
        """Something else has changed: let everybody look again."""
        for future in list(self._waiting):
            self._set(future)

    def _set(self, future: asyncio.Future[None]) -> None:
        del self._waiting[future]
        if not future.done():
            future.set_result(None)
