"""Bodies on the wire: exact bytes, back-pressure, failing disks, failing bodies, slow readers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.api import disk as disk_module
from distributor.api import meter, protocol, send
from distributor.api.meter import Meter
from distributor.api.protocol import ServerLimits
from distributor.core.model import FileSlice
from distributor.delivery.answer import Answer
from distributor.errors import DigestMismatch, SourceUnreachable, VersionChanged
from distributor.http.cache_status import CacheState
from tests.support.front import Front, Piece, PieceBody, whole
from tests.support.wire import Wire, ask

SIZE = 5 * 1024 * 1024 + 12345


@pytest.fixture(scope="module")
def data() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def blob(tmp_path: Path, data: bytes) -> Iterator[int]:
    path = tmp_path / "blob"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def answer(length: int | None, *pieces: Piece, cache: CacheState = CacheState.HIT, **more: object) -> Answer:
    fields = (("Content-Type", "video/mp4"), ("X-Cache", cache.value))
    return Answer(200, fields, PieceBody(length, pieces, **more), cache, "local")  # type: ignore[arg-type]


async def test_a_piece_of_a_file_is_sent_byte_for_byte(blob: int, data: bytes) -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: answer(SIZE, FileSlice(blob, 0, SIZE))
        reply = await ask(front.port, "/assets/a")
        assert (reply.status, reply.end, reply["Content-Length"]) == (200, "complete", str(SIZE))
        assert reply.body == data
        assert front.edge.bodies[0].closed and front.edge.bodies[0].finished
        outcome = front.observer.outcomes[-1]
        assert (outcome.body_bytes, outcome.aborted, outcome.data_source) == (SIZE, None, "local")
        assert 0 < outcome.ttfb <= outcome.duration


async def test_bytes_and_pieces_of_files_mix_in_order(blob: int, data: bytes) -> None:
    pieces: list[Piece] = [
        b"--x\r\n",
        FileSlice(blob, 100, 70_000),
        b"\r\n--y\r\n",
        FileSlice(blob, 5, 1),
        b"end",
    ]
    expected = b"--x\r\n" + data[100:70_100] + b"\r\n--y\r\n" + data[5:6] + b"end"
    async with Front() as front:
        front.edge.answers["a"] = lambda _: answer(len(expected), *pieces)
        assert (await ask(front.port, "/assets/a")).body == expected


@pytest.mark.parametrize("size", [1, 4096, send.SMALL, send.SMALL + 1])
async def test_small_files_are_sent_whole_at_every_size(blob: int, data: bytes, size: int) -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: answer(size, FileSlice(blob, 7, size))
        for _ in range(3):
            assert (await wire.get("/assets/a")).body == data[7 : 7 + size]
        assert all(body.closed and body.finished for body in front.edge.bodies)


async def test_the_head_goes_out_before_the_first_byte_of_a_pending_body() -> None:
    gate = asyncio.Event()
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: answer(3, gate, b"abc", cache=CacheState.PENDING)
        await wire.request("/assets/a")
        assert (await wire.head())["X-Cache"] == "pending"
        gate.set()
        assert (await wire.rest()).body == b"abc"


async def test_bytes_go_out_as_they_arrive(blob: int, data: bytes) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: answer(
            9, b"abc", gates[0], FileSlice(blob, 0, 3), gates[1], b"xyz", cache=CacheState.MISS
        )
        await wire.request("/assets/a")
        await wire.head()
        assert await wire.read(3) == b"abc"
        gates[0].set()
        assert await wire.read(3) == data[:3]
        gates[1].set()
        assert await wire.read(3) == b"xyz"


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_an_unknown_length_is_chunked_and_to_http_1_0_ended_by_closing(
    blob: int, data: bytes, version: str
) -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: answer(None, b"abc", FileSlice(blob, 0, 3_000_000), b"", b"z")
        reply = await ask(front.port, "/assets/a", version=version)
        assert reply.body == b"abc" + data[:3_000_000] + b"z"
        assert "Content-Length" not in reply
        assert reply["Transfer-Encoding"] == ("chunked" if version == "1.1" else None)
        assert reply.end == ("complete" if version == "1.1" else "closed")


@pytest.mark.parametrize("target", ["/assets/a", "/status"])
async def test_head_has_the_length_of_get_and_no_body(target: str) -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: whole(b"abcdef")
        got = await wire.get(target)
        head = await wire.get(target, "HEAD")
        assert head["Content-Length"] == got["Content-Length"] == str(len(got.body))
        assert (await wire.get("/healthz")).status == 200  # nothing of a body stands in between


# Failing


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SourceUnreachable(), "source"), (DigestMismatch(), "digest"), (VersionChanged(), "version")],
)
@pytest.mark.parametrize("length", [10_000, None])
async def test_a_body_that_fails_midway_never_ends_cleanly(
    error: Exception, reason: str, length: int | None
) -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: answer(length, b"x" * 5000, error, cache=CacheState.MISS)
        reply = await ask(front.port, "/assets/a")
        assert reply.status == 200
        assert reply.end == "short"
        assert reply.size <= 5000
        await front.until(lambda: front.observer.outcomes)
        assert front.observer.outcomes[-1].aborted == reason
        assert front.edge.bodies[0].closed


async def test_where_only_closing_marks_the_end_a_failure_is_a_reset() -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: answer(
            None, b"x" * 5000, SourceUnreachable(), cache=CacheState.MISS
        )
        reply = await ask(front.port, "/assets/a", version="1.0")
        assert (reply.end, reply.reset) == ("short", True)


async def test_a_body_that_fails_before_its_first_byte_on_a_hit_becomes_an_error_answer() -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: answer(10, SourceUnreachable())
        reply = await wire.get("/assets/a")
        assert (reply.status, reply["X-Cache"], reply["Cache-Control"]) == (502, None, "no-store")
        assert (await wire.get("/healthz")).status == 200


@pytest.mark.parametrize("pieces", [[b"x" * 9], [b"x" * 9, b"yy"]], ids=["short", "long"])
async def test_a_body_of_another_length_than_declared_never_ends_cleanly(pieces: list[bytes]) -> None:
    async with Front() as front:
        front.edge.answers["a"] = lambda _: answer(10, *pieces, cache=CacheState.MISS)
        reply = await ask(front.port, "/assets/a")
        assert (reply.end, reply.size) == ("short", 9)


@pytest.mark.parametrize("length", [3_000_000, None], ids=["length", "chunked"])
async def test_a_disk_that_fails_midway_is_not_seen_by_the_client(
    blob: int, data: bytes, length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = os.sendfile

    def failing(out: int, fd: int, start: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.EIO, "the disk says no")
        return real(out, fd, start, min(count, 400_000))

    monkeypatch.setattr(send.os, "sendfile", failing)
    async with Front() as front:
        made = answer(length, FileSlice(blob, 0, 2_000_000), FileSlice(blob, 2_000_000, 1_000_000))
        assert isinstance(made.body, PieceBody)
        made.body.after_failure = [data[800_000:2_500_000], FileSlice(blob, 2_500_000, 500_000)]
        front.edge.answers["a"] = lambda _: made
        reply = await ask(front.port, "/assets/a")
        assert reply.end == "complete"
        assert reply.body == data[:3_000_000]
        assert made.body.failed_at == 800_000


async def test_a_file_that_became_shorter_counts_as_a_failing_disk(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"x" * 100_000)
    fd = os.open(path, os.O_RDONLY)
    async with Front() as front:
        made = answer(200_000, FileSlice(fd, 0, 200_000))
        front.edge.answers["a"] = lambda _: made
        reply = await ask(front.port, "/assets/a")
        assert (reply.end, reply.size) == ("short", 100_000)
        assert isinstance(made.body, PieceBody) and made.body.failed_at == 100_000
    os.close(fd)


async def test_pages_that_are_not_in_memory_are_read_in_a_thread(
    blob: int, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[int, int]] = []
    reader = disk_module.DiskReader

    async def load(self: disk_module.DiskReader, fd: int, start: int, count: int) -> None:
        loaded.append((start, count))

    monkeypatch.setattr(reader, "load", load)
    monkeypatch.setattr(reader, "resident", lambda self, fd, start, *_: start >= 1 << 20)
    async with Front() as front:
        front.edge.answers["a"] = lambda _: answer(SIZE, FileSlice(blob, 0, SIZE))
        assert (await ask(front.port, "/assets/a")).body == data
    assert loaded and all(start < 1 << 20 for start, _ in loaded)


async def test_the_disk_reader_tells_memory_from_disk_and_brings_pages_in(tmp_path: Path) -> None:
    path = tmp_path / "cold"
    path.write_bytes(os.urandom(1 << 20))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    reader = disk_module.DiskReader()
    await reader.load(fd, 0, 1 << 20)
    assert reader.resident(fd, 0, 1 << 20, reader.pages(fd, 0.0), 0.0)
    assert await reader.read(fd, 10, 20) == path.read_bytes()[10:30]
    reader.close()
    os.close(fd)


async def test_what_was_seen_in_the_page_cache_is_shared_for_a_second_and_then_forgotten(
    blob: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    real = os.preadv

    def counting(fd: int, buffers: list[bytearray], position: int, flags: int) -> int:
        looked.append(position)
        return real(fd, buffers, position, flags)

    reader = disk_module.DiskReader()
    await reader.load(blob, 0, 1 << 20)
    monkeypatch.setattr(disk_module.os, "preadv", counting)
    assert reader.resident(blob, 1000, 1 << 19, reader.pages(blob, 100.0), 100.0)
    assert looked
    looked.clear()
    other = os.dup(blob)
    assert reader.resident(other, 0, 1 << 19, reader.pages(other, 100.9), 100.9)
    assert not looked
    assert reader.resident(other, 0, 1 << 19, reader.pages(other, 101.0), 101.0)
    assert looked
    os.close(other)
    for number in range(50):  # one file a second: of those before nothing is kept
        path = tmp_path / str(number)
        path.write_bytes(b"x")
        with path.open("rb") as file:
            reader.pages(file.fileno(), 200.0 + number)
    assert len(reader._files) == 1
    reader.close()


# Readers


async def test_a_client_that_leaves_ends_its_handler_and_frees_the_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 0.1)
    gate = asyncio.Event()
    async with Front(ServerLimits(idle_timeout=0.4)) as front:
        front.edge.answers["a"] = lambda _: answer(10, b"abc", gate, cache=CacheState.MISS)
        async with Wire(front.port) as wire:
            await wire.request("/assets/a")
            await wire.head()
            assert await wire.read(3) == b"abc"
        await front.until(lambda: front.observer.outcomes)
        outcome = front.observer.outcomes[-1]
        assert (outcome.aborted, outcome.body_bytes, outcome.status) == ("client", 3, 200)
        assert front.edge.bodies[0].closed


async def test_a_client_that_leaves_before_its_answer_is_counted_as_499_of_its_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 0.1)
    gate = asyncio.Event()

    async def never(_: object) -> Answer:
        await gate.wait()
        raise AssertionError

    async with Front(ServerLimits(idle_timeout=0.4)) as front:
        front.edge.answers["a"] = never
        async with Wire(front.port) as wire:
            await wire.request("/assets/a")
            await front.until(lambda: front.edge.asked)
        await front.until(lambda: front.observer.outcomes)
        outcome = front.observer.outcomes[-1]
        assert (outcome.route, outcome.status, outcome.aborted) == ("assets", 499, "client")


async def test_a_reader_that_never_reads_is_cut_off_and_counted(
    blob: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "SHORTEST", 0.3)
    limits = ServerLimits(min_send_rate=100 << 20, idle_timeout=0.4)
    async with Front(limits) as front:
        size = 400 << 20  # far more than the kernels hold
        front.edge.answers["a"] = lambda _: answer(size, *[FileSlice(blob, 0, 4 << 20) for _ in range(100)])
        with socket.create_connection(("127.0.0.1", front.port)) as client:
            client.sendall(b"GET /assets/a HTTP/1.1\r\nHost: edge\r\n\r\n")
            await front.until(lambda: front.observer.outcomes)
        outcome = front.observer.outcomes[-1]
        assert outcome.aborted == "slow_reader"
        assert front.observer.refused == ["slow_reader"]
        assert front.edge.bodies[0].closed
        assert outcome.body_bytes < size


async def test_a_reader_that_takes_its_time_gets_the_end_though_the_connection_is_to_close(
    blob: int, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER", 0.05)
    async with Front(ServerLimits(idle_timeout=0.2)) as front:
        front.edge.answers["a"] = lambda _: answer(SIZE, FileSlice(blob, 0, SIZE))
        async with Wire(front.port, buffer=1 << 14) as wire:
            await wire.request("/assets/a", headers=[("Connection", "close")])
            await wire.head()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.5)  # ten times LINGER: what is tested is that time alone ends nothing
            wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
            reply = await wire.rest()
        assert (reply.end, reply.size) == ("complete", SIZE)


async def test_slow_readers_do_not_hold_up_a_fast_one_and_hold_no_memory(blob: int, data: bytes) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async with Front() as front:
        size = 100 * (4 << 20)
        front.edge.answers["big"] = lambda _: answer(size, *[FileSlice(blob, 0, 4 << 20) for _ in range(100)])
        front.edge.answers["a"] = lambda _: answer(SIZE, FileSlice(blob, 0, SIZE))
        before = resident()
        clients = [socket.create_connection(("127.0.0.1", front.port)) for _ in range(30)]
        for client in clients:
            client.sendall(b"GET /assets/big HTTP/1.1\r\nHost: edge\r\n\r\n")
        await front.until(lambda: len(front.edge.bodies) == 30)
        for _ in range(3):
            assert (await ask(front.port, "/assets/a")).body == data
        assert resident() - before < 64 << 20
        for client in clients:
            client.close()


def test_a_meter_blames_only_readers_that_have_bytes_to_take() -> None:
    judge = Meter(1024)
    judge.hand(10_000)
    assert judge.fast_enough(0, 0.0) and judge.settled
    judge.hand(500_000)
    assert judge.fast_enough(500_000, 100.0)
    assert judge.fast_enough(500_000, 100.0 + meter.LONGEST - 1)
    assert not judge.fast_enough(500_000 - 1000, 100.0 + meter.LONGEST)
    judge.hand(100_000)
    assert judge.fast_enough(100_000, 200.0)  # what it took meanwhile was enough
