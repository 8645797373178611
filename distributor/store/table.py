"""The stored responses of one store, in memory: by key, in key order, in order of use.

Those in use are `Entry` objects; the others are their packed rows, some 200 bytes each. An entry is
packed again when it has not been used for a while and nobody has it pinned; whoever still holds it
gets the very same object from a later look-up, by a weak reference.

Belongs to the event loop. Nothing here waits or touches the disk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from weakref import WeakValueDictionary

from distributor.core.eviction import EvictionPolicy
from distributor.errors import BlobDamaged
from distributor.store import rows
from distributor.store.rows import Entry

_WARM = 1024
_CHUNK = 512
_DIRTY = 20_000


class SortedKeys:
    """Distinct strings in order: chunks of at most 2 * _CHUNK, 8 bytes a key."""

    def __init__(self) -> None:
        self._chunks: list[list[str]] = []
        self._firsts: list[str] = []

    def add(self, key: str) -> None:
        if not self._chunks:
            self._chunks.append([key])
            self._firsts.append(key)
            return
        at = max(0, bisect_right(self._firsts, key) - 1)
        chunk = self._chunks[at]
        insort(chunk, key)
        self._firsts[at] = chunk[0]
        if len(chunk) > 2 * _CHUNK:
            self._chunks.insert(at + 1, chunk[_CHUNK:])
            self._firsts.insert(at + 1, chunk[_CHUNK])
            del chunk[_CHUNK:]

    def remove(self, key: str) -> None:
        """`key` must be there."""
        at = max(0, bisect_right(self._firsts, key) - 1)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, key)]
        if chunk:
            self._firsts[at] = chunk[0]
        else:
            del self._chunks[at]
            del self._firsts[at]

    def after(self, key: str | None) -> Iterator[str]:
        """Keys > `key` in order; None: all."""
        at = 0 if key is None else max(0, bisect_right(self._firsts, key) - 1)
        for chunk in islice(self._chunks, at, None):
            start = 0 if key is None else bisect_right(chunk, key)
            yield from islice(chunk, start, None)


class Table:
    """Stored responses by key.

    dirty       keys whose use the index does not know of yet, oldest use first; bounded
    unreadable  told of a row taken out because it cannot be decoded
    """

    def __init__(self, policy: EvictionPolicy, unreadable: Callable[[str, bytes], None]) -> None:
        self.policy = policy
        self._unreadable = unreadable
        self.dirty: dict[str, None] = {}
        # Told of each key that leaves, before its file goes.
        self.on_leave: Callable[[str], None] | None = None
        # Keys that left since the start, while rows of an earlier process are still being read.
        self.gone: set[str] | None = set()
        self.complete_objects = 0
        self.partial_objects = 0
        self._all: dict[str, bytes | Entry] = {}
        self._warm: OrderedDict[str, Entry] = OrderedDict()
        self._weak: WeakValueDictionary[str, Entry] = WeakValueDictionary()
        self._sorted = SortedKeys()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, key: str) -> bool:
        return key in self._all

    def get(self, key: str) -> Entry | None:
        found = self._all.get(key)
        if found is None or type(found) is Entry:
            return found
        assert isinstance(found, bytes)
        return self._thaw(key, found)

    def raw(self, key: str) -> bytes | Entry | None:
        """As it is kept: for those who need the head only."""
        return self._all.get(key)

    def holds(self, entry: Entry) -> bool:
        """Whether a look-up of its key would give this entry."""
        found = self._all.get(entry.key)
        return found is entry or (found is not None and self._weak.get(entry.key) is entry)

    def add(self, entry: Entry) -> None:
        """Put a new entry under a key that is free."""
        self._join(entry.key, entry, entry.complete, entry.account.written + entry.account.reserved)

    def adopt(self, key: str, row: bytes) -> None:
        """Put an admitted row under a key that is free."""
        self._join(key, row, rows.is_complete(row), rows.held(row))

    def warm(self, entry: Entry) -> None:
        """Note that an entry is in use: it stays decoded for a while."""
        if not self.holds(entry):
            return
        self._all[entry.key] = entry
        self._warm[entry.key] = entry
        self._warm.move_to_end(entry.key)
        while len(self._warm) > _WARM:
            self._cool(*self._warm.popitem(last=False))

    def use(self, entry: Entry) -> None:
        """Note a use that the index is to learn of."""
        key = entry.key
        self.policy.used(key)
        if self._warm.get(key) is entry:
            self._warm.move_to_end(key)
        else:
            self.warm(entry)
        dirty = self.dirty
        if key in dirty:
            del dirty[key]
            dirty[key] = None
        elif len(dirty) < _DIRTY:
            dirty[key] = None

    def completed(self, entry: Entry) -> None:
        """A partial entry of this table is complete now."""
        self.partial_objects -= 1
        self.complete_objects += 1

    def remove(self, key: str, *, evicted: bool = False) -> bytes | Entry | None:
        """Take `key` out; what a holder or the table has of it, the holder's entry marked detached."""
        found = self._all.pop(key, None)
        if found is None:
            return None
        if self.on_leave is not None:
            self.on_leave(key)
        if self.gone is not None:
            self.gone.add(key)
        held = self._weak.pop(key, None)
        if held is not None:
            found = held
        self._warm.pop(key, None)
        self.dirty.pop(key, None)
        self._sorted.remove(key)
        (self.policy.evicted if evicted else self.policy.removed)(key)
        if isinstance(found, Entry):
            found.detached = True
            complete = found.complete
        else:
            complete = rows.is_complete(found)
        if complete:
            self.complete_objects -= 1
        else:
            self.partial_objects -= 1
        return found

    def size_of(self, key: str) -> int | None:
        """Bytes that its leaving would free; None while it is pinned."""
        found = self._all[key]
        if isinstance(found, Entry):
            return None if found.pins else found.account.written
        return rows.held(found)

    def last_used_at(self, key: str) -> float:
        found = self._all[key]
        return found.last_used_at if isinstance(found, Entry) else rows.last_used_at(found)

    def row(self, key: str) -> bytes | None:
        """The row of `key` as it is now; None for what has none yet: a blob nothing is durable of."""
        found = self._all.get(key)
        if isinstance(found, Entry):
            return rows.pack(found) if found.complete or found.packed is not None else None
        return found

    def all_keys(self) -> list[str]:
        """All keys, in no order; a copy."""
        return list(self._all)

    def entries(self) -> list[Entry]:
        """All that are decoded; a copy."""
        return [found for found in self._all.values() if isinstance(found, Entry)]

    def scan(self, after: str | None, limit: int) -> list[Entry]:
        """Up to `limit` entries by key order, keys > after."""
        # All keys of the page first: a row that cannot be read leaves while it is got.
        page = list(islice(self._sorted.after(after), limit))
        return [entry for key in page if (entry := self.get(key)) is not None]

    def variants(self, asset_id: str) -> list[Entry]:
        """All entries of an asset id: its key is the id, then "?" and a query, or LF and a variant."""
        return self._beginning(asset_id, f"{asset_id}\n", f"{asset_id}?")

    def alike(self, primary: str) -> list[Entry]:
        """The entry of a key without variant, and those of its variants."""
        return self._beginning(primary, f"{primary}\n")

    def _beginning(self, exact: str, *prefixes: str) -> list[Entry]:
        keys = [exact]
        for prefix in prefixes:
            for key in self._sorted.after(prefix):
                if not key.startswith(prefix):
                    break
                keys.append(key)
        return [entry for key in keys if (entry := self.get(key)) is not None]

    def _join(self, key: str, found: bytes | Entry, complete: bool, size: int) -> None:
        assert key not in self._all
        self._all[key] = found
        self._sorted.add(key)
        self.policy.added(key, size)
        if complete:
            self.complete_objects += 1
        else:
            self.partial_objects += 1

    def _thaw(self, key: str, row: bytes) -> Entry | None:
        entry = self._weak.get(key)
        if entry is None:
            try:
                entry = rows.unpack(key, row)
            except BlobDamaged:
                self.remove(key)
                self._unreadable(key, row)
                return None
        self._all[key] = entry
        self.warm(entry)
        return entry

    def _cool(self, key: str, entry: Entry) -> None:
        # Pinned, or nothing of it packed: it comes back to `warm` when the last pin is given back.
        if self._all.get(key) is not entry or entry.pins or entry.unsaved:
            return
        self._all[key] = rows.pack(entry)
        self._weak[key] = entry
