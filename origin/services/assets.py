"""Assets of projects, with their versions, and objects. Callers have asked for the right already.

A version's Files are the complete ones below its folder, whoever put them there. An asset's edits
hold the asset's lock, so that two writers never lose each other's fields.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as file_rows
from origin.catalog import projects as rows
from origin.catalog import workers as worker_rows
from origin.catalog.database import Database, next_number
from origin.domain.model import Caller, File
from origin.domain.projects import Asset, Event, Place, Version, is_asset_id, is_object_id
from origin.errors import AlreadyExists, Conflict, Invalid, NotFound
from origin.ports import Clock
from origin.services.files import MUTABLE, Files
from origin.services.jobs import Jobs
from origin.services.locks import KeyedLocks
from origin.services.projects import InUse, Projects

PAGE = 500
_LONGEST = 16 << 20  # bytes of an object


class HoldsFile(Conflict):
    """The asset's current version holds a file, and no new version was asked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """asset None: a folder that is no asset, or only ids were asked for."""

    id: str
    asset: Asset | None


@dataclass(frozen=True, slots=True)
class Held:
    """A File of a version. uploaded: it is the one that was uploaded, not a worker's."""

    id: str
    path: str
    size: int
    uploaded: bool


class Assets:
    def __init__(
        self, database: Database, clock: Clock, projects: Projects, files: Files, jobs: Jobs
    ) -> None:
        self._database = database
        self._clock = clock
        self._projects = projects
        self._files = files
        self._jobs = jobs
        self._locks = KeyedLocks()

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, place: Place, id: str) -> Asset:
        """Raise NotFound."""
        async with self._database.read() as connection:
            return await self._get(connection, place, id)

    async def _get(self, connection: AsyncConnection, place: Place, id: str) -> Asset:
        asset = await rows.asset(connection, place.project, id)
        if asset is None:
            raise NotFound("Asset", id)
        return asset

    async def entries(
        self,
        place: Place,
        *,
        tag: str | None = None,
        folders: bool = False,
        full: bool = False,
        skip: int = 0,
        limit: int | None = None,
    ) -> AsyncIterator[list[Entry]]:
        """Yield all, in pages, by id. folders: those that are no assets too; full: with the asset."""
        after: str | None = None
        left = limit
        while left is None or left > 0:
            number = PAGE if left is None else min(PAGE, left)
            async with self._database.read() as connection:
                found = await _page(
                    connection,
                    place,
                    folders=folders and tag is None,
                    full=full,
                    tag=tag,
                    after=after,
                    skip=skip,
                    number=number,
                )
            yield found
            if len(found) < number:
                return
            after, skip = found[-1].id, 0
            left = None if left is None else left - number

    async def count(self, place: Place, tag: str | None) -> int:
        async with self._database.read() as connection:
            return await rows.count_assets(connection, place.project.n, tag)

    async def files(
        self, place: Place, asset: Asset, version: int | None = None
    ) -> AsyncIterator[list[Held]]:
        """Yield the Files of a version, None for the current one, in pages, by path.

        Raises Invalid("version") for one that never was.
        """
        number = asset.version if version is None else version
        async with self._database.read() as connection:
            if not await rows.has_version(connection, asset.n, number):
                raise Invalid("version", f"asset {asset.id!r} has no version {number}", str(number))
            uploaded = await rows.uploaded(connection, asset.n, number)
        folder = place.path(asset.id, str(number))
        after: str | None = None
        while True:
            async with self._database.read() as connection:
                found = await rows.files_below(connection, place.storage.n, folder, after=after, number=PAGE)
            yield [Held(f"VX-{row.n}", row.path, row.size, row.n == uploaded) for row in found]
            if len(found) < PAGE:
                return
            after = found[-1].path

    async def versions(self, place: Place, asset: Asset) -> list[Version]:
        """Oldest first."""
        async with self._database.read() as connection:
            return await rows.all_versions(connection, place.storage.n, place.path(asset.id), asset.n)

    # --- changing ---------------------------------------------------------------------------------

    async def create(
        self,
        place: Place,
        id: str,
        *,
        name: str | None = None,
        description: str = "",
        tags: Sequence[str] = (),
    ) -> Asset:
        """Raises Invalid (id), InUse: by an asset, or by a File at its path."""
        self._check_id(id)
        async with self._locks.hold((place.project.n, id)), self._database.write() as connection:
            await rows.lock(connection, place.project)
            taken = await rows.asset(connection, place.project, id)
            if taken or await file_rows.at_path(connection, place.storage.n, place.path(id)):
                raise InUse(f"Asset {id!r} already exists.", context="asset", id=id)
            return await self._insert(connection, place, id, name, description, tags)

    def _check_id(self, id: str) -> None:
        if not is_asset_id(id):
            raise Invalid("name", "1 to 200 bytes without / and \\, no reserved word, no leading dot", id)

    async def _insert(
        self,
        connection: AsyncConnection,
        place: Place,
        id: str,
        name: str | None,
        description: str,
        tags: Sequence[str],
    ) -> Asset:
        now = self._clock.now_ms()
        asset = Asset(
            n=await next_number(connection, "asset"),
            project_n=place.project.n,
            id=id,
            name=name or id,
            description=description,
            tags=tuple(tags),
            history=(Event("Created", now, 1),),
            created_ms=now,
        )
        await rows.insert_asset(connection, asset)
        return asset

    async def edit(self, place: Place, id: str, change: Callable[[Asset], Asset]) -> Asset:
        """Set name, description and tags to what `change` makes of them."""
        async with self._locks.hold((place.project.n, id)), self._database.write() as connection:
            await rows.lock(connection, place.project)
            asset = change(await self._get(connection, place, id))
            await rows.save_asset(connection, asset)
        return asset

    async def delete(self, caller: Caller, place: Place, id: str) -> None:
        """All versions and Files go, tasks are canceled; bytes go after the rows."""
        async with self._locks.hold((place.project.n, id)), self._database.write() as connection:
            await rows.lock(connection, place.project)
            asset = await self._get(connection, place, id)
            await worker_rows.cancel(connection, self._clock.now_ms(), asset_n=asset.n)
            await rows.remove_asset(connection, asset.n)
            await self._projects.condemn(connection, caller, place.storage, place.path(id))
        await self._jobs.notify()

    # --- upload -----------------------------------------------------------------------------------

    async def check_upload(
        self,
        caller: Caller,
        place: Place,
        id: str,
        *,
        create: bool,
        update: bool,
        declared_length: int | None,
    ) -> None:
        """Raise whatever `upload` would raise before it needs the body."""
        async with self._database.read() as connection:
            await self._target(connection, place, id, create, update)
        await self._files.check_upload(
            caller, place.storage.id, place.path(id), declared_length=declared_length
        )

    async def _target(
        self, connection: AsyncConnection, place: Place, id: str, create: bool, update: bool
    ) -> tuple[Asset | None, int]:
        """Return the asset, None if it is to be made, and the version that an upload fills."""
        asset = await rows.asset(connection, place.project, id)
        if asset is None:
            if not create:
                raise NotFound("Asset", id)
            self._check_id(id)
            if await file_rows.at_path(connection, place.storage.n, place.path(id)):
                raise InUse(f"Asset {id!r} already exists.", context="asset", id=id)
        version = asset.version if asset else 1
        if await rows.any_below(connection, place.storage.n, place.path(id, str(version))):
            if not update or asset is None:
                raise HoldsFile(
                    f"Asset {id!r} already holds a file; send update=true for a new version.",
                    context="asset",
                    id=id,
                )
            version += 1
        return asset, version

    async def upload(
        self,
        caller: Caller,
        place: Place,
        id: str,
        filename: str,
        body: AsyncIterator[bytes],
        *,
        create: bool = False,
        update: bool = False,
        declared_length: int | None = None,
        sha256: str | None = None,
    ) -> tuple[File, int]:
        """Take a file in; return it with the version it is of. Nothing is visible before all of it is.

        create  the asset appears with the file if it is missing; else NotFound
        update  a version that holds a file is followed by another; else HoldsFile

        Raises what `Files.upload` raises.
        """
        async with self._files.receive(
            place.storage, body, declared_length=declared_length, sha256=sha256
        ) as received:
            project = self._projects.find(place.storage, place.project.id).project
            place = Place(place.storage, project)
            async with self._locks.hold((project.n, id)):
                async with self._database.read() as connection:
                    asset, version = await self._target(connection, place, id, create, update)

                async def note(connection: AsyncConnection, file: File) -> None:
                    await self._note_upload(connection, place, id, asset, version, file)

                try:
                    path = place.path(id, str(version), filename)
                    file = await self._files.place(place.storage, path, received, also=note)
                except AlreadyExists as error:
                    raise HoldsFile(
                        f"Asset {id!r} already holds this file.", context="asset", id=id
                    ) from error
        return file, version

    async def _note_upload(
        self,
        connection: AsyncConnection,
        place: Place,
        id: str,
        known: Asset | None,
        version: int,
        file: File,
    ) -> None:
        await rows.lock(connection, place.project)
        asset = await rows.asset(connection, place.project, id)
        if known is not None and (asset is None or asset.n != known.n):
            raise NotFound("Asset", id)
        if asset is None:
            asset = await self._insert(connection, place, id, None, "", ())
        now = self._clock.now_ms()
        if version != asset.version:
            await rows.add_version(connection, asset.n, version, now)
        event = Event("Updated", now, version)
        asset = replace(asset, version=version, history=(*asset.history, event))
        await rows.save_asset(connection, asset)
        await rows.clear_processing(connection, asset.n)
        await rows.fill_version(connection, asset.n, version, file)

    # --- objects ----------------------------------------------------------------------------------

    async def has_object(self, place: Place, id: str) -> bool:
        async with self._database.read() as connection:
            return await rows.object_file(connection, place.project, id) is not None

    async def object_file(self, caller: Caller, place: Place, id: str) -> File:
        """Raises NotFound."""
        async with self._database.read() as connection:
            n = await rows.object_file(connection, place.project, id) if is_object_id(id) else None
        if n is None:
            raise NotFound("Object", id)
        return await self._files.get(caller, f"VX-{n}")

    async def read_object(self, caller: Caller, place: Place, id: str) -> bytes:
        """Return the document. Raises NotFound; Conflict when something else took its place."""
        content = await self._files.open(await self.object_file(caller, place, id))
        try:
            if content.size > _LONGEST:
                raise Conflict("the file is too long for an object", context="object", id=id)
            parts: list[bytes] = []
            offset = 0
            while piece := await content.reader.read(offset, 1 << 20):
                parts.append(piece)
                offset += len(piece)
            return b"".join(parts)
        finally:
            await content.reader.close()

    async def create_object(self, caller: Caller, place: Place, id: str, document: bytes) -> File:
        """Raises NotFound (no possible id), InUse."""
        if not is_object_id(id):
            raise NotFound("Object", id)
        path = place.path(f"{id}.json")
        taken = InUse(f"Object {id!r} already exists.", context="object", id=id)
        async with self._locks.hold((place.project.n, f"{id}.json")):
            async with self._database.read() as connection:
                if await rows.asset(connection, place.project, f"{id}.json"):
                    raise taken

            async def note(connection: AsyncConnection, file: File) -> None:
                await rows.lock(connection, place.project)
                await rows.save_object(connection, place.project.n, id, file.n)

            await self._files.check_upload(
                caller, place.storage.id, path, declared_length=len(document), by_owner=True
            )
            async with self._files.receive(place.storage, _once(document)) as received:
                try:
                    return await self._files.place(
                        place.storage, path, received, metadata={MUTABLE: "object"}, also=note
                    )
                except AlreadyExists as error:
                    raise taken from error

    async def update_object(self, caller: Caller, place: Place, id: str, document: bytes) -> File:
        """Replace the bytes; the File keeps its id. Raises NotFound."""
        file = await self.object_file(caller, place, id)
        return await self._files.replace(
            caller, file.id, _once(document), declared_length=len(document), by_owner=True
        )

    async def delete_object(self, caller: Caller, place: Place, id: str) -> None:
        file = await self.object_file(caller, place, id)
        async with self._database.write() as connection:
            await rows.remove_object(connection, place.project.n, id)
            await self._projects.condemn(connection, caller, place.storage, file.path)
        await self._jobs.notify()


async def _once(document: bytes) -> AsyncIterator[bytes]:
    yield document


async def _page(
    connection: AsyncConnection,
    place: Place,
    *,
    folders: bool,
    full: bool,
    tag: str | None,
    after: str | None,
    skip: int,
    number: int,
) -> list[Entry]:
    project = place.project
    if full and not folders:
        assets = await rows.page(connection, project, tag=tag, after=after, skip=skip, number=number)
        return [Entry(asset.id, asset) for asset in assets]
    found = await rows.names(
        connection, project, tag=tag, folders_too=folders, after=after, skip=skip, number=number
    )
    ns = [n for _, n in found if n is not None] if full else []
    known = await rows.by_number(connection, place.storage.n, ns) if ns else {}
    return [Entry(id, None if n is None else known.get(n)) for id, n in found]
