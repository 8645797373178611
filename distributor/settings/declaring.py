"""How a setting is declared: kinds of values, and the fields of a group. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from distributor import units


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


def yaml_text(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def unchanged(value: Any) -> Any:
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
    value = yaml_text(text) if text.strip() else []
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


TEXT = Kind("text", _read_text, unchanged, unchanged)
WHOLE = Kind("whole number", _read_whole, unchanged, yaml_text)
SWITCH = Kind("true or false", _read_switch, unchanged, yaml_text)
SIZE = Kind("size", units.parse_bytes, units.format_bytes, unchanged)
RATE = Kind("size per second", units.parse_bytes, units.format_bytes, unchanged)
DURATION = Kind("duration", units.parse_duration, units.format_duration, unchanged)
PATH = Kind("path", _read_path, _show_path, unchanged)
TEXTS = Kind("list of texts", _read_texts, list, _list_text)
PATHS = Kind("list of paths", _read_paths, lambda v: [_show_path(p) for p in v], _list_text)
MAP = Kind("mapping", _read_map, dict, yaml_text)
MEASURED_BY_LENGTH = (TEXT, TEXTS, PATHS, MAP)  # bounds are of the length


# --- declaring ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declared:
    """One declared field. It is also the default factory that msgspec keeps, so that
    `msgspec.structs.fields` finds it again: msgspec has no other place for such data.
    """

    kind: Kind
    help: str
    default: Any = None
    required: bool = False
    null: bool = False
    ge: Any = None
    le: Any = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    secret: bool = False
    mask: Callable[[Any], Any] | None = None
    group: type[Settings] | None = None
    many: bool = False

    def __call__(self) -> Any:
        if self.required:
            raise TypeError("a required setting was not given")
        if self.group is not None and not self.many:
            return None if self.null else self.group()
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
    mask: Callable[[Any], Any] | None = None,
    required: bool = False,
) -> Any:
    """Declare one value.

    default   as a person would write it ("10G"); None: absent, and then null is allowed
    ge, le    bounds, inclusive, written as the default is; of a text, list or mapping: of its length
    choices   the only texts allowed; empty: any
    check     called with the value read; raises ValueError saying what is wrong, never quoting a secret
    secret    never written out, nor echoed in a problem; may be given as `<key>_file`
    mask      of a secret, what may be written out in its place; None: nothing of it
    required  must be given; `default` is not looked at

    Raises ValueError, at import, when default or a bound is not of the kind.
    """
    sized = kind in MEASURED_BY_LENGTH
    return msgspec.field(
        default_factory=Declared(
            kind=kind,
            help=help,
            default=None if default is None else kind.read(default),
            required=required,
            null=default is None and not required,
            ge=ge if ge is None or sized else kind.read(ge),
            le=le if le is None or sized else kind.read(le),
            choices=choices,
            check=check,
            secret=secret,
            mask=mask,
        )
    )


def section(group: type[Settings], *, optional: bool = False) -> Any:
    """Declare a group of settings below a key. optional: null, then the default, is allowed."""
    return msgspec.field(default_factory=Declared(kind=MAP, help=_help_of(group), null=optional, group=group))


def sections(group: type[S], default: Iterable[S] = (), *, ge: int = 0) -> Any:
    """Declare a list of groups. default: its members; ge: least number of members."""
    return msgspec.field(
        default_factory=Declared(
            kind=TEXTS, help=_help_of(group), default=tuple(default), ge=ge or None, group=group, many=True
        )
    )


def _help_of(group: type[Settings]) -> str:
    return " ".join((group.__doc__ or "").split())


def declared_fields(group: type[Settings]) -> Iterator[tuple[str, Declared]]:
    for info in msgspec.structs.fields(group):
        if not isinstance(info.default_factory, Declared):
            raise TypeError(f"{group.__name__}.{info.name} is not declared with setting() or section()")
        yield info.name, info.default_factory


class LogSettings(Settings, frozen=True):
    """What is written to standard error."""

    level: str = setting(
        "info", choices=("debug", "info", "warning", "error"), help="Least severity written."
    )
    format: str = setting(
        "text", choices=("text", "json"), help="One line of text, or one JSON object, a record."
    )
    access: bool = setting(True, kind=SWITCH, help="Write a line for every request answered.")
