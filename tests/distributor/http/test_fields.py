"""Header fields: look-up, lists, dates, Cache-Control, digests, what is kept."""

from __future__ import annotations

import hashlib
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.http import fields as f
from distributor.http.fields import CacheControl, Fields

LINES: Fields = (
    ("ETag", '"a"'),
    ("Cache-Control", "no-cache"),
    ("etag", '"b"'),
    ("CACHE-control", "max-age=5"),
)
WHEN = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 §5.6.7
NOW = 1_790_000_000.0  # September 2026


def test_lines_of_one_name_are_combined_in_order() -> None:  # RFC 9110 §5.2
    assert f.get(LINES, "cache-control") == "no-cache, max-age=5"
    assert f.get_all(LINES, "ETAG") == ['"a"', '"b"']
    assert f.get(LINES, "Age") is None
    assert f.get((("X", ""),), "x") == ""


def test_without_drops_every_line_of_a_name() -> None:
    assert f.without(LINES, ("eTag",)) == (LINES[1], LINES[3])
    assert f.replaced(LINES, "ETag", '"c"') == (LINES[1], LINES[3], ("ETag", '"c"'))


LISTS = {
    "plain": ("a, b ,\tc", ["a", "b", "c"]),
    "empty members": (",a,, ,b,", ["a", "b"]),
    "nothing": ("", []),
    "comma in quotes": ('a="x, y", b', ['a="x, y"', "b"]),
    "escaped quote": (r'a="x\", y", b', [r'a="x\", y"', "b"]),
    "quote never closed": ('a, b="x, c', ["a", 'b="x', "c"]),
    "two quotes, one open": ('"a,b", "c, d', ['"a,b"', '"c', "d"]),
    "single quotes quote nothing": ("a='x, y'", ["a='x", "y'"]),
}


@pytest.mark.parametrize(("value", "members"), LISTS.values(), ids=LISTS.keys())
def test_list_is_split_outside_quotes(value: str, members: list[str]) -> None:  # RFC 9110 §5.6.1
    assert f.split_list(value) == members


@given(st.text('ab,"\\ '))
def test_splitting_loses_nothing_but_commas_and_spaces(value: str) -> None:
    kept = "".join(f.split_list(value))
    strip = str.maketrans("", "", ", ")
    assert kept.translate(strip) == value.translate(strip)


DATES = {
    "IMF-fixdate": "Sun, 06 Nov 1994 08:49:37 GMT",
    "rfc850": "Sunday, 06-Nov-94 08:49:37 GMT",
    "asctime": "Sun Nov  6 08:49:37 1994",
    "any case": "sun, 06 NOV 1994 08:49:37 gmt",
    "wrong weekday": "Mon, 06 Nov 1994 08:49:37 GMT",
    "spaces around": " Sun, 06 Nov 1994 08:49:37 GMT\t",
}


@pytest.mark.parametrize("value", DATES.values(), ids=DATES.keys())
def test_date_is_read_in_each_format(value: str) -> None:  # RFC 9110 §5.6.7, RFC 9111 §4.2
    assert f.parse_date(value) == WHEN
    assert f.parse_date(value, NOW) == WHEN


NO_DATES = [
    None, "", "0", "-1", "784111777", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 UTC",
    "Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 06-Nov-1994 08:49:37 GMT",
    "Sun 06 Nov 1994 08:49:37 GMT", "Sun, 06  Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT",
    "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nov 1994 08.49.37 GMT", "Son, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:61 GMT",
]  # fmt: skip


@pytest.mark.parametrize("value", NO_DATES, ids=repr)
def test_what_is_no_date_is_none(value: str | None) -> None:
    assert f.parse_date(value) is None


TWO_DIGITS = {
    "50 years ahead stays ahead": ("Tuesday, 01-Sep-76 00:00:00 GMT", 2076),
    "51 years ahead is past": ("Tuesday, 01-Sep-77 00:00:00 GMT", 1977),
    "this year": ("Tuesday, 01-Sep-26 00:00:00 GMT", 2026),
}


