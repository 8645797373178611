"""Entities: created without bytes, given a state or another path, forgotten, deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.vidispine import TEXT, XML, Client

FILES = "/API/storage/VX-1/file"


async def test_an_entity_needs_no_bytes_and_makes_none(client: Client, tmp_path: Path) -> None:
    document = (await client("POST", f"{FILES}?path=a/b")).json
    assert (document["path"], document["state"], document["size"]) == ("a/b", "OPEN", -1)
    assert document["uri"][0].endswith("/media/a/b")
    assert list((tmp_path / "media").iterdir()) == []


async def test_bytes_that_are_there_are_looked_at(client: Client, tmp_path: Path) -> None:
    (tmp_path / "media/here").write_bytes(b"123")
    assert (await client("POST", f"{FILES}?path=here")).json["size"] == 3


async def test_a_taken_path_is_409_with_create_only(client: Client) -> None:
    id_ = await client.create("a/b")
    for target in (f"{FILES}?path=/a//b", f"{FILES}?path=a/b&createOnly=true"):
        reply = await client("POST", target)
        assert reply.status == 409
        assert reply.json["fileAlreadyExists"] == {"storageId": "VX-1", "fileId": id_, "path": "a/b"}


async def test_without_create_only_the_state_is_updated_and_the_id_stays(client: Client) -> None:
    id_ = await client.create("a", "&state=OPEN")
    reply = await client("POST", f"{FILES}?path=a&state=TO_APPEAR&createOnly=false")
    assert (reply.json["id"], reply.json["state"]) == (id_, "TO_APPEAR")
    assert await client.create("a", "&createOnly=false") == id_


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"path":"doc/a","state":"CLOSED","odd":1}', "application/json"),
        (
            b'<FileDocument xmlns="http://xml.vidispine.com/schema/vidispine"><path>doc/a</path>'
            b"<state>CLOSED</state></FileDocument>",
            "application/xml",
        ),
    ],
)
async def test_a_document_creates_an_entity(client: Client, body: bytes, content_type: str) -> None:
    reply = await client("POST", FILES, body=body, headers={"Content-Type": content_type})
    assert (reply.json["path"], reply.json["state"]) == ("doc/a", "CLOSED")


async def test_a_document_with_a_uri_list_creates_an_entity(client: Client, tmp_path: Path) -> None:
    body = f'{{"uri":["file://{tmp_path}/archive/x%20y"],"state":"OPEN"}}'.encode()
    headers = {"Content-Type": "application/json"}
    reply = await client("POST", "/API/storage/file", body=body, headers=headers)
    assert (reply.json["storage"], reply.json["path"]) == ("VX-2", "x y")


async def test_the_query_wins_over_the_document(client: Client) -> None:
    body, headers = b'{"path":"doc","state":"CLOSED"}', {"Content-Type": "application/json"}
    reply = await client("POST", f"{FILES}?path=query&state=LOST", body=body, headers=headers)
    assert (reply.json["path"], reply.json["state"]) == ("query", "LOST")


async def test_a_json_type_on_a_call_without_a_body_is_no_document(client: Client) -> None:
    reply = await client("POST", f"{FILES}?path=a", headers={"Content-Type": "application/json"})
    assert reply.status == 200


@pytest.mark.parametrize(
    ("target", "body", "status", "context"),
    [
        pytest.param(FILES, b"", 400, "path", id="nothing"),
        pytest.param("/API/storage/file?path=a", b"", 400, "storage", id="path-without-storage"),
        pytest.param(f"{FILES}?uri=file:///etc/x", b"", 400, "uri", id="uri-outside"),
        pytest.param(f"{FILES}?path=a&state=DONE", b"", 400, "state", id="state"),
        pytest.param(f"{FILES}?path=..", b"", 400, "path", id="above-the-root"),
        pytest.param(f"{FILES}?path=a&createOnly=maybe", b"", 400, "createOnly", id="boolean"),
        pytest.param(FILES, b'{"jobId":"x"}', 400, "body", id="another-document"),
        pytest.param(FILES, b"{", 400, "body", id="broken"),
    ],
)
async def test_an_entity_that_cannot_be_is_refused(
    client: Client, target: str, body: bytes, status: int, context: str
) -> None:
    reply = await client("POST", target, body=body, headers={"Content-Type": "application/json"})
    assert (reply.status, reply.json["invalidInput"]["context"]) == (status, context)


async def test_a_document_of_another_type_is_415(client: Client) -> None:
    reply = await client("POST", FILES, body=b"path=a", headers={"Content-Type": "text/csv"})
    assert reply.status == 415


# --- state ----------------------------------------------------------------------------------------


async def test_a_state_is_set_and_changes_no_bytes(client: Client) -> None:
    id_ = await client.upload("a", b"1")
    reply = await client("PUT", f"/storage/file/{id_}/state/BEING_READ", accept=XML)
    assert b"<state>BEING_READ</state>" in reply.body
    assert (await client("GET", f"/API/file/{id_}/data")).body == b"1"
    assert (await client("PUT", f"/storage/file/{id_}/state/CLOSED", accept=TEXT)).text == f"{id_}\r\n"


async def test_an_unknown_state_is_400(client: Client) -> None:
    id_ = await client.create("a")
    reply = await client("PUT", f"/API/file/{id_}/state/closed")
    assert (reply.status, reply.json["invalidInput"]["context"]) == (400, "state")


async def test_an_archived_file_is_409_to_read(client: Client) -> None:
    id_ = await client.upload("a", b"1")
    await client("PUT", f"/API/file/{id_}/state/ARCHIVED")
    assert (await client("GET", f"/API/file/{id_}/data")).status == 409


# --- path -----------------------------------------------------------------------------------------


async def test_a_new_path_is_a_new_file_and_the_old_entity_is_gone(client: Client, tmp_path: Path) -> None:
    old = await client.upload("c.txt", b"moved by hand")
    (tmp_path / "media/c.txt").rename(tmp_path / "media/d.txt")
    reply = await client("POST", f"/API/file/{old}/path?path=d.txt")
    new = reply.json
    assert new["id"] != old
    assert (new["path"], new["state"], new["size"]) == ("d.txt", "CLOSED", 13)
    assert (await client("GET", f"/API/file/{old}")).status == 404
    assert (await client("GET", f"/API/file/{new['id']}/data")).body == b"moved by hand"


async def test_a_duplicate_leaves_the_old_entity(client: Client) -> None:
    old = await client.create("c")
    reply = await client("POST", f"/API/file/{old}/path?path=d&duplicate=true&storage=VX-2&state=LOST")
    assert (reply.json["storage"], reply.json["state"]) == ("VX-2", "LOST")
    assert (await client("GET", f"/API/file/{old}")).status == 200


async def test_an_entity_at_the_target_takes_the_new_ones_place(client: Client) -> None:
    old, there = await client.create("c"), await client.create("d")
    assert (await client("POST", f"/API/file/{old}/path?path=d", accept=TEXT)).text == f"{there}\r\n"
    assert (await client("GET", f"/API/file/{old}")).status == 404


async def test_the_same_path_only_sets_the_state(client: Client) -> None:
    id_ = await client.create("c")
    reply = await client("POST", f"/API/file/{id_}/path?path=/c&state=CLOSED")
    assert (reply.json["id"], reply.json["state"]) == (id_, "CLOSED")


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), ("path=..", 400), ("path=d&state=x", 400), ("path=d&storage=VX-9", 404)]
)
async def test_a_path_that_cannot_be_set(client: Client, query: str, status: int) -> None:
    id_ = await client.create("c")
    assert (await client("POST", f"/API/file/{id_}/path?{query}")).status == status
    assert (await client("GET", f"/API/file/{id_}")).status == 200


# --- gone -----------------------------------------------------------------------------------------


async def test_a_forgotten_entity_leaves_its_bytes(client: Client, tmp_path: Path) -> None:
    id_ = await client.upload("a", b"1")
    reply = await client("DELETE", f"/API/file/{id_}/entity")
    assert (reply.status, reply.body) == (200, b"")
    assert (await client("GET", f"/API/file/{id_}")).status == 404
    assert (tmp_path / "media/a").read_bytes() == b"1"
    assert await client.create("a") != id_


async def test_a_delete_job_takes_bytes_and_entity(client: Client, tmp_path: Path) -> None:
    id_ = await client.upload("x/a", b"1")
    reply = await client("DELETE", f"/API/storage/VX-1/file/{id_}?priority=HIGH&jobmetadata=why=old")
    started = reply.json
    assert (started["type"], started["priority"], started["user"]) == ("DELETE_FILE", "HIGH", "admin")
    finished = await client.job(started["jobId"])
    assert finished["status"] == "FINISHED"
    assert {"key": "why", "value": "old"} in finished["data"]
    assert (await client("GET", f"/API/file/{id_}")).status == 404
    assert list((tmp_path / "media").iterdir()) == []


async def test_a_file_being_deleted_has_no_data_any_more(client: Client) -> None:
    id_ = await client.upload("a", b"1")
    await client("PUT", f"/API/file/{id_}/state/TO_BE_DELETED")
    assert (await client("GET", f"/API/file/{id_}/data")).status == 404


async def test_text_of_a_started_job_is_its_id(client: Client) -> None:
    id_ = await client.upload("a", b"1")
    reply = await client("DELETE", f"/API/file/{id_}", accept=TEXT)
    assert reply.text.startswith("VX-")
    await client.job(reply.text.strip())


async def test_re_index_answers_with_the_id_whatever_is_accepted(client: Client) -> None:
    id_ = await client.upload("a", b"1")
    reply = await client("PUT", f"/API/file/{id_}/re-index", accept=XML)
    assert (reply.status, reply.text) == (200, f"{id_}\r\n")
    assert reply.headers["Content-Type"].startswith("text/plain")


async def test_abandon_without_an_item_is_200_and_with_an_unknown_one_404(client: Client) -> None:
    id_ = await client.upload("a", b"1")
    assert (await client("PUT", f"/API/file/{id_}/abandon")).status == 200
    reply = await client("PUT", f"/API/file/{id_}/abandon?item=VX-1")
    assert (reply.status, reply.json["notFound"]["type"]) == (404, "Item")
