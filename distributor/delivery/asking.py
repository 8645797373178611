"""The asking half of a fetch: from what is stored to the head of the source's answer.

opening ─▶ pool ─┬─ 304 ─▶ Confirmed
                 ├─ not to be stored, no room ─▶ Unstored
                 └─ 200, 206 ─▶ Filling, and a run that its body feeds
an answer that is of no use (a part without a validator, a 304 of nothing, or one by which what is
stored may be stored no longer) ─▶ the whole is asked for
"""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

from distributor.core.keys import cache_key
from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.representation import (
    Received,
    check_continuation,
    check_exact,
    confirms,
    length_of,
    resumable,
    without_ranges,
)
from distributor.core.response import select
from distributor.delivery.head import Confirmed, Filling, Head, Unstored
from distributor.delivery.means import Means, received_from
from distributor.delivery.opening import Opening, opening, prefix_end
from distributor.delivery.run import Run
from distributor.delivery.variants import MOST, key_under, surplus, variant_text
from distributor.errors import (
    Misdirected,
    RequestError,
    SpaceExhausted,
    StoreError,
    TooLarge,
    VersionChanged,
)
from distributor.http.cache_status import Detail
from distributor.ports import Exchange

log = logging.getLogger("distributor.fetch")


class Asked(NamedTuple):
    """What came of asking.

    run      what the answer's body feeds, not started; None: nothing
    granted  bytes reserved in the store for what is to come
    resumed  a partial response goes on; else what `head` names is new or confirmed
    status   of the source;  seconds: until its header fields

    The stored response of Filling is pinned for the fetch.
    """

    head: Head
    run: Run | None = None
    granted: int = 0
    resumed: bool = False
    status: int = 0
    seconds: float = 0.0


