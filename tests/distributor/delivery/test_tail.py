"""The bounded stretch of bytes that goes on in memory."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile

import pytest

from distributor.delivery import tail as module
from distributor.delivery.run import Run
from distributor.delivery.tail import Tail, hash_prefix


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 10)
    monkeypatch.setattr(module, "PATIENCE", 0.01)


def made(*, droppable: bool = True, at: int = 100) -> Tail:
    return Tail(Run(at, 200), hashlib.sha256(b"before"), droppable=droppable)


async def test_bytes_are_read_from_any_position_held() -> None:
    tail = made()
    await tail.push(b"abc", lambda: 100)
    await tail.push(b"def", lambda: 100)
    assert [tail.read(at) for at in (99, 100, 102, 103, 105, 106)] == [None, b"abc", b"c", b"def", b"f", None]


async def test_what_all_readers_have_passed_is_dropped() -> None:
    tail = made()
    await tail.push(b"abc", lambda: 100)
    tail.trim(102)
    assert tail.base == 100
    tail.trim(103)
    assert (tail.base, tail.read(100)) == (103, None)


async def test_writer_waits_for_the_slowest_reader_and_goes_on_once_it_has_moved() -> None:
    tail = made(droppable=False)
    position = 100
    await tail.push(b"12345678", lambda: position)
    push = asyncio.create_task(tail.push(b"abcdef", lambda: position))
    await asyncio.sleep(0.02)
    assert not push.done()
    position = 108
    tail.trim(position)
    await push
    assert (tail.base, tail.read(108)) == (108, b"abcdef")


async def test_reader_that_can_go_on_by_itself_is_not_waited_for_long() -> None:
    tail = made()
    await tail.push(b"12345678", lambda: 100)
    await tail.push(b"abcdef", lambda: 100)
    assert (tail.base, tail.follows(100), tail.follows(108)) == (108, False, True)


async def test_without_readers_nothing_is_held() -> None:
    tail = made()
    for _ in range(3):
        await tail.push(b"12345678", lambda: None)
    assert tail.read(116) == b"12345678"
    assert tail.base == 116


async def test_digest_is_told_only_of_the_whole() -> None:
    tail = made(at=6)
    await tail.push(b"after", lambda: None)
    assert tail.digest(11) is None
    tail.run.position = 11
    assert tail.digest(11) == hashlib.sha256(b"beforeafter").digest()
    assert tail.digest(12) is None
    tail.end = 11
    assert tail.digest(None) == hashlib.sha256(b"beforeafter").digest()


def test_prefix_is_hashed_from_the_file_and_a_short_file_is_an_error() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"abcdef")
        file.flush()
        assert hash_prefix(file.fileno(), 4).digest() == hashlib.sha256(b"abcd").digest()
        with pytest.raises(OSError, match="shorter"):
            hash_prefix(file.fileno(), 7)
