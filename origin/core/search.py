"""What the catalog search is asked: clauses and filters as values, read from the text of a request.

`parse_text` reads `q`, `parse_filter` one parameter. Neither knows of SQL, storages or the clock.
"""

from __future__ import annotations

import calendar
import datetime
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from origin.core.words import words
from origin.errors import Invalid

MAX_TEXT = 1000  # characters of q
MAX_CLAUSES = 32
MAX_ALTERNATIVES = 100  # values within one filter


class Field(StrEnum):
    """What can be filtered by. The value is the name as a request parameter."""

    VOLUME = "volume_s_names"
    EXTENSION = "file_extension"
    SIZE = "file_size"
    MODIFIED = "file_modification_date"
    CACHED_DATE = "file_in_cache_date"
    CACHED = "file_in_cache"
    HASH = "file_hash"
    NAME = "file_base_name"
    PATH = "file_path"
    PARENT = "file_parent_path"
    UNDER = "under"
    PROJECT = "project"
    ASSET = "asset"
    TAG = "tag"


SHORT_NAMES = {
    "volume": Field.VOLUME,
    "ext": Field.EXTENSION,
    "size": Field.SIZE,
    "date": Field.MODIFIED,
    "cached_date": Field.CACHED_DATE,
    "cached": Field.CACHED,
    "hash": Field.HASH,
    "name": Field.NAME,
    "path": Field.UNDER,
    "project": Field.PROJECT,
    "asset": Field.ASSET,
    "tag": Field.TAG,
}
"""Names within q."""

_RANGES = frozenset({Field.SIZE, Field.MODIFIED, Field.CACHED_DATE})


class Sort(StrEnum):
    """Ascending unless said; the number of the entry is always the last key."""

    ID = "id"
    PATH = "file_path"
    NAME = "file_base_name"
    SIZE = "file_size"
    MODIFIED = "file_modification_date"


@dataclass(frozen=True, slots=True)
class Range:
    """Ends included; None is open. Sizes in bytes, times in whole ms since the epoch."""

    low: int | None = None
    high: int | None = None


Value = str | bool | Range


@dataclass(frozen=True, slots=True)
class Filter:
    """One of `any_of` must hold; () holds for nothing. Strings: extensions lower case without dot,
    digests lower case, paths as written less slashes at the ends, all else as written."""

    field: Field
    any_of: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """Folded words that occur in this order, side by side. Never empty.

    prefix  the last word need only begin so
    key     only the value of this metadata key counts; None: all of an entry's text
    """

    words: tuple[str, ...]
    prefix: bool = False
    key: str | None = None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """All clauses and all filters must hold.

    nothing  clauses were given, but none has a letter or digit: finds nothing
    """

    clauses: tuple[Clause, ...] = ()
    filters: tuple[Filter, ...] = ()
    nothing: bool = False
    sort: Sort = Sort.ID
    descending: bool = False

    @property
    def digest(self) -> bytes:
        """Four bytes that differ between queries; part of a cursor mark."""
        plain = repr((self.clauses, self.filters, self.nothing, self.sort.value, self.descending))
        return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()[:4]


@dataclass(frozen=True, slots=True)
class Text:
    """What q says."""

    clauses: tuple[Clause, ...] = ()
    filters: tuple[Filter, ...] = ()
    nothing: bool = False


_CLAUSE = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')
_FIELD = re.compile(r"([A-Za-z_]+|meta\.[^\s:\"]{1,255}):(.*)", re.DOTALL)


