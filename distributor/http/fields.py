"""Header fields as values: look-up, lists, dates, Cache-Control, digests, what may be kept.

`Fields` holds field lines in the order received, names as received; names are compared without
regard to case. Nothing here raises on what a peer sent: what cannot be read is None, or counts as
the most restrictive thing it could mean.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Struct

from distributor.http import structured

Fields = tuple[tuple[str, str], ...]

DELTA_SECONDS_LIMIT = 2**31
"""What a larger delta-seconds counts as (RFC 9111 §1.2.2)."""


# Look-up


def get(fields: Fields, name: str) -> str | None:
    """All lines of `name` combined with ", " (RFC 9110 §5.2); None when there is none."""
    found = get_all(fields, name)
    return (found[0] if len(found) == 1 else ", ".join(found)) if found else None


def get_all(fields: Fields, name: str) -> list[str]:
    """The values of the lines of `name`, in order; may be empty."""
    wanted, length = name.lower(), len(name)
    return [value for key, value in fields if len(key) == length and key.lower() == wanted]


def without(fields: Fields, names: tuple[str, ...] | frozenset[str] | set[str] | list[str]) -> Fields:
    """The lines whose name is not one of `names` (any case)."""
    dropped = {name.lower() for name in names}
    return tuple(line for line in fields if line[0].lower() not in dropped)


def replaced(fields: Fields, name: str, value: str) -> Fields:
    """`fields` with every line of `name` dropped and one `name: value` put at the end."""
    return (*without(fields, (name,)), (name, value))


# Lists (RFC 9110 §5.6.1)


def split_list(value: str) -> list[str]:
    """Split at commas outside quoted strings; members stripped of SP and HTAB, empty ones left out.

    Inside quotes a backslash escapes the next character. A quote that is never closed quotes
    nothing: what follows it is split as if the quote were an ordinary character.
    """
    if '"' not in value:
        return [member for part in value.split(",") if (member := part.strip(" \t"))]
    members = []
    start = position = 0
    while position < len(value):
        found = _COMMA_OR_QUOTED.search(value, position)
        if found is None:
            break
        position = found.end()
        if found.group() == ",":
            members.append(value[start : found.start()])
            start = position
        elif found.group() == '"':
            break
    first, *others = value[position:].split(",")
    members += [value[start:position] + first, *others]
    return [stripped for member in members if (stripped := member.strip(" \t"))]


_COMMA_OR_QUOTED = re.compile(r',|"(?:[^"\\]|\\.)*+"|"', re.DOTALL)


# Dates (RFC 9110 §5.6.7)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH_NAMES = tuple(month.capitalize() for month in _MONTHS)
_TIME = r"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_MONTH = f"({'|'.join(_MONTHS)})"
_SHORT_DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_FLAGS = re.IGNORECASE | re.ASCII
_IMF = re.compile(rf"{_SHORT_DAY}, ([0-9]{{2}}) {_MONTH} ([0-9]{{4}}) {_TIME} GMT", _FLAGS)
_RFC850 = re.compile(rf"{_LONG_DAY}, ([0-9]{{2}})-{_MONTH}-([0-9]{{2}}) {_TIME} GMT", _FLAGS)
_ASCTIME = re.compile(rf"{_SHORT_DAY} {_MONTH} ([0-9 ][0-9]) {_TIME} ([0-9]{{4}})", _FLAGS)


def parse_date(value: str | None, now: float | None = None) -> int | None:
    """Unix seconds of an HTTP-date in any of the three formats; None when it is none, or absent.

    now  places the two-digit year of the rfc850 form: of years with these digits the latest that
         is not more than 50 years ahead. Without it 70–99 are of the 20th century, others of the 21st

    Letters in any case (RFC 9111 §4.2); GMT only; a wrong day of the week is let pass; a leap
    second is the second after it. A combined value of several lines is no date.
    """
    if value is None or not 20 < len(value) < 48:
        return None
    return _parse_date(value.strip(" \t"), None if now is None else time.gmtime(now).tm_year)


@lru_cache(maxsize=1024)
def _parse_date(value: str, this_year: int | None) -> int | None:
    if found := _IMF.fullmatch(value):
        day, month, year, hour, minute, second = found.groups()
    elif found := _ASCTIME.fullmatch(value):
        month, day, hour, minute, second, year = found.groups()
    elif found := _RFC850.fullmatch(value):
        day, month, year, hour, minute, second = found.groups()
        year = str(_full_year(int(year), this_year))
    else:
        return None
    leap = second == "60"
    try:
        moment = datetime(
            int(year),
            _MONTHS.index(month.lower()) + 1,
            int(day),
            int(hour),
            int(minute),
            59 if leap else int(second),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp()) + leap


def _full_year(digits: int, this_year: int | None) -> int:
    if this_year is None:
        return 1900 + digits if digits >= 70 else 2000 + digits
    latest = this_year + 50
    return latest - (latest - digits) % 100


@lru_cache(maxsize=1024)
def format_date(seconds: int) -> str:
    """IMF-fixdate of Unix seconds, e.g. "Sun, 06 Nov 1994 08:49:37 GMT"; years 1 to 9999."""
    moment = time.gmtime(seconds)
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02d} {_MONTH_NAMES[moment.tm_mon - 1]} "
        f"{moment.tm_year:04d} {moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} GMT"
    )


def with_date(fields: Fields, response_time: float) -> Fields:
    """`fields` with a usable Date: the time of receipt where there is none (RFC 9110 §6.6.1)."""
    if parse_date(get(fields, "Date")) is not None:
        return fields
    return replaced(fields, "Date", format_date(int(response_time)))


# Delta-seconds


def parse_delta_seconds(value: str) -> int | None:
    """Whole seconds, 0..2^31, larger ones clamped (RFC 9111 §1.2.2); None when not ASCII digits."""
    if not value or not value.isascii() or not value.isdigit():
        return None
    # int() refuses texts of thousands of digits, so the length is judged first.
    digits = value.lstrip("0")
    return min(int(digits or "0"), DELTA_SECONDS_LIMIT) if len(digits) <= 10 else DELTA_SECONDS_LIMIT


def parse_age(value: str | None) -> int | None:
    """Seconds of an Age field; None when absent or invalid. The first of a list counts (RFC 9111 §5.1)."""
    if value is None:
        return None
    return parse_delta_seconds(value.partition(",")[0].strip(" \t"))


def parse_retry_after(value: str | None, now: float) -> int | None:
    """Seconds to wait, 1..3600, of a Retry-After in either form (RFC 9110 §10.2.3); None when unreadable.

    now  Unix seconds, for the form that is a date
    """
    if value is None:
        return None
    seconds = parse_delta_seconds(value.strip(" \t"))
    if seconds is None:
        moment = parse_date(value, now)
        if moment is None:
            return None
        seconds = int(moment - now)
    return max(1, min(seconds, 3600))


# Cache-Control (RFC 9111 §5.2)


class CacheControl(Struct, frozen=True, kw_only=True):
    """Directives of Cache-Control or CDN-Cache-Control.

    Seconds are 0..2^31; None: not said. What cannot be read as seconds is 0, so the response is
    stale (RFC 9111 §4.2.1); of several values the smallest counts.

    no_cache, private  said at all, with or without field names
    no_cache_fields, private_fields  lower-case names; empty: the directive holds for the whole
                       response, also where it came once with names and once without
    present            lower-case names of all directives, unknown ones too
    """

    no_store: bool = False
    no_cache: bool = False
    no_cache_fields: tuple[str, ...] = ()
    private: bool = False
    private_fields: tuple[str, ...] = ()
    public: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    only_if_cached: bool = False
    no_transform: bool = False
    immutable: bool = False
    present: frozenset[str] = frozenset()


_DIRECTIVE = re.compile(
    r"""([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (?: = (?: "((?:[^"\\]|\\.)*+)" | ([^\s"]*) ) )?""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NO_DIRECTIVES = CacheControl()
