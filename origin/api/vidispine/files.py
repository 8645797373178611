"""Endpoints on files: list, show, bytes in and out, and what changes an entity."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from origin.api.bodies import body_chunks
from origin.api.content import send_content
from origin.api.vidispine import documents as d
from origin.api.vidispine.calls import Answer, Call, Document, Empty, Text, merged, target_place
from origin.api.vidispine.listing import FileDocuments, read_filter, read_page, read_sort
from origin.api.vidispine.problems import invalid
from origin.api.vidispine.signing import Signer
from origin.api.vidispine.views import own_metadata
from origin.domain.model import Caller, File, User
from origin.domain.states import FileState

_STATES = tuple(state.value for state in FileState)
# Stands for whoever signed an address: rights were asked when it was signed.
_SIGNED = Caller(User(n=0, name="signed address", admin=True))


class FileEndpoints:
    """signer: makes and opens signed addresses."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def _document(self, call: Call, file: File) -> Document:
        return Document(await FileDocuments(call, self._signer).one(file))

    # --- out --------------------------------------------------------------------------------------

    async def list(self, call: Call) -> Answer:
        await call.storage()
        params = call.params
        views = FileDocuments(call, self._signer)
        wanted, sort, page = read_filter(call), read_sort(params), read_page(params)
        found = await call.services.files.listing(call.caller, wanted, sort, page)
        value: dict[str, Any] = {
            "hits": found.hits,
            "file": await views.many(found.entries),
            "nextCursor": found.next_cursor,
        }
        return Document(value)

    async def importable(self, call: Call) -> Answer:
        """Files that a client may import: with bytes, in no component, where the storage shows them."""
        await call.storage()
        params = call.params
        params.boolean("auto", False)  # checked and of no effect: there are no auto-import rules
        views = FileDocuments(call, self._signer, with_items=False)
        wanted, sort, page = read_filter(call, exclude_queued=True), read_sort(params), read_page(params)
        found = await call.services.imports.importable(call.caller, wanted, sort, page)
        documents = await views.many(found.entries)
        entries = zip(found.entries, documents, strict=True)
        return Document(
            {
                "hits": found.hits,
                "element": [{"file": value, "metadata": own_metadata(file)} for file, value in entries],
                "nextCursor": found.next_cursor,
            }
        )

    async def show(self, call: Call) -> Answer:
        file = await call.find_file()
        return await self._document(call, file)

    async def data(self, call: Call) -> Answer:
        disposition = None
        if "signature" in call.params and call.file is not None and call.file.kind == "id":
            now = call.services.clock.now_ms() // 1000
            disposition = self._signer.open(call.file.value, call.params, now)
            call.caller = _SIGNED
        file = await call.find_file()
        content = await call.services.files.open(file)
        headers = {"Content-Disposition": disposition} if disposition else {}
        answer = await send_content(
            call.request, content, media_type="application/octet-stream", headers=headers
        )
        return _shaped(answer)

    # --- in ---------------------------------------------------------------------------------------

    async def upload(self, call: Call) -> Answer:
        """Bytes for a path: a new File, or new bytes for the File that has it."""
        params = call.params
        storage_id, path = await target_place(
            call, path=params.text("path"), uri=params.text("uri"), path_optional=True
        )
        state = FileState(params.choice("state", _STATES, FileState.CLOSED.value))
        chunk = _chunk(call)
        priority = _transfer_priority(call)
        services, request = call.services, call.request
        if chunk is not None:
            # Every chunk must lead to the same place, so a path cannot be made up for each.
            return await self._chunk(call, chunk, priority, storage_id, path or chunk[0], state)
        length = request.content_length
        await services.files.check_upload(call.caller, storage_id, path, declared_length=length)
        async with services.slots.taken(priority):
            file = await services.files.upload(
                call.caller, storage_id, path, body_chunks(request), declared_length=length, state=state
            )
        return await self._document(call, file)

    async def replace(self, call: Call) -> Answer:
        """Bytes for an entity that exists."""
        file = await call.find_file()
        chunk = _chunk(call)
        priority = _transfer_priority(call)
        services, request = call.services, call.request
        if chunk is not None:
            return await self._chunk(call, chunk, priority, file.storage_id, file.path, FileState.CLOSED)
        length = request.content_length
        await services.files.check_upload(call.caller, file.storage_id, file.path, declared_length=length)
        async with services.slots.taken(priority):
            file = await services.files.replace(
                call.caller, file.id, body_chunks(request), declared_length=length
            )
        return await self._document(call, file)

    async def _chunk(
        self,
        call: Call,
        chunk: tuple[str, int, int],
        priority: int,
        storage_id: str | None,
        path: str,
        state: FileState,
    ) -> Answer:
        name, index, size = chunk
        services, length = call.services, call.request.content_length
        storage = await services.files.check_upload(call.caller, storage_id, path)
        async with services.slots.taken(priority):
            file = await services.transfers.put(
                call.caller,
                name,
                storage.id,
                path,
                body_chunks(call.request),
                index=index,
                size=size,
                declared_length=length,
                state=state,
            )
        return Empty(204) if file is None else await self._document(call, file)

    async def create(self, call: Call) -> Answer:
        """An entity, without bytes."""
        await call.storage()
        params = call.params
        create_only = params.boolean("createOnly", True)
        params.choice("state", _STATES, "")  # what needs no body is looked at before it is read
        document = await call.document(d.FILE)
        if call.storage_id is None and document and document.get("storage"):
            call.storage_id = str(document["storage"])
        path, uri = merged(call, "path", document), merged(call, "uri", document)
        if params.text("path") is not None and params.text("uri") is None:
            uri = None  # what stands in the query wins over the document's other way of naming a place
        elif params.text("uri") is not None and params.text("path") is None:
            path = None
        storage_id, path = await target_place(call, path=path, uri=uri)
        if storage_id is None:
            raise invalid("storage", "a path needs a storage in the address")
        state = merged(call, "state", document)
        if state is not None and state not in _STATES:
            raise invalid("state", f"must be one of {', '.join(_STATES)}", value=state)
        file = await call.services.files.create(
            call.caller,
            storage_id,
            path or "",
            state=FileState(state) if state else None,
            create_only=create_only,
        )
        return await self._document(call, file)

    # --- the entity -------------------------------------------------------------------------------

    async def set_path(self, call: Call) -> Answer:
        file = await call.find_file()
        params = call.params
        path, state = params.text("path"), params.text("state")
        if path is None:
            raise invalid("path", "is required")
        duplicate = params.boolean("duplicate", False)
        moved = await call.services.files.set_path(
            call.caller,
            file.id,
            path,
            storage_id=params.text("storage"),
            state=FileState(params.choice("state", _STATES, "")) if state else None,
            duplicate=duplicate,
            also=call.services.items.following(file, replace=not duplicate),
        )
        return await self._document(call, moved)

    async def set_state(self, call: Call) -> Answer:
        file = await call.find_file()
        (state,) = call.rest
        if state not in _STATES:
            raise invalid("state", f"must be one of {', '.join(_STATES)}", value=state)
        changed = await call.services.files.set_state(call.caller, file.id, FileState(state))
        return await self._document(call, changed)

    async def forget(self, call: Call) -> Answer:
        file = await call.find_file()
        await call.services.files.forget(call.caller, file.id)
        return Empty()

    async def reindex(self, call: Call) -> Answer:
        file = await call.find_file()
        await call.services.files.reindex(call.caller, file.id)
        return Text(file.id)

    async def abandon(self, call: Call) -> Answer:
        file = await call.find_file()
        call.services.files.require_write(call.caller, file)
        await call.services.items.abandon(file, call.params.text("item"))
        return Empty()


