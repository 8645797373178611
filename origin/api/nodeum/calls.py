"""One call: what was asked and by whom; the routes that answer, and what they give back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from origin.api.bodies import read_body
from origin.api.dispatch import raw_path, raw_query
from origin.api.nodeum.problems import blank, problem
from origin.core.conditions import Condition, Kind, Order, parse_condition, parse_order, select
from origin.core.paging import PageWindow, page_headers, read_window
from origin.domain.model import Caller
from origin.errors import Invalid
from origin.services import Services

MAX_BODY = 1 << 20
PUBLIC_CONTROLLERS = frozenset({"files", "pools", "catalog"})
"""Those that show what is public to requests without credentials."""


@dataclass(frozen=True, slots=True)
class Answer:
    """value: JSON-able; None for no body."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """args: the decoded segments that the route's names stand for; routes: all of the dialect."""

    request: web.Request
    services: Services
    caller: Caller
    args: Mapping[str, str]
    params: list[tuple[str, str]]
    path: str
    routes: Sequence[Route] = ()

    @classmethod
    def read(
        cls,
        request: web.Request,
        services: Services,
        caller: Caller,
        args: Mapping[str, str],
        routes: Sequence[Route],
    ) -> Call:
        return cls(request, services, caller, args, read_params(request), raw_path(request), routes)

    def param(self, name: str) -> str | None:
        """The last of the name, or None."""
        return next((value for key, value in reversed(self.params) if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.params if key == name]

    async def attributes(self) -> dict[str, Any]:
        """Return the JSON object in the body; an empty body is an object without attributes.

        Raises Problem 415, 413, 400.
        """
        named = self.request.headers.get("Content-Type") and self.request.content_type
        other = problem(415, "base", "unsupported_media_type", "the body must be application/json")
        if named != "application/json" and self.request.content_length:
            raise other
        data = await read_body(self.request, MAX_BODY)
        if not data:
            return {}
        if named != "application/json":
            raise other
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise problem(400, "base", "invalid", "the body is not JSON") from error
        if not isinstance(value, dict):
            raise problem(400, "base", "invalid", "the body is not a JSON object")
        return value

    def require_match(self, value: Any) -> None:
        """Raise Problem 412 unless If-Match, when sent, names what the resource is now."""
        sent = ", ".join(self.request.headers.getall("If-Match", []))
        if sent and sent.strip() != "*" and etag_of(msgspec.json.encode(value)) not in _tags(sent):
            raise problem(412, "base", "invalid", "the resource is not the version that If-Match names")

    # --- lists ------------------------------------------------------------------------------------

    def window(self) -> PageWindow:
        return read_window(self.params)

    def conditions(self, fields: Mapping[str, Kind]) -> list[Condition]:
        return [parse_condition(key, fields[key], value) for key, value in self.params if key in fields]

    def order(self, fields: Mapping[str, Kind]) -> tuple[Order, ...]:
        return parse_order(self.param("sort_by"), fields)

    def page(self, plural: str, values: list[Any], total: int, window: PageWindow) -> Answer:
        headers = page_headers(window, total, self.path, self.params)
        return Answer({"count": total, plural: values}, headers=headers)

    def list(
        self,
        plural: str,
        values: list[dict[str, Any]],
        fields: Mapping[str, Kind],
        *,
        show: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> Answer:
        """A page of few values, filtered and sorted here. show: what becomes of each shown."""
        window = self.window()
        found = select(values, self.conditions(fields), self.order(fields), "id")
        shown = found[window.first : window.first + window.size] if window.first < len(found) else []
        return self.page(plural, [show(v) if show else v for v in shown], len(found), window)


Run = Callable[[Call], Awaitable[Answer | web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, for the documentation; schema: JSON Schema of its value."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """path: "{name}" stands for one segment, decoded once.

    operation  name of the SDK's method where there is one
    scope      "controller/action"; None: public
    body       name of the schema of the body, answer: of the 200 or 201
    statuses   that it can answer beside those every call can
    """

    method: str
    path: str
    run: Run
    operation: str
    scope: str | None
    summary: str
    answer: str
    body: str | None = None
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (200,)


def read_params(request: web.Request) -> list[tuple[str, str]]:
    """Return the query's pairs, decoded. Raises Invalid for what is no UTF-8, or too many."""
    try:
        return parse_qsl(raw_query(request), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise Invalid("query", "cannot be read") from error


def etag_of(body: bytes) -> str:
    """Return a strong entity-tag made from the bytes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


_TAG = re.compile(r'(W/)?("[^"]*")')


def _tags(field: str) -> set[str]:
    """Return the strong tags of an If-Match field (RFC 9110 §13.1.1)."""
    return {match[2] for match in _TAG.finditer(field) if not match[1]}


def none_match(field: str, etag: str) -> bool:
    """True when no tag of If-None-Match is `etag`, weakly compared (RFC 9110 §13.1.2)."""
    return field.strip() != "*" and etag not in {match[2] for match in _TAG.finditer(field)}


# --- attributes -----------------------------------------------------------------------------------


def text(given: Mapping[str, Any], name: str, *, most: int = 65_535) -> str | None:
    """Return a text attribute, None when it is absent or null."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise problem(422, name, "invalid", "must be text", value=str(value))
    if len(value) > most:
        raise problem(422, name, "too_long", f"is too long (at most {most} characters)", count=most)
    if any(0xD800 <= ord(c) <= 0xDFFF for c in value) or "\0" in value:
        raise problem(422, name, "invalid", "has characters that are no text")
    return value


def need_text(given: Mapping[str, Any], name: str, *, most: int = 65_535) -> str:
    value = text(given, name, most=most)
    if value is None or not value.strip():
        raise blank(name)
    return value


def number(given: Mapping[str, Any], name: str, *, least: int = 0, most: int = 2**53) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number
    if not isinstance(value, int) or isinstance(value, bool):
        raise problem(422, name, "invalid", "must be a whole number", value=str(value))
    if value < least:
        raise problem(
            422, name, "greater_than_or_equal_to", f"must be {least} or more", value=value, count=least
        )
    if value > most:
        raise problem(422, name, "less_than_or_equal_to", f"must be {most} or less", value=value, count=most)
    return value


def flag(given: Mapping[str, Any], name: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise problem(422, name, "invalid", "must be true or false", value=str(value))
    return value


def one_of(given: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str | None:
    value = text(given, name)
    if value is not None and value not in allowed:
        raise problem(422, name, "invalid", "must be one of " + ", ".join(allowed), value=value)
    return value
