"""Memory stays bounded however large a file is and however slow its reader."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.support.origin_service import basic, origin_config

ROOT = Path(__file__).parents[2]
PIECE = bytes(1 << 20)
COUNT = 256
BOUND = 48 << 20  # bytes of growth that a 256 MiB file may cause


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def zeros() -> AsyncIterator[bytes]:
    for _ in range(COUNT):
        yield PIECE


async def test_256_mib_go_in_and_out_in_bounded_memory(tmp_path: Path) -> None:
    origin_config(tmp_path)
    command = [sys.executable, "-m", "origin", "serve", "--config", str(tmp_path / "origin.yaml")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    highest = 0

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, resident(process.pid))
            await asyncio.sleep(0.02)

    try:
        assert process.stderr is not None
        address = ""
        while " ready " not in address:
            address = (await asyncio.to_thread(process.stderr.readline)).decode()
        url = address.split()[-1] + "/content/media/zeros"
        headers = {"Authorization": basic()}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.put(url + "-first", data=b"warm") as response:
                assert response.status == 201
            start = resident(process.pid)
            watcher = asyncio.create_task(watch())
            async with session.put(url, data=zeros()) as response:
                assert response.status == 201
                value = await response.json()
            digest = hashlib.sha256()
            async with session.get(url) as response:
                async for chunk in response.content.iter_chunked(1 << 20):
                    digest.update(chunk)
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
    finally:
        process.terminate()
        await asyncio.to_thread(process.communicate)
    assert value["size"] == COUNT << 20
    assert value["sha256"] == digest.hexdigest()
    assert highest - start < BOUND