def parse_text(q: str) -> Text:
    """Read q. "", "*" and "*:*" are all. Raises Invalid("q", …) for what is too long, and for a bad
    value of a known filter."""
    if len(q) > MAX_TEXT:
        raise Invalid("q", f"is too long: at most {MAX_TEXT} characters")
    raw = _CLAUSE.findall(q)
    if len(raw) > MAX_CLAUSES:
        raise Invalid("q", f"has too many clauses: at most {MAX_CLAUSES}")
    if not raw or raw in (["*"], ["*:*"]):
        return Text()
    clauses: list[Clause] = []
    filters: list[Filter] = []
    for part in raw:
        match = _FIELD.fullmatch(part)
        name = match[1] if match else ""
        if match and name.lower() in SHORT_NAMES:
            found = parse_filter(SHORT_NAMES[name.lower()], [match[2].replace('"', "")], context="q")
            filters += found
            continue
        key = name[5:] if match and name.startswith("meta.") else None
        clause = _clause(match[2] if match and key is not None else part, key)
        if clause is not None:
            clauses.append(clause)
    return Text(tuple(clauses), tuple(filters), nothing=not clauses and not filters)


def _clause(text: str, key: str | None) -> Clause | None:
    found = tuple(words(text))
    return Clause(found, text.endswith("*"), key) if found else None


def parse_filter(name: Field, values: Sequence[str], context: str | None = None) -> tuple[Filter, ...]:
    """Return the filters that the values of one repeated parameter are; () when all are empty.

    context  what an Invalid names; None: the parameter
    """
    context = context or name.value
    if name in _RANGES:
        # Repeated ranges narrow each other; only within one value does "|" widen.
        ranges = [
            Filter(name, tuple(_range(name, one, context) for one in _split(value, context)))
            for value in values
            if value.strip()
        ]
        return tuple(ranges)
    if name is not Field.EXTENSION:
        values = [value for value in values if value != ""]
    found: list[Value] = []
    for value in values:
        found += [_value(name, one, context) for one in _split(value, context)]
    if len(found) > MAX_ALTERNATIVES:
        raise Invalid(context, f"has too many values: at most {MAX_ALTERNATIVES}")
    return (Filter(name, tuple(found)),) if found else ()


def _split(value: str, context: str) -> list[str]:
    parts = value.split("|")
    if len(parts) > MAX_ALTERNATIVES:
        raise Invalid(context, f"has too many values: at most {MAX_ALTERNATIVES}")
    return parts


def _value(name: Field, value: str, context: str) -> Value:
    if name is Field.EXTENSION:
        return value.strip().removeprefix(".").lower()
    if name is Field.CACHED:
        lowered = value.strip().lower()
        if lowered not in ("true", "false"):
            raise Invalid(context, "must be true or false", value)
        return lowered == "true"
    if name is Field.HASH:
        lowered = value.strip().lower()
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", lowered):
            raise Invalid(context, "must be a SHA-1 or SHA-256 in hexadecimal", value)
        return lowered
    if name in (Field.PATH, Field.PARENT, Field.UNDER):
        return value.strip("/")
    return value


# --- ranges ---------------------------------------------------------------------------------------

_OPERATOR = re.compile(r"(>=|<=|>|<|=)(.*)", re.DOTALL)
_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?"
    r"(Z|[+ -]\d{2}:?\d{2})?)?)?)?",
    re.ASCII | re.IGNORECASE,
)
_DAY_MS = 86_400_000
_EPOCH = datetime.date(1970, 1, 1)


def _range(name: Field, text: str, context: str) -> Range:
    def unit(part: str) -> Range:
        return _number(part, context) if name is Field.SIZE else moment(part, context)

    text = text.strip()
    low, dots, high = text.partition("..")
    if dots:
        return Range(
            unit(low.strip()).low if low.strip() else None, unit(high.strip()).high if high.strip() else None
        )
    match = _OPERATOR.fullmatch(text)
    if match is None:
        return unit(text)
    found = unit(match[2].strip())
    assert found.low is not None and found.high is not None
    return {
        ">=": Range(found.low, None),
        "<=": Range(None, found.high),
        ">": Range(found.high + 1, None),
        "<": Range(None, found.low - 1),
        "=": found,
    }[match[1]]


