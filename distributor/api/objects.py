"""Stored responses as operators see them: one, or a page of them in the order of their ids."""

from __future__ import annotations

import asyncio
import base64
import binascii
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from distributor.core.model import StoredResponse
from distributor.core.policy import reusable, ttl
from distributor.core.representation import effective_etag
from distributor.core.response import content_type
from distributor.http.freshness import Reuse, current_age
from distributor.ports import Store

__all__ = ["Asked", "BadCursor", "describe", "page", "timestamp"]

LONGEST_PAGE = 1000
_STATES = frozenset({"complete", "partial", "filling"})
_BATCH = 500


class BadCursor(ValueError):
    """No cursor that `page` has given."""


class Asked(NamedTuple):
    """Which objects are wanted; None: all.

    after  key that the page before ended with
    """

    limit: int = 100
    after: str | None = None
    prefix: str | None = None
    bucket: str | None = None
    state: str | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Asked:
        """Read query parameters; others than these are ignored. Raises BadCursor, ValueError."""
        limit = parameters.get("limit", "100")
        if not (limit.isascii() and limit.isdigit()) or not 1 <= int(limit[:9]) <= LONGEST_PAGE:
            raise ValueError("limit")
        state = parameters.get("state")
        if state is not None and state not in _STATES:
            raise ValueError("state")
        cursor = parameters.get("cursor")
        return cls(
            int(limit),
            None if cursor is None else _decode_cursor(cursor),
            parameters.get("prefix"),
            parameters.get("bucket"),
            state,
        )


def _encode_cursor(key: str) -> str:
    octets = key.encode("utf-8", "surrogateescape")
    return base64.urlsafe_b64encode(zlib.crc32(octets).to_bytes(4) + octets).decode().rstrip("=")


def _decode_cursor(cursor: str) -> str:
    try:
        octets = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if zlib.crc32(octets[4:]).to_bytes(4) != octets[:4]:
            raise BadCursor(cursor)
        return octets[4:].decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError) as error:
        raise BadCursor("cursor") from error


async def page(
    store: Store, filling: Callable[[str], bool], asked: Asked, now: float
) -> tuple[list[dict[str, object]], str | None]:
    """Return up to `asked.limit` objects and the cursor of the next page, None at the end.

    Objects come by key: what stays stored throughout is on exactly one page.
    """
    found: list[StoredResponse] = []
    after = asked.after
    while len(found) <= asked.limit and (batch := store.scan(after, _BATCH)):
        after = batch[-1].key
        found += [stored for stored in batch if _wanted(stored, asked, filling)]
        await asyncio.sleep(0)
    shown = found[: asked.limit]
    cursor = _encode_cursor(shown[-1].key) if len(found) > asked.limit else None
    return [describe(stored, filling, now) for stored in shown], cursor


def _wanted(stored: StoredResponse, asked: Asked, filling: Callable[[str], bool]) -> bool:
    return (
        (asked.prefix is None or stored.asset_id.startswith(asked.prefix))
        and (asked.bucket is None or stored.representation.bucket == asked.bucket)
        and (asked.state is None or _state(stored, filling) == asked.state)
    )


def _state(stored: StoredResponse, filling: Callable[[str], bool]) -> str:
    if stored.complete:
        return "complete"
    return "filling" if filling(stored.key) else "partial"


def describe(stored: StoredResponse, filling: Callable[[str], bool], now: float) -> dict[str, object]:
    """Return the JSON value of one object."""
    representation = stored.representation
    sha256 = stored.sha256 or representation.digest
    age = current_age(representation.initial_age, representation.response_time, now)
    value: dict[str, object] = {
        "id": stored.asset_id,
        "bucket": representation.bucket,
        "size": stored.length,
        "stored": stored.segments.present,
        "state": _state(stored, filling),
        "stale": reusable(stored, now) is not Reuse.FRESH,
        "contentType": content_type(stored.asset_id, representation),
        "etag": effective_etag(representation, stored.sha256),
        "sha256": None if sha256 is None else sha256.hex(),
        "hits": stored.hits,
        "createdAt": timestamp(stored.created_at),
        "lastUsedAt": timestamp(stored.last_used_at),
        "age": int(age),
        "expiresIn": ttl(stored, now),
    }
    if stored.query is not None:
        value["query"] = stored.query
    if stored.variant is not None:
        value["vary"] = stored.variant
    return value


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, whole milliseconds."""
    moment = datetime.fromtimestamp(max(seconds, 0.0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
