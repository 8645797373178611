"""Readers: a span of a blob, finished or growing, piece by piece as it is there.

A reader takes bytes from the disk as far as they go, waits for its fetch where they do not, follows
the fetch's tail when the disk takes no more, and goes to a source by itself when all that fails. It
never sends a byte of another version.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from distributor.core.model import FileSlice, Span, StoredResponse
from distributor.delivery.fetch import Fetch
from distributor.delivery.outside import Outside
from distributor.errors import BlobDamaged, DigestMismatch, StoreError, VersionChanged
from distributor.http.ranges import Multipart
from distributor.ports import Blob, Observer, Store

PIECE = 4 * 1024 * 1024  # bytes; the largest slice handed out at once


class SpanReader:
    """Bytes [start, stop) of `stored`; stop None: to the end of a body of unknown length.

    fetch  what fills `stored`; None: nothing does
    hold   the last byte waits for the digest (contract §5: a 200 whose source declared one)
    """

    def __init__(
        self,
        store: Store,
        stored: StoredResponse,
        blob: Blob,
        fetch: Fetch | None,
        outside: Callable[[], Outside],
        start: int,
        stop: int | None,
        *,
        hold: bool,
    ) -> None:
        self.position = start
        self.stop = stop
        self._store = store
        self._stored = stored
        self._blob = blob
        self._fetch = fetch
        self._make_outside = outside
        self._hold = hold
        self._failed_at: int | None = None
        # From now on, not from the first piece on: a fetch cut loose meanwhile goes on for us.
        self._joined = fetch is not None
        if fetch is not None:
            fetch.join(self)

    async def pieces(self) -> AsyncIterator[bytes | FileSlice]:
        """Yield the span in order. Raises what ended it early."""
        async for piece in self._from_store():
            yield piece
        self.leave()
        if self.stop is None or self.position < self.stop:
            async for data in self._from_outside():
                yield data

    def leave(self) -> None:
        """Be no longer a reader of the fetch. May be called twice."""
        if self._fetch is not None and self._joined:
            self._joined = False
            self._fetch.leave(self)

    async def _from_store(self) -> AsyncIterator[bytes | FileSlice]:
        """What disk and tail give; ends early, at `position`, where only a source can go on."""
        while self.stop is None or self.position < self.stop:
            self._refuse_bad_versions()
            count = self._ready()
            if count and not await self._prove(count):
                return
            if count:
                yield FileSlice(self._blob.fd, self.position, count)
                if self._failed_at is not None:
                    self.position = self._failed_at
                    return
                self.position += count
                continue
            data = self._from_tail()
            if data:
                yield data
                self.position += len(data)
                continue
            if not await self._wait():
                return

    def _refuse_bad_versions(self) -> None:
        fetch = self._fetch
        if fetch is not None and isinstance(fetch.error, DigestMismatch | VersionChanged):
            raise fetch.error

    def _ready(self) -> int:
        """How many bytes from `position` on may be sent from the disk now."""
        stored, stop = self._stored, self.stop
        count = stored.segments.available(self.position)
        if stop is not None:
            count = min(count, stop - self.position)
        if self._held(self.position + count):
            count -= 1
        return max(0, min(count, PIECE))

    def _held(self, end: int) -> bool:
        """Whether the byte before `end` must wait for the digest."""
        if not self._hold or self._stored.complete or (self._fetch is not None and self._fetch.verified):
            return False
        length = self._stored.length
        return length is None or end >= length

    async def _prove(self, count: int) -> bool:
        if self._store.proven(self._stored, self.position, self.position + count):
            return True
        try:
            await self._store.prove(self._stored, self.position, self.position + count)
        except BlobDamaged:
            return False
        return True

    def _from_tail(self) -> bytes | None:
        tail = self._fetch.tail if self._fetch is not None else None
        if tail is None:
            return None
        data = tail.read(self.position)
        if data is None:
            return None
        if self.stop is not None:
            data = data[: self.stop - self.position]
        return data[:-1] if self._held(self.position + len(data)) else data

    async def _wait(self) -> bool:
        """Wait for more; False when disk and tail will bring none, True to look again."""
        fetch = self._fetch
        if fetch is None:
            return False
        tail = fetch.tail
        if tail is not None and self.position < tail.base:
            return False
        if fetch.ended:
            if fetch.error is not None and not isinstance(fetch.error, StoreError):
                raise fetch.error
            end = tail.end if tail is not None and tail.end is not None else self._stored.length
            if self.stop is None and end is not None and fetch.error is None:
                self.stop = end
                return True
            return False
        fetch.want(self)
        try:
            await fetch.wait(self.position)
        except StoreError:
            return False
        return True

    async def _from_outside(self) -> AsyncIterator[bytes]:
        outside = self._make_outside()
        try:
            async for data in outside.read(self.position, self.stop):
                yield data
                self.position += len(data)
        finally:
            outside.close()

    def slice_failed(self, piece: FileSlice, sent: int) -> None:
        """The disk failed under a slice: go on from its first unsent byte by other means."""
        self._failed_at = piece.start + sent


class StoredBody:
    """The body of an answer from the store: one span, the whole, or several with their framing.

    collapsed  for the gauge: its reader did not start the fetch
    """

    def __init__(
        self,
        store: Store,
        stored: StoredResponse,
        blob: Blob,
        fetch: Fetch | None,
        outside: Callable[[], Outside],
        observer: Observer,
        spans: Sequence[Span] | None,
        multipart: Multipart | None,
        *,
        collapsed: bool,
    ) -> None:
        self._store = store
        self._stored = stored
        self._blob = blob
        self._observer = observer
        length = stored.length
        hold = spans is None and stored.representation.digest is not None
        bounds: list[tuple[int, int | None]] = (
            [(0, length)] if spans is None else [(span.start, span.stop) for span in spans]
        )
        self._readers = [
            SpanReader(store, stored, blob, fetch, outside, start, stop, hold=hold) for start, stop in bounds
        ]
        self._multipart = multipart
        self._collapsed = collapsed
        if collapsed:
            observer.collapsed_waiting(1)
        self._current: SpanReader | None = None
        if multipart is not None:
            self.length: int | None = multipart.content_length
        else:
            start, stop = bounds[0]
            self.length = None if stop is None else stop - start

    async def __aiter__(self) -> AsyncIterator[bytes | FileSlice]:
        multipart = self._multipart
        for number, reader in enumerate(self._readers):
            if multipart is not None:
                yield multipart.preambles[number]
            self._current = reader
            async with contextlib.aclosing(reader.pieces()) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
        if multipart is not None:
            yield multipart.closing

    async def slice_failed(self, piece: FileSlice, sent: int) -> None:
        """See `ports.Body.slice_failed`."""
        self._observer.store_error("read")
        if self._current is None:
            raise StoreError("no slice was given out")
        self._current.slice_failed(piece, sent)
        if self._stored.complete:
            with contextlib.suppress(StoreError):
                await self._store.remove(self._stored, corrupt=True)

    async def aclose(self) -> None:
        for reader in self._readers:
            reader.leave()
        self._blob.close()
        if self._collapsed:
            self._collapsed = False
            self._observer.collapsed_waiting(-1)
