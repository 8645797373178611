"""HEAD of what is not stored: the source is asked by HEAD, once for all who ask at the same time."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from distributor.core.forwarding import source_fields
from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.representation import Received, describe, renewed, same_version
from distributor.delivery.means import Means
from distributor.delivery.memory import Memory
from distributor.delivery.opening import conditions
from distributor.errors import Misdirected, SourceRefused
from distributor.ports import Exchange, SourceRequest


class Look(NamedTuple):
    """What a look-up brought.

    confirmed  the stored response it was about is fresh again
    seconds    until the source's header fields
    """

    representation: Representation
    status: int
    confirmed: bool
    seconds: float


class LookUps:
    """Look-ups under way and their answers, remembered for `remember` seconds."""

    def __init__(self, means: Means, remember: float) -> None:
        self._means = means
        self._remember = remember
        self._under_way: dict[str, asyncio.Task[Look]] = {}
        self._memory: Memory[Look] = Memory()

    async def look(self, request: AssetRequest, stored: StoredResponse | None) -> Look:
        """Ask the sources by HEAD, conditional when `stored` is given.

        Raises UnknownAsset, Misdirected, SourceError. Cancelling it does not end it for others.
        """
        known = self._memory.get(request.key, request.now)
        if known is not None:
            return known[0]
        task = self._under_way.get(request.key)
        if task is None:
            task = asyncio.create_task(self._ask(request, stored), name=f"look-up {request.key}")
            self._under_way[request.key] = task
            task.add_done_callback(lambda _: self._under_way.pop(request.key, None))
        return await asyncio.shield(task)

    def clear(self) -> None:
        """Forget what was learned."""
        self._memory.clear()

    async def close(self) -> None:
        """End the look-ups under way."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _ask(self, request: AssetRequest, stored: StoredResponse | None) -> Look:
        means = self._means
        extra = conditions(stored.representation) if stored is not None else ()
        plain = SourceRequest(
            "HEAD",
            request.asset_id,
            request.query,
            fields=source_fields(request, means.node_id) + extra,
        )
        began = means.clock.monotonic()
        try:
            exchange = await means.pool.open(plain)
        except SourceRefused as refusal:
            if refusal.status not in (405, 501):
                raise
            exchange = await means.pool.open(plain._replace(method="GET", start=0, stop=1))
        seconds = means.clock.monotonic() - began
        exchange.close()
        look = await self._interpret(exchange, stored, seconds)
        if not look.confirmed:
            self._memory.put(request.key, look, means.clock.now() + self._remember)
        return look

    async def _interpret(self, exchange: Exchange, stored: StoredResponse | None, seconds: float) -> Look:
        means = self._means
        received = Received(exchange.status, exchange.fields, exchange.request_time, exchange.response_time)
        if stored is not None:
            same = received.status == 304 or (
                received.status == 200 and same_version(stored.representation, received)
            )
            if same:
                fresh = renewed(stored.representation, received, default_ttl=means.default_ttl)
                await means.store.renew(stored, fresh)
                means.observer.revalidated("not_modified")
                return Look(fresh, received.status, True, seconds)
            means.observer.revalidated("changed")
            await means.store.mark_stale(stored)
        representation = describe(received, default_ttl=means.default_ttl)
        if not means.served(representation.bucket):
            raise Misdirected("its bucket is not distributed by this node")
        return Look(representation, received.status, False, seconds)
