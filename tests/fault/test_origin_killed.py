"""kill -9 of a real origin during copy, move and chunked upload, at moments spread over the work.

Afterwards: nothing torn is visible, no byte that was acknowledged is lost, and every job ends FINISHED.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.vidispine import TEXT, Client, write_settings

ROOT = Path(__file__).parents[2]
BODY = random.Random(5).randbytes(3_000_000)
CHUNK = 250_000
FAULTS = (aiohttp.ClientError, ConnectionError, OSError)


class Killed:
    """An origin in a process of its own, over one folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = write_settings(folder, jobs={"lease": 5}, **settings)
        self._process: subprocess.Popen[bytes] | None = None

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Client]:
        """Serve until the block ends, or `kill` ends it."""
        command = [sys.executable, "-m", "origin", "serve", "--config", str(self.settings)]
        log = self.folder / "origin.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=ROOT, stderr=out, stdout=out, env={**os.environ})
        self._process = process
        try:
            async with asyncio.timeout(20):
                while not (ready := [line for line in log.read_text().splitlines() if " ready " in line]):
                    assert process.poll() is None, log.read_text()
                    await asyncio.sleep(0.02)
            base = "http://" + ready[0].rsplit("http://", 1)[1].split()[0].rstrip("/")
            async with aiohttp.ClientSession() as session:
                yield Client(base, session)
        finally:
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def on_disk(self, storage: str) -> dict[str, bytes]:
        """Whatever lies there under a name that clients may see."""
        root = self.folder / storage
        return {p.name: p.read_bytes() for p in root.iterdir() if not p.name.startswith(".part-")}

    def leftovers(self) -> list[str]:
        return [p.name for s in ("media", "archive") for p in (self.folder / s).glob(".part-*")]


async def test_copies_and_moves_killed_again_and_again_end_finished_with_no_byte_lost(
    tmp_path: Path,
) -> None:
    origin = Killed(tmp_path)
    chance = random.Random(3)
    copied = ["slow copy", "copy0", "copy1", "copy2"]
    moved = ["slow move", "move0", "move1", "move2"]
    names = [name for pair in zip(copied, moved, strict=True) for name in pair]
    jobs: list[str] = []
    async with origin.life() as client:
        for name in names:
            quoted = name.replace(" ", "%20")
            target = f"/API/storage/VX-1/file/data?path={quoted}"
            id_ = (await client("POST", target, accept=TEXT, body=io.BytesIO(BODY))).text.strip()
            rate = "&limitRate=2000000" if name.startswith("slow") else ""
            target = f"/API/file/{id_}/storage/VX-2?move={name in moved}&filename={quoted}{rate}"
            jobs.append((await client("POST", target, accept=TEXT)).text.strip())
        await client.job(jobs[0], until=("STARTED", "FINISHED"))
    for _ in range(3):
        for name, held in origin.on_disk("archive").items():
            assert held == BODY, f"{name} is torn"
        for name in names:  # the last copy is never lost, at no moment
            assert BODY in (origin.on_disk("media").get(name), origin.on_disk("archive").get(name))
        async with origin.life():
            await asyncio.sleep(chance.uniform(0, 0.4))  # the experiment itself: any moment
    async with origin.life() as client:
        for job in jobs:
            assert (await client.job(job))["status"] == "FINISHED"
        for name in names:
            quoted = name.replace(" ", "%20")
            reply = await client("GET", f"/API/storage/VX-2/file/path/{quoted}")
            assert reply.json["hash"] == hashlib.sha1(BODY).hexdigest()
            assert (await client("GET", f"/API/storage/VX-2/file/path/{quoted}/data")).body == BODY
            source = (await client("GET", f"/API/storage/VX-1/file/path/{quoted}")).status
            assert source == (404 if name in moved else 200)
        hits = (await client("GET", "/API/storage/VX-2/file;number=0")).json["hits"]
        assert hits == len(names), "a copy was made twice"
    assert origin.on_disk("archive") == dict.fromkeys(names, BODY)
    assert origin.on_disk("media") == dict.fromkeys(copied, BODY)
    assert origin.leftovers() == []


async def test_chunked_upload_killed_again_and_again_is_whole_in_the_end(tmp_path: Path) -> None:
    origin = Killed(tmp_path)
    chance = random.Random(7)
    offsets = list(range(0, len(BODY), CHUNK))
    chance.shuffle(offsets)
    taken: set[int] = set()
    sent = 0

    async def send(client: Client, offset: int) -> None:
        nonlocal sent
        target = "/API/storage/VX-1/file/data?path=whole&transferId=t"
        headers = {"index": str(offset), "size": str(len(BODY))}
        with suppress(*FAULTS):
            reply = await client("POST", target, body=BODY[offset : offset + CHUNK], headers=headers)
            assert reply.status in (200, 204), reply.text
            taken.add(offset)
            sent += 1

    for round_ in range(4):
        async with origin.life() as client:
            if taken and len(taken) < len(offsets):
                assert (await client("GET", "/API/storage/VX-1/file/path/whole")).status == 404
            missing = [offset for offset in offsets if offset not in taken]
            work = [asyncio.create_task(send(client, o)) for o in missing[: 3 if round_ < 3 else None]]
            if round_ < 3:
                await asyncio.sleep(chance.uniform(0, 0.15))  # the experiment itself: any moment
                origin.kill()
            await asyncio.gather(*work)
            if round_ == 3:
                assert (await client("GET", "/API/storage/VX-1/file/path/whole/data")).body == BODY
        if round_ < 3:
            assert origin.on_disk("media") == {}
    assert sent == len(offsets), "a chunk that was acknowledged had to be sent again"
    assert origin.on_disk("media") == {"whole": BODY}
    assert origin.leftovers() == []


async def test_what_an_edge_could_not_be_told_before_a_kill_it_is_told_after_the_next_start(
    tmp_path: Path,
) -> None:
    up = False
    told: list[str] = []
    heard = asyncio.Event()

    async def purge(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer operator"
        if not up:
            return web.Response(status=503)
        told.extend((await request.json())["ids"])
        heard.set()
        return web.json_response({"purged": 0, "bytes": 0})

    app = web.Application()
    app.router.add_post("/api/v1/purge", purge)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    origin = Killed(tmp_path, edges=[{"url": f"http://{host}:{port}", "token": "operator"}])
    try:
        async with origin.life() as client:
            id_ = await client.upload("a.bin", b"1")  # acknowledged, and then killed
        up = True
        async with origin.life(), asyncio.timeout(20):
            await heard.wait()
    finally:
        await runner.cleanup()
    assert set(told) == {id_, "media/a.bin", "VX-1/a.bin"}
    assert "operator" not in (tmp_path / "origin.log").read_text()
