"""The row of a stored response: what the index keeps, and what memory keeps of the ones not in use.

    state   1  not checked: bit 0: every segment was written or checked by this process; 0 on disk
    check   4  CRC-32 of all that follows
    head   42  version, flags, hits, times, sizes, blob; read without decoding the rest
    body    …  msgpack, deflated with a dictionary of what such bodies have in common
    sums    …  CRC-32 of each segment's filled prefix, 4 bytes each, little-endian

A row is some 200 bytes: a million of them fit in memory. No row names a file path or a type to be
made: a planted one can do no more than be refused.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
import zlib
from array import array
from dataclasses import dataclass, field
from struct import Struct as Layout
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from distributor.core.eviction import Account
from distributor.core.model import Representation, StoredResponse
from distributor.core.segments import SegmentMap
from distributor.errors import BlobDamaged
from distributor.http.fields import format_date

VERSION: Final = 1

_COMPLETE, _STALE = 1, 2
_PROVEN = 1

_CHECK = Layout("<BI")
#               version, flags, hits, last used, held, mtime, blob, bytes of body
_HEAD = Layout("<BBIdQq8sI")
_BODY = _CHECK.size + _HEAD.size
_HELD = Layout("<Q")
_HELD_AT = _CHECK.size + 14
_LAST_USED = Layout("<d")
_LAST_USED_AT = _CHECK.size + 6
_USE = Layout("<Id")
_USE_AT = _CHECK.size + 2

# A 20 TB film at 64 KiB has 320 million segments, and its map would be no row any more.
_BODY_LIMIT = 64 << 20

# Part of version 1: changing one byte makes all rows unreadable, so raise VERSION with it.
_COMMON: Final = (
    b"must-understand no-transform proxy-revalidate must-revalidate no-cache immutable private "
    b"stale-if-error=86400 stale-while-revalidate=60 s-maxage=3600 \xacX-Request-Id\xa3Via\xa3Age\xa6Server"
    b'\xa5nginx\xa4Link\xb3Content-Disposition\xb2inline; filename="\xb0Content-Language\xb0Content-Encoding'
    b"\xa8identity\xb0Content-Location\xa4Vary\xafAccept-Encoding\xbbAccess-Control-Allow-Origin\xa1*"
    b'\xa7Expires\xb1CDN-Cache-Control\xa4Date\xbd :00 GMT 2025 2026 2027 W/" '
    b"application/octet-stream application/vnd.apple.mpegurl application/dash+xml application/json "
    b"text/plain; charset=utf-8 text/vtt text/html image/png image/jpeg image/webp audio/mpeg audio/mp4 "
    b"video/webm video/mp2t video/iso.segment \xa4etag\x00\xadlast-modified\x01\xadcache-control"
    b"\xaccontent-type\xadaccept-ranges\xabrepr-digest\x02\xb5x-distribution-bucket\xa7default\xa5media"
    b"\xd9\x18public, max-age=31536000\xb4public, max-age=3600\xb2public, max-age=60\xabmax-age=300"
    b"\x9a\xc0\xc0\xc0\x9c\xcc\xc8\x9e\xacContent-Type\xa9video/mp4\xa4ETag\x00\xadLast-Modified\x01"
    b"\xadAccept-Ranges\xa5bytes\xabRepr-Digest\x02\xadCache-Control\xb4public, max-age=3600"
    b"\xb5X-Distribution-Bucket\xa5media\xc0\xc4\x10\xce\x6a\xce\x6b\xc4\x20\xa5media\xa7default"
    b"\xc3\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xcb\x41\xda\x96\xcb\x40\xac\x20\x00\x00\x00\x00\x00\xc3"
    b"\xc2\xc2\xc0\xc0\xce\x00\x10\x00\x00\xc0\xcb\x41\xda\xc0\xc4\x00\x90"
)


class _Body(Struct, array_like=True):
    """What is needed only when a stored response is used.

    asset_id        None: the same as the key
    representation  values in the order of `_REPRESENTATION`, the policy's in that of `_POLICY`, and
                    what follows from other values left out (`_spare`)
    sha256          None: the same as the representation's digest, or none yet
    """

    asset_id: str | None
    query: str | None
    variant: str | None
    representation: list[Any]
    segment: int
    length: int | None
    created_at: float
    sha256: bytes | None
    states: bytes
    partial: list[tuple[int, int]]


# The order of values in a row: append only, or raise VERSION.
_REPRESENTATION: Final = (
    "status",
    "fields",
    "length",
    "etag",
    "last_modified",
    "date",
    "digest",
    "bucket",
    "ranges",
    "initial_age",
    "response_time",
    "policy",
)
_POLICY: Final = (
    "freshness_lifetime",
    "explicit",
    "no_cache",
    "must_revalidate",
    "stale_while_revalidate",
    "stale_if_error",
)
_FIELDS_AT, _LENGTH_AT, _ETAG_AT, _BUCKET_AT, _POLICY_AT = 1, 2, 3, 7, 11
# A field value that is one of these stands for what the representation says besides.
_SAME_ETAG, _SAME_DATE, _SAME_DIGEST = 0, 1, 2
_HEX_ETAG = re.compile(r'"(?:[0-9a-f]{2})+"')


def _spare(said: Representation) -> list[Any]:
    """The values of a representation, without what its other values or the row tell already."""
    values = [getattr(said, name) for name in _REPRESENTATION]
    same: dict[str, int] = {}
    if said.digest is not None:
        same[_digest_field(said.digest)] = _SAME_DIGEST
    if said.last_modified is not None:
        same[format_date(said.last_modified)] = _SAME_DATE
    if said.etag is not None:
        same[said.etag] = _SAME_ETAG
        if _HEX_ETAG.fullmatch(said.etag):
            values[_ETAG_AT] = bytes.fromhex(said.etag[1:-1])
        else:
            values[_ETAG_AT] = _octets(said.etag)
    values[_FIELDS_AT] = [
        part
        for name, value in said.fields
        for part in (_octets(name), same[value] if value in same else _octets(value))
    ]
    values[_BUCKET_AT] = _octets(said.bucket)
    values[_LENGTH_AT] = None
    values[_POLICY_AT] = [getattr(said.policy, name) for name in _POLICY]
    return values


def _restore(values: list[Any], length: int | None) -> Representation:
    """What `_spare` was given. Raises ValueError or TypeError when it cannot have been."""
    told = dict(zip(_REPRESENTATION, values, strict=False))
    told["length"] = length
    told["etag"] = _hex_or_text(told["etag"])
    told["bucket"] = _text(told["bucket"])
    same: dict[int, Any] = {_SAME_ETAG: told["etag"]}
    if told["last_modified"] is not None:
        same[_SAME_DATE] = format_date(told["last_modified"])
    if told["digest"] is not None:
        same[_SAME_DIGEST] = _digest_field(told["digest"])
    parts = iter(told["fields"])
    told["fields"] = [
        (_text(name), same[value] if isinstance(value, int) else _text(value))
        for name, value in zip(parts, parts, strict=True)
    ]
    told["policy"] = dict(zip(_POLICY, told["policy"], strict=False))
    return msgspec.convert(told, Representation)


def _octets(text: str) -> str | list[bytes]:
    """Text as it is, or in a list as octets when a peer's octets were no UTF-8: msgpack has no such text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return [text.encode("utf-8", "surrogatepass")]
    return text


