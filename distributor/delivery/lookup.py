"""HEAD of what is not stored: the source is asked by HEAD, once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from distributor.core.forwarding import varying_fields
from distributor.core.keys import split_key, variant_key
from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.representation import Received, confirms, same_version
from distributor.delivery.backoff import Backoff
from distributor.delivery.means import Means, received_from
from distributor.delivery.memory import Memory
from distributor.delivery.opening import conditions
from distributor.errors import (
    EdgeError,
    FetchCancelled,
    Misdirected,
    SourceError,
    SourceProtocol,
    SourceRefused,
    StoreError,
    UnknownAsset,
    VersionChanged,
    anew,
)
from distributor.ports import Exchange, SourceRequest


class Look(NamedTuple):
    """What a look-up brought.

    confirmed  the stored response it was about is fresh again
    seconds    until the source's header fields
    lasts      seconds for which others may be told the same, >= 0
    shared     it was asked for another request, under way or remembered
    """

    representation: Representation
    status: int
    confirmed: bool
    seconds: float
    lasts: float = 0.0
    shared: bool = False


class LookUps:
    """Look-ups under way and their answers, remembered for `remember` seconds.

    backoff  what failed of late waits before it is asked for again
    """

    def __init__(self, means: Means, remember: float, backoff: Backoff) -> None:
        self._means = means
        self._backoff = backoff
        self._remember = remember
        self._closed = False
        self._under_way: dict[str, asyncio.Task[Look]] = {}
        self._tasks: set[asyncio.Task[Look]] = set()
        self._memory: Memory[Look] = Memory()

    async def look(self, request: AssetRequest, stored: StoredResponse | None) -> Look:
        """Ask the sources by HEAD, conditional when `stored` is given.

        Raises UnknownAsset, Misdirected, SourceError; FetchCancelled when the node stops. Cancelling
        it does not end it for others.
        """
        known = self._memory.get(self._key(request), request.now)
        if known is not None:
            return known[0]._replace(shared=True)
        joined = self._key(request) in self._under_way
        task = self.start(request, stored)
        await asyncio.wait([task])
        if task.cancelled():
            raise FetchCancelled("the look-up was cut off")
        error = task.exception()
        if isinstance(error, EdgeError):
            raise anew(error)
        return task.result()._replace(shared=joined)

    def start(self, request: AssetRequest, stored: StoredResponse | None) -> asyncio.Task[Look]:
        """The look-up under way, or a new one. Raises FetchCancelled when the node stops."""
        if self._closed:
            raise FetchCancelled("the node stops")
        key = self._key(request)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(request, stored), name=f"look-up {key}")
            self._under_way[key] = task
            self._tasks.add(task)
            task.add_done_callback(lambda ended: self._ended(key, request.key, ended))
        return task

    def _key(self, request: AssetRequest) -> str:
        if not self._means.transparent:
            return request.key
        fields = varying_fields(request)
        return variant_key(request.key, [name for name, _ in fields], fields)

    def _ended(self, key: str, asset_key: str, task: asyncio.Task[Look]) -> None:
        self._tasks.discard(task)
        current = self._under_way.get(key) is task
        if current:
            del self._under_way[key]
        # Asked for here, so that a failure nobody waits for is not reported as one that was missed.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SourceError):
            self._backoff.failed(asset_key, error)
        if task.cancelled() or error is not None:
            return
        look = task.result()
        if look.status >= 500:
            self._backoff.failed(asset_key, SourceRefused(look.status))
        if current and look.lasts > 0:
            self._memory.put(key, look, self._means.clock.now() + look.lasts)

    def forget(self, asset_ids: set[str]) -> None:
        """Forget what was learned of these assets; what is under way serves only who waits for it now."""
        self._memory.forget_if(lambda key: split_key(key).asset_id in asset_ids)
        for key in [key for key in self._under_way if split_key(key).asset_id in asset_ids]:
            del self._under_way[key]

    def clear(self) -> None:
        """Forget what was learned of all."""
        self._memory.clear()
        self._under_way.clear()

    async def close(self) -> None:
        """End the look-ups under way; none is begun any more."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, request: AssetRequest, stored: StoredResponse | None) -> Look:
        means = self._means
        plain = means.plain(request)._replace(method="HEAD")
        if stored is not None:
            plain = plain._replace(fields=plain.fields + conditions(stored.representation))
        await asyncio.sleep(self._backoff.pause(request.key))
        began = means.clock.monotonic()
        try:
            exchange = await self._head(plain, last_resort=stored is None)
        except UnknownAsset:
            if stored is not None:
                means.observer.revalidated("gone")
                with contextlib.suppress(StoreError):
                    await means.store.remove(stored)
            raise
        seconds = means.clock.monotonic() - began
        exchange.close()
        return await self._interpret(request, exchange, stored, seconds)

    async def _head(self, plain: SourceRequest, *, last_resort: bool) -> Exchange:
        """By HEAD; where that is not known, by a GET of the first byte, or of an empty whole."""
        pool = self._means.pool
        try:
            exchange = await pool.open(plain, last_resort=last_resort)
        except SourceRefused as refusal:
            if refusal.status not in (405, 501):
                raise
        else:
            if exchange.status not in (405, 501):
                return exchange
            exchange.close()
        get = plain._replace(method="GET")
        try:
            return await pool.open(get._replace(start=0, stop=1), last_resort=last_resort)
        except VersionChanged:
            return await pool.open(get, last_resort=last_resort)

    async def _interpret(
        self, request: AssetRequest, exchange: Exchange, stored: StoredResponse | None, seconds: float
    ) -> Look:
        means, received = self._means, received_from(exchange)
        if stored is not None:
            version = stored.representation
            if received.status == 304 and confirms(version, received):
                same = True
            else:
                same = received.status in (200, 206) and same_version(version, received)
            if same:
                fresh = means.renewed(version, request, received)
                if not means.may_keep(fresh):
                    with contextlib.suppress(StoreError):
                        await means.store.remove(stored)
                    return Look(fresh, received.status, False, seconds)
                with contextlib.suppress(StoreError):
                    await means.store.renew(stored, fresh)
                means.observer.revalidated("not_modified")
                return Look(fresh, received.status, True, seconds)
            if received.status == 304:
                raise SourceProtocol("a 304 of another version", source=exchange.source)
            means.observer.revalidated("changed")
            with contextlib.suppress(StoreError):
                await means.store.mark_stale(stored)
        representation = means.describe(request, received)
        if not means.served(representation.bucket):
            raise Misdirected("its bucket is not distributed by this node")
        return Look(representation, received.status, False, seconds, self._lasts(request, received))

    def _lasts(self, request: AssetRequest, received: Received) -> float:
        """`remember`; a general cache repeats only what it might store, and only while it is fresh."""
        means = self._means
        if received.status >= 500:
            return 0.0
        if not means.transparent:
            return self._remember
        if not means.may_store(request, received).allowed:
            return 0.0
        said = means.describe(request, received)
        left = 0.0 if said.policy.no_cache else said.policy.freshness_lifetime - said.initial_age
        return min(self._remember, left)
