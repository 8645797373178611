"""What a source's head tells, and whether two heads speak of one version (RFC 9110 §8.8, §15.3.7)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core.model import Representation
from distributor.core.representation import (
    Received,
    binding,
    check_continuation,
    check_exact,
    confirms,
    describe,
    effective_etag,
    length_of,
    renewed,
    resumable,
    same_version,
)
from distributor.errors import RangeIgnored, SourceProtocol, VersionChanged
from distributor.http.fields import Fields, format_repr_digest, get

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
MODIFIED = "Fri, 15 Jan 2027 07:00:00 GMT"
DIGEST = format_repr_digest(b"d" * 32)
OTHER = format_repr_digest(b"e" * 32)


def received(*fields: tuple[str, str], status: int = 200) -> Received:
    return Received(status, (("Date", DATE), *fields), NOW - 1, NOW)


def described(*fields: tuple[str, str], status: int = 200) -> Representation:
    return describe(received(*fields, status=status), default_ttl=60.0)


def test_description_holds_what_the_head_told() -> None:
    made = described(
        ("Content-Length", "12"),
        ("ETag", '"x"'),
        ("Last-Modified", MODIFIED),
        ("Repr-Digest", DIGEST),
        ("X-Distribution-Bucket", "films"),
        ("Age", "7"),
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
        ("Set-Cookie", "a=b"),
        ("X-Other", "kept"),
    )
    assert (made.length, made.etag, made.digest, made.bucket) == (12, '"x"', b"d" * 32, "films")
    assert (made.date, made.last_modified) == (int(NOW), int(NOW) - 3600)
    assert made.initial_age == pytest.approx(8.0)
    names = {name for name, _ in made.fields}
    assert "X-Other" in names
    assert not names & {"Content-Length", "Connection", "X-Hop", "Set-Cookie"}


def test_last_modified_later_than_date_is_that_date() -> None:  # RFC 9110 §8.8.2.1
    made = described(("Last-Modified", "Fri, 15 Jan 2027 09:00:00 GMT"))
    assert made.last_modified == made.date == int(NOW)


LENGTHS = [
    (200, [("Content-Length", "0")], 0),
    (200, [], None),
    (200, [("Content-Length", "5"), ("Transfer-Encoding", "chunked")], None),
    (204, [], 0),
    (206, [("Content-Range", "bytes 0-4/9"), ("Content-Length", "5")], 9),
    (206, [("Content-Range", "bytes 0-4/*")], None),
]


@pytest.mark.parametrize(("status", "fields", "length"), LENGTHS)
def test_length_of_the_whole(status: int, fields: list[tuple[str, str]], length: int | None) -> None:
    assert length_of(received(*fields, status=status)) == length


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (200, [("Content-Length", "x")]),
        (200, [("Content-Length", "-1")]),
        (200, [("Content-Length", "5, 6")]),
        (200, [("Content-Length", "\u0665")]),
        (206, []),
        (206, [("Content-Range", "bytes */9")]),
    ],
)
def test_unreadable_length_breaks_the_protocol(status: int, fields: list[tuple[str, str]]) -> None:
    with pytest.raises(SourceProtocol):
        length_of(received(*fields, status=status))


TAG, WEAK, LM = ("ETag", '"x"'), ("ETag", 'W/"x"'), ("Last-Modified", MODIFIED)
LM_NOW = ("Last-Modified", DATE)
RD = ("Repr-Digest", DIGEST)

BINDINGS: list[tuple[str, list[tuple[str, str]], str | None, bool]] = [
    ("strong-tag", [TAG, LM], '"x"', True),
    ("weak-tag-and-date", [WEAK, LM], MODIFIED, True),
    ("date", [LM], MODIFIED, True),
    ("date-not-strong", [LM_NOW], None, False),
    ("weak-tag", [WEAK], None, False),
    ("digest", [RD], None, True),
    ("nothing", [], None, False),
    ("no-ranges", [TAG, ("Accept-Ranges", "none")], '"x"', False),
]


@pytest.mark.parametrize(
    ("fields", "value", "goes_on"), [row[1:] for row in BINDINGS], ids=[r[0] for r in BINDINGS]
)
def test_what_binds_further_requests(fields: list[tuple[str, str]], value: str | None, goes_on: bool) -> None:
    made = described(*fields)  # RFC 9110 §8.8.2.2
    assert (binding(made), resumable(made)) == (value, goes_on)


VERSIONS: list[tuple[str, list[tuple[str, str]], list[tuple[str, str]], bool]] = [
    ("same-tag", [TAG], [TAG], True),
    ("other-tag", [TAG], [("ETag", '"y"')], False),
    ("tag-has-gone", [TAG, LM], [LM], False),
    ("tag-has-come", [LM], [TAG, LM], False),
    ("weak-tags", [WEAK], [WEAK], False),
    ("weak-to-strong", [WEAK, LM], [TAG, LM], False),
    ("weak-tags-and-date", [WEAK, LM], [WEAK, LM], True),
    ("other-weak-tags-and-date", [WEAK, LM], [("ETag", 'W/"y"'), LM], False),
    ("same-date", [LM], [LM], True),
    ("date-not-strong", [LM_NOW], [LM_NOW], False),
    ("other-date", [LM], [LM_NOW], False),
    ("same-digest-other-tag", [TAG, RD], [("ETag", '"y"'), RD], True),
    ("same-tag-other-digest", [TAG, RD], [TAG, ("Repr-Digest", OTHER)], False),
    ("digest-on-one-side", [TAG, RD], [TAG], True),
    ("nothing", [], [], False),
]


@pytest.mark.parametrize(
    ("ours", "theirs", "same"), [row[1:] for row in VERSIONS], ids=[r[0] for r in VERSIONS]
)
def test_same_version_by_strong_comparison(
    ours: list[tuple[str, str]], theirs: list[tuple[str, str]], same: bool
) -> None:
    assert same_version(described(*ours), received(*theirs)) is same


def part(span: str, *fields: tuple[str, str]) -> Received:
    return received(("Content-Range", span), *(fields or (TAG,)), status=206)


CONTINUATIONS: list[tuple[str, Received, type[Exception] | None]] = [
    ("continues", part("bytes 5-9/10"), None),
    ("unknown-total", part("bytes 5-9/*"), None),
    ("other-tag", part("bytes 5-9/10", ("ETag", '"y"')), VersionChanged),
    ("other-total", part("bytes 5-9/11"), VersionChanged),
    ("other-start", part("bytes 4-9/10"), SourceProtocol),
    ("unreadable", part("bytes x"), SourceProtocol),
    ("whole-of-the-same", received(TAG, ("Content-Length", "10")), RangeIgnored),
    ("whole-of-another-length", received(TAG, ("Content-Length", "11")), VersionChanged),
    ("whole-of-another", received(("ETag", '"y"'), ("Content-Length", "10")), VersionChanged),
]


@pytest.mark.parametrize(
    ("answer", "error"), [row[1:] for row in CONTINUATIONS], ids=[r[0] for r in CONTINUATIONS]
)
def test_only_a_206_of_the_same_version_continues(answer: Received, error: type[Exception] | None) -> None:
    ours = described(TAG, ("Content-Length", "10"))  # RFC 9110 §15.3.7.3
    if error is None:
        check_continuation(ours, answer, 5)
        return
    with pytest.raises(error) as caught:
        check_continuation(ours, answer, 5)
    assert type(caught.value) is error


@given(
    total=st.integers(1, 50),
    data=st.data(),
)
def test_part_is_exact_only_if_it_is_what_was_asked_clipped_to_the_total(total: int, data: Any) -> None:
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.none() | st.integers(start + 1, total + 20))
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first, total - 1))
    answer = part(f"bytes {first}-{last}/{total}")
    end = total if stop is None else min(stop, total)
    if (first, last + 1) == (start, end):
        check_exact(answer, start, stop)
    else:
        with pytest.raises(SourceProtocol):
            check_exact(answer, start, stop)


def test_etag_is_made_of_the_digest_where_the_source_sent_none() -> None:
    assert effective_etag(described(WEAK, RD), None) == 'W/"x"'
    assert effective_etag(described(RD), b"o" * 32) == f'"sha256-{(b"d" * 32).hex()}"'
    assert effective_etag(described(), b"o" * 32) == f'"sha256-{(b"o" * 32).hex()}"'
    assert effective_etag(described(), None) is None


def test_304_renews_freshness_and_fields_but_nothing_of_the_bytes() -> None:  # RFC 9111 §3.2, §4.3.4
    ours = described(TAG, RD, LM, ("Content-Length", "10"), ("Cache-Control", "max-age=1"), ("X-A", "1"))
    later = Received(
        304,
        (
            ("Date", "Fri, 15 Jan 2027 09:00:00 GMT"),
            ("Cache-Control", "max-age=99"),
            ("X-A", "2"),
            ("Content-Length", "0"),
            ("Repr-Digest", OTHER),
        ),
        NOW + 3600,
        NOW + 3600,
    )
    made = renewed(ours, later, default_ttl=60.0)
    assert (made.length, made.digest, made.etag, made.last_modified) == (
        10,
        b"d" * 32,
        '"x"',
        ours.last_modified,
    )
    assert (made.policy.freshness_lifetime, made.date) == (99.0, int(NOW) + 3600)
    assert (get(made.fields, "X-A"), get(made.fields, "Repr-Digest")) == ("2", DIGEST)
    assert get(made.fields, "Content-Length") is None


@pytest.mark.parametrize(
    ("fields", "ours"),
    [((), True), ((TAG,), True), ((WEAK,), True), ((("ETag", '"y"'),), False)],
)
def test_304_with_another_tag_confirms_nothing(fields: Fields, ours: bool) -> None:  # RFC 9111 §4.3.4
    assert confirms(described(TAG), received(*fields, status=304)) is ours
