"""Sources and destinations of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from origin.api.nodeum.calls import Answer, Call, number, text
from origin.api.nodeum.files import number_in_path
from origin.api.nodeum.pools import find_storage, pool_values, tape_values
from origin.api.nodeum.problems import blank, invalid
from origin.api.nodeum.tasks import task_key
from origin.api.nodeum.wire import file_value
from origin.core.conditions import Kind
from origin.core.paths import PathError, normal_form
from origin.domain.model import Storage
from origin.domain.tasks import End, TaskEnd
from origin.errors import Forbidden, NotFound

SOURCE, DESTINATION = "source", "destination"
_COMMON = ("pool_id", "pool_name", "tape_id", "tape_barcode")
_NAMES = {
    SOURCE: ("file_id", "file_path", *_COMMON),
    DESTINATION: ("folder_id", "folder_path", *_COMMON),
}
_FIELDS = {"id": Kind.NUMBER}


async def _read(call: Call, kind: str, given: Mapping[str, Any]) -> End:
    """Return what the body names. Raises Problem 400 for nothing, 422 for two, or what is unknown."""
    for name in given:
        if given[name] is not None and (name == "range" or name.startswith("import_file")):
            raise invalid(name, "is not offered here")
    named = [name for name in _NAMES[kind] if given.get(name) is not None]
    if not named:
        raise blank(_NAMES[kind][0])
    if len(named) > 1:
        raise invalid(named[1], "cannot be given beside another")
    name = named[0]
    try:
        return await _find(call, kind, name, given)
    except (NotFound, Forbidden) as error:
        raise invalid(name, "is unknown", value=given[name], code="not_found") from error


async def _find(call: Call, kind: str, name: str, given: Mapping[str, Any]) -> End:
    if name in ("file_id", "folder_id"):
        node = await call.services.tree.get(call.caller, number(given, name, least=1) or 0)
        if kind == DESTINATION and node.folder is None:
            raise invalid(name, "is not a folder", value=given[name])
        own = node.file.n if node.file else node.folder.n if node.folder else None
        return End(node.storage.n, node.path, own)
    if name in ("file_path", "folder_path"):
        return await _find_path(call, kind, name, (text(given, name) or "").strip("/"))
    key = str(number(given, name, least=1)) if name.endswith("_id") else text(given, name) or ""
    storage = await _storage(call, key, by_number=name.endswith("_id"))
    tape = name.startswith("tape")
    if tape and not storage.archive:
        raise NotFound("Tape", key)
    return End(storage.n, tape=tape)


async def _storage(call: Call, key: str, *, by_number: bool) -> Storage:
    storage = await find_storage(call, key)
    if (str(storage.n) == key) is not by_number and storage.name != key:
        raise NotFound("Pool", key)
    return storage


async def _find_path(call: Call, kind: str, name: str, path: str) -> End:
    """The longest name of a storage that begins the path, as names may have "/"."""
    places = [
        (storage, path[len(storage.name) + 1 :])
        for storage in await call.services.storages.listing(call.caller)
        if path == storage.name or path.startswith(storage.name + "/")
    ]
    if not places:
        raise NotFound("File", path)
    storage, rest = max(places, key=lambda place: len(place[0].name))
    if not rest:
        return End(storage.n)
    try:
        rest = normal_form(rest)
    except PathError as error:
        raise invalid(name, str(error), value=path) from error
    if kind == SOURCE:
        # It must be there; a folder to copy to need not.
        await call.services.tree.at(storage, rest, call.caller)
    return End(storage.n, rest)


async def _value(call: Call, end: TaskEnd) -> dict[str, Any]:
    held = end.end
    value: dict[str, Any] = {"id": end.n}
    what = "file" if end.kind == SOURCE else "folder"
    value[what] = None
    if end.kind == SOURCE:
        value["range"] = None
    value["container"] = None
    if end.kind == SOURCE:
        value["import_file"] = None
    value |= {"tape": None, "pool": None}
    try:
        storage = call.services.storages.known(held.storage_n)
        if held.file_n is not None:
            value[what] = file_value(await call.services.tree.get(call.caller, held.file_n))
        elif held.path:
            value[what] = file_value(await call.services.tree.at(storage, held.path, call.caller))
        elif held.tape:
            (value["tape"],) = await tape_values(call, [storage])
        else:
            (value["pool"],) = await pool_values(call, [storage])
    except (NotFound, Forbidden):
        if held.path:  # gone since, or a folder that is yet to be made
            value[what] = _missing(held)
    return value


def _missing(end: End) -> dict[str, Any]:
    return {
        "id": end.file_n,
        "name": end.path.rpartition("/")[2],
        "parent": None,
        "primary_id": end.storage_n,
        "type": None,
    }


def _plural(kind: str) -> str:
    return f"task_{kind}s"


def index(kind: str) -> Any:
    async def run(call: Call) -> Answer:
        _, found = await call.services.tasks.ends(call.caller, task_key(call), kind)
        values = [await _value(call, end) for end in found]
        return call.list(_plural(kind), values, _FIELDS)

    return run


def show(kind: str) -> Any:
    async def run(call: Call) -> Answer:
        n = number_in_path(call.args["end"])
        end = await call.services.tasks.get_end(call.caller, task_key(call), kind, n)
        return Answer(await _value(call, end))

    return run


def create(kind: str) -> Any:
    async def run(call: Call) -> Answer:
        tasks = call.services.tasks
        tasks.require_writer(call.caller)
        task = await tasks.get(call.caller, task_key(call))
        made = await tasks.add_end(
            call.caller, task.n, kind, await _read(call, kind, await call.attributes())
        )
        return Answer(await _value(call, made), status=201, headers={"Location": f"{call.path}/{made.n}"})

    return run


def update(kind: str) -> Any:
    async def run(call: Call) -> Answer:
        tasks = call.services.tasks
        tasks.require_writer(call.caller)
        n = number_in_path(call.args["end"])
        old = await tasks.get_end(call.caller, task_key(call), kind, n)
        call.require_match(await _value(call, old))
        given = await call.attributes()
        named = [name for name in _NAMES[kind] if given.get(name) is not None]
        if not named:
            return Answer(await _value(call, old))
        end = await tasks.update_end(call.caller, old.task_n, kind, n, await _read(call, kind, given))
        return Answer(await _value(call, end))

    return run


def destroy(kind: str) -> Any:
    async def run(call: Call) -> Answer:
        n = number_in_path(call.args["end"])
        await call.services.tasks.remove_end(call.caller, task_key(call), kind, n)
        return Answer(None, status=204)

    return run
