"""A client of the Nodeum dialect over real sockets, as the administrator unless told otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.origin_service import PASSWORD, Answer, Service, running_origin

ADMIN = ("admin", PASSWORD)
WRITER = ("maria", "maria's")
READER = ("rolf", "rolf's")


@dataclass(slots=True)
class Client:
    service: Service

    async def __call__(
        self,
        method: str,
        target: str,
        value: Any = None,
        *,
        user: tuple[str, str] | None = ADMIN,
        **headers: str,
    ) -> Answer:
        """value: of the JSON body, None for none. headers: "_" stands for "-"."""
        fields = {name.replace("_", "-"): text for name, text in headers.items()}
        body = None
        if value is not None:
            body = json.dumps(value).encode()
            fields.setdefault("Content-Type", "application/json")
        return await self.service(
            method, target, body=body, headers=fields, user=None if "Authorization" in fields else user
        )

    async def get(self, target: str, **more: Any) -> Any:
        """Return the JSON of a 200."""
        answer = await self("GET", target, **more)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json

    async def put_file(self, name: str, body: bytes = b"bytes") -> int:
        """Upload by another dialect; return the number of the File."""
        answer = await self.service.put(name, body)
        assert answer.status in (200, 201), answer.body
        return int(answer.json["id"].removeprefix("VX-"))

    async def add_users(self) -> None:
        access, admin = self.service.services.access, await self.service.admin()
        await access.create_user(admin, *WRITER, write=True)
        await access.create_user(admin, *READER)

    async def until_over(self, task: int, job_id: str) -> dict[str, Any]:
        """Poll a run until it is over; return the last answer."""
        async with asyncio.timeout(30):
            while True:
                answer = await self("GET", f"/api/v2/tasks/{task}/action/run?job_id={job_id}")
                if answer.status == 200:
                    return dict(answer.json)
                assert answer.status == 202, answer.body
                await self.service.services.jobs.wait(f"VX-{int(job_id[-12:], 16)}", 5)

    async def make_task(self, action: str, sources: list[Any], targets: list[Any], **more: Any) -> int:
        answer = await self("POST", "/api/v2/tasks", {"name": "task", "workflow_action": action, **more})
        assert answer.status == 201, answer.body
        n = int(answer.json["id"])
        for kind, ends in (("source", sources), ("destination", targets)):
            for end in ends:
                made = await self("POST", f"/api/v2/tasks/{n}/task_{kind}s", end)
                assert made.status == 201, made.body
        return n

    async def run(self, task: int) -> str:
        """Run to the end; return the status of the execution."""
        started = await self("PUT", f"/api/v2/tasks/{task}/action/run")
        assert started.status == 202, started.body
        await self.until_over(task, started.json["job_id"])
        executions = await self.get(f"/api/v2/tasks/{task}/task_executions?sort_by=id:desc")
        return str(executions["task_executions"][0]["status"])


@asynccontextmanager
async def running(folder: Path, **extra: Any) -> AsyncIterator[Client]:
    async with running_origin(folder, **extra) as service:
        yield Client(service)
