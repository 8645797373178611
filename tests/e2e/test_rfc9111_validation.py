"""RFC 9111 §4.3, RFC 9110 §13: clients' conditions, ours, and what a 304 renews."""

from __future__ import annotations

import pytest

from tests.support.cache_cases import outcome
from tests.support.cache_site import CacheSite, Given, Headers

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = ("Cache-Control", "max-age=600")
STALE = ("Cache-Control", "max-age=0")
TAG = ("ETag", '"1"')
WEAK = ("ETag", 'W/"1"')
CHANGED = ("Last-Modified", "Fri, 01 Jan 2027 00:00:00 GMT")
BEFORE, AFTER = "Thu, 31 Dec 2026 23:59:59 GMT", "Fri, 01 Jan 2027 00:00:01 GMT"
SAME = CHANGED[1]

CONDITIONS = [
    # fields stored, condition, status
    pytest.param([TAG], [("If-None-Match", '"1"')], 304, id="9110-13.1.2-equal"),
    pytest.param([TAG], [("If-None-Match", '"2"')], 200, id="9110-13.1.2-other"),
    pytest.param([TAG], [("If-None-Match", 'W/"1"')], 304, id="9110-13.1.2-weak-against-strong"),
    pytest.param([WEAK], [("If-None-Match", '"1"')], 304, id="9110-13.1.2-strong-against-weak"),
    pytest.param([WEAK], [("If-None-Match", 'W/"1"')], 304, id="9110-13.1.2-weak-against-weak"),
    pytest.param([TAG], [("If-None-Match", "*")], 304, id="9110-13.1.2-any"),
    pytest.param([], [("If-None-Match", "*")], 304, id="9110-13.1.2-any-without-tag"),
    pytest.param([TAG], [("If-None-Match", '"2", "1"')], 304, id="9110-13.1.2-list"),
    pytest.param([TAG], [("If-None-Match", '"2" ,,"1",')], 304, id="9110-13.1.2-list-empty-members"),
    pytest.param([TAG], [("If-None-Match", '"2", "3"')], 200, id="9110-13.1.2-list-of-others"),
    pytest.param([TAG], [("If-None-Match", '"2"'), ("If-None-Match", '"1"')], 304, id="9110-5.3-two-lines"),
    pytest.param([TAG], [("If-None-Match", "1")], 200, id="9110-13.1.2-unquoted"),
    pytest.param([TAG], [("If-None-Match", 'w/"1"')], 200, id="9110-8.8.3-lower-case-w"),
    pytest.param([TAG], [("If-None-Match", '"1')], 200, id="9110-8.8.3-unclosed"),
    pytest.param([TAG], [("If-None-Match", '"2,"1""')], 200, id="9110-8.8.3-quotes-inside"),
    pytest.param([("ETag", '"a,b"')], [("If-None-Match", '"x", "a,b"')], 304, id="9110-8.8.3-comma-inside"),
    pytest.param([("ETag", '""')], [("If-None-Match", '""')], 304, id="9110-8.8.3-empty-tag"),
    pytest.param([("ETag", '"a\\b"')], [("If-None-Match", '"a\\b"')], 304, id="9110-8.8.3-backslash"),
    pytest.param([TAG], [("If-None-Match", '"A"')], 200, id="9110-8.8.3-case-matters"),
    pytest.param([CHANGED], [("If-Modified-Since", SAME)], 304, id="9110-13.1.3-equal"),
    pytest.param([CHANGED], [("If-Modified-Since", AFTER)], 304, id="9110-13.1.3-later"),
    pytest.param([CHANGED], [("If-Modified-Since", BEFORE)], 200, id="9110-13.1.3-earlier"),
    pytest.param(
        [CHANGED], [("If-Modified-Since", "Friday, 01-Jan-27 00:00:00 GMT")], 304, id="9110-5.6.7-850"
    ),
    pytest.param(
        [CHANGED], [("If-Modified-Since", "Fri Jan  1 00:00:00 2027")], 304, id="9110-5.6.7-asctime"
    ),
    pytest.param([CHANGED], [("If-Modified-Since", "2027-01-01T00:00:00Z")], 200, id="9110-13.1.3-no-date"),
    pytest.param([CHANGED], [("If-Modified-Since", SAME)] * 2, 200, id="9110-13.1.3-two-lines"),
    pytest.param([], [("If-Modified-Since", "{+0}")], 304, id="4.3.2-measured-against-date"),
    pytest.param([], [("If-Modified-Since", "{-1}")], 200, id="4.3.2-before-date"),
    pytest.param(
        [TAG, CHANGED],
        [("If-None-Match", '"2"'), ("If-Modified-Since", SAME)],
        200,
        id="9110-13.2.2-tag-first",
    ),
    pytest.param(
        [TAG, CHANGED],
        [("If-None-Match", '"1"'), ("If-Modified-Since", BEFORE)],
        304,
        id="9110-13.2.2-date-not-looked-at",
    ),
    pytest.param(
        [CHANGED],
        [("If-None-Match", '"1"'), ("If-Modified-Since", SAME)],
        200,
        id="9110-13.2.2-tag-without-ours",
    ),
    pytest.param([TAG], [("If-Match", '"1"')], 200, id="9110-13.1.1-equal"),
    pytest.param([TAG], [("If-Match", '"2"')], 412, id="9110-13.1.1-other"),
    pytest.param([TAG], [("If-Match", '"2", "1"')], 200, id="9110-13.1.1-list"),
    pytest.param([TAG], [("If-Match", 'W/"1"')], 412, id="9110-13.1.1-weak-never-matches"),
    pytest.param([WEAK], [("If-Match", 'W/"1"')], 412, id="9110-13.1.1-both-weak"),
    pytest.param([TAG], [("If-Match", "*")], 200, id="9110-13.1.1-any"),
    pytest.param([TAG], [("If-Match", '"1"'), ("If-None-Match", '"1"')], 304, id="9110-13.2.2-both-hold"),
    pytest.param([TAG], [("If-Match", '"2"'), ("If-None-Match", '"1"')], 412, id="9110-13.2.2-match-first"),
    pytest.param([CHANGED], [("If-Unmodified-Since", SAME)], 200, id="9110-13.1.4-equal"),
    pytest.param([CHANGED], [("If-Unmodified-Since", AFTER)], 200, id="9110-13.1.4-later"),
    pytest.param([CHANGED], [("If-Unmodified-Since", BEFORE)], 412, id="9110-13.1.4-earlier"),
    pytest.param([CHANGED], [("If-Unmodified-Since", "soon")], 200, id="9110-13.1.4-no-date"),
    pytest.param([TAG], [("If-Unmodified-Since", BEFORE)], 200, id="9110-13.1.4-without-last-modified"),
    pytest.param(
        [TAG, CHANGED],
        [("If-Match", '"1"'), ("If-Unmodified-Since", BEFORE)],
        200,
        id="9110-13.2.2-date-after-match",
    ),
]


