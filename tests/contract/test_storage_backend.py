"""What every storage backend does alike. A new one is one line in BACKENDS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_asyncio

from origin.backends.registry import make_backend
from origin.errors import Conflict, Invalid, NotFound
from origin.ports import StorageBackend

BACKENDS: dict[str, Callable[[Path], str]] = {"file": lambda folder: f"file:{folder}/root"}

BODY = bytes(range(256)) * 9000  # more than one batch


@pytest_asyncio.fixture(params=list(BACKENDS))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    backend = make_backend(BACKENDS[request.param](tmp_path), "VX-1")
    await backend.prepare()
    return backend


async def put(backend: StorageBackend, path: str, data: bytes, *, replace: bool = True) -> None:
    writer = await backend.writer()
    try:
        await writer.write(data)
        await writer.seal()
        await writer.publish(path, replace=replace)
    finally:
        await writer.discard()


async def get(backend: StorageBackend, path: str) -> bytes:
    reader = await backend.open(path)
    try:
        parts = []
        offset = 0
        while part := await reader.read(offset, 100_000):
            parts.append(part)
            offset += len(part)
        assert offset == reader.stat.size
        return b"".join(parts)
    finally:
        await reader.close()


async def everything(backend: StorageBackend) -> dict[str, int]:
    return {stat.path: stat.size async for stat in backend.scan()}


async def test_what_is_published_is_read_back_with_its_digests(backend: StorageBackend) -> None:
    writer = await backend.writer()
    for offset in range(0, len(BODY), 70_001):
        await writer.write(BODY[offset : offset + 70_001])
    digests = await writer.seal()
    assert not writer.published
    stat = await writer.publish("a/b c/ü.bin", replace=True)
    assert writer.published
    await writer.discard()
    assert digests.size == stat.size == len(BODY)
    assert digests.sha1 == hashlib.sha1(BODY).hexdigest()
    assert digests.sha256 == hashlib.sha256(BODY).hexdigest()
    assert await get(backend, "a/b c/ü.bin") == BODY
    assert await backend.stat("a/b c/ü.bin") == stat


async def test_nothing_is_seen_before_publishing_and_nothing_is_left_after_discarding(
    backend: StorageBackend,
) -> None:
    writer = await backend.writer()
    await writer.write(BODY)
    await writer.seal()
    assert await everything(backend) == {}
    await writer.discard()
    assert await backend.prepare() == 0


async def test_missing_bytes_are_not_found(backend: StorageBackend) -> None:
    with pytest.raises(NotFound):
        await backend.open("a")
    assert await backend.stat("a") is None
    assert not await backend.remove("a")


async def test_replacing_is_whole_and_old_readers_go_on(backend: StorageBackend) -> None:
    await put(backend, "a", b"old")
    reader = await backend.open("a")
    await put(backend, "a", b"newer")
    assert await reader.read(0, 10) == b"old"
    await reader.close()
    assert await get(backend, "a") == b"newer"


async def test_without_replace_the_first_stays(backend: StorageBackend) -> None:
    await put(backend, "d/a", b"one", replace=False)
    with pytest.raises(Conflict):
        await put(backend, "d/a", b"two", replace=False)
    assert await get(backend, "d/a") == b"one"


async def test_removed_bytes_are_gone_and_others_stay(backend: StorageBackend) -> None:
    await put(backend, "x/y/a", b"1")
    await put(backend, "x/b", b"22")
    assert await backend.remove("x/y/a")
    assert await everything(backend) == {"x/b": 2}


@pytest.mark.parametrize("path", ["", "..", "a/../b", "/a", "a//b", "a/", "./a"])
async def test_path_outside_normal_form_is_invalid(backend: StorageBackend, path: str) -> None:
    with pytest.raises(Invalid):
        await backend.open(path)
    with pytest.raises(Invalid):
        await put(backend, path, b"x")


async def test_reserved_file_is_filled_in_any_order_and_adopted(backend: StorageBackend) -> None:
    temporary = await backend.reserve(10)
    for offset, part in ((6, b"6789"), (0, b"012345")):
        writer = await backend.chunk(temporary, offset, offset + len(part))
        await writer.write(part)
        assert await writer.seal() == offset + len(part)
        await writer.close()
    assert await everything(backend) == {}
    assert await backend.prepare(frozenset({temporary})) == 0
    adopted = await backend.adopt(temporary)
    assert (await adopted.seal()).sha256 == hashlib.sha256(b"0123456789").hexdigest()
    await adopted.publish("a", replace=True)
    await adopted.release()
    assert await get(backend, "a") == b"0123456789"


async def test_chunk_never_goes_past_its_range(backend: StorageBackend) -> None:
    writer = await backend.chunk(await backend.reserve(10), 2, 4)
    with pytest.raises(Invalid):
        await writer.write(b"abc")
    await writer.close()


async def test_released_file_can_be_adopted_again_and_dropped_file_cannot(backend: StorageBackend) -> None:
    temporary = await backend.reserve(3)
    first = await backend.adopt(temporary)
    await first.release()
    second = await backend.adopt(temporary)
    await second.release()
    await backend.drop(temporary)
    await backend.drop(temporary)
    with pytest.raises(NotFound):
        await backend.adopt(temporary)


async def test_after_a_crash_finish_tells_whether_it_was_published(backend: StorageBackend) -> None:
    published = await backend.writer()
    await published.write(b"x")
    await published.seal()
    await published.publish("a", replace=True)
    stat = await backend.finish(published.name, "a")
    assert stat is not None
    assert stat.size == 1
    await published.discard()
    left = await backend.writer()
    await left.write(b"y")
    await left.seal()
    assert await backend.finish(left.name, "b") is None
    assert await backend.prepare() == 0
    await left.discard()


async def test_space_is_of_a_real_place(backend: StorageBackend) -> None:
    space = await backend.space()
    assert space.total >= space.free > 0
