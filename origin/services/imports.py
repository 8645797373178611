"""Imports: what is refused at once, and the job that makes an Item of Files. Nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import items as rows
from origin.catalog.database import Database, next_number
from origin.core.paging import Listing, Page
from origin.core.query import FileFilter, FileSort
from origin.domain.model import Caller, File, Job, Storage, make_id
from origin.domain.states import FileState, Priority
from origin.errors import Conflict, Invalid
from origin.services.files import Files
from origin.services.jobs import Jobs
from origin.services.storages import Storages

IMPORT = rows.IMPORT
IMPORTABLE = (FileState.OPEN, FileState.CLOSED, FileState.BEING_READ, FileState.ARCHIVED)
_LONGEST_ID = 255  # characters of an external id


@dataclass(frozen=True, slots=True)
class Import:
    """What is asked for.

    filename        original filename; None: the last segment of the path
    allow_reimport  also a file that is being imported, or belongs to an item: a further item results
    external_ids    of the item; none may be another item's
    tags            shape tags to transcode to; there is no transcoder, so they end in a warning
    original        one of the tags; speaks of a transcoded shape
    transcode       False: the tags ask for nothing
    import_tag      tag of the imported shape
    metadata        the item's, JSON-able
    package         the file is the ASSETMAP of an IMF package
    """

    filename: str | None = None
    allow_reimport: bool = False
    external_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    original: str | None = None
    transcode: bool = True
    import_tag: str = "original"
    metadata: Mapping[str, object] = field(default_factory=dict)
    package: bool = False


class Imports:
    def __init__(self, database: Database, storages: Storages, files: Files, jobs: Jobs) -> None:
        self._database = database
        self._storages = storages
        self._files = files
        self._jobs = jobs

    async def importable(
        self, caller: Caller, wanted: FileFilter, sort: Sequence[FileSort], page: Page
    ) -> Listing[File]:
        """One page of the Files that could be imported now: with bytes, in no component, in a state
        that is no loss, on a storage that shows them."""
        shown = {s.id for s in await self._storages.listing(caller) if _shows_importables(s)}
        if wanted.storage_ids is not None:
            shown &= set(wanted.storage_ids)
        states = tuple(state for state in wanted.states or IMPORTABLE if state in IMPORTABLE)
        if not states:
            return Listing([], 0 if page.count else None)
        narrowed = replace(
            wanted, storage_ids=tuple(sorted(shown)), states=states, with_bytes=True, in_item=False
        )
        if wanted.in_item:
            narrowed = replace(narrowed, ids=())
        return await self._files.listing(caller, narrowed, sort, page)

    async def start(
        self,
        caller: Caller,
        file: File,
        wanted: Import,
        *,
        priority: Priority = Priority.MEDIUM,
        data: Mapping[str, str] | None = None,
    ) -> Job:
        """Commit the job and return it; its data names the item from the start, under `item`.

        Raises Conflict for a file without bytes, one that is imported or being imported (unless
        allowed), and an external id of another item; Invalid for `original` that is not among the tags.
        """
        self._files.require_write(caller, file)
        if wanted.original is not None and wanted.original not in wanted.tags:
            raise Invalid("original", "must be one of the tags", wanted.original)
        for value in wanted.external_ids:
            if len(value) > _LONGEST_ID:
                raise Invalid("id", f"at most {_LONGEST_ID} characters", value)
        storage = self._storages.known(file.storage_n)
        gone = file.state in (FileState.TO_BE_DELETED, FileState.LOST)
        if gone or await self._storages.backend(storage).stat(file.path) is None:
            raise Conflict("the file has no bytes", id=file.id)
        async with self._database.write() as connection:
            if not wanted.allow_reimport:
                await refuse_imported(connection, file.n, file.id)
                job_n = await rows.import_of(connection, file.n)
                if job_n is not None:
                    raise Conflict(
                        f"job {make_id(job_n)} is importing the file; send allowReimport=true", id=file.id
                    )
            await refuse_external_ids(connection, wanted.external_ids)
            item_n = await next_number(connection, "item")
            job = await self._jobs.enqueue(
                connection,
                IMPORT,
                user=caller.name,
                priority=priority,
                data={**(data or {}), "sourceFile": file.id, "item": make_id(item_n)},
                input={
                    "file_n": file.n,
                    "item": item_n,
                    "filename": wanted.filename or file.name,
                    "external_ids": list(wanted.external_ids),
                    "tags": list(wanted.tags) if wanted.transcode else [],
                    "import_tag": wanted.import_tag,
                    "metadata": dict(wanted.metadata),
                    "package": wanted.package,
                    "allow_reimport": wanted.allow_reimport,
                },
            )
        await self._jobs.notify()
        return job


def _shows_importables(storage: Storage) -> bool:
    return storage.metadata.get("showImportables", "true") == "true"


async def refuse_imported(connection: AsyncConnection, file_n: int, name: str) -> None:
    """Raise Conflict when the File belongs to an item. name: of the File, for the message."""
    places = await rows.places(connection, [file_n])
    if places:
        raise Conflict(
            f"the file belongs to item {make_id(places[0].item_n)}; send allowReimport=true"
            if name == make_id(file_n)
            else f"{name} belongs to item {make_id(places[0].item_n)}; send allowReimport=true",
            id=make_id(file_n),
        )


async def refuse_external_ids(connection: AsyncConnection, wanted: tuple[str, ...]) -> None:
    """Raise Conflict when one of the external ids is another item's."""
    taken = await rows.taken_external_id(connection, wanted) if wanted else None
    if taken is not None:
        raise Conflict(
            f"item {make_id(taken[1])} has the external id {taken[0]!r}",
            context="item",
            id=make_id(taken[1]),
            value=taken[0],
        )