@pytest.mark.parametrize(("value", "year"), TWO_DIGITS.values(), ids=TWO_DIGITS.keys())
def test_two_digit_year_is_at_most_fifty_years_ahead(value: str, year: int) -> None:  # RFC 9110 §5.6.7
    seconds = f.parse_date(value, NOW)
    assert seconds is not None
    assert f.format_date(seconds)[12:16] == str(year)


def test_leap_second_is_read() -> None:
    assert f.parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == f.parse_date("Sun, 01 Jan 2017 00:00:00 GMT")


def test_date_past_32_bits_is_read() -> None:
    assert f.parse_date("Fri, 31 Dec 9999 23:59:59 GMT") == 253402300799


@given(st.integers(0, 253402300799))
def test_dates_round_trip_and_agree_with_the_standard_library(seconds: int) -> None:
    text = f.format_date(seconds)
    assert text == formatdate(seconds, usegmt=True)
    assert f.parse_date(text) == seconds


def test_date_is_put_in_only_where_there_is_none_to_use() -> None:  # RFC 9110 §6.6.1
    good: Fields = (("date", f.format_date(WHEN)),)
    assert f.with_date(good, NOW) == good
    assert f.with_date((("X", "1"),), WHEN + 0.9) == (("X", "1"), ("Date", f.format_date(WHEN)))
    assert f.with_date((("DATE", "yesterday"),), WHEN) == (("Date", f.format_date(WHEN)),)


DELTAS = {
    "0": 0, "007": 7, "2147483647": 2**31 - 1, "2147483648": 2**31, "2147483649": 2**31, "9" * 5000: 2**31,
    "0" * 5000 + "1": 1, "": None, "-1": None, "+1": None, "1.5": None, "1e3": None, "²": None, "٣": None,
    " 1": None,
}  # fmt: skip


@pytest.mark.parametrize(("value", "seconds"), DELTAS.items(), ids=[repr(key[:12]) for key in DELTAS])
def test_delta_seconds(value: str, seconds: int | None) -> None:  # RFC 9111 §1.2.2
    assert f.parse_delta_seconds(value) == seconds


AGES = [
    (None, None),
    ("5", 5),
    (" 5", 5),
    ("5, 9", 5),
    ("x, 9", None),
    ("-5", None),
    ("9" * 30, 2**31),
    ("5;a", None),
]


@pytest.mark.parametrize(("value", "age"), AGES, ids=repr)
def test_first_age_counts_and_an_invalid_one_is_ignored(
    value: str | None, age: int | None
) -> None:  # RFC 9111 §5.1
    assert f.parse_age(value) == age


RETRIES = [
    (None, None), ("0", 1), ("30", 30), ("999999", 3600), ("soon", None), ("-5", None),
    (f.format_date(WHEN + 90), 90), (f.format_date(WHEN - 90), 1), (f.format_date(WHEN + 9000), 3600),
]  # fmt: skip


@pytest.mark.parametrize(("value", "seconds"), RETRIES, ids=repr)
def test_retry_after_is_seconds_from_now_within_an_hour(value: str | None, seconds: int | None) -> None:
    assert f.parse_retry_after(value, WHEN) == seconds


