"""kill -9 at any moment: what was reported as committed is complete and byte for byte what it was."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distributor.errors import StoreError
from distributor.store.store import DiskStore
from tests.support.stores import NOW, content, described, fill, read, recovered, settled, within_limit

ROOT = Path(__file__).resolve().parents[2]
# Never reached: right after a start, before all rows are read, even the newest may have to leave.
LIMIT = 40_000_000
SEGMENT = 16 << 10

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.fault.test_store_killed import fill_for_ever
asyncio.run(fill_for_ever(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
"""


def length_of(key: str) -> int:
    return random.Random(key).choice([0, 1, 5000, SEGMENT, 3 * SEGMENT + 17])


def make(path: Path, durability: str = "none") -> DiskStore:
    return DiskStore(path, limit=LIMIT, segment=SEGMENT, durability=durability)  # type: ignore[arg-type]


async def fill_for_ever(path: Path, life: int, durability: str) -> None:
    """The child: fills, some at once, some abandoned midway; says each key once it is committed."""
    store = make(path, durability)
    await store.start()

    async def filler(lane: int) -> None:
        for n in range(10_000):
            key = f"life{life}/lane{lane}/{n}"
            await fill(store, key, content(key, length_of(key)), piece=7000)
            os.write(1, f"{key}\n".encode())
            if n % 5 == 4:
                left = f"{key}/left"
                body = content(left, 5 * SEGMENT)
                partial = await store.begin(left, left, described(len(body)), NOW)
                await store.write(partial, 0, body[: SEGMENT + 100])
                await store.write(partial, 3 * SEGMENT, body[3 * SEGMENT : 4 * SEGMENT])
                await store.checkpoint(partial)
                await store.write(partial, SEGMENT + 100, body[SEGMENT + 100 : 2 * SEGMENT])
                store.release(partial)

    await asyncio.gather(*(filler(lane) for lane in range(3)))


@pytest.mark.parametrize("durability", ["none", "fsync"])
async def test_what_was_committed_before_a_kill_is_complete_and_whole(
    tmp_path: Path, durability: str
) -> None:
    chance = random.Random(durability)
    committed: list[str] = []
    for life in range(5):
        reported = await asyncio.to_thread(one_life, tmp_path, life, durability, chance.random() * 0.6)
        committed += reported
        await check(tmp_path, committed, reported)
    assert len(committed) > 20


def one_life(path: Path, life: int, durability: str, seconds: float) -> list[str]:
    """Run the child until `seconds` after its first commit, kill it, return what it reported."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(life), durability], cwd=ROOT, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        said = os.read(child.stdout.fileno(), 1 << 16)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.01))
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read()
    # A key cut short by the kill has no line end.
    return said.decode().split("\n")[:-1]


async def check(path: Path, committed: list[str], last: list[str]) -> None:
    store = make(path)
    await store.start()
    for key in last[-3:]:
        found = await store.find(key)
        assert found is not None and found.complete, f"{key} was committed"
    await recovered(store)
    await settled(store)
    assert within_limit(store)
    usage = store.usage()
    if usage.complete < LIMIT // 2:
        for key in committed:
            assert store.get(key) is not None, f"{key} was committed"
    known = set()
    for stored in store.scan(None, 100_000):
        body = content(stored.key, stored.length or 0)
        known.add(stored.blob)
        for index, filled in stored.segments.prefixes():
            start = index * SEGMENT
            try:
                assert await read(store, stored, start, start + filled) == body[start : start + filled]
            except StoreError:
                assert not stored.complete
        if stored.complete:
            assert await read(store, stored) == body
    on_disk = {d.name + f.name for d in (path / "blobs").iterdir() for f in d.iterdir()}
    on_disk |= {f.name for f in (path / "loose").iterdir()}
    assert on_disk == known
    await store.close()