def _text(value: Any) -> Any:
    return value[0].decode("utf-8", "surrogatepass") if isinstance(value, list) else value


def _hex_or_text(value: Any) -> Any:
    return f'"{value.hex()}"' if isinstance(value, bytes) else _text(value)


def _digest_field(digest: bytes) -> str:
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


class Filling:
    """What only a blob being filled needs.

    lock      one at a time of checkpoint, digest, commit
    hasher    sha-256 of the first `hashed` bytes
    hashing   a thread has the hasher
    named     the blob's name is durable
    """

    __slots__ = ("hashed", "hasher", "hashing", "lock", "named")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.hasher = hashlib.sha256()
        self.hashed = 0
        self.hashing = False
        self.named = False


@dataclass(slots=True, eq=False)
class Entry(StoredResponse):
    """A stored response with what only the store knows of it. Changed on the event loop only.

    account     its bytes in the store's sums
    sums        CRC-32 of each segment's filled prefix, 0 for none
    proven      a flag a segment; None: all were written or checked by this process
    mtime       of the blob when it was committed, ns; 0 before
    holds       pins of fetches, which may write; the other pins are readers'
    claimed     bytes being written now, reserved and not yet counted as written
    writing     segments being written now
    filling     None until this process writes to the blob
    unsaved     something is present that the row does not tell of
    unlinked    its file has no name any more; disposed: and its bytes are given back
    packed      the row this was read from; None when anything but a use has changed since
    """

    account: Account = field(default_factory=Account)
    sums: array[int] = field(default_factory=lambda: array("I"))
    proven: bytearray | None = None
    mtime: int = 0
    holds: int = 0
    claimed: int = 0
    writing: set[int] = field(default_factory=set)
    filling: Filling | None = None
    unsaved: bool = False
    unlinked: bool = False
    disposed: bool = False
    packed: bytes | None = None


class Head(NamedTuple):
    """The head of a row. `held`: bytes on disk, the length of a complete one; `blob`: 16 hex digits."""

    complete: bool
    last_used_at: float
    held: int
    mtime: int
    blob: str


def pack(entry: Entry) -> bytes:
    """The row of `entry`: what it was when last made or read, with the present hits and last use."""
    if entry.packed is None:
        entry.packed = make(entry)
        return entry.packed
    return _with_use(entry)