DIRECTIVES: dict[str, tuple[str | None, dict[str, Any]]] = {
    "absent": (None, {}),
    "empty": ("", {}),
    "usual": ("public, max-age=3600", {"public": True, "max_age": 3600}),
    "any case": ("NO-STORE, Max-Age=1", {"no_store": True, "max_age": 1}),
    "quoted seconds": ('max-age="60"', {"max_age": 60}),
    "single quotes are no quotes": ("max-age='60'", {"max_age": 0}),
    "overflow": ("max-age=99999999999", {"max_age": 2**31}),
    "no argument": ("max-age", {"max_age": 0}),
    "negative": ("max-age=-1", {"max_age": 0}),
    "decimal": ("max-age=1.5", {"max_age": 0}),
    "space before the sign": ("max-age =5", {"max_age": 0}),
    "space after the sign": ("max-age= 5", {"max_age": 0}),
    "text after": ("max-age=5 6", {"max_age": 0}),
    "smallest of two": ("max-age=60, max-age=5, s-maxage=7, s-maxage=9", {"max_age": 5, "s_maxage": 7}),
    "one of two unreadable": ("max-age=60, max-age=x", {"max_age": 0}),
    "seconds inside another's quotes": ('x="max-age=99, no-store", max-age=1', {"max_age": 1}),
    "open quote hides nothing": ('x="a, no-store', {"no_store": True}),
    "argument to a flag": ("no-store=1, must-revalidate=x", {"no_store": True, "must_revalidate": True}),
    "stale": (
        "stale-while-revalidate=3, stale-if-error=4",
        {"stale_while_revalidate": 3, "stale_if_error": 4},
    ),
    "rest": (
        "proxy-revalidate, must-understand, only-if-cached, no-transform, immutable",
        {
            "proxy_revalidate": True,
            "must_understand": True,
            "only_if_cached": True,
            "no_transform": True,
            "immutable": True,
        },
    ),
    "private": ("private", {"private": True}),
    "private with names": (
        'private="Set-Cookie, X-A"',
        {"private": True, "private_fields": ("set-cookie", "x-a")},
    ),
    "private with a token": ("private=X-A", {"private": True, "private_fields": ("x-a",)}),
    "private both ways": ('private="X-A", private', {"private": True}),
    "private twice": ('private="x-a", private="x-b"', {"private": True, "private_fields": ("x-a", "x-b")}),
    "no-cache with names": ('no-cache="x-a"', {"no_cache": True, "no_cache_fields": ("x-a",)}),
    "no-cache with no names": ('no-cache=""', {"no_cache": True}),
    "no-cache with what is no name": ('no-cache="a b"', {"no_cache": True}),
    "no directive": ("=5, @", {}),
}


def _said(parsed: CacheControl) -> dict[str, Any]:
    default = CacheControl()
    names = [name for name in CacheControl.__struct_fields__ if name != "present"]
    return {name: getattr(parsed, name) for name in names if getattr(parsed, name) != getattr(default, name)}


@pytest.mark.parametrize(("value", "said"), DIRECTIVES.values(), ids=DIRECTIVES.keys())
def test_cache_control_is_read_in_its_most_restrictive_sense(  # RFC 9111 §4.2.1, §5.2
    value: str | None, said: dict[str, Any]
) -> None:
    assert _said(f.parse_cache_control(value)) == said


def test_unknown_directives_are_known_to_be_there() -> None:
    assert f.parse_cache_control("Foo=1, max-age=1").present == {"foo", "max-age"}


TARGETED: dict[str, tuple[str | None, dict[str, Any] | None]] = {
    "absent": (None, None),
    "empty": ("", None),
    "spaces": ("  ", None),
    "usual": ("max-age=60, must-revalidate", {"max_age": 60, "must_revalidate": True}),
    "parameters ignored": ("max-age=60;x=1, no-store;y", {"max_age": 60, "no_store": True}),
    "last of two": ("max-age=1, max-age=60", {"max_age": 60}),
    "false": ("no-store=?0, max-age=5", {"max_age": 5}),
    "string is no seconds": ('max-age="60"', {"max_age": 0}),
    "decimal is no seconds": ("max-age=60.5", {"max_age": 0}),
    "negative": ("max-age=-1", {"max_age": 0}),
    "huge": ("max-age=999999999999999", {"max_age": 2**31}),
    "inner list": ("max-age=(1 2)", {"max_age": 0}),
    "names": ('private="x-a"', {"private": True, "private_fields": ("x-a",)}),
    "upper case is no dictionary": ("Max-Age=60", None),
    "comma at the end": ("max-age=60,", None),
    "integer too long": ("max-age=9999999999999999", None),
    "quotes open": ('no-store, x="', None),
}


@pytest.mark.parametrize(("value", "said"), TARGETED.values(), ids=TARGETED.keys())
def test_cdn_cache_control_is_a_dictionary_or_absent(value: str | None, said: dict[str, Any] | None) -> None:
    parsed = f.parse_cdn_cache_control(value)  # RFC 9213 §2.1
    assert (None if parsed is None else _said(parsed)) == said


