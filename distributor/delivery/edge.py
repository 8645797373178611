"""The edge: looks at what is known of an asset, has `core.policy` decide, and carries it out.

    answer ─▶ Known ─▶ decide ─▶ one method per Decision ─▶ Answer (fields, and a Body to be sent)

Everything that waits for a source waits on a Fetch or a LookUp, which belong to nobody, so a client
that leaves ends nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable

from distributor.core.keys import cache_key, split_key
from distributor.core.model import AssetRequest, StoredResponse
from distributor.core.policy import Decision, Known, decide, refusal, ttl
from distributor.core.response import select
from distributor.delivery.answer import Answer, DecideAnew
from distributor.delivery.backoff import Backoff
from distributor.delivery.fetch import Fetch, Hooks
from distributor.delivery.head import Filling, Head, Unstored
from distributor.delivery.inflight import InFlight
from distributor.delivery.lookup import LookUps
from distributor.delivery.means import Means, received_from
from distributor.delivery.memory import Memory
from distributor.delivery.passing import open_pass
from distributor.delivery.serving import Serving, Story
from distributor.delivery.slots import Slots
from distributor.delivery.variants import key_under, keyed
from distributor.errors import (
    EdgeError,
    FetchCancelled,
    LoopDetected,
    Misdirected,
    OnlyIfCached,
    Overloaded,
    RequestError,
    SourceError,
    SourceRefused,
    StoreError,
    UnknownAsset,
    VersionChanged,
    anew,
)
from distributor.http.cache_status import CacheState, Detail, Forward, cache_status_member
from distributor.http.freshness import current_age, may_serve_on_error, negative_ttl

log = logging.getLogger("distributor.edge")

Handler = Callable[[AssetRequest, StoredResponse | None], Awaitable[Answer]]

ATTEMPTS = 4  # a request whose fetch was purged, or whose blob proved bad, begins anew this often
UNSTORABLE_FOR = 60.0  # seconds for which a key is passed through without trying to store it


class Edge:
    """Answers asset requests from `means`.

    negative_ttl, stale_if_error  seconds, used where the source says nothing
    """

    def __init__(self, means: Means, *, negative_ttl: float, stale_if_error: float) -> None:
        self._means = means
        self._serving = Serving(means)
        self._closed = False
        self._negative_ttl = negative_ttl
        self._stale_if_error = stale_if_error
        self._slots = Slots(means.max_fetches, means.max_waiting, means.observer)
        self._inflight: InFlight[Fetch] = InFlight()
        self._tasks: set[Fetch] = set()
        self._hooks = Hooks(self._inflight.moved, self._taken_out, self._tasks.discard)
        self._negatives: Memory[RequestError] = Memory()
        self._unstorable: Memory[Detail] = Memory()
        self._backoff = Backoff(means.clock)
        self._lookups = LookUps(means, negative_ttl, self._backoff)
        self._carry_out: dict[Decision, Handler] = {
            Decision.MISDIRECTED: self._misdirected,
            Decision.REMEMBERED: self._remembered,
            Decision.HIT: self._hit,
            Decision.HIT_THEN_REVALIDATE: self._hit_then_revalidate,
            Decision.JOIN: self._fetch,
            Decision.ONLY_IF_CACHED: self._refused,
            Decision.LOOP: self._refused,
            Decision.LOOK_UP: self._look_up,
            Decision.CONFIRM: self._confirm,
            Decision.RELAY: self._pass,
            Decision.REVALIDATE: self._fetch,
            Decision.RESUME: self._fetch,
            Decision.FETCH: self._fetch,
        }

    # -- what the API calls ----------------------------------------------------------------

    async def answer(self, request: AssetRequest) -> Answer:
        """Decide and carry out. Never raises EdgeError: it is in the answer.

        Cancelling it ends no fetch. The answer's body must be closed.
        """
        asked = request
        try:
            for _ in range(ATTEMPTS):
                try:
                    request, stored = await self._stored(asked)
                    known = self._known(request, stored)
                    decision = decide(request, known, node_id=self._means.node_id)
                    return await self._carry_out[decision](request, stored)
                except (FetchCancelled, DecideAnew):
                    if self._closed:
                        raise FetchCancelled("the node stops") from None
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
        asked = AssetRequest("GET", asset_id, key, split_key(key).query, (), now)
        request, stored = await self._stored(asked)
        decision = decide(request, self._known(request, stored), node_id=self._means.node_id)
        if decision is Decision.HIT and stored is not None and stored.complete:
            return
        if decision is Decision.MISDIRECTED:
            raise Misdirected("its bucket is not distributed by this node")
        remembered = self._negatives.get(request.key, now)
        if decision is Decision.REMEMBERED and remembered is not None:
            raise anew(remembered[0])
        fetch, _ = self._join_or_start(request, stored, wants_handover=False)
        whole = _Whole()
        fetch.join(whole)
        try:
            head = await fetch.head()
            if isinstance(head, Unstored):
                raise StoreError(f"it cannot be stored ({head.reason.value})")
            await fetch.finished()
        finally:
            fetch.leave(whole)
        if isinstance(head, Filling) and not head.stored.complete:
            raise StoreError("it could not be stored whole")

    def fetches(self) -> list[Fetch]:
        """Fetches that take new readers."""
        return list(self._inflight)

    def forget(self, asset_ids: set[str]) -> None:
        """Forget what is remembered of assets without being stored: 404, 410, 421, look-ups."""
        for memory in (self._negatives, self._unstorable):
            memory.forget_if(lambda key: split_key(key).asset_id in asset_ids)
        self._backoff.forget_if(lambda key: split_key(key).asset_id in asset_ids)
        self._lookups.forget(asset_ids)
        self._means.observer.negatives(len(self._negatives))

    async def close(self) -> None:
        """Cancel all fetches; what they have is kept for the next start. None is begun any more."""
        self._closed = True
        fetches = list(self._tasks)
        for fetch in fetches:
            fetch.cancel()
        for fetch in fetches:
            try:
                await fetch.finished()
            except EdgeError:
                continue
        await self._lookups.close()

    # -- what is known ---------------------------------------------------------------------

    async def _stored(self, request: AssetRequest) -> tuple[AssetRequest, StoredResponse | None]:
        """The request with the key it has among the variants, and what is stored for that."""
        store = self._means.store
        if store.recovering and store.get(request.key) is None:
            await store.find(request.key)
        if self._means.transparent:
            request = keyed(request, store.alike(request.key))
        return request, store.get(request.key)

    def _known(self, request: AssetRequest, stored: StoredResponse | None) -> Known:
        fetch = self._inflight.get(request.key)
        filled = fetch.stored if fetch is not None else None
        held = filled or stored
        bucket = held.representation.bucket if held is not None else None
        return Known(
            stored=stored,
            served=bucket is None or self._means.served(bucket),
            remembered=self._negatives.get(request.key, request.now) is not None,
            fetching=fetch is not None,
            asked_present=stored is not None and self._asked_present(request, stored),
            unstorable=self._unstorable.get(request.key, request.now) is not None,
        )

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

    async def _refused(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        self._refuse(request)
        raise DecideAnew

    def _refuse(self, request: AssetRequest) -> None:
        """Raise where no source may be asked for `request`."""
        reason = refusal(request, self._means.node_id)
        if reason is Decision.ONLY_IF_CACHED:
            raise OnlyIfCached
        if reason is Decision.LOOP:
            raise LoopDetected

    async def _remembered(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        item = self._negatives.get(request.key, request.now)
        if item is None:
            raise DecideAnew
        error, until = item
        member = cache_status_member(self._means.node_id, ttl=until - request.now, detail=Detail.NEGATIVE)
        return Answer(0, (("Cache-Status", member),), error=error)

    async def _hit(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        assert stored is not None
        member = cache_status_member(self._means.node_id, ttl=ttl(stored, request.now))
        return await self._serving.stored(request, stored, None, Story(CacheState.HIT, member))

    async def _hit_then_revalidate(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        """`stale-while-revalidate`. HEAD starts no fetch: it has a look-up do it."""
        self._means.observer.stale_served("revalidating")
        with contextlib.suppress(FetchCancelled):
            if request.method == "HEAD":
                self._lookups.start(request, stored)
            else:
                self._join_or_start(request, stored, wants_handover=False)
        return await self._hit(request, stored)

    async def _fetch(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        """Join the fetch under way or start one, wait for its head, and serve what it brings."""
        if stored is not None and self._just_failed(request, stored):
            return await self._stale(request, stored)
        fetch, started = self._join_or_start(request, stored)
        fetch.expect()
        try:
            head = await self._head_of(fetch, started)
            return await self._serve_fetch(request, stored, fetch, head, started)
        except (SourceError, Overloaded) as error:
            if stored is None or not self._may_serve_stale(stored, request.now, error):
                raise
            log.info("serving %r stale: %s", request.asset_id, error)
            return await self._stale(request, stored)
        finally:
            fetch.unexpect()
            if started:
                fetch.disown()

    def _just_failed(self, request: AssetRequest, stored: StoredResponse) -> bool:
        """No source gave it a moment ago, and what is stored will do until it is time to ask again."""
        error = self._backoff.last(request.key)
        return error is not None and self._may_serve_stale(stored, request.now, error)

    async def _stale(self, request: AssetRequest, stored: StoredResponse) -> Answer:
        self._means.observer.stale_served("error")
        return await self._hit(request, stored)

    async def _head_of(self, fetch: Fetch, started: bool) -> Head:
        if started:
            return await fetch.head()
        observer = self._means.observer
        observer.collapsed()
        observer.collapsed_waiting(1)
        try:
            return await fetch.head()
        finally:
            observer.collapsed_waiting(-1)

    async def _serve_fetch(
        self,
        request: AssetRequest,
        stored: StoredResponse | None,
        fetch: Fetch,
        head: Head,
        started: bool,
    ) -> Answer:
        seconds = fetch.source_seconds if started else None
        if not isinstance(head, Unstored):
            if self._means.transparent and key_under(request, head.stored.representation) != head.stored.key:
                raise DecideAnew  # Another variant than this request's.
            if isinstance(head, Filling):
                return await self._serve_filling(request, head.stored, fetch, started, seconds)
            if not head.stored.complete and not self._asked_present(request, head.stored):
                raise DecideAnew  # The version is confirmed; now what is absent is to be had.
            member = cache_status_member(self._means.node_id, fwd=Forward.STALE, fwd_status=304)
            story = Story(CacheState.HIT, member, seconds)
            return await self._serving.stored(request, head.stored, None, story)
        exchange = fetch.take_over() if started else None
        if exchange is not None:
            return self._serving.outside(
                request, head.representation, head.reason, exchange, head.start, seconds
            )
        if head.representation.status >= 500:
            raise SourceRefused(head.representation.status)  # All sources were asked; not once for each.
        self._refuse(request)
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
        forward = Forward.VARY_MISS if fetch.other_variants else Forward.URI_MISS
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
        return await self._serving.stored(request, stored, fetch, Story(state, member, seconds))

    async def _look_up(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        try:
            look = await self._lookups.look(request, None)
        except RequestError as error:
            self._remember(request.key, error)
            raise
        node_id, seconds = self._means.node_id, None if look.shared else look.seconds
        if look.shared:
            member = cache_status_member(node_id, fwd=Forward.URI_MISS, collapsed=True)
        else:
            member = cache_status_member(node_id, fwd=Forward.URI_MISS, fwd_status=look.status)
        story = Story(CacheState.MISS, member, seconds)
        return self._serving.head_only(request, look.representation, None, story)

    async def _confirm(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        """HEAD of something stale: a conditional HEAD."""
        assert stored is not None
        if self._just_failed(request, stored):
            return await self._stale(request, stored)
        try:
            look = await self._lookups.look(request, stored)
        except RequestError as error:
            self._remember(request.key, error)
            raise
        except SourceError as error:
            self._means.observer.revalidated("error")
            if not self._may_serve_stale(stored, request.now, error):
                raise
            return await self._stale(request, stored)
        member = cache_status_member(self._means.node_id, fwd=Forward.STALE, fwd_status=look.status)
        if look.confirmed:
            story = Story(CacheState.HIT, member, look.seconds)
            return self._serving.head_only(request, stored.representation, stored.sha256, story)
        story = Story(CacheState.MISS, member, look.seconds)
        return self._serving.head_only(request, look.representation, None, story)

    async def _pass(self, request: AssetRequest, stored: StoredResponse | None) -> Answer:
        """Not to be stored: a request of its own for this client."""
        means = self._means
        reason = self._unstorable.get(request.key, request.now)
        detail = Detail.NOT_STORABLE if reason is None else reason[0]
        began = means.clock.monotonic()
        try:
            exchange, representation, start = await open_pass(means, request)
        except RequestError as error:
            self._remember(request.key, error)
            raise
        except SourceError as error:
            self._passing_failed(request.key, error)
            raise
        if exchange.status >= 500:
            self._passing_failed(request.key, SourceRefused(exchange.status))
        seconds = means.clock.monotonic() - began
        if detail is Detail.NOT_STORABLE and means.may_store(request, received_from(exchange)).allowed:
            self._unstorable.forget(request.key)  # The next one may be kept.
        try:
            return self._serving.outside(request, representation, detail, exchange, start, seconds)
        except BaseException:
            exchange.close()
            raise

    def _passing_failed(self, key: str, error: SourceError) -> None:
        """Those who come now are not each sent to sources that fail: one fetch asks for all."""
        self._unstorable.forget(key)
        self._backoff.failed(key, error)

    # -- carrying out ----------------------------------------------------------------------

    def _join_or_start(
        self, request: AssetRequest, stored: StoredResponse | None, *, wants_handover: bool = True
    ) -> tuple[Fetch, bool]:
        if self._closed:
            raise FetchCancelled("the node stops")

        def make() -> Fetch:
            relay = stored is None or not self._may_serve_stale(stored, request.now, None)
            fetch = Fetch(
                self._means,
                self._slots,
                request,
                stored,
                self._hooks,
                wants_handover=wants_handover,
                last_resort=self._means.transparent and relay,
                pause=self._backoff.pause(request.key),
            )
            if self._means.transparent and stored is None:
                primary = cache_key(request.asset_id, request.query)
                fetch.other_variants = bool(self._means.store.alike(primary))
            self._tasks.add(fetch)
            return fetch

        return self._inflight.join_or_start(request.key, make)

    def _taken_out(self, fetch: Fetch) -> None:
        """A fetch takes no new readers any more: remember what is to be remembered of it."""
        self._inflight.leave(fetch)
        if isinstance(fetch.error, RequestError):
            self._remember(fetch.key, fetch.error)
        head = fetch.known_head
        if isinstance(fetch.error, SourceError) and not isinstance(fetch.error, VersionChanged):
            self._backoff.failed(fetch.key, fetch.error)
        elif isinstance(head, Unstored) and head.representation.status >= 500:
            self._backoff.failed(fetch.key, SourceRefused(head.representation.status))
        elif fetch.ended and fetch.error is None:
            self._backoff.succeeded(fetch.key)
        if (
            isinstance(head, Unstored)
            and head.reason in (Detail.NOT_STORABLE, Detail.TOO_LARGE)
            and head.representation.status < 500
            and not fetch.with_authorization
        ):
            self._unstorable.put(fetch.key, head.reason, self._means.clock.now() + UNSTORABLE_FOR)

    def _remember(self, key: str, error: RequestError) -> None:
        if isinstance(error, UnknownAsset | Misdirected):
            seconds = negative_ttl(error.fields, default=self._negative_ttl)
            if seconds > 0:
                self._negatives.put(key, anew(error), self._means.clock.now() + seconds)
                self._means.observer.negatives(len(self._negatives))

    def _may_serve_stale(self, stored: StoredResponse, now: float, error: EdgeError | None) -> bool:
        """`stale-if-error`: no source answered, or only by 5xx.  error None: whatever it may be"""
        if not stored.complete or stored.detached:
            return False
        if isinstance(error, SourceRefused) and error.status < 500:
            return False
        representation = stored.representation
        age = current_age(representation.initial_age, representation.response_time, now)
        return may_serve_on_error(representation.policy, age, self._stale_if_error)


class _Whole:
    """A reader that wants everything and is never done: what a prefetch is to its fetch."""

    position = 0
    stop: int | None = None
