"""From file, environment and command line to a tree of settings, noting every problem on the way."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distributor.errors import SettingsError
from distributor.settings.declaring import (
    MEASURED_BY_LENGTH,
    Declared,
    S,
    Settings,
    declared_fields,
    unchanged,
    yaml_text,
)
from distributor.settings.writing import as_plain, describe

_MAX_SECRET_FILE = 64 * 1024
_FILE, _ENVIRONMENT, _OVERRIDE = range(3)


@dataclass
class _Leaf:
    """A value as given. text: from the environment or `--set`, not yet parsed."""

    value: Any
    text: bool = False
    rank: int = _FILE
    given_by: str = ""


_Node = _Leaf | dict[str, Any] | list[Any]


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice; YAML itself would keep the last one silently."""


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
        if key in mapping:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key} is given twice", key_node.start_mark
            )
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def load(
    group: type[S], *, path: Path | None, overrides: Iterable[str], environ: Mapping[str, str], prefix: str
) -> S:
    """Return the settings in force.

    path       YAML file; None: no file
    overrides  "key.path=value" each, the strongest
    environ    read for names that begin with `prefix`, e.g. DISTRIBUTOR__CACHE__LIMIT=1G
    prefix     such as "DISTRIBUTOR__"

    Members of lists are named by number: `origin.sources.0.url`. Raises SettingsError with one line
    for each problem.
    """
    problems: list[str] = []
    tree: _Node = _file_tree(path, problems) if path is not None else {}
    layers = [
        *_environment(environ, prefix),
        *_overrides(overrides, problems),
    ]
    for keys, leaf in layers:
        _seed(group, tree, keys)
        _put(tree, keys, leaf, problems)
    reader = _Reader(group, problems)
    config = reader.group(group, tree, "")
    if problems or config is None:
        raise SettingsError(problems)
    return config


