"""RFC 9111 §3, §3.5, §5.2.2: what a shared cache stores, over sockets, `origin.transparent: true`."""

from __future__ import annotations

import pytest

from tests.support.cache_cases import Case, ids, run
from tests.support.cache_site import CacheSite, Given, Headers

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAG = ("ETag", '"1"')
LONG = ("Cache-Control", "max-age=600")
MINE: Headers = [("Authorization", "Basic eA==")]
HEURISTIC = (200, 203, 204, 300, 301, 308, 404, 405, 410, 414)
OTHERS = (201, 202, 207, 226, 299, 302, 303, 307, 400, 401, 402, 403, 406, 408, 409, 411, 412, 413, 415)
OTHERS += (418, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499)
ERRORS = (500, 501, 502, 503, 504, 505, 507, 511, 599)


def control(value: str, *more: tuple[str, str]) -> Headers:
    return [("Cache-Control", value), TAG, *more]


STATUSES = [
    *(Case(f"3-{status}-max-age", [LONG], "reused", status=status) for status in HEURISTIC + OTHERS + ERRORS),
    *(
        Case(f"3-{status}-expires", [("Expires", "{+600}")], "reused", status=status)
        for status in (200, 302, 403, 404, 503)
    ),
    *(
        Case(f"3-{status}-s-maxage", [("Cache-Control", "s-maxage=600")], "reused", status=status)
        for status in (200, 302, 403, 404, 503)
    ),
    *(
        Case(f"3-{status}-cdn", [("CDN-Cache-Control", "max-age=600")], "reused", status=status)
        for status in (200, 302, 403, 404, 503)
    ),
    *(Case(f"4.2.2-{status}-validator-only", [TAG], "reused", status=status) for status in HEURISTIC),
    *(Case(f"3-{status}-validator-only", [TAG], "fetched", status=status) for status in OTHERS + ERRORS),
    *(Case(f"3-{status}-nothing", [], "fetched", status=status) for status in (200, 204, 301, 404, 410, 503)),
    *(
        Case(f"3-{status}-no-store", control("no-store, max-age=600"), "fetched", status=status)
        for status in (200, 204, 301, 302, 404, 410, 503)
    ),
    *(
        Case(f"3-{status}-private", control("private, max-age=600"), "fetched", status=status)
        for status in (200, 204, 301, 302, 404, 410, 503)
    ),
    *(
        Case(f"5.2.2.9-{status}-public-without-lifetime", control("public"), "validated", status=status)
        for status in (201, 302, 400, 403)
    ),
]

