"""Objects: JSON documents of a project, kept and given back as they were sent."""

from __future__ import annotations

from origin.api.ove import wire
from origin.api.ove.calls import Answer, Call, Document
from origin.api.ove.problems import invalid_data
from origin.domain.projects import is_object_id
from origin.errors import NotFound


def _id(call: Call) -> str:
    """Raises NotFound for what no object is called, in every method."""
    if not is_object_id(call.args["object"]):
        raise NotFound("Object", call.args["object"])
    return call.args["object"]


async def _document(call: Call) -> bytes:
    text, value = await call.text()
    if not isinstance(value, dict):
        raise invalid_data("An object is a JSON object.")
    return text


async def show(call: Call) -> Document:
    return Document(await call.services.assets.read_object(call.caller, call.place, _id(call)))


async def create(call: Call) -> Document:
    document = await _document(call)
    await call.services.assets.create_object(call.caller, call.place, _id(call), document)
    return Document(document)


async def update(call: Call) -> Document:
    document = await _document(call)
    await call.services.assets.update_object(call.caller, call.place, _id(call), document)
    return Document(document)


async def delete(call: Call) -> Answer:
    await call.services.assets.delete_object(call.caller, call.place, _id(call))
    return Answer(wire.OK)


async def info(call: Call) -> Answer:
    file = await call.services.assets.object_file(call.caller, call.place, _id(call))
    return Answer({"name": _id(call), "index_file": call.wire.url(call.storage, file.path, file.n)})
