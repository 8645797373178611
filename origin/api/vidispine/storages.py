"""Endpoints on storages and their methods."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from origin.api.vidispine import documents as d
from origin.api.vidispine.calls import Answer, Call, Document, Empty, Text
from origin.api.vidispine.problems import conflict, invalid, not_found
from origin.api.vidispine.target import Params
from origin.api.vidispine.views import HIDDEN_METADATA, method_value, pairs, storage_value
from origin.core.uris import canonical_uri, scheme_of
from origin.domain.model import Method, Storage
from origin.domain.states import StorageState, StorageType
from origin.services.storages import NewMethod

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT = re.compile(r"([0-9]{1,15})([KMGT]?)B?", re.ASCII | re.IGNORECASE)
_STATES = tuple(state.value for state in StorageState)
_TYPES = tuple(type_.value for type_ in StorageType)
_RANGES = ("size", "freebytes", "usedbytes", "freeamount", "files")


async def list_storages(call: Call) -> Answer:
    ranges = {name: _range(call.params, name) for name in _RANGES if name in call.params}
    wanted, refused = _status(call.params)
    url = call.params.text("url")
    storages = await call.services.storages.listing(call.caller)
    storages = [
        s for s in storages if s.state.value not in refused and (not wanted or s.state.value in wanted)
    ]
    if url is not None:
        expression = _url_expression(url)
        storages = [s for s in storages if any(expression.fullmatch(m.uri) for m in s.methods)]
    values = await _values(call, storages)
    kept = []
    for value, files in values:
        free, capacity = value["freeCapacity"], value["capacity"]
        have = {
            "size": capacity,
            "freebytes": free,
            "usedbytes": capacity - free,
            "freeamount": percent(free, capacity),
            "files": files,
        }
        if all(low <= have[name] <= high for name, (low, high) in ranges.items()):
            kept.append(value)
    return Document({"hits": len(kept), "storage": kept})


async def show(call: Call) -> Answer:
    return Document(await _value(call, await _named(call)))


async def create(call: Call) -> Answer:
    document = await call.document(d.STORAGE) or {}
    methods = [_method(held) for held in document.get("method", ())]
    if not methods:
        raise invalid("method", "a storage needs at least one method")
    storage = await call.services.storages.create(
        call.caller,
        _metadata(document).get("name") or None,
        methods,
        type=_type(document.get("type", StorageType.LOCAL.value)),
        capacity=_capacity(document),
        metadata=_stored_metadata(document, {}),
    )
    return Document(await _value(call, storage))


async def update(call: Call) -> Answer:
    storage = await _named(call)
    document = await call.document(d.STORAGE) or {}
    changes: dict[str, Any] = {"metadata": _stored_metadata(document, dict(storage.metadata))}
    if document.get("type"):
        changes["type"] = _type(document["type"])
    if document.get("capacity") is not None:
        changes["capacity"] = _capacity(document)
    if name := _metadata(document).get("name"):
        changes["name"] = name
    if document.get("method"):
        changes["methods"] = [_method(held) for held in document["method"]]
    changed = await call.services.storages.update(call.caller, storage.id, **changes)
    return Document(await _value(call, changed))


async def delete(call: Call) -> Answer:
    storage = await _named(call)
    if call.params.boolean("safe", False):
        await call.services.items.refuse_storage_in_use(storage.n)
    await call.services.storages.delete(call.caller, storage.id)
    return Empty(204)


async def freespace(call: Call) -> Answer:
    value = await _value(call, await _named(call))
    return Text(str(percent(value["freeCapacity"], value["capacity"])))


async def status(call: Call) -> Answer:
    return Text((await _named(call)).state.value)


async def set_type(call: Call) -> Answer:
    storage = await _named(call)
    await call.services.storages.update(call.caller, storage.id, type=_type(call.rest[0]))
    return Empty()


async def rescan(call: Call) -> Answer:
    storage = await _named(call)
    await call.services.scans.rescan(call.caller, storage.id)
    return Empty()


def percent(part: int, whole: int) -> int:
    """Return the whole percentage, 0..100, rounded down; 0 of nothing."""
    return min(part * 100 // whole, 100) if whole > 0 else 0


# --- methods --------------------------------------------------------------------------------------


async def list_methods(call: Call) -> Answer:
    return _methods((await _named(call)).methods)


async def show_method(call: Call) -> Answer:
    return _methods([_find_method(await _named(call), call.rest[0])])


async def create_method(call: Call) -> Answer:
    storage = await _named(call)
    new = _method(_method_parameters(call.params, None))
    methods = [*map(_unchanged, storage.methods), new]
    changed = await call.services.storages.update(call.caller, storage.id, methods=methods)
    return _methods(changed.methods[-1:])


async def update_or_create_method(call: Call) -> Answer:
    """The method with this URL is updated; without one it is made."""
    storage = await _named(call)
    wanted = canonical_uri(_method(_method_parameters(call.params, None)).uri).rstrip("/")
    for method in storage.methods:
        if canonical_uri(method.uri).rstrip("/") == wanted:
            call.rest = (method.id,)
            return await update_method(call)
    return await create_method(call)


async def update_method(call: Call) -> Answer:
    storage = await _named(call)
    place = storage.methods.index(_find_method(storage, call.rest[0]))
    methods = [_unchanged(method) for method in storage.methods]
    methods[place] = _method(_method_parameters(call.params, storage.methods[place]))
    changed = await call.services.storages.update(call.caller, storage.id, methods=methods)
    return _methods([changed.methods[place]])


def _methods(methods: Sequence[Method]) -> Document:
    return Document({"method": [method_value(method) for method in methods]})


async def delete_method(call: Call) -> Answer:
    storage = await _named(call)
    old = _find_method(storage, call.rest[0])
    if len(storage.methods) == 1:
        raise conflict("storage-method", "a storage needs one method", id=old.id)
    methods = [_unchanged(method) for method in storage.methods if method.n != old.n]
    await call.services.storages.update(call.caller, storage.id, methods=methods)
    return Empty()


def _unchanged(method: Method) -> NewMethod:
    return NewMethod(
        method.uri,
        method.read,
        method.write,
        method.browse,
        method.bandwidth,
        method.type,
        method.metadata,
    )


def _find_method(storage: Storage, id: str) -> Method:
    for method in storage.methods:
        if method.id == id:
            return method
    raise not_found("storage-method", id)


def _method_parameters(params: Params, old: Method | None) -> dict[str, Any]:
    flags = {name: params.boolean(name, getattr(old, name, True)) for name in ("read", "write", "browse")}
    bandwidth = params.integer("bandwidth")
    return {
        "uri": params.text("url"),
        "bandwidth": old.bandwidth if bandwidth is None and old else bandwidth,
        "type": params.text("type") or (old.type if old else "NONE"),
        **flags,
        **({"metadata": {"field": pairs(old.metadata)}} if old else {}),
    }


def _method(held: dict[str, Any]) -> NewMethod:
    """Return a method as asked for in a document or by parameters."""
    uri = held.get("uri") or ""
    if not scheme_of(uri) or any(character.isspace() for character in uri):
        raise invalid("url", "invalid method url", value=uri or None)
    return NewMethod(
        uri=uri,
        read=held.get("read", True),
        write=held.get("write", True),
        browse=held.get("browse", True),
        bandwidth=held.get("bandwidth"),
        type=held.get("type") or "NONE",
        metadata=_metadata(held),
    )


# --- in between -----------------------------------------------------------------------------------


async def _named(call: Call) -> Storage:
    storage = await call.storage()
    assert storage is not None
    return storage


async def _value(call: Call, storage: Storage) -> dict[str, Any]:
    return (await _values(call, [storage]))[0][0]


async def _values(call: Call, storages: Sequence[Storage]) -> list[tuple[dict[str, Any], int]]:
    """Return each storage's document and the number of its Files."""
    usage = await call.services.storages.usage([storage.id for storage in storages])
    made = []
    for storage in storages:
        used = usage[storage.id]
        capacity = await call.services.storages.capacity(storage)
        made.append((storage_value(storage, capacity, used.bytes), used.files))
    return made


