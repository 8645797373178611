"""Typed settings for both programs: one place for key, type, default, bounds and help text.

A program's settings are a tree of frozen `Settings` structs whose fields are made by `setting`,
`section` or `sections`. From that tree come the loader, the listing of what is in force, the
sample file and the reference page, so that none of them can say something else.

Order of strength: `--set key.path=value`, environment, file, default. Every bad value is reported,
not only the first, each line beginning with its dotted key (`SettingsError.problems`).

A secret `x` of type text may be given as `x_file`, the path of a file that holds it.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from distributor import units
from distributor.errors import SettingsError

__all__ = [
    "LogSettings",
    "Row",
    "Settings",
    "SettingsError",
    "describe",
    "dump",
    "load",
    "read_or_make_secret",
    "sample",
    "section",
    "sections",
    "setting",
]

MASK = "********"
_MAX_SECRET_FILE = 64 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every group of settings. The docstring of a subclass is its help text."""

    def problems(self) -> Iterable[tuple[str, str]]:
        """Yield (key within this group, what is wrong) for rules that span several values."""
        return ()


S = TypeVar("S", bound=Settings)


# --- kinds of values ---------------------------------------------------------------------------


class Kind(NamedTuple):
    """How one type of value is read and written.

    name   for people: "size", "duration", …
    read   from what YAML gave to the value kept; raises ValueError saying what is wrong
    show   from the value kept to what YAML is to write
    text   from the text of `--set` or of the environment to what `read` takes
    """

    name: str
    read: Callable[[Any], Any]
    show: Callable[[Any], Any]
    text: Callable[[str], Any]


def _yaml_text(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _same(value: Any) -> Any:
    return value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text (put it in quotes), not {value!r}")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("must not contain control characters")
    return value


def _read_whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {value!r}")
    return value


def _read_switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def _read_path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError(f"must be a path, not {value!r}")
    return Path(value).expanduser()


def _show_path(value: Path) -> str:
    text = str(value)
    return text if value.is_absolute() or text.startswith("..") else f"./{text}"


def _list_text(text: str) -> Any:
    value = _yaml_text(text)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list) or value is None else [text.strip()]


def _read_texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, not {value!r}")
    return tuple(_read_text(member) for member in value)


def _read_paths(value: Any) -> tuple[Path, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, not {value!r}")
    return tuple(_read_path(member) for member in value)


def _read_map(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of names to texts")
    return {_read_text(name): _read_text(text) for name, text in value.items()}


TEXT = Kind("text", _read_text, _same, _same)
WHOLE = Kind("whole number", _read_whole, _same, _yaml_text)
SWITCH = Kind("true or false", _read_switch, _same, _yaml_text)
SIZE = Kind("size", units.parse_bytes, units.format_bytes, _same)
RATE = Kind("size per second", units.parse_bytes, units.format_bytes, _same)
DURATION = Kind("duration", units.parse_duration, units.format_duration, _same)
PATH = Kind("path", _read_path, _show_path, _same)
TEXTS = Kind("list of texts", _read_texts, list, _list_text)
PATHS = Kind("list of paths", _read_paths, lambda v: [_show_path(p) for p in v], _list_text)
MAP = Kind("mapping", _read_map, dict, _yaml_text)


# --- declaring ---------------------------------------------------------------------------------


class _Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One declared field; also the default factory that msgspec calls, hence reachable from it."""

    kind: Kind
    default: Any
    required: bool = False
    null: bool = False
    help: str = ""
    ge: Any = None
    le: Any = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    secret: bool = False
    group: type[Settings] | None = None
    many: bool = False

    def __call__(self) -> Any:
        return dict(self.default) if isinstance(self.default, dict) else self.default


def setting(
    default: Any = None,
    *,
    kind: Kind = TEXT,
    help: str,
    ge: Any = None,
    le: Any = None,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], None] | None = None,
    secret: bool = False,
    required: bool = False,
) -> Any:
    """Declare one value.

    default   as a person would write it ("10G"); None: absent, and then null is allowed
    ge, le    bounds, inclusive, written as the default is; of a text or list: of its length
    choices   the only texts allowed; empty: any
    check     called with the value read; raises ValueError saying what is wrong
    secret    never written out; may be given as `<key>_file`
    required  must be given, default is not looked at

    Raises ValueError at import when the default is not of its own kind.
    """
    sized = kind in (TEXT, TEXTS, PATHS, MAP)
    declared = _Setting(
        kind=kind,
        default=None if default is None else kind.read(default),
        required=required,
        null=default is None and not required,
        help=help,
        ge=ge if ge is None or sized else kind.read(ge),
        le=le if le is None or sized else kind.read(le),
        choices=choices,
        check=check,
        secret=secret,
    )
    return msgspec.field() if required and _remember(declared) else msgspec.field(default_factory=declared)


def section(group: type[Settings], *, optional: bool = False, help: str = "") -> Any:
    """Declare a group of settings below a key; optional: null, the default, is allowed."""
    declared = _Setting(
        kind=MAP, default=None, null=optional, group=group, help=help or _first_sentence(group)
    )
    if optional:
        return msgspec.field(default_factory=declared)
    return msgspec.field(default_factory=_GroupDefault(declared=declared, group=group))


def sections(group: type[S], default: Iterable[S] = (), *, help: str = "", ge: int = 0) -> Any:
    """Declare a list of groups; ge: least number of members."""
    declared = _Setting(
        kind=TEXTS,
        default=tuple(default),
        ge=ge,
        group=group,
        many=True,
        help=help or _first_sentence(group),
    )
    return msgspec.field(default_factory=declared)
