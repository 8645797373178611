"""A running origin in the test's own loop, a client for it, and a disk that fails when told to.

async with running_origin(tmp_path) as service:
    reply = await service.put("media/a.bin", b"bytes")
    answer = await service.exchange(b"GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
"""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from origin.app import Origin, build_app
from origin.backends.disk import Disk
from origin.config import OriginConfig, load
from origin.domain.model import Caller, File
from origin.services import Services

PASSWORD = "p@55w0rd"


class FailingDisk(Disk):
    """Fails the nth call (counted over `counted`, default all), once or for good.

    calls  names of the calls made, in order
    """

    def __init__(
        self,
        nth: int = 0,
        *,
        error: int = errno.EIO,
        only: str | None = None,
        for_good: bool = False,
    ) -> None:
        self.nth = nth
        self.error = error
        self.only = only
        self.for_good = for_good
        self.count = 0
        self.calls: list[str] = []
        self.failed = 0
        self._lock = threading.Lock()

    def _maybe_fail(self, name: str) -> None:
        with self._lock:
            self.calls.append(name)
            if self.only not in (None, name) or not self.nth:
                return
            self.count += 1
            if self.count == self.nth or (self.for_good and self.count > self.nth):
                self.failed += 1
                raise OSError(self.error, os.strerror(self.error))

    def arm(self, nth: int, *, only: str | None = None, error: int | None = None) -> None:
        self.count, self.nth, self.only, self.calls, self.failed = 0, nth, only, [], 0
        self.error = self.error if error is None else error


def _failing(name: str) -> Any:
    def call(self: FailingDisk, *args: Any) -> Any:
        self._maybe_fail(name)
        return getattr(Disk, name)(self, *args)

    return call


for _name in ("create", "write", "sync", "stat", "rename", "link", "make_folder", "open_folder"):
    setattr(FailingDisk, _name, _failing(_name))
for _name in ("open_root", "open_read", "unlink", "stat_name", "names"):
    setattr(FailingDisk, _name, _failing(_name))


@dataclass(slots=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Service:
    origin: Origin
    url: str
    folder: Path
    session: aiohttp.ClientSession

    @property
    def services(self) -> Services:
        return self.origin.services

    @property
    def port(self) -> int:
        return URL(self.url).port or 0

    async def admin(self) -> Caller:
        return await self.services.access.authenticate_password("admin", PASSWORD)

    async def __call__(
        self,
        method: str,
        target: str,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
        user: tuple[str, str] | None = ("admin", PASSWORD),
    ) -> Answer:
        """target: as it goes out, percent-encoded."""
        fields = dict(headers or {})
        body = io.BytesIO(body) if isinstance(body, bytes) else body
        if user is not None:
            fields["Authorization"] = basic(*user)
        async with self.session.request(
            method, URL(self.url + target, encoded=True), data=body, headers=fields
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def put(self, name: str, body: Any, **headers: str) -> Answer:
        return await self("PUT", f"/content/{name}", body=body, headers=headers)

    async def file(self, path: str, storage: str = "VX-1") -> File:
        return await self.services.files.find(await self.admin(), path, storage_id=storage)

    async def exchange(self, octets: bytes, *, half_close: bool = False) -> bytes:
        """Send octets on a connection of their own; return all that comes until it ends."""
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(octets)
                await writer.drain()
                if half_close:
                    writer.write_eof()
                return await reader.read()
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    def on_disk(self, storage: str = "media") -> dict[str, bytes]:
        """Everything below a storage's root, hidden names too."""
        root = self.folder / storage
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def basic(user: str = "admin", password: str = PASSWORD) -> str:
    """Return the value of an Authorization field."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def origin_config(folder: Path, **extra: Any) -> OriginConfig:
    """Settings for an origin below `folder`: storages media (VX-1), archive (VX-2), secret (VX-3)."""
    settings: dict[str, Any] = {
        "api": {"port": 0},
        "catalog": f"sqlite:///{folder}/catalog.db",
        "storages": [
            {"name": "media", "uri": f"file:{folder}/media"},
            {"name": "archive", "uri": f"file:{folder}/archive", "archive": True},
            {"name": "secret", "uri": f"file:{folder}/secret", "public": False},
        ],
        "storage_roots": [str(folder / "roots")],
        "auth": {"admin_password": PASSWORD},
    }
    settings.update(extra)
    path = folder / "origin.yaml"
    path.write_text(json.dumps(settings))
    return load(path, [], {})


@asynccontextmanager
async def running_origin(
    folder: Path, *, disk: Disk | None = None, clock: Any = None, **extra: Any
) -> AsyncIterator[Service]:
    """Start an origin below `folder`; it keeps what an earlier one has left there."""
    origin = build_app(origin_config(folder, **extra), disk=disk, clock=clock)
    addresses = await origin.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Service(origin, addresses[0], folder, session)
    finally:
        await origin.stop()
