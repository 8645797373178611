"""Errors of the dialect: status, sentences and details, from any exception, by one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from origin import errors
from origin.api.errors import headers_of, status_of
from origin.services.tasks import InProgress, NotRunning

log = logging.getLogger("origin.http")

_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    412: "invalid",
    413: "too_long",
    415: "unsupported_media_type",
    429: "too_many_requests",
}


class Problem(Exception):
    """An answer that is an error.

    details  attribute or parameter ("base" if none) → list of {error, value?, count?}
    """

    def __init__(
        self,
        status: int,
        message: str,
        details: Mapping[str, list[dict[str, Any]]],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.messages = [message]
        self.details = dict(details)
        self.headers = dict(headers or {})

    def body(self, *, envelope: bool) -> dict[str, Any]:
        """envelope: with the status words that version 1 of the catalog search puts in front."""
        plain: dict[str, Any] = {"messages": self.messages, "details": self.details}
        return {"status": "ERROR", "code": self.status, **plain} if envelope else plain


def problem(
    status: int,
    where: str,
    code: str,
    explanation: str,
    *,
    value: object = None,
    count: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Problem:
    """where: attribute, parameter or "base"; explanation: what is wrong, to follow its name."""
    detail: dict[str, Any] = {"error": code}
    if value is not None:
        detail["value"] = value if isinstance(value, int | bool | float) else str(value)[:200]
    if count is not None:
        detail["count"] = count
    message = explanation if where == "base" else f"{where.replace('_', ' ').capitalize()} {explanation}"
    return Problem(status, message[:1].upper() + message[1:], {where: [detail]}, headers)


def blank(where: str) -> Problem:
    return problem(400, where, "blank", "can't be blank")


def invalid(where: str, explanation: str, *, value: object = None, code: str = "invalid") -> Problem:
    """422: well-formed, and not possible."""
    return problem(422, where, code, explanation, value=value)


def not_found(explanation: str = "no such path or resource") -> Problem:
    return problem(404, "base", "not_found", explanation)


def method_not_allowed(allowed: str) -> Problem:
    return problem(
        405, "base", "method_not_allowed", "this path does not have that method", headers={"Allow": allowed}
    )


def from_error(error: BaseException) -> Problem:
    """Return any exception as a Problem; what was not raised on purpose is 500, and logged."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, errors.OriginError):
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            return problem(413, "base", "too_long", "the body is too large")
        log.error("a request failed", exc_info=error)
        return problem(500, "base", "internal", "the request failed here")
    status, headers = status_of(error), headers_of(error)
    if isinstance(error, errors.Invalid):
        return problem(400, error.context, "invalid", error.explanation, value=error.value, headers=headers)
    if isinstance(error, InProgress):
        return problem(409, "base", "in_progress", str(error))
    if isinstance(error, NotRunning):
        return problem(409, "base", "not_running", str(error))
    if isinstance(error, errors.Conflict):
        return problem(409, "base", "invalid", error.explanation, value=error.value)
    code = _CODES.get(status, "internal")
    return problem(status, "base", code, str(error), headers=headers)