def test_cdn_cache_control_goes_before_cache_control() -> None:  # RFC 9213 §2.2
    both: Fields = (("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=5"))
    directives, targeted = f.response_directives(both)
    assert (directives.no_store, directives.max_age, targeted) == (False, 5, True)
    directives, targeted = f.response_directives((both[0], ("CDN-Cache-Control", "Bad")))
    assert (directives.no_store, targeted) == (True, False)


SHA = hashlib.sha256(b"hello").digest()


def test_repr_digest_round_trips() -> None:  # RFC 9530 §3
    assert f.format_repr_digest(SHA) == "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
    assert f.parse_repr_digest(f"sha-512=:AAAA:, {f.format_repr_digest(SHA)}") == SHA


@pytest.mark.parametrize(
    "value",
    [None, "", "sha-256=:AAAA:", "sha-512=:AAAA:", 'sha-256="x"', "sha-256=(:AAAA:)", "SHA-256=abc"],
    ids=repr,
)
def test_repr_digest_without_a_whole_sha_256_is_none(value: str | None) -> None:
    assert f.parse_repr_digest(value) is None


def _names(fields: Fields) -> list[str]:
    return [name for name, _ in fields]


def test_only_end_to_end_fields_are_stored() -> None:  # RFC 9111 §3.1
    received: Fields = (
        ("Content-Type", "video/mp4"),
        ("Connection", "close, X-Hop"),
        ("connection", "X-Other"),
        ("x-hop", "1"),
        ("X-Other", "1"),
        ("Keep-Alive", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("Proxy-Authenticate", "Basic"),
        ("Set-Cookie", "a=b"),
        ("Server", "x"),
        ("X-Powered-By", "x"),
        ("Alt-Svc", "x"),
        ("Access-Control-Allow-Origin", "https://a"),
        ("Timing-Allow-Origin", "x"),
        ("X-Cache", "hit"),
        ("X-Data-Source", "local"),
        ("Server-Timing", "x"),
        ("X-Request-Id", "x"),
        ("X-Unknown", "1"),
        ("x-unknown", "2"),
        ("Via", "1.1 up"),
        ("Cache-Status", "up; hit"),
    )
    assert _names(f.storable_fields(received)) == [
        "Content-Type",
        "X-Unknown",
        "x-unknown",
        "Via",
        "Cache-Status",
    ]
    assert "Set-Cookie" in _names(f.storable_fields(received, keep_set_cookie=True))


def test_fields_named_by_private_or_no_cache_are_not_stored() -> None:  # RFC 9111 §5.2.2.4, §5.2.2.7
    received: Fields = (
        ("Cache-Control", 'private="X-A", no-cache="x-b"'),
        ("x-a", "1"),
        ("X-B", "1"),
        ("X-C", "1"),
    )
    assert _names(f.storable_fields(received)) == ["Cache-Control", "X-C"]


def test_a_field_the_cache_needs_is_not_left_out() -> None:
    assert not f.separable(("x-a", "etag"))
    assert not f.separable(())
    received: Fields = (("Cache-Control", 'no-cache="ETag"'), ("ETag", '"a"'))
    assert f.storable_fields(received) == received


def test_transparent_edge_forwards_end_to_end_fields_without_conditions_or_claims() -> None:
    received: Fields = tuple(
        (name, "x")
        for name in (
            "Host", "Accept", "Authorization", "User-Agent", "Cookie", "Range", "If-Range", "If-None-Match",
            "If-Match",
            "If-Modified-Since", "If-Unmodified-Since", "Accept-Encoding", "Forwarded", "X-Forwarded-For",
            "X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "Content-Length",
            "Transfer-Encoding", "TE", "Expect", "X-Hop", "X-Custom",
        )
    )  # fmt: skip
    received = (*received, ("Connection", "x-hop"))
    assert _names(f.forwardable_fields(received)) == ["Accept", "Authorization", "User-Agent", "X-Custom"]
