from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.store.blobs import Blobs, Descriptors, Disk, checksums
from tests.support.faulty_disk import FaultyDisk


@given(data=st.binary(min_size=1, max_size=60), cuts=st.lists(st.integers(1, 9), max_size=60))
def test_checksums_in_pieces_are_those_of_each_segment_as_a_whole(data: bytes, cuts: list[int]) -> None:
    size, position, sums, hasher = 7, 0, dict[int, int](), hashlib.sha256()
    for cut in [*cuts, len(data)]:
        piece = data[position : position + cut]
        if not piece:
            break
        sums.update(checksums(piece, position, size, sums.get(position // size, 0), hasher))
        position += len(piece)
    told = data[:position]
    assert sums == {i // size: zlib.crc32(told[i : i + size]) for i in range(0, len(told), size)}
    assert hasher.digest() == hashlib.sha256(told).digest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    made = Blobs(tmp_path, Disk(), sync=True)
    made.prepare()
    return made


def test_a_blob_is_found_wherever_it_lies(blobs: Blobs) -> None:
    name, fd = blobs.create(100)
    blobs.write(fd, 0, b"x" * 100)
    blobs.disk.close(fd)
    for loose in (True, False):
        opened = blobs.open(name, loose=loose)
        assert blobs.disk.pread(opened, 200, 0) == b"x" * 100
        blobs.disk.close(opened)
    blobs.settle(name)
    for loose in (True, False):
        blobs.disk.close(blobs.open(name, loose=loose))
    assert blobs.shard(int(name[:2], 16)) == {name: 100}
    assert blobs.shards() == {int(name[:2], 16)}
    assert blobs.loose() == {}
    blobs.unlink(name)
    blobs.unlink(name)
    with pytest.raises(FileNotFoundError):
        blobs.open(name, loose=True)


def test_a_sparse_blob_takes_no_room_until_it_is_written(blobs: Blobs) -> None:
    name, fd = blobs.create(1 << 30)
    blobs.write(fd, 512 << 20, b"x" * 4096)
    assert blobs.loose()[name] < 1 << 20
    blobs.disk.close(fd)


def test_a_symbolic_link_in_the_place_of_a_blob_is_not_followed(blobs: Blobs, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "loose" / ("ab" * 8)).symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        blobs.open("ab" * 8, loose=True)


def test_missing_bytes_have_no_checksum(blobs: Blobs) -> None:
    _, fd = blobs.create(None)
    blobs.write(fd, 0, b"abc")
    assert blobs.sum(fd, 0, 3) == zlib.crc32(b"abc")
    assert blobs.sum(fd, 1, 3) is None
    assert blobs.damaged(fd, 2, [(0, 2, zlib.crc32(b"ab")), (1, 1, 5), (2, 1, 0)]) == [1, 2]
    blobs.disk.close(fd)


def test_a_blob_that_cannot_be_sized_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, FaultyDisk(only="ftruncate"), sync=False)
    blobs.prepare()
    with pytest.raises(OSError, match="made to fail"):
        blobs.create(10)
    assert blobs.loose() == {}


def test_descriptors_in_use_are_never_closed() -> None:
    closed: list[int] = []
    fds = Descriptors(closed.append, limit=2)
    for n in range(4):
        assert fds.put(f"b{n}", n) == n
    assert closed == []
    assert fds.take("b0") == 0
    fds.give("b0")
    fds.give("b1")
    assert closed == [1]
    fds.keep("b2")
    fds.give("b2")
    assert closed == [1], "b2 is kept, b0 and b3 are in use"
    fds.give("b3")
    assert closed == [1, 3]
    assert fds.forget("b0") is None, "in use"
    fds.give("b0")
    assert fds.forget("b0") == 0
    assert fds.take("b0") is None


def test_of_two_descriptors_opened_at_once_one_is_closed() -> None:
    closed: list[int] = []
    fds = Descriptors(closed.append, limit=2)
    assert fds.put("a", 5) == 5
    assert fds.put("a", 6) == 5
    assert closed == [6]
