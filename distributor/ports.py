"""What the floors above hold on to: the store, the sources, the observer, the clock.

    Store       reserve → fill → verify → commit, and look-ups from memory
    Source      one upstream; an Exchange is one request to it and its body
    Body        what an answer sends: pieces in order, each ready when it is yielded
    Observer    told what happened; counts it; never fails

Only coroutines may wait or touch the disk, and none blocks the event loop. Cancelling one leaves
the store as if the call had not been made, or as if it had been made whole.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Literal, NamedTuple, Protocol

from distributor.core.model import FileSlice, Outcome, Representation, StoredResponse
from distributor.http.fields import Fields


class Clock(Protocol):
    """Wall clock for dates and ages, monotonic clock for durations; both in seconds."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Usage(NamedTuple):
    """Bytes and counts of a store; complete + partial + reserved never exceeds limit.

    reserved    bytes promised to fills and not yet written
    idle        seconds since the next victim was last used; 0.0 when there is none
    """

    limit: int
    complete: int
    partial: int
    reserved: int
    complete_objects: int
    partial_objects: int
    disk_free: int
    idle: float


class Blob(Protocol):
    """An open blob. Its descriptor stays good until close(), whatever becomes of the stored response."""

    @property
    def fd(self) -> int: ...

    def close(self) -> None:
        """Give the pin back; a detached blob is deleted with its last one. May be called twice."""


class Store(Protocol):
    """Stored responses of one cache directory."""

    async def start(self) -> None:
        """Take the directory (lock), open the index, and reconcile in a task of its own.

        Raises StoreError when another process owns the directory or it cannot be used.
        """

    async def close(self) -> None:
        """Write what is pending, checkpoint partial responses, give the directory back."""

    @property
    def healthy(self) -> bool:
        """False after disk failures until an operation succeeds again."""

    @property
    def recovering(self) -> bool:
        """True until every row has been reconciled; meanwhile `find` may have to read a row."""

    def usage(self) -> Usage: ...

    def get(self, key: str) -> StoredResponse | None:
        """Look up in memory. While recovering, None may only mean "not read yet": use find."""

    async def find(self, key: str) -> StoredResponse | None:
        """As get, and while recovering reads and reconciles the one row first."""

    def touch(self, stored: StoredResponse, now: float, *, hit: bool) -> None:
        """Note a use: eviction order, lastUsedAt, and the hit count."""

    def admits(self, key: str, size: int) -> bool:
        """Whether the eviction policy would have a new response of `size` bytes stored now.

        Asking is a wish that it remembers. `begin` asks too, so nobody else need.
        """

    async def begin(
        self,
        key: str,
        asset_id: str,
        representation: Representation,
        now: float,
        *,
        query: str | None = None,
        variant: str | None = None,
        reserve: int | None = None,
    ) -> StoredResponse:
        """Make room, create an empty blob, and put a partial response in the place of what `key` names.

        reserve  bytes to reserve now; None: the whole length, or one segment while it is unknown
        What `key` named before is detached: its readers finish.
        The result is pinned once, for the fetch; `release` gives that back.
        Raises TooLarge, SpaceExhausted (nothing was evicted in vain; or the eviction policy does not
        admit so large a response at its first use), DiskFailed.
        """

    async def reserve(self, stored: StoredResponse, count: int) -> None:
        """Reserve `count` further bytes, of a known length no more than it lacks.

        Raises TooLarge, SpaceExhausted.
        """

    async def write(self, stored: StoredResponse, position: int, data: bytes) -> None:
        """Write reserved bytes; they are readable, and in `stored.segments`, when this returns.

        Within a segment bytes come in order from its start (`segments.filled(index)`); segments
        may come in any order, several writers may each fill their own. Keeps each segment's
        checksum, and the running sha-256 as far as the beginning is contiguous.
        Raises DiskFailed; the segment map then still tells the truth.
        """

    async def finish_length(self, stored: StoredResponse, length: int) -> None:
        """The body of unknown length is over: fix `length`, give unused room back."""

    async def digest(self, stored: StoredResponse) -> bytes:
        """sha-256 of the whole, 32 bytes; reads back only what was not hashed on the way in.

        All segments must be present. Raises DiskFailed, BlobDamaged.
        """

    async def commit(self, stored: StoredResponse, sha256: bytes, now: float) -> None:
        """Make durable (as `cache.durability` says), then complete. The caller has verified it."""

    async def checkpoint(self, stored: StoredResponse) -> None:
        """Make what is present of a partial response durable, so that a restart resumes it."""

    def release(self, stored: StoredResponse) -> None:
        """Give back a pin taken by begin or retain; room reserved and not used goes with the fetch's."""

    def retain(self, stored: StoredResponse) -> None:
        """Pin: not evicted while held."""

    async def open(self, stored: StoredResponse) -> Blob:
        """Open for reading, with a pin. Raises BlobDamaged when the file is gone or too short."""

    def proven(self, stored: StoredResponse, start: int, stop: int) -> bool:
        """True when the segments of [start, stop) were written or checked by this process."""

    async def prove(self, stored: StoredResponse, start: int, stop: int) -> None:
        """Check segments of an earlier process against their checksums, once each.

        Raises BlobDamaged; a bad complete response has then been removed, and counted.
        """

    async def renew(self, stored: StoredResponse, representation: Representation) -> None:
        """After a 304: new fields and freshness, same bytes; ends a soft purge."""

    async def mark_stale(self, stored: StoredResponse) -> None:
        """Soft purge."""

    async def remove(self, stored: StoredResponse, *, corrupt: bool = False) -> int:
        """Detach and delete; returns the bytes it held on disk. Open readers finish."""

    def scan(self, after: str | None, limit: int) -> list[StoredResponse]:
        """Up to `limit` stored responses by key order, keys > after; [] at the end."""

    def alike(self, primary: str) -> list[StoredResponse]:
        """All stored responses of one key without variant: itself and its variants."""

    def variants(self, asset_id: str) -> list[StoredResponse]:
        """All stored responses of one asset id: its queries and variants."""


