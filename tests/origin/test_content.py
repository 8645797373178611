"""Bytes out: ranges, conditions, validators, rights, and never a mix of two versions."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re

import pytest

from origin.domain.states import FileState
from tests.support.origin_service import Service

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes, more than one piece


@pytest.fixture
async def stored(service: Service) -> Service:
    assert (await service.put("media/v/clip.mp4", BODY)).status == 201
    return service


async def test_get_gives_the_bytes_with_all_an_edge_needs(stored: Service) -> None:
    reply = await stored("GET", "/content/media/v/clip.mp4", user=None)
    digest = hashlib.sha256(BODY).digest()
    assert (reply.status, reply.body) == (200, BODY)
    assert reply.headers["Content-Type"] == "video/mp4"
    assert reply.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert reply.headers["ETag"] == f'"{digest.hex()[:32]}"'
    assert reply.headers["X-Distribution-Bucket"] == "media"
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Cache-Control"] == "public, max-age=60"
    assert reply.headers["Content-Length"] == str(len(BODY))
    assert all(name in reply.headers for name in ("Last-Modified", "Date", "X-Request-Id"))


async def test_id_and_path_name_the_same_representation(stored: Service) -> None:
    file = await stored.file("v/clip.mp4")
    by_id = await stored("GET", f"/content/{file.id}")
    by_path = await stored("GET", "/content/media/v/clip.mp4")
    by_storage_id = await stored("GET", "/content/VX-1/v/clip.mp4")
    assert by_id.body == by_path.body == by_storage_id.body == BODY
    assert by_id.headers["ETag"] == by_path.headers["ETag"]


async def test_head_has_the_fields_of_get_and_no_body(stored: Service) -> None:
    head = await stored("HEAD", "/content/media/v/clip.mp4")
    get = await stored("GET", "/content/media/v/clip.mp4")
    fields = [{name.lower(): value for name, value in reply.headers.items()} for reply in (head, get)]
    for changing in ("date", "x-request-id"):
        del fields[0][changing], fields[1][changing]
    assert head.body == b""
    assert fields[0] == fields[1]


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=-5", len(BODY) - 5, len(BODY)),
        ("bytes=1023990-", 1023990, len(BODY)),
        ("bytes=262100-524400", 262100, 524401),
        ("bytes=5-99999999", 5, len(BODY)),
        ("bytes=0-10,5-20", 0, 21),
    ],
)
async def test_single_range_gives_exactly_those_bytes(  # RFC 9110 §14.2
    stored: Service, asked: str, first: int, end: int
) -> None:
    reply = await stored("GET", "/content/media/v/clip.mp4", headers={"Range": asked})
    assert (reply.status, reply.body) == (206, BODY[first:end])
    assert reply.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(BODY)}"


async def test_several_ranges_come_as_multipart(stored: Service) -> None:  # RFC 9110 §14.6
    reply = await stored("GET", "/content/media/v/clip.mp4", headers={"Range": "bytes=0-9,500000-500009,-3"})
    assert reply.status == 206
    boundary = reply.headers["Content-Type"].removeprefix("multipart/byteranges; boundary=").encode()
    parts = [part.partition(b"\r\n\r\n")[2] for part in reply.body.split(b"--" + boundary)[1:-1]]
    assert [part.removesuffix(b"\r\n") for part in parts] == [
        BODY[:10],
        BODY[500000:500010],
        BODY[-3:],
    ]
    assert int(reply.headers["Content-Length"]) == len(reply.body)


async def test_unsatisfiable_range_is_416_with_the_length(stored: Service) -> None:  # RFC 9110 §15.5.17
    reply = await stored("GET", "/content/media/v/clip.mp4", headers={"Range": "bytes=9999999-"})
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{len(BODY)}"


async def test_range_on_head_is_ignored(stored: Service) -> None:  # RFC 9110 §14.2: defined for GET
    reply = await stored("HEAD", "/content/media/v/clip.mp4", headers={"Range": "bytes=0-0"})
    assert (reply.status, reply.headers["Content-Length"]) == (200, str(len(BODY)))


async def test_if_range_of_another_version_sends_the_whole(stored: Service) -> None:  # RFC 9110 §13.1.5
    tag = (await stored("HEAD", "/content/media/v/clip.mp4")).headers["ETag"]
    ask = {"Range": "bytes=0-4", "If-Range": tag}
    assert (await stored("GET", "/content/media/v/clip.mp4", headers=ask)).status == 206
    await stored.put("media/v/clip.mp4", b"another version")
    reply = await stored("GET", "/content/media/v/clip.mp4", headers=ask)
    assert (reply.status, reply.body) == (200, b"another version")


async def test_matching_tag_is_304_without_body(stored: Service) -> None:  # RFC 9110 §15.4.5
    tag = (await stored("HEAD", "/content/media/v/clip.mp4")).headers["ETag"]
    reply = await stored("GET", "/content/media/v/clip.mp4", headers={"If-None-Match": f'"x", {tag}'})
    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["ETag"] == tag
    assert "Content-Length" not in reply.headers
    assert "Content-Type" not in reply.headers


async def test_if_match_of_another_version_is_412(stored: Service) -> None:  # RFC 9110 §13.1.1
    reply = await stored("GET", "/content/media/v/clip.mp4", headers={"If-Match": '"other"'})
    assert reply.status == 412


async def test_if_modified_since_is_followed(stored: Service) -> None:  # RFC 9110 §13.1.3
    when = (await stored("HEAD", "/content/media/v/clip.mp4")).headers["Last-Modified"]
    same = await stored("GET", "/content/media/v/clip.mp4", headers={"If-Modified-Since": when})
    assert same.status == 304
    old = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert (
        await stored("GET", "/content/media/v/clip.mp4", headers={"If-Modified-Since": old})
    ).status == 200


async def test_manifest_is_fresh_for_two_seconds_only(service: Service) -> None:
    await service.put("media/live.m3u8", b"#EXTM3U\n")
    reply = await service("GET", "/content/media/live.m3u8")
    assert reply.headers["Cache-Control"] == "public, max-age=2"
    assert reply.headers["Content-Type"] == "application/vnd.apple.mpegurl"


async def test_open_file_must_be_asked_for_again(service: Service) -> None:
    admin = await service.admin()
    await service.put("media/a", b"x")
    file = await service.file("a")
    await service.services.files.set_state(admin, file.id, FileState.OPEN)
    assert (await service("GET", "/content/media/a")).headers["Cache-Control"] == "no-cache"


async def test_file_replaced_while_being_read_goes_on_with_the_old_bytes(service: Service) -> None:
    old, new = b"o" * 20_000_000, b"n" * 20_000_000
    await service.put("media/big", old)
    async with service.session.get(service.url + "/content/media/big") as response:
        got = await response.content.readexactly(1000)
        assert (await service.put("media/big", new)).status == 200
        got += await response.read()
    assert got == old
    assert (await service("GET", "/content/media/big")).body == new


async def test_bytes_changed_behind_our_back_are_never_served_under_the_old_digest(stored: Service) -> None:
    before = await stored("GET", "/content/media/v/clip.mp4")
    path = stored.folder / "media" / "v" / "clip.mp4"
    path.write_bytes(b"changed by hand")
    reply = await stored("GET", "/content/media/v/clip.mp4")
    assert reply.body == b"changed by hand"
    assert "Repr-Digest" not in reply.headers
    assert reply.headers["ETag"] != before.headers["ETag"]
    assert reply.headers["Cache-Control"] == "no-cache"
    await stored.services.files.hasher.settle()
    after = await stored("GET", "/content/media/v/clip.mp4")
    digest = base64.b64encode(hashlib.sha256(b"changed by hand").digest()).decode()
    assert after.headers["Repr-Digest"] == f"sha-256=:{digest}:"


async def test_same_size_and_another_time_is_noticed(stored: Service) -> None:
    path = stored.folder / "media" / "v" / "clip.mp4"
    path.write_bytes(bytes(len(BODY)))
    os.utime(path, ns=(1, 1))
    reply = await stored("GET", "/content/media/v/clip.mp4")
    assert reply.body == bytes(len(BODY))
    assert "Repr-Digest" not in reply.headers


async def test_file_changed_while_being_sent_is_cut_off(service: Service) -> None:
    await service.put("media/big", b"o" * 30_000_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=65536)
    writer.write(b"GET /content/media/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: 30000000" in head
    with (service.folder / "media" / "big").open("r+b") as file:
        file.seek(29_999_000)
        file.write(b"n" * 1000)
    got = 0
    with pytest.raises(ConnectionError):
        while data := await reader.read(1 << 20):
            got += len(data)
        raise ConnectionResetError  # closed short is as good as reset
    assert got < 30_000_000
    writer.close()


async def test_bytes_gone_from_disk_are_404(stored: Service) -> None:
    (stored.folder / "media" / "v" / "clip.mp4").unlink()
    assert (await stored("GET", "/content/media/v/clip.mp4")).status == 404


async def test_storage_that_is_not_public_is_401_for_nobody_and_private_for_users(service: Service) -> None:
    await service.put("secret/a", b"x")
    nobody = await service("GET", "/content/secret/a", user=None)
    assert nobody.status == 401
    assert "Basic" in nobody.headers["WWW-Authenticate"]
    assert "Bearer" in nobody.headers["WWW-Authenticate"]
    assert (await service("GET", "/content/secret/missing", user=None)).status == 401
    known = await service("GET", "/content/secret/a")
    assert (known.status, known.headers["Cache-Control"]) == (200, "private, no-cache")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("VX-999999", 404),
        ("nope/a", 404),
        ("media/nope", 404),
        ("media/../secret/a", 404),
        ("media/%2e%2e/secret/a", 404),
        ("media/v%2Fclip.mp4", 404),
        ("media/v//clip.mp4", 404),
        ("media/v/clip.mp4/", 404),
        ("media/%", 400),
        ("media/%ff", 400),
        ("media/a%00b", 400),
        ("", 404),
    ],
)
async def test_target_that_names_nothing(stored: Service, target: str, status: int) -> None:
    answer = await stored.exchange(
        f"GET /content/{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert re.match(rb"HTTP/1.1 %d " % status, answer), answer[:200]
    assert b'{"messages":[' in answer


async def test_method_that_is_not_there_is_405_with_allow(stored: Service) -> None:
    reply = await stored("PATCH", "/content/media/v/clip.mp4")
    assert reply.status == 405
    assert "GET" in reply.headers["Allow"]


async def test_delete_is_202_and_the_bytes_are_gone_when_the_job_is_over(stored: Service) -> None:
    reply = await stored("DELETE", "/content/media/v/clip.mp4")
    assert reply.status == 202
    assert (await stored("GET", "/content/media/v/clip.mp4")).status == 404
    job = await stored.services.jobs.wait(reply.json["job"], 10)
    assert job.state.value == "FINISHED"
    assert stored.on_disk() == {}
    assert not (stored.folder / "media" / "v").exists()


async def test_absolute_target_is_read_as_its_path(stored: Service) -> None:  # RFC 9112 §3.2.2
    answer = await stored.exchange(
        b"GET http://any.example/content/media/v/clip.mp4 HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 206 ")
    assert answer.endswith(b"\r\n\r\n" + BODY[:4])


async def test_uploaded_page_is_not_a_page_of_this_host(service: Service) -> None:
    await service.put("media/page.html", b"<script>fetch('/admin/v1/users')</script>")
    reply = await service("GET", "/content/media/page.html")
    assert reply.headers["Content-Security-Policy"].startswith("sandbox ")
    assert "allow-same-origin" not in reply.headers["Content-Security-Policy"]


async def test_growing_file_is_not_hashed_by_its_readers(service: Service) -> None:
    await service.put("media/a", b"x")
    file = await service.file("a")
    await service.services.files.set_state(await service.admin(), file.id, FileState.OPEN)
    (service.folder / "media" / "a").write_bytes(b"xy")
    reply = await service("GET", "/content/media/a")
    assert (reply.body, "Repr-Digest" in reply.headers) == (b"xy", False)
    await service.services.files.hasher.settle()
    assert (await service.file("a")).size == 1
