"""What lists of files have in common: their parameters read into values, and the documents made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from origin.api.vidispine.calls import Call
from origin.api.vidispine.problems import invalid
from origin.api.vidispine.signing import Signer, checked_disposition
from origin.api.vidispine.target import Params
from origin.api.vidispine.views import UriChoice, file_value
from origin.core.paging import Page
from origin.core.paths import PathError, PathPattern
from origin.core.query import FileField, FileFilter, FileSort
from origin.domain.model import File, Storage
from origin.domain.states import FileState

MOST = 1000  # files in one answer
_ALGORITHMS = {"SHA1": "sha1", "SHA256": "sha256"}
_SIGNED = ("format", "SIGNED-AUTO")


def read_filter(call: Call, *, exclude_queued: bool = False) -> FileFilter:
    """Return the filters of a list. exclude_queued: what the parameter's absence means."""
    params = call.params
    try:
        pattern = PathPattern.parse(
            params.text("path") or "/",
            recursive=params.boolean("recursive", True),
            wildcard=params.boolean("wildcard", False),
            ignore_case=params.boolean("ignorecase", False),
        )
    except PathError as error:
        raise invalid("path", str(error)) from error
    hashes = tuple(value.lower() for value in params.names("hash"))
    algorithm = _algorithm(params)
    belongs = {"all": None, "item": True, "noitem": False}[
        params.choice("filter", ("all", "item", "noitem"), "all")
    ]
    return FileFilter(
        ids=params.names("id") or None,
        storage_ids=_storage_ids(call),
        path=pattern,
        states=tuple(FileState(state) for state in params.choices("state", [*FileState])),
        sha1=hashes if algorithm == "sha1" else (),
        sha256=hashes if algorithm == "sha256" else (),
        in_item=belongs,
        exclude_queued=params.boolean("excludeQueued", exclude_queued),
    )


def _storage_ids(call: Call) -> tuple[str, ...] | None:
    named = call.params.names("storage") or None
    if call.storage_id is None:
        return named
    return (call.storage_id,) if named is None or call.storage_id in named else ()


def _algorithm(params: Params) -> str:
    value = params.text("algorithm") or "SHA-1"
    found = _ALGORITHMS.get(value.upper().replace("-", ""))
    if found is None:
        raise invalid("algorithm", "must be SHA-1 or SHA-256", value=value)
    return found


def read_sort(params: Params) -> tuple[FileSort, ...]:
    wanted = params.sort([*FileField], ((FileField.ID.value, False),))
    return tuple(FileSort(FileField(field), descending) for field, descending in wanted)


def read_page(params: Params) -> Page:
    """`start` is an alias of `first`, for a client that would otherwise never come to an end."""
    first = params.integer("first")
    if first is None:
        first = params.integer("start")
    number = params.integer("number")
    return Page(
        first=first or 0,
        number=10 if number is None else min(number, MOST),
        count=params.boolean("count", True),
        cursor=params.text("cursor"),
    )


class FileDocuments:
    """Makes the FileDocuments of one answer: the URIs its parameters ask for, the items if asked for."""

    def __init__(self, call: Call, signer: Signer, *, with_items: bool = True) -> None:
        """with_items: whether the parameter includeItem is looked at."""
        params = call.params
        metadata = params.pairs("methodMetadata")
        self._call = call
        self._signer = signer
        self._signed = _SIGNED in metadata
        self._disposition = (
            checked_disposition(dict(metadata).get("contentDisposition")) if self._signed else None
        )
        self._choice = UriChoice(
            method_type=params.text("methodType") or "",
            storage_types=params.names("storageType"),
            metadata=metadata,
            scheme=params.text("scheme"),
            edge_url=call.services.config.public_url.rstrip("/"),
        )
        self._with_items = with_items and params.boolean("includeItem", False)

    async def one(self, file: File) -> dict[str, Any]:
        return (await self.many([file]))[0]

    async def many(self, files: Sequence[File]) -> list[dict[str, Any]]:
        services, caller = self._call.services, self._call.caller
        storages = (
            {storage.n: storage for storage in await services.storages.listing(caller)} if files else {}
        )
        places = await services.items.places([file.n for file in files]) if self._with_items else {}
        return [
            file_value(file, self._uris(file, storages.get(file.storage_n)), places.get(file.n, ()))
            for file in files
        ]

    def _uris(self, file: File, storage: Storage | None) -> list[str]:
        if not self._signed:
            return self._choice.uris(file, storage)
        if file.state is FileState.LOST:
            return []
        request = self._call.request
        base = f"{request.scheme}://{request.host}"
        now = self._call.services.clock.now_ms() // 1000
        return [self._signer.url(base, file.id, now, self._disposition)]
