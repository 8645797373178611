"""RFC 9111 §4.2, §5.1, §5.3 and RFC 9213: for how long a stored response is fresh, and how old it is."""

from __future__ import annotations

import pytest

from tests.support.cache_cases import Case, ids, run
from tests.support.cache_site import CacheSite, Given, Headers

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAG = ("ETag", '"1"')
FAR = ("Expires", "{+6000}")
HUGE = ("2147483647", "2147483648", "4294967296", "9223372036854775808", "9" * 40)


def cc(value: str, *more: tuple[str, str]) -> Headers:
    return [("Cache-Control", value), TAG, *more]


def cdn(value: str, *more: tuple[str, str]) -> Headers:
    return [("CDN-Cache-Control", value), TAG, *more]


def pair(name: str, fields: Headers, lifetime: int) -> list[Case]:
    """Fresh a second before the end of `lifetime`, stale at its end."""
    return [
        Case(f"{name}-before-its-end", fields, "reused", after=lifetime - 1),
        Case(f"{name}-at-its-end", fields, "validated", after=lifetime),
    ]


def stale(name: str, fields: Headers) -> Case:
    return Case(f"{name}-stale-at-once", fields, "validated")


EXPLICIT = [
    *pair("5.2.2.1-max-age", cc("max-age=10"), 10),
    *pair("5.2.2.1-max-age-capitals", cc("MAX-AGE=10"), 10),
    *pair("5.2.2.1-max-age-after-empty-members", cc(", ,max-age=10,"), 10),
    *pair("5.2.2.1-max-age-no-space", cc("public,max-age=10"), 10),
    *pair("5.2.2.1-max-age-second-line", cc("public", ("Cache-Control", "max-age=10")), 10),
    *pair("5.2-max-age-quoted", cc('max-age="10"'), 10),
    *pair("1.2.2-max-age-leading-zeros", cc("max-age=0010"), 10),
    *pair("5.2.2.10-s-maxage", cc("s-maxage=10"), 10),
    *pair("5.2-s-maxage-quoted", cc('s-maxage="10"'), 10),
    *pair("5.2.2.10-s-maxage-before-smaller-max-age", cc("max-age=1, s-maxage=10"), 10),
    *pair("5.2.2.10-s-maxage-before-larger-max-age", cc("s-maxage=10, max-age=100"), 10),
    *pair("5.2.2.10-s-maxage-before-expires", cc("s-maxage=10", FAR), 10),
    *pair("5.3-max-age-before-later-expires", cc("max-age=10", FAR), 10),
    *pair("5.3-max-age-before-earlier-expires", cc("max-age=10", ("Expires", "{-6000}")), 10),
    *pair("5.3-max-age-before-invalid-expires", cc("max-age=10", ("Expires", "0")), 10),
    *pair("5.3-expires", [("Expires", "{+10}"), TAG], 10),
    *pair("5.3-expires-less-date", [("Date", "{-5}"), ("Expires", "{+5}"), TAG], 5),
    *pair("5.3-expires-without-date", [("Date", ""), ("Expires", "{+10}"), TAG], 10),
    *pair("5.3-expires-beside-public", cc("public", ("Expires", "{+10}")), 10),
    *pair("4.2.1-duplicates-smallest", cc("max-age=100, max-age=10"), 10),
    *pair("4.2.1-duplicates-smallest-first", cc("max-age=10, max-age=100"), 10),
    *pair("4.2.1-duplicate-s-maxage", cc("s-maxage=100", ("Cache-Control", "s-maxage=10")), 10),
    *(Case(f"1.2.2-max-age-{n[:20]}", cc(f"max-age={n}"), "reused", after=10**6) for n in HUGE),
    *(Case(f"1.2.2-s-maxage-{n[:20]}", cc(f"s-maxage={n}"), "reused", after=10**6) for n in HUGE),
    stale("5.2.2.1-max-age-0", cc("max-age=0")),
    stale("5.2.2.1-max-age-0-before-expires", cc("max-age=0", FAR)),
    stale("5.2.2.10-s-maxage-0-before-max-age", cc("s-maxage=0, max-age=10")),
    stale("5.3-expires-now", [("Expires", "{+0}"), TAG]),
    stale("5.3-expires-past", [("Expires", "{-10}"), TAG]),
    *(
        stale(f"4.2.1-max-age-{name}", cc(f"max-age={value}", FAR))
        for name, value in {
            "negative": "-10",
            "signed": "+10",
            "fraction": "10.5",
            "comma-decimal": '"10,5"',
            "letters": "abc",
            "trailing-letters": "10s",
            "empty": "",
            "hex": "0x10",
            "exponent": "1e3",
            "quoted-empty": '""',
            "single-quoted": "'10'",
            "space-inside": '"1 0"',
        }.items()
    ),
    stale("4.2.1-max-age-no-argument", cc("max-age", FAR)),
    stale("4.2.1-max-age-space-before-equals", cc("max-age =10", FAR)),
    stale("4.2.1-max-age-space-after-equals", cc("max-age= 10", FAR)),
    stale("4.2.1-invalid-among-valid", cc("max-age=10, max-age=x")),
    *(
        stale(f"4.2.1-s-maxage-{name}", cc(f"s-maxage={value}, max-age=100"))
        for name, value in {"negative": "-10", "letters": "abc", "fraction": "1.5", "empty": ""}.items()
    ),
    *(
        stale(f"5.3-expires-{name}", [("Expires", value), TAG, ("Last-Modified", "{@-9000000}")])
        for name, value in {
            "zero": "0",
            "minus-one": "-1",
            "empty": " ",
            "words": "never",
            "seconds": "99999999999",
            "iso": "2037-01-01T00:00:00Z",
            "another-zone": "Fri, 01 Jan 2038 00:00:00 PST",
            "offset": "Fri, 01 Jan 2038 00:00:00 +0100",
            "one-digit-day": "Fri, 1 Jan 2038 00:00:00 GMT",
            "no-seconds": "Fri, 01 Jan 2038 00:00 GMT",
            "no-zone": "Fri, 01 Jan 2038 00:00:00",
            "dashes": "Fri, 01-Jan-2038 00:00:00 GMT",
            "quoted": '"Fri, 01 Jan 2038 00:00:00 GMT"',
            "day-32": "Fri, 32 Jan 2038 00:00:00 GMT",
            "hour-25": "Fri, 01 Jan 2038 25:00:00 GMT",
        }.items()
    ),
    *(
        Case(f"5.3-expires-{name}", [("Expires", value), TAG], "reused", after=1000)
        for name, value in {
            "rfc850": "Friday, 01-Jan-38 00:00:00 GMT",
            "asctime": "Fri Jan  1 00:00:00 2038",
            "wrong-day": "Mon, 01 Jan 2038 00:00:00 GMT",
            "lower-case": "fri, 01 jan 2038 00:00:00 gmt",
        }.items()
    ),
    stale("5.3-expires-twice", [("Expires", "{+10}"), ("Expires", "{+20}"), TAG]),
    stale("5.3-expires-list", [("Expires", "{+10}, {+20}"), TAG]),
]