def _shaped(answer: web.StreamResponse) -> web.StreamResponse:
    """Raise a refused range or precondition in the dialect's shape."""
    refusals = {412: "a precondition does not hold", 416: "no range asked for overlaps the file"}
    if answer.prepared or answer.status not in refusals:
        return answer
    problem = invalid("request", refusals[answer.status], status=answer.status)
    kept = ("Content-Range", "Accept-Ranges", "ETag")
    problem.headers |= {name: answer.headers[name] for name in kept if name in answer.headers}
    raise problem


def _transfer_priority(call: Call) -> int:
    priority = call.params.integer("transferPriority", least=1, most=1000)
    return 500 if priority is None else priority


def _chunk(call: Call) -> tuple[str, int, int] | None:
    """Return (transfer id, offset, size of the whole) of a chunk, or None for a whole file."""
    headers = call.request.headers
    if "index" not in headers and "size" not in headers:
        return None
    numbers = []
    for name in ("index", "size"):
        text = headers.get(name, "").strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise invalid(name, "a chunk needs index and size, whole numbers of bytes", value=text)
        numbers.append(int(text))
    transfer_id = call.params.text("transferId")
    if transfer_id is None:
        raise invalid("transferId", "is mandatory for chunks")
    return transfer_id, numbers[0], numbers[1]
