"""Errors of the dialect: status, title and description, from any exception, by one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from aiohttp import web

from origin import errors
from origin.api.errors import headers_of, status_of
from origin.services.assets import HoldsFile
from origin.services.projects import InUse, NotEmpty
from origin.services.worker_tasks import LeaseLost, TaskCanceled

log = logging.getLogger("origin.http")

_KINDS = {"Storage": "Store"}
_OF_INVALID = {
    "name": "Invalid name",
    "filename": "Invalid filename",
    "path": "Invalid filename",
    "version": "Version not found",
    "query": "Invalid parameter",
    "page": "Invalid parameter",
    "per_page": "Invalid parameter",
}
_OF_STATUS = {
    401: "Access token required",
    403: "Access denied",
    404: "Not found",
    409: "Conflict",
    413: "Body too large",
    429: "Too many requests",
    503: "Store unavailable",
    507: "Insufficient storage",
}


class Problem(Exception):
    """An answer that is an error. Both texts are not empty; the title is one that clients compare."""

    def __init__(
        self, status: int, title: str, description: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(description)
        self.status = status
        self.title = title
        self.description = description
        self.headers = dict(headers or {})
        self.more: dict[str, object] = {}

    def response(self) -> web.Response:
        body = {**self.more, "title": self.title, "description": self.description}
        response = web.Response(
            status=self.status,
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers={"Cache-Control": "no-store", **self.headers},
        )
        if self.headers.get("Connection") == "close":
            response.force_close()
        return response


def missing(field: str) -> Problem:
    return Problem(400, f"Missing {field}", f"The field {field!r} is required.")


def invalid_data(description: str) -> Problem:
    return Problem(400, "Invalid data", description)


def invalid_parameter(name: str, value: str) -> Problem:
    return Problem(400, "Invalid parameter", f"The parameter {name!r} cannot be {value[:200]!r}.")


def not_found(path: str) -> Problem:
    return Problem(404, "Not found", f"There is nothing at {path[:200]!r}.")


def method_not_allowed(allowed: str) -> Problem:
    return Problem(405, "Method not allowed", f"This path has {allowed}.", {"Allow": allowed})


def from_error(error: BaseException, method: str) -> Problem:
    """Return any exception as a Problem; what was not raised on purpose is 500, and logged.

    method  of the request: to HEAD an unknown thing is 404, to others 400
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.NotFound):
        kind = _KINDS.get(error.kind, error.kind)
        text = f"There is no {kind.lower()} {error.id[:200]!r}."
        return Problem(404 if method == "HEAD" else 400, f"{kind} not found", text)
    if isinstance(error, errors.Invalid):
        return Problem(400, _invalid_title(error), f"{error.explanation}.", headers_of(error))
    if isinstance(error, errors.Conflict):
        return _conflict(error)
    if isinstance(error, errors.OriginError):
        status = status_of(error)
        title = _OF_STATUS.get(status, "Internal server error")
        return Problem(status, title, f"{error}.", headers_of(error))
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "Body too large", "The body is larger than this call takes.")
    log.error("a request failed", exc_info=error)
    return Problem(500, "Internal server error", "The request failed here.")


def _invalid_title(error: errors.Invalid) -> str:
    if isinstance(error, errors.IncompleteBody):
        return "Incomplete upload"
    if isinstance(error, errors.DigestMismatch):
        return "Digest mismatch"
    return _OF_INVALID.get(error.context, "Invalid data")


def _conflict(error: errors.Conflict) -> Problem:
    text = error.explanation if error.explanation.endswith(".") else f"{error.explanation}."
    if isinstance(error, InUse):
        # Of objects the clients know this as 400.
        return Problem(
            400 if error.context == "object" else 409, f"{error.context.capitalize()} already in use", text
        )
    for kind, title in (
        (HoldsFile, "Asset exists"),
        (NotEmpty, "Project not empty"),
        (TaskCanceled, "Task canceled"),
        (LeaseLost, "Lease lost"),
    ):
        if isinstance(error, kind):
            return Problem(409, title, text)
    return Problem(409, "Conflict", text)
