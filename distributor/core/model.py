"""The values that pass between the edge's floors: what was asked, what is stored, what came of it.

Times are Unix seconds (float), lengths and positions are bytes. Nothing here does I/O.

Life of a stored response:

    filling ──commit──▶ complete ──remove──▶ gone
       │                   ▲ renew (304), stale_marked (soft purge)
       └──checkpoint──▶ partial on disk: after a restart it is resumed or dropped
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from distributor.core.segments import SegmentMap
from distributor.http.cache_status import CacheState
from distributor.http.fields import Fields
from distributor.http.freshness import Policy
from distributor.http.ranges import Span

__all__ = ["AssetRequest", "FileSlice", "Outcome", "Representation", "Span", "StoredResponse"]

DataSource = Literal["local", "external", "none"]


class Representation(Struct, frozen=True, kw_only=True):
    """What a source said of an asset's bytes; kept beside them, encoded in the index row.

    status          final status code of the response, 200 unless the edge is transparent
    fields          end-to-end fields to replay, in order (`http.fields.storable_fields`)
    length          bytes; None while unknown (the source sent none and the body is not over)
    etag            the source's field value, byte for byte; None when it sent none
    last_modified   Unix seconds; None when absent or no date
    date            the source's Date, or the time of receipt
    digest          sha-256 the source declared in Repr-Digest, 32 bytes; None when it did not
    bucket          X-Distribution-Bucket, else "default"
    ranges          the source is known or believed to answer Range
    initial_age     corrected_initial_age at response_time, seconds (RFC 9111 §4.2.3)
    """

    status: int = 200
    fields: Fields = ()
    length: int | None = None
    etag: str | None = None
    last_modified: int | None = None
    date: int = 0
    digest: bytes | None = None
    bucket: str = "default"
    ranges: bool = True
    initial_age: float = 0.0
    response_time: float = 0.0
    policy: Policy


@dataclass(slots=True, eq=False, weakref_slot=True)
class StoredResponse:
    """A representation in the store, complete or partial. Made and changed by the store only.

    key             cache key (`core.keys.cache_key`), with the variant if there is one
    asset_id        the id in the URL;  query: kept query string or None;  variant: Vary values or None
    blob            name of the blob file, made at random, never from the id
    segments        which bytes are on disk
    complete        verified and committed; only such a response is a hit under `fill: whole`
    sha256          of the whole body, 32 bytes, once complete; None before
    stale_marked    soft-purged: to be revalidated at the next use
    detached        replaced, purged or found bad: no new reader gets it; the blob goes with the last reader
    pins            fetches and readers that hold it; eviction passes it over while > 0
    """

    key: str
    asset_id: str
    representation: Representation
    segments: SegmentMap
    blob: str
    query: str | None = None
    variant: str | None = None
    complete: bool = False
    sha256: bytes | None = None
    stale_marked: bool = False
    detached: bool = False
    pins: int = 0
    hits: int = 0
    created_at: float = 0.0
    last_used_at: float = 0.0

    @property
    def length(self) -> int | None:
        """Bytes of the whole; None while the source has not said and the body is not over."""
        return self.segments.length


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Bytes to send from an open file: `count` > 0 bytes of descriptor `fd` from `start`."""

    fd: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class AssetRequest:
    """A GET or HEAD of an asset, its target already canonical.

    fields          the client's header fields, as received
    now             Unix seconds at which the request head was read
    request_id      goes to the source and into the log
    """

    method: Literal["GET", "HEAD"]
    asset_id: str
    key: str
    query: str | None
    fields: Fields
    now: float
    request_id: str = ""


@dataclass(slots=True)
class Outcome:
    """What came of one request; handed to the Observer and to the access log once it is over.

    cache           hit, pending, miss; None for errors and for routes other than /assets
    data_source     where the first body byte came from; "none" without a body
    body_bytes      body bytes handed to the connection
    ttfb, duration  seconds from the request head read to the first and last byte written
    source_seconds  until the source's header fields, where one was asked for this request
    aborted         why the answer was cut short; None when it was not
    """

    route: str
    method: str
    status: int
    cache: CacheState | None = None
    data_source: DataSource = "none"
    body_bytes: int = 0
    ttfb: float = 0.0
    duration: float = 0.0
    source_seconds: float | None = None
    aborted: Literal["client", "source", "digest", "version", "slow_reader", "shutdown"] | None = None
    range_kind: Literal["single", "multi", "ignored", "unsatisfiable"] | None = None
    asset_id: str = ""
    request_id: str = ""
    detail: str = ""
    extra: dict[str, str] = field(default_factory=dict)
