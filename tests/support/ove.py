"""A client of the OVE dialect over real sockets, as the administrator unless told otherwise."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.origin_service import PASSWORD, Answer, Service, running_origin

ADMIN = ("admin", PASSWORD)
MEMBER = ("mia", "mia's")  # of group "team", may write
READER = ("rolf", "rolf's")  # of group "team", may not
STRANGER = ("sven", "sven's")  # may write, of no group
EDGE = "http://127.0.0.1:3334/api/v1/assets"


@dataclass(slots=True)
class Client:
    service: Service

    async def __call__(
        self,
        method: str,
        target: str,
        value: Any = None,
        *,
        body: Any = None,
        user: tuple[str, str] | None = ADMIN,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """value: of the JSON body, None for none; body: octets. headers: "_" stands for "-"."""
        fields = {name.replace("_", "-"): text for name, text in headers.items()}
        if value is not None:
            body = json.dumps(value).encode()
            fields.setdefault("Content-Type", "application/json")
        elif body is not None:
            fields.setdefault("Content-Type", "application/octet-stream")
        if token is not None:
            fields["AUTH_TOKEN"] = token
            user = None
        return await self.service(method, target, body=body, headers=fields, user=user)

    async def ok(self, method: str, target: str, value: Any = None, **more: Any) -> Any:
        """Return the JSON of a 200."""
        answer = await self(method, target, value, **more)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json

    async def refused(self, method: str, target: str, value: Any = None, **more: Any) -> tuple[int, str]:
        """Return status and title of an error, whose shape is held to the contract."""
        answer = await self(method, target, value, **more)
        assert answer.status >= 400, (answer.status, answer.body)
        if method == "HEAD":
            assert answer.body == b""
            return answer.status, ""
        assert answer.headers["Content-Type"].startswith("application/json")
        held = answer.json
        assert set(held) - {"token"} == {"title", "description"} and held["description"], held
        return answer.status, held["title"]

    async def project(self, id: str = "films", groups: tuple[str, ...] = ("public",)) -> None:
        await self.ok("POST", "/api/media/create", {"id": id, "name": f"The {id}", "groups": groups})

    async def upload(
        self, asset: str, name: str, body: bytes, more: str = "create=true", **other: Any
    ) -> Answer:
        """Upload to project films; return the answer, which is a 200."""
        answer = await self(
            "POST", f"/api/media/films/upload/{asset}?filename={name}&{more}", body=body, **other
        )
        assert answer.status == 200, answer.body
        return answer

    async def meta(self, asset: str) -> dict[str, Any]:
        return dict(await self.ok("GET", f"/api/media/films/meta/{asset}"))

    async def names(self, asset: str, more: str = "") -> list[str]:
        """Names of the files of the current version."""
        return [entry["name"] for entry in await self.ok("GET", f"/api/media/films/files/{asset}{more}")]

    async def add_users(self) -> None:
        access, admin = self.service.services.access, await self.service.admin()
        await access.create_user(admin, *MEMBER, write=True, groups=["team"])
        await access.create_user(admin, *READER, groups=["team"])
        await access.create_user(admin, *STRANGER, write=True)

    async def jobs_done(self) -> None:
        """Wait until no job of the origin waits or runs."""
        from origin.domain.states import FINAL

        jobs = self.service.services.jobs
        while any(count for state, count in (await jobs.count()).items() if state not in FINAL):
            await jobs.changed(0.2)


@asynccontextmanager
async def running(folder: Path, **extra: Any) -> AsyncIterator[Client]:
    async with running_origin(folder, **extra) as service:
        yield Client(service)
