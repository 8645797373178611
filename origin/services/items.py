"""Items and which Files belong to them. A File is importable while no component names it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import items as rows
from origin.catalog.database import Database
from origin.domain.items import Item, Place
from origin.domain.model import Caller, File, make_id, number_of
from origin.errors import Conflict, NotFound
from origin.services.publishing import With


class Items:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, caller: Caller, id: str) -> Item:
        """Raises NotFound("Item")."""
        async with self._database.read() as connection:
            item = await rows.get(connection, number_of(id) or 0)
        if item is None:
            raise NotFound("Item", id)
        return item

    async def places(self, file_ns: Sequence[int]) -> dict[int, list[Place]]:
        """Return where each File stands; those that belong to no item are left out."""
        found: dict[int, list[Place]] = defaultdict(list)
        async with self._database.read() as connection:
            for place in await rows.places(connection, file_ns):
                found[place.file_n].append(place)
        return dict(found)

    async def abandon(self, file: File, item_id: str | None) -> None:
        """Take a File, which the caller may write, out of one item, or of all. Shapes stay.

        Raises NotFound("Item") when the named item does not hold the File.
        """
        item_n = None if item_id is None else number_of(item_id) or 0
        async with self._database.write() as connection:
            taken = await rows.take_out(connection, file.n, item_n)
            if item_id is not None and not taken:
                raise NotFound("Item", item_id)

    def following(self, old: File, *, replace: bool) -> With:
        """Return what makes a new File join every component that `old` is in, in the transaction that
        makes it; replace: and takes `old` out of them."""

        async def follow(connection: AsyncConnection, new: File) -> None:
            await rows.join(connection, old.n, new.n, replace=replace)

        return follow

    async def refuse_storage_in_use(self, storage_n: int) -> None:
        """Raise Conflict when a File on the storage belongs to an item."""
        async with self._database.read() as connection:
            file_n = await rows.storage_in_use(connection, storage_n)
        if file_n is not None:
            raise Conflict(f"{make_id(file_n)} belongs to an item", context="storage", id=make_id(storage_n))
