from __future__ import annotations

import hashlib
import zlib
from array import array

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core.eviction import Account
from distributor.core.model import Representation
from distributor.core.segments import SegmentMap
from distributor.errors import BlobDamaged
from distributor.http.fields import format_date
from distributor.http.freshness import Policy
from distributor.store import rows
from distributor.store.rows import Entry

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
HEX = st.binary(min_size=1, max_size=16).map(lambda b: f'"{b.hex()}"')
PEER_TEXT = (
    TEXT | st.just("caf\udce9") | st.binary(max_size=8).map(lambda b: b.decode("utf-8", "surrogateescape"))
)
NUMBER = st.integers(0, 1 << 40)
FLOAT = st.floats(0, 1e12)


@st.composite
def representations(draw: st.DrawFn) -> Representation:
    etag = draw(st.none() | PEER_TEXT | HEX)
    modified = draw(st.none() | st.integers(0, 4_000_000_000))
    digest = draw(st.none() | st.binary(min_size=32, max_size=32))
    values = [PEER_TEXT]
    if etag is not None:
        values.append(st.just(etag))
    if modified is not None:
        values.append(st.just(format_date(modified)))
    if digest is not None:
        values.append(st.just(rows._digest_field(digest)))
    return Representation(
        status=draw(st.integers(200, 599)),
        fields=tuple(draw(st.lists(st.tuples(PEER_TEXT, st.one_of(values)), max_size=5))),
        length=None,
        etag=etag,
        last_modified=modified,
        date=draw(NUMBER),
        digest=digest,
        bucket=draw(PEER_TEXT),
        ranges=draw(st.booleans()),
        initial_age=draw(FLOAT),
        response_time=draw(FLOAT),
        policy=Policy(
            freshness_lifetime=draw(FLOAT),
            explicit=draw(st.booleans()),
            no_cache=draw(st.booleans()),
            must_revalidate=draw(st.booleans()),
            stale_while_revalidate=draw(st.none() | NUMBER),
            stale_if_error=draw(st.none() | NUMBER),
        ),
    )


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    size = draw(st.integers(1, 50))
    length = draw(st.none() | st.integers(0, 200))
    segments = SegmentMap(size, length)
    for index in range(draw(st.integers(0, 4))):
        room = segments.extent(index)
        if room:
            segments.accept(index * size, draw(st.integers(0, room)))
    said = msgspec.structs.replace(draw(representations()), length=length)
    digest = draw(st.binary(min_size=32, max_size=32) | st.just(said.digest or bytes(32)))
    key = draw(TEXT)
    return Entry(
        key=key,
        asset_id=draw(TEXT | st.just(key)),
        representation=said,
        segments=segments,
        blob=draw(st.binary(min_size=8, max_size=8)).hex(),
        query=draw(st.none() | TEXT),
        variant=draw(st.none() | TEXT),
        complete=segments.complete,
        sha256=digest if segments.complete else None,
        stale_marked=draw(st.booleans()),
        hits=draw(st.integers(0, 1 << 32)),
        created_at=draw(FLOAT),
        last_used_at=draw(FLOAT),
        account=Account(segments.present, segments.complete),
        sums=array("I", [draw(st.integers(0, 2**32 - 1)) for _ in range(segments.count)]),
        mtime=draw(st.integers(0, 1 << 62)),
    )


SAME = (
    *("key", "asset_id", "representation", "blob", "query", "variant", "complete", "sha256"),
    *("stale_marked", "created_at", "last_used_at", "sums", "mtime"),
)


@given(entry=entries())
def test_a_row_says_all_that_was_put_into_it(entry: Entry) -> None:
    row = rows.admit(rows.make(entry))
    again = rows.unpack(entry.key, row)
    for name in SAME:
        assert getattr(again, name) == getattr(entry, name), name
    assert again.hits == min(entry.hits, 2**32 - 1)
    assert list(again.segments.prefixes()) == list(entry.segments.prefixes())
    assert (again.segments.length, again.segments.size) == (entry.segments.length, entry.segments.size)
    assert (again.account.written, again.account.complete) == (entry.account.written, entry.complete)
    head = rows.head(row)
    assert head == (entry.complete, entry.last_used_at, entry.segments.present, entry.mtime, entry.blob)
    assert rows.held(row) == entry.segments.present
    assert rows.last_used_at(row) == entry.last_used_at
    assert rows.is_complete(row) == entry.complete


