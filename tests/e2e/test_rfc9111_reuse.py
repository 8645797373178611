"""RFC 9111 §3.1, §4.1, §4.2.4, §5.2.1.7, RFC 5861, RFC 9211: variants, staleness, fields, what is told."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.cache_cases import Case, Outcome, ids, outcome, run
from tests.support.cache_site import CacheSite, Given, Headers

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = ("Cache-Control", "max-age=600")
TAG = ("ETag", '"1"')


def vary(value: str, *more: tuple[str, str]) -> Headers:
    return [LONG, ("Vary", value), *more]


def mood(value: str) -> Headers:
    return [("X-Mood", value)]


def row(name: str, value: str, request: Headers, again: Headers, want: Outcome) -> Case:
    return Case(f"4.1-{name}", vary(value), want, request=request, again=again)


VARIANTS = [
    row("same", "X-Mood", mood("a"), mood("a"), "reused"),
    row("other", "X-Mood", mood("a"), mood("b"), "fetched"),
    row("absent-both", "X-Mood", [], [], "reused"),
    row("absent-first", "X-Mood", [], mood("a"), "fetched"),
    row("absent-second", "X-Mood", mood("a"), [], "fetched"),
    row("empty-is-not-absent", "X-Mood", mood("a"), mood(""), "fetched"),
    row("name-case-in-vary", "x-mOOd", mood("a"), mood("a"), "reused"),
    row("name-case-in-vary-other", "x-mOOd", mood("a"), mood("b"), "fetched"),
    row("name-case-in-request", "X-Mood", [("X-MOOD", "a")], [("x-mood", "a")], "reused"),
    row("value-case-matters", "X-Mood", mood("a"), mood("A"), "fetched"),
    row("unnamed-field-does-not-matter", "X-Mood", mood("a"), [*mood("a"), ("X-Other", "1")], "reused"),
    row("whitespace-round-the-value", "X-Mood", mood("a"), mood("  a "), "reused"),
    row("lines-in-order", "X-Mood", [*mood("a"), *mood("b")], [*mood("a"), *mood("b")], "reused"),
    row("lines-combined", "X-Mood", [*mood("a"), *mood("b")], mood("a, b"), "reused"),
    row("lines-in-another-order", "X-Mood", [*mood("a"), *mood("b")], [*mood("b"), *mood("a")], "fetched"),
    row("two-names-same", "X-Mood, X-B", [*mood("a"), ("X-B", "1")], [*mood("a"), ("X-B", "1")], "reused"),
    row(
        "two-names-one-other",
        "X-Mood, X-B",
        [*mood("a"), ("X-B", "1")],
        [*mood("a"), ("X-B", "2")],
        "fetched",
    ),
    row(
        "values-not-confused",
        "X-Mood, X-B",
        [*mood("1"), ("X-B", "2")],
        [*mood("2"), ("X-B", "1")],
        "fetched",
    ),
    row("values-with-separators", "X-Mood, X-B", [*mood("a; x-b: 1")], [*mood("a"), ("X-B", "1")], "fetched"),
    row("empty-members", ", X-Mood,,", mood("a"), mood("b"), "fetched"),
    row("white-space-round-commas", "X-Mood", mood("a,b"), mood("a ,  b"), "reused"),
    row("star", "*", [], [], "fetched"),
    row("star-among-names", "X-Mood, *", mood("a"), mood("a"), "fetched"),
    row("star-first", "*, X-Mood", mood("a"), mood("a"), "fetched"),
    row(
        "accept-language",
        "Accept-Language",
        [("Accept-Language", "de")],
        [("Accept-Language", "en")],
        "fetched",
    ),
    row(
        "accept-encoding-is-ours",
        "Accept-Encoding",
        [("Accept-Encoding", "br")],
        [("Accept-Encoding", "gzip")],
        "reused",
    ),
    row("cookie-is-not-forwarded", "Cookie", [("Cookie", "a=1")], [("Cookie", "a=2")], "reused"),
    row("origin", "Origin", [("Origin", "http://a")], [("Origin", "http://b")], "fetched"),
    row("user-agent", "User-Agent", [("User-Agent", "a")], [("User-Agent", "b")], "fetched"),
    row("authorization", "Authorization", [], [("Authorization", "Basic eA==")], "fetched"),
    row("range-is-ours", "Range", [], [("X-Any", "1")], "reused"),
    Case(
        "4.1-two-lines-of-vary",
        [LONG, ("Vary", "X-Mood"), ("Vary", "X-B")],
        "fetched",
        request=[("X-B", "1")],
        again=[("X-B", "2")],
    ),
    Case("4.1-star-on-a-second-line", [LONG, ("Vary", "X-Mood"), ("Vary", "*")], "fetched"),
    Case("4.1-empty-vary", vary(" "), "reused", request=mood("a"), again=mood("b")),
    Case(
        "4.1-cdn-cache-control-does-not-undo-vary",
        [("CDN-Cache-Control", "max-age=9"), ("Vary", "X-Mood")],
        "fetched",
        request=mood("a"),
        again=mood("b"),
    ),
    *(
        Case(f"4.1-{status}", vary("X-Mood"), "fetched", status=status, request=mood("a"), again=mood("b"))
        for status in (204, 301, 404, 410)
    ),
]

STALE = [
    Case(
        "5861-3-swr", [("Cache-Control", "max-age=10, stale-while-revalidate=5"), TAG], "validated", after=15
    ),
    Case("4.2.4-max-age-over", [("Cache-Control", "max-age=10"), TAG], "validated", after=10),
    Case("4.2.4-no-validator", [("Cache-Control", "max-age=10")], "fetched", after=10),
    Case("4.2.4-s-maxage-over", [("Cache-Control", "s-maxage=10, max-age=99"), TAG], "validated", after=10),
    Case(
        "5.2.2.2-must-revalidate-over",
        [("Cache-Control", "max-age=9, must-revalidate"), TAG],
        "validated",
        after=9,
    ),
    Case(
        "5.2.2.8-proxy-revalidate-over",
        [("Cache-Control", "max-age=9, proxy-revalidate"), TAG],
        "validated",
        after=9,
    ),
    *(
        Case(
            f"5861-3-swr-not-with-{name}",
            [("Cache-Control", f"{name}, max-age=9, stale-while-revalidate=99"), TAG],
            "validated",
            after=9,
        )
        for name in ("must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=9")
    ),
    *(
        Case(
            f"5861-3-swr-invalid-{name}",
            [("Cache-Control", f"max-age=9, stale-while-revalidate{value}"), TAG],
            "validated",
            after=9,
        )
        for name, value in {"none": "", "letters": "=x", "negative": "=-5", "zero": "=0"}.items()
    ),
]

TABLE = [*VARIANTS, *STALE]


@pytest.mark.parametrize("case", TABLE, ids=ids(TABLE))
async def test_stored_response_is_reused_only_for_what_it_answers(case: Case, site: CacheSite) -> None:
    await run(site, case)


async def test_each_variant_is_kept_and_found_again(site: CacheSite) -> None:  # RFC 9111 §4.1
    asset_id = site.new_id()
    site.script(asset_id, Given(vary("X-Mood")))
    bodies = {value: (await site.fill(asset_id, mood(value))).body for value in "abcd"}
    assert len(set(bodies.values())) == 4
    for value in "dbca":
        reply = await site.get(asset_id, mood(value))
        assert (reply.cache, reply.body) == ("hit", bodies[value])
    assert len(site.seen(asset_id)) == 4


async def test_miss_beside_other_variants_says_so(site: CacheSite) -> None:  # RFC 9211 §2.2
    asset_id = site.new_id()
    site.script(asset_id, Given(vary("X-Mood")))
    first, other = [await site.fill(asset_id, mood(value)) for value in "ab"]
    assert first["Cache-Status"] == "edge-1; fwd=uri-miss; fwd-status=200; stored"
    assert other["Cache-Status"] == "edge-1; fwd=vary-miss; fwd-status=200; stored"


async def test_variant_is_validated_by_its_own_validator(site: CacheSite) -> None:  # RFC 9111 §4.1, §4.3.1
    asset_id = site.new_id()
    stale = [("Cache-Control", "max-age=5"), ("Vary", "X-Mood")]
    site.script(
        asset_id,
        Given([*stale, ("ETag", '"a"')]),
        Given([*stale, ("ETag", '"b"')]),
        Given([*stale, ("ETag", '"a"')]),
    )
    await site.fill(asset_id, mood("a"))
    await site.fill(asset_id, mood("b"))
    site.clock.advance(5)
    reply = await site.fill(asset_id, mood("a"))
    assert site.seen(asset_id)[2].headers["if-none-match"] == '"a"'
    assert (reply.cache, reply.body) == ("hit", f"answer 1 to {asset_id}".encode())


@pytest.mark.parametrize(
    "control", ["stale-while-revalidate=20", "stale-while-revalidate=20, stale-if-error=0"]
)
async def test_stale_while_revalidate_answers_at_once_and_renews_behind(
    control: str, site: CacheSite
) -> None:
    asset_id = site.new_id()  # RFC 5861 §3
    site.script(asset_id, Given([("Cache-Control", f"max-age=10, {control}"), TAG]))
    await site.fill(asset_id)
    site.clock.advance(15)
    gate = site.source.gates[asset_id] = asyncio.Event()
    replies = await asyncio.gather(*(site.get(asset_id) for _ in range(5)))
    assert {(r.cache, r["Age"], r["Cache-Status"]) for r in replies} == {("hit", "15", "edge-1; hit; ttl=-5")}
    gate.set()
    await site.idle()
    assert len(site.seen(asset_id)) == 2
    assert (await site.get(asset_id))["Age"] == "0"


ON_ERROR = [
    # directives, seconds since it went stale, served
    pytest.param("", 5, True, id="4.2.4-the-nodes-own-limit"),
    pytest.param("", 90_000, False, id="4.2.4-beyond-the-nodes-limit"),
    pytest.param(", stale-if-error=10", 9, True, id="5861-4-within"),
    pytest.param(", stale-if-error=10", 10, False, id="5861-4-beyond"),
    pytest.param(", stale-if-error=0", 0, False, id="5861-4-none"),
    pytest.param(", stale-if-error=200000", 90_000, True, id="5861-4-longer-than-the-nodes"),
    pytest.param(", must-revalidate, stale-if-error=10", 5, False, id="5.2.2.2-must-revalidate"),
    pytest.param(", proxy-revalidate, stale-if-error=10", 5, False, id="5.2.2.8-proxy-revalidate"),
    pytest.param(", s-maxage=10, stale-if-error=10", 5, False, id="5.2.2.10-s-maxage"),
    pytest.param(", no-cache, stale-if-error=10", 5, False, id="5.2.2.4-no-cache"),
    pytest.param(", stale-if-error=x", 5, False, id="5861-4-invalid"),
]
FAILURES = [
    pytest.param((Given(status=500, confirms=False), 500), id="500"),
    pytest.param((Given(status=502, confirms=False), 502), id="502"),
    pytest.param((Given(status=503, confirms=False), 503), id="503"),
    pytest.param((Given(status=504, confirms=False), 504), id="504"),
    pytest.param((Given(raw=b""), 502), id="closed"),
    pytest.param((Given(raw=b"nonsense\r\n\r\n"), 502), id="not-http"),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("directives", "after", "served"), ON_ERROR)
async def test_stale_is_served_on_error_only_as_far_as_allowed(
    directives: str, after: int, served: bool, failure: tuple[Given, int], site: CacheSite
) -> None:
    given, status = failure
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", f"max-age=10{directives}"), TAG]), given)
    await site.fill(asset_id)
    site.clock.advance(10 + after)
    reply = await site.fill(asset_id)
    assert "if-none-match" in site.seen(asset_id)[1].headers
    if served:
        assert (reply.status, reply.body, reply.cache) == (200, f"answer 1 to {asset_id}".encode(), "hit")
        assert reply["Cache-Status"] == f"edge-1; hit; ttl=-{after}"
        assert reply["Age"] == str(10 + after)
    else:
        assert reply.status == status


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
async def test_4xx_is_an_answer_and_ends_what_was_stored(
    status: int, site: CacheSite
) -> None:  # RFC 9111 §4.3.3
    asset_id = site.new_id()
    site.script(
        asset_id,
        Given([("Cache-Control", "max-age=10, stale-if-error=99"), TAG]),
        Given(status=status, confirms=False),
    )
    await site.fill(asset_id)
    site.clock.advance(10)
    for _ in range(2):
        assert (await site.fill(asset_id)).status == status


NOT_KEPT = (
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Proxy-Connection",
    "TE",
    "Upgrade",
    "Trailer",
)
KEPT = [
    ("X-Unknown", "1"),
    ("Content-Language", "de"),
    ("Link", "</a>; rel=next"),
    ("Warning", '199 - "x"'),
    ("Content-Location", "/b"),
    ("P3P", "CP=x"),
    ("Strict-Transport-Security", "max-age=5"),
    ("Allow", "GET"),
    ("Content-Security-Policy", "default-src 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Refresh", "5"),
    ("Digest", "md5=x"),
    ("Content-MD5", "Q2hlY2s="),
    ("Priority", "u=1"),
    ("NEL", "{}"),
    ("X-Empty", ""),
    ("Content-Type", "text/plain; charset=x"),
    ("Content-Encoding", "x-own"),
    ("Via", "1.1 inner"),
    ("Set-Cookie", "a=b"),
    ("Content-Disposition", "attachment"),
    ("WWW-Authenticate", "Basic"),
    ("Retry-After", "7"),
    ("Pragma", "x"),
]


@pytest.mark.parametrize("name", NOT_KEPT)
async def test_field_of_one_connection_is_not_sent_on(name: str, site: CacheSite) -> None:  # RFC 9111 §3.1
    asset_id = site.new_id()
    value = "x-listed" if name in ("Connection", "Trailer") else "timeout=9" if name == "Keep-Alive" else "x"
    site.script(asset_id, Given([LONG, (name, value), ("X-Kept", "1")]))
    for _ in range(2):
        reply = await site.fill(asset_id)
        assert (value in reply.all(name), reply["X-Kept"]) == (False, "1")


@pytest.mark.parametrize("listed", ["X-A", "x-a", "close, X-A", "X-A, X-B", " x-b ,X-A"])
async def test_field_named_by_connection_is_not_sent_on(
    listed: str, site: CacheSite
) -> None:  # RFC 9110 §7.6.1
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, ("Connection", listed), ("X-A", "1"), ("X-C", "2")]))
    for _ in range(2):
        reply = await site.fill(asset_id)
        assert ("X-A" in reply, reply["X-C"]) == (False, "2")


@pytest.mark.parametrize(("name", "value"), KEPT, ids=[name for name, _ in KEPT])
async def test_end_to_end_field_is_kept_and_replayed(name: str, value: str, site: CacheSite) -> None:
    asset_id = site.new_id()  # RFC 9111 §3.1
    site.script(asset_id, Given([LONG, (name, value)]))
    replies = [await site.fill(asset_id) for _ in range(3)]
    assert [reply.cache for reply in replies] == ["miss", "hit", "hit"]
    expected = [f"{value}, 1.1 edge-1"] if name == "Via" else [value]
    assert [reply.all(name) for reply in replies] == [expected] * 3


async def test_lines_of_a_field_stay_apart_and_in_order(site: CacheSite) -> None:  # RFC 9110 §5.3
    asset_id = site.new_id()
    lines = [("Set-Cookie", "a=1"), ("X-A", "1"), ("Set-Cookie", "b=2"), ("X-A", "2")]
    site.script(asset_id, Given([LONG, *lines]))
    for _ in range(3):
        reply = await site.fill(asset_id)
        assert (reply.all("Set-Cookie"), reply.all("X-A")) == (["a=1", "b=2"], ["1", "2"])


ONLY_IF_CACHED = [("Cache-Control", "only-if-cached")]


@pytest.mark.parametrize(
    ("control", "after", "status"),
    [
        pytest.param(None, 0, 504, id="nothing-stored"),
        pytest.param("max-age=10", 5, 200, id="fresh"),
        pytest.param("max-age=10", 10, 504, id="stale"),
        pytest.param("no-cache, max-age=10", 0, 504, id="no-cache"),
        pytest.param("max-age=10, stale-while-revalidate=10", 15, 200, id="stale-while-revalidate"),
        pytest.param("no-store", 0, 504, id="not-storable"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_only_if_cached_asks_no_source(  # RFC 9111 §5.2.1.7
    method: str, control: str | None, after: int, status: int, site: CacheSite
) -> None:
    asset_id = site.new_id()
    if control is not None:
        site.script(asset_id, Given([("Cache-Control", control), TAG]))
        await site.fill(asset_id)
    site.clock.advance(after)
    before = len(site.seen(asset_id))
    reply = await site.get(asset_id, ONLY_IF_CACHED, method)
    await site.idle()
    assert (reply.status, len(site.seen(asset_id))) == (status, before)
    assert reply.cache == ("hit" if status == 200 else None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PURGE", "QUERY", "LOCK"])
async def test_unsafe_method_is_refused_and_invalidates_nothing(method: str, site: CacheSite) -> None:
    asset_id = site.new_id()  # RFC 9111 §4.4: invalidation follows a non-error answer; 405 is an error
    site.script(asset_id, Given([LONG]))
    await site.fill(asset_id)
    reply = await site.get(asset_id, method=method)
    assert (reply.status, reply["Allow"], reply.cache) == (405, "GET, HEAD, OPTIONS", None)
    assert (await site.get(asset_id)).cache == "hit"
    assert [one.method for one in site.seen(asset_id)] == ["GET"]


async def test_cache_status_of_inner_caches_stays_in_front(site: CacheSite) -> None:  # RFC 9211 §2
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, ("Cache-Status", "inner; fwd=miss"), ("Cache-Status", '"b c"; hit')]))
    assert (await site.fill(asset_id))["Cache-Status"] == (
        'inner; fwd=miss, "b c"; hit, edge-1; fwd=uri-miss; fwd-status=200; stored'
    )
    for _ in range(2):
        assert (await site.get(asset_id))[
            "Cache-Status"
        ] == 'inner; fwd=miss, "b c"; hit, edge-1; hit; ttl=600'


@pytest.mark.parametrize("status", [200, 404])
async def test_waiters_of_one_fetch_say_that_they_were_collapsed(status: int, site: CacheSite) -> None:
    asset_id = site.new_id()  # RFC 9111 §4, RFC 9211 §2.7
    site.script(asset_id, Given([LONG], status=status))
    gate = site.source.gates[asset_id] = asyncio.Event()
    tasks = [asyncio.create_task(site.get(asset_id)) for _ in range(8)]
    while len(site.seen(asset_id)) < 1:
        await asyncio.sleep(0)
    gate.set()
    replies = await asyncio.gather(*tasks)
    assert len(site.seen(asset_id)) == 1
    states = sorted((r.cache or "", r["Cache-Status"] or "") for r in replies)
    assert states[0] == ("miss", f"edge-1; fwd=uri-miss; fwd-status={status}; stored")
    assert {cache for cache, _ in states[1:]} <= {"pending", "hit"}
    for cache, member in states[1:]:
        assert member == ("edge-1; fwd=uri-miss; collapsed" if cache == "pending" else "edge-1; hit; ttl=600")
    assert {r.body for r in replies} == {f"answer 1 to {asset_id}".encode()}


async def test_head_told_what_another_was_told_says_so(site: CacheSite) -> None:  # RFC 9211 §2.7
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG]))
    first, second = [await site.get(asset_id, method="HEAD") for _ in range(2)]
    assert len(site.seen(asset_id)) == 1
    assert first["Cache-Status"] == "edge-1; fwd=uri-miss; fwd-status=200"
    assert second["Cache-Status"] == "edge-1; fwd=uri-miss; collapsed"
    assert (
        "source;dur" in (first["Server-Timing"] or ""),
        "source;dur" in (second["Server-Timing"] or ""),
    ) == (
        True,
        False,
    )


async def test_waiters_for_what_may_not_be_shared_are_each_sent_on(site: CacheSite) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", "private, max-age=60")]))
    gate = site.source.gates[asset_id] = asyncio.Event()
    tasks = [asyncio.create_task(site.get(asset_id)) for _ in range(6)]
    while len(site.seen(asset_id)) < 1:
        await asyncio.sleep(0)
    gate.set()
    replies = await asyncio.gather(*tasks)
    assert len({reply.body for reply in replies}) == len(site.seen(asset_id)) == 6
    assert {outcome(reply, site.seen(asset_id)) for reply in replies} == {"fetched"}
