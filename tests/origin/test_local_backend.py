"""Bytes in a directory: confinement, atomic publishing, scans."""

from __future__ import annotations

import asyncio
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.backends.disk import Disk
from origin.backends.local import LocalBackend
from origin.backends.registry import directory_of, file_uri, make_backend
from origin.errors import Invalid, NotFound, OriginError, StorageOffline


@pytest.fixture
async def backend(tmp_path: Path) -> LocalBackend:
    backend = LocalBackend(tmp_path / "root", "VX-1")
    await backend.prepare()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return backend


async def put(backend: LocalBackend, path: str, data: bytes, *, replace: bool = True) -> None:
    writer = await backend.writer()
    try:
        await writer.write(data)
        await writer.seal()
        await writer.publish(path, replace=replace)
    finally:
        await writer.discard()


async def get(backend: LocalBackend, path: str) -> bytes:
    reader = await backend.open(path)
    try:
        return await reader.read(0, 1000)
    finally:
        await reader.close()


@pytest.mark.parametrize(
    "path",
    ["..", "../outside/secret", "a/../../outside/secret", "/etc/passwd", "", ".", "a//b", "./a", "a/."],
)
async def test_path_that_is_not_in_normal_form_is_refused(backend: LocalBackend, path: str) -> None:
    with pytest.raises(Invalid):
        await backend.open(path)
    with pytest.raises(Invalid):
        await put(backend, path, b"x")
    with pytest.raises(Invalid):
        await backend.remove(path)


@pytest.mark.parametrize("path", [".part-x", ".part-x/y"])
async def test_temporary_names_are_nobodys_path(backend: LocalBackend, path: str) -> None:
    with pytest.raises(Invalid):
        await put(backend, path, b"x")


@pytest.mark.parametrize("target", ["{}/outside", "../outside"])
async def test_link_to_a_folder_outside_is_not_followed(
    backend: LocalBackend, tmp_path: Path, target: str
) -> None:
    os.symlink(target.format(tmp_path), tmp_path / "root" / "link")
    for call in (backend.open("link/secret"), put(backend, "link/new", b"x"), backend.remove("link/secret")):
        with pytest.raises(Invalid):
            await call
    assert (tmp_path / "outside" / "secret").read_bytes() == b"secret"
    assert os.listdir(tmp_path / "outside") == ["secret"]


async def test_link_to_a_file_outside_is_not_read_and_is_replaced_itself(
    backend: LocalBackend, tmp_path: Path
) -> None:
    os.symlink(tmp_path / "outside" / "secret", tmp_path / "root" / "link")
    with pytest.raises(Invalid):
        await backend.open("link")
    await put(backend, "link", b"mine")
    assert (tmp_path / "outside" / "secret").read_bytes() == b"secret"
    assert await get(backend, "link") == b"mine"


async def test_links_inside_the_root_are_followed(backend: LocalBackend, tmp_path: Path) -> None:
    await put(backend, "real/a", b"bytes")
    os.symlink("real", tmp_path / "root" / "alias")
    os.symlink("real/a", tmp_path / "root" / "b")
    assert await get(backend, "alias/a") == b"bytes"
    assert await get(backend, "b") == b"bytes"


async def test_links_in_a_circle_are_refused(backend: LocalBackend, tmp_path: Path) -> None:
    os.symlink("two", tmp_path / "root" / "one")
    os.symlink("one", tmp_path / "root" / "two")
    for path in ("one", "one/a"):
        with pytest.raises(OriginError):
            await backend.open(path)


async def test_folders_fifos_and_sockets_are_no_files(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "root" / "folder").mkdir()
    os.mkfifo(tmp_path / "root" / "fifo")
    for path in ("folder", "fifo"):
        with pytest.raises(NotFound):
            await backend.open(path)
    assert [stat.path async for stat in backend.scan()] == []


async def test_removing_takes_empty_folders_and_no_others(backend: LocalBackend, tmp_path: Path) -> None:
    await put(backend, "x/y/a", b"1")
    await put(backend, "x/b", b"2")
    assert await backend.remove("x/y/a")
    assert not (tmp_path / "root" / "x" / "y").exists()
    assert await get(backend, "x/b") == b"2"
    assert not await backend.remove("x/y/a")


async def test_scan_finds_all_files_and_no_temporary_ones(backend: LocalBackend, tmp_path: Path) -> None:
    for path in ("a", "d/b", "d/e/c", "ü/ñ"):
        await put(backend, path, path.encode())
    (tmp_path / "root" / ".part-0").write_bytes(b"")
    os.close(os.open(os.fsencode(tmp_path / "root") + b"/\xff", os.O_CREAT))
    found = {stat.path: stat.size async for stat in backend.scan()}
    assert found == {"a": 1, "d/b": 3, "d/e/c": 5, "ü/ñ": 5}


