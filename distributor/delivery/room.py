"""The room of one fetch: what it has reserved in the store, against what its runs still bring."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from distributor.core.model import StoredResponse
from distributor.delivery.run import Run
from distributor.ports import Store


class Room:
    """Bytes reserved for `stored`: `granted` at first, `written` of them used up since."""

    def __init__(self, store: Store, stored: StoredResponse, granted: int) -> None:
        self.written = 0
        self._store = store
        self._stored = stored
        self._granted = granted
        self._asking = asyncio.Lock()

    async def ensure(self, runs: Iterable[Run]) -> None:
        """Reserve what `runs` are to bring, as far as it is not; by segments where no end is known.

        Raises TooLarge, SpaceExhausted.
        """
        # One at a time: a run must not write on what another is only asking for.
        async with self._asking:
            size, needed = self._stored.segments.size, self.written
            for run in runs:
                if run.tentative:
                    continue
                stop = -(-run.busy_until // size) * size if run.stop is None else run.stop
                needed += max(0, stop - run.position)
            short = needed - self._granted
            if short > 0:
                await self._store.reserve(self._stored, short)
                self._granted += short