_SECONDS = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})
_NAMES = frozenset({"no-cache", "private"})
_FLAG_DIRECTIVES = frozenset(
    {
        "no-store",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "only-if-cached",
        "no-transform",
        "immutable",
    }
)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def parse_cache_control(value: str | None) -> CacheControl:
    """Directives of a Cache-Control value, all lines combined; none of them when absent.

    Arguments as token or quoted string, names in any case. An argument to a directive that takes
    none is ignored, and the directive holds. Members that are no directive are left out.
    """
    return _NO_DIRECTIVES if value is None else _parse_cache_control(value)


@lru_cache(maxsize=512)
def _parse_cache_control(value: str) -> CacheControl:
    directives: list[tuple[str, str | None]] = []
    for member in split_list(value):
        found = _DIRECTIVE.match(member)
        if found is None:
            continue
        name, quoted, token = found.groups()
        argument = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        # Text after the name or the argument ("max-age =5", "max-age=5 6") spoils the argument but
        # not the directive: what was meant is restricted, not allowed.
        if found.end() != len(member):
            argument = ""
        directives.append((name.lower(), argument))
    return _combine(directives)


def parse_cdn_cache_control(value: str | None) -> CacheControl | None:
    """Directives of CDN-Cache-Control (RFC 9213); None when absent, empty or no valid dictionary.

    None means: go by Cache-Control and Expires. Otherwise both are to be left out of account (§2.2).
    `?0` is a directive that is not there; a number of seconds that is no Integer is 0, so stale.
    """
    if value is None:
        return None
    try:
        members = structured.parse_dictionary(value)
    except structured.Invalid:
        return None
    if not members:
        return None
    directives: list[tuple[str, str | None]] = []
    for name, member in members.items():
        argument: str | None = ""
        if isinstance(member, structured.Item):
            bare = member.value
            if bare is False:
                continue
            if bare is True:
                argument = None
            elif type(bare) is int or (isinstance(bare, str) and name not in _SECONDS):
                argument = str(bare)
        directives.append((name, argument))
    return _combine(directives)


