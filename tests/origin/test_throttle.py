"""limitRate: within 10 % of what was asked for, over any 2 s, whatever disk and scheduler take."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from pathlib import Path

import pytest

from origin.services.jobs import Run
from origin.workers.copy import PIECE, Throttle
from tests.support.vidispine import running


class FakeRun:
    async def check(self) -> None: ...


def _most_in_2_s(sent: list[tuple[float, int]]) -> int:
    most = first = held = 0
    for moment, size in sent:
        held += size
        while sent[first][0] <= moment - 2:
            held -= sent[first][1]
            first += 1
        most = max(most, held)
    return most


@pytest.mark.parametrize("rate", [4_000, 1_000_000, 50_000_000], ids=["4k", "1M", "50M"])
@pytest.mark.parametrize("stall", [0.0, 0.03, 1.5], ids=["steady", "jitter", "stalls"])
async def test_any_2_seconds_hold_no_more_than_the_rate_and_the_mean_no_less(rate: int, stall: float) -> None:
    chance = random.Random(rate)
    now = 1000.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + chance.uniform(0, 0.004)  # a scheduler is late, never early

    throttle = Throttle(rate, now=lambda: now, sleep=sleep)
    run: Run = FakeRun()  # type: ignore[assignment]
    sent: list[tuple[float, int]] = []
    lost = 0.0
    while now < 1020:
        piece = throttle.piece(PIECE)
        if stall >= 1:  # a disk that hangs now and then
            took = stall if chance.random() < 0.01 else 0.0
        else:
            took = chance.uniform(0, min(stall, piece / rate))
        now += took
        lost += took if took > 1 else 0
        sent.append((now, piece))
        await throttle.wait(run, piece)
    assert _most_in_2_s(sent) <= 2 * rate * 1.1
    assert sum(size for _, size in sent) >= (now - 1000 - lost) * rate * 0.9


async def test_a_copy_holds_its_rate_also_across_a_stop_and_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, size = 400_000, 1_000_000
    sent: list[tuple[float, int]] = []
    wait = Throttle.wait

    async def noted(self: Throttle, run: Run, count: int) -> None:
        sent.append((time.monotonic(), count))
        await wait(self, run, count)

    monkeypatch.setattr(Throttle, "wait", noted)
    async with running(tmp_path) as (_, client):
        id_ = await client.upload("a", bytes(size))
        job = (await client("POST", f"/API/file/{id_}/storage/VX-2?limitRate={rate}")).json["jobId"]
        await client.job(job, until="STARTED")
        while sum(count for _, count in sent) < size // 3:
            await client("GET", f"/API/job/{job}")
    first = len(sent)
    async with running(tmp_path) as (_, client):
        assert (await client.job(job))["status"] == "FINISHED"
    assert 0 < first < len(sent)
    assert _most_in_2_s(sent) <= 2 * rate * 1.1
    assert all(later - earlier > 0 for (earlier, _), (later, _) in pairwise(sent))
