"""The origin's own administration, `/admin/v1/…`: what the command line speaks. JSON, errors in plain form.

GET    storages                             all that the caller may read
GET    files?storage=&path=&recursive=&cursor=&limit=
GET    jobs?state=&type=&first=&limit=      own ones; all for administrators
GET, DELETE  jobs/VX-n                      DELETE aborts
GET, POST    users        PUT, DELETE users/NAME      administrators; PUT of one's own password
GET, POST    tokens       DELETE tokens/VX-n          one's own; POST with `user`: administrators
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import web

from origin.api.auth import caller_of
from origin.api.bodies import read_object
from origin.api.content import file_value
from origin.api.dispatch import Handler, raw_path, raw_query
from origin.api.errors import method_not_allowed, plain, plain_from
from origin.core.paging import Page
from origin.core.paths import PathError, PathPattern
from origin.core.query import FileField, FileFilter, FileSort, JobField, JobFilter, JobSort
from origin.domain.model import Caller, Job, Token, User
from origin.domain.states import JobState
from origin.errors import Invalid, OriginError
from origin.services import Services

PREFIX = "/admin/v1"
_MOST = 1000


class _Call:
    """One request, read: `arguments` of the query or of the body."""

    def __init__(
        self, services: Services, caller: Caller, name: str, arguments: Mapping[str, object]
    ) -> None:
        self.services = services
        self.caller = caller
        self.name = name
        self._arguments = arguments

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self._arguments.get(key, default)
        if value is not None and not isinstance(value, str):
            raise Invalid(key, "must be text")
        return value

    def need(self, key: str) -> str:
        value = self.text(key)
        if not value:
            raise Invalid(key, "is needed")
        return value

    def flag(self, key: str) -> bool | None:
        value = self._arguments.get(key)
        if value is None or isinstance(value, bool):
            return value
        if value in ("true", "1"):
            return True
        if value in ("false", "0"):
            return False
        raise Invalid(key, "must be true or false", str(value))

    def whole(self, key: str, default: int | None) -> int | None:
        value = self._arguments.get(key)
        if value is None:
            return default
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise Invalid(key, "must be a whole number, 0 or more", str(value))

    def texts(self, key: str) -> list[str] | None:
        value = self._arguments.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise Invalid(key, "must be a list of texts")
        return value


Endpoint = Callable[[_Call], Awaitable[object]]


async def _storages(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "stores/index")
    storages = call.services.storages
    found = await storages.listing(call.caller)
    usage = await storages.usage([storage.id for storage in found])
    return {
        "storages": [
            {
                "id": s.id,
                "name": s.name,
                "bucket": s.bucket,
                "state": s.state.value,
                "type": s.type.value,
                "public": s.public,
                "archive": s.archive,
                "files": usage[s.id].files,
                "bytes": usage[s.id].bytes,
                "capacity": await storages.capacity(s),
            }
            for s in found
        ]
    }


async def _files(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "files/index")
    storage_ids = None
    name = call.text("storage")
    if name:
        storage_ids = ((await call.services.storages.find(call.caller, name)).id,)
    try:
        pattern = PathPattern.parse(
            call.text("path") or "/",
            recursive=call.flag("recursive") is not False,
            wildcard=call.flag("wildcard") is True,
        )
    except PathError as error:
        raise Invalid("path", str(error)) from error
    number = min(call.whole("limit", 100) or 0, _MOST)
    found = await call.services.files.listing(
        call.caller,
        FileFilter(storage_ids=storage_ids, path=pattern),
        (FileSort(FileField.ID),),
        Page(number=number, count=True, cursor=call.text("cursor") or "*"),
    )
    known = call.services.storages.known
    return {
        "hits": found.hits,
        "files": [file_value(file, known(file.storage_n)) for file in found.entries],
        "nextCursor": found.next_cursor,
    }


async def _jobs(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "jobs/index")
    try:
        states = tuple(JobState(s) for s in (call.text("state") or "").split(",") if s)
    except ValueError as error:
        raise Invalid("state", "no such state", call.text("state")) from error
    types = tuple(t for t in (call.text("type") or "").split(",") if t)
    page = Page(first=call.whole("first", 0) or 0, number=min(call.whole("limit", 100) or 0, _MOST))
    found = await call.services.jobs.listing(
        call.caller, JobFilter(states=states, types=types), (JobSort(JobField.ID, descending=True),), page
    )
    return {"hits": found.hits, "jobs": [_job_value(job) for job in found.entries]}


async def _job(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "jobs/show")
    return _job_value(await call.services.jobs.get(call.caller, call.name))


async def _abort(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "jobs/destroy")
    return _job_value(await call.services.jobs.abort(call.caller, call.name))


async def _users(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "users/index")
    return {"users": [_user_value(user) for user in await call.services.access.list_users(call.caller)]}


async def _user_create(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "users/create")
    user = await call.services.access.create_user(
        call.caller,
        call.need("name"),
        call.need("password"),
        admin=call.flag("admin") is True,
        write=call.flag("write") is True,
        groups=call.texts("groups") or (),
    )
    return _user_value(user)


async def _user_update(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "users/update")
    user = await call.services.access.update_user(
        call.caller,
        call.name,
        password=call.text("password"),
        admin=call.flag("admin"),
        write=call.flag("write"),
        enabled=call.flag("enabled"),
        groups=call.texts("groups"),
    )
    return _user_value(user)


async def _user_delete(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "users/destroy")
    await call.services.access.delete_user(call.caller, call.name)
    return None


async def _tokens(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "api_keys/index")
    return {"tokens": [_token_value(token) for token in await call.services.access.list_tokens(call.caller)]}


async def _token_create(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "api_keys/create")
    seconds = call.whole("expires_in", None)
    expires = None if seconds is None else call.services.clock.now_ms() + seconds * 1000
    token, secret = await call.services.access.create_token(
        call.caller,
        call.text("name") or "",
        call.texts("scopes"),
        expires_ms=expires,
        user=call.text("user"),
    )
    return {**_token_value(token), "token": secret}


async def _token_delete(call: _Call) -> object:
    call.services.access.require_scope(call.caller, "api_keys/destroy")
    await call.services.access.delete_token(call.caller, call.name)
    return None


_COLLECTIONS: dict[str, dict[str, Endpoint]] = {
    "storages": {"GET": _storages},
    "files": {"GET": _files},
    "jobs": {"GET": _jobs},
    "users": {"GET": _users, "POST": _user_create},
    "tokens": {"GET": _tokens, "POST": _token_create},
}
_MEMBERS: dict[str, dict[str, Endpoint]] = {
    "jobs": {"GET": _job, "DELETE": _abort},
    "users": {"PUT": _user_update, "DELETE": _user_delete},
    "tokens": {"DELETE": _token_delete},
}


def handler(services: Services) -> Handler:
    """Return what answers the mount `/admin/v1`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            caller = await caller_of(request, services)
            parts = [unquote(part) for part in raw_path(request)[len(PREFIX) :].split("/") if part]
            endpoints = (
                (_COLLECTIONS, _MEMBERS)[len(parts) - 1].get(parts[0]) if len(parts) in (1, 2) else None
            )
            if endpoints is None:
                return plain(404, "no such path")
            method = "GET" if request.method == "HEAD" else request.method
            endpoint = endpoints.get(method)
            if endpoint is None:
                return method_not_allowed(request, *endpoints, *(["HEAD"] if "GET" in endpoints else []))
            arguments: Mapping[str, object] = dict(parse_qsl(raw_query(request), keep_blank_values=True))
            if method in ("POST", "PUT"):
                arguments = await read_object(request)
            value = await endpoint(_Call(services, caller, parts[-1], arguments))
        except OriginError as error:
            return plain_from(error)
        headers = {"Cache-Control": "no-store"}
        if value is None:
            return web.Response(status=204, headers=headers)
        status = 201 if method == "POST" else 200
        body = msgspec.json.encode(value)
        return web.Response(status=status, body=body, content_type="application/json", headers=headers)

    return answer


def _job_value(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "type": job.type,
        "state": job.state.value,
        "priority": job.priority.name,
        "user": job.user,
        "created": job.created_ms,
        "started": job.started_ms,
        "finished": job.finished_ms,
        "step": job.step,
        "steps": job.steps,
        "done": job.done,
        "total": job.total,
        "unit": job.unit,
        "attempts": job.attempts,
        "error": job.error,
        "waiting": job.waiting,
        "data": dict(job.data),
    }


def _user_value(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "name": user.name,
        "admin": user.admin,
        "write": user.write,
        "enabled": user.enabled,
        "groups": sorted(user.groups),
    }


def _token_value(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "hint": "*" * 18 + token.hint,
        "scopes": None if token.scopes is None else sorted(token.scopes),
        "created": token.created_ms,
        "expires": token.expires_ms,
        "used": token.used_ms,
    }
