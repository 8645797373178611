"""Cursor marks of the catalog search: where a walk stands, with nothing kept on the server.

    version 1 · id 8 · count 4 · sort value · digest of the query 4 · checksum 4      (bytes)

Unpadded base64url of that. The sort value is absent (by id), eight bytes (numbers), or the rest (text).
The checksum tells a cut or mistyped mark; it is no signature: a mark grants nothing.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass

from origin.core.search import SearchQuery, Sort
from origin.errors import Invalid

_VERSION = 1
_HEAD = struct.Struct(">BqI")
_NUMBER = struct.Struct(">q")
_UNKNOWN = 0xFFFFFFFF
_NUMBERS = frozenset({Sort.SIZE, Sort.MODIFIED})
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Mark:
    """After the entry `id`, which sorts as `key` (None: by id alone; by path: storage name, "/", path).

    count  matches when the walk began; None: more than were counted
    """

    id: int
    key: int | str | None
    count: int | None


def encode_mark(query: SearchQuery, mark: Mark) -> str:
    count = _UNKNOWN if mark.count is None or mark.count >= _UNKNOWN else mark.count
    raw = _HEAD.pack(_VERSION, mark.id, count)
    if isinstance(mark.key, int):
        raw += _NUMBER.pack(mark.key)
    elif mark.key is not None:
        raw += mark.key.encode("utf-8", "surrogatepass")
    raw += query.digest
    raw += _CRC.pack(binascii.crc32(raw))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode_mark(query: SearchQuery, text: str) -> Mark:
    """Raise Invalid("cursor_mark", …) for all but a mark that `encode_mark` made for this query."""
    bad = Invalid("cursor_mark", "is not a mark of this search", text)
    if not text or any(c not in _ALPHABET for c in text) or len(text) % 4 == 1:
        raise bad
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != text:
        raise bad  # bits behind the end that decoding drops
    if len(raw) < _HEAD.size + 8 or _CRC.pack(binascii.crc32(raw[:-4])) != raw[-4:]:
        raise bad
    version, id, count = _HEAD.unpack_from(raw)
    if version != _VERSION or raw[-8:-4] != query.digest:
        raise bad
    body = raw[_HEAD.size : -8]
    key: int | str | None = None
    try:
        if query.sort in _NUMBERS:
            (key,) = _NUMBER.unpack(body)
        elif query.sort is not Sort.ID:
            key = body.decode("utf-8", "surrogatepass")
        elif body:
            raise bad
    except (struct.error, UnicodeDecodeError):
        raise bad from None
    return Mark(id, key, None if count == _UNKNOWN else count)


_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
