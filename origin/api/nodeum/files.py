"""Files and folders, read-only: below a storage, or over all of them."""

from __future__ import annotations

from typing import Any

from origin.api.nodeum.calls import Answer, Call
from origin.api.nodeum.pools import find_pool, tape_values
from origin.api.nodeum.problems import not_found
from origin.api.nodeum.wire import FILE_FIELDS, TAPE_FIELDS, file_value, single_file_value
from origin.core.conditions import Kind
from origin.services.tree import Node


def number_in_path(text: str) -> int:
    """Return an id of a path. Raises Problem 404 for what can be none."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise not_found("no resource has this id")
    return int(text)


async def list_roots(call: Call) -> Answer:
    nodes = await call.services.tree.roots(call.caller)
    values = [{**file_value(node), "file_id": node.folder.n if node.folder else 0} for node in nodes]
    fields: dict[str, Kind] = {**FILE_FIELDS, "id": Kind.NUMBER}
    return call.list("files", values, fields, show=_without_alias)


def _without_alias(value: Any) -> dict[str, Any]:
    return {key: held for key, held in value.items() if key != "file_id"}


async def _node(call: Call) -> Node:
    storage = await find_pool(call) if "pool" in call.args else None
    return await call.services.tree.get(call.caller, number_in_path(call.args["file"]), storage)


async def show(call: Call) -> Answer:
    node = await _node(call)
    places = await call.services.tree.locations(call.caller, node.file) if node.file else []
    return Answer(single_file_value(node, places, call.services.config.public_url))


async def _children(call: Call, folder: Node) -> Answer:
    fields: dict[str, Kind] = {**FILE_FIELDS, "id": Kind.NUMBER}
    window, conditions, order = call.window(), call.conditions(fields), call.order(fields)
    nodes, total = await call.services.tree.children(
        call.caller, folder, conditions, order, window.first, window.size
    )
    return call.page("files", [file_value(node) for node in nodes], total, window)


async def list_children(call: Call) -> Answer:
    return await _children(call, await _node(call))


async def list_in_pool(call: Call) -> Answer:
    return await _children(call, await call.services.tree.root(await find_pool(call)))


async def list_tapes(call: Call) -> Answer:
    """The archive storages that hold a copy."""
    node = await _node(call)
    places = await call.services.tree.locations(call.caller, node.file) if node.file else []
    storages = [storage for storage, _ in places if storage.archive]
    return call.list("tapes", await tape_values(call, storages), TAPE_FIELDS)
