"""Which routes a path leads to, and what its segments stand for. A dialect says what no route is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

__all__ = ["BadPath", "RouteTable"]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadPath(ValueError):
    """The path is not percent-encoded UTF-8."""


class _Route(Protocol):
    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str:
        """Segments; "{name}" stands for any that is not empty."""


R = TypeVar("R", bound=_Route)


class RouteTable(Generic[R]):
    """Routes by their segments; a literal segment goes before a name.

    reserved  what the second segment of a path never is where it stands for a name
    """

    def __init__(self, routes: Iterable[R], reserved: frozenset[str] = frozenset()) -> None:
        self._reserved = reserved
        self._by_length: dict[int, list[tuple[tuple[str, ...], dict[str, R]]]] = {}
        for route in routes:
            shape = tuple(route.path.strip("/").split("/"))
            same = self._by_length.setdefault(len(shape), [])
            methods = next((methods for known, methods in same if known == shape), None)
            if methods is None:
                methods = {}
                same.append((shape, methods))
            methods[route.method] = route
        for same in self._by_length.values():
            same.sort(key=lambda entry: [part.startswith("{") for part in entry[0]])

    def find(self, path: str) -> tuple[Mapping[str, R], dict[str, str]] | None:
        """Return routes by method, and decoded segments by name; None: nothing is there. path: raw.

        Raises BadPath.
        """
        parts = path.lstrip("/").split("/")
        fixed = len(parts) > 1 and parts[1] in self._reserved
        for shape, methods in self._by_length.get(len(parts), []):
            if fixed and shape[1] != parts[1]:
                continue
            if all(s.startswith("{") or s == p for s, p in zip(shape, parts, strict=True)):
                named = zip(shape, parts, strict=True)
                args = {s[1:-1]: _decode(p) for s, p in named if s.startswith("{")}
                if all(args.values()):
                    return methods, args
        return None


def _decode(segment: str) -> str:
    if _BAD_ESCAPE.search(segment):
        raise BadPath(segment)
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise BadPath(segment) from None
