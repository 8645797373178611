"""Bytes straight from the sources, past the store: pass-through, and readers the store failed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from distributor.core.model import AssetRequest, FileSlice, Representation
from distributor.core.representation import (
    Received,
    binding,
    check_continuation,
    check_exact,
    resumable,
)
from distributor.core.retry import after_failure, failures_after
from distributor.delivery.means import Means
from distributor.delivery.pacing import Pacing
from distributor.errors import BodyShort, DigestMismatch, SourceError, StoreError
from distributor.ports import Exchange

SKIP = 1024 * 1024  # bytes that are rather read and dropped than a new connection made


class Outside:
    """Reads one span of one version from the sources, resuming as a fetch does.

    request         the client's; its Via, CDN-Loop and id go along
    exchange, at    an answer already begun and the position of its next byte; None: ask anew
    """

    def __init__(
        self,
        means: Means,
        request: AssetRequest,
        representation: Representation,
        *,
        exchange: Exchange | None = None,
        at: int = 0,
    ) -> None:
        self._means = means
        self._request = request
        self._representation = representation
        self._exchange = exchange
        self._at = at
        self._pacing = Pacing(means)
        self._sources = set() if exchange is None else {exchange.source}

    async def read(self, start: int, stop: int | None) -> AsyncIterator[bytes]:
        """Yield the bytes [start, stop); stop None: to the end of a body of unknown length.

        Raises SourceError when no source goes on, StoreError when the version cannot be resumed.
        """
        failures = gained = 0
        position = start
        while stop is None or position < stop:
            try:
                data = await self._next(position, stop)
            except SourceError as error:
                self.close()
                failures, gained = failures_after(failures, gained), 0
                step = after_failure(error, failures, len(self._means.pool))
                if step is None or stop is None or not resumable(self._representation):
                    raise
                await asyncio.sleep(step.pause)
                continue
            if not data:
                return
            skipped = max(0, position - self._at)
            self._at += len(data)
            data = data[skipped:] if stop is None else data[skipped : skipped + stop - position]
            if data:
                position += len(data)
                gained += len(data)
                yield data

    async def _next(self, position: int, stop: int | None) -> bytes:
        if self._exchange is None or self._useless(position):
            await self._reopen(position, stop)
        assert self._exchange is not None
        began = self._means.clock.monotonic()
        try:
            self._pacing.check()
            data = await self._exchange.read()
            if not data and stop is not None:
                raise BodyShort(source=self._exchange.source)
        except SourceError as error:
            self._means.pool.failed(error)
            raise
        if stop is not None and resumable(self._representation):
            self._pacing.came(self._exchange.source, len(data), self._means.clock.monotonic() - began)
        return data

    def _useless(self, position: int) -> bool:
        """Whether the exchange in hand cannot bring `position`, being past it, or is too far before it."""
        if self._at > position:
            return True
        return position - self._at > SKIP and resumable(self._representation)

    async def _reopen(self, position: int, stop: int | None) -> None:
        self.close()
        representation = self._representation
        if not resumable(representation):
            raise StoreError("these bytes are neither stored nor to be had a second time")

        def judge(received: Received) -> None:
            check_continuation(representation, received, position)
            check_exact(received, position, stop)

        request = self._means.plain(self._request)._replace(
            start=position, stop=stop, condition=binding(representation)
        )
        self._exchange = await self._means.pool.open(request, judge)
        self._sources.add(self._exchange.source)
        self._pacing.renew()
        self._at = position

    def verify(self, sha256: bytes) -> None:
        """Compare the digest of the whole with what was declared. Raises DigestMismatch.

        Whoever brought some of it then counts as failed.
        """
        if sha256 == self._representation.digest:
            return
        error = DigestMismatch("the body does not hash to its Repr-Digest")
        for name in self._sources:
            self._means.pool.failed(error, name)
        raise error

    def close(self) -> None:
        """Cut or give back the connection. May be called twice."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()


class PassBody:
    """The body of an answer that is not stored. See `ports.Body`.

    check  the whole must hash to its declared digest; its last byte waits until that is known
    """

    def __init__(self, outside: Outside, start: int, stop: int | None, *, check: bool) -> None:
        self.length = None if stop is None else stop - start
        self._outside = outside
        self._start = start
        self._stop = stop
        self._check = check

    async def __aiter__(self) -> AsyncIterator[bytes | FileSlice]:
        hasher = hashlib.sha256() if self._check else None
        held = b""
        async for data in self._outside.read(self._start, self._stop):
            if hasher is None:
                yield data
                continue
            hasher.update(data)
            ready, held = held + data[:-1], data[-1:]
            if ready:
                yield ready
        if hasher is not None:
            self._outside.verify(hasher.digest())
        if held:
            yield held

    async def slice_failed(self, piece: FileSlice, sent: int) -> None:
        raise StoreError("no slice was given out")

    async def aclose(self) -> None:
        self._outside.close()
