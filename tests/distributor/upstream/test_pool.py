"""Who is asked, who next, and what is said when nobody gives (contract §3.3, §5, §6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distributor.core.representation import Received
from distributor.errors import (
    AssetGone,
    Misdirected,
    Overloaded,
    RangeIgnored,
    SourceError,
    SourceProtocol,
    SourceRefused,
    SourceTimeout,
    SourceUnreachable,
    UnknownAsset,
    VersionChanged,
)
from distributor.http.fields import Fields
from distributor.ports import Observer, SourceRequest
from distributor.upstream.pool import SourcePool
from tests.support.fake_clock import FakeClock

Say = int | SourceError | tuple[int, Fields]


class Answer:
    def __init__(self, status: int, source: str, fields: Fields) -> None:
        self.status, self.source, self.fields = status, source, fields
        self.request_time = self.response_time = 0.0
        self.closed = 0

    async def read(self) -> bytes:
        return b""

    def close(self) -> None:
        self.closed += 1


class Scripted:
    """Says one thing after another, the last for ever."""

    def __init__(self, name: str, *says: Say) -> None:
        self.name = name
        self.says = list(says)
        self.asked: list[SourceRequest] = []
        self.given: list[Answer] = []
        self.gate: asyncio.Event | None = None

    async def open(self, request: SourceRequest) -> Answer:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        say = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(say, SourceError):
            raise say
        status, fields = say if isinstance(say, tuple) else (say, ())
        answer = Answer(status, self.name, fields)
        self.given.append(answer)
        return answer

    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("distributor.upstream.pool.pause_before", lambda _: 0.0)
    yield


def pool_of(*sources: Scripted, **settings: Any) -> SourcePool:
    settings.setdefault("clock", FakeClock())
    return SourcePool(sources, observer=Observer(), **settings)


GET = SourceRequest("GET", "a")
PART = GET._replace(start=5, stop=9)
CONDITIONAL = GET._replace(fields=(("If-None-Match", '"x"'),))


@pytest.mark.parametrize(("request_", "status"), [(GET, 200), (PART, 206), (PART, 200), (CONDITIONAL, 304)])
async def test_usable_head_is_given_back(request_: SourceRequest, status: int) -> None:
    source = Scripted("one", status)
    exchange = await pool_of(source).open(request_)
    assert exchange.status == status
    exchange.close()
    exchange.close()
    assert source.given[0].closed == 2


SAYS: list[tuple[str, list[Say], SourceRequest, type[Exception], int]] = [
    ("404", [404], GET, UnknownAsset, 1),
    ("410", [410], GET, AssetGone, 1),
    ("421", [421], GET, Misdirected, 1),
    ("500-twice", [500], GET, SourceRefused, 2),
    ("302", [302], GET, SourceRefused, 1),
    ("206-unasked", [206], GET, SourceRefused, 1),
    ("304-unasked", [304], GET, SourceRefused, 1),
    ("416", [416], PART, VersionChanged, 1),
    ("416-unasked", [416], GET, SourceRefused, 1),
    ("no-connection", [SourceUnreachable()], GET, SourceUnreachable, 2),
    ("404-in-the-second-round", [500, 404], GET, SourceRefused, 2),
    ("timeout-then-500", [SourceTimeout(), 500], GET, SourceRefused, 2),
]


@pytest.mark.parametrize(
    ("says", "request_", "error", "asked"), [r[1:] for r in SAYS], ids=[r[0] for r in SAYS]
)
async def test_what_one_source_says_is_the_last_word(
    says: list[Say], request_: SourceRequest, error: type[Exception], asked: int
) -> None:
    source = Scripted("one", *says)
    pool = pool_of(source)
    with pytest.raises(error) as caught:
        await pool.open(request_)
    assert type(caught.value) is error
    assert len(source.asked) == asked
    assert all(answer.closed for answer in source.given)
    assert pool._places["one"]._value == 100


async def test_next_source_is_asked_and_the_failed_one_stands_behind() -> None:
    clock = FakeClock()
    first, second = Scripted("one", 500, 200), Scripted("two", 200)
    pool = pool_of(first, second, clock=clock, backoff=10.0)
    assert (await pool.open(GET)).source == "two"
    clock.advance(9)
    assert (await pool.open(GET)).source == "two"
    clock.advance(2)
    assert (await pool.open(GET)).source == "one"


async def test_404_holds_only_if_all_say_so_and_who_said_so_is_not_asked_twice() -> None:
    first, second = Scripted("one", (404, (("Cache-Control", "max-age=3"),))), Scripted("two", 500)
    with pytest.raises(SourceRefused):
        await pool_of(first, second).open(GET)
    assert (len(first.asked), len(second.asked)) == (1, 2)
    second.says = [(410, (("Age", "1"),))]
    with pytest.raises(UnknownAsset) as caught:
        await pool_of(first, second).open(GET)
    assert type(caught.value) is UnknownAsset
    assert caught.value.fields == (("Age", "1"),)


def refusing(error: Exception, *names: str) -> Callable[[Received], None]:
    def judge(received: Received) -> None:
        if dict(received.fields)["name"] in names:
            raise error

    return judge


def named(name: str) -> Scripted:
    return Scripted(name, (206, (("name", name),)))


async def test_head_that_the_judge_finds_broken_sends_the_request_to_the_next_source() -> None:
    first, second = named("one"), named("two")
    exchange = await pool_of(first, second).open(PART, refusing(SourceProtocol(), "one"))
    assert exchange.source == "two"
    assert first.given[0].closed == 1


async def test_another_version_ends_the_request_at_once() -> None:
    first, second = named("one"), named("two")
    with pytest.raises(VersionChanged):
        await pool_of(first, second).open(PART, refusing(VersionChanged(), "one"))
    assert second.asked == []


async def test_source_that_ignores_range_is_asked_once_and_is_no_worse_for_it() -> None:
    first, second = named("one"), named("two")
    pool = pool_of(first, second)
    with pytest.raises(RangeIgnored):
        await pool.open(PART, refusing(RangeIgnored(), "one", "two"))
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert (await pool.open(PART)).source == "one"


async def test_full_source_is_passed_over_while_another_has_room() -> None:
    first, second = Scripted("one", 200), Scripted("two", 200)
    pool = pool_of(first, second, max_connections=1)
    held = await pool.open(GET)
    assert (held.source, (await pool.open(GET)).source) == ("one", "two")
    held.close()
    assert (await pool.open(GET)).source == "one"


async def test_request_waits_for_a_place_and_one_too_many_is_refused() -> None:
    source = Scripted("one", 200)
    pool = pool_of(source, max_connections=1, max_waiting=1)
    held = await pool.open(GET)
    waiting = asyncio.create_task(pool.open(GET))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await pool.open(GET)
    held.close()
    (await waiting).close()
    assert pool._places["one"]._value == 1


async def test_wait_for_a_place_has_an_end() -> None:
    pool = pool_of(Scripted("one", 200), max_connections=1, wait_timeout=0.01)
    held = await pool.open(GET)
    with pytest.raises(Overloaded):
        await pool.open(GET)
    held.close()


async def test_cancelled_request_gives_its_place_back() -> None:
    source = Scripted("one", 200)
    source.gate = asyncio.Event()
    pool = pool_of(source, max_connections=1)
    tasks = [asyncio.create_task(pool.open(GET)) for _ in range(2)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pool._places["one"]._value == 1


async def test_retry_after_of_the_last_503_is_kept() -> None:
    fields = (("Retry-After", "120"),)
    with pytest.raises(SourceRefused) as caught:
        await pool_of(Scripted("one", (503, fields))).open(GET)
    assert (caught.value.status, caught.value.retry_after) == (503, 120)


TRANSPARENT: list[tuple[str, Say, bool, bool]] = [
    ("404", 404, False, True),
    ("302", 302, False, True),
    ("403", 403, False, True),
    ("500", 500, False, False),
    ("500-last", 500, True, True),
    ("500-with-lifetime", (500, (("Cache-Control", "max-age=9"),)), False, True),
    ("206-unasked", 206, True, False),
    ("304-unasked", 304, True, False),
]


@pytest.mark.parametrize(
    ("say", "last", "given"), [r[1:] for r in TRANSPARENT], ids=[r[0] for r in TRANSPARENT]
)
async def test_transparent_pool_takes_final_statuses_for_answers(say: Say, last: bool, given: bool) -> None:
    pool = pool_of(Scripted("one", say), transparent=True)
    if given:
        status = say[0] if isinstance(say, tuple) else say
        assert (await pool.open(GET, last_resort=last)).status == status
    else:
        with pytest.raises(SourceRefused):
            await pool.open(GET, last_resort=last)
