"""One fetch: everything that is done to bring one asset's bytes into the store, once, for everybody.

It belongs to nobody: readers come and go. It asks, learns the head, fills the grid by runs
(`delivery.run`), verifies, commits. Its life is drawn in `core.fetch_state`.

Rules kept here
- All bytes are of one version: every further request sends the validator and its answer is judged.
- The fill goes from the start; a reader far ahead of it gets a run of its own on the grid.
- A byte is fetched once: runs never overlap.
- What cannot be stored any more goes on to its readers through a bounded tail in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Protocol

from distributor.core.fetch_state import FetchState, advance
from distributor.core.forwarding import source_fields
from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.representation import (
    Received,
    binding,
    check_continuation,
    check_exact,
    describe,
    renewed,
    resumable,
)
from distributor.core.retry import PROGRESS, after_failure
from distributor.delivery.head import Confirmed, Filling, Head, Unstored
from distributor.delivery.means import Means
from distributor.delivery.opening import Opening, opening
from distributor.delivery.run import Run, unclaimed
from distributor.delivery.tail import Tail, hash_prefix
from distributor.delivery.waiters import Waiters
from distributor.errors import (
    BodyShort,
    DigestMismatch,
    EdgeError,
    FetchCancelled,
    Misdirected,
    SourceError,
    SpaceExhausted,
    StoreError,
    TooLarge,
    UnknownAsset,
    VersionChanged,
)
from distributor.http.cache_status import Detail
from distributor.http.freshness import may_store
from distributor.ports import Exchange, SourceRequest

log = logging.getLogger("distributor.fetch")

MAX_AHEAD = 16  # connections at a time that fill ahead, per asset
CHECKPOINT = 5.0  # seconds between two checkpoints of a growing blob


class FetchReader(Protocol):
    """A reader as its fetch sees it: where it is, and where it will stop (None: at the end)."""

    position: int
    stop: int | None


class Fetch:
    """See the head of this file.

    base    what was stored before: stale and complete (to be confirmed), or partial (to be resumed)
    on_end   called when the fetch takes no new readers any more; maybe more than once
    on_over  called once, when nothing of it is left
    wants_handover  somebody will take over the exchange of an answer that is not stored
    """

    def __init__(
        self,
        means: Means,
        request: AssetRequest,
        base: StoredResponse | None,
        on_end: Callable[[Fetch], None],
        on_over: Callable[[Fetch], None],
        *,
        wants_handover: bool = True,
    ) -> None:
        self.key = request.key
        self.asset_id = request.asset_id
        self.state = FetchState.ASKING
        self.error: EdgeError | None = None
        self.stored: StoredResponse | None = None
        self.tail: Tail | None = None
        self.verified = False
        self.source_seconds: float | None = None
        self.fwd_status = 0
        self.resumed_partial = False
        self.replaced_stale = base is not None and base.complete
        self._wants_handover = wants_handover
        self._handover: Exchange | None = None
        self._means = means
        self._request = request
        self._base = base
        self._on_end = on_end
        self._on_over = on_over
        self._head: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._runs: set[Run] = set()
        self._readers: set[FetchReader] = set()
        self._waiters = Waiters()
        self._changed = asyncio.Event()
        self._sources: set[str] = set()
        self._granted = 0
        self._loose = False
        self._retained: StoredResponse | None = None

    # -- for the edge and its readers ------------------------------------------------------

    def start(self) -> None:
        """Begin; called once, by the in-flight table."""
        if self._base is not None:
            self._means.store.retain(self._base)
            self._retained = self._base
        self._task = asyncio.create_task(self._life(), name=f"fetch {self.key}")

    async def head(self) -> Head:
        """Wait until the head is known. Raises what the fetch failed with. Cancelling it is harmless."""
        return await asyncio.shield(self._head)

    def known_head(self) -> Head | None:
        """The head, if it is known already and was not a failure."""
        done = self._head.done() and not self._head.cancelled() and self._head.exception() is None
        return self._head.result() if done else None

    @property
    def ended(self) -> bool:
        """No further byte will come."""
        return self.state.ended

    def take_over(self) -> Exchange | None:
        """The exchange of an answer that is not stored: once, for the one who started the fetch."""
        exchange, self._handover = self._handover, None
        return exchange

    def disown(self) -> None:
        """The one who started the fetch is gone: nobody will take over."""
        self._wants_handover = False
        exchange = self.take_over()
        if exchange is not None:
            exchange.close()

    def join(self, reader: FetchReader) -> None:
        """Count `reader` in, until leave."""
        self._readers.add(reader)

    def leave(self, reader: FetchReader) -> None:
        """Count `reader` out. What was started ahead for it alone stops at its segment's end."""
        self._readers.discard(reader)
        if self._means.fill == "whole" and self.stored is not None:
            size = self.stored.segments.size
            for run in self._runs:
                if run.owner is reader:
                    run.end_at(-(-max(run.busy_until, run.position + 1) // size) * size)
        if not self._readers and (self._loose or self.tail is not None):
            self.cancel()
        self._changed.set()
        if self.tail is not None:
            self.tail.trim(self._slowest())

    def want(self, reader: FetchReader) -> None:
        """See to it that the byte at the reader's position comes soon: start a run ahead if need be."""
        stored = self.stored
        if stored is None or stored.length is None or self.state is not FetchState.FILLING or self.tail:
            return
        segments = stored.segments
        missing = segments.missing_from(reader.position, reader.stop)
        if missing is None:
            return
        holder = next((run for run in self._runs if run.covers(missing)), None)
        if holder is not None and holder.near(missing, segments.size):
            return
        if not resumable(stored.representation):
            return
        if sum(run.owner is not None for run in self._runs) >= MAX_AHEAD:
            return
        index = missing // segments.size
        start = index * segments.size + segments.filled(index)
        if holder is not None:
            old_stop, holder.stop = holder.stop, index * segments.size
            gap = unclaimed(segments, self._runs, start, reader.stop or old_stop)
        else:
            gap = unclaimed(segments, self._runs, start, reader.stop)
        if gap is not None:
            self._means.observer.segment_fetch()
            self._launch(Run(*gap, owner=reader))

    async def wait(self, position: int) -> None:
        """Wait until the byte at `position` is there, or the fetch's situation has changed.

        Raises what the fetch failed with. Bounded by the deadlines of the sources.
        """
        if self.error is not None:
            raise self.error
        await self._waiters.wait(position)

    def cut_loose(self) -> None:
        """Purge: its readers finish, nothing is kept, it takes no new ones."""
        self._loose = True
        self._on_end(self)
        if not self._readers:
            self.cancel()

    def cancel(self) -> None:
        """Stop now; readers that still wait get FetchCancelled."""
        if self._task is not None:
            self._task.cancel()

    async def finished(self) -> None:
        """Wait for the end; raises what it failed with."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.error is not None:
            raise self.error

    # -- its life --------------------------------------------------------------------------

    async def _life(self) -> None:
        clock = self._means.clock
        began = clock.monotonic()
        self._means.observer.fetch_began()
        try:
            await self._ask()
            if self.state is FetchState.FILLING:
                await self._fill()
                await self._finish()
        except asyncio.CancelledError:
            self._end(FetchState.CANCELLED, FetchCancelled("the fetch was cut off"))
        except EdgeError as error:
            if isinstance(error, UnknownAsset) and self._base is not None:
                self._means.observer.revalidated("gone")
                await self._means.store.remove(self._base)
            self._end(FetchState.FAILED, error)
        except Exception:
            log.exception("fetch of %r failed by a defect", self._request.asset_id)
            self._end(FetchState.FAILED, EdgeError("defect"))
        finally:
            await self._tidy()
            self._on_over(self)
            self._means.observer.fetch_ended(self._result(), clock.monotonic() - began)

    def _result(self) -> str:
        if isinstance(self.error, DigestMismatch):
            return "digest"
        if isinstance(self.error, VersionChanged):
            return "version"
        if self.state in (FetchState.FAILED, FetchState.CANCELLED, FetchState.UNSTORED):
            return str(self.state.value)
        return "complete"

    def _end(self, state: FetchState, error: EdgeError | None = None) -> None:
        """Take an end state, tell everybody, take no new readers."""
        if self.state.ended:
            return
        self.state = advance(self.state, state)
        self.error = error
        self._on_end(self)
        if error is not None and not self._head.done():
            self._head.set_exception(error)
            self._head.exception()  # nobody may be waiting for it any more
        self._waiters.wake_all()

    async def _tidy(self) -> None:
        """Stop what is left of the runs, keep or drop the partial response, give the pin back."""
        tasks = [run.task for run in self._runs if run.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        self._runs.clear()
        if self._retained is not None:
            self._means.store.release(self._retained)
        stored = self.stored
        if stored is None:
            return
        try:
            bad = isinstance(self.error, DigestMismatch | VersionChanged)
            keep = not (bad or self._loose or self.tail) and resumable(stored.representation)
            if not stored.complete and not stored.detached:
                if keep and stored.segments.present:
                    await self._means.store.checkpoint(stored)
                else:
                    await self._means.store.remove(stored)
        except StoreError as error:
            log.warning("partial response of %r could not be kept: %s", self._request.asset_id, error)
        finally:
            self._means.store.release(stored)

    # -- asking ----------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Learn the head: confirm, resume or begin."""
        first = opening(self._request, self._base, self._means.segment, self._means.fill, self._means.node_id)
        began = self._means.clock.monotonic()
        try:
            exchange = await self._open(first)
        except VersionChanged:
            # What is stored in part, or was asked for ahead, is not to be had: begin anew, whole.
            if self._base is not None and not self._base.complete:
                await self._means.store.remove(self._base)
                self._base = None
            first = first.whole()
            exchange = await self._open(first)
        self.source_seconds = self._means.clock.monotonic() - began
        self.fwd_status = exchange.status
        try:
            await self._take_head(exchange, first)
        except BaseException:
            exchange.close()
            raise

    async def _open(self, first: Opening) -> Exchange:
        def judge(received: Received) -> None:
            if first.resumes is not None and received.status == 206:
                check_continuation(first.resumes, received, first.request.start or 0)
            if received.status == 206:
                check_exact(received, first.request.start or 0, first.request.stop)

        return await self._means.pool.open(first.request, judge)

    async def _take_head(self, exchange: Exchange, first: Opening) -> None:
        means, base = self._means, self._base
        received = Received(exchange.status, exchange.fields, exchange.request_time, exchange.response_time)
        if received.status == 304 and base is not None:
            await means.store.renew(
                base, renewed(base.representation, received, default_ttl=means.default_ttl)
            )
            means.observer.revalidated("not_modified")
            exchange.close()
            self._head.set_result(Confirmed(base))
            self._end(FetchState.CONFIRMED)
            return
        if base is not None and base.complete:
            means.observer.revalidated("changed")
        representation = describe(received, default_ttl=means.default_ttl)
        if not means.served(representation.bucket):
            raise Misdirected("its bucket is not distributed by this node", fields=())
        start = 0
        if received.status == 206:
            start = first.request.start or 0
            if representation.length is None or not resumable(representation):
                # Without a total or a validator a part is of no use to anyone else: take the whole.
                exchange.close()
                self._base = None
                whole = first.whole()
                await self._take_head(await self._open(whole), whole)
                return
        storable, why = may_store(
            received.status, received.fields, method="GET", transparent=means.transparent
        )
        if not storable:
            log.debug("%r is not stored: %s", self._request.asset_id, why)
            means.observer.store_refused("not_storable")
            self._unstored(Unstored(representation, Detail.NOT_STORABLE, exchange, start))
            return
        await self._begin(exchange, first, received, representation, start)

    async def _begin(
        self,
        exchange: Exchange,
        first: Opening,
        received: Received,
        representation: Representation,
        start: int,
    ) -> None:
        """Make room, or take up the partial response; then the head is known."""
        means, base = self._means, self._base
        try:
            if first.resumes is not None and received.status == 206 and base is not None:
                self.resumed_partial = True
                self.stored = base
                means.store.retain(base)
                await means.store.renew(
                    base, renewed(base.representation, received, default_ttl=means.default_ttl)
                )
                if means.fill == "whole" and base.length is not None:
                    await means.store.reserve(base, base.length - base.segments.present)
            else:
                asked = means.fill == "asked" and received.status == 206
                self._granted = means.segment
                self.stored = await means.store.begin(
                    self.key,
                    self._request.asset_id,
                    representation,
                    means.clock.now(),
                    query=self._request.query,
                    reserve=0 if asked else None,
                )
                if asked and representation.length is not None:
                    until = min(first.request.stop or representation.length, representation.length)
                    await means.store.reserve(self.stored, until - start)
        except StoreError as error:
            reason = Detail.STORE_FAILED
            if isinstance(error, TooLarge):
                reason = Detail.TOO_LARGE
            elif isinstance(error, SpaceExhausted):
                reason = Detail.NO_ROOM
            means.observer.store_refused(reason.replace("-", "_"))
            self._unstored(Unstored(representation, reason, exchange, start))
            return
        stop = representation.length
        if received.status == 206 and stop is not None:
            stop = min(first.request.stop or stop, stop)
        self.state = advance(self.state, FetchState.FILLING)
        self._launch(Run(start, stop, exchange=exchange))
        self._head.set_result(Filling(self.stored))

    def _unstored(self, head: Unstored) -> None:
        if self._wants_handover:
            self._handover = head.exchange
        else:
            head.exchange.close()
        self._head.set_result(head)
        self._end(FetchState.UNSTORED)

    # -- filling ---------------------------------------------------------------------------

    def _launch(self, run: Run) -> None:
        self._runs.add(run)
        run.task = asyncio.create_task(self._pour(run), name=f"run {run.position} of {self.key}")
        run.task.add_done_callback(lambda _: self._changed.set())

    async def _fill(self) -> None:
        """Until every wanted byte is there: keep one run going where something is missing."""
        assert self.stored is not None
        while True:
            self._changed.clear()
            for run in [run for run in self._runs if run.task is not None and run.task.done()]:
                self._runs.discard(run)
                assert run.task is not None
                run.task.result()
                self._waiters.wake_all()
            if self._loose and not self._readers:
                raise asyncio.CancelledError
            self._top_up(self.stored)
            if not self._runs and not (self._readers_behind() and self.tail is None):
                return
            try:
                async with asyncio.timeout(CHECKPOINT):
                    await self._changed.wait()
            except TimeoutError:
                if self.tail is None and not self.stored.detached:
                    await self._means.store.checkpoint(self.stored)

    def _readers_behind(self) -> bool:
        """`fill: asked`: a reader may yet want what no run brings."""
        if self._means.fill == "whole" or self.stored is None or self.stored.segments.complete:
            return False
        return any(
            self.stored.segments.missing_from(reader.position, reader.stop) is not None
            for reader in self._readers
        )

    def _top_up(self, stored: StoredResponse) -> None:
        """`fill: whole`: when the fill itself has no run, start it at the first absent byte."""
        if self.tail is not None or stored.length is None:
            return
        if self._means.fill == "asked":
            if not self._runs:
                for reader in list(self._readers):
                    self.want(reader)
            return
        if any(run.owner is None for run in self._runs):
            return
        gap = unclaimed(stored.segments, self._runs, 0, None)
        if gap is not None:
            self._launch(Run(*gap))

    async def _pour(self, run: Run) -> None:
        """Bring a run's bytes, resuming at the first absent one when a source fails."""
        assert self.stored is not None
        representation = self.stored.representation
        failures = gained = 0
        if self._means.fill == "asked" and run.exchange is None and run.stop is not None:
            await self._means.store.reserve(self.stored, run.stop - run.position)
        try:
            while not run.over:
                try:
                    if run.exchange is None:
                        run.exchange = await self._reopen(run)
                    data = await run.exchange.read()
                    if not data and run.stop is not None:
                        raise BodyShort(source=run.source)
                except SourceError as error:
                    run.drop_exchange()
                    failures = 1 if gained >= PROGRESS else failures + 1
                    gained = 0
                    self._means.pool.failed(error)
                    step = after_failure(error, failures, len(self._means.pool))
                    if step is None or not resumable(representation) or self.stored.length is None:
                        raise
                    await asyncio.sleep(step.pause)
                    self._means.observer.resumed()
                    continue
                if not data:
                    break
                gained += len(data)
                await self._keep(run, data)
            if run.stop is None:
                await self._fix_length(run)
        finally:
            run.drop_exchange()

    async def _reopen(self, run: Run) -> Exchange:
        """Ask for the rest of a run, bound to the version."""
        assert self.stored is not None
        representation = self.stored.representation
        start, stop = run.position, run.stop

        def judge(received: Received) -> None:
            check_continuation(representation, received, start)
            check_exact(received, start, stop)

        last = None if stop is None or stop == self.stored.length else stop
        exchange = await self._means.pool.open(
            SourceRequest(
                "GET",
                self._request.asset_id,
                self._request.query,
                start,
                last,
                binding(representation),
                source_fields(self._request, self._means.node_id),
            ),
            judge,
        )
        run.source = exchange.source
        self._sources.add(exchange.source)
        return exchange

    async def _keep(self, run: Run, data: bytes) -> None:
        """Write what came, as far as the run still goes, and wake who waits for it."""
        stored = self.stored
        assert stored is not None
        if run.stop is not None:
            data = data[: run.stop - run.position]
        run.busy_until = run.position + len(data)
        self._sources.add(run.source)
        if self.tail is None:
            try:
                await self._make_room(stored, run.busy_until)
                await self._means.store.write(stored, run.position, data)
            except StoreError as error:
                written = min(stored.segments.available(run.position), len(data))
                self._advance(run, written)
                data = data[written:]
                if self.tail is None:
                    await self._spill(run, error)
        if self.tail is not None:
            if run is not self.tail.run:
                run.end_at(run.position)
                return
            await self.tail.push(data, self._slowest)
        self._advance(run, len(data))

    async def _make_room(self, stored: StoredResponse, until: int) -> None:
        """A body of unknown length: reserve a segment at a time, before it is written."""
        while stored.length is None and until > self._granted:
            await self._means.store.reserve(stored, self._means.segment)
            self._granted += self._means.segment

    def _advance(self, run: Run, count: int) -> None:
        before = run.position
        run.position += count
        self._waiters.wake(before, run.position)

    async def _fix_length(self, run: Run) -> None:
        assert self.stored is not None
        if self.tail is not None:
            self.tail.end = run.position
            self._waiters.wake_all()
            return
        await self._means.store.finish_length(self.stored, run.position)

    # -- when the store fails --------------------------------------------------------------

    async def _spill(self, run: Run, error: StoreError) -> None:
        """The disk takes no more: take no new readers, and let this run's bytes go on in memory."""
        stored = self.stored
        assert stored is not None
        reason = "no_room" if isinstance(error, SpaceExhausted | TooLarge) else "store_failed"
        self._means.observer.store_refused(reason)
        log.warning("%r goes on unstored from byte %d: %s", self._request.asset_id, run.position, error)
        self._on_end(self)
        hasher = None
        if stored.representation.digest is not None and stored.segments.available(0) >= run.position:
            hasher = await self._hash_prefix(stored, run.position)
        self.tail = Tail(run, hasher, droppable=resumable(stored.representation))
        await self._means.store.remove(stored)
        self._waiters.wake_all()
        if not self._readers:
            raise asyncio.CancelledError

    async def _hash_prefix(self, stored: StoredResponse, stop: int) -> hashlib._Hash:
        blob = await self._means.store.open(stored)
        try:
            return await asyncio.to_thread(hash_prefix, blob.fd, stop)
        finally:
            blob.close()

    def _slowest(self) -> int | None:
        """Position of the last reader that still has the tail before it; None: there is none."""
        if self.tail is None:
            return None
        ahead = [r.position for r in self._readers if r.position >= self.tail.base]
        return min(ahead, default=None)

    # -- the end ---------------------------------------------------------------------------

    async def _finish(self) -> None:
        means, stored = self._means, self.stored
        assert stored is not None
        if self.tail is not None:
            self._check_digest(stored, self.tail.digest())
            self._end(FetchState.UNSTORED)
            return
        if not stored.segments.complete:
            self._end(FetchState.PARTIAL)
            return
        self.state = advance(self.state, FetchState.VERIFYING)
        sha256 = await means.store.digest(stored)
        self._check_digest(stored, sha256)
        if stored.detached:
            self._end(FetchState.COMPLETE)
            return
        try:
            await means.store.commit(stored, sha256, means.clock.now())
        except StoreError as error:
            means.observer.store_refused("store_failed")
            log.warning("%r could not be committed: %s", self._request.asset_id, error)
            self._loose = True
            self._end(FetchState.UNSTORED)
            return
        self._end(FetchState.COMPLETE)

    def _check_digest(self, stored: StoredResponse, sha256: bytes | None) -> None:
        declared = stored.representation.digest
        if declared is not None and sha256 is not None and sha256 != declared:
            error = DigestMismatch("the body does not hash to its Repr-Digest")
            for name in self._sources:
                self._means.pool.failed(error, name)
            raise error
        self.verified = True