def _type(text: str) -> StorageType:
    if text not in _TYPES:
        raise invalid("type", f"must be one of {', '.join(_TYPES)}", value=text)
    return StorageType(text)


def _capacity(document: dict[str, Any]) -> int | None:
    capacity = document.get("capacity")
    if capacity is not None and capacity < 0:
        raise invalid("capacity", "must be a number of bytes, >= 0", value=str(capacity))
    return int(capacity) if capacity is not None else None


def _metadata(document: dict[str, Any]) -> dict[str, str]:
    fields = document.get("metadata", {}).get("field", ())
    return {field["key"]: field.get("value", "") for field in fields if field.get("key")}


def _stored_metadata(document: dict[str, Any], old: dict[str, str]) -> dict[str, str]:
    """Return what is kept as the storage's metadata: its own pairs and the settings hidden among them."""
    given = {k: v for k, v in _metadata(document).items() if k not in (*HIDDEN_METADATA, "name")}
    hidden = {key: old[key] for key in HIDDEN_METADATA if key in old}
    for key in ("autoDetect", "showImportables"):
        if key in document:
            hidden[key] = "true" if document[key] else "false"
    if "scanInterval" in document:
        if document["scanInterval"] < -1:
            raise invalid("scanInterval", "must be seconds, or -1", value=str(document["scanInterval"]))
        hidden["scanInterval"] = str(document["scanInterval"])
    kept = given if "metadata" in document else {k: v for k, v in old.items() if k not in HIDDEN_METADATA}
    return {**kept, **hidden}


def _range(params: Params, name: str) -> tuple[int, int]:
    """Read `s1-s2`, either side open."""
    text = params.text(name) or ""
    low, dash, high = text.partition("-")
    if not dash:
        high = low
    return _amount(name, low, 0), _amount(name, high, 2**63)


def _amount(name: str, text: str, default: int) -> int:
    if not text.strip():
        return default
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise invalid(name, "must be a range such as 10G-2T", value=text)
    return int(match[1]) * _UNITS[match[2].upper()]


def _status(params: Params) -> tuple[set[str], set[str]]:
    """Return the states asked for and those refused."""
    wanted: set[str] = set()
    refused: set[str] = set()
    for entry in params.names("status"):
        state = entry.removeprefix("-")
        if state not in _STATES:
            raise invalid("status", f"must be one of {', '.join(_STATES)}", value=entry)
        (refused if entry.startswith("-") else wanted).add(state)
    return wanted, refused


def _url_expression(text: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*+|\?)", text)
    body = "".join(".*" if p.startswith("*") else "." if p == "?" else re.escape(p) for p in pieces if p)
    if body.count(".*") > 8:
        raise invalid("url", "holds too many wildcards", value=text)
    return re.compile(body, re.DOTALL)
