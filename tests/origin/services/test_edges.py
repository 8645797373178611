"""What edges are told, by which names, in how many calls; and what waits while one does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from origin.backends.edges import HttpEdge
from origin.catalog import files as rows
from origin.catalog import outbox
from origin.catalog.database import Database
from origin.domain.model import File
from origin.domain.states import FileState
from origin.errors import Unavailable
from origin.services import edges as service
from origin.services.access import Access
from origin.services.edges import Edges
from origin.services.storages import Storages


class Clock:
    def now_ms(self) -> int:
        return 1_000_000


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(service, "DEADLINE", 30.0)


@dataclass
class FakeEdge:
    """answers: called before each call is taken; may raise, or wait."""

    url: str = "http://a.example:3335"
    ids: list[str] = field(default_factory=list)
    buckets: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    answers: Callable[[], Awaitable[None]] | None = None

    async def purge(self, *, ids: Sequence[str] = (), bucket: str | None = None) -> None:
        if self.answers is not None:
            await self.answers()
        self.calls.append(len(ids))
        self.ids += ids
        if bucket is not None:
            self.buckets.append(bucket)

    async def close(self) -> None:
        pass


class Retries:
    """Stands in the place of waiting before a retry: nothing is tried again before `go` is set."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.go = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.go.wait()


@dataclass
class Bench:
    database: Database
    storages: Storages
    edges: Edges
    retries: Retries

    async def add(self, *paths: str, first: int) -> None:
        """Files with bytes on storage 1, in one transaction."""
        new = [_file(n, path) for n, path in enumerate(paths, first)]
        async with self.database.write() as connection:
            await rows.insert_all(connection, new)

    async def change(self, n: int, path: str, **fields: Any) -> None:
        async with self.database.write() as connection:
            await rows.update(connection, _file(n, path, **fields))

    async def count(self) -> int:
        """Rows that are kept."""
        async with self.database.read() as connection:
            query = "SELECT count(*) FROM edge_changes"
            return int((await connection.exec_driver_sql(query)).scalar_one())


def _file(n: int, path: str, **fields: Any) -> File:
    given = {"state": FileState.CLOSED, "size": 5, "mtime_ns": 10**9, "sha256": "a" * 64, **fields}
    return File(n=n, storage_n=1, path=path, **given)


@asynccontextmanager
async def bench(folder: Path, *edges: FakeEdge) -> AsyncIterator[Bench]:
    """A catalog with the storage `media`, and these edges; it keeps what an earlier one has left."""
    database = await Database.open(f"sqlite:///{folder}/catalog.db")
    access = Access(database, Clock(), anonymous_reads=True)
    storages = Storages(database, Clock(), access, roots=[folder])
    await storages.load()
    await storages.ensure("media", f"file:{folder}/media", public=True, archive=False)
    retries = Retries()
    told = Edges(database, storages, edges, sleep=retries)
    await told.start()
    try:
        yield Bench(database, storages, told, retries)
    finally:
        await told.stop()
        await database.close()


async def test_a_file_is_told_by_its_id_and_by_every_name_of_its_storage(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        await made.add("a b/ü.bin", first=7)
        await made.edges.told()
        assert edge.ids == ["VX-7", "media/a b/ü.bin", "VX-1/a b/ü.bin"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"sha256": "b" * 64}, True),
        ({"sha256": None, "size": 6}, True),
        ({"state": FileState.TO_BE_DELETED}, True),
        ({"state": FileState.MISSING}, True),
        ({"mtime_ns": None}, True),
        ({"state": FileState.BEING_READ}, False),
        ({"metadata": {"a": "b"}}, False),
        ({"changed_ms": 5}, False),
    ],
    ids=str,
)
async def test_only_changes_that_an_edge_could_not_see_by_itself_are_told(
    tmp_path: Path, fields: dict[str, Any], told: bool
) -> None:
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        await made.add("a", first=7)
        await made.edges.told()
        edge.ids.clear()
        await made.change(7, "a", **fields)
        await made.edges.told()
        assert edge.ids == (["VX-7", "media/a", "VX-1/a"] if told else [])


