"""The edge: looks at what is known of an asset, has `core.policy` decide, and carries it out.

    answer ─▶ Known ─▶ decide ─▶ one method per Decision ─▶ Answer (fields, and a Body to be sent)

Everything that waits for a source waits on a Fetch or a LookUp, which belong to nobody, so a client
that leaves ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.policy import Decision, Known, decide, ttl
from distributor.core.response import Told, content_type, response_fields, select
from distributor.delivery.answer import Answer
from distributor.delivery.fetch import Fetch
from distributor.delivery.head import Confirmed, Filling, Unstored
from distributor.delivery.inflight import InFlight
from distributor.delivery.lookup import LookUps
from distributor.delivery.means import Means
from distributor.delivery.memory import Memory
from distributor.delivery.outside import Outside, PassBody
from distributor.delivery.passing import open_pass, whole_only
from distributor.delivery.reader import PIECE, StoredBody
from distributor.errors import (
    BlobDamaged,
    EdgeError,
    FetchCancelled,
    LoopDetected,
    Misdirected,
    OnlyIfCached,
    Overloaded,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestError,
    SourceError,
    StoreError,
    UnknownAsset,
)
from distributor.http.cache_status import CacheState, Detail, Forward, cache_status_member
from distributor.http.fields import Fields
from distributor.http.freshness import current_age, may_serve_on_error, negative_ttl
from distributor.http.ranges import Multipart, unsatisfied_range
from distributor.ports import Exchange

log = logging.getLogger("distributor.edge")

Handler = Callable[[AssetRequest, StoredResponse | None], Awaitable[Answer]]

ATTEMPTS = 3  # a request whose fetch was purged, or whose blob proved bad, begins anew this often
UNSTORABLE_FOR = 60.0  # seconds for which a key is passed through without trying to store it


class _Again(EdgeError):
    """What the decision stood on has gone; decide anew."""


class Edge:
    """Answers asset requests from `means`.

    negative_ttl, stale_if_error  seconds, used where the source says nothing
    """

    def __init__(self, means: Means, *, negative_ttl: float, stale_if_error: float) -> None:
        self._means = means
        self._negative_ttl = negative_ttl
        self._stale_if_error = stale_if_error
        self._inflight: InFlight[Fetch] = InFlight()
        self._tasks: set[Fetch] = set()
        self._negatives: Memory[RequestError] = Memory()
        self._unstorable: Memory[Detail] = Memory()
        self._lookups = LookUps(means, negative_ttl)
        self._carry_out: dict[
            Decision, Callable[[AssetRequest, StoredResponse | None], Awaitable[Answer]]
        ] = {
            Decision.MISDIRECTED: self._misdirected,
            Decision.REMEMBERED: self._remembered,
            Decision.HIT: self._hit,
            Decision.HIT_THEN_REVALIDATE: self._hit_then_revalidate,
            Decision.JOIN: self._fetch,
            Decision.ONLY_IF_CACHED: self._only_if_cached,
            Decision.LOOP: self._loop,
            Decision.LOOK_UP: self._look_up,
            Decision.CONFIRM: self._confirm,
            Decision.RELAY: self._pass,
            Decision.REVALIDATE: self._fetch,
            Decision.RESUME: self._fetch,
            Decision.FETCH: self._fetch,
        }

    # -- what the API calls ----------------------------------------------------------------

    async def answer(self, request: AssetRequest) -> Answer:
        """Decide and carry out. Never raises EdgeError: it is in the answer."""
        try:
            for _ in range(ATTEMPTS):
                try:
                    stored = await self._stored(request.key)
                    known = self._known(request, stored)
                    decision = decide(request, known, node_id=self._means.node_id)
                    return await self._carry_out[decision](request, stored)
                except (FetchCancelled, _Again):
                    continue
            raise Overloaded("the asset was purged again and again while it was asked for")
        except EdgeError as error:
            return Answer(0, error=error)

    @property
    def fetches_in_flight(self) -> int:
        """Fetches under way, those cut loose included; pass-through is not counted."""
        return len(self._tasks)

    def filling(self, key: str) -> bool:
        """Whether a fetch is under way for `key`."""
        return self._inflight.get(key) is not None

    def forget_negatives(self) -> None:
        """After a change of buckets: remembered 404, 410 and 421 are asked for anew."""
        self._negatives.clear()
        self._lookups.clear()
        self._means.observer.negatives(0)

    async def prefetch(self, asset_id: str, key: str, now: float) -> None:
        """Have the whole asset complete and fresh; returns when it is. Raises EdgeError."""
        request = AssetRequest("GET", asset_id, key, None, (), now)
        stored = await self._stored(key)
        decision = decide(request, self._known(request, stored), node_id=self._means.node_id)
        if decision is Decision.HIT and stored is not None and stored.complete:
            return
        if decision is Decision.MISDIRECTED:
            raise Misdirected("its bucket is not distributed by this node")
        fetch, _ = self._join_or_start(request, stored, wants_handover=False)
        head = await fetch.head()
        if isinstance(head, Unstored):
            raise StoreError(f"it cannot be stored ({head.reason.value})")
        await fetch.finished()

    def fetches(self) -> list[Fetch]:
        """Fetches that take new readers."""
        return list(self._inflight)

    def forget(self, key: str) -> None:
        """Forget what is remembered of one key without being stored."""
        self._negatives.forget(key)
        self._unstorable.forget(key)

    async def close(self) -> None:
        """Cancel all fetches; what they have is kept for the next start."""
        for fetch in list(self._tasks):
            fetch.cancel()
        for fetch in list(self._tasks):
            try:
                await fetch.finished()
            except EdgeError:
                continue
        await self._lookups.close()

    # -- what is known ---------------------------------------------------------------------

    async def _stored(self, key: str) -> StoredResponse | None:
        store = self._means.store
        stored = store.get(key)
        if stored is None and store.recovering:
            stored = await store.find(key)
        return stored

    def _known(self, request: AssetRequest, stored: StoredResponse | None) -> Known:
        fetch = self._inflight.get(request.key)
        bucket = self._bucket(stored, fetch)
        return Known(
            stored=stored,
            served=bucket is None or self._means.served(bucket),
            remembered=self._negatives.get(request.key, request.now) is not None,
            fetching=fetch is not None,
            asked_present=stored is not None and self._asked_present(request, stored),
            unstorable=self._unstorable.get(request.key, request.now) is not None,
        )

    @staticmethod
    def _bucket(stored: StoredResponse | None, fetch: Fetch | None) -> str | None:
        if fetch is not None and fetch.stored is not None:
            return fetch.stored.representation.bucket
        return None if stored is None else stored.representation.bucket

    def _asked_present(self, request: AssetRequest, stored: StoredResponse) -> bool:
        """`fill: asked`: every byte this request asks for is on disk, though not all of the asset."""
        if self._means.fill != "asked" or stored.complete or stored.length is None:
            return False
        if request.method == "HEAD":
            return False
        try:
            selection = select(request, stored.representation, stored.length, None)
        except RequestError:
            return True
        if selection.status == 304:
            return True
        if selection.spans is None:
            return False
        return all(
            stored.segments.available(span.start) >= span.stop - span.start for span in selection.spans
        )

    # -- one method per decision -----------------------------------------------------------

    async def _misdirected(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        raise Misdirected("its bucket is not distributed by this node")

    async def _only_if_cached(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        raise OnlyIfCached

    async def _loop(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        raise LoopDetected

    async def _remembered(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        item = self._negatives.get(request.key, request.now)
        if item is None:
            raise _Again
        error, until = item
        member = cache_status_member(self._means.node_id, ttl=until - request.now, detail=Detail.NEGATIVE)
        return Answer(0, (("Cache-Status", member),), error=error)

    async def _hit(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        assert stored is not None
        member = cache_status_member(self._means.node_id, ttl=ttl(stored, request.now))
        return await self._serve(request, stored, None, CacheState.HIT, member)

    async def _hit_then_revalidate(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        self._means.observer.stale_served("revalidating")
        self._join_or_start(request, stored, wants_handover=False)
        return await self._hit(request, stored)

    async def _fetch(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        """Join the fetch under way or start one, wait for its head, and serve what it brings."""
        fetch, started = self._join_or_start(request, stored)
        if not started:
            self._means.observer.collapsed()
            self._means.observer.collapsed_waiting(1)
        try:
            head = await fetch.head()
        except asyncio.CancelledError:
            if started:
                fetch.disown()
            raise
        except (SourceError, Overloaded) as error:
            if stored is not None and self._may_serve_stale(stored, request.now):
                log.info("serving %r stale: %s", request.asset_id, error)
                self._means.observer.stale_served("error")
                return await self._hit(request, stored)
            raise
        finally:
            if not started:
                self._means.observer.collapsed_waiting(-1)
        seconds = fetch.source_seconds if started else None
        if isinstance(head, Confirmed):
            member = cache_status_member(self._means.node_id, fwd=Forward.STALE, fwd_status=304)
            return await self._serve(request, head.stored, None, CacheState.HIT, member, seconds)
        if isinstance(head, Filling):
            return await self._serve_filling(request, head.stored, fetch, started, seconds)
        if started:
            exchange = fetch.take_over()
            if exchange is not None:
                return self._serve_outside(
                    request, head.representation, head.reason, exchange, head.start, seconds
                )
        if request.method == "HEAD":
            return await self._look_up(request, stored)
        return await self._pass(request, stored)

    async def _serve_filling(
        self,
        request: AssetRequest,
        stored: StoredResponse,
        fetch: Fetch,
        started: bool,
        seconds: float | None,
    ) -> Answer:
        forward = Forward.URI_MISS
        if fetch.resumed_partial:
            forward = Forward.PARTIAL
        elif fetch.replaced_stale:
            forward = Forward.STALE
        node_id = self._means.node_id
        if started:
            member = cache_status_member(node_id, fwd=forward, fwd_status=fetch.fwd_status, stored=True)
        else:
            member = cache_status_member(node_id, fwd=forward, collapsed=True)
        state = CacheState.MISS if started else CacheState.PENDING
        return await self._serve(request, stored, fetch, state, member, seconds)

    async def _look_up(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        try:
            look = await self._lookups.look(request, None)
        except RequestError as error:
            self._remember(request.key, error)
            raise
        member = cache_status_member(self._means.node_id, fwd=Forward.URI_MISS, fwd_status=look.status)
        return self._head_answer(request, look.representation, None, CacheState.MISS, member, look.seconds)

    async def _confirm(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        """HEAD of something stale: a conditional HEAD."""
        assert stored is not None
        try:
            look = await self._lookups.look(request, stored)
        except UnknownAsset as error:
            self._means.observer.revalidated("gone")
            await self._means.store.remove(stored)
            self._remember(request.key, error)
            raise
        except SourceError:
            if not self._may_serve_stale(stored, request.now):
                raise
            self._means.observer.stale_served("error")
            return await self._hit(request, stored)
        node_id = self._means.node_id
        if look.confirmed:
            member = cache_status_member(node_id, fwd=Forward.STALE, fwd_status=look.status)
            return self._head_answer(
                request, stored.representation, stored.sha256, CacheState.HIT, member, look.seconds
            )
        member = cache_status_member(node_id, fwd=Forward.STALE, fwd_status=look.status)
        return self._head_answer(request, look.representation, None, CacheState.MISS, member, look.seconds)

    async def _pass(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        """Not to be stored: a request of its own for this client."""
        reason = self._unstorable.get(request.key, request.now)
        began = self._means.clock.monotonic()
        try:
            exchange, representation, start = await open_pass(self._means, request)
        except RequestError as error:
            self._remember(request.key, error)
            raise
        seconds = self._means.clock.monotonic() - began
        detail = Detail.NOT_STORABLE if reason is None else reason[0]
        try:
            return self._serve_outside(request, representation, detail, exchange, start, seconds)
        except BaseException:
            exchange.close()
            raise

    # -- carrying out ----------------------------------------------------------------------

    def _join_or_start(
        self, request: AssetRequest, stored: StoredResponse | None, *, wants_handover: bool = True
    ) -> tuple[Fetch, bool]:
        def make() -> Fetch:
            fetch = Fetch(
                self._means, request, stored, self._taken_out, self._over, wants_handover=wants_handover
            )
            self._tasks.add(fetch)
            return fetch

        return self._inflight.join_or_start(request.key, make)

    def _taken_out(self, fetch: Fetch) -> None:
        """A fetch takes no new readers any more: remember what is to be remembered of it."""
        self._inflight.leave(fetch)
        if isinstance(fetch.error, UnknownAsset | Misdirected):
            self._remember(fetch.key, fetch.error)
        head = fetch.known_head()
        if isinstance(head, Unstored):
            self._unstorable.put(fetch.key, head.reason, self._means.clock.now() + UNSTORABLE_FOR)

    def _over(self, fetch: Fetch) -> None:
        self._tasks.discard(fetch)

    def _remember(self, key: str, error: RequestError) -> None:
        if isinstance(error, UnknownAsset | Misdirected):
            seconds = negative_ttl(error.fields, default=self._negative_ttl)
            if seconds > 0:
                self._negatives.put(key, error, self._means.clock.now() + seconds)
                self._means.observer.negatives(len(self._negatives))

    def _may_serve_stale(self, stored: StoredResponse, now: float) -> bool:
        if not stored.complete or stored.detached:
            return False
        representation = stored.representation
        age = current_age(representation.initial_age, representation.response_time, now)
        return may_serve_on_error(representation.policy, age, self._stale_if_error)

    async def _serve(
        self,
        request: AssetRequest,
        stored: StoredResponse,
        fetch: Fetch | None,
        cache: CacheState,
        member: str,
        seconds: float | None = None,
    ) -> Answer:
        """Answer from the store, finished or growing."""
        means = self._means
        representation, length, sha256 = stored.representation, stored.length, stored.sha256
        means.store.touch(stored, request.now, hit=cache is CacheState.HIT)
        try:
            selection = select(request, representation, length, sha256)
        except (PreconditionFailed, RangeNotSatisfiable) as error:
            return _refused(error, cache, member, seconds)
        multipart = None
        if selection.spans is not None and len(selection.spans) > 1 and length is not None:
            multipart = Multipart(
                selection.spans,
                length,
                content_type(request.asset_id, representation),
                secrets.token_hex(16),
            )
        body: StoredBody | None = None
        if request.method == "GET" and selection.status != 304:
            try:
                blob = await means.store.open(stored)
            except BlobDamaged:
                raise _Again from None
            spans = selection.spans
            try:
                if fetch is None:
                    start, stop = (spans[0].start, spans[0].stop) if spans else (0, length or 0)
                    await means.store.prove(stored, start, min(stop, start + PIECE))
                body = StoredBody(
                    means.store, stored, blob, fetch, self._outside(request, representation),
                    means.observer, spans, multipart, collapsed=cache is CacheState.PENDING,
                )  # fmt: skip
            except BaseException as error:
                blob.close()
                if isinstance(error, BlobDamaged):
                    raise _Again from None
                raise
        told = Told(cache, member, means.node_id, request.now, "local" if body is not None else None)
        fields = response_fields(
            request.asset_id,
            representation,
            selection,
            told,
            length=length,
            sha256=sha256,
            multipart=multipart,
        )
        return Answer(
            selection.status,
            fields,
            body,
            cache,
            "local" if body is not None else "none",
            seconds,
            selection.kind,
        )

    def _outside(self, request: AssetRequest, representation: Representation) -> Callable[[], Outside]:
        means = self._means
        return lambda: Outside(means.pool, request, means.node_id, representation)

    def _serve_outside(
        self,
        request: AssetRequest,
        representation: Representation,
        detail: Detail,
        exchange: Exchange,
        start: int,
        seconds: float | None,
    ) -> Answer:
        """Pass the source's answer through; `exchange` is closed with the body, or here."""
        means = self._means
        member = cache_status_member(
            means.node_id, fwd=Forward.URI_MISS, fwd_status=exchange.status, detail=detail
        )
        length = representation.length
        asked = whole_only(request) if not representation.ranges else request
        try:
            selection = select(asked, representation, length, None)
            if selection.spans is not None and len(selection.spans) > 1:
                selection = select(whole_only(request), representation, length, None)
        except (PreconditionFailed, RangeNotSatisfiable) as error:
            exchange.close()
            return _refused(error, CacheState.MISS, member, seconds)
        body: PassBody | None = None
        if request.method == "GET" and selection.status != 304:
            outside = Outside(means.pool, request, means.node_id, representation, exchange=exchange, at=start)
            span = selection.spans[0] if selection.spans else None
            body = PassBody(
                outside,
                span.start if span else 0,
                span.stop if span else length,
                check=None if span else representation.digest,
            )
        else:
            exchange.close()
        told = Told(
            CacheState.MISS,
            member,
            means.node_id,
            request.now,
            "external" if body is not None else None,
            representation.ranges,
        )
        fields = response_fields(
            request.asset_id, representation, selection, told, length=length, sha256=None
        )
        return Answer(
            selection.status,
            fields,
            body,
            CacheState.MISS,
            "external" if body is not None else "none",
            seconds,
            selection.kind,
        )

    def _head_answer(
        self,
        request: AssetRequest,
        representation: Representation,
        sha256: bytes | None,
        cache: CacheState,
        member: str,
        seconds: float,
    ) -> Answer:
        """HEAD from what a look-up brought."""
        length = representation.length
        try:
            selection = select(request, representation, length, sha256)
        except PreconditionFailed as error:
            return _refused(error, cache, member, seconds)
        told = Told(cache, member, self._means.node_id, request.now, None)
        fields = response_fields(
            request.asset_id, representation, selection, told, length=length, sha256=sha256
        )
        return Answer(selection.status, fields, None, cache, "none", seconds)


def _refused(
    error: PreconditionFailed | RangeNotSatisfiable, cache: CacheState, member: str, seconds: float | None
) -> Answer:
    """412 and 416 tell the cache's state like any answer."""
    fields: Fields = (("X-Cache", cache.value), ("Cache-Status", member))
    if isinstance(error, RangeNotSatisfiable):
        fields += (("Content-Range", unsatisfied_range(error.complete_length)),)
        return Answer(0, fields, None, cache, "none", seconds, "unsatisfiable", error)
    return Answer(0, fields, None, cache, "none", seconds, None, error)