@pytest.mark.parametrize("state", ["hit", "hot", "miss", "validated"])
@pytest.mark.parametrize(("fields", "condition", "status"), CONDITIONS)
async def test_clients_condition_is_judged_by_what_is_stored(
    fields: Headers, condition: Headers, status: int, state: str, site: CacheSite
) -> None:
    asset_id = site.new_id()
    validates = state == "validated" and bool(fields)
    site.script(asset_id, Given([STALE if validates else LONG, *fields]))
    condition = site.source.dated(condition)
    if state != "miss":
        await site.fill(asset_id)
    if state == "hot":
        await site.get(asset_id, condition)
    before = len(site.seen(asset_id))
    reply = await site.fill(asset_id, condition)
    assert reply.status == status
    assert reply.cache == ("miss" if state == "miss" else "hit")
    asked = site.seen(asset_id)[before:]
    assert len(asked) == (1 if validates or state == "miss" else 0)
    if state == "miss":  # the client's conditions are its own
        assert not {"if-none-match", "if-modified-since", "if-match", "if-unmodified-since"} & set(
            asked[0].headers
        )
    assert reply.end == "complete"
    if status == 200:
        assert reply.body == f"answer 1 to {asset_id}".encode()
    elif status == 304:
        assert reply.body == b""
        assert {"content-length", "content-type", "content-range"}.isdisjoint(reply.names)
        assert {"date", "cache-control"} <= reply.names
        assert reply["ETag"] == dict(fields).get("ETag") or fields == [] or fields == [CHANGED]