TARGETED = [
    *pair("RFC9213-2.2-before-smaller-max-age", cdn("max-age=10", ("Cache-Control", "max-age=1")), 10),
    *pair("RFC9213-2.2-before-larger-max-age", cdn("max-age=10", ("Cache-Control", "max-age=100")), 10),
    *pair("RFC9213-2.2-before-s-maxage", cdn("max-age=10", ("Cache-Control", "s-maxage=100")), 10),
    *pair("RFC9213-2.2-before-no-cache", cdn("max-age=10", ("Cache-Control", "no-cache")), 10),
    *pair("RFC9213-2.2-before-no-store", cdn("max-age=10", ("Cache-Control", "no-store")), 10),
    *pair("RFC9213-2.2-before-private", cdn("max-age=10", ("Cache-Control", "private")), 10),
    *pair("RFC9213-2.2-before-expires", cdn("max-age=10", ("Expires", "{-100}")), 10),
    *pair("RFC9213-2.1-two-lines", cdn("public", ("CDN-Cache-Control", "max-age=10")), 10),
    *pair("RFC9213-2.1-last-duplicate-counts", cdn("max-age=100, max-age=10"), 10),
    *pair("RFC9213-2.1-parameters-ignored", cdn("max-age=10;a=b"), 10),
    *pair("RFC9213-2.1-s-maxage", cdn("max-age=100, s-maxage=10"), 10),
    *pair("RFC9213-2.1-unknown-members", cdn("max-age=10, x=(a b), y=:aGk=:"), 10),
    Case("RFC9213-2.2-no-store", cdn("no-store", ("Cache-Control", "max-age=10")), "fetched"),
    Case("RFC9213-2.2-private", cdn("private", ("Cache-Control", "max-age=10")), "fetched"),
    Case("RFC9213-2.2-no-cache", cdn("no-cache, max-age=9", ("Cache-Control", "max-age=10")), "validated"),
    Case("RFC9213-2.1-false-is-absent", cdn("no-store=?0, max-age=10"), "reused"),
    stale("RFC9213-2.2-max-age-0", cdn("max-age=0", ("Cache-Control", "max-age=10"))),
    stale("RFC9213-2.1-negative", cdn("max-age=-10", ("Cache-Control", "max-age=10"))),
    stale("RFC9213-2.1-decimal", cdn("max-age=10.5", ("Cache-Control", "max-age=10"))),
    Case("RFC9213-2.1-invalid-so-no-store", cdn("max-age = 9", ("Cache-Control", "no-store")), "fetched"),
    Case("RFC9213-2.1-invalid-so-private", cdn("max-age=9,", ("Cache-Control", "private")), "fetched"),
    stale("RFC9213-2.1-string", cdn('max-age="10"', ("Cache-Control", "max-age=10"))),
    stale("RFC9213-2.1-boolean", cdn("max-age", ("Cache-Control", "max-age=10"))),
    *(
        case
        for name, value in {
            "empty": " ",
            "upper-case-key": "Max-Age=100",
            "unclosed": 'max-age=100, x="',
            "trailing-comma": "max-age=100,",
            "space-round-equals": "max-age = 100",
            "semicolons": "max-age=100; ;",
            "not-ascii": "max-age=100, x=é",
            "sixteen-digits": "max-age=1000000000000000",
        }.items()
        for case in pair(f"RFC9213-2.1-invalid-{name}", cdn(value, ("Cache-Control", "max-age=10")), 10)
    ),
    *pair(
        "RFC9213-surrogate-control-says-nothing", cc("max-age=10", ("Surrogate-Control", "max-age=99")), 10
    ),
    *pair(
        "RFC9213-another-target-says-nothing", cc("max-age=10", ("Other-CDN-Cache-Control", "max-age=99")), 10
    ),
]