def _combine(directives: list[tuple[str, str | None]]) -> CacheControl:
    """Fold (lower-case name, argument or None) pairs, the most restrictive reading of each name."""
    seconds: dict[str, int | None] = {}
    names: dict[str, tuple[str, ...]] = {}
    for name, argument in directives:
        if name in _SECONDS:
            delta = parse_delta_seconds(argument or "") or 0
            before = seconds.get(name)
            seconds[name] = delta if before is None else min(before, delta)
        elif name in _NAMES:
            listed = tuple(part.lower() for part in split_list(argument or ""))
            if not all(_TOKEN.fullmatch(part) for part in listed):
                listed = ()
            earlier = names.get(name)
            if earlier is None:
                names[name] = listed
            else:
                names[name] = (*earlier, *listed) if earlier and listed else ()
    present = frozenset(name for name, _ in directives)
    flags = {name.replace("-", "_"): True for name in present & _FLAG_DIRECTIVES}
    return CacheControl(
        no_cache="no-cache" in names,
        no_cache_fields=names.get("no-cache", ()),
        private="private" in names,
        private_fields=names.get("private", ()),
        max_age=seconds.get("max-age"),
        s_maxage=seconds.get("s-maxage"),
        stale_while_revalidate=seconds.get("stale-while-revalidate"),
        stale_if_error=seconds.get("stale-if-error"),
        present=present,
        **flags,
    )


def response_directives(fields: Fields) -> tuple[CacheControl, bool]:
    """The directives this cache obeys for a response, and whether they are CDN-Cache-Control's.

    Where they are, Cache-Control and Expires say nothing to it (RFC 9213 §2.2).
    """
    targeted = parse_cdn_cache_control(get(fields, "CDN-Cache-Control"))
    if targeted is not None:
        return targeted, True
    return parse_cache_control(get(fields, "Cache-Control")), False


# Digests (RFC 9530)


def parse_repr_digest(value: str | None) -> bytes | None:
    """The sha-256 of a Repr-Digest, 32 bytes; None when absent, of another length, or unreadable."""
    if value is None:
        return None
    try:
        member = structured.parse_dictionary(value).get("sha-256")
    except structured.Invalid:
        return None
    if not isinstance(member, structured.Item) or not isinstance(member.value, bytes):
        return None
    return member.value if len(member.value) == 32 else None


def format_repr_digest(sha256: bytes) -> str:
    """Repr-Digest value of a sha-256 (32 bytes)."""
    return structured.serialise_dictionary({"sha-256": structured.Item(sha256)})


# What is stored and sent on (RFC 9111 §3.1, RFC 9110 §7.6.1)

HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Lower-case names that concern one connection or one proxy; never stored, never sent on."""

_NOT_SENT_ON = HOP_BY_HOP | {
    "alt-svc",
    "server",
    "server-timing",
    "timing-allow-origin",
    "x-cache",
    "x-data-source",
    "x-powered-by",
    "x-request-id",
}

# A directive with field names is honoured by leaving those fields out; a response cannot do
# without these, so there the directive holds for the whole of it.
_NEEDED = frozenset(
    {
        "age",
        "cache-control",
        "cdn-cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "etag",
        "expires",
        "last-modified",
        "repr-digest",
        "vary",
    }
)


def separable(names: tuple[str, ...]) -> bool:
    """True when `private` or `no-cache` with these names is met by leaving the fields out.

    False: no names, or one this cache needs; the directive then holds for the whole response
    (RFC 9111 §5.2.2.4 and §5.2.2.7 let a cache take it so).
    """
    return bool(names) and _NEEDED.isdisjoint(names)


def storable_fields(fields: Fields, *, keep_set_cookie: bool = False) -> Fields:
    """The fields of a response that are stored and sent on, in order.

    Left out: hop-by-hop fields and those Connection names; what an edge speaks for itself (Server,
    CORS, X-Cache …); Set-Cookie unless kept; fields named by a separable `private` or `no-cache`.
    """
    dropped = set(_NOT_SENT_ON)
    dropped.update(name.lower() for name in split_list(get(fields, "Connection") or ""))
    if not keep_set_cookie:
        dropped |= {"set-cookie", "set-cookie2"}
    directives, _ = response_directives(fields)
    for names in (directives.private_fields, directives.no_cache_fields):
        if separable(names):
            dropped.update(names)
    return tuple(
        line
        for line in fields
        if (name := line[0].lower()) not in dropped and not name.startswith("access-control-")
    )


_NOT_FORWARDED = HOP_BY_HOP | {
    "accept-encoding",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "range",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
}


def forwardable_fields(fields: Fields) -> Fields:
    """The client's end-to-end fields that a transparent edge sends to its source.

    Not among them: conditions and Range, Accept-Encoding, Cookie, what claims another client,
    address or method, and what speaks of a body (none is forwarded).
    """
    named = {name.lower() for name in split_list(get(fields, "Connection") or "")}
    return tuple(
        line
        for line in fields
        if (name := line[0].lower()) not in _NOT_FORWARDED
        and name not in named
        and not name.startswith("x-forwarded-")
    )
