"""Locks by key, for as long as somebody wants them. Within one process, which owns its storages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable

from origin.errors import Unavailable


class KeyedLocks:
    """`async with locks.hold(key)`: one holder a key; first come, first served."""

    def __init__(self, wait: float = 60.0) -> None:
        """wait: seconds after which waiting for a key raises Unavailable."""
        self._wait = wait
        self._held: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        lock, users = self._held.get(key, (None, 0))
        lock = lock or asyncio.Lock()
        self._held[key] = (lock, users + 1)
        try:
            try:
                async with asyncio.timeout(self._wait):
                    await lock.acquire()
            except TimeoutError as error:
                raise Unavailable("another call holds this path") from error
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._held[key]
            if users == 1:
                del self._held[key]
            else:
                self._held[key] = (lock, users - 1)

    def __len__(self) -> int:
        return len(self._held)
