"""What a cache did with a request: the X-Cache states and Cache-Status members (RFC 9211)."""

from __future__ import annotations

import math
from enum import StrEnum
from functools import lru_cache

from distributor.http import structured


class CacheState(StrEnum):
    """The value of X-Cache.

    HIT      every byte the answer needs is stored, of a complete response
    PENDING  not a hit, and a fetch was already in progress when the request came
    MISS     neither
    """

    HIT = "hit"
    PENDING = "pending"
    MISS = "miss"


class Forward(StrEnum):
    """Why a request went to a source (RFC 9211 §2.2)."""

    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    PARTIAL = "partial"
    STALE = "stale"


class Detail(StrEnum):
    """What the other parameters do not say (RFC 9211 §2.8)."""

    TOO_LARGE = "too-large"
    NO_ROOM = "no-room"
    NOT_STORABLE = "not-storable"
    STORE_FAILED = "store-failed"
    NEGATIVE = "negative"


def cache_status_member(
    node_id: str,
    *,
    ttl: float | None = None,
    fwd: Forward | None = None,
    fwd_status: int | None = None,
    collapsed: bool = False,
    stored: bool = False,
    detail: Detail | None = None,
) -> str:
    """This node's member of Cache-Status.

    node_id     a letter, then up to 63 of `A-Z a-z 0-9 . _ -`: a token as it stands
    ttl         remaining freshness, seconds, rounded down, below 0 when stale; None: not said
    fwd         None: answered from the store, which is a `hit`
    fwd_status  status the source answered with
    collapsed   joined to a fetch that was under way
    stored      what the source sends is being stored

    The forms in use are `hit; ttl=`, `hit; ttl=; detail=negative`, `fwd=; fwd-status=[; stored]`,
    `fwd=; collapsed` and `fwd=; fwd-status=; detail=`.
    """
    parts = [node_id, "hit" if fwd is None else f"fwd={fwd}"]
    if fwd_status is not None:
        parts.append(f"fwd-status={fwd_status}")
    if stored:
        parts.append("stored")
    if collapsed:
        parts.append("collapsed")
    if ttl is not None:
        parts.append(f"ttl={math.floor(ttl)}")
    if detail is not None:
        parts.append(f"detail={detail}")
    return "; ".join(parts)


def append_cache_status(existing: str | None, member: str) -> str:
    """The Cache-Status value with `member` at the end, behind the caches nearer the source (RFC 9211 §2).

    existing  the source's value, all lines combined; None: there was none. One that is no valid list
              is dropped, for with it the whole field would be unreadable
    """
    if existing is None or not _is_list(existing):
        return member
    return f"{existing.strip(' ')}, {member}"


@lru_cache(maxsize=256)
def _is_list(value: str) -> bool:
    try:
        return bool(structured.parse_list(value))
    except structured.Invalid:
        return False