def _file_tree(path: Path, problems: list[str]) -> _Node:
    try:
        raw = path.read_text(encoding="utf-8")
        document = yaml.load(raw, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8")
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problems.append(f"{path}{place}: is no valid YAML: {getattr(error, 'problem', None) or 'syntax'}")
    else:
        if document is None or isinstance(document, dict):
            return _grow(document or {}, _FILE, "")
        problems.append(f"{path}: must be a mapping of settings")
    return {}


def _environment(environ: Mapping[str, str], prefix: str) -> Iterator[tuple[list[str], _Leaf]]:
    for name in sorted(environ, key=lambda name: (name.count("__"), name)):
        if name.startswith(prefix):
            keys = name[len(prefix) :].lower().split("__")
            yield keys, _Leaf(environ[name], True, _ENVIRONMENT, f" (environment {name})")


def _overrides(overrides: Iterable[str], problems: list[str]) -> Iterator[tuple[list[str], _Leaf]]:
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            problems.append(f"{key.strip() or '--set'}: --set needs key.path=value")
            continue
        yield key.strip().split("."), _Leaf(value, True, _OVERRIDE, " (--set)")


def _grow(value: Any, rank: int, given_by: str) -> _Node:
    if isinstance(value, dict):
        return {str(key): _grow(member, rank, given_by) for key, member in value.items()}
    if isinstance(value, list):
        return [_grow(member, rank, given_by) for member in value]
    return _Leaf(value, False, rank, given_by)


def _seed(group: type[Settings], tree: _Node, keys: list[str]) -> None:
    """Put a list's default members into the tree where one of them is about to be changed by number."""
    node = tree
    for key, following in itertools.pairwise(keys):
        declared = dict(declared_fields(group)).get(key)
        if declared is None or declared.group is None or not isinstance(node, dict):
            return
        if declared.many:
            if key not in node and following.isdecimal():
                members = [as_plain(member, masked=False) for member in declared.default]
                node[key] = _grow(members, _FILE, "")
            return
        node = node.get(key) or node.setdefault(key, {})
        group = declared.group


def _put(tree: _Node, keys: list[str], leaf: _Leaf, problems: list[str]) -> None:
    node: Any = tree
    for number, key in enumerate(keys):
        last = number == len(keys) - 1
        if isinstance(node, list):
            if not re.fullmatch(r"[0-9]{1,4}", key, re.ASCII) or int(key) > len(node):
                problems.append(f"{'.'.join(keys)}: there is no member {key}{leaf.given_by}")
                return
            if int(key) == len(node):
                node.append({})
            place: Any = int(key)
        else:
            place = key
        if last:
            node[place] = leaf
            return
        below = node[place] if isinstance(node, list) else node.get(place)
        if isinstance(below, _Leaf) and below.text:
            below = _grow(yaml_text(below.value), below.rank, below.given_by)
        if not isinstance(below, dict | list):
            below = [] if keys[number + 1] == "0" else {}
        node[place] = below
        node = below


def _plain(node: _Node) -> Any:
    if isinstance(node, dict):
        return {key: _plain(member) for key, member in node.items()}
    if isinstance(node, list):
        return [_plain(member) for member in node]
    return node.value


def _givers(node: _Node) -> Iterator[str]:
    if isinstance(node, _Leaf):
        yield node.given_by
    else:
        for member in node.values() if isinstance(node, dict) else node:
            yield from _givers(member)


def _given_by(node: _Node) -> str:
    return next((giver for giver in _givers(node) if giver), "")


class _Reader:
    """Turns the merged tree into structs, noting every problem on the way."""

    def __init__(self, root: type[Settings], problems: list[str]) -> None:
        self._problems = problems
        self._known = [row.key for row in describe(root)]

    def group(self, group: type[S], node: _Node, key: str) -> S | None:
        if isinstance(node, _Leaf):
            node = _grow(yaml_text(node.value) if node.text else node.value, node.rank, node.given_by)
        if isinstance(node, _Leaf) and node.value is None:
            node = {}
        if not isinstance(node, dict):
            self._problem(key, "must be a mapping of settings", node)
            return None
        before = len(self._problems)
        values: dict[str, Any] = {}
        rest = dict(node)
        for name, declared in declared_fields(group):
            path = f"{key}.{name}" if key else name
            given = rest.pop(name, None)
            if declared.secret and f"{name}_file" not in group.__struct_fields__:
                given = self._from_file(given, rest.pop(f"{name}_file", None), path)
            if given is not None:
                values[name] = self._value(declared, given, path)
            elif declared.required:
                self._problem(path, "must be given", {})
        for name, given in rest.items():
            self._unknown(group, f"{key}.{name}" if key else name, given)
        if len(self._problems) > before:
            return None
        made = group(**values)
        for name, message in made.problems():
            self._problem(f"{key}.{name}" if key else name, message, node.get(name, {}))
        return made

    def _value(self, declared: Declared, node: _Node, key: str) -> Any:
        if declared.many and declared.group is not None:
            return self._members(declared, declared.group, node, key)
        if isinstance(node, _Leaf) and declared.null:
            empty = node.text and node.value.strip() in ("", "null", "~")
            if node.value is None or empty:
                return None
        if declared.group is not None:
            return self.group(declared.group, node, key)
        raw = _plain(node)
        if isinstance(node, _Leaf) and node.text:
            raw = declared.kind.text(node.value)
        try:
            if raw is None:
                raise ValueError("must not be null")
            value = declared.kind.read(raw)
            _bounds(declared, value)
        except ValueError as error:
            # what was wrong may quote the value
            self._problem(key, f"must be {declared.kind.name}" if declared.secret else str(error), node)
            return None
        try:
            if declared.check is not None:
                declared.check(value)
        except ValueError as error:
            self._problem(key, str(error), node)
            return None
        return value

    def _members(self, declared: Declared, group: type[Settings], node: _Node, key: str) -> Any:
        if isinstance(node, _Leaf):
            node = _grow(yaml_text(node.value) if node.text else node.value, node.rank, node.given_by)
        if isinstance(node, _Leaf) and node.value is None:
            node = []
        if not isinstance(node, list):
            self._problem(key, "must be a list", node)
            return ()
        if len(node) < (declared.ge or 0):
            self._problem(key, f"must have at least {declared.ge} member{'s'[: declared.ge > 1]}", node)
        return tuple(self.group(group, member, f"{key}.{number}") for number, member in enumerate(node))

    def _from_file(self, given: Any, file: Any, key: str) -> Any:
        if file is None or _plain(file) in (None, ""):
            return given
        if given is not None and _plain(given) is not None:
            ranks = [leaf.rank if isinstance(leaf, _Leaf) else _FILE for leaf in (given, file)]
            if ranks[0] == ranks[1]:
                self._problem(key, f"give either this or {key}_file, not both", file)
            if ranks[0] >= ranks[1]:
                return given
        try:
            with Path(str(_plain(file))).expanduser().open(encoding="utf-8") as stream:
                text = stream.read(_MAX_SECRET_FILE).rstrip("\r\n")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            self._problem(f"{key}_file", f"{_plain(file)} cannot be read: {reason}", file)
            return given
        return _Leaf(text, True, _FILE, f" (in {_plain(file)})")

    def _unknown(self, group: type[Settings], key: str, node: _Node) -> None:
        name = key.rpartition(".")[2]
        parent = key[: -len(name)]
        close = difflib.get_close_matches(name, [known for known, _ in declared_fields(group)], 1)
        guess = f"{parent}{close[0]}" if close else ""
        if not guess:
            elsewhere = [known for known in self._known if known.rpartition(".")[2] == name]
            guess = next(iter(elsewhere or difflib.get_close_matches(key, self._known, 1)), "")
        hint = f"; did you mean {guess}?" if guess else ""
        self._problem(key, f"unknown setting{hint}", node)

    def _problem(self, key: str, message: str, node: _Node) -> None:
        self._problems.append(f"{key}: {message}{_given_by(node)}")


def _bounds(declared: Declared, value: Any) -> None:
    measured, shown, what = value, declared.kind.show, "must be"
    if declared.kind in MEASURED_BY_LENGTH:
        measured, shown, what = len(value), unchanged, "must have a length of"
    given = "" if declared.secret else f", not {shown(measured)}"
    if declared.ge is not None and measured < declared.ge:
        raise ValueError(f"{what} at least {shown(declared.ge)}{given}")
    if declared.le is not None and measured > declared.le:
        raise ValueError(f"{what} at most {shown(declared.le)}{given}")
    if declared.choices and value not in declared.choices:
        raise ValueError(f"must be one of {', '.join(declared.choices)}, not {value!r}")