DIRECTIVES = [
    Case("5.2.2.5-no-store", control("no-store"), "fetched"),
    Case("5.2.2.5-no-store-capitals", control("No-Store, max-age=600"), "fetched"),
    Case("5.2.2.5-no-store-last", control("max-age=600, no-store"), "fetched"),
    Case("5.2.2.5-no-store-second-line", control("max-age=600", ("Cache-Control", "no-store")), "fetched"),
    Case("5.2.2.5-no-store-with-argument", control("no-store=yes, max-age=600"), "fetched"),
    Case("5.2.2.5-no-store-before-empty-members", control(",, no-store , ,max-age=600"), "fetched"),
    Case("5.2.2.5-no-store-no-space", control("max-age=600,no-store"), "fetched"),
    Case("5.2.2.5-no-store-tab", control("max-age=600,\tno-store"), "fetched"),
    Case("5.2.2.5-no-store-in-quotes-of-another", control('x="no-store, private", max-age=600'), "reused"),
    Case("5.2.2.5-no-store-escaped-quote", control('x="\\"", no-store, max-age=600'), "fetched"),
    Case("5.2.2.5-no-store-as-part-of-a-name", control("x-no-store, no-storex, max-age=600"), "reused"),
    Case("5.2.2.5-no-store-with-public", control("public, no-store, max-age=600"), "fetched"),
    Case("5.2.2.5-no-store-and-expires", [("Cache-Control", "no-store"), ("Expires", "{+600}")], "fetched"),
    Case("5.2.2.7-private", control("private"), "fetched"),
    Case("5.2.2.7-private-capitals", control("PRIVATE, max-age=600"), "fetched"),
    Case("5.2.2.7-private-s-maxage", control("private, s-maxage=600"), "fetched"),
    Case("5.2.2.7-private-public", control("public, private, max-age=600"), "fetched"),
    Case("5.2.2.7-private-empty-names", control('private="", max-age=600'), "fetched"),
    Case("5.2.2.7-private-names-and-without", control('private="x-a", private, max-age=600'), "fetched"),
    Case("5.2.2.7-private-of-a-needed-field", control('private="etag", max-age=600'), "fetched"),
    Case("5.2.2.7-private-of-a-field", control('private="x-a", max-age=600', ("X-A", "1")), "reused"),
    Case("5.2.2.7-private-of-a-token", control("private=x-a, max-age=600", ("X-A", "1")), "reused"),
    Case("5.2.2.4-no-cache", control("no-cache, max-age=600"), "validated"),
    Case("5.2.2.4-no-cache-alone", control("no-cache"), "validated"),
    Case("5.2.2.4-no-cache-capitals", control("No-Cache, max-age=600"), "validated"),
    Case("5.2.2.4-no-cache-s-maxage", control("no-cache, s-maxage=600"), "validated"),
    Case("5.2.2.4-no-cache-second-line", control("max-age=600", ("Cache-Control", "no-cache")), "validated"),
    Case("5.2.2.4-no-cache-of-a-field", control('no-cache="x-a", max-age=600', ("X-A", "1")), "reused"),
    Case("5.2.2.4-no-cache-of-a-needed-field", control('no-cache="etag", max-age=600'), "validated"),
    Case("5.2.2.4-no-cache-empty-names", control('no-cache="", max-age=600'), "validated"),
    Case("5.2.2.4-no-cache-without-validator", [("Cache-Control", "no-cache, max-age=600")], "fetched"),
    Case("5.2.2.4-no-cache-immutable", control("no-cache, immutable, max-age=600"), "validated"),
    Case("5.2.2.9-public", control("public, max-age=600"), "reused"),
    Case("5.2.2.2-must-revalidate-fresh", control("must-revalidate, max-age=600"), "reused"),
    Case("5.2.2.8-proxy-revalidate-fresh", control("proxy-revalidate, max-age=600"), "reused"),
    Case("5.2.2.6-no-transform", control("no-transform, max-age=600"), "reused"),
    Case("5.2.3-unknown-directive", control('whatever, x=1, y="2", max-age=600'), "reused"),
    Case("5.2.3-immutable", control("immutable, max-age=600"), "reused"),
    Case("5.4-pragma-in-a-response", [LONG, TAG, ("Pragma", "no-cache")], "reused"),
    Case("7.3-set-cookie-does-not-forbid", [LONG, ("Set-Cookie", "a=b")], "reused"),
    Case("5.2.2.3-understood", control("must-understand, max-age=600"), "reused"),
    Case(
        "5.2.2.3-understood-overrides-no-store", control("must-understand, no-store, max-age=600"), "reused"
    ),
    Case("5.2.2.3-order-does-not-matter", control("max-age=600, no-store, must-understand"), "reused"),
    Case("5.2.2.3-private-still-holds", control("must-understand, private, max-age=600"), "fetched"),
    *(
        Case(
            f"5.2.2.3-{status}-understood",
            control("must-understand, no-store, max-age=600"),
            "reused",
            status=status,
        )
        for status in (203, 204, 301, 404, 410, 503)
    ),
    *(
        Case(
            f"5.2.2.3-{status}-not-understood",
            control("must-understand, max-age=600"),
            "fetched",
            status=status,
        )
        for status in (299, 418, 499, 599)
    ),
    *(
        Case(
            f"5.2.2.3-{status}-not-understood-no-store",
            control("must-understand, no-store, max-age=600"),
            "fetched",
            status=status,
        )
        for status in (299, 418, 499, 599)
    ),
]


def cdn(value: str, *more: tuple[str, str]) -> Headers:
    return [("CDN-Cache-Control", value), TAG, *more]


