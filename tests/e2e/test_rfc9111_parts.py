"""RFC 9110 §14, §15.3.7, RFC 9111 §3.3, §3.4: parts are put together only under a strong validator."""

from __future__ import annotations

import pytest

from tests.support.cache_site import CacheSite, Given, Headers

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = ("Cache-Control", "max-age=600")
TAG = ("ETag", '"1"')
WEAK = ("ETag", 'W/"1"')
OLD = ("Last-Modified", "Fri, 01 Jan 2010 00:00:00 GMT")
BODY = bytes(range(256)) * 256  # 16 segments of the site
AHEAD = [("Range", "bytes=40000-40099")]

HITS = [
    pytest.param("bytes=0-9", 206, (0, 10), id="9110-14.1.2-first"),
    pytest.param("bytes=-9", 206, (len(BODY) - 9, len(BODY)), id="9110-14.1.2-suffix"),
    pytest.param("bytes=65000-", 206, (65000, len(BODY)), id="9110-14.1.2-open"),
    pytest.param("bytes=65000-99999999", 206, (65000, len(BODY)), id="9110-14.1.2-clipped"),
    pytest.param("bytes=-99999999", 206, (0, len(BODY)), id="9110-14.1.2-long-suffix"),
    pytest.param("bytes=0-0", 206, (0, 1), id="9110-14.1.2-one-byte"),
    pytest.param("BYTES=0-9", 206, (0, 10), id="9110-14.1-unit-case"),
    pytest.param("bytes=99999-", 416, None, id="9110-15.5.17-past-the-end"),
    pytest.param("bytes=-0", 416, None, id="9110-14.1.2-suffix-0"),
    pytest.param("bytes=9-0", 200, (0, len(BODY)), id="9110-14.1.1-backwards"),
    pytest.param("bytes=a-b", 200, (0, len(BODY)), id="9110-14.2-malformed"),
    pytest.param("lines=0-9", 200, (0, len(BODY)), id="9110-14.2-other-unit"),
]


@pytest.mark.parametrize("validator", [[TAG], [WEAK], [OLD], []], ids=["strong", "weak", "date", "none"])
@pytest.mark.parametrize(("asked", "status", "span"), HITS)
async def test_range_of_a_stored_whole_needs_no_validator(
    asked: str, status: int, span: tuple[int, int] | None, validator: Headers, site: CacheSite
) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, *validator], body=BODY))
    await site.fill(asset_id)
    for _ in range(2):  # the second may take the short way
        reply = await site.get(asset_id, [("Range", asked)])
        assert (reply.status, reply.cache, len(site.seen(asset_id))) == (status, "hit", 1)
        if span is not None:
            assert reply.body == BODY[span[0] : span[1]]
        expected = {206: f"bytes {(span or (0, 0))[0]}-{(span or (0, 0))[1] - 1}/65536", 416: "bytes */65536"}
        assert reply["Content-Range"] == expected.get(status)


IF_RANGE = [
    pytest.param([TAG], '"1"', 206, id="9110-13.1.5-equal"),
    pytest.param([TAG], '"2"', 200, id="9110-13.1.5-other"),
    pytest.param([TAG], 'W/"1"', 200, id="9110-13.1.5-weak"),
    pytest.param([WEAK], 'W/"1"', 200, id="9110-13.1.5-both-weak"),
    pytest.param([WEAK], '"1"', 200, id="9110-13.1.5-ours-weak"),
    pytest.param([OLD], OLD[1], 206, id="9110-13.1.5-date"),
    pytest.param([OLD], "Sat, 02 Jan 2010 00:00:00 GMT", 200, id="9110-13.1.5-later-date"),
    pytest.param([OLD], "Thu, 31 Dec 2009 00:00:00 GMT", 200, id="9110-13.1.5-earlier-date"),
    pytest.param([("Last-Modified", "{@+0}")], "{+0}", 200, id="9110-8.8.2.2-weak-date"),
    pytest.param([TAG, OLD], OLD[1], 206, id="9110-13.1.5-date-beside-a-tag"),
    pytest.param([TAG], "1", 200, id="9110-13.1.5-neither"),
    pytest.param([], '"1"', 200, id="9110-13.1.5-none-stored"),
    pytest.param([TAG], '"2", "1"', 200, id="9110-13.1.5-no-list"),
]


@pytest.mark.parametrize(("validator", "condition", "status"), IF_RANGE)
@pytest.mark.parametrize("cold", [False, True], ids=["hit", "miss"])
async def test_if_range_is_a_strong_comparison(
    cold: bool, validator: Headers, condition: str, status: int, site: CacheSite
) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, *validator], body=BODY, ranges=True))
    if not cold:
        await site.fill(asset_id)
    reply = await site.fill(asset_id, [("Range", "bytes=5-9"), ("If-Range", condition)])
    assert (reply.status, reply.body) == (status, BODY[5:10] if status == 206 else BODY)


