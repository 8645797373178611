"""What every call has in common: reading the target, rights, the form of the answer, errors."""

from __future__ import annotations

import logging

from aiohttp import web

from origin.api.auth import caller_of, hidden
from origin.api.dispatch import Handler
from origin.api.protocol import OriginRequest
from origin.api.vidispine.calls import Answer, Call, Document, Empty, Endpoint, Text
from origin.api.vidispine.files import FileEndpoints
from origin.api.vidispine.problems import Problem, from_error, invalid, method_not_allowed, no_rights
from origin.api.vidispine.signing import Signer
from origin.api.vidispine.table import Route, Routes
from origin.api.vidispine.target import Target, read_target
from origin.api.vidispine.wire import Form, choose_form, render, render_problem, text_lines
from origin.domain.model import ANONYMOUS, Caller
from origin.errors import OriginError
from origin.services import Services

logger = logging.getLogger(__name__)

PREFIXES = ("/API", "/APInoauth", "/storage")  # all under /API; storages and files also at the root
_ANY_FORM = (Form.XML, Form.JSON, Form.TEXT)
_DOCUMENT_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}


def handler(services: Services, key: bytes) -> Handler:
    """Return what answers the mounts /API, /APInoauth and /storage. key: of signed addresses, secret."""
    return Dialect(services, Signer(key)).answer


class Dialect:
    def __init__(self, services: Services, signer: Signer) -> None:
        self._services = services
        self._routes = Routes(FileEndpoints(signer))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except Problem as problem:
            return _refusal(request, problem)
        except OriginError as error:
            caller = request.caller if isinstance(request, OriginRequest) else ANONYMOUS
            return _refusal(request, from_error(hidden(caller, error)))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return _refusal(request, Problem(500, "internalServer", message="the call failed here"))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        # Bad credentials are 401 on every path, also on one that does not exist.
        caller = await self._caller(request)
        target = read_target(request.raw_path)
        route = self._routes.find(target)
        endpoint = route.methods.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            raise method_not_allowed(_allowed(route))
        self._check_rights(endpoint, caller, target)
        form = _form(request, endpoint)
        safe = request.method in ("GET", "HEAD")
        if form is None and not safe:
            raise _not_acceptable()
        call = Call(request, self._services, caller, target, route.storage_id, route.file, route.rest)
        answer = await endpoint.run(call)
        if form is None:  # an error of the call itself comes first, and has a form in any case
            raise _not_acceptable()
        return _response(endpoint, form, answer)

    async def _caller(self, request: web.Request) -> Caller:
        caller = await caller_of(request, self._services)
        run_as = request.headers.get("RunAs")
        if run_as:
            caller = await self._services.access.act_for(caller, run_as)
            if isinstance(request, OriginRequest):
                request.caller = caller
        return caller

    def _check_rights(self, endpoint: Endpoint, caller: Caller, target: Target) -> None:
        access = self._services.access
        if caller == ANONYMOUS:
            signed = "signature" in target.params and target.segments[-1:] == ("data",)
            if not endpoint.open_to_all:
                raise no_rights("credentials are needed")
            if signed:
                return  # the endpoint opens the signature, or refuses it
        if endpoint.admin:
            access.require_admin(caller)
        for scope in endpoint.scopes:
            access.require_scope(caller, scope)


def _form(request: web.Request, endpoint: Endpoint) -> Form | None:
    """Return the answer's form; None when the client accepts none that there is."""
    if not endpoint.forms:
        return Form.XML  # text, bytes or nothing: Accept is not looked at
    return choose_form(request.headers.get("Accept"), endpoint.forms)


def _not_acceptable() -> Problem:
    return invalid("request", "no form of the answer is acceptable", status=406)


def _allowed(route: Route) -> tuple[str, ...]:
    names = list(route.methods)
    return tuple([*names, "HEAD"] if "GET" in names else names)


def _response(endpoint: Endpoint, form: Form, answer: Answer) -> web.StreamResponse:
    if isinstance(answer, Document):
        assert endpoint.schema is not None
        return web.Response(
            body=render(endpoint.schema, answer.value, form),
            status=answer.status,
            headers={**_DOCUMENT_HEADERS, **answer.headers, "Content-Type": form.content_type},
        )
    if isinstance(answer, Text):
        return web.Response(
            body=text_lines([answer.line]),
            headers={"Cache-Control": "no-store", "Content-Type": Form.TEXT.content_type},
        )
    if isinstance(answer, Empty):
        return web.Response(status=answer.status, headers={"Cache-Control": "no-store"})
    return answer


def _refusal(request: web.Request, problem: Problem) -> web.Response:
    """Errors never become 406: where no form is acceptable they are XML."""
    form = choose_form(request.headers.get("Accept"), _ANY_FORM) or Form.XML
    response = web.Response(
        body=render_problem(problem.document, form),
        status=problem.status,
        headers={**_DOCUMENT_HEADERS, **problem.headers, "Content-Type": form.content_type},
    )
    if problem.closes:
        response.force_close()
    return response