@given(entry=entries(), hits=st.integers(0, 1 << 31), used=FLOAT)
def test_a_use_changes_a_packed_row_without_making_it_anew(entry: Entry, hits: int, used: float) -> None:
    before = rows.pack(entry)
    entry.hits, entry.last_used_at = hits, used
    after = rows.pack(entry)
    again = rows.unpack(entry.key, rows.admit(after))
    assert (again.hits, again.last_used_at) == (hits, used)
    assert len(after) == len(before)
    assert again.representation == entry.representation


@given(entry=entries(), data=st.data())
def test_a_row_with_one_byte_changed_is_refused(entry: Entry, data: st.DataObject) -> None:
    row = bytearray(rows.make(entry))
    at = data.draw(st.integers(1, len(row) - 1))
    row[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BlobDamaged):
        rows.admit(bytes(row))


@given(row=st.binary(max_size=200))
def test_any_bytes_with_a_right_checksum_are_read_or_refused(row: bytes) -> None:
    rest = bytes([rows.VERSION, 1]) + row + bytes(60)
    forged = b"\0" + zlib.crc32(rest).to_bytes(4, "little") + rest
    with pytest.raises(BlobDamaged):
        rows.unpack("k", rows.admit(forged))


@pytest.mark.parametrize("row", [None, b"", b"short", "text", 5, bytes(200)])
def test_what_is_no_row_is_refused(row: object) -> None:
    with pytest.raises(BlobDamaged):
        rows.admit(row)


def test_proof_given_in_an_earlier_process_counts_no_more() -> None:
    entry = Entry(
        key="a",
        asset_id="a",
        representation=Representation(policy=Policy(), length=3),
        segments=SegmentMap.whole(2, 3),
        blob="00" * 8,
        complete=True,
        sha256=bytes(32),
        account=Account(3, True),
        sums=array("I", [1, 2]),
    )
    row = rows.make(entry)
    assert rows.unpack("a", row).proven is None
    assert rows.unpack("a", rows.admit(row)).proven == bytearray(2)


def test_every_value_of_a_representation_has_its_place_in_a_row() -> None:
    assert {f.name for f in msgspec.structs.fields(Representation)} == set(rows._REPRESENTATION)
    assert {f.name for f in msgspec.structs.fields(Policy)} == set(rows._POLICY)
    assert rows._REPRESENTATION[rows._FIELDS_AT] == "fields"
    assert rows._REPRESENTATION[rows._LENGTH_AT] == "length"
    assert rows._REPRESENTATION[rows._ETAG_AT] == "etag"
    assert rows._REPRESENTATION[rows._BUCKET_AT] == "bucket"
    assert rows._REPRESENTATION[rows._POLICY_AT] == "policy"


def test_the_dictionary_of_version_1_is_what_it_was() -> None:
    assert rows.VERSION == 1
    assert hashlib.sha256(rows._COMMON).hexdigest()[:16] == "124aae0ea6ec06d8"


def test_a_usual_row_is_small_enough_for_a_million_in_memory() -> None:
    digest = bytes(range(100, 132))
    said = Representation(
        fields=(
            ("Content-Type", "video/mp4"),
            ("ETag", '"0f3c2a9d8e7b6a5f4e3d2c1b0a998877"'),
            ("Last-Modified", format_date(1_790_000_123)),
            ("Cache-Control", "public, max-age=3600"),
            ("Repr-Digest", rows._digest_field(digest)),
            ("X-Distribution-Bucket", "media"),
        ),
        length=5000,
        etag='"0f3c2a9d8e7b6a5f4e3d2c1b0a998877"',
        last_modified=1_790_000_123,
        date=1_800_000_000,
        digest=digest,
        bucket="media",
        response_time=1_800_000_000.25,
        policy=Policy(freshness_lifetime=3600.0, explicit=True),
    )
    entry = Entry(
        key="films/a.mp4",
        asset_id="films/a.mp4",
        representation=said,
        segments=SegmentMap.whole(1 << 20, 5000),
        blob="0123456789abcdef",
        complete=True,
        sha256=digest,
        account=Account(5000, True),
        sums=array("I", [77]),
        created_at=1_800_000_000.5,
        last_used_at=1_800_000_001.5,
    )
    assert len(rows.make(entry)) < 200