def make(entry: Entry, sha256: bytes | None = None) -> bytes:
    """The row of `entry` as it is now; with `sha256`, as it will be once it is complete."""
    final = sha256 or entry.sha256
    complete = entry.complete or final is not None
    states, partial = entry.segments.dump()
    body = msgspec.msgpack.encode(
        _Body(
            None if entry.asset_id == entry.key else entry.asset_id,
            entry.query,
            entry.variant,
            _spare(entry.representation),
            entry.segments.size,
            None if complete else entry.length,
            entry.created_at,
            None if final == entry.representation.digest else final,
            states,
            partial,
        )
    )
    deflate = zlib.compressobj(6, zlib.DEFLATED, -12, 5, zlib.Z_DEFAULT_STRATEGY, _COMMON)
    body = deflate.compress(body) + deflate.flush()
    flags = (_COMPLETE if complete else 0) | (_STALE if entry.stale_marked else 0)
    head = _HEAD.pack(
        VERSION,
        flags,
        min(entry.hits, 0xFFFFFFFF),
        entry.last_used_at,
        entry.segments.present if complete else entry.account.written,
        entry.mtime,
        bytes.fromhex(entry.blob),
        len(body),
    )
    rest = head + body + _little_endian(entry.sums).tobytes()
    return _CHECK.pack(_PROVEN if entry.proven is None else 0, zlib.crc32(rest)) + rest


def _with_use(entry: Entry) -> bytes:
    """The packed row with the present hits, last use and proof."""
    assert entry.packed is not None
    row = bytearray(entry.packed)
    _USE.pack_into(row, _USE_AT, min(entry.hits, 0xFFFFFFFF), entry.last_used_at)
    proven = _PROVEN if entry.proven is None else 0
    _CHECK.pack_into(row, 0, proven, zlib.crc32(memoryview(row)[_CHECK.size :]))
    entry.packed = bytes(row)
    return entry.packed


def admit(row: object) -> bytes:
    """A row as the index gave it, checked, and marked as of an earlier process.

    Raises BlobDamaged when it is no row of this version, or is not as it was written.
    """
    if not isinstance(row, bytes) or len(row) < _BODY or row[_CHECK.size] != VERSION:
        raise BlobDamaged("not a row of this version")
    if zlib.crc32(memoryview(row)[_CHECK.size :]) != _CHECK.unpack_from(row)[1]:
        raise BlobDamaged("the row is not as it was written")
    return b"\0" + row[1:] if row[0] else row


def head(row: bytes) -> Head:
    """The head of an admitted row."""
    _, flags, _, used, held, mtime, blob, _ = _HEAD.unpack_from(row, _CHECK.size)
    return Head(bool(flags & _COMPLETE), used, held, mtime, blob.hex())


def held(row: bytes) -> int:
    """Bytes on disk, from the head."""
    return int(_HELD.unpack_from(row, _HELD_AT)[0])


def last_used_at(row: bytes) -> float:
    """Unix seconds, from the head."""
    return float(_LAST_USED.unpack_from(row, _LAST_USED_AT)[0])


def is_complete(row: bytes) -> bool:
    """From the head."""
    return bool(row[_CHECK.size + 1] & _COMPLETE)


_UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError),
    *(zlib.error, msgspec.MsgspecError),
)


def unpack(key: str, row: bytes) -> Entry:
    """The stored response that an admitted row tells of.

    Raises BlobDamaged when the parts of the row do not fit each other.
    """
    _, flags, hits, used, held, mtime, blob, size = _HEAD.unpack_from(row, _CHECK.size)
    complete = bool(flags & _COMPLETE)
    try:
        inflate = zlib.decompressobj(-15, zdict=_COMMON)
        body = msgspec.msgpack.decode(inflate.decompress(row[_BODY : _BODY + size], _BODY_LIMIT), type=_Body)
        length = held if complete else body.length
        said = _restore(body.representation, length)
        sha256 = body.sha256
        if complete:
            sha256 = sha256 or said.digest
            if sha256 is None or len(sha256) != 32:
                raise ValueError("complete without its digest")
            segments = SegmentMap.whole(body.segment, held)
        else:
            segments = SegmentMap.load(body.segment, length, body.states, body.partial)
        sums = array("I", row[_BODY + size :])
        if len(sums) != segments.count:
            raise ValueError("a checksum for each segment is not there")
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        zlib.error,
        msgspec.MsgspecError,
    ) as problem:
        raise BlobDamaged(f"the row of a stored response cannot be read: {problem}") from problem
    return Entry(
        key=key,
        asset_id=key if body.asset_id is None else body.asset_id,
        representation=said,
        segments=segments,
        blob=blob.hex(),
        query=body.query,
        variant=body.variant,
        complete=complete,
        sha256=sha256,
        stale_marked=bool(flags & _STALE),
        hits=hits,
        created_at=body.created_at,
        last_used_at=used,
        account=Account(held, complete),
        sums=_little_endian(sums),
        proven=None if row[0] & _PROVEN else bytearray(segments.count),
        mtime=mtime,
        packed=row,
    )


def proven(entry: Entry, start: int, stop: int) -> bool:
    """True when the segments of [start, stop) were written or checked by this process."""
    if entry.proven is None or start >= stop:
        return True
    size = entry.segments.size
    return entry.proven.find(0, start // size, -(-stop // size)) < 0


def _little_endian(sums: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return sums
    turned = array("I", sums)
    turned.byteswap()
    return turned
