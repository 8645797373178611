"""What the edge remembers for a short time without storing it: negative answers and the like."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memory(Generic[T]):
    """Values by key, each until its own time; the oldest leave when more than `most` are held."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._items: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: str, value: T, until: float) -> None:
        """Remember `value` until the time `until` (same clock as `get`'s now)."""
        self._items[key] = (value, until)
        self._items.move_to_end(key)
        while len(self._items) > self._most:
            self._items.popitem(last=False)

    def get(self, key: str, now: float) -> tuple[T, float] | None:
        """(value, until), or None when there is none or its time is over."""
        item = self._items.get(key)
        if item is None:
            return None
        if item[1] <= now:
            del self._items[key]
            return None
        return item

    def forget(self, key: str) -> None:
        self._items.pop(key, None)

    def forget_if(self, matches: Callable[[str], bool]) -> None:
        """Forget every key that matches."""
        for key in [key for key in self._items if matches(key)]:
            del self._items[key]

    def clear(self) -> None:
        self._items.clear()
