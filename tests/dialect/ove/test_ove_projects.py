"""Stores and projects: lists, making, records, deletion, and who may see what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ove import ADMIN, EDGE, MEMBER, READER, STRANGER, Client, running

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


async def test_stores_are_listed_by_name_in_the_order_they_were_made(client: Client) -> None:
    assert await client.ok("GET", "/api/list") == ["media", "archive", "secret"]


@pytest.mark.parametrize("lead", ["//", "///"])
async def test_any_number_of_leading_slashes_counts_as_one(client: Client, lead: str) -> None:
    assert (
        await client.service.exchange(
            f"GET {lead}api/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
    ).startswith(b"HTTP/1.1 200")


async def test_a_project_is_made_listed_and_its_id_is_taken_then(client: Client) -> None:
    made = await client.ok("POST", "/api/media/create", {"id": "films", "name": "Ours", "groups": ["public"]})
    assert made == {"Project": "films"}
    again = {"id": "films", "name": "x", "groups": ["public"]}
    assert await client.refused("POST", "/api/media/create", again) == (409, "Project already in use")
    (listed,) = await client.ok("GET", "/api/media/list")
    assert listed | {"creationDate": ""} == {"id": "films", "name": "Ours", "creationDate": ""}
    assert TIME.fullmatch(listed["creationDate"])
    assert await client.ok("GET", "/api/archive/list") == []


async def test_unknown_store_and_project_are_400_and_to_head_404(films: Client) -> None:
    assert await films.refused("GET", "/api/nowhere/list") == (400, "Store not found")
    assert await films.refused("GET", "/api/nowhere/films/list") == (400, "Store not found")
    assert await films.refused("GET", "/api/media/none/list") == (400, "Project not found")
    assert await films.refused("GET", "/api/media/none/meta/a") == (400, "Project not found")
    assert await films.refused("HEAD", "/api/media/none/meta/a") == (404, "")
    assert await films.refused("HEAD", "/api/nowhere/films/meta/a") == (404, "")


async def test_a_wrong_method_is_405_and_told_the_right_ones(films: Client) -> None:
    answer = await films("PUT", "/api/media/films/meta/a")
    assert (answer.status, answer.json["title"]) == (405, "Method not allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST, DELETE, OPTIONS"


async def test_options_needs_no_credentials_and_says_what_may_be_sent(films: Client) -> None:
    answer = await films("OPTIONS", "/api/media/films/object/x", user=None)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, PUT, DELETE, OPTIONS"
    for name in ("Authorization", "AUTH_TOKEN", "AUTH-TOKEN", "Content-Type", "Content-Disposition"):
        assert name in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Max-Age"] == "86400"


async def test_a_page_of_another_origin_may_ask_and_read_where_the_settings_let_it(tmp_path: Path) -> None:
    rules = [{"origins": ["https://app.example"], "paths": ["/api"], "methods": ["GET", "POST"]}]
    async with running(tmp_path, cors=rules) as client:
        asked = {"Origin": "https://app.example", "Access_Control_Request_Method": "POST"}
        answer = await client("OPTIONS", "/api/media/create", user=None, **asked)
        assert (answer.status, answer.headers["Access-Control-Max-Age"]) == (204, "86400")
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST"
        refused = await client("GET", "/api/none/list", Origin="https://app.example")
        assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "X-Task-Id" in refused.headers["Access-Control-Expose-Headers"]
        other = await client("GET", "/api/list", Origin="https://other.example")
        assert "Access-Control-Allow-Origin" not in other.headers


# --- records --------------------------------------------------------------------------------------


async def test_a_record_has_every_key_and_keeps_what_is_not_sent(films: Client) -> None:
    first = await films.ok("GET", "/api/media/films/projectMeta")
    assert list(first)[:10] == [
        "id", "creationDate", "updateDate", "url", "hasProject", "projectType", "access", "read_access",
        "write_access", "name",
    ]  # fmt: skip
    assert (first["url"], first["hasProject"], first["projectType"]) == ("", False, "none")
    sent = {"description": "d", "tags": ["a", "b", "a"], "controller": True, "authors": ["x"], "unknown": 1}
    second = await films.ok("POST", "/api/media/films/projectMeta", sent)
    changed = {"description": "d", "tags": ["a", "b"], "controller": True, "authors": ["x"]}
    assert second == {**first, **changed, "projectType": "controller", "updateDate": second["updateDate"]}
    third = await films.ok("POST", "/api/media/films/projectMeta", {"name": "New"})
    assert third["description"] == "d" and third["name"] == "New"
    assert await films.ok("GET", "/api/media/list?metadata=TRUE&filterByTag=b") == [third]
    assert await films.ok("GET", "/api/media/list?filterByTag=B") == []
    refusals: list[dict[str, object]] = [{"tags": "a"}, {"controller": "yes"}, {"authors": 1}, {"name": []}]
    for bad in refusals:
        refused = await films.refused("POST", "/api/media/films/projectMeta", bad)
        assert refused == (400, "Invalid data")
    assert await films.refused("GET", "/api/media/list?metadata=maybe") == (400, "Invalid parameter")


async def test_a_project_with_an_object_of_sections_is_a_launcher(films: Client) -> None:
    await films.ok("POST", "/api/media/films/object/project", {"Sections": [1]})
    record = await films.ok("GET", "/api/media/films/projectMeta")
    assert (record["hasProject"], record["projectType"]) == (True, "launcher")
    assert record["url"] == f"{EDGE}/media/films/project.json"


# --- deletion -------------------------------------------------------------------------------------


async def test_only_an_empty_project_is_deleted_unless_forced_and_then_all_goes(films: Client) -> None:
    await films.upload("clip", "a.mp4", b"bytes")
    await films.ok("POST", "/api/media/films/object/o", {"a": 1})
    assert await films.refused("DELETE", "/api/media/films") == (409, "Project not empty")
    assert await films.ok("DELETE", "/api/media/films?force=true") == {"Status": "OK"}
    assert (await films("GET", "/content/media/films/clip/1/a.mp4")).status == 404
    assert await films.refused("GET", "/api/media/films/list") == (400, "Project not found")
    await films.jobs_done()
    assert films.service.on_disk() == {}
    await films.project()
    assert await films.ok("GET", "/api/media/films/list") == {"Assets": []}
    assert await films.ok("DELETE", "/api/media/films") == {"Status": "OK"}


async def test_files_that_lie_there_already_are_no_obstacle_to_a_project_but_to_its_deletion(
    client: Client,
) -> None:
    await client.service.put("media/films/loose/x.bin", b"x")
    await client.project()
    assert await client.ok("GET", "/api/media/films/list") == {"Assets": []}
    assert await client.ok("GET", "/api/media/films/list?includeEmpty=true") == {"Assets": ["loose"]}
    assert await client.refused("DELETE", "/api/media/films") == (409, "Project not empty")


async def test_a_removed_storage_takes_its_projects_along_and_disturbs_no_other(client: Client) -> None:
    await client.add_users()
    await client.ok("POST", "/api/archive/create", {"id": "old", "groups": ["team"]})
    await client.ok("POST", "/api/archive/create", {"id": "newer", "groups": ["public"]})
    await client.service.services.storages.delete(await client.service.admin(), "VX-2")
    assert await client.refused("GET", "/api/archive/list") == (400, "Store not found")
    await client.project()
    await client.upload("a", "x.bin", b"x")
    assert await client.ok("GET", "/api/list", user=None) == ["media"]
    found = await client("GET", "/api/catalog/search?q=x.bin", user=STRANGER)
    assert found.json["count"] == 1
    assert await client.ok("GET", "/api/workers/queue") == []


async def test_an_upload_to_a_project_deleted_meanwhile_leaves_nothing(films: Client) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await go_on.wait()
        yield b"y"

    target = "/api/media/films/upload/a?filename=x&create=1"
    sending = asyncio.create_task(films.refused("POST", target, body=body()))
    await begun.wait()
    await films.ok("DELETE", "/api/media/films")
    go_on.set()
    assert await sending == (400, "Project not found")
    await films.jobs_done()
    assert films.service.on_disk() == {}


# --- who may what ---------------------------------------------------------------------------------


async def test_groups_open_a_project_to_their_members_in_every_dialect(client: Client) -> None:
    await client.add_users()
    made = {"id": "team-only", "groups": ["team"]}
    assert await client.refused("POST", "/api/media/create", made, user=STRANGER) == (403, "Access denied")
    assert await client.refused("POST", "/api/media/create", made, user=READER) == (403, "Access denied")
    assert await client.ok("POST", "/api/media/create", made, user=MEMBER) == {"Project": "team-only"}
    upload = "/api/media/team-only/upload/a?filename=x.bin&create=true"
    assert await client.refused("POST", upload, body=b"x", user=STRANGER) == (403, "Access denied")
    assert await client.refused("POST", upload, body=b"x", user=READER) == (403, "Access denied")
    file = (await client("POST", upload, body=b"x", user=MEMBER)).headers["X-File-Id"]
    assert await client.ok("GET", "/api/media/team-only/list", user=READER) == {"Assets": ["a"]}
    assert await client.ok("GET", "/api/media/list", user=STRANGER) == []
    for target in ("/content/media/team-only/a/1/x.bin", f"/content/{file}", f"/API/storage/file/{file}"):
        assert (await client("GET", target, user=READER)).status == 200
        assert (await client("GET", target, user=STRANGER)).status == 403
        assert (await client("GET", target, user=None)).status == 401
    assert (await client("PUT", "/content/media/team-only/y", body=b"", user=STRANGER)).status == 403
    listed = await client("GET", "/API/storage/file", user=STRANGER, Accept="application/json")
    assert file not in listed.body.decode()
    found = await client("GET", "/api/catalog/search?q=x.bin", user=STRANGER)
    assert found.json["count"] == 0
    content = await client("GET", "/content/media/team-only/a/1/x.bin", user=READER)
    assert content.headers["Cache-Control"] == "private, no-cache"


async def test_no_face_shows_even_the_name_of_what_one_may_not_read(client: Client) -> None:
    await client.add_users()
    await client.project("secretly", ("team",))
    octets = {"Content-Type": "application/octet-stream"}
    target = "/api/media/secretly/upload/secretly?filename=secretly.bin&create=true"
    held = await client("POST", target, body=b"1", user=MEMBER, **octets)
    assert held.status == 200
    await client.ok("POST", "/api/media/secretly/object/secretly", {"a": 1})
    await client.ok("DELETE", "/api/media/secretly/object/secretly")  # a job with a path
    place = {"store_id": "media", "project_id": "secretly", "asset_id": "secretly"}
    await client.ok("POST", "/api/workers/queue", {"worker_type": "secretly", **place})
    numbers = range(1, int(held.headers["X-File-Id"].removeprefix("VX-")) + 10)
    faces = [
        *("/api/list", "/api/media/list?metadata=true", "/api/workers/queue", "/api/workers?detail=true"),
        *("/api/catalog/search?facets=true", "/api/v2/files", "/api/v2/pools", "/api/v2/pools/1/files"),
        *("/api/v2/tasks", "/api/v2/task_executions", "/api/v2/audit", "/API/job?metadata=true"),
        *("/API/storage/VX-1/file?recursive=true", "/API/storage/VX-1/importable", "/API/item"),
        *(f"/api/v2/files/{n}" for n in numbers),
        *(f"/api/v2/files/{n}/children" for n in numbers),
        *(f"/api/v2/tasks/{n}" for n in numbers),
        *(f"/API/job/VX-{n}" for n in numbers),
        *(f"/API/storage/VX-1/file/VX-{n}" for n in numbers),
    ]

    async def shown(user: tuple[str, str] | None) -> list[str]:
        answers = [(face, await client("GET", face, user=user, Accept="application/json")) for face in faces]
        return [face for face, answer in answers if b"secretly" in answer.body]

    assert len(await shown(ADMIN)) > 15
    assert await shown(STRANGER) == []
    assert await shown(None) == []


async def test_only_administrators_change_the_groups(client: Client) -> None:
    await client.add_users()
    await client.project(groups=("team",))
    target = "/api/media/films/projectAccessMeta"
    assert await client.refused("POST", target, {"groups": []}, user=MEMBER) == (403, "Access denied")
    assert await client.ok("GET", target, user=READER) == {"groups": ["team"]}
    assert await client.ok("POST", target, {"groups": ["x", "public"]}) == {"groups": ["x", "public"]}
    assert await client.refused("POST", target, {}) == (400, "Invalid data")
    assert await client.ok("GET", "/api/media/films/list", user=None) == {"Assets": []}


async def test_without_credentials_only_what_is_public_shows_and_all_else_is_401(films: Client) -> None:
    await films.project("hidden", ())
    await films.ok("POST", "/api/secret/create", {"id": "inside", "groups": ["public"]})
    assert await films.ok("GET", "/api/list", user=None) == ["media"]
    assert [p["id"] for p in await films.ok("GET", "/api/media/list", user=None)] == ["films"]
    for method, target in (
        ("GET", "/api/archive/list"),
        ("GET", "/api/nowhere/list"),
        ("GET", "/api/media/hidden/list"),
        ("GET", "/api/media/none/list"),
        ("GET", "/api/secret/inside/list"),
        ("GET", "/api/workers"),
        ("GET", "/api/workers/queue"),
        ("DELETE", "/api/media/films"),
        ("HEAD", "/api/media/hidden/meta/x"),
    ):
        assert (await films.refused(method, target, user=None))[0] == 401, target
    assert await films.refused("GET", "/api/media/films/meta/none", user=None) == (400, "Asset not found")
    refused = await films("POST", "/api/media/films/create", {"name": "a"}, user=None)
    assert (refused.status, refused.json["title"]) == (401, "Access token required")
    assert "Basic" in refused.headers["WWW-Authenticate"] and "Bearer" in refused.headers["WWW-Authenticate"]


# --- credentials ----------------------------------------------------------------------------------


async def test_a_login_token_is_good_in_every_place_and_a_bad_one_is_401_also_for_public_things(
    films: Client,
) -> None:
    sent = {"user": "admin", "password": "p@55w0rd"}
    token = (await films.ok("POST", "/api/auth", sent, user=None))["token"]
    target = "/api/media/films/meta/none"
    for value, title in ((token, "Asset not found"), ("bad", "Access token required")):
        for fields in ({"AUTH_TOKEN": value}, {"AUTH-TOKEN": value}, {"Cookie": f"AUTH_TOKEN={value}"},
                       {"Authorization": f"Bearer {value}"}):  # fmt: skip
            answer = await films.service("GET", target, headers=fields, user=None)
            assert answer.json["title"] == title, fields
        answer = await films.service("GET", f"{target}?AUTH_TOKEN={value}", user=None)
        assert answer.json["title"] == title
    both = {"Authorization": "Bearer bad", "AUTH_TOKEN": token}
    assert (await films.service("GET", target, headers=both, user=None)).status == 401


async def test_a_wrong_password_gives_no_token(client: Client) -> None:
    answer = await client("POST", "/api/auth", {"user": "admin", "password": "x"}, user=None)
    assert answer.status == 401
    assert answer.json["token"] is None and answer.json["title"] == "Invalid credentials"
    assert await client.refused("POST", "/api/auth", {"user": "x"}, user=None) == (400, "Missing password")
    assert await client.refused("POST", "/api/auth", {"password": "x"}, user=None) == (400, "Missing user")


async def test_a_token_reaches_no_farther_than_its_scopes(films: Client) -> None:
    admin = await films.service.admin()
    _, token = await films.service.services.access.create_token(admin, "t", ["assets/index"])
    assert await films.ok("GET", "/api/media/films/list", token=token) == {"Assets": []}
    for method, target in (
        ("GET", "/api/list"),
        ("HEAD", "/api/media/films/meta/x"),
        ("GET", "/api/workers"),
    ):
        assert (await films.refused(method, target, token=token))[0] == 403
    assert (await films.refused("POST", "/api/workers", {}, token=token))[0] == 403
