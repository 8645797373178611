"""The tree of folders and Files, each below the root of its storage, and where else a content lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as file_rows
from origin.catalog import tree as rows
from origin.catalog.database import Database
from origin.catalog.tree import Folder
from origin.core.conditions import Condition, Order, Sign
from origin.domain.model import Caller, File, Storage
from origin.domain.rights import Verb
from origin.errors import NotFound
from origin.services.access import Access
from origin.services.storages import Storages


@dataclass(frozen=True, slots=True)
class Node:
    """A folder (file None) or a File (folder None).

    parent   number of the folder it lies in; None for a root
    cached   of a File: a readable copy is on an online storage; None for a folder
    """

    storage: Storage
    parent: int | None
    folder: Folder | None = None
    file: File | None = None
    cached: bool | None = None

    @property
    def path(self) -> str:
        """On the storage; "" for its root."""
        return self.file.path if self.file else self.folder.path if self.folder else ""


class Tree:
    def __init__(self, database: Database, access: Access, storages: Storages) -> None:
        self._database = database
        self._access = access
        self._storages = storages

    async def roots(self, caller: Caller) -> list[Node]:
        """One for each storage the caller may read, by number of the storage."""
        seen = {storage.n: storage for storage in await self._storages.listing(caller)}
        async with self._database.read() as connection:
            found = await rows.roots(connection, list(seen))
        nodes = [Node(seen[folder.storage_n], None, folder=folder) for folder in found]
        return sorted(nodes, key=lambda node: node.storage.n)

    async def root(self, storage: Storage) -> Node:
        return await self.at(storage, "")

    async def at(self, storage: Storage, path: str, caller: Caller | None = None) -> Node:
        """The File or folder at a path of normal form. Raises NotFound.

        caller  None: rights were asked; else Unauthenticated, Forbidden too
        """
        if caller is not None:
            self._access.require(caller, Verb.READ, self._access.thing(storage, path or None))
        async with self._database.read() as connection:
            file = await file_rows.at_path(connection, storage.n, path) if path else None
            folder = await rows.folder_at(connection, storage.n, path) if file is None else None
            if file is None and folder is None:
                raise NotFound("File", path)
            return await self._node(connection, storage, folder, file)

    async def get(self, caller: Caller, n: int, storage: Storage | None = None) -> Node:
        """By number, on any storage or on one. Raises NotFound, Unauthenticated, Forbidden."""
        async with self._database.read() as connection:
            file = await file_rows.get(connection, n)
            folder = await rows.folder(connection, n) if file is None else None
            held = file or folder
            if held is None or (storage is not None and held.storage_n != storage.n):
                raise NotFound("File", str(n))
            place = self._storages.known(held.storage_n)
            self._access.require(caller, Verb.READ, self._access.thing(place, held.path or None))
            return await self._node(connection, place, folder, file)

    async def _node(
        self, connection: AsyncConnection, storage: Storage, folder: Folder | None, file: File | None
    ) -> Node:
        if file is None:
            return Node(storage, folder.parent_n if folder else None, folder=folder)
        parents = await rows.parents_of(connection, [file])
        cached = await rows.cached(connection, [file.n])
        return Node(storage, parents.get(file.n), file=file, cached=file.n in cached)

    async def children(
        self,
        caller: Caller,
        folder: Node,
        conditions: Sequence[Condition],
        order: Sequence[Order],
        first: int,
        number: int,
    ) -> tuple[list[Node], int]:
        """One page of what lies directly in a folder, and how many there are. Of a File: NotFound.

        Folders whose Files the caller may not read are left out.
        """
        if folder.folder is None:
            raise NotFound("Folder", str(folder.file.n if folder.file else ""))
        closed = [name for n, name in self._access.closed_to(caller) if n == folder.storage.n]
        if closed and not folder.folder.path:
            conditions = [*conditions, Condition("name", Sign.NOT_IN, tuple(closed))]
        async with self._database.read() as connection:
            found, total = await rows.children(connection, folder.folder, conditions, order, first, number)
            inner = await rows.folders_by_number(connection, [n for n, is_folder in found if is_folder])
            files = await rows.files_by_number(connection, [n for n, is_folder in found if not is_folder])
            cached = await rows.cached(connection, list(files))
        here = folder.folder.n
        nodes = []
        for n, is_folder in found:
            if is_folder:
                nodes.append(Node(folder.storage, here, folder=inner[n]))
            else:
                nodes.append(Node(folder.storage, here, file=files[n], cached=n in cached))
        return nodes, total

    async def locations(self, caller: Caller, file: File) -> list[tuple[Storage, File]]:
        """One for each storage with a copy that the caller may read, the File's own first, then by name.

        Of several copies on one storage that of equal path, else the first.
        """
        async with self._database.read() as connection:
            found = await rows.copies(connection, file)
        best: dict[int, File] = {}
        for copy in sorted(found, key=lambda c: (c.n != file.n, c.path != file.path, c.n)):
            best.setdefault(copy.storage_n, copy)
        seen = {storage.n: storage for storage in await self._storages.listing(caller)}
        places = [(seen[n], copy) for n, copy in best.items() if n in seen]
        closed = set(self._access.closed_to(caller))
        places = [place for place in places if (place[0].n, place[1].path.partition("/")[0]) not in closed]
        return sorted(places, key=lambda place: (place[0].n != file.storage_n, place[0].name))
