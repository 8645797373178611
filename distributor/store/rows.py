"""The row of a stored response: what the index keeps, and what memory keeps of the ones not in use.

    state   1  not checked: bit 0: every segment was written or checked by this process; 0 on disk
    check   4  CRC-32 of all that follows
    head   50  version, flags, hits, times, sizes, blob; read without decoding the rest
    body    …  msgpack, deflated with a dictionary of what such bodies have in common
    sums    …  CRC-32 of each segment's filled prefix, 4 bytes each, little-endian

A row is some 200 bytes: a million of them fit in memory. No row names a file path or a type to be
made: a planted one can do no more than be refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import zlib
from array import array
from dataclasses import dataclass, field
from struct import Struct as Layout
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from distributor.core.eviction import Account
from distributor.core.model import Representation, StoredResponse
from distributor.core.segments import SegmentMap
from distributor.errors import BlobDamaged

VERSION: Final = 1

_COMPLETE, _STALE = 1, 2
_PROVEN = 1

_CHECK = Layout("<BI")
#               version, flags, hits, last used, held, length, mtime, blob, bytes of body
_HEAD = Layout("<BBIdQqq8sI")
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
    b"stale-if-error=86400 stale-while-revalidate=60 s-maxage=3600 max-age=31536000 public, max-age=60 "
    b"X-Request-Id Via Server nginx Age Vary Accept-Encoding Access-Control-Allow-Origin * "
    b'Content-Language Content-Encoding identity Content-Disposition inline; filename=" Expires Link '
    b"application/octet-stream application/vnd.apple.mpegurl application/dash+xml application/json "
    b"text/plain; charset=utf-8 text/vtt text/html image/png image/jpeg image/webp audio/mpeg audio/mp4 "
    b"video/webm video/mp2t video/iso.segment video/mp4 CDN-Cache-Control "
    b"Sun Mon Tue Wed Thu Fri Sat Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec 2024 2025 2026 2027 "
    b":00 GMT Repr-Digest sha-256=: = X-Distribution-Bucket default media Content-Location Accept-Ranges "
    b'bytes Cache-Control ETag " W/" Last-Modified Date Content-Length Content-Type '
    b"application/octet-stream \xc3\xc0\x8d\xa6status\xcc\xc8\xa6fields\xa6length\xce\xa4etag\xad"
    b"last_modified\xce\x68\xa4date\xce\x69\xa6digest\xc4\x20\xa6bucket\xa7default\xa6ranges\xc3"
    b"\xabinitial_age\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xadresponse_time\xcb\x41\xda\xa6policy"
)


class _Body(Struct, array_like=True):
    """What is needed only when a stored response is used. asset_id None: the same as the key."""

    asset_id: str | None
    query: str | None
    variant: str | None
    representation: Representation
    segment: int
    created_at: float
    sha256: bytes | None
    states: bytes
    partial: list[tuple[int, int]]


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
    """The head of a row. `held`: bytes on disk; `length`: None while unknown; `blob`: 16 hex digits."""

    complete: bool
    last_used_at: float
    held: int
    length: int | None
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
    complete = entry.complete or sha256 is not None
    states, partial = entry.segments.dump()
    body = msgspec.msgpack.encode(
        _Body(
            None if entry.asset_id == entry.key else entry.asset_id,
            entry.query,
            entry.variant,
            entry.representation,
            entry.segments.size,
            entry.created_at,
            sha256 or entry.sha256,
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
        -1 if entry.length is None else entry.length,
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
    _, flags, _, used, held, length, mtime, blob, _ = _HEAD.unpack_from(row, _CHECK.size)
    return Head(
        bool(flags & _COMPLETE),
        used,
        held,
        None if length < 0 else length,
        mtime,
        blob.hex(),
    )


def held(row: bytes) -> int:
    """Bytes on disk, from the head."""
    return int(_HELD.unpack_from(row, _HELD_AT)[0])


def last_used_at(row: bytes) -> float:
    """Unix seconds, from the head."""
    return float(_LAST_USED.unpack_from(row, _LAST_USED_AT)[0])


def is_complete(row: bytes) -> bool:
    """From the head."""
    return bool(row[_CHECK.size + 1] & _COMPLETE)


def unpack(key: str, row: bytes) -> Entry:
    """The stored response that an admitted row tells of.

    Raises BlobDamaged when the parts of the row do not fit each other.
    """
    _, flags, hits, used, held, length, mtime, blob, size = _HEAD.unpack_from(row, _CHECK.size)
    try:
        inflate = zlib.decompressobj(-15, zdict=_COMMON)
        body = msgspec.msgpack.decode(inflate.decompress(row[_BODY : _BODY + size], _BODY_LIMIT), type=_Body)
        complete = bool(flags & _COMPLETE)
        known = None if length < 0 else length
        if complete:
            if known is None or known != held or body.sha256 is None or len(body.sha256) != 32:
                raise ValueError("not complete")
            segments = SegmentMap.whole(body.segment, known)
        else:
            segments = SegmentMap.load(body.segment, known, body.states, body.partial)
        sums = array("I", row[_BODY + size :])
        if len(sums) != segments.count:
            raise ValueError("a checksum for each segment is not there")
    except (ValueError, zlib.error, msgspec.MsgspecError) as problem:
        raise BlobDamaged(f"the row of a stored response cannot be read: {problem}") from problem
    return Entry(
        key=key,
        asset_id=key if body.asset_id is None else body.asset_id,
        representation=body.representation,
        segments=segments,
        blob=blob.hex(),
        query=body.query,
        variant=body.variant,
        complete=complete,
        sha256=body.sha256,
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