class SourceRequest(NamedTuple):
    """One request to a source.

    start, stop  half-open byte range to ask for; None, None: the whole; stop None: to the end
    condition    If-Range value that binds start/stop to a version
    fields       further fields: If-None-Match, Via, CDN-Loop, …
    """

    method: Literal["GET", "HEAD"]
    asset_id: str
    query: str | None = None
    start: int | None = None
    stop: int | None = None
    condition: str | None = None
    fields: Fields = ()


class Exchange(Protocol):
    """The answer of a source: head at once, body as it comes."""

    status: int
    fields: Fields
    source: str
    request_time: float
    response_time: float

    async def read(self) -> bytes:
        """The next bytes, whatever came; b"" at the clean end.

        Raises SourceStalled, BodyShort, BodyLong, SourceProtocol. Cancelling it loses no byte.
        """

    def close(self) -> None:
        """Give the connection back if the body was read to the end, else cut it. May be called twice."""


class Source(Protocol):
    """One upstream address."""

    @property
    def name(self) -> str: ...

    async def open(self, request: SourceRequest) -> Exchange:
        """Send and wait for header fields. Raises SourceUnreachable, SourceTimeout, SourceProtocol."""

    async def close(self) -> None: ...


class Body(Protocol):
    """The body of an answer.

    length  bytes that will come; None: unknown until the end
    Iterating yields pieces in order: bytes, or a FileSlice whose bytes are on disk and readable
    until the next piece is asked for. Raises SourceError or StoreError when it cannot go on: the
    connection is then to be aborted.
    """

    length: int | None

    def __aiter__(self) -> AsyncIterator[bytes | FileSlice]: ...

    async def slice_failed(self, piece: FileSlice, sent: int) -> None:
        """Reading `piece` failed after `sent` bytes of it; iteration goes on from there by other means.

        Raises StoreError when there are none.
        """

    async def aclose(self) -> None:
        """Give back what the body holds; after the end, or instead of it. May be called twice."""


class Observer:
    """Told of everything worth counting. This one counts nothing; `metrics.py` has the real one."""

    def request(self, outcome: Outcome) -> None: ...
    def connection(self, listener: str, change: int) -> None: ...
    def connection_refused(self, reason: str) -> None: ...
    def fetch_began(self) -> None: ...
    def fetch_ended(self, result: str, seconds: float) -> None: ...
    def fetch_waiting(self, change: int) -> None: ...
    def collapsed(self) -> None: ...
    def collapsed_waiting(self, change: int) -> None: ...
    def resumed(self) -> None: ...
    def segment_fetch(self) -> None: ...
    def source_request(self, source: str, method: str, code: int) -> None: ...
    def source_error(self, source: str, reason: str) -> None: ...
    def source_latency(self, source: str, seconds: float) -> None: ...
    def source_received(self, source: str, count: int) -> None: ...
    def source_up(self, source: str, up: bool) -> None: ...
    def revalidated(self, result: str) -> None: ...
    def stale_served(self, reason: str) -> None: ...
    def evicted(self, reason: str, count: int) -> None: ...
    def store_refused(self, reason: str) -> None: ...
    def store_error(self, op: str) -> None: ...
    def purged(self, mode: str, count: int) -> None: ...
    def verified(self, result: str, count: int = 1) -> None: ...
    def negatives(self, count: int) -> None: ...
