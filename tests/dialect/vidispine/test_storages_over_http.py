"""Storages and their methods: read by those who may, made and changed by administrators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.vidispine import TEXT, XML, Client

TYPE = {"Content-Type": "application/json"}


def document(uri: str, name: str | None = None, **more: object) -> bytes:
    held: dict[str, object] = {
        "type": "LOCAL",
        "method": [{"uri": uri, "read": True, "write": True, "browse": True}],
        **more,
    }
    if name is not None:
        held["metadata"] = {"field": [{"key": "name", "value": name}]}
    return json.dumps(held).encode()


def name_of(storage: dict[str, object]) -> str:
    fields = storage["metadata"]["field"]  # type: ignore[index]
    return next(field["value"] for field in fields if field["key"] == "name")


async def test_the_list_has_whole_documents(client: Client, tmp_path: Path) -> None:
    await client.upload("a", b"12345")
    listed = (await client("GET", "/API/storage")).json
    assert (listed["hits"], [storage["id"] for storage in listed["storage"]]) == (2, ["VX-1", "VX-2"])
    media = listed["storage"][0]
    assert media == (await client("GET", "/storage/VX-1")).json
    assert (name_of(media), media["type"], media["state"]) == ("media", "LOCAL", "READY")
    assert media["freeCapacity"] == media["capacity"] - 5
    assert media["lowWatermark"] == media["capacity"] * 90 // 100
    assert (media["lowWatermarkPercentage"], media["highWatermarkPercentage"]) == (90, 75)
    assert (media["autoDetect"], media["showImportables"], media["scanInterval"]) == (True, True, 60)
    method = media["method"][0]
    assert method["uri"] == f"file://{tmp_path}/media/"
    assert (method["read"], method["write"], method["browse"], method["type"]) == (True, True, True, "NONE")


async def test_text_of_the_list_is_the_ids(client: Client) -> None:
    assert (await client("GET", "/API/storage", accept=TEXT)).body == b"VX-1\r\nVX-2\r\n"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("files=1-", ["VX-1"]),
        ("files=-0", ["VX-2"]),
        ("usedbytes=1-1K", ["VX-1"]),
        ("freeamount=0-100", ["VX-1", "VX-2"]),
        ("size=1000000T-", []),
        ("status=READY", ["VX-1", "VX-2"]),
        ("status=-READY", []),
        ("url=*/archive/", ["VX-2"]),
        ("url=file:*medi?/", ["VX-1"]),
    ],
)
async def test_filters(client: Client, query: str, ids: list[str]) -> None:
    await client.upload("a", b"12345")
    listed = (await client("GET", f"/API/storage?{query}")).json
    assert [storage["id"] for storage in listed["storage"]] == ids
    assert listed["hits"] == len(ids)


@pytest.mark.parametrize("query", ["files=many", "status=GOOD", "size=1X-"])
async def test_bad_filters_are_400(client: Client, query: str) -> None:
    assert (await client("GET", f"/API/storage?{query}")).status == 400


async def test_free_space_and_state_are_text(client: Client) -> None:
    assert 0 <= int((await client("GET", "/API/storage/VX-1/freespace")).text) <= 100
    assert (await client("GET", "/API/storage/VX-1/status")).body == b"READY\r\n"


async def test_a_storage_is_made_from_json_and_used(client: Client, tmp_path: Path) -> None:
    body = document(f"file://{tmp_path}/extra", "extra", capacity=1000, scanInterval=-1)
    reply = await client("POST", "/API/storage", body=body, headers=TYPE)
    assert reply.status == 200
    storage = reply.json
    assert (name_of(storage), storage["capacity"], storage["scanInterval"]) == ("extra", 1000, -1)
    await client.upload("a", b"1", storage["id"])
    assert (tmp_path / "extra/a").read_bytes() == b"1"


async def test_a_storage_is_made_from_xml(client: Client, tmp_path: Path) -> None:
    body = (
        f'<StorageDocument xmlns="http://xml.vidispine.com/schema/vidispine"><type>LOCAL</type><method>'
        f"<uri>file://{tmp_path}/extra/</uri><read>true</read><write>false</write></method></StorageDocument>"
    ).encode()
    reply = await client("POST", "/API/storage", body=body, headers={"Content-Type": XML})
    storage = reply.json
    assert name_of(storage) == storage["id"]
    refused = await client("POST", f"/API/storage/{storage['id']}/file/data?path=a", body=b"1")
    assert refused.status == 409, "a storage without a method that writes is not writable"


@pytest.mark.parametrize(
    ("uri", "name", "status"),
    [
        pytest.param("file:///srv/elsewhere", None, 403, id="outside-the-roots"),
        pytest.param("file://{root}/media/inner", None, 409, id="inside-another"),
        pytest.param("file://{root}", None, 409, id="around-another"),
        pytest.param("file://{root}/new", "media", 409, id="name-taken"),
        pytest.param("file://{root}/new", "v2", 400, id="name-reserved"),
        pytest.param("gopher://x/", None, 400, id="no-backend"),
        pytest.param("relative", None, 400, id="no-uri"),
    ],
)
async def test_storages_that_cannot_be(
    client: Client, tmp_path: Path, uri: str, name: str | None, status: int
) -> None:
    body = document(uri.format(root=tmp_path), name)
    assert (await client("POST", "/API/storage", body=body, headers=TYPE)).status == status
    assert (await client("GET", "/API/storage")).json["hits"] == 2


async def test_a_storage_needs_a_method(client: Client) -> None:
    reply = await client("POST", "/API/storage", body=b'{"type":"LOCAL"}', headers=TYPE)
    assert (reply.status, reply.json["invalidInput"]["context"]) == (400, "method")


async def test_an_update_replaces_what_is_given(client: Client) -> None:
    body = b'{"capacity":5000,"metadata":{"field":[{"key":"name","value":"film"},{"key":"x","value":"y"}]}}'
    storage = (await client("PUT", "/API/storage/VX-1", body=body, headers=TYPE)).json
    assert (name_of(storage), storage["capacity"], storage["type"]) == ("film", 5000, "LOCAL")
    body = b'{"showImportables":"false"}'
    storage = (await client("PUT", "/API/storage/VX-1", body=body, headers=TYPE)).json
    assert (storage["showImportables"], storage["capacity"]) == (False, 5000)
    assert {"key": "x", "value": "y"} in storage["metadata"]["field"]


async def test_a_deleted_storage_takes_its_entities_and_leaves_its_bytes(
    client: Client, tmp_path: Path
) -> None:
    id_ = await client.upload("a", b"1")
    reply = await client("DELETE", "/API/storage/VX-1")
    assert (reply.status, reply.body) == (204, b"")
    assert (await client("GET", "/API/storage/VX-1")).status == 404
    assert (await client("GET", f"/API/file/{id_}")).status == 404
    assert (tmp_path / "media/a").read_bytes() == b"1"


async def test_a_safe_delete_of_a_storage_whose_file_is_in_an_item_is_409(client: Client) -> None:
    id_ = await client.upload("a", b"1")
    job = (await client("POST", f"/API/file/{id_}/import")).json["jobId"]
    await client.job(job)
    assert (await client("DELETE", "/API/storage/VX-1?safe=true")).status == 409
    assert (await client("DELETE", "/API/storage/VX-2?safe=true")).status == 204


async def test_a_type_is_set(client: Client) -> None:
    reply = await client("PUT", "/API/storage/VX-1/type/SHARED")
    assert (reply.status, reply.body) == (200, b"")
    assert (await client("GET", "/API/storage/VX-1")).json["type"] == "SHARED"
    assert (await client("POST", "/API/storage/VX-1/file/data?path=a", body=b"1")).status == 409
    assert (await client("PUT", "/API/storage/VX-1/type/BOX")).status == 400


# --- methods --------------------------------------------------------------------------------------


async def method_of(client: Client, call: str, target: str) -> dict[str, Any]:
    (method,) = (await client(call, target)).json["method"]
    found: dict[str, Any] = method
    return found


async def test_methods_are_listed_added_changed_and_removed(client: Client, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/second"
    methods = "/API/storage/VX-1/method"
    added = await method_of(client, "POST", f"{methods}?url={url}&write=false&type=AUX&bandwidth=9")
    assert (added["uri"], added["write"], added["type"], added["bandwidth"]) == (url + "/", False, "AUX", 9)
    listed = await client("GET", methods)
    assert [method["id"] for method in listed.json["method"]][1] == added["id"]
    assert (await client("GET", methods, accept=TEXT)).lines[1] == f"{added['id']}\t{url}/\tAUX"
    target = f"{methods}/{added['id']}"
    changed = await method_of(client, "PUT", f"{target}?url={url}&browse=false")
    assert (changed["id"], changed["browse"], changed["write"]) == (added["id"], False, False)
    assert await method_of(client, "GET", target) == changed
    assert (await client("DELETE", target)).body == b""
    reply = await client("GET", target)
    assert reply.json["notFound"]["type"] == "storage-method"


async def test_putting_a_method_updates_the_one_with_its_url_or_makes_it(
    client: Client, tmp_path: Path
) -> None:
    target = f"/API/storage/VX-1/method?url=file://{tmp_path}/second/"
    made = await method_of(client, "PUT", target)
    assert await method_of(client, "PUT", f"{target}&write=false") == {**made, "write": False}


@pytest.mark.parametrize("query", ["", "url=", "url=relative", "url=file:///a%20b/c"])
async def test_a_method_without_a_good_url_is_400(client: Client, query: str) -> None:
    reply = await client("POST", f"/API/storage/VX-1/method?{query}")
    assert (reply.status, reply.json["invalidInput"]["explanation"]) == (400, "invalid method url")


async def test_the_last_method_stays(client: Client) -> None:
    id_ = (await client("GET", "/API/storage/VX-1/method")).json["method"][0]["id"]
    assert (await client("DELETE", f"/API/storage/VX-1/method/{id_}")).status == 409


async def test_a_method_type_chooses_the_uri_of_a_file(client: Client, tmp_path: Path) -> None:
    await client("POST", f"/API/storage/VX-1/method?url=file://{tmp_path}/aux&write=false&type=AUX")
    id_ = await client.upload("a", b"1")
    document_ = (await client("GET", f"/API/file/{id_}?methodType=AUX")).json
    assert document_["uri"] == [f"file://{tmp_path}/aux/a"]


async def test_metadata_of_a_method_is_kept_shown_and_chooses_the_uri_of_a_file(
    client: Client, tmp_path: Path
) -> None:
    def method(folder: str, **metadata: str) -> dict[str, Any]:
        fields = [{"key": key, "value": value} for key, value in metadata.items()]
        return {"uri": f"file://{tmp_path}/{folder}/", "metadata": {"field": fields}}

    methods = [method("m1", site="london", tier="1"), method("m2", site="paris", tier="1")]
    made = await client("POST", "/API/storage", body=json.dumps({"method": methods}), headers=TYPE)
    storage = made.json
    assert [held["metadata"] for held in storage["method"]] == [held["metadata"] for held in methods]
    file = await client.upload("a.mov", b"a", storage["id"])
    for query, folders in (
        ("site=paris", ["m2"]),
        ("tier=1", ["m1", "m2"]),
        ("tier=1&methodMetadata=site=london", ["m1"]),
        ("tier=2", []),
        ("site=london&methodMetadata=site=paris", []),
    ):
        document = (await client("GET", f"/API/file/{file}?methodMetadata={query}")).json
        assert document.get("uri", []) == [f"file://{tmp_path}/{name}/a.mov" for name in folders], query
    # What changes by parameters, or beside it, leaves it alone.
    first = storage["method"][0]
    target = f"/API/storage/{storage['id']}/method/{first['id']}?url={first['uri']}&browse=false"
    changed = (await client("PUT", target)).json["method"]
    assert changed == [{**first, "browse": False}]
    shown = await client("GET", f"/API/storage/{storage['id']}", accept=XML)
    assert "<metadata><field><key>site</key><value>london</value></field>" in shown.text
