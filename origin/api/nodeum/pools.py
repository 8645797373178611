"""Pools, which are storages, and tapes, which are those that archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from origin.api.dispatch import raw_path
from origin.api.nodeum.calls import Answer, Call, flag, need_text, one_of, text
from origin.api.nodeum.problems import blank, invalid, problem
from origin.api.nodeum.wire import (
    COMMENT,
    LABEL,
    POOL_CONTENTS,
    POOL_FIELDS,
    POOL_TYPES,
    TAPE_FIELDS,
    pool_value,
    tape_value,
)
from origin.domain.model import Storage
from origin.domain.states import StorageState, StorageType
from origin.errors import Conflict, Invalid, NotFound
from origin.services.storages import NewMethod


async def find_pool(call: Call, name: str = "pool") -> Storage:
    """By number, else by its exact name. Raises NotFound, Unauthenticated, Forbidden."""
    return await find_storage(call, call.args[name])


async def find_storage(call: Call, key: str) -> Storage:
    storages = call.services.storages
    if key.isascii() and key.isdigit() and len(key) <= 18:
        for storage in storages.everything():
            if str(storage.n) == key:
                return await storages.get(call.caller, storage.id)
    for storage in storages.everything():
        if storage.name == key:
            return await storages.get(call.caller, storage.id)
    raise NotFound("Pool", key)


async def pool_values(call: Call, found: Sequence[Storage]) -> list[dict[str, Any]]:
    services = call.services
    usage = await services.storages.usage([storage.id for storage in found])
    return [
        pool_value(
            storage,
            used=usage[storage.id].bytes,
            files=usage[storage.id].files,
            writable=services.storages.is_writable(storage),
        )
        for storage in found
    ]


async def tape_values(call: Call, found: Sequence[Storage]) -> list[dict[str, Any]]:
    services = call.services
    usage = await services.storages.usage([storage.id for storage in found])
    values = []
    for storage in found:
        most = await services.storages.capacity(storage)
        values.append(
            tape_value(
                storage,
                used=usage[storage.id].bytes,
                files=usage[storage.id].files,
                writable=services.storages.is_writable(storage),
                mounted=storage.state not in (StorageState.OFFLINE, StorageState.FAILED),
                most=most or None,
            )
        )
    return values


# --- pools ----------------------------------------------------------------------------------------


async def index(call: Call) -> Answer:
    found = await call.services.storages.listing(call.caller)
    return call.list("pools", await pool_values(call, found), POOL_FIELDS)


async def show(call: Call) -> Answer:
    return Answer((await pool_values(call, [await find_pool(call)]))[0])


async def create(call: Call) -> Answer:
    call.services.access.require_admin(call.caller)
    given = await call.attributes()
    name = need_text(given, "name")
    if text(given, "content") is None:
        raise blank("content")
    content = one_of(given, "content", POOL_CONTENTS)
    uri = text(given, "uri")
    if content == "cloud" and not uri:
        raise blank("uri")
    if content == "cloud":
        raise invalid("content", "is not offered: disks only, as nas or tape", value=content)
    metadata = _labels(given, {})
    public = flag(given, "public")
    read_only = flag(given, "read_only") or False
    archive = content == "tape"
    kind = StorageType.ARCHIVE if archive else StorageType.LOCAL
    try:
        made = await call.services.storages.create(
            call.caller,
            name,
            [NewMethod(uri)] if uri else [],
            type=kind,
            public=True if public is None else public,
            archive=archive,
            metadata=metadata,
        )
        if read_only:
            made = await _set_read_only(call, made, True)
    except Invalid as error:
        raise invalid(error.context, error.explanation, value=error.value) from error
    except Conflict as error:
        raise _taken(error, name) from error
    value = (await pool_values(call, [made]))[0]
    return Answer(value, status=201, headers={"Location": f"{raw_path(call.request)}/{made.n}"})


async def update(call: Call) -> Answer:
    call.services.access.require_admin(call.caller)
    storage = await find_pool(call)
    given = await call.attributes()
    (value,) = await pool_values(call, [storage])
    call.require_match(value)
    name = need_text(given, "name") if "name" in given else None
    content = one_of(given, "content", POOL_CONTENTS)
    if content is not None and content != value["content"]:
        raise invalid("content", "cannot be changed", value=content, code="frozen")
    read_only = flag(given, "read_only")
    try:
        storage = await call.services.storages.update(
            call.caller,
            storage.id,
            name=name,
            public=flag(given, "public"),
            metadata=_labels(given, storage.metadata),
        )
        if read_only is not None and read_only is not value["read_only"]:
            storage = await _set_read_only(call, storage, read_only)
    except Invalid as error:
        raise invalid(error.context, error.explanation, value=error.value) from error
    except Conflict as error:
        raise _taken(error, name or "") from error
    return Answer((await pool_values(call, [storage]))[0])


async def _set_read_only(call: Call, storage: Storage, read_only: bool) -> Storage:
    """Methods say what may be written to; a storage of type SHARED is never written."""
    usual = StorageType.ARCHIVE if storage.archive else StorageType.LOCAL
    kind = StorageType.SHARED if read_only else usual
    return await call.services.storages.update(call.caller, storage.id, type=kind)


def _labels(given: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, str]:
    kept = dict(metadata)
    comment, label = text(given, "comment"), one_of(given, "type", POOL_TYPES)
    if comment is not None:
        kept[COMMENT] = comment
    if label is not None:
        kept[LABEL] = label
    return kept


def _taken(error: Conflict, name: str) -> Exception:
    if error.value == name:
        return problem(409, "name", "taken", "has already been taken", value=name)
    return problem(409, "uri", "taken", "is, holds or lies in another pool's place")


async def destroy(call: Call) -> Answer:
    call.services.access.require_admin(call.caller)
    storage = await find_pool(call)
    (value,) = await pool_values(call, [storage])
    call.require_match(value)
    try:
        await call.services.storages.delete(call.caller, storage.id, only_if_empty=True)
    except Conflict as error:
        count = value["files_count"]
        raise problem(409, "base", "in_use", "the pool still holds files", count=count) from error
    return Answer(None, status=204)


# --- tapes ----------------------------------------------------------------------------------------


async def _tapes(call: Call) -> list[Storage]:
    return [s for s in await call.services.storages.listing(call.caller) if s.archive]


async def list_tapes(call: Call) -> Answer:
    return call.list("tapes", await tape_values(call, await _tapes(call)), TAPE_FIELDS)


async def show_tape(call: Call) -> Answer:
    storage = await find_pool(call, "tape")
    if not storage.archive:
        raise NotFound("Tape", call.args["tape"])
    return Answer((await tape_values(call, [storage]))[0])


async def list_tapes_of_pool(call: Call) -> Answer:
    storage = await find_pool(call)
    return call.list("tapes", await tape_values(call, [storage] if storage.archive else []), TAPE_FIELDS)


async def show_tape_of_pool(call: Call) -> Answer:
    storage = await find_pool(call)
    if not storage.archive or call.args["tape"] not in (str(storage.n), storage.name):
        raise NotFound("Tape", call.args["tape"])
    return Answer((await tape_values(call, [storage]))[0])
