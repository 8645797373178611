"""Reading a request target: segments, matrix parameters, query parameters. Pure.

Routers that match decoded paths cannot do it: `{path}` and `{uri}` are one segment whose slashes are
`%2F`, and matrix parameters may follow any segment, also an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from origin.api.vidispine.problems import invalid

_ABSOLUTE_FORM = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_ID = re.compile(r"\w\w-[0-9]+", re.ASCII)
_TRUE, _FALSE = {"true", "1"}, {"false", "0"}
_MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Target:
    """A target as read.

    api       whether it stood under /API (the mount at the root serves /storage only)
    segments  decoded, none empty
    params    matrix and query parameters
    """

    api: bool
    segments: tuple[str, ...]
    params: Params


def read_target(raw: str) -> Target:
    """Read a raw request target, as it stood in the request line.

    Raises Problem 400 where percent-decoding does not give UTF-8.
    """
    path, _, query = _ABSOLUTE_FORM.sub("", raw, count=1).partition("?")
    bodies: list[str] = []
    matrix: list[tuple[str, str]] = []
    for part in path.split("/"):
        body, *rest = part.split(";")
        matrix += [_pair(piece, plus=False) for piece in rest if piece]
        if body:
            bodies.append(_decode(body, "path"))
    api = bodies[:1] == ["API"]
    pairs = [_pair(piece, plus=True) for piece in query.split("&") if piece]
    return Target(api, tuple(bodies[1:] if api else bodies), Params(pairs, matrix))


def is_id(text: str) -> bool:
    """Whether a segment has the form of an id, so that it cannot be an operation's name."""
    return _ID.fullmatch(text) is not None


class Params:
    """The parameters of one call. A parameter that is present but empty counts as absent.

    Readers raise Problem 400 whose context is the parameter's name.
    """

    def __init__(self, query: Iterable[tuple[str, str]] = (), matrix: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in (*query, *matrix):  # query first: for a single value it wins
            if value:
                self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """Return the first value, the query's before the matrix's; None when absent."""
        values = self._values.get(name)
        return values[0] if values else None

    def boolean(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        raise invalid(name, "must be true or false", value=value)

    def integer(self, name: str, *, least: int = 0, most: int = _MAX_INTEGER) -> int | None:
        """Return a decimal integer in [least, most]; None when absent."""
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,19}", value, re.ASCII) or not least <= int(value) <= most:
            bounds = f"an integer from {least} to {most}" if most < _MAX_INTEGER else f"an integer >= {least}"
            raise invalid(name, f"must be {bounds}", value=value)
        return int(value)

    def names(self, name: str) -> tuple[str, ...]:
        """Return a list parameter: repeated, comma-separated, or both; empty entries are dropped."""
        values = self._values.get(name, ())
        return tuple(entry for value in values for piece in value.split(",") if (entry := piece.strip()))

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return key=value entries, split at the first `=` only."""
        made = []
        for value in self._values.get(name, ()):
            key, equals, rest = value.partition("=")
            if not equals or not key:
                raise invalid(name, "must be key=value", value=value)
            made.append((key, rest))
        return tuple(made)

    def choice(self, name: str, options: Collection[str], default: str) -> str:
        """Return one of `options`, spelled as listed there."""
        value = self.text(name)
        if value is None:
            return default
        return _listed(name, value, options)

    def choices(self, name: str, options: Collection[str]) -> tuple[str, ...]:
        """Return a list parameter whose entries are all among `options`; empty when absent."""
        return tuple(_listed(name, value, options) for value in self.names(name))

    def sort(
        self, fields: Collection[str], default: tuple[tuple[str, bool], ...]
    ) -> tuple[tuple[str, bool], ...]:
        """Return `sort` as (field, descending) pairs; `default` when absent.

        Direction and field are parted by space or `+`, which a matrix parameter keeps literally.
        """
        made = []
        for entry in self.names("sort"):
            field, *direction = entry.replace("+", " ").split() or [entry]
            _listed("sort", field, fields)
            if len(direction) > 1 or (direction and direction[0] not in _DIRECTIONS):
                raise invalid("sort", "the direction must be asc or desc", value=entry)
            made.append((field, bool(direction) and _DIRECTIONS[direction[0]]))
        return tuple(made) or default


_DIRECTIONS = {"asc": False, "ascending": False, "desc": True, "descending": True}


def _listed(name: str, value: str, options: Collection[str]) -> str:
    if value not in options:
        raise invalid(name, f"must be one of {', '.join(options)}", value=value)
    return value


def _pair(piece: str, *, plus: bool) -> tuple[str, str]:
    key, _, value = piece.partition("=")
    if plus:
        key, value = key.replace("+", " "), value.replace("+", " ")
    name = _decode(key, "query" if plus else "path")
    return name, _decode(value, name)


def _decode(text: str, context: str) -> str:
    """Percent-decode exactly once. What follows no valid triplet stays as it is."""
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(context, "is not valid UTF-8") from None
