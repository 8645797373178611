"""`GET {fr}` in all its forms, and `GET {fr}/data`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.support.vidispine import JSON, TEXT, XML, Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = bytes(range(256)) * 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stored(shared: Client) -> AsyncIterator[Client]:
    """1: `a;b/c d.bin` on VX-1; 2, 3: `twice`, on both storages; 4: an entity without bytes."""
    await shared.upload("a%3Bb/c%20d.bin", BODY, label="1")
    await shared.upload("twice", b"on media", label="2")
    await shared.upload("twice", b"on archive", "VX-2", label="3")
    await shared.create("empty", label="4")
    yield shared


async def method_uri(client: Client) -> str:
    document = (await client("GET", "/API/storage/VX-1")).json
    uri: str = document["method"][0]["uri"]
    return uri


@pytest.mark.parametrize(
    "target",
    [
        "/API/storage/VX-1/file/{1}",
        "/storage/VX-1/file/{1}/",
        "/API/storage/file/{1}",
        "/API/file/{1}",
        "/API//storage/VX-1//file;x=y/path/a%3Bb%2Fc%20d.bin;includeItem=True/",
        "/API/storage/file/path/%2Fa%3Bb%2F.%2Fx%2F..%2Fc%20d.bin",
    ],
)
async def test_every_form_of_address_leads_to_the_file(stored: Client, target: str) -> None:
    reply = await stored("GET", target)
    assert reply.status == 200
    assert reply.json["id"] == stored.ids["1"]
    assert reply.json["path"] == "a;b/c d.bin"


@pytest.mark.parametrize("sr", ["/API/storage", "/storage/VX-1"])
@pytest.mark.parametrize("encoded", ["a%3Bb/c%20d.bin", "a;b/c d.bin"])
async def test_a_file_is_found_by_its_uri_compared_decoded(stored: Client, sr: str, encoded: str) -> None:
    uri = await method_uri(stored) + encoded
    reply = await stored("GET", f"{sr}/file/uri/{quote(uri, safe='')}")
    assert (reply.status, reply.json["id"]) == (200, stored.ids["1"])


async def test_the_uri_of_the_document_leads_back_to_the_file(stored: Client) -> None:
    uri = (await stored("GET", "/API/file/{1}")).json["uri"][0]
    reply = await stored("GET", f"/API/storage/file/uri/{quote(uri, safe='')}", accept=TEXT)
    assert reply.text.startswith(stored.ids["1"] + "\t")


@pytest.mark.parametrize(
    ("target", "type_", "id_"),
    [
        ("/API/file/VX-9999", "File", "VX-9999"),
        ("/API/storage/VX-2/file/{1}", "File", "{1}"),
        ("/API/storage/VX-1/file/path/none", "File", "none"),
        ("/API/storage/file/uri/file%3A%2F%2F%2Fetc%2Fpasswd", "File", "file:///etc/passwd"),
        ("/API/storage/VX-9/file/{1}", "Storage", "VX-9"),
        ("/API/storage/VX-1/file/{1}/nothing", "resource", "/storage/VX-1/file/{1}/nothing"),
        ("/API/storage/VX-1/file/path/a/b", "resource", "/storage/VX-1/file/path/a/b"),
        ("/API/storage/VX-1/./file", "resource", "/storage/VX-1/./file"),
        ("/API/storage/VX-1/%2e%2e/VX-2/file", "resource", "/storage/VX-1/../VX-2/file"),
        ("/API/nothing", "resource", "/nothing"),
        ("/storage/nothing", "resource", "/storage/nothing"),
    ],
)
async def test_what_is_not_there_is_404_and_named(stored: Client, target: str, type_: str, id_: str) -> None:
    reply = await stored("GET", target)
    assert reply.status == 404
    id_ = id_.replace("{1}", stored.ids["1"])
    assert reply.json["notFound"] == {"type": type_, "id": id_, "context": None}


@pytest.mark.parametrize("target", ["/file/{1}", "/job", "/api/storage"])
async def test_what_stands_under_api_only_is_not_at_the_root(stored: Client, target: str) -> None:
    assert (await stored("GET", target)).status == 404


@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("GET", "/data"), ("DELETE", "/entity"), ("PUT", "/state/CLOSED")]
)
async def test_a_path_on_several_storages_is_409_without_a_storage(
    stored: Client, method: str, suffix: str
) -> None:
    reply = await stored(method, f"/API/storage/file/path/twice{suffix}")
    assert reply.status == 409
    assert reply.json["conflict"]["value"] == "twice"
    assert (await stored("GET", "/API/storage/VX-2/file/path/twice")).json["id"] == stored.ids["3"]


async def test_text_is_a_tabbed_tuple(stored: Client) -> None:
    reply = await stored("GET", "/API/file/{1}", accept=TEXT)
    id_, path, size, state, when = reply.text.removesuffix("\r\n").split("\t")
    assert (id_, path, size, state) == (stored.ids["1"], "a;b/c d.bin", "10240", "CLOSED")
    assert when.endswith("+0000")


async def test_the_document_has_what_is_mandatory(stored: Client) -> None:
    document = (await stored("GET", "/API/file/{1}")).json
    assert document["state"] == "CLOSED"
    assert document["size"] == len(BODY)
    assert document["hash"] == hashlib.sha1(BODY).hexdigest()
    assert (document["refreshFlag"], document["storage"]) == (1, "VX-1")
    assert [entry["key"] for entry in document["metadata"]["field"]] == ["created", "mtime", "atime"]
    empty = (await stored("GET", "/API/file/{4}")).json
    assert (empty["state"], empty["size"]) == ("OPEN", -1)
    assert "hash" not in empty


# --- data -----------------------------------------------------------------------------------------


async def test_data_is_the_bytes_as_octets(stored: Client) -> None:
    reply = await stored("GET", "/API/storage/VX-1/file/{1}/data", accept="*/*")
    assert (reply.status, reply.body) == (200, BODY)
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["ETag"].startswith('"')
    assert reply.headers["Repr-Digest"].startswith("sha-256=:")
    assert "Location" not in reply.headers


async def test_data_ignores_accept(stored: Client) -> None:
    assert (await stored("GET", "/API/file/{1}/data", accept="image/png")).status == 200


async def test_a_range_of_data_is_206(stored: Client) -> None:  # RFC 9110 §14.2
    reply = await stored("GET", "/API/file/{1}/data", headers={"Range": "bytes=10-19"})
    assert (reply.status, reply.body) == (206, BODY[10:20])
    assert reply.headers["Content-Range"] == "bytes 10-19/10240"


async def test_several_ranges_of_data_are_multipart(stored: Client) -> None:  # RFC 9110 §14.6
    reply = await stored("GET", "/API/file/{1}/data", headers={"Range": "bytes=0-0,-1"})
    assert reply.status == 206
    assert reply.headers["Content-Type"].startswith("multipart/byteranges")
    assert reply.body.count(b"Content-Range: bytes ") == 2


@pytest.mark.parametrize("accept", [JSON, XML])
async def test_a_range_past_the_end_is_416_in_the_dialects_shape(stored: Client, accept: str) -> None:
    reply = await stored("GET", "/API/file/{1}/data", headers={"Range": "bytes=99999-"}, accept=accept)
    assert reply.status == 416
    assert reply.headers["Content-Range"] == "bytes */10240"
    assert b"invalidInput" in reply.body


async def test_data_known_to_the_client_is_304(stored: Client) -> None:  # RFC 9110 §13.1.2
    tag = (await stored("HEAD", "/API/file/{1}/data")).headers["ETag"]
    reply = await stored("GET", "/API/file/{1}/data", headers={"If-None-Match": tag})
    assert (reply.status, reply.body) == (304, b"")


async def test_data_of_an_entity_without_bytes_is_404(stored: Client) -> None:
    assert (await stored("GET", "/API/file/{4}/data")).status == 404


@pytest.mark.parametrize(
    "target", ["/API/file/{1}", "/API/file/{1}/data", "/API/storage/file", "/API/storage", "/API/job"]
)
async def test_head_answers_as_get_without_a_body(stored: Client, target: str) -> None:
    got, head = await stored("GET", target), await stored("HEAD", target)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Type", "Content-Length", "Cache-Control"):
        assert head.headers.get(name) == got.headers.get(name)