class Asking:
    """Asks once for `request`, with what is stored (`base`) in mind.

    last_resort  a 5xx is an answer too, once all sources gave nothing better (transparent)
    """

    def __init__(
        self, means: Means, request: AssetRequest, base: StoredResponse | None, *, last_resort: bool
    ) -> None:
        self._means = means
        self._request = request
        self._base = base
        self._last_resort = last_resort

    async def ask(self) -> Asked:
        """Learn the head.

        Raises UnknownAsset, Misdirected, Overloaded, SourceError. Cancelling it leaves no connection,
        no pin and no reservation behind.
        """
        means = self._means
        first = opening(means.plain(self._request), self._request, self._base, means.segment, means.fill)
        began = means.clock.monotonic()
        try:
            exchange = await self._open(first)
        except VersionChanged:
            # What is stored in part, or was asked for ahead, is not to be had: begin anew, whole.
            first = first.whole()
            exchange = await self._open(first)
        seconds = means.clock.monotonic() - began
        while True:
            status = exchange.status
            try:
                asked = await self._taken(exchange, first)
            except BaseException:
                exchange.close()
                raise
            if asked is not None:
                return asked._replace(status=status, seconds=seconds)
            exchange.close()
            first = first.whole()
            exchange = await self._open(first)

    async def _open(self, first: Opening) -> Exchange:
        def judge(received: Received) -> None:
            length_of(received)
            if received.status == 206:
                if first.resumes is not None:
                    check_continuation(first.resumes, received, first.request.start or 0)
                check_exact(received, first.request.start or 0, first.request.stop)

        return await self._means.pool.open(first.request, judge, last_resort=self._last_resort)

    async def _taken(self, exchange: Exchange, first: Opening) -> Asked | None:
        """Make of an answer what it can be made; None: it is of no use, ask for the whole."""
        means, base, request = self._means, self._base, self._request
        received = received_from(exchange)
        if received.status == 304:
            return await self._confirmed(exchange, received)
        representation = means.describe(request, received)
        resumes = first.resumes is not None and received.status == 206
        if received.status == 206:
            if representation.length is None or not resumable(representation):
                return None  # Without a total or a validator a part is of no use to anyone else.
            if resumes and (base is None or base.detached):
                return None
        elif first.request.start is not None and first.resumes is None:
            representation = without_ranges(representation)
        if base is not None and base.complete:
            means.observer.revalidated("changed")
        if not means.served(representation.bucket):
            raise Misdirected("its bucket is not distributed by this node")
        start = (first.request.start or 0) if received.status == 206 else 0
        allowed, why = means.may_store(request, received)
        if not allowed:
            log.debug("%r is not stored: %s", request.asset_id, why)
            return await self._unstored(representation, Detail.NOT_STORABLE, exchange, start, keep=False)
        try:
            if resumes and base is not None:
                return await self._resumed(base, exchange, received, first)
            return await self._begun(exchange, first, received, representation)
        except StoreError as error:
            return await self._unstored(representation, _detail(error), exchange, start, keep=resumes)

    async def _confirmed(self, exchange: Exchange, received: Received) -> Asked | None:
        base = self._base
        if base is None or base.detached or not confirms(base.representation, received):
            return None
        renewed = self._means.renewed(base.representation, self._request, received)
        if not self._means.may_keep(renewed):
            return None  # It may no longer be shared, with those who wait for it neither.
        # A disk that fails now costs no more than a revalidation after the next start.
        with contextlib.suppress(StoreError):
            await self._means.store.renew(base, renewed)
        exchange.close()
        self._means.observer.revalidated("not_modified")
        return Asked(Confirmed(base))

    async def _unstored(
        self, representation: Representation, detail: Detail, exchange: Exchange, start: int, *, keep: bool
    ) -> Asked:
        """keep  what is stored is of the same version"""
        self._means.observer.store_refused(detail.value.replace("-", "_"))
        if self._base is not None and not keep:
            with contextlib.suppress(StoreError):
                await self._means.store.remove(self._base)
        return Asked(Unstored(representation, detail, exchange, start))

    async def _resumed(
        self, base: StoredResponse, exchange: Exchange, received: Received, first: Opening
    ) -> Asked:
        """Take up a partial response where the opening asked for it."""
        means, segments = self._means, base.segments
        length = segments.length
        assert length is not None
        start = first.request.start or 0
        stop = min(first.request.stop or length, length)
        means.store.retain(base)
        try:
            await means.store.renew(base, means.renewed(base.representation, self._request, received))
            granted = length - segments.present if means.fill == "whole" else stop - start
            await means.store.reserve(base, granted)
        except BaseException:
            means.store.release(base)
            raise
        if segments.available(start) or start != prefix_end(segments, start):
            exchange.close()  # It only brought word of the version.
            return Asked(Filling(base), None, granted, True)
        return Asked(Filling(base), Run(start, stop, exchange=exchange), granted, True)

    async def _begun(
        self, exchange: Exchange, first: Opening, received: Received, representation: Representation
    ) -> Asked:
        """Make room, and put a new partial response in the place of what was stored."""
        means, request, length = self._means, self._request, representation.length
        portion = self._portion(first, received, representation)
        reserve: int | None = None
        if means.fill == "asked" and length is not None:
            reserve = 0 if portion is None else (portion[1] or 0) - portion[0]
        key, variant = request.key, None
        if means.transparent:
            key, variant = key_under(request, representation), variant_text(request, representation)
            await self._fewer_variants()
        stored = await means.store.begin(
            key,
            request.asset_id,
            representation,
            means.clock.now(),
            query=request.query,
            variant=variant,
            reserve=reserve,
        )
        granted = reserve if reserve is not None else means.segment if length is None else length
        if portion is None:
            exchange.close()
            return Asked(Filling(stored), None, granted)
        return Asked(Filling(stored), Run(*portion, exchange=exchange), granted)

    async def _fewer_variants(self) -> None:
        """Make place among the asset's variants for one more."""
        store, request = self._means.store, self._request
        for one in surplus(store.alike(cache_key(request.asset_id, request.query)), MOST - 1):
            await store.remove(one)

    def _portion(
        self, first: Opening, received: Received, representation: Representation
    ) -> tuple[int, int | None] | None:
        """What of the answer's body is to be taken in, half-open; None: nothing.

        `fill: asked` takes of a whole that was sent no more than the first range that was asked for,
        and nothing when that is far from its start: it is then asked for by itself.
        """
        length = representation.length
        if received.status == 206:
            assert length is not None
            return first.request.start or 0, min(first.request.stop or length, length)
        if self._means.fill == "whole" or length is None or not resumable(representation):
            return 0, length
        try:
            selection = select(self._request, representation, length, None)
        except RequestError:
            return None
        if selection.status == 304:
            return None
        if selection.spans is None:
            return 0, length
        wanted, size = selection.spans[0], self._means.segment
        if wanted.start // size >= 2:
            return None
        return 0, min(-(-wanted.stop // size) * size, length)


def _detail(error: StoreError) -> Detail:
    if isinstance(error, TooLarge):
        return Detail.TOO_LARGE
    return Detail.NO_ROOM if isinstance(error, SpaceExhausted) else Detail.STORE_FAILED
