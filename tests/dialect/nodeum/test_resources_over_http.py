"""Files, pools, tapes and API keys: shapes and statuses, each over a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.nodeum import READER, WRITER, Client
from tests.support.origin_service import PASSWORD

on_shared = pytest.mark.asyncio(loop_scope="module")


async def test_folders_lead_from_the_root_to_a_file_and_back(client: Client) -> None:
    n = await client.put_file("media/a/b%20c/x.mov", b"12345")
    roots = await client.get("/api/v2/files")
    assert roots["count"] == 3
    assert [(f["name"], f["type"], f["parent"]) for f in roots["files"]] == [
        ("media", "folder", None),
        ("archive", "folder", None),
        ("secret", "folder", None),
    ]
    folder = roots["files"][0]
    for name in ("a", "b c"):
        inner = await client.get(f"/api/v2/files/{folder['id']}/children")
        assert (inner["count"], inner["files"][0]["name"]) == (1, name)
        assert inner["files"][0]["parent"] == folder["id"]
        folder = inner["files"][0]
    (listed,) = (await client.get(f"/api/v2/files/{folder['id']}/children"))["files"]
    single = await client.get(f"/api/v2/files/{n}")
    assert {k: v for k, v in single.items() if k in listed} == listed
    assert (listed["id"], listed["size"], listed["in_cache"], listed["offline"]) == (n, 5, 1, 0)
    assert single["file_path"] == "/media/a/b c/x.mov"
    assert [one["name"] for one in single["locations"]] == ["media"]
    assert (await client("GET", f"/api/v2/files/{n}/children")).status == 404
    assert (await client.get(f"/api/v2/pools/media/files/{n}"))["id"] == n
    assert (await client("GET", f"/api/v2/pools/archive/files/{n}")).status == 404
    top = await client.get("/api/v2/pools/1/files")
    assert [f["name"] for f in top["files"]] == ["a"]


async def test_children_are_folders_first_filtered_sorted_and_paged(client: Client) -> None:
    for name in ("media/b.mov", "media/a.ari", "media/sub/x.mov", "media/c.mov"):
        await client.put_file(name, name.encode())

    async def children(query: str = "") -> list[str]:
        return [f["name"] for f in (await client.get(f"/api/v2/pools/media/files?{query}"))["files"]]

    assert await children() == ["sub", "a.ari", "b.mov", "c.mov"]
    assert await children("type=file&sort_by=name%3Adesc") == ["c.mov", "b.mov", "a.ari"]
    assert await children("name=~%25.MOV") == ["b.mov", "c.mov"]
    assert await children("name=!~%25.mov") == ["sub", "a.ari"]
    assert await children("name=><a.ari|sub") == ["sub", "a.ari"]
    assert await children("size=>0") == ["a.ari", "b.mov", "c.mov"]
    assert await children("size=1") == []
    assert await children("modification_date=>2020-01-01&type=file&limit=1&offset=1") == ["b.mov"]
    assert await children("per_page=3&page=2") == ["c.mov"]
    assert await children("uid=5") == []
    for bad in ("sort_by=color", "size=big", "page=0", "limit=0", "offset=-1", "page=x"):
        answer = await client("GET", f"/api/v2/pools/media/files?{bad}")
        assert answer.status == 400, bad


async def test_paging_headers_are_those_of_the_table(client: Client) -> None:
    for i in range(5):
        await client.put_file(f"media/{i}.mov", b"%d" % i)
    first = await client("GET", "/api/v2/pools/media/files?per_page=2&type=file")
    assert first.headers["X-Prev-Page"] == "" and first.headers["X-Next-Page"] == "2"
    last = await client("GET", "/api/v2/pools/media/files?limit=2&offset=4")
    assert (last.headers["X-Page"], last.headers["X-Next-Page"]) == ("3", "")
    assert 'rel="next"' not in last.headers["Link"]
    assert '</api/v2/pools/media/files?limit=2&offset=2>; rel="prev"' in last.headers["Link"]
    past = await client("GET", f"/api/v2/pools/media/files?page={10**30}")
    assert (past.status, past.json) == (200, {"count": 5, "files": []})
    assert past.headers["X-Total"] == "5"
    cut = await client("GET", "/api/v2/pools/media/files?per_page=1000")
    assert cut.headers["X-Per-Page"] == "100"
    empty = await client("GET", "/api/v2/tasks")
    assert (empty.headers["X-Total"], empty.headers["X-Total-Pages"]) == ("0", "0")


async def test_a_pool_is_made_changed_used_and_removed(client: Client) -> None:
    made = await client("POST", "/api/v2/pools", {"name": "LTO/1", "content": "tape", "colour": "red"})
    assert made.status == 201
    assert made.headers["Location"] == "/api/v2/pools/4"
    uri = made.json["uri"]
    assert made.json == {
        "id": 4,
        "name": "LTO/1",
        "comment": "",
        "type": "offline_archive",
        "content": "tape",
        "primary_id": None,
        "storage_id": 4,
        "uri": uri,
        "public": True,
        "read_only": False,
        "online": False,
        "capacity": None,
        "used": 0,
        "files_count": 0,
    }
    assert (await client.get("/api/v2/pools/LTO%2F1")) == made.json
    assert (await client("GET", "/api/v2/pools/LTO/1")).status == 404
    again = await client("POST", "/api/v2/pools", {"name": "LTO/1", "content": "tape"})
    assert again.status == 409
    assert again.json == {
        "messages": ["Name has already been taken"],
        "details": {"name": [{"error": "taken", "value": "LTO/1"}]},
    }
    changed = await client("PUT", "/api/v2/pools/4", {"comment": "shelf 3", "public": False, "id": 99})
    assert changed.status == 200
    assert (changed.json["comment"], changed.json["public"], changed.json["id"]) == ("shelf 3", False, 4)
    taken = await client("PUT", "/api/v2/pools/4", {"name": "media"})
    assert taken.status == 409 and taken.json["details"]["name"][0]["error"] == "taken"
    frozen = await client("PUT", "/api/v2/pools/4", {"content": "nas"})
    assert frozen.status == 422 and frozen.json["details"]["content"][0]["error"] == "frozen"
    gone = await client("DELETE", "/api/v2/pools/4")
    assert (gone.status, gone.body) == (204, b"")
    assert (await client("GET", "/api/v2/pools/4")).status == 404


async def test_a_pool_with_files_is_not_removed(client: Client) -> None:
    await client.put_file("media/x.mov")
    answer = await client("DELETE", "/api/v2/pools/media")
    assert answer.status == 409
    assert answer.json["details"] == {"base": [{"error": "in_use", "count": 1}]}
    assert (await client.get("/api/v2/pools/media"))["files_count"] == 1


@on_shared
@pytest.mark.parametrize(
    ("body", "status", "where", "code"),
    [
        ({"content": "nas"}, 400, "name", "blank"),
        ({"name": "x"}, 400, "content", "blank"),
        ({"name": "", "content": "nas"}, 400, "name", "blank"),
        ({"name": "x", "content": "disc"}, 422, "content", "invalid"),
        ({"name": "x", "content": "cloud"}, 400, "uri", "blank"),
        ({"name": "x", "content": "cloud", "uri": "s3://bucket"}, 422, "content", "invalid"),
        ({"name": "x", "content": "nas", "uri": "s3://bucket"}, 422, "uri", "invalid"),
        ({"name": "x" * 256, "content": "nas"}, 422, "name", "invalid"),
        ({"name": "a\nb", "content": "nas"}, 422, "name", "invalid"),
        ({"name": "list", "content": "nas"}, 422, "name", "invalid"),
        ({"name": "v2", "content": "nas"}, 422, "name", "invalid"),
        ({"name": 5, "content": "nas"}, 422, "name", "invalid"),
        ({"name": "x", "content": "nas", "type": "odd"}, 422, "type", "invalid"),
        ({"name": "x", "content": "nas", "public": "yes"}, 422, "public", "invalid"),
        ({"name": "x", "content": "nas", "uri": "file:/etc"}, 403, "base", "forbidden"),
    ],
)
async def test_a_pool_that_cannot_be_is_refused(
    shared: Client, body: Any, status: int, where: str, code: str
) -> None:
    answer = await shared("POST", "/api/v2/pools", body)
    assert (answer.status, answer.json["details"][where][0]["error"]) == (status, code)
    assert answer.json["messages"]


async def test_tapes_are_the_archive_storages(client: Client) -> None:
    await client.put_file("archive/x.mov", b"12345")
    value = await client.get("/api/v2/tapes?limit=10")
    assert value["count"] == 1
    (tape,) = value["tapes"]
    assert (tape["id"], tape["barcode"], tape["type"], tape["scratch"]) == (2, "archive", "unknown", False)
    assert tape["max"] - tape["free"] == 5
    assert await client.get("/api/v2/tapes/archive") == await client.get("/api/v2/pools/2/tapes/2")
    assert (await client.get("/api/v2/pools/media/tapes")) == {"count": 0, "tapes": []}
    assert (await client("GET", "/api/v2/tapes/media")).status == 404
    n = await client.put_file("media/x.mov", b"12345")
    held = await client.get(f"/api/v2/pools/media/files/{n}/tapes")
    assert [tape["barcode"] for tape in held["tapes"]] == ["archive"]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await client(method, "/api/v2/tapes")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
        assert answer.json["details"] == {"base": [{"error": "method_not_allowed"}]}


# --- API keys -------------------------------------------------------------------------------------

KEYS = "/api/v2/users/me/api_keys"


async def test_a_key_is_shown_whole_once_and_opens_what_its_scope_says(client: Client) -> None:
    scopes = [{"controller": "catalog", "action": "search"}]
    made = await client("POST", KEYS, {"name": "player", "api_key_scopes": scopes})
    assert made.status == 201
    secret = made.json["key"]
    assert len(secret) == 22 and made.json["api_key_scopes"] == scopes
    assert made.json["expires_at"] is None
    one = await client.get(f"{KEYS}/{made.json['id']}")
    assert one["key"] == "*" * 18 + secret[-4:]
    (listed,) = (await client.get(KEYS))["api_keys"]
    assert "api_key_scopes" not in listed and secret not in json.dumps(listed)
    for field in (f"Bearer {secret}", f"bearer {secret}", secret, f"token {secret}"):
        assert (await client("GET", "/api/catalog/search", Authorization=field)).status == 200
    lacking = await client("GET", "/api/v2/tasks", Authorization=secret)
    assert lacking.status == 403 and lacking.json["details"]["base"][0]["error"] == "forbidden"
    assert (await client("GET", "/api/v2/tasks/99", Authorization=secret)).status == 403
    assert (await client("GET", "/content/VX-1", Authorization=secret)).status == 403
    gone = await client("DELETE", f"{KEYS}/{made.json['id']}")
    assert gone.status == 204
    bad = await client("GET", "/api/catalog/search", Authorization=f"Bearer {secret}")
    assert bad.status == 401
    assert bad.headers["WWW-Authenticate"] == (
        'Basic realm="origin", charset="UTF-8", Bearer realm="origin", error="invalid_token"'
    )


async def test_a_key_gives_no_more_than_it_has(client: Client) -> None:
    own = [{"controller": "api_keys", "action": "*"}, {"controller": "files", "action": "index"}]
    secret = (await client("POST", KEYS, {"name": "a", "api_key_scopes": own})).json["key"]
    more = {"name": "b", "api_key_scopes": [{"controller": "files", "action": "*"}]}
    assert (await client("POST", KEYS, more, Authorization=secret)).status == 403
    same = {"name": "b", "api_key_scopes": [{"controller": "files", "action": "index"}]}
    assert (await client("POST", KEYS, same, Authorization=secret)).status == 201
    unknown = {"name": "c", "api_key_scopes": [{"controller": "files", "action": "burn"}]}
    answer = await client("POST", KEYS, unknown)
    assert answer.status == 422 and "api_key_scopes" in answer.json["details"]
    assert (await client("POST", KEYS, {"name": " "})).json["details"] == {"name": [{"error": "blank"}]}
    unnamed = await client("POST", KEYS, {"api_key_scopes": own})  # all that the SDK's model can say
    assert (unnamed.status, unnamed.json["name"]) == (201, "API key")


async def test_a_key_past_its_expiry_and_one_without_scopes_open_nothing(client: Client) -> None:
    everything = [{"controller": "*", "action": "*"}]
    past = {"name": "a", "api_key_scopes": everything, "expires_at": "2020-01-01T00:00:00Z"}
    made = await client("POST", KEYS, past)
    assert made.json["expires_at"] == "2020-01-01T00:00:00Z"
    assert (await client("GET", "/api/v2/files", Authorization=made.json["key"])).status == 401
    bare = (await client("POST", KEYS, {"name": "b"})).json["key"]
    assert (await client("GET", "/api/v2/files", Authorization=bare)).status == 403


async def test_a_keys_expiry_is_changed_and_taken_away_but_not_put_past_the_callers_own(
    client: Client,
) -> None:
    scopes = [{"controller": "api_keys", "action": "*"}]
    first = {"name": "a", "api_key_scopes": scopes, "expires_at": "2100-01-01T00:00:00Z"}
    made = (await client("POST", KEYS, first)).json
    one = f"{KEYS}/{made['id']}"
    renamed = await client("PUT", one, {"name": "b"})
    assert renamed.json["expires_at"] == "2100-01-01T00:00:00Z"
    for expiry in ("2101-01-01T00:00:00Z", None):
        answer = await client("PUT", one, {"expires_at": expiry}, Authorization=made["key"])
        assert answer.status == 403
    sooner = await client("PUT", one, {"expires_at": "2099-01-01T00:00:00Z"}, Authorization=made["key"])
    assert (sooner.status, sooner.json["expires_at"]) == (200, "2099-01-01T00:00:00Z")
    assert (await client("PUT", one, {"expires_at": None})).json["expires_at"] is None
    assert (await client("PUT", one, {"expires_at": "soon"})).status == 422
    assert (await client("PUT", one, {"expires_at": "2020-01-01T00:00:00Z"})).status == 200
    assert (await client("GET", KEYS, Authorization=made["key"])).status == 401


async def test_another_users_key_is_404_even_for_an_administrator(client: Client) -> None:
    await client.add_users()
    made = await client("POST", KEYS, {"name": "x"}, user=WRITER)
    assert (await client("GET", f"{KEYS}/{made.json['id']}")).status == 404
    assert (await client("DELETE", f"{KEYS}/{made.json['id']}")).status == 404
    assert (await client.get(KEYS, user=READER))["count"] == 0
    changed = await client("PUT", f"{KEYS}/{made.json['id']}", {"name": "y"}, user=WRITER)
    assert (changed.status, changed.json["name"]) == (200, "y")


async def test_only_administrators_change_pools(client: Client) -> None:
    await client.add_users()
    body = {"name": "x", "content": "nas"}
    for user in (WRITER, READER):
        assert (await client("POST", "/api/v2/pools", body, user=user)).status == 403
        assert (await client("DELETE", "/api/v2/pools/media", user=user)).status == 403
        assert (await client("GET", "/api/v2/pools", user=user)).status == 200
    assert (await client("GET", "/api/v2/pools", user=("admin", PASSWORD + "x"))).status == 401
