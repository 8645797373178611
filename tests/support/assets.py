"""Made-up assets: bytes that are a function of id, version and position, and their header fields."""

from __future__ import annotations

import base64
import functools
import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, Literal

Headers = list[tuple[str, str]]

_PERIOD = (1 << 22) - 3  # prime: no shift by a whole number of segments gives the same bytes


@functools.cache
def _pattern() -> memoryview:
    once = random.Random(20260101).randbytes(_PERIOD)
    return memoryview(once + once)


@functools.lru_cache(maxsize=4096)
def _shift(asset_id: str, version: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{version}/{asset_id}".encode()).digest()[:6], "big") % _PERIOD


def asset_piece(asset_id: str, start: int, stop: int, version: int = 0) -> memoryview:
    """Up to 4 MiB of the asset from `start`, without a copy; may end before `stop`."""
    first = (start + _shift(asset_id, version)) % _PERIOD
    return _pattern()[first : first + min(stop - start, _PERIOD)]


def asset_bytes(asset_id: str, start: int, stop: int, version: int = 0) -> bytes:
    """Bytes [start, stop) of an asset's version; any two ids or versions differ nearly everywhere."""
    pieces = []
    while start < stop:
        piece = asset_piece(asset_id, start, stop, version)
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


def asset_digest(asset_id: str, size: int, version: int = 0) -> bytes:
    """sha-256 of the whole asset, 32 bytes."""
    digest, at = hashlib.sha256(), 0
    while at < size:
        piece = asset_piece(asset_id, at, size, version)
        digest.update(piece)
        at += len(piece)
    return digest.digest()


@dataclass
class Asset:
    """What one id gives.

    etag           "strong", "weak" or "none"; or the field value itself. The first two change with version
    last_modified  Unix seconds; None: no field
    digest         send Repr-Digest: True, False, or "wrong"
    framing        "length", "chunked" (no length known), "close" (HTTP/1.0, ended by closing)
    ranges         answer Range with 206
    rate           body bytes per second; None: as fast as they go
    body           these bytes instead of the made-up ones
    date           True: now; False: no Date field; a number: that time
    headers        further fields; they replace those made here by name
    """

    size: int
    version: int = 0
    etag: str = "strong"
    last_modified: float | None = 1_700_000_000
    digest: bool | str = False
    framing: Literal["length", "chunked", "close"] = "length"
    ranges: bool = True
    content_type: str | None = None
    rate: float | None = None
    body: bytes | None = None
    date: bool | float = True
    headers: Headers = field(default_factory=list)

    def entity_tag(self) -> str | None:
        made = f'"v{self.version}-{self.size:x}"'
        return {"strong": made, "weak": "W/" + made, "none": None}.get(self.etag, self.etag)

    def piece(self, asset_id: str, start: int, stop: int) -> bytes | memoryview:
        if self.body is not None:
            return self.body[start:stop]
        return asset_piece(asset_id, start, stop, self.version)

    def content(self, asset_id: str, start: int = 0, stop: int | None = None) -> bytes:
        stop = self.size if stop is None else stop
        if self.body is not None:
            return self.body[start:stop]
        return asset_bytes(asset_id, start, stop, self.version)

    def sha256(self, asset_id: str) -> bytes:
        if self.body is not None:
            return hashlib.sha256(self.body).digest()
        return asset_digest(asset_id, self.size, self.version)


def auto_asset(asset_id: str, **settings: Any) -> Asset | None:
    """The asset of an id with a segment `s<bytes>`; else None."""
    match = re.search(r"(?:^|/)s(\d+)(?:/|$)", asset_id)
    return None if match is None else Asset(int(match[1]), **settings)


def asset_fields(asset_id: str, asset: Asset) -> Headers:
    """Fields of a 200, but for those of the body's framing."""
    fields: Headers = []
    if asset.date is not False:
        when = None if asset.date is True else asset.date
        fields.append(("Date", formatdate(when, usegmt=True)))
    if asset.content_type is not None:
        fields.append(("Content-Type", asset.content_type))
    tag = asset.entity_tag()
    if tag is not None:
        fields.append(("ETag", tag))
    if asset.last_modified is not None:
        fields.append(("Last-Modified", formatdate(asset.last_modified, usegmt=True)))
    if asset.digest:
        digest = asset.sha256(asset_id)
        if asset.digest == "wrong":
            digest = hashlib.sha256(digest).digest()
        fields.append(("Repr-Digest", f"sha-256=:{base64.b64encode(digest).decode()}:"))
    if asset.ranges:
        fields.append(("Accept-Ranges", "bytes"))
    return fields


def judge_condition(headers: Mapping[str, str], asset: Asset) -> int | None:
    """304, 412, or None to go on; names in lower case."""
    tag, modified = asset.entity_tag(), asset.last_modified
    tag_list = [t.strip().removeprefix("W/") for t in headers.get("if-none-match", "").split(",")]
    if_match = headers.get("if-match")
    if if_match is not None and (tag is None or tag not in [t.strip() for t in if_match.split(",")]):
        return 412
    if "if-none-match" in headers:
        if tag is not None and (tag.removeprefix("W/") in tag_list or tag_list == ["*"]):
            return 304
        return None
    since = headers.get("if-modified-since")
    if since is None or modified is None:
        return None
    return 304 if int(modified) <= parsedate_to_datetime(since).timestamp() else None


def asked_span(headers: Mapping[str, str], asset: Asset) -> tuple[int, int] | str | None:
    """Half-open span of a single range, "unsatisfiable", or None for the whole."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
    if match is None or match[0] == "bytes=-":
        return None
    condition = headers.get("if-range")
    if condition is not None:
        modified = None if asset.last_modified is None else formatdate(asset.last_modified, usegmt=True)
        if condition not in (asset.entity_tag(), modified) or condition.startswith("W/"):
            return None
    if match[1] == "":
        start, stop = max(0, asset.size - int(match[2])), asset.size
    else:
        start = int(match[1])
        stop = min(asset.size, int(match[2]) + 1 if match[2] else asset.size)
    return (start, stop) if start < stop else "unsatisfiable"
