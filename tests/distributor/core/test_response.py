"""Which bytes go out, under which status, with which fields (contract §3.5, §4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core.model import AssetRequest, Representation
from distributor.core.representation import Received, describe
from distributor.core.response import Selection, Told, content_type, response_fields, select
from distributor.errors import PreconditionFailed, RangeNotSatisfiable
from distributor.http.cache_status import CacheState
from distributor.http.fields import Fields, format_repr_digest, get
from distributor.http.ranges import Multipart, Span

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
MODIFIED = "Fri, 15 Jan 2027 07:00:00 GMT"
N = 1000


def made(*fields: tuple[str, str], status: int = 200, **more: Any) -> Representation:
    head = (("Date", DATE), ("ETag", '"x"'), ("Last-Modified", MODIFIED), *fields)
    return describe(Received(status, head, NOW, NOW), default_ttl=60.0, **more)


def request(*fields: tuple[str, str], method: Any = "GET") -> AssetRequest:
    return AssetRequest(method, "a.mp4", "a.mp4", None, fields, NOW)


IRRELEVANT = ("If-Range", '"y"')
FIRST_TEN = Selection(206, [Span(0, 10)], "single")
SELECTIONS = [
    ("whole", (), Selection(200, None, None)),
    ("one", (("Range", "bytes=0-9"),), FIRST_TEN),
    ("two", (("Range", "bytes=0-9,20-29"),), Selection(206, [Span(0, 10), Span(20, 30)], "multi")),
    ("malformed", (("Range", "bytes=9-0"),), Selection(200, None, "ignored")),
    ("two-fields", (("Range", "bytes=0-9"), ("Range", "bytes=0-9")), Selection(200, None, "ignored")),
    ("if-range-holds", (("Range", "bytes=0-9"), ("If-Range", '"x"')), FIRST_TEN),
    ("if-range-fails", (("Range", "bytes=0-9"), IRRELEVANT), Selection(200, None, "ignored")),
    ("if-range-fails-past-the-end", (("Range", "bytes=9999-"), IRRELEVANT), Selection(200, None, "ignored")),
    ("304-before-range", (("If-None-Match", '"x"'), ("Range", "bytes=9999-")), Selection(304, None, None)),
    ("not-modified-since", (("If-Modified-Since", MODIFIED),), Selection(304, None, None)),
    ("changed", (("If-None-Match", '"y"'), ("If-Modified-Since", MODIFIED)), Selection(200, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "selection"), [row[1:] for row in SELECTIONS], ids=[r[0] for r in SELECTIONS]
)
def test_selection(fields: Fields, selection: Selection) -> None:  # RFC 9110 §13.2.2, §14.2
    assert select(request(*fields), made(), N, None) == selection


def test_precondition_that_fails_comes_before_the_range() -> None:
    with pytest.raises(PreconditionFailed):
        select(request(("If-Match", '"y"'), ("Range", "bytes=9999-")), made(), N, None)


def test_range_past_the_end_names_the_length() -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        select(request(("Range", f"bytes={N}-")), made(), N, None)
    assert caught.value.complete_length == N


def test_range_is_ignored_on_head_and_while_the_length_is_unknown() -> None:  # RFC 9110 §14.2
    asked = ("Range", "bytes=9999-")
    assert select(request(asked, method="HEAD"), made(), N, None) == Selection(200, None, None)
    assert select(request(asked), made(), None, None) == Selection(200, None, "ignored")


def test_other_statuses_take_neither_conditions_nor_ranges() -> None:
    asked = request(("Range", "bytes=0-1"), ("If-None-Match", "*"))
    assert select(asked, made(status=404), N, None) == Selection(404, None, "ignored")


def told(cache: CacheState = CacheState.HIT, **more: Any) -> Told:
    return Told(cache, "edge-1; hit", "edge-1", NOW + 5, more.pop("data_source", "local"), **more)


def fields_of(representation: Representation, selection: Selection, **more: Any) -> Fields:
    more = {"length": N, "sha256": None, "told": told(), **more}
    return response_fields("a.mp4", representation, selection, more.pop("told"), **more)


WHOLE = Selection(200, None, None)


def test_200_has_the_sources_fields_and_this_nodes_own_once() -> None:
    fields = fields_of(
        made(
            ("X-Other", "1"), ("Cache-Control", "max-age=9"), ("Via", "1.1 up"), ("Cache-Status", "up; hit"),
            ("Content-Type", "text/x"), ("Content-Disposition", "attachment"), ("Age", "3"),
        ),
        WHOLE,
    )  # fmt: skip
    names = [name.lower() for name, _ in fields]
    assert len(names) == len(set(names))
    assert dict(fields) == {
        "X-Other": "1", "Cache-Control": "max-age=9", "Content-Type": "text/x", "Content-Length": str(N),
        "X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment", "Accept-Ranges": "bytes",
        "ETag": '"x"', "Last-Modified": MODIFIED, "Date": DATE, "Age": "8", "Via": "1.1 up, 1.1 edge-1",
        "Cache-Status": "up; hit, edge-1; hit", "X-Cache": "hit", "X-Data-Source": "local",
    }  # fmt: skip


def test_206_has_every_field_of_the_200_but_length_and_range() -> None:
    whole = dict(fields_of(made(("X-Other", "1")), WHOLE))
    part = dict(fields_of(made(("X-Other", "1")), Selection(206, [Span(5, 15)], "single")))
    assert part.pop("Content-Range") == f"bytes 5-14/{N}"
    assert (part.pop("Content-Length"), whole.pop("Content-Length")) == ("10", str(N))
    assert part == whole


def test_multipart_has_its_own_type_and_length_and_no_outer_range() -> None:
    spans = [Span(0, 1), Span(5, 6)]
    framing = Multipart(spans, N, "video/mp4", "b")
    fields = dict(fields_of(made(), Selection(206, spans, "multi"), multipart=framing))
    assert fields["Content-Type"] == "multipart/byteranges; boundary=b"
    assert fields["Content-Length"] == str(framing.content_length)
    assert "Content-Range" not in fields


def test_304_has_what_the_200_would_have_and_nothing_of_the_body() -> None:  # RFC 9110 §15.4.5
    representation = made(
        ("Cache-Control", "max-age=9"), ("Expires", DATE), ("Vary", "x"), ("Content-Location", "/y"),
        ("X-Other", "1"), ("CDN-Cache-Control", "max-age=8"), ("Content-Type", "text/x"),
    )  # fmt: skip
    whole = dict(fields_of(representation, WHOLE))
    fields = dict(fields_of(representation, Selection(304, None, None)))
    assert set(fields) == {
        "Cache-Control", "Expires", "Vary", "Content-Location", "CDN-Cache-Control", "ETag", "Last-Modified",
        "Date", "Age", "Via", "Cache-Status", "X-Cache",
    }  # fmt: skip
    assert all(whole[name] == value for name, value in fields.items())


@pytest.mark.parametrize(
    ("cache", "sent", "age"),
    [
        (CacheState.HIT, None, "5"),
        (CacheState.PENDING, None, "5"),
        (CacheState.MISS, None, None),
        (CacheState.MISS, "3", "8"),
    ],
)
def test_age_is_on_a_miss_only_if_the_source_sent_one(
    cache: CacheState, sent: str | None, age: str | None
) -> None:
    representation = made(*([("Age", sent)] if sent else []))
    assert get(fields_of(representation, WHOLE, told=told(cache)), "Age") == age


def test_digest_is_the_sources_else_this_nodes_once_complete() -> None:
    own = b"o" * 32
    assert get(fields_of(made(), WHOLE), "Repr-Digest") is None
    assert get(fields_of(made(), WHOLE, sha256=own), "Repr-Digest") == format_repr_digest(own)
    theirs = "sha-512=:AAAA:"
    assert get(fields_of(made(("Repr-Digest", theirs)), WHOLE, sha256=own), "Repr-Digest") == theirs


def test_content_type_is_the_sources_else_by_the_extension() -> None:
    assert content_type("x.m3u8", made()) == "application/vnd.apple.mpegurl"
    assert content_type("x.m3u8", made(("Content-Type", "a/b"))) == "a/b"


def test_length_that_is_not_known_is_not_told() -> None:
    assert get(fields_of(made(), WHOLE, length=None), "Content-Length") is None


ASKED = ["bytes=0-9", "bytes=-5", "bytes=5-", "bytes=999-", "x", "bytes=0-1,3-4"]


@given(st.lists(st.sampled_from(ASKED), max_size=2), st.integers(0, 40))
def test_selected_spans_lie_within_the_representation(values: list[str], length: int) -> None:
    asked = request(*(("Range", value) for value in values))
    try:
        selection = select(asked, made(), length, None)
    except RangeNotSatisfiable as error:
        assert error.complete_length == length
        return
    for span in selection.spans or []:
        assert 0 <= span.start < span.stop <= length
    assert (selection.status == 206) == (selection.spans is not None)
