"""An IMF package as it lies on a storage: its files found, read, and verified against its lists."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from origin.catalog import files as rows
from origin.catalog.database import Database
from origin.core import imf
from origin.domain.model import Caller, File, User
from origin.domain.states import FileState
from origin.errors import Conflict, Invalid
from origin.services.files import Files
from origin.services.jobs import Run
from origin.services.storages import Storages

_READ = 1 << 20
# Registers what lies beside an ASSETMAP that somebody with the right to import it has named.
_ORIGIN = Caller(User(n=0, name="origin", admin=True))


@dataclass(frozen=True, slots=True)
class Package:
    """shapes: one a composition, each (kind, File) pairs; warnings: sentences, may be none."""

    shapes: tuple[tuple[tuple[str, File], ...], ...]
    warnings: tuple[str, ...]


class PackageReader:
    def __init__(self, database: Database, storages: Storages, files: Files) -> None:
        self._database = database
        self._storages = storages
        self._files = files

    async def read(self, run: Run, asset_map: File) -> Package:
        """Find, verify and sort the files of the package whose ASSETMAP is given.

        Raises Invalid for a package that cannot be, Conflict naming every missing file, or the first
        that does not fit its packing list.
        """
        body = await self._document(asset_map)
        assets = (await asyncio.to_thread(imf.parse_asset_map, body)).assets
        files = await self._find(run, asset_map, assets)
        warnings = await self._verify(run, assets, files)
        compositions = await self._compositions(run, assets, files)
        if not compositions:
            raise Invalid("ASSETMAP", "the package has no composition playlist")
        return Package(tuple(_shapes(asset_map, assets, files, compositions)), tuple(warnings))

    async def _find(
        self, run: Run, asset_map: File, assets: Sequence[imf.Asset]
    ) -> dict[UUID, tuple[File, ...]]:
        """Return the Files of each asset; those on disk alone are registered."""
        folder = asset_map.path.rpartition("/")[0]
        storage = self._storages.known(asset_map.storage_n)
        backend = self._storages.backend(storage)
        found: dict[UUID, tuple[File, ...]] = {}
        missing: list[str] = []
        for asset in assets:
            await run.check()
            held: list[File] = []
            for name in asset.names:
                path = f"{folder}/{name}" if folder else name
                if await backend.stat(path) is None:
                    missing.append(name)
                    continue
                async with self._database.read() as connection:
                    file = await rows.at_path(connection, storage.n, path)
                if file is None:
                    file = await self._files.create(
                        _ORIGIN, storage.id, path, state=FileState.CLOSED, create_only=False
                    )
                held.append(file)
            found[asset.uuid] = tuple(held)
        if missing:
            raise Conflict(f"missing: {', '.join(missing)}", id=asset_map.id)
        return found

    async def _document(self, file: File) -> bytes:
        """Return the bytes of a small file. Raises Invalid for one over the limit."""
        parts: list[bytes] = []
        async for part in self._bytes(file, at_most=imf.MAX_BYTES + 1):
            parts.append(part)
        body = b"".join(parts)
        if len(body) > imf.MAX_BYTES:
            raise Invalid(file.path, f"has over {imf.MAX_BYTES} bytes")
        return body

    async def _bytes(self, file: File, *, at_most: int | None = None) -> AsyncIterator[bytes]:
        reader = await self._storages.backend(self._storages.known(file.storage_n)).open(file.path)
        try:
            offset = 0
            while at_most is None or offset < at_most:
                part = await reader.read(offset, _READ)
                if not part:
                    return
                offset += len(part)
                yield part
        finally:
            await reader.close()

    # --- Verify -----------------------------------------------------------------------------------

    async def _verify(
        self, run: Run, assets: Sequence[imf.Asset], files: Mapping[UUID, tuple[File, ...]]
    ) -> list[str]:
        warnings = []
        for asset in assets:
            if not asset.packing_list:
                continue
            for file in files[asset.uuid]:
                expected = await asyncio.to_thread(
                    imf.parse_packing_list, await self._document(file), file.path
                )
                for entry in expected:
                    await run.check()
                    held = files.get(entry.uuid)
                    if held and not await self._fits(run, entry, held):
                        warnings.append(f"{held[0].path}: only its size was compared")
        return warnings

    async def _fits(self, run: Run, expected: imf.Expected, held: Sequence[File]) -> bool:
        """Compare; False when the hash could not be. Raises Conflict naming file and both values."""
        stats = []
        for file in held:
            stat = await self._storages.backend(self._storages.known(file.storage_n)).stat(file.path)
            stats.append(stat)
        size = sum(stat.size for stat in stats if stat is not None)
        name = held[0].path
        if size != expected.size:
            raise Conflict(f"{name} has {size} bytes, its packing list says {expected.size}", id=held[0].id)
        if expected.sha1 is None:
            return False
        file, stat = held[0], stats[0]
        known = stat is not None and (file.size, file.mtime_ns) == (stat.size, stat.mtime_ns)
        sha1 = file.sha1 if len(held) == 1 and known else None
        sha1 = sha1 or await self._hash(run, held)
        if sha1 != expected.sha1:
            raise Conflict(f"{name} hashes to {sha1}, its packing list says {expected.sha1}", id=file.id)
        return True

    async def _hash(self, run: Run, held: Iterable[File]) -> str:
        """SHA-1 of the bytes of all chunks, one after the other."""
        digest = hashlib.sha1(usedforsecurity=False)
        for file in held:
            async with contextlib.aclosing(self._bytes(file)) as parts:  # type: ignore[type-var]
                async for part in parts:
                    await asyncio.to_thread(digest.update, part)
                    await run.check()
        return digest.hexdigest()

    # --- compositions -----------------------------------------------------------------------------

    async def _compositions(
        self, run: Run, assets: Sequence[imf.Asset], files: Mapping[UUID, tuple[File, ...]]
    ) -> list[tuple[File, tuple[UUID, ...]]]:
        """Return each composition's File and the track files it names, in the order of the map."""
        mapped = {asset.uuid for asset in assets}
        found = []
        for asset in assets:
            held = files[asset.uuid]
            if asset.packing_list or len(held) != 1 or not await self._may_be_xml(held[0]):
                continue
            await run.check()
            body = await self._document(held[0])
            if not await asyncio.to_thread(imf.is_composition, body):
                continue
            composition = await asyncio.to_thread(imf.parse_composition, body, held[0].path)
            for uuid in composition.track_files:
                if uuid not in mapped:
                    raise Invalid(held[0].path, f"names {uuid}, which the ASSETMAP does not map")
            found.append((held[0], composition.track_files))
        return found

    async def _may_be_xml(self, file: File) -> bool:
        """Whether the first byte that is no blank and no byte order mark is "<", and it is small."""
        backend = self._storages.backend(self._storages.known(file.storage_n))
        stat = await backend.stat(file.path)
        if stat is None or stat.size > imf.MAX_BYTES:
            return False
        reader = await backend.open(file.path)
        try:
            head = await reader.read(0, 256)
        finally:
            await reader.close()
        return head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00")[:1] == b"<"


def _shapes(
    asset_map: File,
    assets: Sequence[imf.Asset],
    files: Mapping[UUID, tuple[File, ...]],
    compositions: Sequence[tuple[File, tuple[UUID, ...]]],
) -> list[tuple[tuple[str, File], ...]]:
    """One shape a composition; what no composition names joins the first."""
    common = [("binary", asset_map)]
    common += [("binary", file) for asset in assets if asset.packing_list for file in files[asset.uuid]]
    shapes = []
    for playlist, tracks in compositions:
        parts = [("track", file) for uuid in tracks for file in files[uuid]]
        shapes.append([*parts, *common, ("binary", playlist)])
    placed = {file.n for shape in shapes for _, file in shape}
    for asset in assets:
        for file in files[asset.uuid]:
            if file.n not in placed:
                shapes[0].append(("binary", file))
                placed.add(file.n)
    return [tuple(shape) for shape in shapes]
