"""Storing, freshness, reuse and renewal in a shared cache: RFC 9111."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.http import freshness as fr
from distributor.http.fields import Fields, format_date
from distributor.http.freshness import Policy, Reuse

T = 1_790_000_000
DATE = ("Date", format_date(T))


def _cc(value: str, *more: tuple[str, str]) -> Fields:
    return (("Cache-Control", value), *more)


def _assess(fields: Fields, status: int = 200, default_ttl: float = 60, **options: Any) -> Policy:
    return fr.assess(
        status, fields, request_time=T - 0.5, response_time=T + 0.7, default_ttl=default_ttl, **options
    )


def _before(name: str, seconds: int) -> tuple[str, str]:
    return name, format_date(T - seconds)


LIFETIMES: dict[str, tuple[Fields, float, bool]] = {
    # explicit, RFC 9111 §4.2.1
    "max-age": (_cc("max-age=5"), 5, True),
    "s-maxage before max-age": (_cc("max-age=5, s-maxage=9"), 9, True),
    "s-maxage 0 before max-age": (_cc("s-maxage=0, max-age=5"), 0, True),
    "max-age before Expires": (_cc("max-age=5", DATE, _before("Expires", -90)), 5, True),
    "unreadable max-age does not fall back": (_cc("max-age=x", DATE, _before("Expires", -90)), 0, True),
    "Expires minus Date": ((DATE, _before("Expires", -90)), 90, True),
    "Expires minus time of receipt": ((_before("Expires", -90),), 90, True),
    "Expires, not measured by our clock": ((_before("Date", 500), _before("Expires", 410)), 90, True),
    "Expires before Date": ((DATE, _before("Expires", 90)), 0, True),
    "Expires is no date": ((DATE, ("Expires", "0"), ("ETag", '"a"')), 0, True),
    "Expires twice": ((DATE, _before("Expires", -90), _before("Expires", -90)), 0, True),
    # RFC 9213 §2.2
    "CDN-Cache-Control goes first": (_cc("max-age=5", ("CDN-Cache-Control", "max-age=7")), 7, True),
    "invalid CDN-Cache-Control": (_cc("max-age=5", ("CDN-Cache-Control", "max-age=7,")), 5, True),
    "empty CDN-Cache-Control": (_cc("max-age=5", ("CDN-Cache-Control", "")), 5, True),
    "CDN-Cache-Control sets Expires aside": (
        (DATE, _before("Expires", -90), ("CDN-Cache-Control", "public")),
        0,
        False,
    ),
    # heuristic, RFC 9111 §4.2.2
    "nothing said, no validator": ((DATE,), 0, False),
    "nothing said, ETag": ((DATE, ("ETag", '"a"')), 60, False),
    "old Last-Modified": ((DATE, _before("Last-Modified", 10_000)), 60, False),
    "changed 100 seconds ago": ((DATE, _before("Last-Modified", 100)), 10, False),
    "changed two seconds ago, with ETag": ((DATE, _before("Last-Modified", 2), ("ETag", '"a"')), 0.2, False),
    "changed in the future": ((DATE, _before("Last-Modified", -50)), 0, False),
    "Last-Modified is no date": ((DATE, ("Last-Modified", "0")), 0, False),
    "tenth counts from Date": ((_before("Date", 100), _before("Last-Modified", 200)), 10, False),
    "public is no lifetime": (_cc("public", DATE), 0, False),
    "Pragma alone": ((("Pragma", "No-Cache"), ("ETag", '"a"')), 0, False),
    "Pragma beside Cache-Control": (_cc("public", ("Pragma", "no-cache"), ("ETag", '"a"')), 60, False),
    "Pragma beside Expires": ((DATE, ("Pragma", "no-cache"), _before("Expires", -90)), 90, True),
}


@pytest.mark.parametrize(("fields", "lifetime", "explicit"), LIFETIMES.values(), ids=LIFETIMES.keys())
def test_freshness_lifetime(fields: Fields, lifetime: float, explicit: bool) -> None:
    policy = _assess(fields)
    assert policy.freshness_lifetime == pytest.approx(lifetime)
    assert policy.explicit is explicit


@pytest.mark.parametrize("status", [201, 302, 307, 400, 403, 416, 500, 503])
def test_no_lifetime_is_guessed_for_other_statuses(status: int) -> None:  # RFC 9110 §15.1
    assert _assess((DATE, ("ETag", '"a"')), status).freshness_lifetime == 0
    assert _assess(_cc("max-age=5"), status).freshness_lifetime == 5


@pytest.mark.parametrize("status", [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501])
def test_a_lifetime_is_guessed_for_heuristically_cacheable_statuses(status: int) -> None:
    assert _assess((DATE, ("ETag", '"a"')), status).freshness_lifetime == 60


POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("max-age=1", {}),
    "no-cache": ("no-cache, max-age=1", {"no_cache": True}),
    "no-cache with names that are not stored": ('no-cache="Set-Cookie", max-age=1', {}),
    "no-cache with a name that is needed": ('no-cache="ETag", max-age=1', {"no_cache": True}),
    "must-revalidate": ("max-age=1, must-revalidate", {"must_revalidate": True}),
    "proxy-revalidate": ("max-age=1, proxy-revalidate", {"must_revalidate": True}),
    "s-maxage": ("s-maxage=1", {"must_revalidate": True}),
    "stale": (
        "max-age=1, stale-while-revalidate=2, stale-if-error=0",
        {"stale_while_revalidate": 2, "stale_if_error": 0},
    ),
}


@pytest.mark.parametrize(("value", "said"), POLICIES.values(), ids=POLICIES.keys())
def test_policy_says_what_the_source_allows(value: str, said: dict[str, Any]) -> None:
    assert _assess(_cc(value)) == Policy(freshness_lifetime=1, explicit=True, **said)


def test_response_to_a_request_with_authorization_is_validated_each_time() -> None:  # RFC 9111 §3.5
    assert _assess(_cc("max-age=5"), request_authorization=True).no_cache
    assert not _assess(_cc("max-age=5, public"), request_authorization=True).no_cache
    assert _assess(_cc("max-age=5, public"), request_no_store=True).no_cache


def test_policy_survives_encoding() -> None:
    policy = _assess(_cc("max-age=5, stale-if-error=7, must-revalidate"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(policy), type=Policy) == policy


STORED: dict[str, tuple[int, Fields, dict[str, Any], str]] = {
    "200 that says nothing": (200, (), {}, ""),
    "206 of a fetch": (206, (), {}, ""),
    "no-cache is stored": (200, _cc("no-cache"), {}, ""),
    "max-age 0 is stored": (200, _cc("max-age=0"), {}, ""),
    "no-store": (200, _cc("max-age=9, no-store"), {}, "no-store"),
    "no-store with an argument": (200, _cc("no-store=1"), {}, "no-store"),
    "private": (200, _cc("max-age=9, PRIVATE"), {}, "private"),
    "private and public": (200, _cc("public, private"), {}, "private"),
    "private with names": (200, _cc('private="X-A"'), {}, ""),
    "private with a name that is needed": (200, _cc('private="X-A, Content-Type"'), {}, "private"),
    "CDN may, others may not": (200, _cc("no-store, private", ("CDN-Cache-Control", "max-age=9")), {}, ""),
    "CDN may not": (200, _cc("max-age=9", ("CDN-Cache-Control", "no-store")), {}, "no-store"),
    "no-store beside must-understand": (200, _cc("no-store, must-understand, max-age=9"), {}, ""),
    "Vary star": (200, (("Vary", "Accept"), ("vary", "X, *")), {}, "vary"),
    "Vary names": (200, (("Vary", "Accept, X*"),), {}, ""),
    "HEAD": (200, _cc("max-age=9"), {"method": "HEAD"}, "method"),
    "POST": (200, _cc("max-age=9"), {"method": "POST"}, "method"),
    "request no-store": (200, _cc("max-age=9"), {"request_no_store": True}, "request no-store"),
    "Set-Cookie": (200, _cc("max-age=9", ("Set-Cookie", "a")), {"transparent": True}, ""),
    # RFC 9111 §3.5
    "Authorization": (200, _cc("max-age=9"), {"authorization": True}, "authorization"),
    "Authorization, nothing said": (200, (), {"authorization": True}, "authorization"),
    "Authorization, public": (200, _cc("public"), {"authorization": True}, ""),
    "Authorization, s-maxage": (200, _cc("s-maxage=9"), {"authorization": True}, ""),
    "Authorization, must-revalidate": (200, _cc("must-revalidate"), {"authorization": True}, ""),
    "Authorization, proxy-revalidate": (
        200, _cc("max-age=9, proxy-revalidate"), {"authorization": True}, "authorization",
    ),
    # other statuses
    "404": (404, _cc("max-age=9"), {}, "status"),
    "404, transparent": (404, (), {"transparent": True}, ""),
    "203": (203, _cc("max-age=9"), {}, "status"),
    "100": (100, _cc("max-age=9"), {"transparent": True}, "status"),
    "304": (304, _cc("max-age=9"), {"transparent": True}, "status"),
    "302 without lifetime": (302, (("ETag", '"a"'),), {"transparent": True}, "no lifetime"),
    "302, public": (302, _cc("public"), {"transparent": True}, ""),
    "302, Expires": (302, (DATE, _before("Expires", -9)), {"transparent": True}, ""),
    "501 without lifetime": (501, (), {"transparent": True}, "error without lifetime"),
    "503, public": (503, _cc("public"), {"transparent": True}, "error without lifetime"),
    "503, max-age": (503, _cc("max-age=9"), {"transparent": True}, ""),
    "unknown status": (299, _cc("max-age=9"), {"transparent": True}, ""),
    "unknown status, must-understand": (
        299, _cc("max-age=9, must-understand"), {"transparent": True}, "must-understand",
    ),
    "unknown status, both": (
        299, _cc("max-age=9, no-store, must-understand"), {"transparent": True}, "must-understand",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("status", "fields", "options", "reason"), STORED.values(), ids=STORED.keys())
def test_shared_cache_stores_what_rfc_9111_section_3_allows(
    status: int, fields: Fields, options: dict[str, Any], reason: str
) -> None:
    assert fr.may_store(status, fields, **options) == (not reason, reason)


INITIAL_AGES: dict[str, tuple[Fields, float, float, float]] = {
    "nothing but delay": ((), T - 2, T, 2),
    "Date of now": ((DATE,), T, T + 0.9, 0.9),
    "old Date": ((_before("Date", 30),), T - 1, T, 30),
    "Date in the future": ((_before("Date", -30),), T, T, 0),
    "Date is no date": ((("Date", "now"),), T, T, 0),
    "Age and delay": ((DATE, ("Age", "10")), T - 2, T, 12),
    "Age below apparent age": ((_before("Date", 30), ("Age", "10")), T - 2, T, 30),
    "Age invalid": ((DATE, ("Age", "-5")), T, T, 0),
    "two Ages": ((("Age", "7"), ("Age", "90")), T, T, 7),
    "clock set back between": ((), T + 5, T, 0),
}


@pytest.mark.parametrize(
    ("fields", "request_time", "response_time", "age"), INITIAL_AGES.values(), ids=INITIAL_AGES.keys()
)
def test_initial_age(fields: Fields, request_time: float, response_time: float, age: float) -> None:
    # RFC 9111 §4.2.3
    computed = fr.initial_age(fields, request_time=request_time, response_time=response_time)
    assert computed == pytest.approx(age, abs=1e-6)


def test_age_grows_with_the_clock_and_never_shrinks() -> None:
    assert fr.current_age(5, T, T + 10) == 15
    assert fr.current_age(5, T, T - 10) == 5


SWR = Policy(freshness_lifetime=10, stale_while_revalidate=5)
REUSES: dict[str, tuple[Policy, float, bool, Reuse]] = {
    "young": (SWR, 9.9, False, Reuse.FRESH),
    "lifetime reached": (SWR, 10, False, Reuse.STALE_WHILE_REVALIDATE),
    "within the window": (SWR, 14.9, False, Reuse.STALE_WHILE_REVALIDATE),
    "past the window": (SWR, 15, False, Reuse.STALE),
    "no window": (Policy(freshness_lifetime=10), 10, False, Reuse.STALE),
    "no lifetime": (Policy(), 0, False, Reuse.STALE),
    "soft purge": (SWR, 0, True, Reuse.STALE),
    "no-cache": (
        Policy(freshness_lifetime=10, no_cache=True, stale_while_revalidate=5),
        0,
        False,
        Reuse.STALE,
    ),
    "must-revalidate while fresh": (
        Policy(freshness_lifetime=10, must_revalidate=True),
        5,
        False,
        Reuse.FRESH,
    ),
    "must-revalidate sets the window aside": (
        Policy(freshness_lifetime=10, must_revalidate=True, stale_while_revalidate=5),
        12,
        False,
        Reuse.STALE,
    ),
}


@pytest.mark.parametrize(("policy", "age", "soft_purged", "reuse"), REUSES.values(), ids=REUSES.keys())
def test_reuse(
    policy: Policy, age: float, soft_purged: bool, reuse: Reuse
) -> None:  # RFC 9111 §4, RFC 5861 §3
    assert fr.usable(policy, age, soft_purged=soft_purged) is reuse


ON_ERROR: dict[str, tuple[Policy, float, bool]] = {
    "within the default": (Policy(freshness_lifetime=10), 109.9, True),
    "past the default": (Policy(freshness_lifetime=10), 110, False),
    "source allows less": (Policy(freshness_lifetime=10, stale_if_error=5), 15, False),
    "source allows more": (Policy(freshness_lifetime=10, stale_if_error=500), 400, True),
    "source forbids": (Policy(freshness_lifetime=10, stale_if_error=0), 10, False),
    "must-revalidate": (Policy(freshness_lifetime=10, stale_if_error=500, must_revalidate=True), 11, False),
    "no-cache": (Policy(freshness_lifetime=10, stale_if_error=500, no_cache=True), 1, False),
}


@pytest.mark.parametrize(("policy", "age", "allowed"), ON_ERROR.values(), ids=ON_ERROR.keys())
def test_stale_is_served_on_errors_as_long_as_allowed(policy: Policy, age: float, allowed: bool) -> None:
    assert fr.may_serve_on_error(policy, age, 100) is allowed  # RFC 5861 §4


NEGATIVES: dict[str, tuple[Fields, float]] = {
    "nothing said": ((), 5),
    "no-store": (_cc("no-store"), 5),
    "max-age": (_cc("max-age=20"), 20),
    "max-age 0": (_cc("max-age=0"), 0),
    "longer than the limit": (_cc("max-age=3600"), 60),
    "Expires": ((DATE, _before("Expires", -20)), 20),
    "Expires without Date": ((_before("Expires", -20),), 20),
    "Expires in the past": ((DATE, ("Expires", "-1")), 0),
    "CDN-Cache-Control": (_cc("max-age=20", ("CDN-Cache-Control", "max-age=30")), 30),
    "less its age": (_cc("max-age=20", ("Age", "15")), 5),
    "older than its lifetime": (_cc("max-age=20", ("Age", "25")), 0),
}


@pytest.mark.parametrize(("fields", "ttl"), NEGATIVES.values(), ids=NEGATIVES.keys())
def test_negative_answer_is_remembered_for_its_lifetime_or_the_default(fields: Fields, ttl: float) -> None:
    assert fr.negative_ttl(fields, default=5, response_time=T) == ttl


def test_only_if_cached_is_seen_in_any_case() -> None:
    assert fr.only_if_cached(_cc("max-age=0, Only-If-Cached"))
    assert not fr.only_if_cached(_cc("no-cache"))
    assert not fr.only_if_cached(())


STORED_FIELDS: Fields = (
    ("Date", "old"),
    ("Age", "90"),
    ("ETag", '"a"'),
    ("Content-Type", "video/mp4"),
    ("Content-Encoding", "gzip"),
    ("Content-Length", "10"),
    ("Repr-Digest", "sha-256=:AA==:"),
    ("X-A", "1"),
    ("x-a", "2"),
    ("X-B", "1"),
    ("Cache-Control", "max-age=1"),
)


def test_304_takes_the_place_of_every_stored_line_it_names() -> None:  # RFC 9111 §3.2
    received: Fields = (("date", "new"), ("X-a", "3"), ("X-C", "1"), ("Cache-Control", "max-age=9"))
    assert fr.merge_304(STORED_FIELDS, received) == (
        ("ETag", '"a"'),
        ("Content-Type", "video/mp4"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "10"),
        ("Repr-Digest", "sha-256=:AA==:"),
        ("X-B", "1"),
        *received,
    )


@pytest.mark.parametrize(
    "line",
    [
        ("Content-Length", "0"),
        ("Content-Encoding", "br"),
        ("Content-Range", "bytes 0-1/2"),
        ("Repr-Digest", "sha-256=:BB==:"),
        ("Content-Digest", "sha-256=:BB==:"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "X-B"),
        ("Set-Cookie", "a=b"),
        ("Server", "x"),
        ("ETag", 'W/"a"'),
    ],
    ids=lambda line: line[0],
)
def test_304_leaves_what_it_may_not_renew(line: tuple[str, str]) -> None:
    assert fr.merge_304(STORED_FIELDS, (line,)) == tuple(
        stored for stored in STORED_FIELDS if stored[0] != "Age"
    )


def test_304_renews_age_type_and_weak_tag() -> None:
    received: Fields = (("Age", "3"), ("Content-Type", "audio/mp4"), ("ETag", 'W/"b"'))
    merged = fr.merge_304((("ETag", 'W/"a"'), ("Age", "90"), ("Content-Type", "video/mp4")), received)
    assert merged == received


def test_304_may_make_a_stored_field_private() -> None:
    merged = fr.merge_304(STORED_FIELDS, _cc('private="X-A"'))
    assert {name.lower() for name, _ in merged}.isdisjoint({"x-a"})


DIRECTIVES = st.lists(
    st.sampled_from(
        ["max-age=10", "s-maxage=20", "no-cache", "must-revalidate", "stale-while-revalidate=5",
         "stale-if-error=30", "public", 'no-cache="x"', "proxy-revalidate", "max-age=x"]
    ),
    max_size=5,
)  # fmt: skip


@given(DIRECTIVES, st.floats(0, 200), st.floats(0, 200))
def test_nothing_gets_fresher_with_age(directives: list[str], one: float, other: float) -> None:
    policy = _assess(_cc(", ".join(directives), ("ETag", '"a"')))
    order = [Reuse.FRESH, Reuse.STALE_WHILE_REVALIDATE, Reuse.STALE]
    young, old = sorted((one, other))
    assert order.index(fr.usable(policy, young)) <= order.index(fr.usable(policy, old))
    assert fr.may_serve_on_error(policy, young, 50) >= fr.may_serve_on_error(policy, old, 50)
    if {"must-revalidate", "proxy-revalidate", "s-maxage=20", "no-cache"} & set(directives):
        assert fr.usable(policy, math.inf) is Reuse.STALE
        assert fr.usable(policy, old) is not Reuse.STALE_WHILE_REVALIDATE
        assert old < policy.freshness_lifetime or not fr.may_serve_on_error(policy, old, 50)
