"""What a call that failed is answered with: ExceptionDocument, one of nine choices. Pure.

JSON carries all nine keys and, inside the chosen one, all of its keys, null where nothing is known;
XML carries the chosen element with its non-null children; text carries a heading and a line a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from origin import errors
from origin.api.errors import CHALLENGE, headers_of, status_of

# The order is that of the nine keys in JSON.
CHOICES: dict[str, tuple[str, ...]] = {
    "notFound": ("type", "id", "context"),
    "internalServer": ("message",),
    "forbidden": ("context", "id", "explanation"),
    "notYetImplemented": (),
    "conflict": ("context", "id", "explanation", "value"),
    "invalidInput": ("context", "id", "explanation", "value"),
    "licenseFault": ("message",),
    "fileAlreadyExists": ("storageId", "fileId", "path"),
    "notAuthorized": ("message",),
}

_HEADINGS = {
    "notFound": "A resource could not be found",
    "internalServer": "The request could not be carried out",
    "forbidden": "The call is forbidden",
    "notYetImplemented": "The call is not offered here",
    "conflict": "The call clashes with the present state",
    "invalidInput": "An invalid parameter was entered",
    "licenseFault": "The licence does not cover the call",
    "fileAlreadyExists": "A file with that path exists already",
    "notAuthorized": "Credentials are missing or wrong",
}

_LABELS = {
    "type": "Type",
    "id": "ID",
    "context": "Context",
    "explanation": "Reason",
    "value": "Value",
    "message": "Message",
    "storageId": "Storage",
    "fileId": "ID",
    "path": "Path",
}

_TEXT_ORDER = ("type", "context", "storageId", "id", "fileId", "path", "explanation", "value", "message")


class Problem(Exception):
    """The call ends here with an ExceptionDocument.

    status   the HTTP status, 400..599
    choice   one of CHOICES
    fields   inner keys that are known; others are null
    headers  what the status asks for beside the document, e.g. Allow, Retry-After
    closes   the connection cannot be used again: a body was not read to its end
    """

    def __init__(
        self,
        status: int,
        choice: str,
        /,
        headers: dict[str, str] | None = None,
        **fields: str | None,
    ) -> None:
        super().__init__(f"{status} {choice} {fields}")
        self.status = status
        self.document = ProblemDocument(choice, {key: fields.get(key) for key in CHOICES[choice]}, status)
        self.headers = dict(headers or {})
        self.closes = False


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """The document itself, which the forms of `wire` render."""

    choice: str
    inner: dict[str, str | None]
    status: int
    name: str = field(default="ExceptionDocument")

    def as_json(self) -> dict[str, Any]:
        return {choice: self.inner if choice == self.choice else None for choice in CHOICES}

    def as_text(self) -> list[str]:
        lines = [f"{self.status} {_HEADINGS[self.choice]}"]
        return lines + [
            f"{_LABELS[key]}: {self.inner[key]}" for key in _TEXT_ORDER if self.inner.get(key) is not None
        ]


def invalid(
    context: str, explanation: str, *, value: str | None = None, id: str | None = None, status: int = 400
) -> Problem:
    """A parameter, body or path that cannot be. `context` is the parameter's name, or "request"."""
    return Problem(status, "invalidInput", context=context, id=id, explanation=explanation, value=value)


def not_found(type_: str, id_: str | None, context: str | None = None) -> Problem:
    """`type_` is one of File, Storage, Job, Item, storage-method, notification, resource."""
    return Problem(404, "notFound", type=type_, id=id_, context=context)


def conflict(context: str, explanation: str, *, id: str | None = None, value: str | None = None) -> Problem:
    return Problem(409, "conflict", context=context, id=id, explanation=explanation, value=value)


def forbidden(context: str, explanation: str, *, id: str | None = None) -> Problem:
    return Problem(403, "forbidden", context=context, id=id, explanation=explanation)


def not_offered() -> Problem:
    return Problem(501, "notYetImplemented")


def method_not_allowed(allowed: tuple[str, ...]) -> Problem:
    return Problem(
        405,
        "invalidInput",
        headers={"Allow": ", ".join(allowed)},
        context="request",
        explanation="the method is not allowed here",
    )


def no_rights(message: str) -> Problem:
    return Problem(401, "notAuthorized", headers={"WWW-Authenticate": CHALLENGE}, message=message)


def from_error(error: errors.OriginError) -> Problem:
    """Return the dialect's shape of an error of the services."""
    status, message = status_of(error), str(error)
    match error:
        case errors.Invalid():
            problem = invalid(error.context, error.explanation, value=error.value)
            problem.closes = isinstance(error, errors.IncompleteBody)
        case errors.Unauthenticated():
            problem = Problem(status, "notAuthorized", message=message)
        case errors.Forbidden():
            problem = forbidden(error.context, error.explanation, id=error.id)
        case errors.NotFound():
            problem = not_found(error.kind, error.id)
        case errors.AlreadyExists():
            taken = {"storageId": error.storage_id, "fileId": error.file_id, "path": error.path}
            problem = Problem(status, "fileAlreadyExists", None, **taken)
        case errors.Conflict():
            problem = conflict(error.context, error.explanation, id=error.id, value=error.value)
        case errors.TooLarge():
            problem = invalid("request", message, status=status)
        case errors.NotOffered():
            problem = not_offered()
        case errors.NoRoom() | errors.Unavailable():
            problem = Problem(status, "internalServer", message=message)
        case _:
            problem = Problem(status, "internalServer", message="the call failed here")
    problem.headers |= {k: v for k, v in headers_of(error).items() if k != "Connection"}
    return problem
