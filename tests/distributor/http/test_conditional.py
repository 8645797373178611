"""Validators and preconditions: RFC 9110 §8.8 and §13."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.http.conditional import (
    EntityTag,
    Validators,
    Verdict,
    evaluate,
    if_range_holds,
    parse_etag,
    parse_etag_list,
    strong_match,
    strong_validator,
    validators_of,
    weak_match,
)
from distributor.http.fields import Fields, format_date

T = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
IMF = "Sun, 06 Nov 1994 08:49:37 GMT"
RFC850 = "Sunday, 06-Nov-94 08:49:37 GMT"
ASCTIME = "Sun Nov  6 08:49:37 1994"
BEFORE, AFTER = format_date(T - 1), format_date(T + 1)
OWN = Validators('"a"', T, T + 60)
WEAK = Validators('W/"a"', T, T + 60)
UNTAGGED = Validators(None, T, T + 60)
BARE = Validators(None, None, None)

PROCEED, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.FAILED

TAGS: dict[str, tuple[str | None, EntityTag | None]] = {
    "strong": ('"a"', EntityTag("a")),
    "weak": ('W/"a"', EntityTag("a", True)),
    "empty": ('""', EntityTag("")),
    "comma and backslash": (r'"a,\b"', EntityTag(r"a,\b")),
    "octets above ASCII": ('"\udcff\xe9"', EntityTag("\udcff\xe9")),
    "absent": (None, None),
    "lower-case w": ('w/"a"', None),
    "no quotes": ("a", None),
    "one quote": ('"a', None),
    "space inside": ('"a b"', None),
    "control inside": ('"a\x7f"', None),
    "two": ('"a", "b"', None),
    "space after W/": ('W/ "a"', None),
}


@pytest.mark.parametrize(("value", "tag"), TAGS.values(), ids=TAGS.keys())
def test_entity_tag_is_read_by_the_grammar(value: str | None, tag: EntityTag | None) -> None:  # §8.8.3
    assert parse_etag(value) == tag
    if tag is not None:
        assert str(tag) == value


COMPARISONS = {
    'W/"1" W/"1"': (EntityTag("1", True), EntityTag("1", True), False, True),
    'W/"1" W/"2"': (EntityTag("1", True), EntityTag("2", True), False, False),
    'W/"1" "1"': (EntityTag("1", True), EntityTag("1"), False, True),
    '"1" "1"': (EntityTag("1"), EntityTag("1"), True, True),
    "none": (None, None, False, False),
    "one none": (EntityTag("1"), None, False, False),
}


@pytest.mark.parametrize(("one", "other", "strong", "weak"), COMPARISONS.values(), ids=COMPARISONS.keys())
def test_comparison_table(one: EntityTag, other: EntityTag, strong: bool, weak: bool) -> None:  # §8.8.3.2
    assert (strong_match(one, other), strong_match(other, one)) == (strong, strong)
    assert (weak_match(one, other), weak_match(other, one)) == (weak, weak)


ETAG_LISTS: dict[str, tuple[str, list[EntityTag] | str]] = {
    "star": (" * ", "*"),
    "one": ('"a"', [EntityTag("a")]),
    "several": ('"a", W/"b" ,\t"c"', [EntityTag("a"), EntityTag("b", True), EntityTag("c")]),
    "comma inside quotes": ('"a,b","c"', [EntityTag("a,b"), EntityTag("c")]),
    "empty members": (',"a",,', [EntityTag("a")]),
    "unquoted left out": ('a, "b", c', [EntityTag("b")]),
    "quote left open": ('"a, "b"', [EntityTag("b")]),
    "separators at the end": ('"a" ,' + ", " * 5000, [EntityTag("a")]),
    "text after a tag": ('"a"x, "b"', [EntityTag("b")]),
    "star among others": ('*, "a"', [EntityTag("a")]),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("value", "tags"), ETAG_LISTS.values(), ids=ETAG_LISTS.keys())
def test_etag_list_is_split_outside_quotes(value: str, tags: list[EntityTag] | str) -> None:
    assert parse_etag_list(value) == tags


ETAGS = st.builds(EntityTag, st.text(st.sampled_from("ab,;\\W/*!é")), st.booleans())


@given(st.lists(ETAGS))
def test_etag_list_round_trips(tags: list[EntityTag]) -> None:
    assert parse_etag_list(" ,".join(map(str, tags))) == tags


def _request(**lines: str) -> Fields:
    return tuple((name.replace("_", "-"), value) for name, value in lines.items())


CASES: dict[str, tuple[Fields, Validators, Verdict]] = {
    "none": (_request(Range="bytes=0-1"), OWN, PROCEED),
    # §13.1.1
    "If-Match same": (_request(If_Match='"a"'), OWN, PROCEED),
    "If-Match one of": (_request(If_Match='"x", "a"'), OWN, PROCEED),
    "If-Match other": (_request(If_Match='"x"'), OWN, FAILED),
    "If-Match star": (_request(If_Match="*"), BARE, PROCEED),
    "If-Match is strong, own weak": (_request(If_Match='W/"a"'), WEAK, FAILED),
    "If-Match is strong, theirs weak": (_request(If_Match='W/"a"'), OWN, FAILED),
    "If-Match without own tag": (_request(If_Match='"a"'), UNTAGGED, FAILED),
    "If-Match malformed": (_request(If_Match="a"), OWN, FAILED),
    "If-Match on two lines": ((("If-Match", '"x"'), ("if-match", '"a"')), OWN, PROCEED),
    # §13.1.4
    "If-Unmodified-Since same": (_request(If_Unmodified_Since=IMF), OWN, PROCEED),
    "If-Unmodified-Since before": (_request(If_Unmodified_Since=BEFORE), OWN, FAILED),
    "If-Unmodified-Since after": (_request(If_Unmodified_Since=AFTER), OWN, PROCEED),
    "If-Unmodified-Since is no date": (_request(If_Unmodified_Since="yesterday"), OWN, PROCEED),
    "If-Unmodified-Since without own date": (_request(If_Unmodified_Since=BEFORE), BARE, PROCEED),
    "If-Unmodified-Since twice": ((("If-Unmodified-Since", BEFORE),) * 2, OWN, PROCEED),
    "If-Unmodified-Since not looked at beside If-Match": (
        _request(If_Match='"a"', If_Unmodified_Since=BEFORE),
        OWN,
        PROCEED,
    ),
    # §13.1.2
    "If-None-Match same": (_request(If_None_Match='"a"'), OWN, NOT_MODIFIED),
    "If-None-Match any case of name": ((("IF-NONE-MATCH", '"a"'),), OWN, NOT_MODIFIED),
    "If-None-Match is weak": (_request(If_None_Match='W/"a"'), OWN, NOT_MODIFIED),
    "If-None-Match own weak": (_request(If_None_Match='"a"'), WEAK, NOT_MODIFIED),
    "If-None-Match other": (_request(If_None_Match='"x"'), OWN, PROCEED),
    "If-None-Match one of": (_request(If_None_Match='"x", "a,b", "a"'), OWN, NOT_MODIFIED),
    "If-None-Match comma inside quotes": (
        _request(If_None_Match='"x,y"'),
        Validators('"x,y"', T, T),
        NOT_MODIFIED,
    ),
    "If-None-Match part of a tag": (_request(If_None_Match='"x,y"'), Validators('"x', T, T), PROCEED),
    "If-None-Match on two lines": ((("If-None-Match", '"x"'), ("If-None-Match", '"a"')), OWN, NOT_MODIFIED),
    "If-None-Match star": (_request(If_None_Match="*"), BARE, NOT_MODIFIED),
    "If-None-Match unquoted": (_request(If_None_Match="a"), OWN, PROCEED),
    # §13.1.3
    "If-Modified-Since same": (_request(If_Modified_Since=IMF), OWN, NOT_MODIFIED),
    "If-Modified-Since same in rfc850": (_request(If_Modified_Since=RFC850), OWN, NOT_MODIFIED),
    "If-Modified-Since same in asctime": (_request(If_Modified_Since=ASCTIME), OWN, NOT_MODIFIED),
    "If-Modified-Since after": (_request(If_Modified_Since=AFTER), OWN, NOT_MODIFIED),
    "If-Modified-Since before": (_request(If_Modified_Since=BEFORE), OWN, PROCEED),
    "If-Modified-Since is no date": (_request(If_Modified_Since="0"), OWN, PROCEED),
    "If-Modified-Since twice": ((("If-Modified-Since", IMF),) * 2, OWN, PROCEED),
    "If-Modified-Since against Date": (
        _request(If_Modified_Since=IMF),
        Validators(None, None, T),
        NOT_MODIFIED,
    ),
    "If-Modified-Since before Date": (_request(If_Modified_Since=BEFORE), Validators(None, None, T), PROCEED),
    "If-Modified-Since without any date": (_request(If_Modified_Since=IMF), BARE, PROCEED),
    "If-Modified-Since not looked at beside If-None-Match": (
        _request(If_None_Match='"x"', If_Modified_Since=IMF),
        OWN,
        PROCEED,
    ),
    "nor beside a malformed one": (_request(If_None_Match="x", If_Modified_Since=IMF), OWN, PROCEED),
    # §13.2.2
    "412 goes before 304": (_request(If_None_Match='"a"', If_Match='"x"'), OWN, FAILED),
    "If-Unmodified-Since goes before 304": (
        _request(If_None_Match='"a"', If_Unmodified_Since=BEFORE),
        OWN,
        FAILED,
    ),
    "both pass to 304": (_request(If_Match='"a"', If_None_Match='"a"'), OWN, NOT_MODIFIED),
    "If-Unmodified-Since and If-Modified-Since": (
        _request(If_Unmodified_Since=IMF, If_Modified_Since=IMF),
        OWN,
        NOT_MODIFIED,
    ),
}


@pytest.mark.parametrize(("request_fields", "validators", "verdict"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_of_get_and_head(
    method: str, request_fields: Fields, validators: Validators, verdict: Verdict
) -> None:
    assert evaluate(method, request_fields, validators) is verdict


def test_other_methods_fail_where_get_is_not_modified() -> None:  # §13.1.2, §13.1.3
    assert evaluate("POST", _request(If_None_Match='"a"'), OWN) is FAILED
    assert evaluate("POST", _request(If_Modified_Since=IMF), OWN) is PROCEED


def test_star_does_not_match_what_does_not_exist() -> None:
    assert evaluate("GET", _request(If_Match="*"), BARE, exists=False) is FAILED
    assert evaluate("GET", _request(If_None_Match="*"), BARE, exists=False) is PROCEED


IF_RANGES: dict[str, tuple[str | None, Validators, bool]] = {
    "absent": (None, BARE, True),
    "same tag": ('"a"', OWN, True),
    "other tag": ('"x"', OWN, False),
    "weak tag sent": ('W/"a"', OWN, False),
    "weak tag stored": ('"a"', WEAK, False),
    "weak on both sides": ('W/"a"', WEAK, False),
    "star is no tag": ("*", OWN, False),
    "unquoted": ("a", OWN, False),
    "empty": ("", OWN, False),
    "two tags": ('"a", "a"', OWN, False),
    "same date": (IMF, OWN, True),
    "same date in rfc850": (RFC850, OWN, True),
    "earlier date": (BEFORE, OWN, False),
    "later date": (AFTER, OWN, False),
    "Date a second later": (IMF, Validators(None, T, T + 1), True),
    "Date the same second": (IMF, Validators(None, T, T), False),
    "Date unknown": (IMF, Validators(None, T, None), False),
    "no Last-Modified": (IMF, Validators('"a"', None, T), False),
}


@pytest.mark.parametrize(("value", "validators", "holds"), IF_RANGES.values(), ids=IF_RANGES.keys())
def test_if_range_holds_only_for_the_same_bytes(
    value: str | None, validators: Validators, holds: bool
) -> None:  # §13.1.5
    assert if_range_holds(value, validators) is holds


STRONG: dict[str, tuple[Validators, str | None]] = {
    "strong tag": (OWN, '"a"'),
    "date beside a weak tag": (WEAK, IMF),
    "date alone": (UNTAGGED, IMF),
    "date too near": (Validators(None, T, T), None),
    "malformed tag": (Validators("a", None, T), None),
    "nothing": (BARE, None),
}


@pytest.mark.parametrize(("validators", "value"), STRONG.values(), ids=STRONG.keys())
def test_strong_validator_is_one_that_if_range_accepts(validators: Validators, value: str | None) -> None:
    assert strong_validator(validators) == value
    assert value is None or if_range_holds(value, validators)


def test_validators_are_read_from_response_fields() -> None:
    fields: Fields = (("etag", 'W/"a"'), ("last-modified", IMF), ("date", AFTER))
    assert validators_of(fields) == Validators('W/"a"', T, T + 1)
    assert validators_of(()) == BARE


def test_last_modified_after_date_is_date() -> None:  # RFC 9110 §8.8.2.1
    assert validators_of((("Last-Modified", AFTER), ("Date", IMF))) == Validators(None, T, T)


def test_two_etag_lines_are_no_validator() -> None:
    assert validators_of((("ETag", '"a"'), ("ETag", '"b"'))).etag is None
