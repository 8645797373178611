"""From a tree of settings to a listing, a sample file and a reference page. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from distributor.settings.declaring import (
    MEASURED_BY_LENGTH,
    Declared,
    Settings,
    declared_fields,
    unchanged,
)

MASK = "********"


class Row(NamedTuple):
    """One setting or group, for reference pages.

    key      dotted; members of a list as `key[]`
    kind     what it takes, choices and bounds included
    default  as YAML writes it in one line; "" for a group that is always there
    help     one or more sentences
    group    True for a group of settings, False for one value
    """

    key: str
    kind: str
    default: str
    help: str
    group: bool


def describe(group: type[Settings], key: str = "") -> list[Row]:
    """Return a row for every setting and group below `group`, in the order declared."""
    rows: list[Row] = []
    for name, declared in declared_fields(group):
        path = f"{key}.{name}" if key else name
        if declared.group is not None:
            path += "[]" if declared.many else ""
            kind = "list" if declared.many else "group, or null" if declared.null else "group"
            members = [_given(member) for member in declared.default] if declared.many else None
            default = _inline(members) if declared.many else "null" if declared.null else ""
            rows.append(Row(path, kind, default, declared.help, True))
            rows += describe(declared.group, path)
        else:
            default = "required" if declared.required else _inline(_shown(declared, declared.default))
            rows.append(Row(path, _kind_text(declared), default, declared.help, False))
    return rows


def _given(member: Settings) -> dict[str, Any]:
    """Return what of a list's member differs from the defaults, as YAML would write it."""
    plain = as_plain(member, masked=False)
    return {
        name: plain[name]
        for name, declared in declared_fields(type(member))
        if declared.required or getattr(member, name) != declared()
    }


def _kind_text(declared: Declared) -> str:
    parts = [", ".join(declared.choices) if declared.choices else declared.kind.name]
    shown = unchanged if declared.kind in MEASURED_BY_LENGTH else declared.kind.show
    length = "length " if declared.kind in MEASURED_BY_LENGTH else ""
    if declared.ge is not None and declared.le is not None:
        parts.append(f"{length}{shown(declared.ge)} to {shown(declared.le)}")
    elif declared.ge is not None:
        parts.append(f"{length}at least {shown(declared.ge)}")
    elif declared.le is not None:
        parts.append(f"{length}at most {shown(declared.le)}")
    if declared.null:
        parts.append("or null")
    if declared.secret:
        parts.append("secret")
    return "; ".join(parts)


def _shown(declared: Declared, value: Any, *, masked: bool = False) -> Any:
    if value is None:
        return None
    if masked and declared.secret:
        return declared.mask(value) if declared.mask else MASK
    return declared.kind.show(value)


def _inline(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def as_plain(config: Settings, *, masked: bool = True) -> dict[str, Any]:
    """Return the settings as YAML would write them: sizes and durations with units, secrets masked."""
    plain: dict[str, Any] = {}
    for name, declared in declared_fields(type(config)):
        value = getattr(config, name)
        if declared.many:
            plain[name] = [as_plain(member, masked=masked) for member in value]
        elif isinstance(value, Settings):
            plain[name] = as_plain(value, masked=masked)
        else:
            plain[name] = _shown(declared, value, masked=masked)
    return plain


def dump(config: Settings) -> str:
    """Return the settings in force as YAML, secrets masked."""
    text: str = yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True, width=10_000)
    return text


def sample(group: type[Settings], examples: Mapping[str, Any] | None = None) -> str:
    """Return an annotated YAML file of every setting with its default, which loads as the defaults.

    examples  key → value shown, commented out, where the default is null or empty
    """
    return "\n".join(_sample_lines(group, None, "", 0, examples or {})) + "\n"


def _sample_lines(
    group: type[Settings], made: Settings | None, key: str, depth: int, examples: Mapping[str, Any]
) -> Iterator[str]:
    pad = "  " * depth
    for name, declared in declared_fields(group):
        path = f"{key}.{name}" if key else name
        if depth == 0:
            yield ""
        kind = "" if declared.group else f" [{_kind_text(declared)}]"
        yield from textwrap.wrap(
            f"{declared.help}{kind}", 100, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# "
        )
        value = getattr(made, name) if made is not None else None if declared.required else declared()
        if declared.many and declared.group is not None and value:
            yield f"{pad}{name}:"
            for member in value:
                lines = list(_sample_lines(declared.group, member, path, depth + 2, examples))
                first = next(n for n, line in enumerate(lines) if not line.lstrip().startswith("#"))
                lines[first] = f"{pad}  - {lines[first].lstrip()}"
                yield from lines
        elif isinstance(value, Settings):
            yield f"{pad}{name}:"
            yield from _sample_lines(type(value), value, path, depth + 1, examples)
        else:
            yield f"{pad}{name}: {_inline(_shown(declared, value) if not declared.many else [])}"
        if path in examples:
            yield f"{pad}# {name}: {_inline(examples[path])}"
