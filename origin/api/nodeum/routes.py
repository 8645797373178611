"""What every call has in common: route, credentials, scope, the form of answers and errors.

Order of checks: route (404, 405) → address limit (429) → credentials (401) → limit of user or token
(429) → scope (403) → what the endpoint checks: rights, body, existence, attributes, conflicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from aiohttp import web

from origin.api.auth import caller_of, hidden
from origin.api.dispatch import Handler, raw_path
from origin.api.nodeum.calls import PUBLIC_CONTROLLERS, Answer, Call, Route, etag_of, none_match
from origin.api.nodeum.problems import Problem, from_error, method_not_allowed, not_found, problem
from origin.api.nodeum.table import ROUTES
from origin.api.route_table import BadPath, RouteTable
from origin.domain.model import Caller
from origin.errors import OriginError, Unauthenticated
from origin.services import Services

PREFIXES = ("/api/v2", "/api/catalog", "/api/docs")
_ENVELOPED = "/api/catalog/"


def handler(services: Services) -> Handler:
    """Return what answers the mounts PREFIXES."""
    return Dialect(services, ROUTES).answer


class Dialect:
    def __init__(self, services: Services, routes: Iterable[Route]) -> None:
        self._services = services
        self._routes = tuple(routes)
        self._table = RouteTable(self._routes)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            return _refusal(request, from_error(error))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        methods, args = self._find(raw_path(request))
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": _allowed(methods)})
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            raise method_not_allowed(_allowed(methods))
        caller = await caller_of(request, self._services)
        if route.scope is not None:
            self._require(caller, route.scope)
        try:
            answer = await route.run(Call.read(request, self._services, caller, args, self._routes))
        except OriginError as error:
            raise hidden(caller, error) from error
        except Problem as error:
            if caller.user is None and error.status == 404:
                raise Unauthenticated from error
            raise
        return answer if isinstance(answer, web.StreamResponse) else _response(request, answer)

    def _find(self, path: str) -> tuple[Mapping[str, Route], dict[str, str]]:
        try:
            found = self._table.find(path)
        except BadPath:
            raise problem(400, "base", "invalid", "the path is not percent-encoded UTF-8") from None
        if found is None:
            raise not_found()
        return found

    def _require(self, caller: Caller, scope: str) -> None:
        if caller.user is None and scope.partition("/")[0] not in PUBLIC_CONTROLLERS:
            raise Unauthenticated
        self._services.access.require_scope(caller, scope)


def _allowed(methods: Mapping[str, Route]) -> str:
    names = [m for m in ("GET", "POST", "PUT", "DELETE") if m in methods]
    if "GET" in names:
        names.insert(1, "HEAD")
    return ", ".join([*names, "OPTIONS"])


def _response(request: web.Request, answer: Answer) -> web.Response:
    if answer.value is None:
        return web.Response(status=answer.status, headers=answer.headers)
    body = msgspec.json.encode(answer.value)
    headers = {"Cache-Control": "private, no-cache", "Vary": "Authorization", **answer.headers}
    if answer.status == 200:
        etag = etag_of(body)
        headers["ETag"] = etag
        sent = ", ".join(request.headers.getall("If-None-Match", []))
        if request.method in ("GET", "HEAD") and sent and not none_match(sent, etag):
            return web.Response(status=304, headers=headers)
    return web.Response(status=answer.status, body=body, content_type="application/json", headers=headers)


def _refusal(request: web.Request, error: Problem) -> web.Response:
    body = error.body(envelope=raw_path(request).startswith(_ENVELOPED))
    response = web.Response(
        status=error.status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "Vary": "Authorization", **error.headers},
    )
    if error.headers.get("Connection") == "close":
        response.force_close()
    return response
