"""The operator API (contract §8), over a real socket and a store in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from distributor.delivery.node import NodeState
from distributor.errors import SourceUnreachable
from tests.support.front import OperatorFront
from tests.support.wire import Wire, ask

ROUTES = [
    ("POST", "/stop-api"),
    ("POST", "/start-api"),
    ("POST", "/drain"),
    ("POST", "/shutdown"),
    ("POST", "/set-worker"),
    ("POST", "/set-buckets"),
    ("GET", "/status"),
    ("GET", "/buckets"),
    ("GET", "/objects"),
    ("GET", "/objects/a"),
    ("DELETE", "/objects/a"),
    ("POST", "/purge"),
    ("POST", "/prefetch"),
    ("POST", "/verify"),
    ("GET", "/jobs"),
    ("GET", "/jobs/1"),
    ("DELETE", "/jobs/1"),
    ("GET", "/no-such-path"),
    ("PUT", "/status"),
]


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        (None, 'Bearer realm="distributor"'),
        ("Bearer wrong", 'Bearer realm="distributor", error="invalid_token"'),
        ("Basic s3cret-token", 'Bearer realm="distributor", error="invalid_token"'),
        ("Bearer s3cret-tokenX", 'Bearer realm="distributor", error="invalid_token"'),
        ("Bearer é", 'Bearer realm="distributor", error="invalid_token"'),
        ("Bearer", 'Bearer realm="distributor", error="invalid_token"'),
    ],
)
async def test_without_the_token_no_path_tells_whether_it_exists(
    authorization: str | None, challenge: str
) -> None:
    headers = [] if authorization is None else [("Authorization", authorization)]
    async with OperatorFront() as front, Wire(front.port) as wire:
        for method, path in ROUTES:
            reply = await wire.get(f"/api/v1{path}", method, headers)
            assert (reply.status, reply["WWW-Authenticate"]) == (401, challenge), path
            assert json.loads(reply.body)["type"] == "unauthorized"
        assert front.node.state is NodeState.SERVING


async def test_the_scheme_is_case_insensitive_and_two_authorization_fields_are_none() -> None:
    async with OperatorFront() as front:
        one = ("Authorization", f"bEARER {front.TOKEN}")
        assert (await ask(front.port, "/api/v1/status", headers=[one])).status == 200
        assert (await ask(front.port, "/api/v1/status", headers=[one, one])).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/stop-api", 405, "POST"),
        ("OPTIONS", "/status", 405, "GET, HEAD"),
        ("POST", "/objects/a", 405, "DELETE, GET, HEAD"),
        ("PURGE", "/jobs", 405, "GET, HEAD"),
        ("POST", "/jobs/1", 405, "DELETE, GET, HEAD"),
        ("GET", "/objects/", 404, None),
        ("GET", "/jobs/", 404, None),
        ("GET", "/status/", 404, None),
        ("GET", "/assets/a", 404, None),
    ],
)
async def test_paths_and_methods(method: str, path: str, status: int, allow: str | None) -> None:
    async with OperatorFront() as front:
        await front.call(method, path)
        assert (front.reply.status, front.reply["Allow"]) == (status, allow)
        assert "Access-Control-Allow-Origin" not in front.reply


async def test_the_prefix_is_required_and_head_stands_wherever_get_does() -> None:
    async with OperatorFront() as front, Wire(front.port) as wire:
        token = [("Authorization", f"Bearer {front.TOKEN}")]
        assert (await wire.get("/status", headers=token)).status == 404
        for path in ("/status", "/buckets", "/objects", "/jobs"):
            reply = await wire.get(f"/api/v1{path}", "HEAD", token)
            assert reply.status == 200 and int(reply["Content-Length"] or 0) > 0


# State


async def test_commands_move_the_node_and_refuse_what_does_not_fit() -> None:
    async with OperatorFront() as front:
        for path, status, state in [
            ("/start-api", 409, None),
            ("/drain", 200, "draining"),
            ("/drain", 409, None),
            ("/start-api", 200, "serving"),
            ("/stop-api", 200, "stopped"),
            ("/stop-api", 409, None),
            ("/drain", 409, None),
            ("/start-api", 200, "serving"),
            ("/shutdown", 200, "stopping"),
            ("/shutdown", 409, None),
            ("/start-api", 409, None),
            ("/stop-api", 409, None),
        ]:
            got, body = await front.call("POST", path)
            assert got == status, path
            if state is None:
                assert body == {
                    "type": "conflict",
                    "message": "The node's present state does not allow this.",
                }
            else:
                assert body == {"state": state}
                assert (await front.call("GET", "/status"))[1]["state"] == state


async def test_buckets_and_worker_are_in_force_at_once_and_negatives_forgotten() -> None:
    async with OperatorFront() as front:
        assert await front.call("GET", "/buckets") == (200, {"allByWorkerId": 0})
        assert await front.call("POST", "/set-worker", {"workerId": 7}) == (200, {"workerId": 7})
        assert await front.call("GET", "/buckets") == (200, {"allByWorkerId": 7})
        wanted = {"buckets": ["b", "a:1"]}
        assert await front.call("POST", "/set-buckets", wanted) == (200, {"bucketIds": ["b", "a:1"]})
        assert not front.node.distributes("default") and front.node.distributes("a:1")
        assert front.edge.forgotten == 1
        assert await front.call("POST", "/set-buckets", {}) == (200, {"allByWorkerId": 7})
        assert front.node.distributes("default")


# Bodies

WRONG: list[tuple[str, object]] = [
    ("/set-worker", {}),
    ("/set-worker", {"workerId": -1}),
    ("/set-worker", {"workerId": "1"}),
    ("/set-worker", {"workerId": 1.5}),
    ("/set-worker", {"workerId": True}),
    ("/set-worker", {"workerId": 1, "more": 1}),
    ("/set-worker", [1]),
    ("/set-buckets", {"buckets": []}),
    ("/set-buckets", {"buckets": None}),
    ("/set-buckets", {"buckets": "a"}),
    ("/set-buckets", {"buckets": ["a b"]}),
    ("/set-buckets", {"buckets": ["a\n"]}),
    ("/set-buckets", {"buckets": ["a", "a"]}),
    ("/set-buckets", {"bucket": ["a"]}),
    ("/purge", {}),
    ("/purge", {"soft": True}),
    ("/purge", {"ids": ["a"], "prefix": "a"}),
    ("/purge", {"prefix": ""}),
    ("/purge", {"ids": ["a"] * 1001}),
    ("/purge", {"ids": ["a"], "soft": 1}),
    ("/prefetch", {}),
    ("/prefetch", {"ids": "a"}),
    ("/prefetch", {"ids": ["a"] * 1001}),
    ("/verify", {"ids": ["a"], "prefix": "a"}),
    ("/verify", {"all": True}),
    ("/drain", {"now": True}),
]


@pytest.mark.parametrize(("path", "document"), WRONG, ids=[f"{p} {str(d)[:30]}" for p, d in WRONG])
async def test_a_body_that_is_not_exactly_what_is_taken_is_400_and_does_nothing(
    path: str, document: object
) -> None:
    async with OperatorFront() as front:
        status, body = await front.call("POST", path, document)
        assert (status, body["type"]) == (400, "bad_request")
        assert front.node.state is NodeState.SERVING and front.node.buckets is None
        assert not front.edge.purges and not front.jobs.list()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"nul", b"[" * 100_000])
async def test_what_is_no_json_is_400(body: bytes) -> None:
    async with OperatorFront() as front:
        json_type = [("Content-Type", "application/json; charset=utf-8")]
        assert (await front.call("POST", "/set-worker", body=body, headers=json_type))[0] == 400


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", None]
)
async def test_another_media_type_is_415(media: str | None) -> None:
    async with OperatorFront() as front:
        headers = [] if media is None else [("Content-Type", media)]
        status, body = await front.call("POST", "/set-worker", body=b'{"workerId":1}', headers=headers)
        assert (status, body["type"]) == (415, "unsupported_media_type")


async def test_a_body_past_one_mebibyte_is_413_however_it_is_framed() -> None:
    async with OperatorFront() as front:
        headers = [("Content-Type", "application/json")]
        large = b'{"ids":["' + b"x" * (1 << 20) + b'"]}'
        status, body = await front.call("POST", "/purge", body=large, headers=headers)
        assert (status, body["type"]) == (413, "payload_too_large")
        async with Wire(front.port) as wire:
            wire.send(
                b"POST /api/v1/purge HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\nAuthorization: Bearer " + front.TOKEN.encode() + b"\r\n\r\n"
            )
            for _ in range(5):
                wire.send(b"40000\r\n" + b"x" * 0x40000 + b"\r\n")
            assert (await wire.head()).status == 413


async def test_a_chunked_body_is_read_and_100_continue_sent_where_it_is_expected() -> None:
    async with OperatorFront() as front, Wire(front.port) as wire:
        head = (
            b"POST /api/v1/set-worker HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + front.TOKEN.encode() + b"\r\n"
        )
        wire.send(head + b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"w\r\nb\r\norkerId":5}\r\n0\r\n\r\n')
        await wire.head()
        assert json.loads((await wire.rest()).body) == {"workerId": 5}
    async with OperatorFront() as front, Wire(front.port) as wire:
        wire.send(head + b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b'{"workerId":6}')
        await wire.head()
        assert json.loads((await wire.rest()).body) == {"workerId": 6}


# Objects


async def test_an_object_is_described_in_full() -> None:
    async with OperatorFront() as front:
        await front.put("films/a b.mp4", b"x" * 10_000, bucket="archive")
        status, found = await front.call("GET", "/objects/films/a%20b.mp4")
        assert status == 200
        assert found["createdAt"].endswith("Z") and found["lastUsedAt"].endswith("Z")
        del found["createdAt"], found["lastUsedAt"]
        assert found.pop("expiresIn") in (59, 60)
        assert found == {
            "id": "films/a b.mp4",
            "bucket": "archive",
            "size": 10_000,
            "stored": 10_000,
            "state": "complete",
            "stale": False,
            "contentType": "video/mp4",
            "etag": '"v1"',
            "sha256": hashlib.sha256(b"x" * 10_000).hexdigest(),
            "hits": 0,
            "age": 0,
        }


@pytest.mark.parametrize(
    ("path", "status"), [("/objects/none", 404), ("/objects/a%2Fb", 404), ("/objects/%00", 400)]
)
async def test_objects_that_cannot_be_named_or_are_not_stored(path: str, status: int) -> None:
    async with OperatorFront() as front:
        assert (await front.call("GET", path))[0] == status
        assert (await front.call("DELETE", path))[0] == status


async def test_pages_list_every_object_exactly_once_though_others_come_and_go() -> None:
    async with OperatorFront() as front:
        names = [f"a{number:03}" for number in range(25)]
        for name in names:
            await front.put(name, b"x" * 100)
        seen: list[str] = []
        path = "/objects?limit=10"
        while True:
            _, body = await front.call("GET", path)
            seen += [found["id"] for found in body["objects"]]
            if body["nextCursor"] is None:
                break
            await front.put(f"a000-{len(seen)}", b"x")
            path = f"/objects?limit=10&cursor={body['nextCursor']}"
        assert [name for name in seen if name in names] == names


async def test_filters_narrow_a_listing_and_the_last_page_has_no_cursor() -> None:
    async with OperatorFront() as front:
        await front.put("a/1", b"x" * 10)
        await front.put("a/2", b"x" * 8192, complete=False)
        await front.put("b/1", b"x" * 10, bucket="archive")

        async def ids(query: str) -> list[str]:
            _, body = await front.call("GET", f"/objects?{query}")
            return [found["id"] for found in body["objects"]]

        assert await ids("prefix=a/") == ["a/1", "a/2"]
        assert await ids("prefix=a/&state=complete") == ["a/1"]
        assert await ids("state=partial") == ["a/2"]
        assert await ids("bucket=archive") == ["b/1"]
        assert await ids("bucket=none") == []
        assert await ids("unknown=1") == ["a/1", "a/2", "b/1"]
        _, body = await front.call("GET", "/objects?limit=3")
        assert body["nextCursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "limit=",
        "cursor=x",
        "cursor=AAAAAAAA",
        "cursor=",
        "state=gone",
        "limit=1&limit=2",
    ],
)
async def test_bad_parameters_of_a_listing_are_400(query: str) -> None:
    async with OperatorFront() as front:
        assert (await front.call("GET", f"/objects?{query}"))[0] == 400


async def test_purges_reach_the_edge_as_they_were_asked_for() -> None:
    async with OperatorFront() as front:
        front.edge.purged = (2, 300)
        for document, call in [
            ({"ids": ["a", "b"]}, {"ids": ["a", "b"], "soft": False}),
            ({"prefix": "x/", "soft": True}, {"prefix": "x/", "soft": True}),
            ({"bucket": "archive"}, {"bucket": "archive", "soft": False}),
        ]:
            assert await front.call("POST", "/purge", document) == (200, {"purged": 2, "bytes": 300})
            assert front.edge.purges[-1] == call
        assert (await front.call("DELETE", "/objects/a?soft=true"))[0] == 200
        assert front.edge.purges[-1] == {"ids": ["a"], "soft": True}
        assert (await front.call("DELETE", "/objects/a?soft=maybe"))[0] == 400
        front.edge.purged = (0, 0)
        assert (await front.call("DELETE", "/objects/a"))[0] == 404


# Jobs


async def ended(front: OperatorFront, job: dict[str, Any]) -> dict[str, Any]:
    while job["finishedAt"] is None:
        await asyncio.sleep(0.005)
        _, job = await front.call("GET", f"/jobs/{job['id']}")
    return job


async def test_a_prefetch_is_a_job_that_can_be_followed() -> None:
    async with OperatorFront() as front:

        async def fetch(asset_id: str) -> None:
            if asset_id == "bad":
                raise SourceUnreachable

        front.edge.prefetch_answer = fetch
        status, job = await front.call("POST", "/prefetch", {"ids": ["one", "bad", "three"]})
        assert (status, front.reply["Location"]) == (202, f"/api/v1/jobs/{job['id']}")
        job = await ended(front, job)
        assert (job["kind"], job["state"], job["total"], job["done"], job["failed"], job["bytes"]) == (
            "prefetch",
            "done",
            3,
            3,
            1,
            8,
        )
        assert job["errors"] == [
            {"id": "bad", "type": "bad_gateway", "message": "The source did not give the object."}
        ]
        assert sorted(front.edge.prefetched) == ["one", "three"]
        assert (await front.call("GET", "/jobs"))[1]["jobs"] == [job]
        assert (await front.call("DELETE", f"/jobs/{job['id']}"))[0] == 409
        assert (await front.call("GET", "/jobs/none"))[0] == 404


async def test_a_job_can_be_cancelled() -> None:
    async with OperatorFront() as front:

        async def never(_: str) -> None:
            await asyncio.Event().wait()

        front.edge.prefetch_answer = never
        _, running = await front.call("POST", "/prefetch", {"ids": ["a"]})
        _, queued = await front.call("POST", "/prefetch", {"ids": ["b"]})
        assert (await front.call("GET", f"/jobs/{queued['id']}"))[1]["state"] == "queued"
        for job in (running, queued):
            status, body = await front.call("DELETE", f"/jobs/{job['id']}")
            assert (status, body["state"]) == (200, "cancelled")
            assert body["finishedAt"] is not None


async def test_no_prefetch_is_begun_while_draining() -> None:
    async with OperatorFront() as front:
        await front.call("POST", "/drain")
        assert (await front.call("POST", "/prefetch", {"ids": ["a"]}))[0] == 409


async def test_verify_finds_what_was_altered_and_removes_it() -> None:
    async with OperatorFront() as front:
        await front.put("good", b"x" * 10_000)
        await front.put("bad", b"y" * 10_000)
        await front.put("part", b"z" * 10_000, complete=False)
        front.memory.damage("bad", 5000)
        status, job = await front.call("POST", "/verify", {})
        assert status == 202
        job = await ended(front, job)
        assert (job["state"], job["total"], job["done"], job["failed"], job["bytes"]) == (
            "done",
            2,
            2,
            1,
            20_000,
        )
        assert [(error["id"], error["type"]) for error in job["errors"]] == [("bad", "corrupt")]
        assert front.memory.get("bad") is None and front.memory.get("good") is not None
        _, job = await front.call("POST", "/verify", {"ids": ["good", "none"]})
        job = await ended(front, job)
        assert (job["total"], job["done"], job["failed"]) == (2, 2, 1)
        assert job["errors"][0]["type"] == "not_found"


async def test_one_verify_runs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OperatorFront() as front:
        gate = asyncio.Event()

        async def held(_: int) -> None:
            await gate.wait()

        monkeypatch.setattr(front.jobs, "_pace", held)
        await front.put("a", b"x" * 100)
        _, job = await front.call("POST", "/verify", {"prefix": "a"})
        assert (await front.call("POST", "/verify", {}))[0] == 409
        gate.set()
        assert (await ended(front, job))["state"] == "done"
        assert (await front.call("POST", "/verify", {}))[0] == 202
