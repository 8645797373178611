"""Pages of lists, as values; the opaque form of a mark in a list walked by key."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

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


# --- pages by number, and their header fields -----------------------------------------------------

PER_PAGE = 20
MOST_PER_PAGE = 100
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PageWindow:
    """size: entries of a page, 0..MOST_PER_PAGE; first: entries before it; by_offset: asked for so."""

    size: int = PER_PAGE
    first: int = 0
    by_offset: bool = False

    @property
    def page(self) -> int:
        return self.first // self.size + 1 if self.size else 1


def read_window(params: Sequence[tuple[str, str]], *, least: int = 1, sizes: str = "per_page") -> PageWindow:
    """Read page, per_page, limit and offset; of a repeated one the last counts.

    least  the smallest size; sizes: a further name of the size, e.g. "rows"

    `limit` and `offset` win over `per_page` and `page`. A size over MOST_PER_PAGE is cut to it. Raises
    Invalid for what is no whole number, or too small.
    """
    given = dict(params)
    per_page = _whole(given, "per_page", least)
    limit = _whole(given, "limit", least)
    named = _whole(given, sizes, least)
    page = _whole(given, "page", 1)
    offset = _whole(given, "offset", 0)
    size = next((s for s in (limit, named, per_page) if s is not None), PER_PAGE)
    size = min(size, MOST_PER_PAGE)
    if offset is not None:
        return PageWindow(size, offset, by_offset=True)
    return PageWindow(size, ((page or 1) - 1) * size)


def _whole(given: dict[str, str], name: str, least: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text.strip()) or int(text) < least:
        raise Invalid(name, f"must be a whole number, {least} or more", text)
    return int(text)


def page_headers(
    window: PageWindow, total: int | None, path: str, params: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """Return the X- fields and Link (RFC 8288) of one page.

    total   entries in all; None: not known, then what needs it is left out
    path    as the client sent it, percent-encoded
    params  of the query, decoded; those that are not about the page are kept in the links
    """
    size = max(1, window.size)
    pages = None if total is None else -(-total // size)
    page = window.page
    more = total is None or window.first + size < total
    headers = {"X-Page": str(page), "X-Per-Page": str(window.size)}
    if total is not None and pages is not None:
        headers |= {"X-Total": str(total), "X-Total-Pages": str(pages)}
    headers["X-Next-Page"] = str(page + 1) if more else ""
    headers["X-Prev-Page"] = str(page - 1) if page > 1 else ""
    kept = [(k, v) for k, v in params if k not in ("page", "per_page", "limit", "offset", "rows")]

    def link(first: int, relation: str) -> str:
        if window.by_offset:
            own = [("limit", str(window.size)), ("offset", str(first))]
        else:
            own = [("per_page", str(window.size)), ("page", str(first // size + 1))]
        query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in [*kept, *own])
        return f'<{path}?{query}>; rel="{relation}"'

    links = []
    if more:
        links.append(link(window.first + size, "next"))
    if window.first > 0:
        links.append(link(max(0, window.first - size), "prev"))
    links.append(link(0, "first"))
    if pages is not None:
        links.append(link(max(0, (pages - 1) * size), "last"))
    headers["Link"] = ", ".join(links)
    return headers
