"""Range, Content-Range and multipart/byteranges: RFC 9110 §14."""

from __future__ import annotations

import email
import email.policy
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.errors import RangeNotSatisfiable
from distributor.http.ranges import (
    MAX_RANGES,
    Multipart,
    Span,
    content_range,
    first_position,
    parse_content_range,
    select_spans,
    unsatisfied_range,
)

N = 1000
HUGE = "9" * 5000

SELECTED: dict[str, tuple[str, list[tuple[int, int]]]] = {
    "first hundred": ("bytes=0-99", [(0, 100)]),
    "one byte": ("bytes=7-7", [(7, 8)]),
    "leading zeros": ("bytes=0010-0019", [(10, 20)]),
    "unit in any case": ("Bytes=0-9", [(0, 10)]),
    "open": ("bytes=0-", [(0, N)]),
    "suffix": ("bytes=-500", [(500, N)]),
    "suffix longer than the whole": ("bytes=-1001", [(0, N)]),
    "suffix of thousands of digits": (f"bytes=-{HUGE}", [(0, N)]),
    "last past the end": ("bytes=990-1000", [(990, N)]),
    "last of 23 digits": ("bytes=0-99999999999999999999999", [(0, N)]),
    "last past 2^64": ("bytes=5-18446744073709551616", [(5, N)]),
    "thousands of zeros": (f"bytes={'0' * 5000}5-6", [(5, 7)]),
    "empty list elements": ("bytes=,0-9,", [(0, 10)]),
    "spaces and tabs round commas": ("bytes=0-9 ,\t20-29", [(0, 10), (20, 30)]),
    "space after the sign": ("bytes= 0-9", [(0, 10)]),
    "unsatisfiable one dropped": ("bytes=0-9,1000-", [(0, 10)]),
    "empty suffix dropped": ("bytes=-0,0-9", [(0, 10)]),
    "order asked is kept": ("bytes=500-509,0-9,-10", [(500, 510), (0, 10), (990, N)]),
    "overlapping": ("bytes=0-9,5-14", [(0, 15)]),
    "adjacent": ("bytes=0-9,10-19", [(0, 20)]),
    "a gap of one byte": ("bytes=0-9,11-19", [(0, 10), (11, 20)]),
    "merged where the first stood": ("bytes=100-109,0-9,105-119", [(100, 120), (0, 10)]),
    "joined by a third": ("bytes=0-9,20-29,300-309,5-25", [(0, 30), (300, 310)]),
    "later range reaches before an earlier one": ("bytes=50-59,0-9,5-50", [(0, 60)]),
    "within another": ("bytes=10-99,20-29", [(10, 100)]),
    "sixteen": (
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 32, 2)),
        [(n, n + 1) for n in range(0, 32, 2)],
    ),
}


@pytest.mark.parametrize(("value", "spans"), SELECTED.values(), ids=SELECTED.keys())
def test_satisfiable_range_selects_its_bytes(value: str, spans: list[tuple[int, int]]) -> None:
    assert select_spans([value], N) == spans


IGNORED = {
    "absent": [],
    "two lines": ["bytes=0-9", "bytes=20-29"],
    "last before first": ["bytes=5-2"],
    "last before first, both past the limit": [f"bytes={HUGE}-{'8' * 5000}"],
    "letters": ["bytes=abc"],
    "lone dash": ["bytes=-"],
    "plus sign": ["bytes=+1-5"],
    "one malformed of two": ["bytes=0-9,abc"],
    "malformed and unsatisfiable": ["bytes=1000-,abc"],
    "no unit": ["0-9"],
    "no range": ["bytes="],
    "only commas": ["bytes=, ,"],
    "another unit": ["items=0-5"],
    "non-ASCII digits": ["bytes=٠-٩"],
    "superscript digits": ["bytes=0-²"],
    "non-ASCII letter that folds to s": ["byte\u017f=0-9"],
    "double dash": ["bytes=0--9"],
    "negative": ["bytes=-5-9"],
    "space inside": ["bytes=0 -9"],
    "space before the sign": ["bytes =0-9"],
    "line feed": ["bytes=0-9\n"],
    "seventeen ranges": ["bytes=" + ",".join(f"{n}-{n}" for n in range(0, 34, 2))],
    "seventeen equal ranges": ["bytes=" + ",".join(["0-9"] * 17)],
}


