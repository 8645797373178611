"""Filters and orders of lists, as the Nodeum dialect writes them: values, no SQL.

A filter's text is a prefix and a value; the longest prefix that fits counts:
`!><a|b` in none of, `><a|b` in, `!~` and `~` pattern (`%` any, `_` one character; ASCII case does not
count), `!=`, `>=`, `<=`, `=`, `>`, `<`; without one: equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from origin.core.search import moment
from origin.errors import Invalid

MAX_VALUES = 1000


class Kind(StrEnum):
    NUMBER = "number"
    TEXT = "text"
    FLAG = "flag"
    TIME = "time"  # of values: text in the form 2019-04-11T12:57:48Z


class Sign(StrEnum):
    NOT_IN = "!><"
    IN = "><"
    NOT_LIKE = "!~"
    LIKE = "~"
    NOT_EQUAL = "!="
    AT_LEAST = ">="
    AT_MOST = "<="
    EQUAL = "="
    ABOVE = ">"
    BELOW = "<"


Value = int | str | bool


@dataclass(frozen=True, slots=True)
class Condition:
    """field `sign` one value; IN and NOT_IN have several. A field that is null fits only negations."""

    field: str
    sign: Sign
    values: tuple[Value, ...]

    def holds(self, value: Value | None) -> bool:
        negative = self.sign in (Sign.NOT_IN, Sign.NOT_LIKE, Sign.NOT_EQUAL)
        if value is None:
            return negative
        if self.sign in (Sign.LIKE, Sign.NOT_LIKE):
            return bool(like(str(self.values[0])).fullmatch(str(value))) is not negative
        if self.sign in (Sign.IN, Sign.NOT_IN, Sign.EQUAL, Sign.NOT_EQUAL):
            return (value in self.values) is not negative
        first: Any = self.values[0]
        compared: dict[Sign, Callable[[Any], bool]] = {
            Sign.AT_LEAST: lambda v: v >= first,
            Sign.AT_MOST: lambda v: v <= first,
            Sign.ABOVE: lambda v: v > first,
            Sign.BELOW: lambda v: v < first,
        }
        return compared[self.sign](value)


def like(pattern: str) -> re.Pattern[str]:
    """Return what a pattern with `%` and `_` matches; ASCII letters in either case."""
    parts = []
    for character in pattern:
        if character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        elif character.isascii() and character.isalpha():
            parts.append(f"[{character.lower()}{character.upper()}]")
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def parse_condition(field: str, kind: Kind, text: str) -> Condition:
    """Raise Invalid(field, …) for a value of another kind."""
    sign = next((sign for sign in Sign if text.startswith(sign.value)), None)
    rest = text[len(sign.value) :] if sign else text
    sign = sign or Sign.EQUAL
    if sign in (Sign.LIKE, Sign.NOT_LIKE):
        if rest.count("%") > 10:
            raise Invalid(field, "has too many % in its pattern: at most 10", text)
        return Condition(field, sign, (re.sub("%+", "%", rest),))
    parts = rest.split("|") if sign in (Sign.IN, Sign.NOT_IN) else [rest]
    if len(parts) > MAX_VALUES:
        raise Invalid(field, f"has too many values: at most {MAX_VALUES}")
    return Condition(field, sign, tuple(_value(field, kind, sign, part) for part in parts))


def _value(field: str, kind: Kind, sign: Sign, text: str) -> Value:
    if kind is Kind.NUMBER:
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise Invalid(field, "must be a whole number", text)
        return int(text)
    if kind is Kind.FLAG:
        if text.lower() not in ("true", "false", "1", "0"):
            raise Invalid(field, "must be true or false", text)
        return text.lower() in ("true", "1")
    if kind is Kind.TIME:
        return _time(field, sign, text)
    return text


def _time(field: str, sign: Sign, text: str) -> str:
    """A date alone stands for its first second, but its last after `>` and `<=`."""
    try:
        span = moment(text, field)
    except OverflowError:
        raise Invalid(field, "must be a time such as 2019-04-11T12:57:48Z", text) from None
    assert span.low is not None and span.high is not None
    ms = span.high if sign in (Sign.ABOVE, Sign.AT_MOST) else span.low
    return datetime.fromtimestamp(ms // 1000, UTC).replace(tzinfo=None).isoformat() + "Z"


@dataclass(frozen=True, slots=True)
class Order:
    field: str
    descending: bool = False


def parse_order(text: str | None, fields: Iterable[str]) -> tuple[Order, ...]:
    """Read `sort_by`: `a:desc|b` or `a:desc,b`. Raises Invalid for a field the list does not have."""
    known = set(fields)
    found = []
    for part in re.split(r"[,|]", text or ""):
        name, _, direction = part.strip().partition(":")
        if not name and not direction:
            continue
        if name not in known or direction not in ("", "asc", "desc"):
            raise Invalid("sort_by", "must be fields of the list, each with :asc or :desc", part)
        found.append(Order(name, direction == "desc"))
    return tuple(found)


def select(
    rows: Iterable[Mapping[str, Any]], conditions: Sequence[Condition], order: Sequence[Order], last: str
) -> list[Mapping[str, Any]]:
    """Return the rows that fit, in order; nulls last, `last` as the final key, ascending."""
    chosen = [row for row in rows if all(c.holds(row.get(c.field)) for c in conditions)]
    chosen.sort(key=lambda row: _number(row.get(last)))
    for one in reversed(order):
        given = [row for row in chosen if row.get(one.field) is not None]
        given.sort(key=lambda row: row[one.field], reverse=one.descending)
        chosen = given + [row for row in chosen if row.get(one.field) is None]
    return chosen


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value
