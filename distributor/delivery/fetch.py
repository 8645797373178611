"""One fetch: everything that is done to bring one asset's bytes into the store, once, for everybody.

It belongs to nobody: readers come and go. It asks (`delivery.asking`), fills the grid by runs
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
from typing import NamedTuple, Protocol

from distributor.core.fetch_state import FetchState, advance
from distributor.core.model import AssetRequest, StoredResponse
from distributor.core.representation import resumable
from distributor.delivery.asking import Asking
from distributor.delivery.bringing import Bringing
from distributor.delivery.head import Confirmed, Filling, Head, Unstored
from distributor.delivery.means import Means
from distributor.delivery.opening import prefix_end
from distributor.delivery.room import Room
from distributor.delivery.run import Run, unclaimed
from distributor.delivery.slots import Slots
from distributor.delivery.tail import Tail, hash_prefix
from distributor.delivery.waiters import Waiters
from distributor.errors import (
    DigestMismatch,
    EdgeError,
    FetchCancelled,
    RangeIgnored,
    RequestError,
    SourceError,
    SpaceExhausted,
    StoreError,
    TooLarge,
    UnknownAsset,
    VersionChanged,
    anew,
)
from distributor.ports import Exchange

log = logging.getLogger("distributor.fetch")

MAX_AHEAD = 16  # connections at a time that fill ahead, per asset
CHECKPOINT = 5.0  # seconds between two checkpoints of a growing blob


class FetchReader(Protocol):
    """A reader as its fetch sees it: where it is, and where it will stop (None: at the end)."""

    position: int
    stop: int | None


class Hooks(NamedTuple):
    """What a fetch tells whoever registered it.

    moved      it has another key than the one it was begun with, given here
    taken_out  it takes no new readers any more; maybe told more than once
    over       nothing of it is left; told once
    """

    moved: Callable[[Fetch, str], None]
    taken_out: Callable[[Fetch], None]
    over: Callable[[Fetch], None]


class Fetch:
    """See the head of this file.

    base            what was stored before: complete (to be confirmed), or partial (to be resumed)
    known_head      None until it is known, or if there never was one
    wants_handover  somebody will take over the exchange of an answer that is not stored
    last_resort     a 5xx is an answer too, once all sources gave nothing better (transparent)
    pause           seconds to wait before a source is asked: the last attempt has just failed
    """

    def __init__(
        self,
        means: Means,
        slots: Slots,
        request: AssetRequest,
        base: StoredResponse | None,
        hooks: Hooks,
        *,
        wants_handover: bool = True,
        last_resort: bool = False,
        pause: float = 0.0,
    ) -> None:
        self.key = request.key
        self.asset_id = request.asset_id
        self.with_authorization = means.forwards_authorization(request)
        self.state = FetchState.ASKING
        self.error: EdgeError | None = None
        self.stored: StoredResponse | None = None
        self.tail: Tail | None = None
        self.verified = False
        self.source_seconds: float | None = None
        self.fwd_status = 0
        self.resumed_partial = False
        self.replaced_stale = base is not None
        self.other_variants = False  # are stored, as the one who starts it knows
        self._wants_handover = wants_handover
        self._pause = pause
        self._handover: Exchange | None = None
        self._means = means
        self._slots = slots
        self._request = request
        self._base = base
        self._hooks = hooks
        self._asking = Asking(means, request, base, last_resort=last_resort)
        self.known_head: Head | None = None
        self._head_known = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._begun = self._cut_off = False
        self._runs: set[Run] = set()
        self._readers: set[FetchReader] = set()
        self._expected = 0
        self._patient: set[object] = set()
        self._no_ranges = False
        self._waiters = Waiters()
        self._changed = asyncio.Event()
        self._spilling = asyncio.Lock()
        self._loose = False

    # -- for the edge and its readers ------------------------------------------------------

    def start(self) -> None:
        """Begin; called once, by the in-flight table."""
        if self._base is not None:
            self._means.store.retain(self._base)
        self._task = asyncio.create_task(self._life(), name=f"fetch {self.key}")

    async def head(self) -> Head:
        """Wait until the head is known. Raises what the fetch failed with. Cancelling it is harmless."""
        await self._head_known.wait()
        if self.known_head is None:
            raise anew(self.error or FetchCancelled())
        return self.known_head

    @property
    def ended(self) -> bool:
        """No further byte will come."""
        return self.state.ended

    def take_over(self) -> Exchange | None:
        """The exchange of an answer that is not stored: once, for the one who started the fetch."""
        exchange, self._handover = self._handover, None
        return exchange

    def disown(self) -> None:
        """The one who started the fetch needs nothing more of it: nobody will take over."""
        self._wants_handover = False
        exchange = self.take_over()
        if exchange is not None:
            exchange.close()

    def expect(self) -> None:
        """Somebody waits for the head and may become a reader; until `unexpect`."""
        self._expected += 1

    def unexpect(self) -> None:
        """They have become one by now, or never will."""
        self._expected -= 1
        self._changed.set()
        self._unless_wanted()

    def join(self, reader: FetchReader) -> None:
        """Count `reader` in, until leave."""
        self._readers.add(reader)

    def leave(self, reader: FetchReader) -> None:
        """Count `reader` out. What was started ahead for it alone stops at its segment's end."""
        self._readers.discard(reader)
        self._patient.discard(reader)
        if self._means.fill == "whole" and self.stored is not None:
            size = self.stored.segments.size
            for run in self._runs:
                if run.owner is reader:
                    run.end_at(-(-max(run.busy_until, run.position + 1) // size) * size)
        self._changed.set()
        self._unless_wanted()
        self.moved()

    def moved(self) -> None:
        """A reader has got on: what all have passed need be held no longer."""
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
        self._top_up(stored)
        holders = [run for run in self._runs if run.covers(missing)]
        if any(run.tentative or run.near(missing, segments.size) for run in holders):
            return
        if self._no_ranges or reader in self._patient or not resumable(stored.representation):
            return
        if sum(run.owner is not None for run in self._runs) >= MAX_AHEAD:
            return
        others = [run for run in self._runs if run not in holders]
        stop = min(
            [end for end in (reader.stop, *(run.stop for run in holders)) if end is not None], default=None
        )
        gap = unclaimed(segments, others, prefix_end(segments, missing), stop)
        if gap is not None:
            self._means.observer.segment_fetch()
            run = Run(*gap, owner=reader)
            run.tentative = bool(holders)
            self._launch(run)

    async def wait(self, position: int) -> None:
        """Wait until the byte at `position` is there, or the fetch's situation has changed.

        Bounded by the deadlines of the sources. Cancelling it is harmless.
        """
        await self._waiters.wait(position)

    def cut_loose(self) -> None:
        """Purge: its readers finish, nothing is kept, it takes no new ones.

        Before the head is known nobody has anything of it: those who wait begin anew.
        """
        self._loose = True
        self._hooks.taken_out(self)
        if self.known_head is None:
            self.cancel()
        self._unless_wanted()

    def cancel(self) -> None:
        """Stop now; readers that still wait get FetchCancelled."""
        if self._task is None or self.state.ended:
            return
        self._cut_off = True
        if self._begun:
            self._task.cancel()

    async def finished(self) -> None:
        """Wait for the end; raises what it failed with."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.error is not None:
            raise anew(self.error)

    # -- its life --------------------------------------------------------------------------

    async def _life(self) -> None:
        means, clock = self._means, self._means.clock
        began = clock.monotonic()
        means.observer.fetch_began()
        holds_slot = False
        self._begun = True
        try:
            if self._cut_off:
                raise FetchCancelled
            await asyncio.sleep(self._pause)
            await self._slots.take()
            holds_slot = True
            await self._ask()
            if self.state is FetchState.FILLING:
                await self._fill()
                await self._finish()
        except (asyncio.CancelledError, FetchCancelled):
            self._end(FetchState.CANCELLED, FetchCancelled("the fetch was cut off"))
        except EdgeError as error:
            await self._failed(error)
        except Exception:
            log.exception("fetch of %r failed by a defect", self.asset_id)
            self._end(FetchState.FAILED, EdgeError("defect"))
        finally:
            try:
                await self._tidy()
            finally:
                if holds_slot:
                    self._slots.give()
                self._hooks.over(self)
                means.observer.fetch_ended(self._result(), clock.monotonic() - began)

    async def _failed(self, error: EdgeError) -> None:
        base = self._base
        if isinstance(error, UnknownAsset) and base is not None and self.stored is None:
            if base.complete:
                self._means.observer.revalidated("gone")
            try:
                await self._means.store.remove(base)
            except StoreError as failure:
                log.warning("%r is gone at its source but not here: %s", self.asset_id, failure)
            finally:
                self._end(FetchState.FAILED, anew(error))
            return
        if self.known_head is None and base is not None and base.complete:
            self._means.observer.revalidated("error")
        self._end(FetchState.FAILED, anew(error))

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
        self._hooks.taken_out(self)
        self._head_known.set()
        self._waiters.wake_all()

    async def _tidy(self) -> None:
        """Stop what is left of the runs, keep or drop the partial response, give the pins back."""
        tasks = []
        for run in self._runs:
            run.halted = True
            if run.task is not None:
                tasks.append(run.task)
                if not run.writing:
                    # A write that was cut off would go on behind our back, and the map with it.
                    run.task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        self._runs.clear()
        stored, store = self.stored, self._means.store
        try:
            if stored is not None and not stored.complete and not stored.detached:
                bad = isinstance(self.error, DigestMismatch | VersionChanged | StoreError | RequestError)
                dropped = bad or self._loose or self.tail is not None
                usable = stored.length is not None and resumable(stored.representation)
                if usable and not dropped and stored.segments.present:
                    await store.checkpoint(stored)
                else:
                    await store.remove(stored)
        except StoreError as error:
            log.warning("partial response of %r could not be kept: %s", self.asset_id, error)
        finally:
            if stored is not None:
                store.release(stored)
            if self._base is not None:
                store.release(self._base)

    async def _ask(self) -> None:
        asked = await self._asking.ask()
        head = asked.head
        self.source_seconds, self.fwd_status = asked.seconds, asked.status
        if isinstance(head, Unstored):
            if self._wants_handover:
                self._handover = head.exchange
            else:
                head.exchange.close()
        self.known_head = head
        if isinstance(head, Filling):
            self.stored = head.stored
            self.resumed_partial = asked.resumed
            segments = head.stored.segments
            self._bringing = Bringing(
                self._means, self._request, head.stored, lambda run: run.taken_on(self._runs, segments)
            )
            self._room = Room(self._means.store, head.stored, asked.granted)
            before, self.key = self.key, head.stored.key
            if self.key != before:
                self._hooks.moved(self, before)
            self.state = advance(self.state, FetchState.FILLING)
            if asked.run is not None:
                self._launch(asked.run)
            self._head_known.set()
        else:
            ends_as = FetchState.CONFIRMED if isinstance(head, Confirmed) else FetchState.UNSTORED
            self._end(ends_as)

    # -- filling ---------------------------------------------------------------------------

    def _launch(self, run: Run) -> None:
        self._runs.add(run)
        run.task = asyncio.create_task(self._pour(run), name=f"run {run.position} of {self.key}")
        run.task.add_done_callback(lambda _: self._changed.set())

    async def _fill(self) -> None:
        """Until every wanted byte is there: keep one run going where something is missing."""
        stored, clock = self.stored, self._means.clock
        assert stored is not None
        saved = clock.monotonic()
        while True:
            self._changed.clear()
            self._reap()
            if self._loose and not self._wanted:
                raise FetchCancelled
            self._top_up(stored)
            if self._means.fill == "asked" and not self._runs:
                for reader in list(self._readers):
                    self.want(reader)
            if not self._runs and not (self._readers_behind(stored) and self.tail is None):
                return
            try:
                async with asyncio.timeout(max(0.0, saved + CHECKPOINT - clock.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                saved = clock.monotonic()
                if self.tail is None and not stored.detached:
                    await self._checkpoint(stored)

    async def _checkpoint(self, stored: StoredResponse) -> None:
        try:
            await self._means.store.checkpoint(stored)
        except StoreError as error:
            log.warning("checkpoint of %r failed: %s", self.asset_id, error)

    def _reap(self) -> None:
        """Take the runs that have ended out; raises what one failed with, if that ends the fetch."""
        for run in [run for run in self._runs if run.task is not None and run.task.done()]:
            self._runs.discard(run)
            self._waiters.wake_all()
            assert run.task is not None
            error = FetchCancelled() if run.task.cancelled() else run.task.exception()
            if error is not None and not self._can_do_without(run, error):
                raise error

    def _can_do_without(self, run: Run, error: BaseException) -> bool:
        """A run ahead that came to nothing: the fill comes to its bytes too, so its reader waits."""
        ahead = run.owner is not None and self._means.fill == "whole"
        if not ahead or not isinstance(error, SourceError) or isinstance(error, VersionChanged):
            return False
        self._no_ranges = self._no_ranges or isinstance(error, RangeIgnored)
        self._patient.add(run.owner)
        return True

    @property
    def _wanted(self) -> bool:
        return bool(self._readers) or self._expected > 0

    def _unless_wanted(self) -> None:
        """Stop what is only going on for readers, once there is none."""
        if (self._loose or self.tail is not None) and not self._wanted:
            self.cancel()

    def _readers_behind(self, stored: StoredResponse) -> bool:
        """`fill: asked`: somebody may yet want what no run brings."""
        if self._means.fill == "whole" or stored.segments.complete:
            return False
        if self._expected:
            return True
        return any(
            stored.segments.missing_from(reader.position, reader.stop) is not None for reader in self._readers
        )

    def _top_up(self, stored: StoredResponse) -> None:
        """`fill: whole`: when the fill itself has no run, start it at the first absent byte."""
        if self.tail is not None or stored.length is None:
            return
        if self._means.fill == "asked" or any(run.owner is None and not run.over for run in self._runs):
            return
        gap = unclaimed(stored.segments, self._runs, 0, None)
        if gap is not None:
            self._launch(Run(*gap))

    async def _pour(self, run: Run) -> None:
        """Bring a run's bytes to its end."""
        try:
            while not run.over:
                data = await self._bringing.next(run)
                if not data:
                    break
                await self._keep(run, data)
            if run.stop is None and not run.halted:
                await self._fix_length(run)
        finally:
            run.drop_exchange()

    async def _keep(self, run: Run, data: bytes) -> None:
        """Write what came, as far as the run still goes, and wake who waits for it."""
        data = run.take(data)
        if self.tail is None:
            data = await self._store(run, data)
        if not data or run.halted:
            return
        if self.tail is None or run is not self.tail.run:
            run.halted = True
            return
        await self.tail.push(data, self._slowest)
        self._advance(run, len(data))

    async def _store(self, run: Run, data: bytes) -> bytes:
        """Write `data`; return what of it the store did not take, which is then for the tail."""
        stored = self.stored
        assert stored is not None
        count = len(data)
        run.writing = True
        try:
            await self._room.ensure(self._runs)
            await self._means.store.write(stored, run.position, data)
        except StoreError as error:
            count = min(stored.segments.available(run.position), len(data))
            self._room.written += count
            self._advance(run, count)
            await self._spill(run, stored, error)
        else:
            self._room.written += count
            self._advance(run, count)
        finally:
            run.writing = False
        return data[count:]

    def _advance(self, run: Run, count: int) -> None:
        before = run.position
        run.position += count
        self._waiters.wake(before, run.position)

    async def _fix_length(self, run: Run) -> None:
        assert self.stored is not None
        if self.tail is not None:
            self.tail.end = run.position
        else:
            await self._means.store.finish_length(self.stored, run.position)
        self._waiters.wake_all()

    # -- when the store fails --------------------------------------------------------------

    async def _spill(self, run: Run, stored: StoredResponse, error: StoreError) -> None:
        """The disk takes no more: take no new readers, and let this run's bytes go on in memory."""
        async with self._spilling:
            if self.tail is not None or run.halted:
                return
            reason = "no_room" if isinstance(error, SpaceExhausted | TooLarge) else "store_failed"
            self._means.observer.store_refused(reason)
            log.warning("%r goes on unstored from byte %d: %s", self.asset_id, run.position, error)
            self._hooks.taken_out(self)
            hasher = None
            if stored.representation.digest is not None and stored.segments.available(0) >= run.position:
                hasher = await self._hash_prefix(stored, run.position)
            self.tail = Tail(run, hasher, droppable=resumable(stored.representation))
        try:
            await self._means.store.remove(stored)
        except StoreError as failure:
            log.warning("%r could not be removed: %s", self.asset_id, failure)
        self._waiters.wake_all()
        self._unless_wanted()

    async def _hash_prefix(self, stored: StoredResponse, stop: int) -> hashlib._Hash | None:
        """None: it cannot be read back, so the tail cannot be checked."""
        try:
            blob = await self._means.store.open(stored)
            try:
                return await asyncio.to_thread(hash_prefix, blob.fd, stop)
            finally:
                blob.close()
        except (StoreError, OSError):
            return None

    def _slowest(self) -> int | None:
        """Up to where every reader that follows the tail has its bytes; None: none follows."""
        tail = self.tail
        if tail is None:
            return None
        following = [max(r.position, tail.origin) for r in self._readers if tail.follows(r.position)]
        return tail.origin if self._expected and tail.base == tail.origin else min(following, default=None)

    # -- the end ---------------------------------------------------------------------------

    async def _finish(self) -> None:
        means, stored = self._means, self.stored
        assert stored is not None
        if self.tail is not None:
            self.verified = self._bringing.verified(self.tail.digest(stored.length))
            self._end(FetchState.UNSTORED)
            return
        if not stored.segments.complete:
            self._end(FetchState.PARTIAL)
            return
        self.state = advance(self.state, FetchState.VERIFYING)
        sha256 = await means.store.digest(stored)
        self.verified = self._bringing.verified(sha256)
        self._waiters.wake_all()
        if stored.detached or self._loose:
            self._end(FetchState.COMPLETE)
            return
        try:
            await means.store.commit(stored, sha256, means.clock.now())
        except StoreError as error:
            means.observer.store_refused("store_failed")
            log.warning("%r could not be committed: %s", self.asset_id, error)
            self._loose = True
            self._end(FetchState.UNSTORED)
            return
        self._end(FetchState.COMPLETE)