AGE = [
    *pair("4.2.3-age-counts", cc("max-age=100", ("Age", "90")), 10),
    *pair("4.2.3-date-in-the-past-counts", cc("max-age=100", ("Date", "{-90}")), 10),
    *pair("4.2.3-larger-of-both-age", cc("max-age=100", ("Date", "{-20}"), ("Age", "90")), 10),
    *pair("4.2.3-larger-of-both-date", cc("max-age=100", ("Date", "{-90}"), ("Age", "20")), 10),
    *pair("4.2.3-date-in-the-future", cc("max-age=10", ("Date", "{+90}")), 10),
    *pair("4.2.3-no-date", cc("max-age=10", ("Date", "")), 10),
    *pair("4.2.3-invalid-date", cc("max-age=10", ("Date", "soon")), 10),
    *pair("4.2.3-age-and-s-maxage", cc("s-maxage=100", ("Age", "90")), 10),
    *pair("4.2.3-age-and-expires", [("Expires", "{+100}"), ("Age", "90"), TAG], 10),
    *pair("4.2.3-age-and-cdn", cdn("max-age=100", ("Age", "90")), 10),
    *pair("4.2.3-date-and-cdn", cdn("max-age=100", ("Date", "{-90}")), 10),
    *pair("5.1-age-leading-zeros", cc("max-age=100", ("Age", "0090")), 10),
    *pair("5.1-age-list-first", cc("max-age=100", ("Age", "90, 10")), 10),
    *pair("5.1-age-list-first-smaller", cc("max-age=100", ("Age", "10, 90")), 90),
    *pair("5.1-age-two-lines-first", cc("max-age=100", ("Age", "90"), ("Age", "10")), 10),
    *pair("5.1-age-0", cc("max-age=10", ("Age", "0")), 10),
    *(
        case
        for name, value in {
            "negative": "-90",
            "letters": "abc",
            "fraction": "90.5",
            "quoted": '"90"',
            "empty": " ",
            "trailing": "90s",
            "parameter": "90;x",
            "signed": "+90",
        }.items()
        for case in pair(f"5.1-age-invalid-{name}", cc("max-age=100", ("Age", value)), 100)
    ),
    *(stale(f"1.2.2-age-{n[:20]}", cc("max-age=100", ("Age", n))) for n in HUGE),
    stale("4.2.3-age-at-lifetime", cc("max-age=100", ("Age", "100"))),
    stale("4.2.3-age-beyond-lifetime", cc("max-age=100", ("Age", "101"))),
    stale("4.2.3-age-makes-expires-stale", [("Expires", "{+100}"), ("Age", "100"), TAG]),
]

