"""One call: what was asked and by whom; the routes that answer, and what they give back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from origin.api.bodies import read_body
from origin.api.ove.problems import Problem, invalid_data, invalid_parameter, missing
from origin.api.ove.wire import Wire
from origin.domain.model import Caller, Storage
from origin.domain.projects import Place
from origin.domain.rights import Verb
from origin.services import Services

MAX_BODY = 16 << 20
_PARSED_HERE = 64 * 1024  # bytes; a larger document would hold the event loop up
_TRUE = frozenset({"true", "yes", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "n", "f", "0", ""})


@dataclass(frozen=True, slots=True)
class Answer:
    """value: JSON-able; None for no body."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """An answer whose JSON text is there already."""

    text: bytes


@dataclass(slots=True)
class Call:
    """args: the decoded segments that the route's names stand for."""

    request: web.Request
    services: Services
    caller: Caller
    args: Mapping[str, str]
    params: list[tuple[str, str]]
    _storage: Storage | None = None
    _place: Place | None = None

    @property
    def wire(self) -> Wire:
        return Wire(self.services.config.public_url)

    # --- what the address names -------------------------------------------------------------------

    @property
    def storage(self) -> Storage:
        assert self._storage is not None
        return self._storage

    @property
    def place(self) -> Place:
        assert self._place is not None
        return self._place

    async def locate(self, verb: Verb | None) -> None:
        """Find the store and the project that the address names. verb: to be asked for, of the project.

        Raises NotFound, Unauthenticated, Forbidden.
        """
        if "store" not in self.args:
            return
        projects = self.services.projects
        if "project" not in self.args:
            self._storage = await projects.store(self.caller, self.args["store"])
            return
        self._storage = await self.services.storages.find(self.caller, self.args["store"])
        self._place = projects.find(self._storage, self.args["project"])
        if verb is not None:
            projects.require(self.caller, verb, self._place)

    # --- parameters of the query ------------------------------------------------------------------

    def param(self, name: str) -> str | None:
        """The last of the name, or None."""
        return next((value for key, value in reversed(self.params) if key == name), None)

    def switch(self, name: str, default: bool = False) -> bool:
        """Raises Problem 400 for what is neither true nor false."""
        value = self.param(name)
        if value is None:
            return default
        folded = value.strip().lower()
        if folded in _TRUE:
            return True
        if folded in _FALSE:
            return False
        raise invalid_parameter(name, value)

    def number(self, name: str, *, least: int = 1, most: int = 2**31 - 1) -> int | None:
        value = self.param(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 11 and least <= int(value) <= most):
            raise invalid_parameter(name, value)
        return int(value)

    # --- bodies -----------------------------------------------------------------------------------

    def require_type(self, wanted: str) -> None:
        """Raise Problem 415 unless the body is said to be of this media type."""
        given = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if given != wanted:
            raise Problem(415, "Unsupported media type", f"The body must be {wanted}.")

    async def text(self) -> tuple[bytes, Any]:
        """Return the JSON text of the body and its value. Raises Problem 413, 415, 400 `Invalid JSON`."""
        if self.request.can_read_body:
            self.require_type("application/json")
        body = await read_body(self.request, MAX_BODY)
        if len(body) > _PARSED_HERE:
            return body, await asyncio.to_thread(_parse, body)
        return body, _parse(body)

    async def document(self) -> dict[str, Any]:
        """Return the body, which must be a JSON object. Raises as `text`, and 400 `Invalid data`."""
        _, value = await self.text()
        if not isinstance(value, dict):
            raise invalid_data("The body must be a JSON object.")
        return value


def _parse(body: bytes) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        return json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "Invalid JSON", "The body is not JSON in UTF-8.") from error


# --- fields of a body -----------------------------------------------------------------------------


def text_of(given: Mapping[str, Any], name: str, *, most: int = 65_535) -> str | None:
    """Return a text field, None when it is absent or null. Raises Problem 400 `Invalid data`."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > most:
        raise invalid_data(f"{name!r} must be text of at most {most} characters.")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value) or "\0" in value:
        raise invalid_data(f"{name!r} has characters that are no text.")
    return value


def need_text(given: Mapping[str, Any], name: str, *, most: int = 65_535) -> str:
    """Raises Problem 400 `Missing <name>` when it is absent, null or empty."""
    value = text_of(given, name, most=most)
    if not value:
        raise missing(name)
    return value


def texts_of(given: Mapping[str, Any], name: str) -> list[str] | None:
    """Return a list of texts, None when it is absent or null."""
    value = given.get(name)
    return None if value is None else texts(value, name)


def texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or len(value) > 10_000:
        raise invalid_data(f"{name!r} must be a list of texts.")
    if not all(isinstance(entry, str) for entry in value):
        raise invalid_data(f"{name!r} must be a list of texts.")
    return [text_of({name: entry}, name) or "" for entry in value]


Run = Callable[[Call], Awaitable[Answer | Document | web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """path: "{name}" stands for one segment, decoded once.

    scope      "controller/action"; None: asked by the endpoint, or public
    verb       the right asked for, of the project that the address names
    anonymous  whether a request without credentials may come this far
    open_to_all  whether credentials are not even looked at
    """

    method: str
    path: str
    run: Run
    scope: str | None
    verb: Verb | None = None
    anonymous: bool = False
    open_to_all: bool = False