def _number(text: str, context: str) -> Range:
    if not _WHOLE.fullmatch(text):
        raise Invalid(context, "must be whole bytes, or a range such as 1000..2000 or >=1000", text)
    value = min(int(text), 2**62)
    return Range(value, value)


def moment(text: str, context: str) -> Range:
    """Return the ms from the first to the last of the unit that is named: a year, …, a second, a ms."""
    match = _MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        return _span(match)
    except ValueError:
        raise Invalid(context, "must be a date such as 2019-04-11 or 2019-04-11T12:57:48Z", text) from None


def _span(match: re.Match[str]) -> Range:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    first = datetime.date(int(year), int(month or 1), int(day or 1))
    start = (first - _EPOCH).days * _DAY_MS
    if month is None:
        days = 366 if calendar.isleap(int(year)) else 365
    else:
        days = 1 if day is not None else calendar.monthrange(int(year), int(month))[1]
    length = days * _DAY_MS
    if hour is not None:
        if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59:
            raise ValueError
        start += (int(hour) * 60 + int(minute)) * 60_000 + int(second or 0) * 1000
        length = 60_000 if second is None else 1000
        if fraction is not None:
            start += int(fraction.ljust(3, "0")[:3])
            length = 1
        start -= _zone_ms(zone)
    return Range(start, start + length - 1)


def _zone_ms(zone: str | None) -> int:
    """A "+" of a query is often read as a blank: it counts as one."""
    if zone is None or zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "")
    if int(digits[:2]) > 23 or int(digits[2:]) > 59:
        raise ValueError
    ms = (int(digits[:2]) * 60 + int(digits[2:])) * 60_000
    return -ms if zone[0] == "-" else ms


# --- sort and facets ------------------------------------------------------------------------------


def parse_sort(text: str | None, context: str = "sort") -> tuple[Sort, bool]:
    """Return the key and whether it descends. None and "" are by id."""
    if not text:
        return Sort.ID, False
    name, _, direction = text.strip().partition(":")
    if name not in set(Sort) or direction not in ("", "asc", "desc"):
        raise Invalid(context, "must be one of " + ", ".join(Sort) + ", with :asc or :desc", text)
    return Sort(name), direction == "desc"


FACETS = (Field.EXTENSION, Field.VOLUME, Field.SIZE, Field.MODIFIED, Field.CACHED)

SIZE_CLASSES: tuple[tuple[str, int | None], ...] = (
    ("less_100_kb", 100_000),
    ("less_1_mb", 1_000_000),
    ("less_10_mb", 10_000_000),
    ("less_100_mb", 100_000_000),
    ("less_1_gb", 1_000_000_000),
    ("less_10_gb", 10_000_000_000),
    ("less_100_gb", 100_000_000_000),
    ("more_100_gb", None),
)
"""Below so many bytes, and in none of those before; None: the rest."""

AGE_CLASSES: tuple[tuple[str, int | None], ...] = (
    ("less_1_week", 7),
    ("less_1_month", 30),
    ("less_3_months", 90),
    ("less_6_months", 180),
    ("less_1_year", 365),
    ("less_2_years", 730),
    ("more_2_years", None),
)
"""Younger than so many days, and in none of those before; None: the rest."""


def parse_facets(text: str | None) -> tuple[Field, ...]:
    """Return the facets asked for, each once, in the order asked. Separators: "," and "|"."""
    found: list[Field] = []
    for name in re.split(r"[,|]", text or ""):
        name = name.strip()
        if not name:
            continue
        if name not in {facet.value for facet in FACETS}:
            raise Invalid("facet", "must be among " + ", ".join(FACETS), name)
        if Field(name) not in found:
            found.append(Field(name))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Bucket:
    """val: an extension with its dot, a storage's name, a class, or "true"/"false"."""

    val: str | bool
    files_count: int
    file_size_sum: int


@dataclass(frozen=True, slots=True)
class Facets:
    files_count: int
    file_size_sum: int
    buckets: dict[Field, tuple[Bucket, ...]] = field(default_factory=dict)
