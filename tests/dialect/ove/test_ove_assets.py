"""Assets: made, listed, changed, deleted; files, uploads and their versions."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest

from tests.support.origin_service import basic
from tests.support.ove import EDGE, Client

META = "/api/media/films/meta"
UPLOAD = "/api/media/films/upload"


async def make(films: Client, *ids: str) -> None:
    for id in ids:
        assert await films.ok("POST", "/api/media/films/create", {"name": id}) == {"Asset": id}


# --- made, listed ---------------------------------------------------------------------------------


async def test_a_new_asset_has_every_key_of_the_contract_in_its_order(films: Client) -> None:
    await make(films, "clip")
    meta = await films.meta("clip")
    (event,) = meta.pop("history")
    assert (event["Type"], event["Version"], list(event)) == ("Created", 1, ["Type", "Time", "Version"])
    assert list(meta.items()) == [
        ("id", "clip"),
        ("name", "clip"),
        ("project", "films"),
        ("description", ""),
        ("index_file", ""),
        ("version", "1"),
        ("tags", []),
        ("worker", ""),
        ("processing_status", ""),
        ("processing_error", ""),
    ]
    assert await films.ok("GET", "/api/media/films/files/clip") == []
    assert (await films("HEAD", f"{META}/clip")).status == 200
    assert (await films("HEAD", f"{META}/none")).status == 404
    assert await films.refused("GET", f"{META}/none") == (400, "Asset not found")


async def test_an_id_is_taken_once_by_an_asset_or_by_a_file(films: Client) -> None:
    await make(films, "clip")
    target = "/api/media/films/create"
    assert await films.refused("POST", target, {"name": "clip"}) == (409, "Asset already in use")
    await films.ok("POST", "/api/media/films/object/o", {})
    assert await films.refused("POST", target, {"name": "o.json"}) == (409, "Asset already in use")
    await make(films, "p.json")
    refused = await films.refused("POST", "/api/media/films/object/p", {})
    assert refused == (400, "Object already in use")


async def test_the_clients_own_form_of_creation_has_an_id_and_a_display_name(films: Client) -> None:
    sent = {"id": "c-1", "name": "Clip ü", "description": "d", "tags": "a, b,,a"}
    assert await films.ok("POST", "/api/media/films/create", sent) == {"Asset": "c-1"}
    meta = await films.meta("c-1")
    assert (meta["id"], meta["name"], meta["description"], meta["tags"]) == ("c-1", "Clip ü", "d", ["a", "b"])
    assert await films.refused("POST", "/api/media/films/create", {}) == (400, "Missing name")


async def test_lists_are_by_id_filtered_by_tag_and_with_folders_only_when_asked(films: Client) -> None:
    await make(films, "b", "a", "ü x")
    await films.ok("POST", f"{META}/a", {"tags": ["t"]})
    await films.service.put("media/films/aa-folder/f.bin", b"x")
    target = "/api/media/films/list"
    assert await films.ok("GET", target) == {"Assets": ["a", "b", "ü x"]}
    assert await films.ok("GET", f"{target}?includeEmpty=false") == {"Assets": ["a", "b", "ü x"]}
    assert await films.ok("GET", f"{target}?includeEmpty=Yes") == {"Assets": ["a", "aa-folder", "b", "ü x"]}
    assert await films.ok("GET", f"{target}?includeEmpty=1&filterByTag=t") == {"Assets": ["a"]}
    assert await films.ok("GET", f"{target}?filterByTag=none") == {"Assets": []}
    full = (await films.ok("GET", f"{target}?metadata=1&includeEmpty=1"))["Assets"]
    assert full[0] == await films.meta("a")
    assert full[1] == {"name": "aa-folder", "project": "films"}
    page = await films("GET", f"{target}?page=2&per_page=2")
    assert (page.json, page.headers["X-Total"]) == ({"Assets": ["ü x"]}, "3")
    assert await films.refused("GET", f"{target}?page=0") == (400, "Invalid parameter")
    assert await films.refused("GET", f"{target}?includeEmpty=perhaps") == (400, "Invalid parameter")


async def test_a_list_of_several_pages_is_whole_in_order_and_valid(films: Client) -> None:
    services = films.service.services
    place = services.projects.find(services.storages.known(1), "films")
    for n in range(1203):
        await services.assets.create(place, f"a{n:05}")
    everything = [f"a{n:05}" for n in range(1203)]
    assert (await films.ok("GET", "/api/media/films/list"))["Assets"] == everything
    full = (await films.ok("GET", "/api/media/films/list?metadata=true"))["Assets"]
    assert [entry["id"] for entry in full] == everything
    page = await films.ok("GET", "/api/media/films/list?page=3&per_page=600")
    assert page["Assets"] == everything[1200:]


# --- metadata and tags ----------------------------------------------------------------------------


async def test_fields_that_are_not_sent_stay_and_tags_lose_repeats(films: Client) -> None:
    await make(films, "clip")
    assert await films.ok("POST", f"{META}/clip", {"description": "one", "tags": "b,a,b"}) == {"Status": "OK"}
    await films.ok("POST", f"{META}/clip", {"name": "N", "unknown": [1]})
    meta = await films.meta("clip")
    assert (meta["name"], meta["description"], meta["tags"]) == ("N", "one", ["b", "a"])
    for bad in ({"tags": 1}, {"tags": [1]}, {"description": []}):
        assert await films.refused("POST", f"{META}/clip", bad) == (400, "Invalid data")
    assert await films.refused("POST", f"{META}/none", {}) == (400, "Asset not found")
    assert await films.meta("clip") == meta


async def test_tags_are_replaced_added_removed_and_cleared(films: Client) -> None:
    await make(films, "clip")
    target = "/api/media/films/tags/clip"
    assert await films.ok("POST", target, ["a", "b"]) == ["a", "b"]
    assert await films.ok("PATCH", target, {"action": "add", "data": ["c", "a"]}) == ["a", "b", "c"]
    assert await films.ok("PATCH", target, {"action": "remove", "data": ["a"]}) == ["b", "c"]
    refused = await films.refused("PATCH", target, {"action": "x", "data": []})
    assert refused == (400, "Invalid action provided")
    assert await films.refused("POST", target, {"a": 1}) == (400, "Invalid data")
    assert await films.ok("GET", target) == ["b", "c"]
    assert await films.ok("DELETE", target) == []


async def test_writers_at_the_same_time_lose_none_of_each_others_tags(films: Client) -> None:
    await make(films, "clip")
    target = "/api/media/films/tags/clip"
    await asyncio.gather(
        *(films.ok("PATCH", target, {"action": "add", "data": [f"t{n}"]}) for n in range(20))
    )
    assert set(await films.ok("GET", target)) == {f"t{n}" for n in range(20)}


# --- uploads --------------------------------------------------------------------------------------


async def test_an_upload_makes_the_asset_and_its_link_is_that_of_the_edge(films: Client) -> None:
    refused = await films.refused("POST", f"{UPLOAD}/clip?filename=a.mp4", body=b"x")
    assert refused == (400, "Asset not found")
    answer = await films.upload("clip", "a%20%C3%BC%2B.mp4", b"bytes")
    assert answer.json == {"Status": "OK"} and answer.headers["X-Asset-Version"] == "1"
    url = f"{EDGE}/media/films/clip/1/a%20%C3%BC+.mp4"
    (file,) = await films.ok("GET", "/api/media/films/files/clip")
    assert file == {
        "name": "a ü+.mp4",
        "url": url,
        "default": True,
        "id": answer.headers["X-File-Id"],
        "size": 5,
    }
    meta = await films.meta("clip")
    assert meta["index_file"] == url
    assert [(e["Type"], e["Version"]) for e in meta["history"]] == [("Created", 1), ("Updated", 1)]
    content = await films("GET", url.replace(f"{EDGE}/", "/content/"), user=None)
    assert (content.status, content.body) == (200, b"bytes")


async def test_a_name_that_no_edge_takes_as_an_id_is_linked_by_the_files(films: Client) -> None:
    id = (await films.upload("clip", "what%3F%20100%25%20%5B1%5D.mp4", b"film")).headers["X-File-Id"]
    (file,) = await films.ok("GET", "/api/media/films/files/clip")
    assert (file["name"], file["url"]) == ("what? 100% [1].mp4", f"{EDGE}/{id}")
    assert (await films.meta("clip"))["index_file"] == f"{EDGE}/{id}"
    (version,) = await films.ok("GET", "/api/media/films/versions/clip")
    assert version["index_file"] == f"{EDGE}/{id}"
    content = await films("GET", f"/content/{id}", user=None)
    assert (content.body, content.headers["Content-Type"]) == (b"film", "video/mp4")


async def test_a_second_upload_needs_update_and_makes_a_version_that_leaves_the_first_readable(
    films: Client,
) -> None:
    await films.upload("clip", "a.mp4", b"one", "create=true&update=true")
    for name in ("a.mp4", "b.mp4"):
        refused = await films.refused("POST", f"{UPLOAD}/clip?filename={name}&create=true", body=b"no")
        assert refused == (409, "Asset exists")
    assert await films.names("clip") == ["a.mp4"]
    answer = await films.upload("clip", "b.mp4", b"two", "update=true")
    assert answer.headers["X-Asset-Version"] == "2"
    assert await films.names("clip") == ["b.mp4"]
    assert await films.names("clip", "?version=1") == ["a.mp4"]
    assert await films.refused("GET", "/api/media/films/files/clip?version=3") == (400, "Version not found")
    assert await films.refused("GET", "/api/media/films/files/clip?version=x") == (400, "Invalid parameter")
    first, second = await films.ok("GET", "/api/media/films/versions/clip")
    assert (first["version"], first["files"], first["size"], first["current"]) == ("1", 1, 3, False)
    assert (second["version"], second["current"]) == ("2", True)
    assert second["index_file"] == f"{EDGE}/media/films/clip/2/b.mp4"
    assert (await films("GET", "/content/media/films/clip/1/a.mp4")).body == b"one"


async def test_of_two_first_uploads_one_wins_and_two_updates_are_two_versions(films: Client) -> None:
    async def send(name: str, more: str) -> int:
        answer = await films("POST", f"{UPLOAD}/clip?filename={name}&{more}", body=name.encode() * 1000)
        return answer.status

    assert sorted(await asyncio.gather(send("a", "create=1"), send("b", "create=1"))) == [200, 409]
    assert await asyncio.gather(send("c", "update=1"), send("d", "update=1")) == [200, 200]
    assert (await films.meta("clip"))["version"] == "3"
    held = [await films.names("clip", f"?version={n}") for n in (2, 3)]
    assert sorted(held) == [["c"], ["d"]]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('filename="a b.txt"', "a b.txt"),
        ('attachment; filename="q\\"q.txt"', 'q"q.txt'),
        ("attachment; filename=plain.txt", "plain.txt"),
        ("attachment; filename=\"x.txt\"; filename*=UTF-8''%c3%bc.txt", "ü.txt"),
    ],
)
async def test_the_name_may_come_in_content_disposition(films: Client, field: str, name: str) -> None:
    answer = await films("POST", f"{UPLOAD}/clip?create=1", body=b"x", Content_Disposition=field)
    assert answer.status == 200, answer.body
    assert await films.names("clip") == [name]


async def test_an_upload_says_what_it_is_and_arrives_whole_or_not_at_all(films: Client) -> None:
    target = f"{UPLOAD}/clip?filename=a&create=1"
    refused = await films.refused("POST", target, body=b"x", Content_Type="text/plain")
    assert refused == (415, "Unsupported media type")
    wrong = "sha-256=:" + b64encode(hashlib.sha256(b"other").digest()).decode() + ":"
    refused = await films.refused("POST", target, body=b"x", Content_Digest=wrong)
    assert refused == (400, "Digest mismatch")
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()}\r\n"
        "Content-Type: application/octet-stream\r\n"
    )
    for rest in ("Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"):
        answer = await films.service.exchange((head + rest).encode(), half_close=True)
        assert answer.startswith(b"HTTP/1.1 400") and b'"Incomplete upload"' in answer
    assert films.service.on_disk() == {}
    assert await films.refused("GET", f"{META}/clip") == (400, "Asset not found")


async def test_a_refusal_that_needs_no_body_comes_before_leave_to_send_it(films: Client) -> None:
    await films.upload("clip", "a", b"x")
    head = (
        f"POST {UPLOAD}/clip?filename=b HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()}\r\n"
        "Content-Type: application/octet-stream\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    answer = await films.service.exchange(head.encode())
    assert answer.startswith(b"HTTP/1.1 409") and b"100 Continue" not in answer


async def test_a_chunked_upload_is_stored_whole(films: Client) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for n in range(300):
            yield bytes([n % 256]) * 10_000

    await films.upload("clip", "big", pieces())  # type: ignore[arg-type]
    (file,) = await films.ok("GET", "/api/media/films/files/clip")
    assert file["size"] == 3_000_000
    assert films.service.on_disk()["films/clip/1/big"] == b"".join(
        [bytes([n % 256]) * 10_000 for n in range(300)]
    )


async def test_a_file_deleted_elsewhere_is_gone_here_and_leaves_room_for_an_upload(films: Client) -> None:
    await films.upload("clip", "a", b"x")
    assert (await films("DELETE", "/content/media/films/clip/1/a")).status == 202
    assert await films.names("clip") == []
    assert (await films.meta("clip"))["index_file"] == ""
    assert (await films.upload("clip", "b", b"y", "")).headers["X-Asset-Version"] == "1"


async def test_a_file_put_into_a_version_by_another_dialect_is_one_of_its_files(films: Client) -> None:
    await films.upload("clip", "a.m3u8", b"x")
    await films.service.put("media/films/clip/1/seg/1.ts", b"y")
    assert await films.names("clip") == ["a.m3u8", "seg/1.ts"]


async def test_a_deleted_asset_is_gone_at_once_with_all_its_bytes_and_its_id_is_free(films: Client) -> None:
    await films.upload("clip", "a", b"1")
    await films.upload("clip", "a", b"2", "update=1")
    assert await films.ok("DELETE", f"{META}/clip") == {"Status": "OK"}
    assert await films.refused("DELETE", f"{META}/clip") == (400, "Asset not found")
    assert (await films("GET", "/content/media/films/clip/2/a")).status == 404
    await films.upload("clip", "a", b"3")
    await films.jobs_done()
    assert films.service.on_disk() == {"films/clip/1/a": b"3"}
    assert (await films("GET", "/content/media/films/clip/1/a")).body == b"3"


# --- objects --------------------------------------------------------------------------------------

OBJECT = "/api/media/films/object/o-1"


async def test_an_object_comes_back_with_equal_values_and_order_of_keys(films: Client) -> None:
    text = b'{"z": 1.10, "a": [1e400, 12345678901234567890], "\xc3\xbc": {"b": null, "a": true}}'
    made = await films("POST", OBJECT, body=text, Content_Type="application/json")
    assert (made.status, made.body) == (200, text)
    assert (await films("GET", OBJECT)).body == text
    assert (await films("HEAD", OBJECT)).status == 200
    info = await films.ok("GET", f"{OBJECT}/info")
    assert info == {"name": "o-1", "index_file": f"{EDGE}/media/films/o-1.json"}
    content = await films("GET", "/content/media/films/o-1.json", user=None)
    assert (content.body, content.headers["Cache-Control"]) == (text, "no-cache")
    assert await films.refused("POST", OBJECT, {}) == (400, "Object already in use")


async def test_an_object_is_replaced_as_a_whole_and_keeps_its_file(films: Client) -> None:
    assert await films.refused("PUT", OBJECT, {"a": 1}) == (400, "Object not found")
    assert (await films("HEAD", OBJECT)).status == 404
    await films.ok("POST", OBJECT, {"a": 1, "b": 2})
    before = await films.service.file("films/o-1.json")
    assert await films.ok("PUT", OBJECT, {"c": 3}) == {"c": 3}
    after = await films.service.file("films/o-1.json")
    assert (after.n, after.sha256 != before.sha256) == (before.n, True)
    assert await films.ok("GET", OBJECT) == {"c": 3}
    assert await films.ok("DELETE", OBJECT) == {"Status": "OK"}
    assert await films.refused("GET", OBJECT) == (400, "Object not found")
    assert await films.refused("DELETE", OBJECT) == (400, "Object not found")
    await films.ok("POST", OBJECT, {"d": 4})
    await films.jobs_done()
    assert await films.ok("GET", OBJECT) == {"d": 4}
