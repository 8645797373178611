"""A running origin on a loopback socket, and a client that sends targets exactly as written."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from origin.app import Origin, build_app
from origin.backends.disk import Disk
from origin.config import load

JSON, XML, TEXT = "application/json", "application/xml", "text/plain"
ADMIN = ("admin", "secret")


@dataclass(slots=True)
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def lines(self) -> list[str]:
        return self.text.split("\r\n")[:-1]


@dataclass(slots=True)
class Client:
    """Targets go out as they are given. as_: (user, password), or None for nobody."""

    base: str
    session: aiohttp.ClientSession
    as_: tuple[str, str] | None = ADMIN
    headers: dict[str, str] = field(default_factory=dict)
    token: str = ""  # of the administrator, instead of the password: cheaper to check
    ids: dict[str, str] = field(default_factory=dict)  # label → id; `{label}` in a target stands for it

    async def __call__(
        self,
        method: str,
        target: str,
        *,
        accept: str | None = JSON,
        body: Any = None,
        headers: dict[str, str] | None = None,
        as_: tuple[str, str] | None = ADMIN,
    ) -> Reply:
        fields = {**self.headers, **(headers or {})}
        if accept is not None:
            fields["Accept"] = accept
        if as_ is not None:
            cheap = as_ == ADMIN and self.token
            fields["Authorization"] = f"Bearer {self.token}" if cheap else basic(*as_)
        for label, id in self.ids.items():
            target = target.replace(f"{{{label}}}", id)
        url = URL(self.base + target, encoded=True)
        async with self.session.request(
            method, url, data=body, headers=fields, skip_auto_headers=("Content-Type", "Accept")
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def upload(self, path: str, body: bytes, storage: str = "VX-1", *, label: str = "") -> str:
        """Upload and return the file's id. path: percent-encoded."""
        target = f"/API/storage/{storage}/file/data?path={path}"
        reply = await self("POST", target, accept=TEXT, body=body)
        assert reply.status == 200, reply.text
        id: str = reply.text.strip()
        if label:
            self.ids[label] = id
        return id

    async def create(self, path: str, query: str = "", storage: str = "VX-1", *, label: str = "") -> str:
        """Register an entity and return its id. path: percent-encoded; query: begins with "&"."""
        target = f"/API/storage/{storage}/file?path={path}{query}"
        reply = await self("POST", target, accept=TEXT)
        assert reply.status == 200, reply.text
        id: str = reply.text.strip()
        if label:
            self.ids[label] = id
        return id

    def labels(self, ids: list[str]) -> str:
        """Return the labels of ids, one after the other."""
        known = {id: label for label, id in self.ids.items()}
        return "".join(known[id] for id in ids)

    async def job(self, id: str, *, until: str | tuple[str, ...] = ()) -> dict[str, Any]:
        """Return the job's document once it is over, or once its status begins with (one of) `until`."""
        ends = until or ("FINISHED", "FAILED", "ABORTED")
        async with asyncio.timeout(20):
            while True:
                document: dict[str, Any] = (await self("GET", f"/API/job/{id}")).json
                status = document["status"]
                if status.startswith(ends) and (until or status != "ABORTED_PENDING"):
                    return document
                await asyncio.sleep(0.02)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def write_settings(folder: Path, **extra: Any) -> Path:
    """Write settings for an origin below `folder`: storages media (VX-1) and archive (VX-2)."""
    settings = {
        "api": {"host": "127.0.0.1", "port": 0},
        "catalog": f"sqlite:///{folder}/catalog.db",
        "storages": [
            {"name": "media", "uri": f"file:{folder}/media"},
            {"name": "archive", "uri": f"file:{folder}/archive"},
        ],
        "storage_roots": [str(folder)],
        "auth": {"admin_password": ADMIN[1]},
        "log": {"access": False},
        **extra,
    }
    path = folder / "origin.yaml"
    path.write_text(json.dumps(settings))
    return path


_template: list[tuple[bytes, str]] = []  # a catalog with the first user alone, and a token of it


async def _catalog() -> tuple[bytes, str]:
    """Return a catalog to begin with. Made once a process: tables and a password's hash take a while."""
    if not _template:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            app = build_app(load(write_settings(folder, storages=[]), [], {}))
            await app.start()
            admin = await app.services.access.authenticate_password(*ADMIN)
            _, token = await app.services.access.create_token(admin, "tests", None)
            await app.stop()
            _template.append(((folder / "catalog.db").read_bytes(), token))
    return _template[0]


@asynccontextmanager
async def running(
    folder: Path, *, disk: Disk | None = None, **extra: Any
) -> AsyncIterator[tuple[Origin, Client]]:
    """Start an origin below `folder`; it keeps what an earlier one has left there."""
    catalog, token = await _catalog()
    if not (folder / "catalog.db").exists():
        (folder / "catalog.db").write_bytes(catalog)
    app = build_app(load(write_settings(folder, **extra), [], {}), disk=disk)
    addresses = await app.start()
    try:
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            yield app, Client(addresses[0], session, token=token)
    finally:
        await app.stop()


async def raw_exchange(base: str, octets: bytes, *, half_close: bool = True) -> bytes:
    """Send octets, shut the sending side down, and return everything that comes back."""
    url = URL(base)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(octets)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
