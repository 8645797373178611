"""`GET {sr}/file`: every parameter of the seed document, in the query and in the matrix."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.vidispine import TEXT, XML, Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = (
    ("a/one.mov", b"1", "VX-1"),
    ("a/two.txt", b"22", "VX-1"),
    ("b/three", b"333", "VX-1"),
    ("b/Four.MOV", b"1", "VX-2"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listed(shared: Client) -> AsyncIterator[Client]:
    """Files 1 to 4 with bytes, 5 an entity without, in state LOST."""
    for number, (path, body, storage) in enumerate(FILES, 1):
        await shared.upload(path, body, storage, label=str(number))
    await shared.create("gone", "&state=LOST", "VX-2", label="5")
    yield shared


def found_in(client: Client, document: dict[str, Any]) -> str:
    return client.labels([file["id"] for file in document["file"]])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/API/storage/file", "12345", id="all-storages"),
        pytest.param("/storage/VX-2/file/", "45", id="one-storage"),
        pytest.param("/API/storage/file?id={1},{4}&id={3},VX-9999", "134", id="ids-mixed"),
        pytest.param("/API/storage/file?id=nonsense", "", id="unknown-id-is-just-not-there"),
        pytest.param("/API/storage/VX-1/file?id={4}", "", id="id-of-another-storage"),
        pytest.param("/API/storage/file;storage=VX-2;storage=VX-1", "12345", id="storages-repeated"),
        pytest.param("/API/storage/file?storage=VX-2", "45", id="storage-in-the-query"),
        pytest.param("/API/storage/VX-1/file;storage=VX-2", "", id="storage-only-narrows"),
        pytest.param("/API/storage/file?state=LOST", "5", id="state"),
        pytest.param("/API/storage/file?state=CLOSED,LOST&state=OPEN", "12345", id="states"),
        pytest.param(f"/API/storage/file?hash={hashlib.sha1(b'1').hexdigest().upper()}", "14", id="sha1"),
        pytest.param(
            f"/API/storage/file?algorithm=sha256&hash={hashlib.sha256(b'22').hexdigest()}", "2", id="sha256"
        ),
        pytest.param("/API/storage/file?hash=00", "", id="no-such-hash"),
        pytest.param("/API/storage/file;first=1;number=2", "23", id="first-counts-from-0"),
        pytest.param("/API/storage/file;start=3;number=100", "45", id="start-is-an-alias"),
        pytest.param("/API/storage/file;start=3;first=4", "5", id="first-beats-start"),
        pytest.param("/API/storage/file;number=100000", "12345", id="more-than-the-limit"),
        pytest.param("/API/storage/file;first=99", "", id="past-the-end"),
        pytest.param("/API/storage/file;sort=size", "51423", id="size-unknown-first-ties-by-id"),
        pytest.param("/API/storage/file;sort=size%20desc", "32145", id="size-desc"),
        pytest.param("/API/storage/file;sort=size+desc,fileId+desc", "32415", id="plus-in-the-matrix"),
        pytest.param("/API/storage/file?sort=fileId%20desc", "54321", id="fileId-desc"),
        pytest.param("/API/storage/file?sort=state,fileId", "12345", id="state-by-name"),
        pytest.param("/API/storage/file?sort=filename", "45132", id="filename-by-code-point"),
        pytest.param("/API/storage/file?sort=extension", "35412", id="extension"),
        pytest.param("/API/storage/file?sort=extension%2CfileId%20descending", "53412", id="two-fields"),
        pytest.param("/API/storage/file;filter=noitem", "12345", id="noitem"),
        pytest.param("/API/storage/file;filter=item", "", id="item"),
        pytest.param("/API/storage/file?excludeQueued=true", "12345", id="excludeQueued"),
        pytest.param("/API/storage/file?path=&recursive=&id=", "12345", id="empty-counts-as-absent"),
        pytest.param("/API/storage/file?unheard=of", "12345", id="unknown-is-ignored"),
    ],
)
async def test_filters_sorts_and_pages(listed: Client, target: str, expected: str) -> None:
    reply = await listed("GET", target)
    assert reply.status == 200
    assert found_in(listed, reply.json) == expected


@pytest.mark.parametrize(
    ("query", "context"),
    [
        ("recursive=yes", "recursive"),
        ("first=-1", "first"),
        ("number=ten", "number"),
        ("sort=colour", "sort"),
        ("state=closed", "state"),
        ("filter=both", "filter"),
        ("algorithm=MD5", "algorithm"),
        ("methodMetadata=format", "methodMetadata"),
        ("cursor=nonsense", "cursor"),
        ("includeItem=2", "includeItem"),
        ("path=%ff", "path"),
    ],
)
async def test_a_bad_parameter_is_400_and_named(listed: Client, query: str, context: str) -> None:
    reply = await listed("GET", f"/API/storage/file?{query}")
    assert reply.status == 400
    assert reply.json["invalidInput"]["context"] == context


async def test_hits_counts_after_filters_and_before_paging(listed: Client) -> None:
    reply = await listed("GET", "/API/storage/file;number=1?path=/a/")
    assert (reply.json["hits"], found_in(listed, reply.json)) == (2, "1")


async def test_number_0_gives_only_the_hits(listed: Client) -> None:
    assert (await listed("GET", "/API/storage/file;number=0")).json == {"hits": 5, "file": []}


async def test_count_false_leaves_the_hits_out(listed: Client) -> None:
    reply = await listed("GET", "/API/storage/VX-2/file?count=false&number=1")
    assert list(reply.json) == ["file"]


async def test_the_default_page_has_ten_files(listed: Client) -> None:
    created = [f"/API/storage/VX-2/file?path=ten/{n}" for n in range(11)]
    for target in created:
        await listed("POST", target)
    reply = await listed("GET", "/API/storage/VX-2/file?path=/ten/")
    assert (reply.json["hits"], len(reply.json["file"])) == (11, 10)
    for file in (await listed("GET", "/API/storage/VX-2/file;number=99?path=/ten/")).json["file"]:
        await listed("DELETE", f"/API/file/{file['id']}/entity")


@pytest.mark.parametrize("sort", ["fileId", "size%20desc", "extension,filename%20desc"])
async def test_a_list_walked_by_cursor_has_each_file_once_in_order(listed: Client, sort: str) -> None:
    whole = found_in(listed, (await listed("GET", f"/API/storage/file?sort={sort}")).json)
    walked = ""
    cursor: str | None = "*"
    while cursor:
        document = (await listed("GET", f"/API/storage/file?number=2&sort={sort}&cursor={cursor}")).json
        assert document["hits"] == 5
        walked += found_in(listed, document)
        cursor = document.get("nextCursor")
    assert walked == whole


async def test_text_is_the_ids_one_a_line(listed: Client) -> None:
    reply = await listed("GET", "/API/storage/VX-1/file", accept=TEXT)
    assert reply.text == "".join(f"{listed.ids[label]}\r\n" for label in "123")
    assert reply.headers["Content-Type"] == "text/plain;charset=UTF-8"


async def test_xml_is_the_default_form(listed: Client) -> None:
    reply = await listed("GET", "/API/storage/VX-1/file;number=0", accept=None)
    assert reply.headers["Content-Type"] == XML
    assert reply.body == (
        b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        b'<FileListDocument xmlns="http://xml.vidispine.com/schema/vidispine"><hits>3</hits>'
        b"</FileListDocument>"
    )


async def test_an_unknown_storage_is_404(listed: Client) -> None:
    reply = await listed("GET", "/API/storage/VX-99/file")
    assert reply.status == 404
    assert reply.json["notFound"] == {"type": "Storage", "id": "VX-99", "context": None}


# --- URIs -----------------------------------------------------------------------------------------


async def uris(client: Client, query: str, file: str = "{1}") -> list[str] | None:
    document = (await client("GET", f"/API/storage/file?id={file}&{query}")).json
    assert document["hits"] == 1, "what chooses URIs never chooses files"
    found: list[str] | None = document["file"][0].get("uri")
    return found


@pytest.mark.parametrize(
    ("query", "suffix"),
    [
        pytest.param("", "/media/a/one.mov", id="plain"),
        pytest.param("scheme=file", "/media/a/one.mov", id="scheme"),
        pytest.param("storageType=LOCAL,ARCHIVE", "/media/a/one.mov", id="storage-type"),
        pytest.param("methodType=AUTO", ":3334/api/v1/assets/{1}", id="edge"),
    ],
)
async def test_uris_that_match(listed: Client, query: str, suffix: str) -> None:
    found = await uris(listed, query)
    assert found is not None
    assert len(found) == 1
    assert found[0].endswith(suffix.replace("{1}", listed.ids["1"]))


@pytest.mark.parametrize(
    "query",
    [
        "scheme=http",
        "storageType=ARCHIVE",
        "methodType=S3",
        "methodMetadata=a=b",
        "methodType=AUTO&scheme=s3",
    ],
)
async def test_a_file_without_a_matching_uri_is_listed_without_uri(listed: Client, query: str) -> None:
    assert await uris(listed, query) is None


async def test_a_lost_file_has_no_uri(listed: Client) -> None:
    assert await uris(listed, "", "{5}") is None


# --- signed addresses -----------------------------------------------------------------------------


async def signed(client: Client) -> str:
    query = (
        "methodMetadata=format=SIGNED-AUTO&methodMetadata=contentDisposition%3Dattachment;filename%3D%22x%22"
    )
    found = await uris(client, query)
    assert found is not None
    return found[0].removeprefix(client.base)


async def test_a_signed_address_opens_the_data_without_credentials(listed: Client) -> None:
    target = await signed(listed)
    assert target.startswith(f"/API/file/{listed.ids['1']}/data?expires=")
    reply = await listed("GET", target, as_=None, accept="*/*")
    assert (reply.status, reply.body) == (200, b"1")
    assert reply.headers["Content-Disposition"] == 'attachment;filename="x"'


@pytest.mark.parametrize(
    ("old", "new"),
    [("/VX-", "/VX-1"), ("expires=", "expires=9"), ("attachment", "inline"), ("signature=", "signature=0")],
)
async def test_a_changed_signed_address_is_403(listed: Client, old: str, new: str) -> None:
    target = (await signed(listed)).replace(old, new, 1)
    reply = await listed("GET", target, as_=None)
    assert reply.status == 403
    assert reply.json["forbidden"]["context"] == "signature"


async def test_a_signed_address_gives_nothing_but_the_data(listed: Client) -> None:
    target = (await signed(listed)).replace("/data?", "/entity?")
    assert (await listed("DELETE", target, as_=None)).status == 401


async def test_a_disposition_with_control_characters_is_400(listed: Client) -> None:
    query = "methodMetadata=format=SIGNED-AUTO&methodMetadata=contentDisposition=a%0d%0ab"
    assert (await listed("GET", f"/API/storage/file?{query}")).status == 400
