"""Domain error → status, once; and the plain form of an error, for paths of no dialect.

Each dialect asks `status_of` and gives the body its own shape.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from aiohttp import web

from origin import errors

log = logging.getLogger("origin.http")

# The first class that fits; so the more special ones come first.
_TABLE: tuple[tuple[type[errors.OriginError], int], ...] = (
    (errors.Invalid, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.NoRoom, 507),
    (errors.TooMany, 429),
    (errors.Unavailable, 503),
    (errors.NotOffered, 501),
    (errors.OriginError, 500),
)

_CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "taken",
    415: "unsupported_media_type",
    429: "too_many_requests",
}

CHALLENGE = 'Basic realm="origin", charset="UTF-8", Bearer realm="origin"'


def status_of(error: errors.OriginError) -> int:
    """Return the HTTP status of a domain error."""
    return next(status for kind, status in _TABLE if isinstance(error, kind))


def headers_of(error: errors.OriginError) -> dict[str, str]:
    """Return the fields that go with a domain error in every dialect."""
    if isinstance(error, errors.Unauthenticated):
        return {"WWW-Authenticate": CHALLENGE + (', error="invalid_token"' if error.bad_token else "")}
    if isinstance(error, errors.Unavailable):
        return {"Retry-After": str(max(1, error.retry_after))}
    if isinstance(error, errors.IncompleteBody):
        return {"Connection": "close"}
    return {}


def plain(
    status: int, message: str, where: str = "base", headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error as `{"messages": [..], "details": {where: [{"error": code}]}}`."""
    body = {
        "messages": [message],
        "details": {where: [{"error": _CODES.get(status, "internal" if status >= 500 else "invalid")}]},
    }
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def plain_from(error: BaseException) -> web.Response:
    """Return any exception in the plain form; what was not raised on purpose is 500, and logged."""
    if isinstance(error, errors.OriginError):
        where = error.context if isinstance(error, errors.Invalid) else "base"
        return plain(status_of(error), str(error), where, headers_of(error))
    if isinstance(error, web.HTTPException):
        allow = error.headers.get("Allow")
        return plain(error.status, error.reason, headers={"Allow": allow} if allow else None)
    log.error("a request failed", exc_info=error)
    return plain(500, "the request failed here")


def method_not_allowed(request: web.Request, *allowed: str) -> web.Response:
    """Answer a method that a path does not have: 405, or 204 for OPTIONS, with `Allow`."""
    allow = {"Allow": ", ".join((*allowed, "OPTIONS"))}
    if request.method == "OPTIONS":
        return web.Response(status=204, headers=allow)
    return plain(405, "this path does not have that method", headers=allow)