@pytest.mark.parametrize("values", IGNORED.values(), ids=IGNORED.keys())
def test_range_that_cannot_be_followed_is_as_if_absent(values: list[str]) -> None:  # RFC 9110 §14.2
    assert select_spans(values, N) is None


UNSATISFIABLE = {
    "at the end": "bytes=1000-",
    "past the end": "bytes=1000-2000",
    "far past the end": f"bytes={HUGE}-",
    "empty suffix": "bytes=-0",
    "empty suffix with zeros": "bytes=-000",
    "several": "bytes=1000-1001,2000-,-0",
}


@pytest.mark.parametrize("value", UNSATISFIABLE.values(), ids=UNSATISFIABLE.keys())
def test_range_past_the_end_is_unsatisfiable(value: str) -> None:  # RFC 9110 §15.5.17
    with pytest.raises(RangeNotSatisfiable) as raised:
        select_spans([value], N)
    assert raised.value.complete_length == N


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=-0", "bytes=5-9,0-"])
def test_no_position_lies_in_an_empty_representation(value: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        select_spans([value], 0)


@pytest.mark.parametrize("value", ["bytes=-5", "bytes=0-,-5", "bytes=-5,-6"])
def test_suffix_of_an_empty_representation_is_the_whole_of_it(value: str) -> None:  # RFC 9110 §14.1.2
    assert select_spans([value], 0) is None


FIRST: dict[str, tuple[list[str], tuple[int, int | None] | None]] = {
    "closed": (["bytes=5-9"], (5, 9)),
    "open": (["bytes=5-"], (5, None)),
    "empty elements": (["bytes=,5-9 ,"], (5, 9)),
    "huge": ([f"bytes=5-{HUGE}"], (5, 10**19)),
    "suffix": (["bytes=-5"], None),
    "several": (["bytes=0-1,5-9"], None),
    "malformed": (["bytes=9-5"], None),
    "two lines": (["bytes=5-9", "bytes=5-9"], None),
    "absent": ([], None),
}


@pytest.mark.parametrize(("values", "positions"), FIRST.values(), ids=FIRST.keys())
def test_positions_of_a_lone_range_are_known_without_the_length(
    values: list[str], positions: tuple[int, int | None] | None
) -> None:
    assert first_position(values) == positions


CONTENT_RANGES: dict[str, tuple[str | None, tuple[Span, int | None] | None]] = {
    "whole": ("bytes 0-999/1000", (Span(0, 1000), 1000)),
    "unknown length": ("bytes 5-9/*", (Span(5, 10), None)),
    "unit in any case": ("Bytes 5-9/10", (Span(5, 10), 10)),
    "absent": (None, None),
    "unsatisfied": ("bytes */1000", None),
    "last before first": ("bytes 9-5/10", None),
    "past the length": ("bytes 0-10/10", None),
    "equals sign": ("bytes=0-9/10", None),
    "two lines": ("bytes 0-9/10, bytes 0-9/10", None),
    "no length": ("bytes 0-9", None),
    "spaces": ("bytes 0 - 9/10", None),
    "another unit": ("items 0-9/10", None),
    "too many digits": ("bytes 0-9/" + "9" * 20, None),
    "non-ASCII digits": ("bytes 0-٩/10", None),
}


@pytest.mark.parametrize(("value", "parsed"), CONTENT_RANGES.values(), ids=CONTENT_RANGES.keys())
def test_content_range_is_read_strictly(
    value: str | None, parsed: tuple[Span, int | None] | None
) -> None:  # RFC 9110 §14.4
    assert parse_content_range(value) == parsed


def test_content_range_is_written() -> None:
    assert content_range(Span(0, 100), 1000) == "bytes 0-99/1000"
    assert content_range(Span(5, 6), None) == "bytes 5-5/*"
    assert unsatisfied_range(0) == "bytes */0"


def _body(multipart: Multipart, data: bytes) -> bytes:
    parts = zip(multipart.preambles, multipart.spans, strict=True)
    return b"".join(head + data[span.start : span.stop] for head, span in parts) + multipart.closing


def test_multipart_has_these_bytes() -> None:  # RFC 9110 §14.6
    data = bytes(range(65, 91))
    multipart = Multipart([Span(0, 2), Span(24, 26)], 26, "text/plain", "B0")
    assert multipart.content_type == "multipart/byteranges; boundary=B0"
    assert _body(multipart, data) == (
        b"--B0\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/26\r\n\r\nAB"
        b"\r\n--B0\r\nContent-Type: text/plain\r\nContent-Range: bytes 24-25/26\r\n\r\nYZ"
        b"\r\n--B0--\r\n"
    )
    assert multipart.content_length == len(_body(multipart, data))


def test_content_type_of_the_parts_keeps_its_octets() -> None:
    odd = b"text/x; n=\xc3\xbc\xff".decode("utf-8", "surrogateescape")
    multipart = Multipart([Span(0, 1), Span(2, 3)], 9, odd, "b")
    assert b"Content-Type: text/x; n=\xc3\xbc\xff\r\n" in multipart.preambles[1]


def test_parts_of_a_representation_without_type_have_none() -> None:
    assert Multipart([Span(0, 1), Span(2, 3)], 9, None, "b").preambles[0] == (
        b"--b\r\nContent-Range: bytes 0-0/9\r\n\r\n"
    )


@pytest.mark.parametrize("boundary", ["", "a b", 'a"b', "a\r\nb", "é", "x" * 71], ids=repr)
def test_boundary_that_needs_quotes_is_refused(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        Multipart([Span(0, 1), Span(2, 3)], 9, None, boundary)


POSITIONS = st.integers(0, 45)
SPECS = st.one_of(
    st.tuples(POSITIONS, POSITIONS).map(lambda pair: (min(pair), max(pair))),
    st.tuples(POSITIONS, st.none()),
    st.tuples(st.none(), POSITIONS),
)


def _model(spec: tuple[int | None, int | None], length: int) -> list[int]:
    """Positions that one range selects, found by looking at every position."""
    first, last = spec
    if first is None:
        assert last is not None
        return [position for position in range(length) if position >= length - last]
    return [
        position for position in range(length) if first <= position and (last is None or position <= last)
    ]


@given(st.lists(SPECS, min_size=1, max_size=MAX_RANGES), st.integers(0, 40))
def test_spans_hold_exactly_the_bytes_of_the_ranges(
    specs: list[tuple[int | None, int | None]], length: int
) -> None:
    value = "bytes=" + ",".join(
        f"{'' if first is None else first}-{'' if last is None else last}" for first, last in specs
    )
    asked = [_model(spec, length) for spec in specs]
    suffix = any(first is None and last for first, last in specs)
    try:
        spans = select_spans([value], length)
    except RangeNotSatisfiable:
        assert not any(asked)
        assert length or not suffix
        return
    if spans is None:
        assert length == 0
        assert suffix
        return
    sent = [position for span in spans for position in range(span.start, span.stop)]
    assert sorted(sent) == sorted({position for positions in asked for position in positions})
    assert all(span.length for span in spans)
    ordered = sorted(spans)
    assert all(left.stop < right.start for left, right in itertools.pairwise(ordered))
    # Each span stands where the first range that fell into it stood.
    places = [
        min(place for place, positions in enumerate(asked) if positions and positions[0] in range(*span))
        for span in spans
    ]
    assert places == sorted(places)


@given(st.text("bytes=0123456789-, \t"))
def test_any_field_gives_spans_none_or_unsatisfiable(value: str) -> None:
    for text in (value, f"bytes={value}"):
        try:
            spans = select_spans([text], 7)
        except RangeNotSatisfiable:
            continue
        assert spans is None or all(0 <= span.start < span.stop <= 7 for span in spans)


@given(st.binary(min_size=30, max_size=60))
def test_multipart_reads_back_with_the_standard_library(data: bytes) -> None:
    spans = [Span(20, 30), Span(0, 5), Span(7, 8)]
    multipart = Multipart(spans, len(data), "application/octet-stream", "gc0pJq0M.08jU534c0p")
    body = _body(multipart, data)
    assert multipart.content_length == len(body)
    head = f"Content-Type: {multipart.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    ranges = [part["Content-Range"] for part in message.iter_parts()]
    assert ranges == [content_range(span, len(data)) for span in spans]


@given(st.integers(0, 2**62), st.integers(1, 2**61), st.one_of(st.none(), st.integers(0, 2**20)))
def test_content_range_round_trips(start: int, length: int, behind: int | None) -> None:
    span = Span(start, start + length)
    total = None if behind is None else span.stop + behind
    assert parse_content_range(content_range(span, total)) == (span, total)
