"""Readers: a span of a blob, finished or growing, piece by piece as it is there.

A reader takes bytes from the disk as far as they go, waits for its fetch where they do not, follows
the fetch's tail when the disk takes no more, and goes to a source by itself when all that fails. It
never sends a byte of another version.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence

from distributor.core.model import FileSlice, Span, StoredResponse
from distributor.delivery.fetch import Fetch
from distributor.delivery.outside import Outside
from distributor.delivery.tail import hash_prefix
from distributor.errors import BlobDamaged, DigestMismatch, StoreError, VersionChanged, anew
from distributor.http.ranges import Multipart
from distributor.ports import Blob, Observer, Store

PIECE = 4 * 1024 * 1024  # bytes; the largest slice handed out at once while there is anything to look after
LONG_PIECE = 64 * 1024 * 1024  # bytes; as much of what is whole and proven


class SpanReader:
    """Bytes [start, stop) of `stored`; stop None: to the end of a body of unknown length.

    fetch  what fills `stored`; None: nothing does
    hold   the last byte waits for the digest (contract §5: a 200 whose source declared one)
    """

    def __init__(
        self,
        store: Store,
        stored: StoredResponse,
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
        self._fetch = fetch
        self._make_outside = outside
        self._outside: Outside | None = None
        self._hold = hold
        self._failed_at: int | None = None
        # From now on, not from the first piece on: a fetch cut loose meanwhile goes on for us.
        self._joined = fetch is not None
        if fetch is not None:
            fetch.join(self)

    async def pieces(self, blob: Blob | None) -> AsyncIterator[bytes | FileSlice]:
        """Yield the span in order. Raises what ended it early. blob None: it cannot be read."""
        if blob is not None:
            async for piece in self._from_store(blob):
                yield piece
        self._leave()
        if self.stop is None or self.position < self.stop:
            async for data in self._from_outside(blob):
                yield data

    def close(self) -> None:
        """Be no longer a reader of the fetch, nor of a source. May be called twice."""
        self._leave()
        if self._outside is not None:
            self._outside.close()

    def _leave(self) -> None:
        if self._fetch is not None and self._joined:
            self._joined = False
            self._fetch.leave(self)

    # -- disk and tail ---------------------------------------------------------------------

    async def _from_store(self, blob: Blob) -> AsyncIterator[bytes | FileSlice]:
        """What disk and tail give; ends early, at `position`, where only a source can go on."""
        while self.stop is None or self.position < self.stop:
            self._refuse_bad_versions()
            count = self._ready()
            if count > PIECE and (self._fetch is not None or not self._proven(count)):
                count = PIECE
            if count and not await self._prove(count):
                return
            if count:
                yield FileSlice(blob.fd, self.position, count)
                if self._failed_at is not None:
                    self.position = self._failed_at
                    return
                self._advance(count)
                continue
            data = self._from_tail()
            if data:
                yield data
                self._advance(len(data))
                continue
            if not await self._wait():
                return

    def _advance(self, count: int) -> None:
        self.position += count
        if self._fetch is not None:
            self._fetch.moved()

    def _refuse_bad_versions(self) -> None:
        fetch = self._fetch
        if fetch is not None and isinstance(fetch.error, DigestMismatch | VersionChanged):
            raise anew(fetch.error)

    def _ready(self) -> int:
        """How many bytes from `position` on may be sent from the disk now."""
        stored, stop = self._stored, self.stop
        count = stored.segments.available(self.position)
        if stop is not None:
            count = min(count, stop - self.position)
        if self._held(self.position + count):
            count -= 1
        return max(0, min(count, LONG_PIECE))

    def _held(self, end: int) -> bool:
        """Whether the byte before `end` must wait for the digest."""
        if not self._hold or self._stored.complete or (self._fetch is not None and self._fetch.verified):
            return False
        length = self._stored.length
        return length is None or end >= length

    def _proven(self, count: int) -> bool:
        return self._store.proven(self._stored, self.position, self.position + count)

    async def _prove(self, count: int) -> bool:
        if self._proven(count):
            return True
        try:
            await self._store.prove(self._stored, self.position, self.position + count)
        except StoreError:
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
        if self.stop is None:
            end = tail.end if tail is not None else self._stored.length
            if end is not None:
                self.stop = end
                return True
        if fetch.ended:
            if fetch.error is not None and not isinstance(fetch.error, StoreError):
                raise anew(fetch.error)
            return False
        if tail is not None:
            if not self._tail_comes(self.position):
                return False
        else:
            fetch.want(self)
        await fetch.wait(self.position)
        return True

    def _tail_comes(self, position: int) -> bool:
        """Whether the tail has or gets the byte at `position`, which the disk has not."""
        tail = self._fetch.tail if self._fetch is not None else None
        if tail is None:
            return False
        # The byte may be there and held back: then there is a word on the digest to wait for.
        return tail.read(position) is not None or tail.will_bring(position) or self._held(position + 1)

    # -- a source --------------------------------------------------------------------------

    async def _from_outside(self, blob: Blob | None) -> AsyncIterator[bytes]:
        self._outside = self._make_outside()
        try:
            if self._hold:
                async for data in self._checked(self._outside, blob):
                    yield data
                return
            async for data in self._outside.read(self.position, self.stop):
                yield data
                self.position += len(data)
        finally:
            self._outside.close()

    async def _checked(self, outside: Outside, blob: Blob | None) -> AsyncIterator[bytes]:
        """The rest of a whole whose digest is declared: its last piece only if all of it is right."""
        if self.stop is None:
            raise StoreError("a body of unknown length cannot be checked from its middle on")
        at = self.position
        try:
            if blob is None:
                raise OSError("no file")
            hasher = await asyncio.to_thread(hash_prefix, blob.fd, at)
        except OSError:
            at, hasher = 0, hashlib.sha256()
        async for data in outside.read(at, self.stop):
            hasher.update(data)
            skipped = max(0, self.position - at)
            at += len(data)
            if at == self.stop:
                outside.verify(hasher.digest())
            if len(data) > skipped:
                yield data[skipped:]
                self.position = at

    def slice_failed(self, piece: FileSlice, sent: int) -> None:
        """The disk failed under a slice: go on from its first unsent byte by other means."""
        self._failed_at = piece.start + sent


class StoredBody:
    """The body of an answer from the store: one span, the whole, or several with their framing.

    Its readers count from the beginning; `open` it before it is iterated.

    collapsed  for the gauge: its reader did not start the fetch
    """

    def __init__(
        self,
        store: Store,
        stored: StoredResponse,
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
        self._blob: Blob | None = None
        self._observer = observer
        length = stored.length
        hold = spans is None and stored.representation.digest is not None
        bounds: list[tuple[int, int | None]] = (
            [(0, length)] if spans is None else [(span.start, span.stop) for span in spans]
        )
        self._readers = [
            SpanReader(store, stored, fetch, outside, start, stop, hold=hold) for start, stop in bounds
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

    async def open(self) -> bool:
        """Open the blob; False: it cannot be, and the body comes from a source.

        Raises BlobDamaged when what is stored, and not just being filled, proves bad.
        """
        first = self._readers[0]
        filling = not self._stored.complete and first._fetch is not None
        try:
            self._blob = await self._store.open(self._stored)
            if not filling and not self._store.proven(self._stored, *self._beginning(first)):
                await self._store.prove(self._stored, *self._beginning(first))
        except BlobDamaged:
            if not filling:
                raise
        except StoreError:
            pass  # counted by the store; what it does not give is had from a source
        return self._blob is not None

    @staticmethod
    def _beginning(reader: SpanReader) -> tuple[int, int]:
        end = reader.position + PIECE
        return reader.position, end if reader.stop is None else min(end, reader.stop)

    async def __aiter__(self) -> AsyncIterator[bytes | FileSlice]:
        multipart = self._multipart
        for number, reader in enumerate(self._readers):
            if multipart is not None:
                yield multipart.preambles[number]
            self._current = reader
            async with contextlib.aclosing(reader.pieces(self._blob)) as pieces:  # type: ignore[type-var]
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
            reader.close()
        if self._blob is not None:
            self._blob.close()
        if self._collapsed:
            self._collapsed = False
            self._observer.collapsed_waiting(-1)
