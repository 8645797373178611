"""SIGKILL of worker processes amid their tasks, against an origin in a process of its own.

The workers reach the origin through a relay that holds a call of each and so says where it is; one that is
left does what the killed ones had begun.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.origin_service import PASSWORD, basic, origin_config

ROOT = Path(__file__).parents[2]
LEASE = 5  # seconds, the shortest there is
DEADLINE = 60  # seconds
AT = ("source", "output", "finish")
PASSED = {"auth_token", "content-type"}


def body(asset: str) -> bytes:
    return asset.encode() * 1000


class Relay:
    """Between workers and origin. A worker named after one of AT gets no answer to that call, ever.

    reached   where workers were held, in the order they came there
    finished  set when so many tasks were finished as there are
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._names: dict[str, str] = {}  # by token
        self._ended = 0
        self.reached: asyncio.Queue[str] = asyncio.Queue()
        self.finished = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        worker = self._names.get(request.headers.get("AUTH_TOKEN", ""), "")
        call = request.path.rpartition("/")[2]
        sent = await request.read()
        ends = request.method == "PUT" and b'"status"' in sent
        held = worker in AT and worker == ("finish" if ends else call)
        headers = {name: value for name, value in request.headers.items() if name.lower() in PASSED}
        if held and ends:  # before the origin hears of it
            await self._hold(worker)
        async with self._session.request(
            request.method, f"{self._url}{request.raw_path}", data=sent, headers=headers
        ) as response:
            answer, kind = await response.read(), response.content_type
            if request.method == "POST" and request.path == "/api/workers":
                name, token = (await request.json())["name"], (await response.json())["token"]
                self._names[token] = name
        if held:
            await self._hold(worker)
        if ends and response.status == 200:
            self._ended += 1
            if self._ended == len(AT):
                self.finished.set()
        return web.Response(status=response.status, body=answer, content_type=kind)

    async def _hold(self, worker: str) -> None:
        self.reached.put_nowait(worker)
        await asyncio.Event().wait()


@asynccontextmanager
async def process(*command: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *command, cwd=ROOT, stderr=-1, env={**os.environ, **variables}
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


@asynccontextmanager
async def origin(folder: Path) -> AsyncIterator[str]:
    origin_config(folder, log={"access": False})
    async with process("-m", "origin", "serve", "--config", str(folder / "origin.yaml")) as child:
        assert child.stderr is not None
        line = b""
        while b" ready " not in line:
            line = await child.stderr.readline()
            assert line, "the origin did not start"
        yield line.decode().split()[-1]


def worker(name: str, url: str) -> Any:
    return process(
        "docs/ove_worker.py",
        ORIGIN=url,
        ORIGIN_PASSWORD=PASSWORD,
        WORKER=name,
        LEASE=str(LEASE),
        PAUSE="0.2",
    )


async def test_tasks_of_killed_worker_processes_are_done_by_the_one_that_is_left(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(DEADLINE),
        origin(tmp_path) as url,
        aiohttp.ClientSession(url, headers={"Authorization": basic()}) as session,
        aiohttp.ClientSession() as plain,
    ):
        relay = Relay(url, plain)
        site = web.Application(client_max_size=2**20)
        site.router.add_route("*", "/{path:.*}", relay.answer)

        async def ask(method: str, path: str, **sent: Any) -> Any:
            async with session.request(method, path, **sent) as response:
                assert response.status == 200, await response.text()
                return await response.json()

        await ask("POST", "/api/media/create", json={"id": "films", "name": "f", "groups": ["public"]})
        octets = {"Content-Type": "application/octet-stream"}
        for asset in AT:
            await ask(
                "POST",
                f"/api/media/films/upload/{asset}?filename=a.bin&create=true",
                data=body(asset),
                headers=octets,
            )
            task = {"worker_type": "describe", "store_id": "media", "project_id": "films", "asset_id": asset}
            await ask("POST", "/api/workers/queue", json=task)

        async with TestServer(site) as server:
            through = str(server.make_url("")).rstrip("/")
            begun = {}
            for name in AT:  # one after the other, so that each has the task of the asset of its name
                async with worker(name, through) as child:
                    assert await relay.reached.get() == name
                    begun[name] = {
                        task["assetID"]: (task["status"], task["workerName"])
                        for task in await ask("GET", "/api/workers/queue")
                        if task.get("workerName") == name
                    }
                    child.kill()
            assert begun == {name: {name: ("processing", name)} for name in AT}
            async with worker("left", through):
                await relay.finished.wait()

        assert {task["attempts"] for task in await ask("GET", "/api/workers/queue")} == {2}
        for asset in AT:
            meta = await ask("GET", f"/api/media/films/meta/{asset}")
            assert (meta["processing_status"], meta["worker"], meta["processing_error"]) == ("done", "", "")
            assert meta["index_file"].endswith(f"/films/{asset}/1/left/a/index.html")
            files = await ask("GET", f"/api/media/films/files/{asset}")
            assert [file["name"] for file in files] == ["a.bin", "left/a/index.html"]
            page = tmp_path / "media" / "films" / asset / "1" / "left" / "a" / "index.html"
            assert hashlib.sha256(body(asset)).hexdigest() in page.read_text()
    kept = [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
    assert len(kept) == 2 * len(AT)  # what the killed had made is gone, hidden files too
