"""The public routes: paths, methods, common fields, errors (contract §1–§3, §7)."""

from __future__ import annotations

import json
import logging
import re

import pytest

from distributor import errors
from distributor.api.errors import problem_of
from distributor.core.model import AssetRequest
from distributor.delivery.answer import Answer
from distributor.delivery.node import Command
from distributor.http.cache_status import CacheState
from distributor.ports import Usage
from tests.support.front import Front, PieceBody, whole
from tests.support.wire import Wire, ask

EXPOSED = (
    "Accept-Ranges, Age, Cache-Status, Content-Length, Content-Range, Date, ETag, Repr-Digest, "
    "Retry-After, Server-Timing, X-Cache, X-Data-Source, X-Request-Id"
)
TWO_FORMS = ["/status", "/buckets", "/assets/a"]
ROOT_ONLY = ["/healthz", "/readyz", "/metrics", "/openapi.yaml"]


@pytest.mark.parametrize("path", [*TWO_FORMS, *(f"/api/v1{p}" for p in TWO_FORMS), *ROOT_ONLY])
async def test_every_route_answers_get_head_and_options(path: str) -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        got = await wire.get(path)
        head = await wire.get(path, "HEAD")
        options = await wire.get(path, "OPTIONS")
        assert (got.status, head.status, options.status) == (200, 200, 204)
        assert head["Content-Length"] == got["Content-Length"] == str(len(got.body))
        assert options["Content-Length"] is None
        assert options["Allow"] == options["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
        assert options["Access-Control-Max-Age"] == "86400"
        assert options["Access-Control-Allow-Headers"] == (
            "Authorization, Cache-Control, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, If-Match, "
            "If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range, X-Request-Id"
        )


async def test_options_looks_nothing_up_not_even_whether_the_id_can_be_one() -> None:
    async with Front() as front, Wire(front.port) as wire:
        for path in ("/assets/a", "/assets/%00", "/assets/a//b"):
            assert (await wire.get(path, "OPTIONS")).status == 204
        assert (await wire.get("*", "OPTIONS")).status == 204
        assert not front.edge.asked


UNKNOWN = ["/", "/Status", "/status/", "/buckets/", "/assets", "/assets/", "/API/v1/status", "/api/v1"]
UNKNOWN += ["/api/v1/", "/api/v1/assets", "/api/v1/assets/", "/api/v1/healthz", "/api/v1/metrics"]
UNKNOWN += ["/objects", "//status", "/%73tatus", "/assetsx/a", "/healthz/", "/status#x"]


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PURGE"])
async def test_unknown_paths_are_404_whatever_the_method(path: str, method: str) -> None:
    async with Front() as front:
        assert (await ask(front.port, path, method)).status == 404
        assert not front.edge.asked


@pytest.mark.parametrize("path", ["/status", "/nothing", "/assets/none", "/assets/%00", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
async def test_every_answer_has_the_common_fields(path: str, method: str) -> None:
    async with Front() as front:
        reply = await ask(front.port, path, method)
        assert reply.all("Server") == ["distributor"]
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", reply["X-Request-Id"] or "")
        assert reply.all("Access-Control-Allow-Origin") == ["*"]
        assert reply["Access-Control-Expose-Headers"] == EXPOSED
        assert reply["Timing-Allow-Origin"] == "*"
        assert reply["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert "Access-Control-Allow-Credentials" not in reply
        assert len(reply.all("Date")) == 1
        if reply.status != 204:
            assert reply["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("é", False), ("", False)],
)
async def test_a_well_formed_request_id_is_kept_and_any_other_replaced(given: str, kept: bool) -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: whole(b"x")
        reply = await ask(front.port, "/assets/a", headers=[("X-Request-Id", given)])
        shown = reply["X-Request-Id"]
        assert (shown == given) is kept
        assert front.edge.asked[0].request_id == shown == front.observer.outcomes[0].request_id


async def test_status_is_made_from_memory() -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.store.current = Usage(1000, 300, 20, 5, 3, 1, 1 << 40, 0.0)
        front.edge.fetches_in_flight = 2
        body = json.loads((await wire.get("/api/v1/status?x=1")).body)
        assert isinstance(body.pop("uptime"), int)
        assert body == {
            "id": "edge-1",
            "objectsInCache": 3,
            "storageLimit": 1000,
            "storageUsed": 325,
            "downloadsInProgress": 2,
            "version": "0.1.0",
            "state": "serving",
        }
        front.node.change(Command.DRAIN)
        assert json.loads((await wire.get("/status")).body)["state"] == "draining"


async def test_readyz_says_whether_to_send_requests_here_and_healthz_that_the_process_lives() -> None:
    async with Front() as front, Wire(front.port) as wire:
        assert (await wire.get("/readyz")).body == b'{"status":"ready"}'
        front.store.healthy = False
        reply = await wire.get("/readyz")
        assert (reply.status, json.loads(reply.body)["type"]) == (503, "unavailable")
        front.store.healthy = True
        front.node.change(Command.DRAIN)
        assert (await wire.get("/readyz")).status == 503
        assert (await wire.get("/healthz")).body == b'{"status":"ok"}'


async def test_metrics_are_prometheus_text() -> None:
    async with Front() as front:
        reply = await ask(front.port, "/metrics")
        assert (reply["Content-Type"] or "").startswith("text/plain; version=0.0.4")
        assert reply.body == b"# metrics\n"


# Assets

IDS = [
    ("clip.mp4", "clip.mp4"),
    ("films/%41", "films/A"),
    ("a%20b", "a b"),
    ("%C3%A9", "é"),
    ("a/../b", 404),
    ("%2e%2E", 404),
    ("a%2Fb", 404),
    ("a%5Cb", 404),
    ("a\\b", 404),
    ("a%25b", 404),
    ("a//b", 404),
    ("a/", 404),
    ("x" * 1025, 404),
    ("x" * 9000, 404),
    ("%zz", 400),
    ("%", 400),
    ("%FF", 400),
    ("a%00", 400),
    ("%7F", 400),
    ("a#b", 400),
]


@pytest.mark.parametrize(("raw", "result"), IDS, ids=[raw[:20] for raw, _ in IDS])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_ids_are_judged_before_anything_is_asked(raw: str, result: str | int, method: str) -> None:
    async with Front() as front:
        if isinstance(result, str):
            front.edge.answers[result] = lambda _: whole(b"bytes")
            assert (await ask(front.port, f"/assets/{raw}", method)).status == 200
            assert front.edge.asked[0].asset_id == result
        else:
            assert (await ask(front.port, f"/assets/{raw}", method)).status == result
            assert not front.edge.asked


async def test_a_raw_octet_means_the_same_as_its_percent_encoded_form() -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["é"] = lambda _: whole(b"bytes")
        wire.send(b"GET /assets/\xc3\xa9 HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert (await wire.head()).status == 200
        await wire.rest()
        wire.send(b"GET /assets/\xff HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert (await wire.head()).status == 400


@pytest.mark.parametrize(("key_query", "key"), [(False, "a"), (True, "a?v=2&w=%20")])
async def test_the_query_is_part_of_the_key_only_where_the_settings_say_so(key_query: bool, key: str) -> None:
    async with Front(key_query=key_query, strip_query=frozenset({"CMCD"})) as front:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        await ask(front.port, "/api/v1/assets/a?v=2&CMCD=x&w=%20")
        assert front.edge.asked[0].key == key


async def test_the_edge_gets_the_clients_fields_as_received() -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        await ask(
            front.port, "/assets/a", headers=[("Range", "bytes=0-1"), ("RANGE", "bytes=2-3"), ("X", "é")]
        )
        asked = front.edge.asked[0]
        ranges = [value for name, value in asked.fields if name.lower() == "range"]
        assert ranges == ["bytes=0-1", "bytes=2-3"]
        assert ("X", "\xc3\xa9") in asked.fields  # an octet a character
        assert asked.method == "GET" and asked.now > 1_700_000_000


async def test_the_fields_of_an_answer_go_out_unchanged_with_server_timing() -> None:
    fields = (
        ("Content-Type", "video/mp4"),
        ("Content-Length", "5"),
        ("Date", "Sat, 21 Nov 2020 10:00:00 GMT"),
        ("X-Odd", "caf\xe9"),
        ("X-Cache", "pending"),
    )
    async with Front() as front:
        body = PieceBody(5, [b"bytes"])
        answer = Answer(200, fields, body, CacheState.PENDING, "local", source_seconds=0.25)
        front.edge.answers["a"] = lambda _: answer
        async with Wire(front.port) as wire:
            wire.send(b"GET /assets/a HTTP/1.1\r\nHost: edge\r\n\r\n")
            head = await wire.reader.readuntil(b"\r\n\r\n")
        assert b"\r\nX-Odd: caf\xe9\r\n" in head
        assert head.count(b"\r\nDate: ") == 1
        assert b"\r\nDate: Sat, 21 Nov 2020 10:00:00 GMT\r\n" in head
        timing = re.search(rb"\r\nServer-Timing: (.*)\r\n", head)
        assert timing is not None
        assert re.fullmatch(rb"cache;desc=pending, edge;dur=[0-9.]+, source;dur=250\.0", timing[1])


async def test_a_field_that_would_split_the_head_is_a_defect_of_ours_and_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Front() as front:
        body = PieceBody(1, [b"x"])
        front.edge.answers["a"] = lambda _: Answer(200, (("X", "a\r\nSet-Cookie: b"),), body, CacheState.HIT)
        with caplog.at_level(logging.CRITICAL):
            reply = await ask(front.port, "/assets/a")
        assert (reply.status, reply["Set-Cookie"]) == (500, None)
        assert body.closed


# Errors

ERRORS = [
    (errors.BadAssetId(), 400, "bad_request"),
    (errors.UnknownAsset(), 404, "not_found"),
    (errors.AssetGone(), 410, "gone"),
    (errors.PreconditionFailed(), 412, "precondition_failed"),
    (errors.RangeNotSatisfiable(77), 416, "range_not_satisfiable"),
    (errors.Misdirected(), 421, "misdirected_request"),
    (errors.EdgeError(), 500, "internal"),
    (errors.DiskFailed("read"), 500, "internal"),
    (errors.SpaceExhausted(), 500, "internal"),
    (errors.SourceUnreachable(), 502, "bad_gateway"),
    (errors.SourceProtocol(), 502, "bad_gateway"),
    (errors.BodyShort(), 502, "bad_gateway"),
    (errors.DigestMismatch(), 502, "bad_gateway"),
    (errors.VersionChanged(), 502, "bad_gateway"),
    (errors.SourceRefused(500), 502, "bad_gateway"),
    (errors.SourceRefused(503, retry_after=7), 503, "unavailable"),
    (errors.LoopDetected(), 502, "loop_detected"),
    (errors.Overloaded("full", 30), 503, "unavailable"),
    (errors.FetchCancelled(), 503, "unavailable"),
    (errors.SourceTimeout(), 504, "gateway_timeout"),
    (errors.SourceStalled(), 504, "gateway_timeout"),
    (errors.OnlyIfCached(), 504, "gateway_timeout"),
]


@pytest.mark.parametrize(("error", "status", "kind"), ERRORS, ids=[type(e).__name__ for e, _, _ in ERRORS])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_error_becomes_its_status_and_a_fixed_sentence(
    error: errors.EdgeError, status: int, kind: str, method: str
) -> None:
    error.args = ("http://10.0.0.1:8080/secret said no",)
    async with Front() as front:
        front.edge.answers["a"] = lambda _: Answer(0, error=error)
        reply = await ask(front.port, "/assets/a", method)
        assert (reply.status, reply["Content-Type"], reply["Cache-Control"]) == (
            status,
            "application/json",
            "no-store",
        )
        assert "X-Data-Source" not in reply
        if method == "GET":
            assert json.loads(reply.body) == {"type": kind, "message": problem_of(error).message}
            assert reply["Content-Length"] == str(len(reply.body))
            assert b"secret" not in reply.body
        if status == 503:
            assert reply["Retry-After"] == str(getattr(error, "retry_after", None) or 1)
        if status == 416:
            assert reply["Content-Range"] == "bytes */77"


async def test_fields_that_an_error_brings_along_are_sent_but_not_in_place_of_its_own() -> None:
    fields = (
        ("X-Cache", "hit"),
        ("Cache-Status", "edge-1; hit; ttl=5"),
        ("Content-Range", "bytes */9"),
        ("Cache-Control", "max-age=60"),
        ("Content-Type", "video/mp4"),
    )
    async with Front() as front:
        answer = Answer(0, fields, cache=CacheState.HIT, error=errors.RangeNotSatisfiable(9))
        front.edge.answers["a"] = lambda _: answer
        reply = await ask(front.port, "/assets/a")
        assert reply.all("X-Cache") == ["hit"]
        assert reply.all("Content-Range") == ["bytes */9"]
        assert reply.all("Content-Type") == ["application/json"]
        assert reply.all("Cache-Control") == ["no-store"]
        assert "Server-Timing" in reply


async def test_a_defect_is_500_with_a_traceback_in_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: AssetRequest) -> Answer:
        raise RuntimeError("internal detail")

    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = broken
        reply = await wire.get("/assets/a")
        assert (reply.status, reply.body) == (
            500,
            b'{"type":"internal","message":"The node failed to answer."}',
        )
        assert "internal detail" in caplog.text
        assert (await wire.get("/status")).status == 200
        caplog.clear()


async def test_what_clients_do_wrong_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with Front() as front:
        for octets in (
            b"\x00\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /assets/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        ):
            async with Wire(front.port) as wire:
                wire.send(octets)
                await wire.head()
        assert caplog.text == ""


def test_every_error_of_the_tree_has_a_status_that_the_contract_knows() -> None:
    known = {400, 404, 409, 410, 412, 416, 421, 500, 502, 503, 504}
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.EdgeError):
            error = kind.__new__(kind)
            error.status = 404  # type: ignore[attr-defined]
            assert problem_of(error).status in known, name