SENT = [
    pytest.param([TAG, CHANGED], {"if-none-match": '"1"', "if-modified-since": SAME}, id="4.3.1-both"),
    pytest.param([TAG], {"if-none-match": '"1"'}, id="4.3.1-tag"),
    pytest.param([WEAK], {"if-none-match": 'W/"1"'}, id="4.3.1-weak-tag"),
    pytest.param([CHANGED], {"if-modified-since": SAME}, id="4.3.1-date"),
    pytest.param([("ETag", '"a,b"')], {"if-none-match": '"a,b"'}, id="4.3.1-tag-with-comma"),
    pytest.param([("ETag", '""')], {"if-none-match": '""'}, id="4.3.1-empty-tag"),
    pytest.param([], {}, id="4.3.1-neither"),
]


@pytest.mark.parametrize(("fields", "conditions"), SENT)
@pytest.mark.parametrize("control", ["max-age=0", "no-cache, max-age=9", "s-maxage=0, max-age=9"])
async def test_validation_sends_the_stored_validators_and_not_the_clients(
    control: str, fields: Headers, conditions: dict[str, str], site: CacheSite
) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", control), *fields]))
    await site.fill(asset_id)
    reply = await site.fill(asset_id, [("If-None-Match", '"client"'), ("If-Modified-Since", BEFORE)])
    sent = site.seen(asset_id)[1].headers
    names = ("if-none-match", "if-modified-since")
    assert {name: sent[name] for name in names if name in sent} == conditions
    assert outcome(reply, site.seen(asset_id)[1:]) == ("validated" if conditions else "fetched")


RENEWED = [
    # stored fields, those of the 304, name, value after it
    pytest.param([("X-A", "1")], [("X-A", "2")], "X-A", ["2"], id="3.2-replaced"),
    pytest.param([("X-A", "1")], [], "X-A", ["1"], id="3.2-kept"),
    pytest.param([], [("X-A", "2")], "X-A", ["2"], id="3.2-added"),
    pytest.param([("X-A", "1"), ("X-A", "2")], [("X-A", "3")], "X-A", ["3"], id="3.2-all-lines-replaced"),
    pytest.param([("X-A", "1")], [("x-a", "2"), ("X-a", "3")], "X-A", ["2", "3"], id="3.2-several-lines"),
    pytest.param(
        [("Content-Type", "text/a")], [("Content-Type", "text/b")], "Content-Type", ["text/b"], id="3.2-type"
    ),
    pytest.param(
        [("Content-Language", "a")], [("Content-Language", "b")], "Content-Language", ["b"], id="3.2-language"
    ),
    pytest.param(
        [("Content-Encoding", "a")],
        [("Content-Encoding", "b")],
        "Content-Encoding",
        ["a"],
        id="3.2-not-encoding",
    ),
    pytest.param([], [("Content-Length", "999")], "Content-Length", None, id="3.2-not-length"),
    pytest.param([], [("Content-Range", "bytes 0-1/9")], "Content-Range", [], id="3.2-not-range"),
    pytest.param([("Set-Cookie", "a=1")], [("Set-Cookie", "a=2")], "Set-Cookie", ["a=2"], id="3.2-cookie"),
    pytest.param(
        [("X-A", "1")], [("X-A", "2"), ("Connection", "x-a")], "X-A", ["1"], id="3.1-connection-named"
    ),
    pytest.param([], [("Keep-Alive", "timeout=5")], "Keep-Alive", [], id="3.1-hop-by-hop"),
    pytest.param(
        [("Cache-Control", "max-age=0")],
        [("Cache-Control", "max-age=7")],
        "Cache-Control",
        ["max-age=7"],
        id="3.2-cache-control",
    ),
    pytest.param([("Expires", "0")], [("Expires", "{+60}")], "Expires", ["{+60}"], id="3.2-expires"),
    pytest.param([("Link", "<a>")], [("Link", "<b>")], "Link", ["<b>"], id="3.2-link"),
    pytest.param(
        [("Content-Location", "/a")],
        [("Content-Location", "/b")],
        "Content-Location",
        ["/b"],
        id="3.2-location",
    ),
    pytest.param([("Warning", "199 a b")], [], "Warning", ["199 a b"], id="3.2-warning-is-any-field"),
]


