"""Contract §3.5: the header fields of 200 and 206, equal in every state."""

from __future__ import annotations

import base64
import re
import time
from email.utils import formatdate, parsedate_to_datetime

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source
from tests.support.states import STATES, add, ask_in, fill
from tests.support.wire import range_of

N = 150_000
MAY_DIFFER = {
    "x-cache",
    "x-data-source",
    "age",
    "cache-status",
    "server-timing",
    "x-request-id",
    "connection",
}
TYPES = {
    "m3u8": "application/vnd.apple.mpegurl",
    "mpd": "application/dash+xml",
    "ts": "video/mp2t",
    "m4s": "video/iso.segment",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "cmfv": "video/mp4",
    "m4a": "audio/mp4",
    "cmfa": "audio/mp4",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mxf": "application/mxf",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "vtt": "text/vtt",
    "ttml": "application/ttml+xml",
    "srt": "application/x-subrip",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "svg": "image/svg+xml",
    "json": "application/json",
    "MP4": "video/mp4",
    "unheard-of": "application/octet-stream",
}


def comparable(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((n.lower(), v) for n, v in headers if n.lower() not in MAY_DIFFER)


@pytest.mark.parametrize("headers", [[], range_of(5, 99)], ids=["200", "206"])
async def test_miss_pending_and_hit_have_the_same_fields(
    headers: list[tuple[str, str]], edge: Edge, source: Source, asset: str
) -> None:
    answers = {}
    now = int(time.time()) - 1
    for state in ("miss", "pending", "hit"):
        one = f"{state}/{asset}"
        add(
            source,
            one,
            state,
            N,
            etag='"same"',
            digest=False,
            date=now,
            headers=[("X-Unheard-Of", "kept; as=it is"), ("Vary", "Accept-Language"), ("Link", "<a>, <b>")],
        )
        reply = await ask_in(state, edge, source, one, headers)
        assert reply.status == (206 if headers else 200)
        answers[state] = comparable([f for f in reply.headers if f[0].lower() != "repr-digest"])
    assert answers["miss"] == answers["pending"] == answers["hit"]
    names = {name for name, _ in answers["hit"]}
    assert {"x-unheard-of", "vary", "link", "etag", "last-modified", "date", "content-length", "via"} <= names


@pytest.mark.parametrize("state", STATES)
async def test_206_has_every_field_of_the_200(state: str, edge: Edge, source: Source, asset: str) -> None:
    for name in ("whole", "part"):
        add(source, f"{name}/{asset}", state, N, digest=True, date=int(time.time()) - 2)
    whole = await ask_in(state, edge, source, f"whole/{asset}")
    part = await ask_in(state, edge, source, f"part/{asset}", headers=range_of(0, 9))
    assert whole.names - {"content-length", "content-range"} == part.names - {
        "content-length",
        "content-range",
    }


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("tag", ["strong", "weak", '"with \u00fc, comma"'])
async def test_entity_tag_is_the_sources_byte_for_byte(
    state: str, tag: str, edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, state, N, etag=tag)
    reply = await ask_in(state, edge, source, asset)
    assert reply["ETag"] == source.assets[asset].entity_tag()


@pytest.mark.parametrize("state", ["miss", "pending", "hit"])
async def test_entity_tag_is_made_of_the_sources_digest_where_it_sent_none(
    state: str, edge: Edge, source: Source, asset: str
) -> None:
    made = add(source, asset, state, N, etag="none", digest=True)
    reply = await ask_in(state, edge, source, asset)
    assert reply["ETag"] == f'"sha256-{made.sha256(asset).hex()}"'
    assert reply["Repr-Digest"] == f"sha-256=:{base64.b64encode(made.sha256(asset)).decode()}:"


async def test_entity_tag_and_digest_are_this_nodes_own_once_complete(
    edge: Edge, source: Source, asset: str
) -> None:
    made = add(source, asset, "hit", N, etag="none")
    await fill(edge, asset)
    reply = await edge.get(asset)
    assert reply["ETag"] == f'"sha256-{made.sha256(asset).hex()}"'
    assert reply["Repr-Digest"] == f"sha-256=:{base64.b64encode(made.sha256(asset)).decode()}:"


async def test_content_length_is_given_on_a_miss_and_chunks_only_where_the_source_gave_none(
    edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, N)
    source.add(f"chunked/{asset}", N, framing="chunked")
    source.add(f"close/{asset}", N, framing="close")
    assert (await edge.get(asset))["Content-Length"] == str(N)
    for name in ("chunked", "close"):
        one = f"{name}/{asset}"
        reply = await edge.get(one)
        assert (reply["Transfer-Encoding"], "Content-Length" in reply) == ("chunked", False)
        assert (reply.end, reply.body) == ("complete", source.assets[one].content(one))
        await edge.settled(one)
        assert (await edge.get(one))["Content-Length"] == str(N)


async def test_last_modified_later_than_date_is_that_date(edge: Edge, source: Source, asset: str) -> None:
    now = int(time.time())
    source.add(asset, N, date=float(now), last_modified=now + 3600)
    assert (await edge.get(asset))["Last-Modified"] == formatdate(now, usegmt=True)


async def test_date_is_the_sources_and_not_renewed_on_a_hit(edge: Edge, source: Source, asset: str) -> None:
    then = int(time.time()) - 100
    add(source, asset, "hit", N, date=float(then))
    await fill(edge, asset)
    reply = await edge.get(asset)
    assert (reply.cache, reply["Date"]) == ("hit", formatdate(then, usegmt=True))
    assert 100 <= int(reply["Age"] or "") <= 110


async def test_date_is_the_time_of_receipt_where_the_source_sent_none(
    edge: Edge, source: Source, asset: str
) -> None:
    before = int(time.time())
    source.add(asset, N, date=False)
    reply = await edge.get(asset)
    assert before <= parsedate_to_datetime(reply["Date"] or "").timestamp() <= time.time()


async def test_age_is_on_a_miss_only_if_the_source_sent_one(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "hit", N)
    assert "Age" not in await edge.get(asset)
    one = f"aged/{asset}"
    add(source, one, "hit", N, headers=[("Age", "30")])
    assert int((await edge.get(one))["Age"] or "") in (30, 31, 32)
    await edge.idle()
    assert int((await edge.get(one))["Age"] or "") in (30, 31, 32, 33)


async def test_pending_has_an_age(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "pending", N)
    assert re.fullmatch(r"\d+", (await ask_in("pending", edge, source, asset))["Age"] or "")


@pytest.mark.parametrize("ending", TYPES)
async def test_content_type_comes_from_the_extension(
    ending: str, edge: Edge, source: Source, asset: str
) -> None:
    one = f"{asset}.{ending}"
    source.add(one, 10)
    assert (await edge.get(one))["Content-Type"] == TYPES[ending]


@pytest.mark.parametrize("state", STATES)
async def test_content_type_and_disposition_of_the_source_win(
    state: str, edge: Edge, source: Source, asset: str
) -> None:
    add(
        source,
        asset,
        state,
        N,
        content_type="text/x-odd; charset=utf-8",
        headers=[("Content-Disposition", 'attachment; filename="a"')],
    )
    reply = await ask_in(state, edge, source, asset)
    assert reply["Content-Type"] == "text/x-odd; charset=utf-8"
    assert reply["Content-Disposition"] == 'attachment; filename="a"'


@pytest.mark.parametrize("state", STATES)
async def test_fields_every_answer_has(state: str, edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset, [("X-Request-Id", "my.id_1-2")])
    assert reply["Accept-Ranges"] == "bytes"
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert reply["Content-Disposition"] == "inline"
    assert reply["Server"] == "distributor"
    assert reply["X-Request-Id"] == "my.id_1-2"
    assert (reply["Via"] or "").endswith("1.1 edge-1")
    assert "edge;dur=" in (reply["Server-Timing"] or "")
    assert f"cache;desc={reply.cache}" in (reply["Server-Timing"] or "")
    assert reply["Access-Control-Allow-Origin"] == "*"
    if state in ("miss", "external", "revalidated"):
        assert "source;dur=" in (reply["Server-Timing"] or "")


async def test_accept_ranges_is_none_only_on_pass_through_from_a_source_without_ranges(
    edge: Edge, source: Source, asset: str
) -> None:
    add(source, asset, "external", N, ranges=False, headers=[("Accept-Ranges", "none")])
    assert (await edge.get(asset))["Accept-Ranges"] == "none"
    one = f"stored/{asset}"
    add(source, one, "hit", N, ranges=False, headers=[("Accept-Ranges", "none")])
    await edge.get(one)
    await edge.idle()
    assert (await edge.get(one))["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("state", STATES)
async def test_freshness_fields_are_the_sources_and_none_is_invented(
    state: str, edge: Edge, source: Source, asset: str
) -> None:
    sent = [
        ("CDN-Cache-Control", 'max-age=61, x="y"'),
        ("Expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
    ]
    if state not in ("external", "revalidated"):
        add(source, asset, state, N, headers=sent)
        reply = await ask_in(state, edge, source, asset)
        assert [reply[name] for name, _ in sent] == [value for _, value in sent]
    one = f"silent/{asset}"
    source.add(one, N)
    bare = await edge.get(one)
    assert not {"cache-control", "expires", "cdn-cache-control", "vary", "pragma"} & bare.names


async def test_fields_of_a_hop_and_of_an_upstream_cache_are_not_sent_on(
    edge: Edge, source: Source, asset: str
) -> None:
    drop = [
        ("Set-Cookie", "a=b"),
        ("X-Powered-By", "PHP"),
        ("Alt-Svc", 'h3=":443"'),
        ("Access-Control-Allow-Credentials", "true"),
        ("X-Cache", "HIT"),
        ("X-Data-Source", "mars"),
        ("X-Request-Id", "theirs"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("X-Named", "by Connection"),
        ("Connection", "X-Named"),
        ("Server", "nginx/1.2.3"),
    ]
    source.add(asset, N, headers=[*drop, ("X-Kept", "1")])
    for _ in range(2):
        reply = await edge.get(asset)
        assert reply["X-Kept"] == "1"
        assert not {
            "set-cookie",
            "x-powered-by",
            "alt-svc",
            "keep-alive",
            "proxy-authenticate",
            "x-named",
        } & (reply.names)
        assert "access-control-allow-credentials" not in reply.names
        assert reply.all("Server") == ["distributor"]
        assert reply["X-Cache"] in ("miss", "pending", "hit")
        assert reply["X-Data-Source"] == "local"
        assert reply["X-Request-Id"] != "theirs"


# --- Cache-Status (RFC 9211) ---


@pytest.mark.parametrize(
    ("state", "pattern"),
    [
        ("hit", r"edge-1; hit; ttl=(59\d|600)"),
        ("pending", r"edge-1; fwd=uri-miss; collapsed"),
        ("miss", r"edge-1; fwd=uri-miss; fwd-status=200; stored"),
        ("external", r"edge-1; fwd=uri-miss; fwd-status=200; detail=not-storable"),
        ("revalidated", r"edge-1; fwd=stale; fwd-status=304"),
    ],
)
async def test_cache_status(state: str, pattern: str, edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, state, N)
    reply = await ask_in(state, edge, source, asset)
    assert re.fullmatch(pattern, reply["Cache-Status"] or ""), reply["Cache-Status"]


async def test_cache_status_of_another_version(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "revalidated", N)
    await fill(edge, asset)
    add(source, asset, "revalidated", N, version=1)
    assert (await edge.get(asset))["Cache-Status"] == "edge-1; fwd=stale; fwd-status=200; stored"


async def test_cache_status_of_stale_served(edge: Edge, source: Source, asset: str) -> None:
    add(source, asset, "revalidated", N)
    await fill(edge, asset)
    source.fault(asset, Fault(status=503))
    reply = await edge.get(asset)
    assert (reply.status, reply.cache) == (200, "hit")
    assert re.fullmatch(r"edge-1; hit; ttl=-\d+", reply["Cache-Status"] or ""), reply["Cache-Status"]


async def test_cache_status_of_a_remembered_404(edge: Edge, asset: str) -> None:
    await edge.get(asset)
    reply = await edge.get(asset)
    assert reply.status == 404
    assert re.fullmatch(r"edge-1; hit; ttl=\d+; detail=negative", reply["Cache-Status"] or "")


async def test_cache_status_and_via_of_a_source_stay_in_front(start_edge: StartEdge) -> None:
    async with Source() as source:
        shield = await start_edge(source, id="shield")
        edge = await start_edge(f"{shield.url}/assets/{{id}}", id="front")
        add(source, "a.mp4", "hit", N, headers=[("Via", "1.1 far"), ("Cache-Status", "far; hit")])
        reply = await edge.get("a.mp4")
        assert reply["Via"] == "1.1 far, 1.1 shield, 1.1 front"
        members = (reply["Cache-Status"] or "").split(", ")
        assert [m.split(";")[0] for m in members] == ["far", "shield", "front"]
        assert reply.body == source.assets["a.mp4"].content("a.mp4")
        (seen,) = source.seen("a.mp4")
        assert seen.headers["cdn-loop"] == "front, shield"
        assert seen.headers["via"] == "1.1 front, 1.1 shield"
