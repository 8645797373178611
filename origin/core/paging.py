"""Pages of lists, as values; the opaque form of a mark in a list walked by key."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from origin.errors import Invalid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list.

    first   things to skip, >= 0; not looked at when `cursor` is given
    number  at most this many, >= 0; 0 asks only for the count
    count   False: do not count
    cursor  None: by offset. "*": from the start, by key. Else a `Listing.next_cursor`
    """

    first: int = 0
    number: int = 100
    count: bool = True
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A part of a list. hits: all matches, None when not counted; next_cursor: None at the end,
    and when the page was asked for by offset."""

    entries: list[T]
    hits: int | None = None
    next_cursor: str | None = None


Key = int | str


def encode_cursor(kind: str, keys: tuple[Key, ...]) -> str:
    """Return an opaque mark, URL-safe. kind: what list in what order it marks."""
    raw = msgspec.json.encode([kind, *keys])
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode_cursor(kind: str, cursor: str, count: int) -> tuple[Key, ...]:
    """Return the `count` keys of a mark made for the same `kind`. Anything else raises Invalid."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        values = msgspec.json.decode(raw, type=list[int | str])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise Invalid("cursor", "not a mark of this list", cursor) from error
    if len(values) != count + 1 or values[0] != kind:
        raise Invalid("cursor", "a mark of another list or order", cursor)
    return tuple(values[1:])