async def test_prepare_removes_leftovers_but_those_still_needed(
    backend: LocalBackend, tmp_path: Path
) -> None:
    kept = await backend.reserve(10)
    (tmp_path / "root" / ".part-0").write_bytes(b"x")
    assert await backend.prepare(frozenset({kept})) == 1
    assert os.listdir(tmp_path / "root") == [kept]


async def test_root_that_is_gone_is_offline(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "root").rmdir()
    for call in (
        backend.open("a"),
        backend.writer(),
        backend.space(),
        backend.stat("a"),
        put(backend, "a", b""),
    ):
        with pytest.raises(StorageOffline):
            await call


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///srv/m", "/srv/m"),
        ("file:///srv/m/", "/srv/m"),
        ("file:/srv/a%20b", "/srv/a b"),
        ("file://localhost/srv", "/srv"),
        ("file:///srv/ü", "/srv/ü"),
    ],
)
def test_directory_of_a_file_uri(uri: str, path: str) -> None:
    assert directory_of(uri) == Path(path)
    assert directory_of(file_uri(Path(path))) == Path(path)


def test_relative_file_uri_is_below_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert directory_of("file:./var/x") == tmp_path / "var" / "x"


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a", "http://h/a", "/srv", "file://host/a", "file:///a?b", "file:///a#b", "file:", ""]
)
def test_uri_that_no_backend_takes_is_refused(uri: str) -> None:
    with pytest.raises(Invalid):
        make_backend(uri, "VX-1")


async def test_a_scan_holds_no_more_of_a_large_folder_than_of_a_small_one(
    backend: LocalBackend, tmp_path: Path
) -> None:
    peaks = []
    for first, count in ((0, 1000), (1000, 3000)):
        (tmp_path / "root" / "all").mkdir(exist_ok=True)
        for n in range(first, first + count):
            (tmp_path / "root" / "all" / f"{n:06}").touch()
        tracemalloc.start()
        try:
            assert len([1 async for _ in backend.scan()]) == first + count
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2, peaks


async def test_a_scan_goes_down_further_than_it_holds_folders_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now: set[int] = set()
    most = 0

    class Watched(Disk):
        def names(self, folder: int) -> Iterator[tuple[str, os.stat_result]]:
            nonlocal most
            open_now.add(folder)
            most = max(most, len(open_now))
            yield from super().names(folder)

        def close(self, descriptor: int) -> None:
            open_now.discard(descriptor)
            super().close(descriptor)

    (tmp_path / "root").mkdir()
    backend = LocalBackend(tmp_path / "root", "VX-1", Watched())
    deep = "/".join(["d"] * 300)
    await put(backend, f"{deep}/file", b"1")
    await put(backend, "d/d/file", b"2")
    assert sorted([stat.path async for stat in backend.scan()]) == [f"{deep}/file", "d/d/file"]
    assert most == 65  # one more, while a folder further down is read at once
    assert not open_now


async def test_a_scan_given_up_midway_leaves_nothing_open(backend: LocalBackend, tmp_path: Path) -> None:
    for n in range(600):
        folder = tmp_path / "root" / f"f{n % 3}"
        folder.mkdir(exist_ok=True)
        (folder / str(n)).touch()
    before = len(os.listdir("/proc/self/fd"))
    scan = backend.scan()
    await anext(scan)
    await scan.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_chunk_whose_write_was_cancelled_is_closed_when_the_write_is_over(
    tmp_path: Path,
) -> None:
    begun, go = threading.Event(), threading.Event()
    calls: list[str] = []

    class Slow(Disk):
        def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
            begun.set()
            go.wait(10)
            calls.append("written")
            return super().write(descriptor, data, offset)

        def close(self, descriptor: int) -> None:
            calls.append("closed")
            super().close(descriptor)

    (tmp_path / "root").mkdir()
    backend = LocalBackend(tmp_path / "root", "VX-1", Slow())
    size = 1 << 20
    writer = await backend.chunk(await backend.reserve(size), 0, size)
    calls.clear()
    write = asyncio.create_task(writer.write(bytes(size)))
    await asyncio.to_thread(begun.wait, 10)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    close = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    close.cancel()  # the client that was being served is gone, too
    await asyncio.sleep(0)
    assert calls == []
    go.set()
    await asyncio.wait([close])
    assert calls == ["written", "closed"]
