"""A move whose nth disk call fails, for every n: the last copy is never lost, and the job gets there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.origin_service import FailingDisk
from tests.support.vidispine import running

BODY = bytes(range(256)) * 16
MOVE = "/API/file/{1}/storage/VX-2?move=true"
AT_ONCE = 6


def copies(folder: Path) -> list[str]:
    """Return where whole copies lie, temporary names left out."""
    found = []
    for path in sorted(folder.glob("*/**/*")):
        if path.is_file() and not path.name.startswith(".part-") and path.read_bytes() == BODY:
            found.append(str(path.relative_to(folder)))
    return found


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*/.part-*")]


async def move_with_a_failing_call(folder: Path, nth: int) -> bool:
    """Move a file while the nth disk call fails once; return whether there was an nth."""
    folder.mkdir()
    disk = FailingDisk()
    async with running(folder, disk=disk, jobs={"runners": 1}) as (_, client):
        await client.upload("x/a", BODY, label="1")
        disk.arm(nth)
        reply = await client("POST", MOVE)
        assert copies(folder), f"call {nth}"
        if reply.status != 200:
            assert reply.status == 503, reply.text
            return True
        job = await client.job(reply.json["jobId"])
        failed = disk.failed
        disk.arm(0)
        assert job["status"] == "FINISHED", (nth, job)
        assert (await client("GET", "/API/file/{1}")).status == 404
        assert (await client("GET", "/API/storage/VX-2/file/path/x%2Fa/data")).body == BODY
        assert copies(folder) == ["archive/x/a"], f"call {nth}"
        assert leftovers(folder) == [], f"call {nth}"
    return bool(failed)


async def test_a_move_survives_the_failure_of_any_one_disk_call(tmp_path: Path) -> None:
    first = 1
    more = True
    while more:
        batch = range(first, first + AT_ONCE)
        there = await asyncio.gather(*(move_with_a_failing_call(tmp_path / str(n), n) for n in batch))
        more, first = all(there), first + AT_ONCE
    assert first > 20, "a move makes more calls than that, so they were not counted"


@pytest.mark.parametrize("nth", range(2, 50, 6))
async def test_a_move_whose_disk_dies_goes_on_after_a_restart(tmp_path: Path, nth: int) -> None:
    disk = FailingDisk(for_good=True)
    async with running(tmp_path, disk=disk, jobs={"runners": 1}) as (_, client):
        await client.upload("x/a", BODY, label="1")
        disk.arm(nth)
        reply = await client("POST", MOVE)
        if reply.status == 503:
            assert copies(tmp_path) == ["media/x/a"]
            return
        id_ = reply.json["jobId"]
        await client.job(id_, until=("WAITING", "FINISHED"))
        assert copies(tmp_path)
    async with running(tmp_path) as (_, client):
        assert (await client.job(id_))["status"] == "FINISHED"
        assert copies(tmp_path) == ["archive/x/a"]
        assert leftovers(tmp_path) == []
