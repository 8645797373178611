"""Purge and soft purge: by id, by prefix, by bucket; also of what is only remembered or on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from distributor.core.model import StoredResponse
from distributor.delivery.edge import Edge
from distributor.errors import Overloaded
from distributor.ports import Observer, Store

BATCH = 1000
RECOVERY = 60.0  # seconds that a purge waits for a store that is still being read after a start
LOOK = 0.02  # seconds between two looks at it


class Invalidation:
    """Removes stored responses of a store, or marks them stale."""

    def __init__(self, store: Store, edge: Edge, observer: Observer) -> None:
        self._store = store
        self._edge = edge
        self._observer = observer

    async def purge(
        self,
        *,
        ids: Iterable[str] | None = None,
        prefix: str | None = None,
        bucket: str | None = None,
        soft: bool = False,
    ) -> tuple[int, int]:
        """Purge what exactly one of ids, prefix and bucket names; (stored responses, bytes on disk).

        A hard purge also cuts fetches under way loose and forgets remembered 404, 410 and 421. An id
        that is not stored is no error. In force for every request that comes after the return.
        Raises Overloaded when the store is not read within RECOVERY, StoreError.
        """
        await self._recovered()
        if ids is not None:
            wanted = set(ids)
            if not soft:
                self._edge.forget(wanted)
                self._cut_loose(lambda asset_id, _: asset_id in wanted)
            found = [stored for asset_id in wanted for stored in self._store.variants(asset_id)]
            return await self._apply(found, soft)

        def matches(asset_id: str, its_bucket: str | None) -> bool:
            return asset_id.startswith(prefix) if prefix is not None else its_bucket in (bucket, None)

        if not soft:
            self._edge.forget_negatives()
            self._cut_loose(matches)
        count = size = 0
        after: str | None = None
        while batch := self._store.scan(after, BATCH):
            after = batch[-1].key
            found = [item for item in batch if matches(item.asset_id, item.representation.bucket)]
            more, further = await self._apply(found, soft)
            count, size = count + more, size + further
        return count, size

    async def _recovered(self) -> None:
        """What is not read yet after a start could not be purged."""
        try:
            async with asyncio.timeout(RECOVERY):
                while self._store.recovering:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK)  # The store tells by a flag only.
        except TimeoutError:
            raise Overloaded("the store is still being read after the start", retry_after=5) from None

    def _cut_loose(self, matches: Callable[[str, str | None], bool]) -> None:
        """The bucket of a fetch that still waits for its head is not known: None."""
        for fetch in self._edge.fetches():
            stored = fetch.stored
            bucket = stored.representation.bucket if stored is not None else None
            if matches(fetch.asset_id, bucket):
                fetch.cut_loose()

    async def _apply(self, found: list[StoredResponse], soft: bool) -> tuple[int, int]:
        count = size = 0
        for stored in found:
            if stored.detached:
                continue
            count += 1
            if soft:
                size += stored.segments.present
                await self._store.mark_stale(stored)
            else:
                size += await self._store.remove(stored)
        self._observer.purged("soft" if soft else "hard", count)
        return count, size