@pytest.mark.parametrize("validator", [[TAG], [OLD], [TAG, OLD]], ids=["tag", "date", "both"])
async def test_part_ahead_and_the_rest_make_a_whole_under_a_strong_validator(
    validator: Headers, site: CacheSite
) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, *validator], body=BODY, ranges=True))
    part = await site.fill(asset_id, AHEAD)
    assert (part.status, part.body) == (206, BODY[40000:40100])
    whole = await site.get(asset_id)
    assert (whole.status, whole.cache, whole.body) == (200, "hit", BODY)
    bound = [one.headers["if-range"] for one in site.seen(asset_id) if "if-range" in one.headers]
    assert bound and set(bound) == {validator[0][1]}


@pytest.mark.parametrize(
    "validator", [[WEAK], [("Last-Modified", "{@+0}")], []], ids=["weak", "weak-date", "none"]
)
async def test_parts_without_a_strong_validator_are_never_put_together(
    validator: Headers, site: CacheSite
) -> None:
    asset_id = site.new_id()
    site.script(
        asset_id, *(Given([LONG, *validator], body=bytes([n]) * 65536, ranges=True) for n in range(9))
    )
    part = await site.fill(asset_id, AHEAD)
    assert (part.status, len(set(part.body)), len(part.body)) == (206, 1, 100)
    whole = await site.fill(asset_id)
    assert (whole.status, len(whole.body), len(set(whole.body))) == (200, 65536, 1)


@pytest.mark.parametrize("change", [[("ETag", '"2"')], [WEAK], []], ids=["other-tag", "weak-now", "none-now"])
async def test_parts_of_two_versions_are_never_put_together(change: Headers, site: CacheSite) -> None:
    asset_id = site.new_id()
    first, then = b"a" * 65536, b"b" * 65536
    site.script(
        asset_id, Given([LONG, TAG], body=first, ranges=True), Given([LONG, *change], body=then, ranges=True)
    )
    part = await site.fill(asset_id, AHEAD)
    assert part.body == b"a" * 100
    for _ in range(2):
        whole = await site.fill(asset_id)
        assert (whole.status, whole.body) == (200, then)


TOTALS = [
    "bytes 36864-65535/*",
    "bytes 36864-65535/70000",
    "bytes 0-28671/65536",
    "bytes */65536",
    "none 1-2/3",
]


@pytest.mark.parametrize("content_range", TOTALS)
async def test_206_of_another_part_or_without_a_total_is_not_taken(
    content_range: str, site: CacheSite
) -> None:
    asset_id = site.new_id()
    lie = Given([LONG, TAG, ("Content-Range", content_range)], status=206, body=b"?" * 28672)
    site.script(asset_id, lie, lie, Given([LONG, TAG], body=BODY))
    reply = await site.fill(asset_id, AHEAD)
    assert (reply.status, reply.body) in ((206, BODY[40000:40100]), (502, reply.body))
    assert b"??" not in reply.body
    assert (await site.fill(asset_id)).body == BODY


async def test_206_to_a_request_without_range_is_no_answer(site: CacheSite) -> None:  # RFC 9110 §15.3.7
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, TAG, ("Content-Range", "bytes 0-4/9")], status=206, body=b"01234"))
    assert (await site.fill(asset_id)).status == 502


@pytest.mark.parametrize("control", ["no-store", "private"])
async def test_part_of_what_may_not_be_stored_is_passed_through(control: str, site: CacheSite) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", control), TAG], body=BODY, ranges=True))
    for count in (1, 2):
        reply = await site.fill(asset_id, AHEAD)
        assert (reply.status, reply["X-Data-Source"], reply.body) == (206, "external", BODY[40000:40100])
        assert len(site.seen(asset_id)) == count


@pytest.mark.parametrize("method", ["HEAD"])
async def test_head_looks_at_no_range(method: str, site: CacheSite) -> None:  # RFC 9110 §14.2
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, TAG], body=BODY, ranges=True))
    for _ in range(2):
        reply = await site.get(asset_id, AHEAD, method)
        assert (reply.status, reply["Content-Length"]) == (200, "65536")
        await site.fill(asset_id)


async def test_stale_whole_is_validated_before_a_part_of_it_is_sent(site: CacheSite) -> None:
    asset_id = site.new_id()
    site.script(asset_id, Given([("Cache-Control", "max-age=5"), TAG], body=BODY, ranges=True))
    await site.fill(asset_id)
    site.clock.advance(5)
    reply = await site.fill(asset_id, AHEAD)
    assert (reply.status, reply.cache, reply.body) == (206, "hit", BODY[40000:40100])
    assert "range" not in site.seen(asset_id)[1].headers
    assert site.seen(asset_id)[1].headers["if-none-match"] == '"1"'


@pytest.mark.parametrize("status", [203, 404, 301])
async def test_range_of_another_status_is_ignored(status: int, site: CacheSite) -> None:  # RFC 9110 §14.2
    asset_id = site.new_id()
    site.script(asset_id, Given([LONG, TAG], status=status, body=BODY))
    for _ in range(2):
        reply = await site.fill(asset_id, [("Range", "bytes=0-9")])
        assert (reply.status, reply.body, "Content-Range" in reply) == (status, BODY, False)
