"""Contract §6: what is sent to a source, what is read from it, and for how long it is believed."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source
from tests.support.states import fill
from tests.support.wire import range_of

N = 100_000
HOUR = 3600


async def test_only_the_contracts_fields_are_sent(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N)
    client = [
        ("Cookie", "secret=1"),
        ("Authorization", "Bearer secret"),
        ("Accept-Encoding", "gzip"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Referer", "http://x/"),
        ("Via", "1.0 front"),
        ("CDN-Loop", "front"),
        ("X-Request-Id", "abc-1"),
    ]
    await edge.get(asset, client)
    (seen,) = source.seen(asset)
    assert set(seen.headers) - {"host", "connection", "accept"} == {
        "accept-encoding",
        "user-agent",
        "x-request-id",
        "via",
        "cdn-loop",
        "want-repr-digest",
    }
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["user-agent"].startswith("distributor/")
    assert seen.headers["x-request-id"] == "abc-1"
    assert seen.headers["via"] == "1.0 front, 1.1 edge-1"
    assert seen.headers["cdn-loop"] == "front, edge-1"
    assert seen.headers["want-repr-digest"] == "sha-256=10"


async def test_fields_set_for_a_source_are_sent_to_it(start_edge: StartEdge) -> None:
    async with Source() as source:
        settings = [{"url": source.url, "headers": {"Authorization": "Basic c2VjcmV0"}}]
        edge = await start_edge(source, origin__sources=settings)
        source.add("a", N)
        assert (await edge.get("a", [("Authorization", "mine")])).status == 200
        assert source.requests[0].headers["authorization"] == "Basic c2VjcmV0"
        assert not any("c2VjcmV0" in line for line in edge.log)


async def test_revalidation_sends_both_validators(edge: Edge, source: Source, asset: str) -> None:
    made = source.add(asset, N, headers=[("Cache-Control", "max-age=0")])
    await fill(edge, asset)
    reply = await edge.get(asset)
    assert (reply.cache, reply.body) == ("hit", made.content(asset))
    last = source.seen(asset, "GET")[-1]
    assert last.headers["if-none-match"] == made.entity_tag()
    assert last.headers["if-modified-since"] == "Tue, 14 Nov 2023 22:13:20 GMT"


async def test_304_renews_stored_fields_but_not_those_of_the_body(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Cache-Control", "max-age=0"), ("X-Note", "old")])
    await fill(edge, asset)
    source.fault(
        asset, Fault(headers=[("Cache-Control", "max-age=500"), ("X-Note", "new"), ("Content-Length", "7")])
    )
    for _ in range(2):
        reply = await edge.get(asset)
        assert (reply.cache, reply["X-Note"], reply["Cache-Control"]) == ("hit", "new", "max-age=500")
        assert (reply["Content-Length"], reply.body) == (str(N), source.assets[asset].content(asset))
    assert source.count(asset) == 2


async def test_one_revalidation_for_all_who_wait(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N, headers=[("Cache-Control", "max-age=0")])
    await fill(edge, asset)
    gate = asyncio.Event()
    source.fault(asset, Fault(gate=gate), on=1)
    tasks = [asyncio.create_task(edge.get(asset)) for _ in range(20)]

    async def all_there() -> bool:
        return await edge.metric("http_connections_open", listener="public") >= 20

    await source.until(lambda: source.count(asset) == 2)
    await edge.until(all_there)
    gate.set()
    for reply in await asyncio.gather(*tasks):
        assert (reply.status, reply.cache, reply.body) == (200, "hit", source.assets[asset].content(asset))
    assert source.count(asset) <= 4  # a client whose request came after the 304 asks anew


def _date(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


# headers, Asset settings, and whether the second request asks the source
FRESHNESS: list[Any] = [
    pytest.param([("Cache-Control", "max-age=60")], {}, False, id="max-age"),
    pytest.param([("Cache-Control", "max-age=60, s-maxage=0")], {}, True, id="s-maxage-before-max-age"),
    pytest.param([("Cache-Control", "max-age=0, s-maxage=60")], {}, False, id="s-maxage-fresh"),
    pytest.param(
        [("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "max-age=0")], {}, False, id="cdn-first"
    ),
    pytest.param(
        [("CDN-Cache-Control", "max-age=0"), ("Cache-Control", "max-age=60")], {}, True, id="cdn-stale"
    ),
    pytest.param(
        [("CDN-Cache-Control", "max-age=60;;"), ("Cache-Control", "max-age=0")], {}, True, id="cdn-invalid"
    ),
    pytest.param([("Expires", _date(HOUR))], {}, False, id="expires"),
    pytest.param([("Expires", _date(-HOUR))], {}, True, id="expires-past"),
    pytest.param([("Expires", "0")], {}, True, id="expires-no-date"),
    pytest.param([("Cache-Control", "max-age=60"), ("Expires", "0")], {}, False, id="max-age-before-expires"),
    pytest.param([("Cache-Control", "max-age=60"), ("Age", "61")], {}, True, id="age-counts"),
    pytest.param([("Cache-Control", "max-age=60")], {"date": time.time() - 61}, True, id="apparent-age"),
    pytest.param([("Cache-Control", "max-age=600, no-cache")], {}, True, id="no-cache"),
    pytest.param([], {}, False, id="default-ttl-with-old-last-modified"),
    pytest.param([], {"last_modified": None}, False, id="default-ttl-with-tag-only"),
    pytest.param([], {"etag": "none", "last_modified": None}, True, id="no-validator-no-lifetime"),
]


@pytest.mark.parametrize(("headers", "made", "asked_again"), FRESHNESS)
async def test_freshness(
    headers: list[tuple[str, str]],
    made: dict[str, Any],
    asked_again: bool,
    edge: Edge,
    source: Source,
    asset: str,
) -> None:
    source.add(asset, N, headers=headers, **made)
    await fill(edge, asset)
    reply = await edge.get(asset)
    assert reply.body == source.assets[asset].content(asset)
    assert source.count(asset) == (2 if asked_again else 1)


async def test_playlist_changed_two_seconds_ago_is_not_held_for_a_minute(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source)
        now = time.time()
        source.add("live.m3u8", 500, last_modified=int(now) - 2, date=int(now))
        await fill(edge, "live.m3u8")
        assert 0 <= int((await edge.get("live.m3u8"))["Age"] or "") <= 1
        source.add("live.m3u8", 600, version=1, last_modified=int(now), date=True)

        async def renewed() -> bool:
            return len((await edge.get("live.m3u8")).body) == 600

        await edge.until(renewed, timeout=5)


@pytest.mark.parametrize("directive", ["no-store", "private", "private, max-age=60", "no-store, s-maxage=60"])
async def test_what_may_not_be_stored_is_passed_through(
    directive: str, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Cache-Control", directive)])
    used = (await edge.status())["storageUsed"]
    for headers, span in (([], (0, N)), (range_of(9, 99), (9, 100))):
        reply = await edge.get(asset, headers)
        assert (reply.cache, reply["X-Data-Source"]) == ("miss", "external")
        assert reply.body == source.assets[asset].content(asset, *span)
    assert (await edge.status())["storageUsed"] == used


async def test_vary_star_is_not_stored(edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, N, headers=[("Vary", "Accept, *"), ("Cache-Control", "max-age=60")])
    for _ in range(2):
        reply = await edge.get(asset)
        assert (reply.cache, reply["X-Data-Source"]) == ("miss", "external")
    assert source.count(asset) == 2


async def test_vary_over_fields_that_are_not_forwarded_gives_one_stored_response(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Vary", "Accept-Encoding, User-Agent"), ("Cache-Control", "max-age=60")])
    await edge.get(asset, [("Accept-Encoding", "br"), ("User-Agent", "a")])
    await edge.idle()
    assert (await edge.get(asset, [("Accept-Encoding", "gzip"), ("User-Agent", "b")])).cache == "hit"


STALE = [
    pytest.param("max-age=0", True, id="no-word-on-errors"),
    pytest.param("max-age=0, stale-if-error=100", True, id="stale-if-error"),
    pytest.param("max-age=0, must-revalidate", False, id="must-revalidate"),
    pytest.param("max-age=0, proxy-revalidate", False, id="proxy-revalidate"),
    pytest.param("s-maxage=0", False, id="s-maxage"),
    pytest.param("no-cache", False, id="no-cache"),
    pytest.param("max-age=0, stale-if-error=0", False, id="stale-if-error-over"),
]


@pytest.mark.parametrize(("control", "served"), STALE)
@pytest.mark.parametrize("failure", [Fault(status=500), Fault(drop="reset")], ids=["5xx", "reset"])
async def test_stale_is_served_when_sources_err_unless_forbidden(
    control: str, served: bool, failure: Fault, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Cache-Control", control)], date=time.time() - 30)
    await fill(edge, asset)
    source.fault(asset, failure)
    reply = await edge.get(asset)
    if served:
        assert (reply.status, reply.cache) == (200, "hit")
        assert reply.body == source.assets[asset].content(asset)
    else:
        assert (reply.status, "X-Cache" in reply) == (502, False)


async def test_stale_while_revalidate_answers_at_once_and_asks_behind(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Cache-Control", "max-age=0, stale-while-revalidate=60")])
    await fill(edge, asset)
    old = source.assets[asset].content(asset)
    source.add(asset, N, version=1, headers=[("Cache-Control", "max-age=60")])
    gate = asyncio.Event()
    source.fault(asset, Fault(gate=gate), on=1)
    reply = await edge.get(asset)  # though the source does not answer
    assert (reply.cache, reply.body) == ("hit", old)
    await source.until(lambda: source.count(asset) == 2)
    gate.set()

    async def renewed() -> bool:
        return (await edge.get(asset)).body == source.assets[asset].content(asset)

    await edge.until(renewed)


@pytest.mark.parametrize("status", [404, 410])
async def test_revalidation_answered_gone_removes_what_is_stored(
    status: int, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Cache-Control", "max-age=0")])
    await fill(edge, asset)
    objects = (await edge.status())["objectsInCache"]
    source.fault(asset, Fault(status=status))
    assert (await edge.get(asset)).status == status
    assert (await edge.status())["objectsInCache"] == objects - 1


async def test_404_only_if_all_sources_say_so(start_edge: StartEdge, sources: tuple[Source, Source]) -> None:
    edge = await start_edge(*sources)
    sources[1].add("a", N)
    sources[0].fault("gone", Fault(status=410))
    sources[1].fault("gone", Fault(status=410))
    sources[0].fault("half", Fault(status=410))
    assert (await edge.get("a")).body == sources[1].assets["a"].content("a")
    assert (await edge.get("gone")).status == 410
    assert (await edge.get("half")).status == 404
    assert (await edge.get("none")).status == 404


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_content_encoding_is_kept_as_it_came(
    encoding: str, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N, headers=[("Content-Encoding", encoding)])
    for _ in range(2):
        reply = await edge.get(asset)
        assert (reply["Content-Encoding"], reply["Content-Length"]) == (encoding, str(N))
        assert reply.body == source.assets[asset].content(asset)


# --- origin.transparent ---


async def test_transparent_forwards_fields_and_relays_statuses(start_edge: StartEdge) -> None:
    async with Source() as source:
        edge = await start_edge(source, origin__transparent=True)
        source.add(
            "a", N, headers=[("Vary", "X-Mood"), ("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")]
        )
        first = await edge.get("a", [("X-Mood", "good"), ("Cookie", "no"), ("X-Forwarded-For", "no")])
        assert first["Set-Cookie"] == "a=b"
        sent = source.requests[0].headers
        assert sent["x-mood"] == "good" and not {"cookie", "x-forwarded-for"} & set(sent)
        await edge.idle()
        assert (await edge.get("a", [("X-Mood", "good")])).cache == "hit"
        assert (await edge.get("a", [("X-Mood", "bad")])).cache == "miss"
        source.fault("b", Fault(status=404, body=b"their own page", headers=[("Cache-Control", "max-age=9")]))
        for _ in range(2):
            relayed = await edge.get("b")
            assert (relayed.status, relayed.body) == (404, b"their own page")
            await edge.idle()
        assert source.count("b") == 1
        source.fault("c", Fault(status=302, headers=[("Location", "/elsewhere")]))
        assert ((await edge.get("c")).status, (await edge.get("c"))["Location"]) == (302, "/elsewhere")


@pytest.mark.parametrize(
    ("control", "stored"), [("max-age=60", False), ("public, max-age=60", True), ("s-maxage=60", True)]
)
async def test_transparent_stores_answers_to_authorization_only_where_allowed(  # RFC 9111 §3.5
    control: str, stored: bool, start_edge: StartEdge
) -> None:
    async with Source() as source:
        edge = await start_edge(source, origin__transparent=True)
        source.add("a", N, headers=[("Cache-Control", control)])
        mine = [("Authorization", "Basic eA==")]
        assert (await edge.get("a", mine)).status == 200
        await edge.idle()
        assert (await edge.get("a", mine)).cache == ("hit" if stored else "miss")
