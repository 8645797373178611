"""Uploads: whole, replaced, in chunks, and torn. A torn one leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from tests.support.vidispine import ADMIN, TEXT, XML, Client, basic, raw_exchange, running

TARGET = "/API/storage/VX-1/file/data"


def on_disk(folder: Path, storage: str = "media") -> list[str]:
    """Return the names of everything below a storage's directory, temporary files included."""
    root = folder / storage
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_an_upload_answers_with_size_and_hash(client: Client, tmp_path: Path) -> None:
    reply = await client("POST", f"{TARGET}?path=news/a%20b.txt", body=b"hello, files\n")
    assert reply.status == 200
    document = reply.json
    assert (document["path"], document["size"], document["state"]) == ("news/a b.txt", 13, "CLOSED")
    assert document["hash"] == "056a313c45af56c9251336848f708569114e3240"
    assert (tmp_path / "media/news/a b.txt").read_bytes() == b"hello, files\n"


async def test_text_is_the_id_and_xml_the_document(client: Client) -> None:
    assert (await client("POST", f"{TARGET}?path=a", body=b"1", accept=TEXT)).text.startswith("VX-")
    reply = await client("POST", f"{TARGET}?path=a", body=b"1", accept=XML)
    assert b"<FileDocument xmlns=" in reply.body


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain", "application/json", None])
async def test_data_of_any_type_is_taken(client: Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    reply = await client("POST", f"{TARGET}?path=a", body=b"{not json", headers=headers)
    assert (reply.status, reply.json["size"]) == (200, 9)


async def test_a_body_with_chunked_transfer_coding_is_taken(client: Client) -> None:  # RFC 9112 §7.1
    async def parts():  # type: ignore[no-untyped-def]
        for part in (b"one ", b"two ", b"three"):
            yield part

    reply = await client("POST", f"{TARGET}?path=a", body=parts())
    assert reply.json["hash"] == hashlib.sha1(b"one two three").hexdigest()


async def test_an_empty_upload_is_a_file_of_no_bytes(client: Client) -> None:
    reply = await client("POST", f"{TARGET}?path=a", body=b"")
    assert (reply.json["size"], reply.json["state"]) == (0, "CLOSED")


async def test_a_taken_path_gets_the_new_bytes_and_keeps_its_id(client: Client) -> None:
    first = await client.upload("a", b"old")
    assert await client.upload("/x/../a", b"newer") == first
    assert (await client("GET", f"/API/file/{first}/data")).body == b"newer"


async def test_without_a_path_the_id_is_the_path(client: Client) -> None:
    document = (await client("POST", TARGET, body=b"1")).json
    assert document["path"] == document["id"]


async def test_without_a_storage_the_roomiest_takes_it(client: Client) -> None:
    document = (await client("POST", "/API/storage/file/data?path=a", body=b"1")).json
    assert document["storage"] in ("VX-1", "VX-2")


async def test_a_uri_names_storage_and_path(client: Client, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/archive/x/y.txt"
    document = (await client("POST", f"/API/storage/file/data?uri={uri}", body=b"1")).json
    assert (document["storage"], document["path"]) == ("VX-2", "x/y.txt")


@pytest.mark.parametrize(
    ("query", "context"),
    [
        ("uri=file:///etc/passwd", "uri"),
        ("uri=relative", "uri"),
        ("path=a&uri={media}/b", "path"),
        ("uri={archive}/b", "uri"),
        ("path=../a", "path"),
        ("path=a%00b", "path"),
        ("path=/", "path"),
        ("path=" + "x" * 256, "path"),
        ("path=a&state=closed", "state"),
        ("path=a&transferPriority=0", "transferPriority"),
        ("path=a&transferPriority=1001", "transferPriority"),
    ],
)
async def test_a_bad_place_or_parameter_is_400_and_leaves_nothing(
    client: Client, tmp_path: Path, query: str, context: str
) -> None:
    query = query.format(media=f"file://{tmp_path}/media", archive=f"file://{tmp_path}/archive")
    reply = await client("POST", f"{TARGET}?{query}", body=b"1")
    assert reply.status == 400
    assert reply.json["invalidInput"]["context"] == context
    assert on_disk(tmp_path) == on_disk(tmp_path, "archive") == []


async def test_a_uri_and_a_path_may_agree(client: Client, tmp_path: Path) -> None:
    reply = await client("POST", f"{TARGET}?path=/b&uri=file://{tmp_path}/media/b", body=b"1")
    assert reply.status == 200


async def test_a_parent_that_is_a_file_on_disk_is_409(client: Client, tmp_path: Path) -> None:
    await client.upload("a", b"1")
    reply = await client("POST", f"{TARGET}?path=a/b", body=b"2")
    assert reply.status == 409
    assert on_disk(tmp_path) == ["a"]


async def test_state_is_the_new_files_state(client: Client) -> None:
    assert (await client("POST", f"{TARGET}?path=a&state=OPEN", body=b"1")).json["state"] == "OPEN"


async def test_an_entity_is_filled_and_becomes_closed(client: Client) -> None:
    id_ = await client.create("later/a", "&state=TO_APPEAR")
    document = (await client("POST", f"/API/storage/VX-1/file/{id_}/data", body=b"now")).json
    assert (document["id"], document["state"], document["size"]) == (id_, "CLOSED", 3)
    document = (await client("POST", "/API/storage/VX-1/file/path/later%2Fa/data", body=b"again")).json
    assert (document["id"], document["size"]) == (id_, 5)


async def test_an_entity_that_is_not_there_cannot_be_filled(client: Client) -> None:
    assert (await client("POST", "/API/file/VX-999/data", body=b"1")).status == 404


# --- torn (RFC 9112 §6.3, and the seed: 400 when the amount is not what Content-Length said) --------


def head(target: str, *fields: str) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: x", f"Authorization: {basic(*ADMIN)}", *fields, "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("sent", [0, 9, 200_000], ids=["nothing", "ten", "200kB"])
async def test_less_than_content_length_is_400_and_leaves_nothing(
    client: Client, tmp_path: Path, sent: int
) -> None:
    octets = head(f"{TARGET}?path=torn.bin", "Content-Length: 300000") + b"x" * sent
    answer = await raw_exchange(client.base, octets)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<invalidInput>" in answer
    assert (await client("GET", "/API/storage/VX-1/file/path/torn.bin")).status == 404
    assert on_disk(tmp_path) == []


async def test_a_torn_replacement_leaves_the_old_bytes(client: Client, tmp_path: Path) -> None:
    id_ = await client.upload("a", b"old bytes")
    before = (await client("GET", f"/API/file/{id_}")).json
    answer = await raw_exchange(
        client.base, head(f"/API/file/{id_}/data", "Content-Length: 100") + b"only this"
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (await client("GET", f"/API/file/{id_}")).json == before
    assert (await client("GET", f"/API/file/{id_}/data")).body == b"old bytes"
    assert on_disk(tmp_path) == ["a"]


async def test_a_whole_body_followed_by_a_half_close_is_200(client: Client) -> None:
    answer = await raw_exchange(client.base, head(f"{TARGET}?path=a", "Content-Length: 5") + b"whole")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_chunked_body_without_its_end_is_400_and_leaves_nothing(
    client: Client, tmp_path: Path
) -> None:
    octets = head(f"{TARGET}?path=a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n"
    answer = await raw_exchange(client.base, octets)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert on_disk(tmp_path) == []


async def test_a_refusal_comes_before_the_client_sends_its_body(client: Client) -> None:  # RFC 9110 §10.1.1
    for target, status in ((f"{TARGET}?path=../a", b"400"), ("/API/storage/VX-9/file/data", b"404")):
        octets = head(target, "Content-Length: 1000000", "Expect: 100-continue")
        answer = await raw_exchange(client.base, octets, half_close=False)
        assert answer.startswith(b"HTTP/1.1 " + status)


# --- chunks ---------------------------------------------------------------------------------------

BYTES = bytes(range(250)) * 4
C = f"{TARGET}?path=c.bin&transferId=t1"


def chunk(first: int, last: int) -> tuple[dict[str, str], bytes]:
    return {"index": str(first), "size": str(len(BYTES))}, BYTES[first:last]


async def send(client: Client, first: int, last: int, target: str = C) -> int:
    headers, body = chunk(first, last)
    return (await client("POST", target, headers=headers, body=body)).status


async def test_chunks_come_in_any_order_and_the_last_one_answers(client: Client, tmp_path: Path) -> None:
    assert await send(client, 700, 1000) == 204
    assert await send(client, 0, 300) == 204
    assert (await client("GET", "/API/storage/VX-1/file/path/c.bin")).status == 404
    headers, body = chunk(300, 700)
    reply = await client("POST", C, headers=headers, body=body)
    assert (reply.status, reply.json["hash"]) == (200, hashlib.sha1(BYTES).hexdigest())
    assert on_disk(tmp_path) == ["c.bin"]


async def test_chunks_come_in_parallel_and_again(client: Client) -> None:
    places = [(n, n + 100) for n in range(0, 1000, 100)] * 2
    statuses = await asyncio.gather(*(send(client, *place) for place in places))
    assert set(statuses) <= {200, 204}
    assert 200 in statuses
    assert (await client("GET", "/API/storage/VX-1/file/path/c.bin/data")).body == BYTES


async def test_a_chunk_repeated_after_the_end_gives_the_file_again(client: Client) -> None:
    assert await send(client, 0, 1000) == 200
    headers, body = chunk(0, 1000)
    reply = await client("POST", C, headers=headers, body=body)
    assert (reply.status, reply.json["size"]) == (200, 1000)


async def test_chunks_fill_an_entity(client: Client) -> None:
    id_ = await client.create("c")
    target = f"/API/file/{id_}/data?transferId=t2"
    assert await send(client, 0, 500, target) == 204
    headers, body = chunk(500, 1000)
    assert (await client("POST", target, headers=headers, body=body)).json["id"] == id_


async def test_a_torn_chunk_is_400_and_leaves_no_mark(client: Client) -> None:
    fields = ("index: 0", "size: 1000", "Content-Length: 1000")
    answer = await raw_exchange(client.base, head(C, *fields) + BYTES[:600])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert await send(client, 600, 1000) == 204
    assert await send(client, 0, 600) == 200


async def test_a_transfer_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, client):
        assert await send(client, 0, 400) == 204
    async with running(tmp_path) as (_, client):
        assert await send(client, 400, 1000) == 200
        assert (await client("GET", "/API/storage/VX-1/file/path/c.bin/data")).body == BYTES


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        pytest.param(C, {"index": "0"}, id="index-alone"),
        pytest.param(C, {"size": "1000"}, id="size-alone"),
        pytest.param(f"{TARGET}?path=c.bin", {"index": "0", "size": "1000"}, id="no-transfer-id"),
        pytest.param(C, {"index": "-1", "size": "1000"}, id="negative"),
        pytest.param(C, {"index": "950", "size": "1000"}, id="past-the-end"),
    ],
)
async def test_chunks_that_cannot_be_are_400(client: Client, target: str, headers: dict[str, str]) -> None:
    assert (await client("POST", target, headers=headers, body=BYTES[:100])).status == 400


async def test_another_size_than_the_first_chunks_is_400(client: Client) -> None:
    assert await send(client, 0, 100) == 204
    reply = await client("POST", C, headers={"index": "100", "size": "999"}, body=BYTES[100:200])
    assert (reply.status, reply.json["invalidInput"]["context"]) == (400, "size")


async def test_a_transfer_id_without_chunk_headers_is_only_a_name(client: Client) -> None:
    assert (await client("POST", C, body=BYTES)).status == 200
