"""Health, readiness, metrics."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from origin.api.dispatch import Handler, raw_path
from origin.api.errors import method_not_allowed, plain
from origin.api.metrics import CONTENT_TYPE, Metrics
from origin.errors import OriginError
from origin.services import Services


def handler(
    services: Services, metrics: Metrics, *, ready: Callable[[], bool], connections: Callable[[], int]
) -> Handler:
    """Return what answers `/healthz` (the process is up), `/readyz` (it does its work), `/metrics`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return method_not_allowed(request, "GET", "HEAD")
        path = raw_path(request)
        if path == "/healthz":
            return _json({"status": "ok"})
        if path == "/readyz":
            return await _readiness(services, ready())
        if path == "/metrics":
            await _look(services, metrics, connections())
            headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
            return web.Response(body=metrics.text(), headers=headers)
        return plain(404, "no such path")

    return answer


async def _readiness(services: Services, started: bool) -> web.Response:
    if not started:
        return _json({"status": "starting or stopping"}, 503)
    try:
        await services.jobs.count()
    except OriginError as error:
        return _json({"status": str(error)}, 503)
    states = {s.bucket: s.state.value for s in services.storages.everything()}
    return _json({"status": "ready", "storages": states})


async def _look(services: Services, metrics: Metrics, connections: int) -> None:
    storages = services.storages.everything()
    usage = await services.storages.usage([storage.id for storage in storages])
    metrics.look(
        {s.bucket: (usage[s.id].files, usage[s.id].bytes) for s in storages},
        {state.value: count for state, count in (await services.jobs.count()).items()},
        connections,
    )
    metrics.look_at_edges(await services.edges.waiting(), services.edges.failures)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store"} | ({"Retry-After": "5"} if status == 503 else {}),
    )
