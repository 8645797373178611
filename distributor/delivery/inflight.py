"""The table of fetches under way: one per cache key, registered before any connection is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Startable(Protocol):
    """What the table needs to know of a fetch."""

    @property
    def key(self) -> str: ...

    def start(self) -> None: ...


F = TypeVar("F", bound=Startable)


class InFlight(Generic[F]):
    """Fetches that take new readers, by key. A fetch leaves it before it ends, or as it ends."""

    def __init__(self) -> None:
        self._fetches: dict[str, F] = {}

    def __len__(self) -> int:
        return len(self._fetches)

    def __iter__(self) -> Iterator[F]:
        return iter(list(self._fetches.values()))

    def get(self, key: str) -> F | None:
        return self._fetches.get(key)

    def join_or_start(self, key: str, make: Callable[[], F]) -> tuple[F, bool]:
        """Return the fetch under way for `key`, or a new one, registered and started; True: it is new.

        There is no await between the look-up and the registration, so of any number of
        simultaneous callers exactly one starts.
        """
        fetch = self._fetches.get(key)
        if fetch is not None:
            return fetch, False
        fetch = make()
        self._fetches[key] = fetch
        fetch.start()
        return fetch, True

    def moved(self, fetch: F, before: str) -> None:
        """`fetch` was registered for the key `before` and now has another, which may be taken."""
        if self._fetches.get(before) is fetch:
            del self._fetches[before]
            self._fetches.setdefault(fetch.key, fetch)

    def leave(self, fetch: F) -> None:
        """Take `fetch` out, if it is the one registered for its key; later calls do nothing."""
        if self._fetches.get(fetch.key) is fetch:
            del self._fetches[fetch.key]
