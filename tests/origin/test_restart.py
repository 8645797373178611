"""What was acknowledged is there after a crash; what was not has left nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from origin.domain.model import File
from origin.domain.states import FileState, JobState
from origin.errors import NotFound, Unavailable
from tests.support.origin_service import FailingDisk, basic, origin_config, running_origin

ROOT = Path(__file__).parents[2]


async def one(body: bytes) -> AsyncIterator[bytes]:
    yield body


class Crash(BaseException):
    pass


async def test_restart_finds_files_users_and_storages(tmp_path: Path) -> None:
    async with running_origin(tmp_path) as service:
        admin = await service.admin()
        await service.put("media/a", b"bytes")
        await service.services.access.create_user(admin, "joe", "pw")
        made = await service.services.storages.create(admin, "films")
        first = await service.file("a")
    async with running_origin(tmp_path) as service:
        admin = await service.admin()
        assert await service.file("a") == first
        assert (await service("GET", "/content/media/a")).body == b"bytes"
        found = await service.services.storages.get(admin, made.id)
        assert found.name == "films"
        assert (await service("GET", "/admin/v1/storages", user=("joe", "pw"))).status == 200


async def test_numbers_are_not_used_again_after_deletion_and_restart(tmp_path: Path) -> None:
    async with running_origin(tmp_path) as service:
        await service.put("media/a", b"x")
        first = await service.file("a")
        await service.services.files.forget(await service.admin(), first.id)
    async with running_origin(tmp_path) as service:
        reply = await service.put("media/b", b"x")
        assert int(reply.json["id"].removeprefix("VX-")) > first.n


async def test_second_process_cannot_open_the_catalog(tmp_path: Path) -> None:
    async with running_origin(tmp_path):
        with pytest.raises(Unavailable):
            async with running_origin(tmp_path):
                pass


@pytest.mark.parametrize("there_before", [False, True], ids=["new", "replacing"])
async def test_crash_after_the_rename_is_finished_at_start(
    tmp_path: Path, there_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_origin(tmp_path) as service:
        admin = await service.admin()
        files = service.services.files
        if there_before:
            await files.upload(admin, "VX-1", "d/a", one(b"old"))

        async def crash(*_: Any) -> None:
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(files.publisher, "_commit", crash)
            patch.setattr(files.publisher, "_undo", _nothing)
            with pytest.raises(Crash):
                await files.upload(admin, "VX-1", "d/a", one(b"new bytes"))
        assert service.on_disk() == {"d/a": b"new bytes"}
    async with running_origin(tmp_path) as service:
        file = await service.file("d/a")
        assert (file.size, file.state) == (9, FileState.CLOSED)
        reply = await service("GET", "/content/media/d/a")
        assert reply.body == b"new bytes"
        assert "Repr-Digest" in reply.headers


async def _nothing(*_: Any) -> None: ...


async def test_crash_before_the_rename_leaves_nothing(tmp_path: Path) -> None:
    disk = FailingDisk()
    async with running_origin(tmp_path, disk=disk) as service:
        files = service.services.files
        await files.upload(await service.admin(), "VX-1", "a", one(b"old"))
        files.publisher._undo = _nothing  # type: ignore[method-assign]
        disk.arm(1, only="rename")
        with pytest.raises(Unavailable):
            await files.upload(await service.admin(), "VX-1", "a", one(b"new"))
        disk.arm(0)
        (tmp_path / "media" / ".part-0123").write_bytes(b"left by a crash")
    async with running_origin(tmp_path) as service:
        assert service.on_disk() == {"a": b"old"}
        assert (await service("GET", "/content/media/a")).body == b"old"


async def test_delete_job_is_taken_up_after_a_crash(tmp_path: Path) -> None:
    async with running_origin(tmp_path, jobs={"runners": 0}) as service:
        await service.put("media/a", b"x")
        job = await service.services.files.delete(await service.admin(), (await service.file("a")).id)
        assert service.on_disk() == {"a": b"x"}
        with pytest.raises(NotFound):
            await service.file("a")
    async with running_origin(tmp_path) as service:
        assert (await service.services.jobs.wait(job.id, 10)).state is JobState.FINISHED
        assert service.on_disk() == {}


async def test_job_that_a_dead_runner_held_is_taken_up_at_once(tmp_path: Path) -> None:
    async with running_origin(tmp_path, jobs={"runners": 0}) as service:
        await service.put("media/a", b"x")
        job = await service.services.files.delete(await service.admin(), (await service.file("a")).id)
        database = service.origin._database
        assert database is not None
        from origin.catalog import jobs as rows

        async with database.write() as connection:
            await rows.claim(connection, "origin-1:dead:0", ["DELETE_FILE"], 0, 10**12)
    async with running_origin(tmp_path) as service:
        done = await service.services.jobs.wait(job.id, 10)
        assert (done.state, done.attempts) == (JobState.FINISHED, 2)


async def test_killed_mid_upload_nothing_is_left_and_the_rest_is_there(tmp_path: Path) -> None:
    origin_config(tmp_path)
    command = [sys.executable, "-m", "origin", "serve", "--config", str(tmp_path / "origin.yaml")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ})
    try:
        port = await asyncio.to_thread(_port, process)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = "PUT /content/media/{} HTTP/1.1\r\nHost: x\r\nAuthorization: " + basic()
        writer.write((head.format("whole") + "\r\nContent-Length: 5\r\n\r\nwhole").encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.write(
            (head.format("torn") + "\r\nContent-Length: 9000000\r\n\r\n").encode() + b"x" * 3_000_000
        )
        async with asyncio.timeout(20):
            while not any(p.stat().st_size for p in (tmp_path / "media").glob(".part-*")):
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        writer.close()
    finally:
        process.kill()
        await asyncio.to_thread(process.communicate)
    async with running_origin(tmp_path) as service:
        assert service.on_disk() == {"whole": b"whole"}
        assert (await service("GET", "/content/media/whole")).body == b"whole"
        assert (await service("GET", "/content/media/torn")).status == 404


def _port(process: subprocess.Popen[bytes]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if b" ready " in line:
            return int(line.rsplit(b":", 1)[1].split()[0])
    raise AssertionError("the origin did not start")


async def test_sigterm_lets_an_upload_end_and_exits_0(tmp_path: Path) -> None:
    origin_config(tmp_path)
    command = [sys.executable, "-m", "origin", "serve", "--config", str(tmp_path / "origin.yaml")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        port = await asyncio.to_thread(_port, process)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"PUT /content/media/a HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()}\r\n"
        writer.write(head.encode() + b"Content-Length: 6\r\n\r\nabc")
        async with asyncio.timeout(20):
            while not list((tmp_path / "media").glob(".part-*")):
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            while True:  # until it listens no more
                try:
                    _, probe = await asyncio.open_connection("127.0.0.1", port)
                except (ConnectionRefusedError, ConnectionResetError):  # reset: queued when it closed
                    break
                probe.close()
                await asyncio.sleep(0.01)
        writer.write(b"def")
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()
        await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 0
    finally:
        process.kill()
        await asyncio.to_thread(process.communicate)
    assert (tmp_path / "media" / "a").read_bytes() == b"abcdef"


def test_file_without_bytes_has_the_time_of_its_entity() -> None:
    assert File(1, 1, "a", changed_ms=5).timestamp_ms == 5
    assert File(1, 1, "a", changed_ms=5, mtime_ns=7_000_000).timestamp_ms == 7