AUTHORIZATION = [
    Case("3.5-max-age", control("max-age=600"), "fetched", request=MINE),
    Case("3.5-expires", [("Expires", "{+600}"), TAG], "fetched", request=MINE),
    Case("3.5-validator-only", [TAG], "fetched", request=MINE),
    Case("3.5-public", control("public, max-age=600"), "reused", request=MINE),
    Case("3.5-s-maxage", control("s-maxage=600"), "reused", request=MINE),
    Case("3.5-s-maxage-0", control("s-maxage=0"), "validated", request=MINE),
    Case("3.5-must-revalidate", control("must-revalidate, max-age=600"), "reused", request=MINE),
    Case("3.5-proxy-revalidate", control("proxy-revalidate, max-age=600"), "fetched", request=MINE),
    Case("3.5-no-cache", control("no-cache, max-age=600"), "fetched", request=MINE),
    Case("3.5-private", control("private, max-age=600"), "fetched", request=MINE),
    Case("3.5-no-store", control("public, no-store, max-age=600"), "fetched", request=MINE),
    Case("3.5-immutable", control("immutable, max-age=600"), "fetched", request=MINE),
    Case("3.5-must-understand", control("must-understand, max-age=600"), "fetched", request=MINE),
    Case("3.5-public-for-another", control("public, max-age=600"), "reused", request=MINE, again=[]),
    Case("3.5-max-age-for-another", control("max-age=600"), "fetched", request=MINE, again=[]),
    Case("3.5-stored-for-nobody-in-particular", control("max-age=600"), "reused", again=MINE),
    Case("3.5-vary-authorization", control("max-age=600", ("Vary", "Authorization")), "fetched", again=MINE),
    Case("RFC9213-max-age", cdn("max-age=600"), "fetched", request=MINE),
    Case("RFC9213-public", cdn("public, max-age=600"), "reused", request=MINE),
    Case("RFC9213-s-maxage", cdn("s-maxage=600"), "reused", request=MINE),
    Case("RFC9213-must-revalidate", cdn("must-revalidate, max-age=600"), "reused", request=MINE),
    Case(
        "RFC9213-public-in-cache-control-does-not-count",
        cdn("max-age=600", ("Cache-Control", "public, max-age=600")),
        "fetched",
        request=MINE,
    ),
    *(
        Case(f"3.5-{status}", control("max-age=600"), "fetched", status=status, request=MINE)
        for status in (204, 301, 404, 503)
    ),
    *(
        Case(f"3.5-{status}-public", control("public, max-age=600"), "reused", status=status, request=MINE)
        for status in (204, 301, 404, 503)
    ),
]

# Of the client's Cache-Control only `only-if-cached` is obeyed (contract §3.3).
REQUESTS = [
    *(
        Case(f"5.2.1-{value}", control("max-age=600"), "reused", again=[("Cache-Control", value)], after=5)
        for value in (
            "no-cache",
            "max-age=0",
            "no-store",
            "min-fresh=900",
            "no-transform",
            "max-stale",
            "x=1",
        )
    ),
    Case("5.4-pragma", control("max-age=600"), "reused", again=[("Pragma", "no-cache")]),
    Case(
        "5.2.1.5-request-no-store",
        control("max-age=600"),
        "reused",
        request=[("Cache-Control", "no-store")],
        again=[],
    ),
    Case(
        "5.2.1.2-max-stale-does-not-make-stale-fresh",
        control("max-age=1"),
        "validated",
        after=9,
        again=[("Cache-Control", "max-stale")],
    ),
]

TABLE = [*STATUSES, *DIRECTIVES, *AUTHORIZATION, *REQUESTS]


@pytest.mark.parametrize("case", TABLE, ids=ids(TABLE))
async def test_response_is_stored_exactly_where_it_may_be(case: Case, site: CacheSite) -> None:
    await run(site, case)


@pytest.mark.parametrize("directive", ["private", "no-cache"])
@pytest.mark.parametrize("names", ['"x-a"', '"X-A"', '"x-a, x-b"', '" x-b ,x-a"', "x-a"])
async def test_field_named_by_a_directive_is_not_stored(  # RFC 9111 §5.2.2.4, §5.2.2.7
    directive: str, names: str, site: CacheSite
) -> None:
    fields = [("Cache-Control", f"{directive}={names}, max-age=600"), ("X-A", "1"), ("X-C", "3")]
    _, hit = await run(site, Case("", fields, "reused"))
    assert ("X-A" in hit, hit["X-C"]) == (False, "3")


async def test_head_stores_nothing(site: CacheSite) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, TAG]))
    assert (await site.get(asset_id, method="HEAD")).cache == "miss"
    assert (await site.fill(asset_id)).cache == "miss"
    assert [one.method for one in site.seen(asset_id)] == ["HEAD", "GET"]


async def test_interim_answers_are_neither_stored_nor_taken_for_final(
    site: CacheSite,
) -> None:  # RFC 9110 §15.2
    asset_id = site.new_id()
    final = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 2\r\n\r\nok"
    site.script(asset_id, Given(raw=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + final))
    first = await site.fill(asset_id)
    second = await site.get(asset_id)
    assert (first.status, first.body, second.cache, second.body) == (200, b"ok", "hit", b"ok")


async def test_body_that_ends_early_is_not_stored(site: CacheSite) -> None:  # RFC 9111 §3.3
    asset_id = site.new_id()
    site.script(
        asset_id,
        Given(raw=b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 9\r\n\r\nhal"),
        Given([LONG]),
    )
    assert (await site.fill(asset_id)).end == "short"
    assert (await site.fill(asset_id)).cache == "miss"
    assert (await site.get(asset_id)).cache == "hit"
