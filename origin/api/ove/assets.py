"""Assets: lists, metadata, tags, versions, files and uploads."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from origin.api.bodies import body_chunks, declared_sha256
from origin.api.ove import wire
from origin.api.ove.calls import Answer, Call, need_text, text_of, texts
from origin.api.ove.lists import send_list
from origin.api.ove.problems import Problem
from origin.domain.projects import Asset, clean_tags, is_file_name

_EXTENDED = re.compile(r"filename\*\s*=\s*(?:utf-8|iso-8859-1)'[^']*'([^;\s]*)", re.IGNORECASE)
_QUOTED = re.compile(r'filename\s*=\s*"((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_BARE = re.compile(r"filename\s*=\s*([^;\"\s]+)", re.IGNORECASE)
_TOP = 10_000  # assets in one page, when pages are asked for


# --- lists ----------------------------------------------------------------------------------------


async def list_assets(call: Call) -> web.StreamResponse:
    """All of them as they come; with `page` or `per_page`, one page, and X-Total."""
    full, folders = call.switch("metadata"), call.switch("includeEmpty")
    tag = call.param("filterByTag")
    page, size = call.number("page"), call.number("per_page", most=_TOP)
    skip, limit = 0, None
    if page is not None or size is not None:
        limit = size or 100
        skip = ((page or 1) - 1) * limit
    pages = call.services.assets.entries(
        call.place, tag=tag, folders=folders, full=full, skip=skip, limit=limit
    )

    async def shown() -> AsyncIterator[list[Any]]:
        async for found in pages:
            if not full:
                yield [entry.id for entry in found]
                continue
            yield [
                call.wire.asset(call.place, entry.asset)
                if entry.asset is not None
                else {"name": entry.id, "project": call.place.project.id}
                for entry in found
            ]

    response = await send_list(call, shown(), lead=b'{"Assets": [', end=b"]}")
    if limit is not None and not response.prepared and not folders:
        response.headers["X-Total"] = str(await call.services.assets.count(call.place, tag))
    return response


async def list_files(call: Call) -> web.StreamResponse:
    version = call.number("version", least=0)
    asset = await call.services.assets.get(call.place, call.args["asset"])
    folder = call.place.path(asset.id, str(asset.version if version is None else version))
    pages = call.services.assets.files(call.place, asset, version)

    async def shown() -> AsyncIterator[list[Any]]:
        async for found in pages:
            yield [call.wire.file(call.place, folder, held) for held in found]

    return await send_list(call, shown())


async def list_versions(call: Call) -> Answer:
    asset = await call.services.assets.get(call.place, call.args["asset"])
    found = await call.services.assets.versions(call.place, asset)
    return Answer([call.wire.version(call.place, version, asset.version) for version in found])


# --- metadata -------------------------------------------------------------------------------------


async def create_asset(call: Call) -> Answer:
    given = await call.document()
    name = need_text(given, "name") if given.get("id") is None else text_of(given, "name")
    id = text_of(given, "id") or name or ""
    asset = await call.services.assets.create(
        call.place,
        id,
        name=name,
        description=text_of(given, "description") or "",
        tags=_tags(given) or (),
    )
    return Answer({"Asset": asset.id})


def _tags(given: dict[str, Any]) -> tuple[str, ...] | None:
    """A list of texts, or one text split at commas; None when absent or null."""
    value = given.get("tags")
    if value is None:
        return None
    return clean_tags(value.split(",") if isinstance(value, str) else texts(value, "tags"))


async def show_asset(call: Call) -> Answer:
    asset = await call.services.assets.get(call.place, call.args["asset"])
    return Answer(call.wire.asset(call.place, asset))


async def update_asset(call: Call) -> Answer:
    given = await call.document()
    name, description, tags = text_of(given, "name"), text_of(given, "description"), _tags(given)

    def change(asset: Asset) -> Asset:
        return replace(
            asset,
            name=asset.name if name is None else name or asset.id,
            description=asset.description if description is None else description,
            tags=asset.tags if tags is None else tags,
        )

    await call.services.assets.edit(call.place, call.args["asset"], change)
    return Answer(wire.OK)


async def delete_asset(call: Call) -> Answer:
    await call.services.assets.delete(call.caller, call.place, call.args["asset"])
    return Answer(wire.OK)


# --- tags -----------------------------------------------------------------------------------------


async def show_tags(call: Call) -> Answer:
    asset = await call.services.assets.get(call.place, call.args["asset"])
    return Answer(list(asset.tags))


async def replace_tags(call: Call) -> Answer:
    _, value = await call.text()
    tags = clean_tags(texts(value, "tags"))
    return await _retag(call, lambda _: tags)


async def change_tags(call: Call) -> Answer:
    given = await call.document()
    action = given.get("action")
    if action not in ("add", "remove"):
        raise Problem(400, "Invalid action provided", "The action must be add or remove.")
    data = clean_tags(texts(given.get("data"), "data"))
    if action == "add":
        return await _retag(call, lambda tags: clean_tags((*tags, *data)))
    return await _retag(call, lambda tags: tuple(tag for tag in tags if tag not in data))


async def clear_tags(call: Call) -> Answer:
    return await _retag(call, lambda _: ())


async def _retag(call: Call, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Answer:
    asset = await call.services.assets.edit(
        call.place, call.args["asset"], lambda asset: replace(asset, tags=change(asset.tags))
    )
    return Answer(list(asset.tags))


# --- upload ---------------------------------------------------------------------------------------


async def upload(call: Call) -> Answer:
    call.require_type("application/octet-stream")
    filename = _filename(call)
    create, update = call.switch("create"), call.switch("update")
    sha256 = declared_sha256(call.request)
    assets, id = call.services.assets, call.args["asset"]
    length = call.request.content_length
    await assets.check_upload(
        call.caller, call.place, id, create=create, update=update, declared_length=length
    )
    async with call.services.slots.taken():
        file, version = await assets.upload(
            call.caller,
            call.place,
            id,
            filename,
            body_chunks(call.request),
            create=create,
            update=update,
            declared_length=length,
            sha256=sha256,
        )
    return Answer(wire.OK, headers={"X-File-Id": file.id, "X-Asset-Version": str(version)})


def _filename(call: Call) -> str:
    name = call.param("filename")
    if name is None:
        name = name_in(call.request.headers.get("Content-Disposition", ""))
    if name is None or not is_file_name(name):
        raise Problem(400, "Invalid filename", f"{(name or '')[:200]!r} cannot be the name of a file.")
    return name


def name_in(disposition: str) -> str | None:
    """Return the file name of a Content-Disposition field (RFC 6266 §4.3), with or without a type."""
    if found := _EXTENDED.search(disposition):
        encoding = "latin-1" if "iso-8859-1" in found[0].lower() else "utf-8"
        try:
            return unquote(found[1], encoding, errors="strict")
        except UnicodeDecodeError:
            return None
    if found := _QUOTED.search(disposition):
        return re.sub(r"\\(.)", r"\1", found[1])
    if found := _BARE.search(disposition):
        return found[1]
    return None
