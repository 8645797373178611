"""Bytes in: whole, checked and durable, or not at all."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from origin.domain.states import FileState
from origin.errors import IncompleteBody, OriginError
from tests.support.origin_service import FailingDisk, Service, basic, running_origin


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_upload_answers_with_both_digests_and_the_bytes_are_on_disk(service: Service) -> None:
    body = bytes(range(256)) * 5000
    reply = await service.put("media/a/b%20c.bin", body)
    assert reply.status == 201
    assert reply.json["sha256"] == sha256(body)
    assert reply.json["sha1"] == hashlib.sha1(body).hexdigest()
    assert reply.json["size"] == len(body)
    assert service.on_disk() == {"a/b c.bin": body}


async def test_empty_file_can_be_uploaded(service: Service) -> None:
    assert (await service.put("media/empty", b"")).status == 201
    reply = await service("GET", "/content/media/empty")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


async def test_replaced_file_keeps_its_id_and_has_another_tag(service: Service) -> None:
    first = await service.put("media/a", b"one")
    second = await service.put("media/a", b"two!")
    assert (first.status, second.status) == (201, 200)
    assert first.json["id"] == second.json["id"]
    assert first.headers["ETag"] != second.headers["ETag"]
    assert service.on_disk() == {"a": b"two!"}


async def test_put_with_if_none_match_star_leaves_what_is_there(service: Service) -> None:
    await service.put("media/a", b"one")
    reply = await service.put("media/a", b"two", **{"If-None-Match": "*"})
    assert reply.status == 412
    assert service.on_disk() == {"a": b"one"}


async def test_create_only_does_not_replace_a_file_that_the_catalog_does_not_know(service: Service) -> None:
    (service.folder / "media" / "a").write_bytes(b"stray")
    reply = await service.put("media/a", b"new", **{"If-None-Match": "*"})
    assert reply.status == 409
    assert service.on_disk() == {"a": b"stray"}


async def test_upload_without_path_is_named_by_its_id(service: Service) -> None:
    file = await service.services.files.upload(await service.admin(), "VX-1", None, chunks(b"x"))
    assert file.path == file.id
    assert service.on_disk() == {file.id: b"x"}


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
async def test_digest_that_does_not_match_is_refused_and_leaves_nothing(service: Service, name: str) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    right = base64.b64encode(hashlib.sha256(b"bytes").digest()).decode()
    assert (await service.put("media/a", b"bytes", **{name: f"sha-256=:{wrong}:"})).status == 400
    assert service.on_disk() == {}
    assert (await service.put("media/a", b"bytes", **{name: f"sha-256=:{right}:"})).status == 201


async def test_content_range_in_put_is_refused(service: Service) -> None:  # RFC 9110 §14.5
    reply = await service.put("media/a", b"x", **{"Content-Range": "bytes 0-0/10"})
    assert reply.status == 400
    assert service.on_disk() == {}


async def test_parent_that_is_a_file_is_a_conflict(service: Service) -> None:
    await service.put("media/a", b"x")
    assert (await service.put("media/a/b", b"y")).status == 409
    assert service.on_disk() == {"a": b"x"}


async def test_target_that_is_a_folder_is_a_conflict(service: Service) -> None:
    await service.put("media/a/b", b"x")
    assert (await service.put("media/a", b"y")).status == 409
    assert service.on_disk() == {"a/b": b"x"}


async def test_larger_than_max_upload_is_413_declared_or_not(tmp_path: Path) -> None:
    async with running_origin(tmp_path, limits={"max_upload": "1K"}) as service:
        assert (await service.put("media/a", b"x" * 1025)).status == 413
        assert (await service.put("media/a", chunks(b"x" * 1000, b"x" * 25))).status == 413
        assert service.on_disk() == {}
        assert (await service.put("media/a", b"x" * 1024)).status == 201


async def test_no_room_for_the_declared_length_is_507_before_the_body(service: Service) -> None:
    octets = (
        b"PUT /content/media/a HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999999\r\n"
        b"Expect: 100-continue\r\nAuthorization: " + basic().encode() + b"\r\n\r\n"
    )
    answer = await service.exchange(octets)
    assert answer.startswith(b"HTTP/1.1 507 ")
    assert b"100 Continue" not in answer


async def test_body_that_raises_leaves_neither_row_nor_file(service: Service) -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        raise IncompleteBody

    with pytest.raises(IncompleteBody):
        await service.services.files.upload(await service.admin(), "VX-1", "a", torn())
    assert service.on_disk() == {}


async def test_cancelled_upload_leaves_neither_row_nor_file(service: Service) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 600_000
            started.set()

    upload = asyncio.create_task(service.services.files.upload(await service.admin(), "VX-1", "a", endless()))
    await started.wait()
    assert list(service.on_disk()) != []
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert service.on_disk() == {}


async def test_two_uploads_to_one_path_at_once_leave_one_of_them_whole(service: Service) -> None:
    bodies = [bytes([n]) * 700_000 for n in range(6)]
    replies = await asyncio.gather(*(service.put("media/a", body) for body in bodies))
    assert len({reply.json["id"] for reply in replies}) == 1
    on_disk = service.on_disk()
    assert list(on_disk) == ["a"]
    file = await service.file("a")
    assert on_disk["a"] in bodies
    assert file.sha256 == sha256(on_disk["a"])
    assert file.generation == 6


async def _outcome(service: Service, body: bytes) -> str:
    try:
        await service.services.files.upload(await service.admin(), "VX-1", "deep/er/a", chunks(body))
    except OriginError as error:
        return type(error).__name__
    return "done"


@pytest.mark.parametrize("there_before", [False, True], ids=["new", "replacing"])
async def test_whichever_disk_call_fails_row_and_bytes_agree_and_nothing_is_left(
    tmp_path: Path, there_before: bool
) -> None:
    disk = FailingDisk()
    old, new = b"old" * 1000, b"new!" * 1000
    async with running_origin(tmp_path, disk=disk) as service:
        admin = await service.admin()
        seen: list[str] = []
        for nth in range(1, 60):
            if there_before:
                disk.arm(0)
                await service.services.files.upload(admin, "VX-1", "deep/er/a", chunks(old))
            disk.arm(nth)
            outcome = await _outcome(service, new)
            failed = disk.failed
            disk.arm(0)
            found = service.on_disk()
            assert set(found) <= {"deep/er/a"}, (nth, outcome, found.keys())
            try:
                file = await service.file("deep/er/a")
            except OriginError:
                assert found == {}, (nth, outcome)
                assert not there_before
            else:
                assert found["deep/er/a"] in (old, new), nth
                assert file.sha256 == sha256(found["deep/er/a"]), (nth, outcome)
                content = await service.services.files.open(file)
                assert content.sha256 == file.sha256
                await content.reader.close()
                if not there_before:
                    await service.services.files.forget(admin, file.id)
                    (tmp_path / "media" / "deep/er/a").unlink()
            if not failed:
                break
            seen.append(outcome)
        else:
            pytest.fail("an upload makes more disk calls than expected")
    assert "StorageOffline" in seen
    assert len(seen) > 8


async def test_full_disk_is_507_and_leaves_nothing(tmp_path: Path) -> None:
    disk = FailingDisk()
    async with running_origin(tmp_path, disk=disk) as service:
        disk.arm(1, only="write", error=errno.ENOSPC)
        reply = await service.put("media/a", b"x" * 2_000_000)
        assert reply.status == 507
        assert service.on_disk() == {}
        assert (await service.put("media/a", b"x")).status == 201


async def test_state_of_an_upload_is_closed_unless_said(service: Service) -> None:
    admin = await service.admin()
    files = service.services.files
    assert (await files.upload(admin, "VX-1", "a", chunks(b"x"))).state is FileState.CLOSED
    opened = await files.upload(admin, "VX-1", "b", chunks(b"x"), state=FileState.OPEN)
    assert opened.state is FileState.OPEN


async def test_anonymous_and_readers_may_not_write(service: Service) -> None:
    admin = await service.admin()
    await service.services.access.create_user(admin, "joe", "pw")
    assert (await service("PUT", "/content/media/a", body=b"x", user=None)).status == 401
    assert (await service("PUT", "/content/media/a", body=b"x", user=("joe", "pw"))).status == 403
    assert service.on_disk() == {}
