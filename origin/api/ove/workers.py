"""Workers, their queue, and the calls by which a worker does its tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from origin.api.bodies import body_chunks, declared_sha256
from origin.api.content import send_content
from origin.api.ove import wire
from origin.api.ove.calls import Answer, Call, need_text, text_of, texts_of
from origin.api.ove.lists import send_list
from origin.api.ove.problems import Problem, invalid_data
from origin.domain.rights import Verb
from origin.domain.workers import MAX_LEASE, MIN_LEASE, Worker, WorkerTask
from origin.errors import Forbidden, NotFound, Unauthenticated

_LEASE = 60  # seconds


# --- workers --------------------------------------------------------------------------------------


async def list_workers(call: Call) -> Answer:
    full, name = call.switch("detail"), call.param("name")
    found = [entry for entry in await call.services.workers.everyone() if name in (None, entry[0].name)]
    return Answer([wire.worker(entry) if full else entry[0].name for entry in found])


async def _require(call: Call, scope: str) -> None:
    """Ask for the scope, unless a worker acts for itself."""
    if call.caller.user is None:
        raise Unauthenticated
    if await call.services.workers.acting(call.caller) is None:
        call.services.access.require_scope(call.caller, scope)


async def register(call: Call) -> Answer:
    await _require(call, "workers/create")
    given = await call.document()
    name, kind = need_text(given, "name"), need_text(given, "type")
    parameters = given.get("parameters")
    if parameters is not None and not isinstance(parameters, dict | list):
        raise invalid_data("'parameters' must be an object.")
    secret = await call.services.workers.register(
        call.caller,
        name,
        kind,
        extensions=texts_of(given, "extensions") or (),
        description=text_of(given, "description") or "",
        parameters=parameters,
        docs=text_of(given, "docs") or "",
    )
    return Answer({**wire.OK, "token": secret})


async def unregister(call: Call) -> Answer:
    await _require(call, "workers/destroy")
    worker = await call.services.workers.unregister(call.caller, need_text(await call.document(), "name"))
    await call.services.worker_tasks.give_back(worker)
    return Answer(wire.OK)


# --- the queue ------------------------------------------------------------------------------------


def _shown(call: Call, task: WorkerTask) -> dict[str, Any]:
    try:
        store = call.services.storages.known(task.storage_n).name
    except NotFound:
        store = f"VX-{task.storage_n}"
    return wire.task(task, store)


async def list_tasks(call: Call) -> web.StreamResponse:
    async def shown() -> AsyncIterator[list[Any]]:
        async for found in call.services.worker_tasks.listing(call.caller):
            yield [_shown(call, task) for task in found]

    return await send_list(call, shown())


async def schedule(call: Call) -> Answer:
    given = await call.document()
    fields = [need_text(given, name) for name in ("worker_type", "store_id", "project_id", "asset_id")]
    kind, store, project, id = fields
    options, priority = given.get("parameters"), given.get("priority")
    if options is not None and not isinstance(options, dict):
        raise invalid_data("'parameters' must be an object.")
    if priority is not None and (not isinstance(priority, int) or abs(priority) > 2**31):
        raise invalid_data("'priority' must be a whole number.")
    services = call.services
    place = services.projects.find(await services.projects.store(call.caller, store), project)
    services.projects.require(call.caller, Verb.WRITE, place)
    asset = await services.assets.get(place, id)
    task = await services.worker_tasks.schedule(
        call.caller, place, asset, kind, options=options or {}, priority=1 if priority is None else priority
    )
    return Answer(wire.OK, headers={"X-Task-Id": task.id})


async def cancel(call: Call) -> Answer:
    await call.services.worker_tasks.cancel(call.caller, need_text(await call.document(), "task_id"))
    return Answer(wire.OK)


async def reset(call: Call) -> Answer:
    if await call.services.workers.acting(call.caller) is not None:
        raise Forbidden("a worker's token is good for this worker's own tasks only")
    await call.services.worker_tasks.reset(call.caller, need_text(await call.document(), "task_id"))
    return Answer(wire.OK)


# --- a worker at work -----------------------------------------------------------------------------


async def claim(call: Call) -> Answer:
    given = await call.document()
    name, lease = need_text(given, "name"), given.get("lease", _LEASE)
    if not isinstance(lease, int) or isinstance(lease, bool) or not MIN_LEASE <= lease <= MAX_LEASE:
        raise invalid_data(f"'lease' must be a whole number of seconds, {MIN_LEASE} to {MAX_LEASE}.")
    worker = await call.services.workers.require_for(call.caller, name)
    task = await call.services.worker_tasks.claim(worker, lease)
    if task is None:
        return Answer(None, 204)
    return Answer({**_shown(call, task), "lease_id": task.lease_id, "lease": lease})


async def _acting(call: Call) -> Worker | None:
    """Return the worker whose token asks, None for an administrator. Raises Forbidden for others."""
    worker = await call.services.workers.acting(call.caller)
    if worker is None:
        call.services.access.require_admin(call.caller)
    return worker


async def update(call: Call) -> Answer:
    """A heartbeat, or with `status` the end."""
    worker, id = await _acting(call), call.args["task"]
    given = await call.document()
    lease_id, status, progress = text_of(given, "lease_id"), given.get("status"), given.get("progress")
    if progress is not None and (
        isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 1
    ):
        raise invalid_data("'progress' must be a number from 0 to 1.")
    tasks = call.services.worker_tasks
    if status is None or status == "processing":
        task = await tasks.heartbeat(worker, id, progress=progress, lease_id=lease_id)
        return Answer({**wire.OK, "lease_expires": wire.time_text(task.job.lease_until_ms or 0)})
    if status not in ("done", "error"):
        raise invalid_data("'status' must be done or error.")
    message, index_file = text_of(given, "message"), text_of(given, "index_file")
    error = (message or "the worker failed") if status == "error" else None
    await tasks.finish(worker, id, error=error, index_file=index_file, lease_id=lease_id)
    return Answer(wire.OK)


async def source(call: Call) -> web.StreamResponse:
    worker = await _acting(call)
    content = await call.services.worker_tasks.source(worker, call.args["task"], call.param("lease_id"))
    answer = await send_content(
        call.request,
        content,
        media_type="application/octet-stream",
        headers={"Cache-Control": "private, no-cache"},
    )
    if not answer.prepared and answer.status in _REFUSED:
        title, text = _REFUSED[answer.status]
        kept = {n: answer.headers[n] for n in ("Content-Range", "ETag") if n in answer.headers}
        raise Problem(answer.status, title, text, kept)
    return answer


_REFUSED = {
    412: ("Precondition failed", "A precondition of the request does not hold."),
    416: ("Range not satisfiable", "No range asked for overlaps the file."),
}


async def output(call: Call) -> Answer:
    worker = await _acting(call)
    call.require_type("application/octet-stream")
    name = call.param("filename")
    if not name:
        raise Problem(400, "Invalid filename", "The parameter 'filename' is required.")
    tasks, id, lease_id = call.services.worker_tasks, call.args["task"], call.param("lease_id")
    await tasks.held(worker, id, lease_id)
    async with call.services.slots.taken():
        await tasks.add_output(
            worker,
            id,
            name,
            body_chunks(call.request),
            lease_id=lease_id,
            declared_length=call.request.content_length,
            sha256=declared_sha256(call.request),
        )
    return Answer(wire.OK)