HEURISTIC = [
    *pair("4.2.2-default-with-a-tag", [TAG], 60),
    *pair("4.2.2-tenth-of-the-time-since-change", [("Last-Modified", "{@-100}")], 10),
    *pair("4.2.2-tenth-capped", [("Last-Modified", "{@-9000000}")], 60),
    *pair("4.2.2-tenth-of-date-less-change", [("Date", "{-10}"), ("Last-Modified", "{@-310}"), TAG], 20),
    *pair("4.2.2-public", cc("public"), 60),
    *pair("4.2.2-must-revalidate", cc("must-revalidate"), 60),
    *pair("4.2.2-unknown-directives", cc("a, b=c"), 60),
    *pair("4.2.2-weak-tag", [("ETag", 'W/"1"')], 60),
    *pair("4.2.2-age-counts", [TAG, ("Age", "50")], 10),
    stale("4.2.2-changed-just-now", [("Last-Modified", "{@+0}")]),
    stale("4.2.2-changed-in-the-future", [("Last-Modified", "{@+100}"), TAG]),
    stale("5.4-pragma-no-cache-alone", [TAG, ("Pragma", "no-cache")]),
    Case("4.2.2-no-validator", [], "fetched"),
    Case("4.2.2-invalid-last-modified", [("Last-Modified", "yesterday")], "fetched"),
]

TABLE = [*EXPLICIT, *TARGETED, *AGE, *HEURISTIC]


@pytest.mark.parametrize("case", TABLE, ids=ids(TABLE))
async def test_response_is_fresh_for_exactly_its_lifetime(case: Case, site: CacheSite) -> None:
    await run(site, case)


AGES = [
    pytest.param([], 0, 0, id="4.2.3-new"),
    pytest.param([], 7, 7, id="4.2.3-resident"),
    pytest.param([("Age", "5")], 7, 12, id="4.2.3-received-and-resident"),
    pytest.param([("Age", "5, 9")], 7, 12, id="5.1-first-of-a-list"),
    pytest.param([("Age", "5"), ("Age", "9")], 7, 12, id="5.1-first-of-two-lines"),
    pytest.param([("Age", "x")], 7, 7, id="5.1-invalid"),
    pytest.param([("Age", "-5")], 7, 7, id="5.1-negative"),
    pytest.param([("Date", "{-20}")], 7, 27, id="4.2.3-apparent"),
    pytest.param([("Date", "{-20}"), ("Age", "5")], 7, 27, id="4.2.3-apparent-larger"),
    pytest.param([("Date", "{-5}"), ("Age", "20")], 7, 27, id="4.2.3-received-larger"),
    pytest.param([("Date", "{+20}")], 7, 7, id="4.2.3-date-in-the-future"),
    pytest.param([("Date", "")], 7, 7, id="4.2.3-no-date"),
    pytest.param([("Age", "5")], 0.75, 5, id="1.2.2-whole-seconds"),
]


@pytest.mark.parametrize(("fields", "after", "age"), AGES)
async def test_age_of_a_hit_is_what_the_arithmetic_says(
    fields: Headers, after: float, age: int, site: CacheSite
) -> None:
    _, hit = await run(site, Case("", [("Cache-Control", "max-age=1000"), *fields], "reused", after=after))
    assert hit.all("Age") == [str(age)]
    assert f"ttl={1000 - age - (after != int(after))}" in (hit["Cache-Status"] or "")


async def test_time_the_answer_took_counts_as_age(site: CacheSite) -> None:  # RFC 9111 §4.2.3 response_delay
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", "max-age=100"), ("Age", "3"), ("ETag", '"1"')]))
    site.source.delays[asset_id] = 4.0
    await site.fill(asset_id)
    assert (await site.get(asset_id))["Age"] == "7"
    site.clock.advance(93)
    assert (await site.get(asset_id))["Cache-Status"] == "edge-1; fwd=stale; fwd-status=304"


async def test_age_begins_anew_with_a_validation(site: CacheSite) -> None:  # RFC 9111 §4.3.4
    asset_id = site.new_id()
    fields = [("Cache-Control", "max-age=10"), ("ETag", '"1"'), ("Age", "8")]
    site.script(asset_id, Given(fields, update=[("Age", "2")]))
    await site.fill(asset_id)
    site.clock.advance(5)
    assert (await site.fill(asset_id))["Age"] == "2"
    site.clock.advance(7)
    hit = await site.get(asset_id)
    assert (hit["Age"], len(site.seen(asset_id))) == ("9", 2)


async def test_date_is_the_sources_on_every_hit(site: CacheSite) -> None:  # RFC 9111 §4.2.3
    first, hit = await run(site, Case("", [("Cache-Control", "max-age=100"), ("Date", "{-7}")], "reused", 9))
    assert hit["Date"] == first["Date"] == site.source.dated([("", "{-16}")])[0][1]


async def test_clock_set_back_makes_nothing_younger_than_it_was(site: CacheSite) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", "max-age=100"), ("Age", "30"), ("ETag", '"1"')]))
    await site.fill(asset_id)
    site.clock.advance(-50)
    try:
        assert (await site.get(asset_id))["Age"] == "30"
    finally:
        site.clock.advance(50)
