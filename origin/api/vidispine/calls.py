"""One call: what was asked, by whom, of which file or storage; and what an endpoint gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from origin.api.bodies import read_body
from origin.api.vidispine.problems import invalid
from origin.api.vidispine.target import Params, Target
from origin.api.vidispine.wire import MAX_DOCUMENT, Form, Schema, parse_document
from origin.core.paths import lookup_form
from origin.core.uris import locate
from origin.domain.model import Caller, File, Storage
from origin.errors import NotFound
from origin.services import Services

_PARSED_HERE = 64 * 1024  # bytes; a larger document would hold the event loop up


@dataclass(frozen=True, slots=True)
class FileReference:
    """How `{fr}` names a file. kind: "id", "path" or "uri"; value: decoded."""

    kind: str
    value: str


@dataclass(slots=True)
class Call:
    """One request on its way through an endpoint.

    storage_id  of `{sr}`; None for all storages
    file        of `{fr}`; None when the address names none
    rest        further segments the route has taken as arguments, decoded
    """

    request: web.Request
    services: Services
    caller: Caller
    target: Target
    storage_id: str | None = None
    file: FileReference | None = None
    rest: tuple[str, ...] = ()

    @property
    def params(self) -> Params:
        return self.target.params

    async def storage(self) -> Storage | None:
        """Return the storage that `{sr}` names, None for all. Raises NotFound."""
        if self.storage_id is None:
            return None
        return await self.services.storages.get(self.caller, self.storage_id)

    async def allowed_storages(self) -> list[Storage]:
        """Return the storages that `{sr}` allows. Raises NotFound."""
        named = await self.storage()
        return [named] if named else await self.services.storages.listing(self.caller)

    async def find_file(self) -> File:
        """Return the File of `{fr}`. Raises NotFound, Forbidden, and Conflict for an ambiguous path."""
        reference = self.file
        assert reference is not None
        files = self.services.files
        if reference.kind == "id":
            await self.storage()
            return await files.get(self.caller, reference.value, storage_id=self.storage_id)
        if reference.kind == "path":
            await self.storage()
            return await files.find(self.caller, reference.value, storage_id=self.storage_id)
        located = locate(reference.value, await self.allowed_storages())
        if located is None:
            raise NotFound("File", reference.value)
        return await files.find(self.caller, located[1], storage_id=located[0].id)

    async def document(self, schema: Schema) -> dict[str, Any] | None:
        """Return the document in the body, or None for an empty one. Raises Problem 400, 413, 415."""
        body = await read_body(self.request, MAX_DOCUMENT)
        content_type = self.request.headers.get("Content-Type", "")
        if len(body) > _PARSED_HERE:
            return await asyncio.to_thread(parse_document, schema, body, content_type)
        return parse_document(schema, body, content_type)


@dataclass(frozen=True, slots=True)
class Document:
    """An answer in the form the client chose."""

    value: dict[str, Any]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that exists as text only."""

    line: str


@dataclass(frozen=True, slots=True)
class Empty:
    status: int = 200


Answer = Document | Text | Empty | web.StreamResponse
Run = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What answers one method at one address.

    schema       of the document it gives; None for text, empty answers and bytes, which ignore Accept
    scopes       pairs "controller/action" a bounded token must have
    open_to_all  whether a request without credentials may come this far
    admin        whether only administrators may
    """

    run: Run
    schema: Schema | None
    scopes: tuple[str, ...] = ()
    open_to_all: bool = False
    admin: bool = False

    @property
    def forms(self) -> tuple[Form, ...]:
        if self.schema is None:
            return ()
        return (Form.XML, Form.JSON, Form.TEXT) if self.schema.text else (Form.XML, Form.JSON)


def merged(call: Call, name: str, document: dict[str, Any] | None) -> str | None:
    """Return a field given as parameter or in a FileDocument; the parameter wins."""
    given = call.params.text(name)
    if given is not None or document is None:
        return given
    held = document.get(name)
    if isinstance(held, list):
        held = held[0] if held else None
    return held or None


async def target_place(
    call: Call, *, path: str | None, uri: str | None, path_optional: bool = False
) -> tuple[str | None, str | None]:
    """Return (storage id, path) for a File to be made from `path` and `uri` as clients gave them.

    Raises Problem 400 when neither is given (unless `path_optional`), when the URI lies below no
    method that `{sr}` allows, and when the two disagree.
    """
    if uri is not None:
        storages = await call.allowed_storages()
        located = locate(uri, storages)
        if located is None:
            raise invalid("uri", "must lie below the URI of a storage method", value=uri)
        if path is not None and lookup_form(path) != lookup_form(located[1]):
            raise invalid("path", "does not agree with uri", value=path)
        return located[0].id, located[1]
    await call.storage()
    if path is None and not path_optional:
        raise invalid("path", "either path or uri must be given")
    return call.storage_id, path
