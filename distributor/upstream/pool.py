"""All sources of a node as one: who is asked, who next, and what is told when nobody gives.

A source is *asked* under its connection limit, in the order of the ranking. What an error means for
the next attempt is the type's business; `core.retry` counts. Two rounds over all sources, then the
last word stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from distributor.core.ranking import Ranking
from distributor.core.representation import Received
from distributor.core.retry import ROUNDS, pause_before
from distributor.errors import (
    AssetGone,
    Misdirected,
    Overloaded,
    RangeIgnored,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    UnknownAsset,
    VersionChanged,
)
from distributor.http import fields as hf
from distributor.http.freshness import may_store
from distributor.ports import Clock, Exchange, Observer, Source, SourceRequest

log = logging.getLogger("distributor.upstream")

# Called with each answer that has a representation (200, 206) or confirms one (304); raises to refuse it.
Judge = Callable[[Received], None]


class LimitedExchange:
    """An exchange that holds one of its source's places until it is closed."""

    def __init__(self, inner: Exchange, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release: Callable[[], None] | None = release
        self.status = inner.status
        self.fields = inner.fields
        self.source = inner.source
        self.request_time = inner.request_time
        self.response_time = inner.response_time
        self.read = inner.read

    def close(self) -> None:
        self._inner.close()
        release, self._release = self._release, None
        if release is not None:
            release()


class SourcePool:
    """The configured sources, ranked.

    max_connections  exchanges at a time per source; further ones wait for a place
    max_waiting      waiting for a place, over all sources; one more is Overloaded
    backoff          seconds for which a source that failed stands behind the others
    transparent      every final status is an answer, not only those with a representation
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        clock: Clock,
        observer: Observer,
        max_connections: int = 100,
        max_waiting: int = 4096,
        wait_timeout: float = 30.0,
        backoff: float = 10.0,
        transparent: bool = False,
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._places = {name: asyncio.Semaphore(max_connections) for name in self._sources}
        self._ranking = Ranking(list(self._sources), backoff)
        self._clock = clock
        self._observer = observer
        self._waiting = 0
        self._max_waiting = max_waiting
        self._wait_timeout = wait_timeout
        self._transparent = transparent
        for name in self._sources:
            observer.source_up(name, True)

    def __len__(self) -> int:
        return len(self._sources)

    async def open(
        self, request: SourceRequest, judge: Judge | None = None, *, last_resort: bool = False
    ) -> Exchange:
        """Ask until a source gives a usable head: 200, 206, or 304 to a conditional request.

        judge        may refuse a head by raising; SourceProtocol sends the request to the next source,
                     VersionChanged ends it
        last_resort  transparent: after two rounds the last 5xx is an answer too

        Raises UnknownAsset or AssetGone when all said so, Misdirected, Overloaded, VersionChanged, or
        the last SourceError. Cancelling it leaves no connection behind.
        """
        absent: dict[str, _Absent] = {}
        final: set[str] = set()  # gave an answer of no use, and asked again would repeat it
        last: SourceError | None = None
        for round_number in range(ROUNDS):
            if round_number:
                await asyncio.sleep(pause_before(round_number))
            order = self._ranking.order(self._clock.monotonic())
            waiting = [name for name in order if name not in absent and name not in final]
            while waiting:
                name = self._next(waiting)
                waiting.remove(name)
                # The very last word may be one that is no better than no answer.
                relay = last_resort and self._transparent and round_number == ROUNDS - 1 and not waiting
                try:
                    return await self._ask(name, request, judge, relay=relay)
                except _Absent as answer:
                    absent[name] = answer
                except VersionChanged:
                    raise
                except RangeIgnored as error:
                    last = error
                    final.add(name)
                except SourceRefused as error:
                    last = error
                    headless = request.method == "HEAD" and error.status in (405, 501)
                    if headless or error.status < 500:
                        final.add(name)
                    if not headless:  # a source that knows no HEAD is as good as any for GET
                        self.failed(error, name)
                except SourceError as error:
                    last = error
                    self.failed(error, name)
            if len(absent) + len(final) == len(self._sources):
                break
        if last is None:
            kind = AssetGone if all(answer.status == 410 for answer in absent.values()) else UnknownAsset
            raise kind("every source asked said so", fields=next(reversed(absent.values())).fields)
        raise last

    def _next(self, names: list[str]) -> str:
        """The best of `names` that has a free place; where none has, the best."""
        return next((name for name in names if not self._places[name].locked()), names[0])

    async def _ask(self, name: str, request: SourceRequest, judge: Judge | None, *, relay: bool) -> Exchange:
        await self._take_place(name)
        began = self._clock.monotonic()
        try:
            inner = await self._sources[name].open(request)
        except BaseException:
            self._places[name].release()
            raise
        exchange = LimitedExchange(inner, self._places[name].release)
        try:
            self._check(exchange, request, relay)
            if judge is not None:
                judge(
                    Received(exchange.status, exchange.fields, exchange.request_time, exchange.response_time)
                )
        except BaseException:
            exchange.close()
            raise
        now = self._clock.monotonic()
        self._ranking.succeeded(name, now - began, now)
        self._observer.source_up(name, True)
        return exchange

    async def _take_place(self, name: str) -> None:
        place = self._places[name]
        if not place.locked():
            await place.acquire()
            return
        if self._waiting >= self._max_waiting:
            raise Overloaded("too many fetches waiting for a source")
        self._waiting += 1
        self._observer.fetch_waiting(1)
        try:
            async with asyncio.timeout(self._wait_timeout):
                await place.acquire()
        except TimeoutError:
            raise Overloaded("no connection to a source became free in time") from None
        finally:
            self._waiting -= 1
            self._observer.fetch_waiting(-1)

    def _check(self, exchange: Exchange, request: SourceRequest, relay: bool) -> None:
        """Raise unless the status gives what was asked (contract §6, "source says")."""
        status = exchange.status
        conditional = any(name.lower() in _CONDITIONS for name, _ in request.fields)
        if status == 200 or (status == 206 and request.start is not None) or (status == 304 and conditional):
            return
        if status == 421:
            raise Misdirected("the source does not serve it", fields=exchange.fields)
        if status == 416 and request.start is not None:
            raise VersionChanged("the asked range is not there", source=exchange.source)
        if self._transparent and status not in (206, 304):
            if status < 500 or relay or _has_lifetime(exchange):
                return
        elif status in (404, 410):
            raise _Absent(exchange)
        now = self._clock.now()
        retry_after = hf.parse_retry_after(hf.get(exchange.fields, "retry-after"), now)
        raise SourceRefused(status, source=exchange.source, retry_after=retry_after)

    def failed(self, error: SourceError, name: str | None = None) -> None:
        """Put the source of `error` behind the others for a while, and say so."""
        name = name or error.source
        if name not in self._sources:
            return
        cool_down = self._ranking.failed(name, self._clock.monotonic())
        self._observer.source_error(name, error.reason)
        self._observer.source_up(name, False)
        level = logging.WARNING if isinstance(error, SourceUnreachable) else logging.INFO
        log.log(
            level, "source %s failed (%s: %s); last choice for %.0f s", name, error.reason, error, cool_down
        )


class _Absent(SourceError):
    """A 404 or 410. Carries the head, for its lifetime."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(source=exchange.source)
        self.status = exchange.status
        self.fields = exchange.fields


def _has_lifetime(exchange: Exchange) -> bool:
    """Whether a 5xx says for how long it holds: then it is an answer like any other."""
    return may_store(exchange.status, exchange.fields, transparent=True).allowed


_CONDITIONS = frozenset({"if-none-match", "if-modified-since"})
