"""The audit log: one record for each request that changed something, whatever dialect it spoke."""

from __future__ import annotations

import base64

from tests.support.nodeum import READER, WRITER, Client
from tests.support.origin_service import basic

AUDIT = "/api/v2/audit"


async def test_changes_of_every_dialect_are_recorded_with_who_what_and_when(client: Client) -> None:
    await client.add_users()
    made = await client("POST", "/api/v2/tasks", {"name": "t", "workflow_action": "scan"}, user=WRITER)
    put = await client.service(
        "PUT", "/content/media/x.mov", body=b"bytes", headers={"Authorization": basic(*WRITER)}, user=None
    )
    assert put.status == 201
    await client("PUT", "/API/storage/VX-1/file/VX-1/state/CLOSED")
    value = await client.get(AUDIT)
    newest = value["changes"][-2:][::-1] if value["count"] == 2 else value["changes"]
    assert {(c["user"], c["method"], c["dialect"]) for c in newest} >= {
        ("maria", "POST", "nodeum"),
        ("maria", "PUT", "content"),
    }
    ids = [c["id"] for c in value["changes"]]
    assert ids == sorted(ids, reverse=True)
    (task,) = [c for c in value["changes"] if c["path"] == "/api/v2/tasks"]
    assert task["request_id"] == made.headers["X-Request-Id"]
    assert task["at"].endswith("Z") and task["address"] == "127.0.0.1" and task["api_key_id"] is None


async def test_what_changes_nothing_is_not_recorded(client: Client) -> None:
    await client.add_users()
    await client.get("/api/v2/files")
    await client("POST", "/api/v2/tasks", {}, user=WRITER)
    await client("POST", "/api/v2/pools", {"name": "x", "content": "nas"}, user=READER)
    await client("POST", "/api/v2/pools", {"name": "media", "content": "nas"})
    bad = base64.b64encode(b"admin:wrong").decode()
    await client("DELETE", "/api/v2/tasks/1", Authorization=f"Basic {bad}")
    assert await client.get(AUDIT) == {"count": 0, "changes": []}


async def test_a_token_is_named_and_lists_are_filtered_and_paged(client: Client) -> None:
    scopes = [{"controller": "tasks", "action": "*"}]
    key = (await client("POST", "/api/v2/users/me/api_keys", {"api_key_scopes": scopes})).json
    for name in ("a", "b", "c"):
        body = {"name": name, "workflow_action": "scan"}
        assert (await client("POST", "/api/v2/tasks", body, Authorization=key["key"])).status == 201
    assert key["key"] not in (await client("GET", AUDIT)).body.decode()
    mine = await client("GET", f"{AUDIT}?api_key_id={key['id']}&per_page=2&page=2")
    assert (mine.json["count"], len(mine.json["changes"])) == (3, 1)
    assert mine.headers["X-Total-Pages"] == "2"
    assert (await client.get(f"{AUDIT}?path=~%25api_keys"))["count"] == 1
    assert (await client.get(f"{AUDIT}?user=!=admin"))["count"] == 0


async def test_only_administrators_read_it_and_nobody_changes_it(client: Client) -> None:
    await client.add_users()
    assert (await client("GET", AUDIT, user=WRITER)).status == 403
    assert (await client("GET", AUDIT, user=None)).status == 401
    for method in ("POST", "PUT", "DELETE"):
        assert (await client(method, AUDIT)).status == 405
