"""The catalog search, for one caller: what it may see, and where its walk stands."""

from __future__ import annotations

from dataclasses import dataclass, replace

from origin.catalog.search_pages import COUNTED
from origin.catalog.searching import Entry, Location, Searcher, Window
from origin.core.marks import decode_mark, encode_mark
from origin.core.search import Facets, Field, SearchQuery
from origin.domain.model import Caller, Storage
from origin.ports import Clock
from origin.services.access import Access
from origin.services.storages import Storages

__all__ = ["Entry", "Location", "Result", "Search"]


@dataclass(frozen=True, slots=True)
class Result:
    """count: matches when the walk began; None: at least `count_at_least`. mark: for the next page,
    the one that was sent when there were no more."""

    entries: list[Entry]
    count: int | None
    mark: str
    facets: Facets | None
    storages: dict[int, Storage]

    @property
    def count_at_least(self) -> int:
        return COUNTED + 1 if self.count is None else self.count


class Search:
    def __init__(self, searcher: Searcher, access: Access, storages: Storages, clock: Clock) -> None:
        self._access = access
        self._searcher = searcher
        self._storages = storages
        self._clock = clock

    async def find(
        self,
        caller: Caller,
        query: SearchQuery,
        *,
        rows: int,
        mark: str = "*",
        skip: int = 0,
        facets: tuple[Field, ...] = (),
        facet_limit: int = 10,
    ) -> Result:
        """mark: "*" for the first page, else that of the page before. skip: not with a mark.

        Entries are the caller's to see by their primary copy; only storages it may read are named.
        Raises Invalid for a bad mark, Unavailable.
        """
        after = None if mark == "*" else decode_mark(query, mark)
        seen = {storage.n: storage for storage in await self._storages.listing(caller)}
        hidden = [storage.n for storage in self._storages.everything() if storage.n not in seen]
        window = Window(
            rows,
            after,
            skip,
            facets=facets if after is None else (),
            facet_limit=facet_limit,
            now_ms=self._clock.now_ms(),
        )
        names = {n: storage.name for n, storage in seen.items()}
        closed = self._access.closed_to(caller)
        found = await self._searcher.search(query, window, names, hidden, closed)
        at = mark if not found.entries or found.last is None else encode_mark(query, found.last)
        if closed:
            found = replace(found, entries=[_without(entry, set(closed)) for entry in found.entries])
        return Result(found.entries, found.count, at, found.facets, seen)


def _without(entry: Entry, closed: set[tuple[int, str]]) -> Entry:
    """Leave out the copies that lie in closed folders."""
    kept = [
        place for place in entry.locations if (place.storage_n, place.path.partition("/")[0]) not in closed
    ]
    return replace(entry, locations=tuple(kept))
