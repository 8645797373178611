"""What every call has in common: route, credentials, scope, store, project; the form of answers.

Order of checks: route (404, 405) → credentials (401) → scope (403) → store → project → its groups
(403) → what the endpoint checks: media type, body, parameters → asset, object, task → conflicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from origin.api.auth import admitted, hidden, note_caller
from origin.api.cors import ALLOWED
from origin.api.dispatch import Handler, raw_path, raw_query
from origin.api.ove.calls import Answer, Call, Document, Route
from origin.api.ove.problems import from_error, method_not_allowed, not_found
from origin.api.ove.table import ROUTES
from origin.api.route_table import BadPath, RouteTable
from origin.domain.model import ANONYMOUS, Caller
from origin.errors import Invalid, OriginError, Unauthenticated
from origin.services import Services

PREFIX = "/api"
_FIXED = frozenset({"list", "auth", "user", "workers"})  # no store has such a name
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MAX_AGE = 86_400  # seconds a browser may remember a preflight


def handler(services: Services) -> Handler:
    """Return what answers the mount PREFIX."""
    return Dialect(services, ROUTES).answer


class Dialect:
    def __init__(self, services: Services, routes: Iterable[Route]) -> None:
        self._services = services
        self._table = RouteTable(routes, _FIXED)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            return from_error(error, request.method).response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        methods, args = self._find(raw_path(request))
        if request.method == "OPTIONS":
            return _options(methods)
        route = methods.get(request.method) or (methods.get("GET") if request.method == "HEAD" else None)
        if route is None:
            raise method_not_allowed(allowed(methods))
        caller = ANONYMOUS if route.open_to_all else await self._caller(request)
        if caller.user is None and not route.anonymous:
            raise Unauthenticated
        if route.scope is not None:
            self._services.access.require_scope(caller, route.scope)
        call = Call(request, self._services, caller, args, _params(request))
        try:
            await call.locate(route.verb)
        except OriginError as error:
            raise hidden(caller, error) from error
        return _response(await route.run(call))

    def _find(self, path: str) -> tuple[Mapping[str, Route], dict[str, str]]:
        try:
            found = self._table.find(path)
        except BadPath:
            found = None
        if found is None:
            raise not_found(path)
        return found

    async def _caller(self, request: web.Request) -> Caller:
        """By the first place that holds credentials; one that is not good is never passed over."""
        access = self._services.access
        fields = request.headers.getall("Authorization", [])
        if len(fields) > 1:
            raise Unauthenticated("several credentials were sent")
        if fields:
            known = access.is_known(fields[0])
            return await admitted(request, self._services, access.authenticate(fields[0]), known=known)
        secret = _token(request)
        if secret is None:
            return await admitted(request, self._services, access.authenticate(None), known=True)
        known = access.is_known(f"Bearer {secret}")
        caller = await admitted(request, self._services, access.authenticate_token(secret), known=known)
        note_caller(request, caller)
        return caller


def _token(request: web.Request) -> str | None:
    for name in ("AUTH_TOKEN", "AUTH-TOKEN"):
        if name in request.headers:
            return request.headers[name].strip()
    for name, value in _params(request):
        if name == "AUTH_TOKEN":
            return value
    return request.cookies.get("AUTH_TOKEN")


def _params(request: web.Request) -> list[tuple[str, str]]:
    try:
        return parse_qsl(raw_query(request), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise Invalid("query", "The query cannot be read") from error


def allowed(methods: Mapping[str, Route]) -> str:
    """Return the value of an Allow field."""
    names = set(methods) | ({"HEAD"} if "GET" in methods else set())
    return ", ".join([name for name in _METHODS if name in names] + ["OPTIONS"])


def _options(methods: Mapping[str, Route]) -> web.Response:
    names = allowed(methods)
    headers = {
        "Allow": names,
        "Access-Control-Allow-Methods": names,
        "Access-Control-Allow-Headers": ALLOWED,
        "Access-Control-Max-Age": str(MAX_AGE),
    }
    return web.Response(status=204, headers=headers)


def _response(answer: Answer | Document | web.StreamResponse) -> web.StreamResponse:
    if isinstance(answer, web.StreamResponse):
        return answer
    headers = {"Cache-Control": "no-store"}
    if isinstance(answer, Document):
        return web.Response(body=answer.text, content_type="application/json", headers=headers)
    headers |= answer.headers
    if answer.value is None:
        return web.Response(status=answer.status, headers=headers)
    body = msgspec.json.encode(answer.value)
    return web.Response(status=answer.status, body=body, content_type="application/json", headers=headers)