@pytest.mark.parametrize(("stored", "update", "name", "value"), RENEWED)
async def test_304_renews_the_stored_fields(
    stored: Headers, update: Headers, name: str, value: list[str] | None, site: CacheSite
) -> None:
    asset_id = site.new_id()
    control = [] if any(n in ("Cache-Control", "Expires") for n, _ in stored) else [STALE]
    site.script(asset_id, Given([*control, TAG, *stored], update=[TAG, *update]))
    await site.fill(asset_id)
    site.clock.advance(5)
    for _ in range(2):  # on the answer that the validation was for, and on the next
        reply = await site.fill(asset_id)
        body = f"answer 1 to {asset_id}".encode()
        assert (reply.status, reply.body, reply.cache) == (200, body, "hit")
        expected = (
            [str(len(body))] if value is None else [v for _, v in site.source.dated([("", v) for v in value])]
        )
        assert reply.all(name) == expected


async def test_304_begins_a_new_lifetime(site: CacheSite) -> None:  # RFC 9111 §4.3.4
    asset_id = site.new_id()
    site.script(
        asset_id, Given([("Cache-Control", "max-age=10"), TAG], update=[("Cache-Control", "max-age=20")])
    )
    await site.fill(asset_id)
    for after, count in ((10, 2), (19, 2), (1, 3)):
        site.clock.advance(after)
        assert (await site.fill(asset_id)).cache == "hit"
        assert len(site.seen(asset_id)) == count


async def test_304_without_a_date_is_dated_by_its_receipt(site: CacheSite) -> None:  # RFC 9110 §6.6.1
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", "max-age=10"), TAG], update=[("Date", "")]))
    await site.fill(asset_id)
    site.clock.advance(10)
    assert (await site.fill(asset_id))["Date"] == site.source.dated([("", "{+0}")])[0][1]
    site.clock.advance(9)
    assert (await site.get(asset_id))["Age"] == "9"


@pytest.mark.parametrize("update", ["no-store", "private", "no-cache"])
async def test_304_that_forbids_reuse_ends_it(update: str, site: CacheSite) -> None:  # RFC 9111 §3.2
    asset_id = site.new_id()
    now = [TAG, ("Cache-Control", f"{update}, max-age=100")]
    first = Given([("Cache-Control", "max-age=10"), TAG], update=now)
    site.script(asset_id, first, first, Given(now))
    await site.fill(asset_id)
    site.clock.advance(10)
    for _ in range(2):  # never again without asking
        before = len(site.seen(asset_id))
        assert (await site.fill(asset_id)).status == 200
        assert len(site.seen(asset_id)) > before


async def test_304_of_another_tag_confirms_nothing(site: CacheSite) -> None:  # RFC 9111 §4.3.3
    asset_id = site.new_id()
    site.script(
        asset_id,
        Given([STALE, TAG]),
        Given(status=304, fields=[("ETag", '"2"')]),
        Given([LONG, ("ETag", '"2"')]),
    )
    await site.fill(asset_id)
    reply = await site.fill(asset_id)
    assert (reply.status, reply["ETag"]) == (200, '"2"')
    assert reply.body == f"answer 3 to {asset_id}".encode()
    assert "if-none-match" not in site.seen(asset_id)[2].headers


