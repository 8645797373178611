"""PLACEHOLDER_IMPORT: one Item of one File, or of an IMF package. All of it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as rows
from origin.catalog import items as item_rows
from origin.catalog.database import Database, next_number
from origin.domain.model import File, Job, make_id
from origin.errors import NotFound
from origin.ports import Clock
from origin.services.files import Files
from origin.services.imports import IMPORT, refuse_external_ids, refuse_imported
from origin.services.jobs import Run
from origin.services.storages import Storages
from origin.workers.imf_package import PackageReader


@dataclass(frozen=True, slots=True)
class NewShape:
    """parts: (kind, File), one component each."""

    parts: tuple[tuple[str, File], ...]


class ImportItem:
    """input: see `services.imports`; `package` says that the File is an ASSETMAP."""

    type = IMPORT
    steps = ("Check", "Verify", "Create item")

    def __init__(self, database: Database, clock: Clock, storages: Storages, files: Files) -> None:
        self._database = database
        self._clock = clock
        self._packages = PackageReader(database, storages, files)

    async def run(self, run: Run) -> str | None:
        held = run.job.input
        async with run.commit(step=1) as connection:
            file = await rows.get(connection, _number(held, "file_n"))
            if await item_rows.get(connection, _number(held, "item")) is not None:
                return _skipped(held)  # a former run has made it
        if file is None:
            raise NotFound("File", str(run.job.data.get("sourceFile", "")))
        async with run.commit(step=2):
            pass
        warnings: list[str] = []
        if held["package"]:
            package = await self._packages.read(run, file)
            warnings += package.warnings
            shapes = [NewShape(parts) for parts in package.shapes]
        else:
            shapes = [NewShape((("container", file),))]
        async with run.commit(step=3) as connection:
            await self._create(connection, held, file, shapes)
        skipped = _skipped(held)
        return "; ".join([*warnings, skipped] if skipped else warnings) or None

    async def undo(self, connection: AsyncConnection, job: Job) -> None:
        """Nothing was made before the last step, which is one transaction."""

    async def renewed(
        self, connection: AsyncConnection, job: Job
    ) -> tuple[Mapping[str, object], Mapping[str, str]]:
        """The same import once more, into another Item."""
        n = await next_number(connection, "item")
        return {**job.input, "item": n}, {**job.data, "item": make_id(n)}

    async def _create(
        self,
        connection: AsyncConnection,
        held: Mapping[str, object],
        file: File,
        shapes: Sequence[NewShape],
    ) -> None:
        item_n = _number(held, "item")
        external = _texts(held, "external_ids")
        await refuse_external_ids(connection, external)
        members = {member.n: member for shape in shapes for _, member in shape.parts}
        for member in members.values():
            if await rows.get(connection, member.n) is None:
                raise NotFound("File", member.id)
            if not held["allow_reimport"]:
                name = member.id if member.n == file.n else member.path
                await refuse_imported(connection, member.n, name)
        metadata = {"document": held["metadata"], "originalFilename": held["filename"]}
        await item_rows.insert_item(connection, item_n, metadata, external, self._clock.now_ms())
        for shape in shapes:
            parts = [(kind, [member.n]) for kind, member in shape.parts]
            await item_rows.insert_shape(connection, item_n, [str(held["import_tag"])], parts)
        current = await rows.get(connection, file.n)
        if current is not None:
            named = {**current.metadata, "originalFilename": str(held["filename"])}
            await rows.update(connection, replace(current, metadata=named))


def _skipped(held: Mapping[str, object]) -> str | None:
    """The warning about shapes that were asked for and that nothing here can make."""
    tags = _texts(held, "tags")
    return f"there is no transcoder here: not made: {', '.join(tags)}" if tags else None


def _texts(held: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = held[key]
    return tuple(str(entry) for entry in value) if isinstance(value, list) else ()


def _number(held: Mapping[str, object], key: str) -> int:
    value = held[key]
    if not isinstance(value, int):
        raise TypeError(f"{key} is not a whole number")
    return value