async def test_bytes_without_a_digest_are_told_once_not_again_when_they_are_hashed(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        async with made.database.write() as connection:
            await rows.insert(connection, _file(7, "a", sha256=None))
            await rows.update(connection, _file(7, "a"))
        await made.edges.told()
        assert edge.ids == ["VX-7", "media/a", "VX-1/a"]


async def test_without_edges_nothing_is_written(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.add("a", first=7)
        await made.edges.told()
        assert await made.count() == 0
        assert made.database.noted is None


async def test_a_call_names_at_most_a_thousand_ids_and_all_are_told(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        await made.add(*(f"f{n}" for n in range(3000)), first=10)
        await made.edges.told()
        assert max(edge.calls) <= 1000
        assert len(set(edge.ids)) == 9000


async def test_a_name_that_no_edge_takes_is_left_out(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        await made.add("x/" * 600 + "y", 'say "a"', "b\\c", first=7)
        await made.edges.told()
        assert edge.ids == ["VX-7", "VX-8", "VX-9"]


async def test_what_all_edges_have_heard_of_is_not_kept(tmp_path: Path) -> None:
    one, two = FakeEdge(), FakeEdge("http://b.example:3335")
    async with bench(tmp_path, one, two) as made:
        await made.add("a", first=7)
        await made.edges.told()
        assert await made.edges.waiting() == [0, 0]
    async with bench(tmp_path, one, two) as made:
        assert await made.count() == 0
    assert one.ids == two.ids == ["VX-7", "media/a", "VX-1/a"]


async def test_an_edge_that_is_down_is_not_waited_for_and_told_later_the_other_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    down = True

    async def answers() -> None:
        if down:
            raise Unavailable("it cannot be reached (Connection refused)")

    bad, good = FakeEdge(answers=answers), FakeEdge("http://b.example:3335")
    async with bench(tmp_path, bad, good) as made:
        for n in range(5):
            await made.add(f"f{n}", first=10 + n)
            await made.edges.told()
        assert len(good.ids) == 15 and bad.ids == []
        assert await made.edges.waiting() == [5, 0]
        assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
        down = False
        made.retries.go.set()
        async with asyncio.timeout(30):
            while await made.edges.waiting() != [0, 0]:
                await asyncio.sleep(0)
        assert sorted(bad.ids) == sorted(good.ids)
        await made.add("last", first=90)
        await made.edges.told()
        assert bad.ids[-1] == "VX-1/last"  # it answers again, so it is waited for again


async def test_what_an_edge_has_not_heard_of_outlives_a_restart(tmp_path: Path) -> None:
    async def refuses() -> None:
        raise Unavailable("it answers 503")

    async with bench(tmp_path, FakeEdge(answers=refuses)) as made:
        await made.add("a", first=7)
        await made.edges.told()
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        async with asyncio.timeout(30):
            while await made.edges.waiting() != [0]:
                await asyncio.sleep(0)
    assert edge.ids == ["VX-7", "media/a", "VX-1/a"]


async def test_an_edge_that_is_slow_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DEADLINE", 0.05)
    go = asyncio.Event()

    async def answers() -> None:
        await go.wait()

    edge = FakeEdge(answers=answers)
    async with bench(tmp_path, edge) as made:
        await made.add("a", first=7)
        await made.edges.told()  # after the deadline
        assert edge.ids == []
        monkeypatch.setattr(service, "DEADLINE", 60.0)
        async with asyncio.timeout(30):
            for n in range(3):
                await made.add(f"b{n}", first=10 + n)
                await made.edges.told()  # without waiting
        go.set()
        async with asyncio.timeout(30):
            while await made.edges.waiting() != [0]:
                await asyncio.sleep(0)
        assert len(edge.ids) == 12


async def test_pauses_between_tries_double_up_to_a_bound(tmp_path: Path) -> None:
    async def refuses() -> None:
        raise Unavailable("it answers 401")

    async with bench(tmp_path, FakeEdge(answers=refuses)) as made:
        made.retries.go.set()
        await made.add("a", first=7)
        async with asyncio.timeout(30):
            while len(made.retries.pauses) < 9:
                await asyncio.sleep(0)
        assert made.retries.pauses[:9] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        assert made.edges.failures[0] >= 9


async def test_too_much_that_waits_becomes_one_purge_of_the_storage_for_that_edge_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST", 50)
    monkeypatch.setattr(service, "_SAVE_CHANGES", 10)
    down = True

    async def answers() -> None:
        if down:
            raise Unavailable("it cannot be reached (Connection refused)")

    bad, good = FakeEdge(answers=answers), FakeEdge("http://b.example:3335")
    async with bench(tmp_path, bad, good) as made:
        for n in range(30):
            await made.add(*(f"f{n}-{i}" for i in range(10)), first=1000 + 10 * n)
            await made.edges.told()
            assert await made.count() <= 75
        assert len(set(good.ids)) == 900 and good.buckets == []
        down = False
        made.retries.go.set()
        async with asyncio.timeout(30):
            while await made.edges.waiting() != [0, 0]:
                await asyncio.sleep(0)
        assert set(bad.buckets) == {"media"}
        assert len(set(bad.ids)) < 200


async def test_a_storage_that_goes_with_its_files_is_one_change(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        await made.add(*(f"f{n}" for n in range(20)), first=10)
        await made.edges.told()
        edge.ids.clear()
        async with made.database.write() as connection:
            await connection.exec_driver_sql("DELETE FROM storages WHERE n = 1")
        await made.edges.told()
        assert (edge.ids, edge.buckets) == ([], ["media"])


async def test_a_change_that_is_undone_is_not_told(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with bench(tmp_path, edge) as made:
        with pytest.raises(ZeroDivisionError):
            async with made.database.write() as connection:
                await rows.insert(connection, _file(7, "a"))
                raise ZeroDivisionError
        await made.edges.told()
        assert edge.ids == []


async def test_a_token_file_is_read_at_each_call_and_its_content_is_never_told(tmp_path: Path) -> None:
    file = tmp_path / "operator.token"
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode().lower().partition("authorization: ")[2].partition("\r\n")[0])
        status = b"200 OK" if len(seen) == 1 else b"401 Unauthorized"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    edge = HttpEdge(f"http://127.0.0.1:{port}/", token_file=file)
    try:
        with pytest.raises(Unavailable, match="cannot be read"):
            await edge.purge(ids=["a"])
        file.write_text("first\n")
        await edge.purge(ids=["a"])
        file.write_text("second\n")
        with pytest.raises(Unavailable) as refused:
            await edge.purge(ids=["a"])
        assert str(refused.value) == "it answers 401"
        assert seen == ["bearer first", "bearer second"]
    finally:
        await edge.close()
        server.close()
    with pytest.raises(Unavailable, match=r"cannot be reached \(Conn"):
        await edge.purge(ids=["a"])
    await edge.close()