async def test_304_to_no_condition_is_no_answer(site: CacheSite) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given(status=304))
    assert (await site.fill(asset_id)).status == 502


@pytest.mark.parametrize("status", [200, 301, 403, 404, 410])
async def test_full_answer_to_a_validation_takes_the_place_of_what_was_stored(
    status: int, site: CacheSite
) -> None:
    asset_id = site.new_id()  # RFC 9111 §4.3.3
    site.script(asset_id, Given([STALE, TAG]), Given([LONG], status=status, confirms=False))
    await site.fill(asset_id)
    reply = await site.fill(asset_id)
    assert (reply.status, reply.cache) == (status, "miss")
    assert reply["Cache-Status"] == f"edge-1; fwd=stale; fwd-status={status}; stored"
    hit = await site.get(asset_id)
    assert (hit.status, hit.cache, hit.body) == (status, "hit", f"answer 2 to {asset_id}".encode())


async def test_head_validates_by_head_and_renews_for_get(site: CacheSite) -> None:  # RFC 9111 §4.3.5
    asset_id = site.new_id()
    site.script(
        asset_id,
        Given(
            [("Cache-Control", "max-age=10"), TAG, ("X-A", "1")],
            update=[TAG, ("X-A", "2"), ("Cache-Control", "max-age=50")],
        ),
    )
    await site.fill(asset_id)
    site.clock.advance(10)
    head = await site.get(asset_id, method="HEAD")
    assert (head.status, head.cache, head.body) == (200, "hit", b"")
    assert (site.seen(asset_id)[1].method, site.seen(asset_id)[1].headers["if-none-match"]) == ("HEAD", '"1"')
    hit = await site.get(asset_id)
    assert (hit["X-A"], hit.cache, len(site.seen(asset_id))) == ("2", "hit", 2)


async def test_head_of_another_version_makes_the_stored_one_stale(site: CacheSite) -> None:  # RFC 9111 §4.3.5
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", "max-age=10"), TAG]), Given([LONG, ("ETag", '"2"')]))
    await site.fill(asset_id)
    site.clock.advance(10)
    assert (await site.get(asset_id, method="HEAD"))["ETag"] == '"2"'
    assert (await site.fill(asset_id))["ETag"] == '"2"'


@pytest.mark.parametrize("status", [200, 203, 301, 404, 410])
async def test_head_is_answered_from_a_stored_get(status: int, site: CacheSite) -> None:  # RFC 9111 §4
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, TAG, ("X-A", "1")], status=status))
    get = await site.fill(asset_id)
    for _ in range(2):
        head = await site.get(asset_id, method="HEAD")
        assert (head.status, head.cache, head.body, head["X-A"]) == (status, "hit", b"", "1")
        assert head["Content-Length"] == get["Content-Length"]
    assert len(site.seen(asset_id)) == 1


@pytest.mark.parametrize("control", ["no-store", "private", "no-cache", "max-age=0"])
async def test_head_that_may_not_be_repeated_is_asked_again(control: str, site: CacheSite) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", control)]))
    for _ in range(2):
        assert (await site.get(asset_id, method="HEAD")).status == 200
    assert len(site.seen(asset_id)) == 2


async def test_head_told_that_it_may_be_stored_no_longer_ends_it(site: CacheSite) -> None:  # RFC 9111 §3.2
    asset_id = site.new_id()
    fields = [("Cache-Control", "max-age=10"), TAG]
    site.script(asset_id, Given(fields, update=[TAG, ("Cache-Control", "private, max-age=100")]))
    await site.fill(asset_id)
    site.clock.advance(10)
    assert (await site.get(asset_id, method="HEAD")).status == 200
    assert (await site.fill(asset_id)).cache == "miss"
