"""Validators and preconditions: which representation a client or a source means (RFC 9110 §8.8, §13)."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Literal, NamedTuple

from distributor.http.fields import Fields, format_date, get, get_all, parse_date


class EntityTag(NamedTuple):
    """An entity tag.

    value  what stands between the quotes; str() gives the field form
    """

    value: str
    weak: bool = False

    def __str__(self) -> str:
        return f'W/"{self.value}"' if self.weak else f'"{self.value}"'


class Validators(NamedTuple):
    """What tells one version of a representation from another.

    etag           the ETag field value, as received; None when there is none. One that is no entity
                   tag by the grammar never matches anything but `*`
    last_modified  Unix seconds; None when not said
    date           Unix seconds of the response's Date; None when unknown
    """

    etag: str | None = None
    last_modified: int | None = None
    date: int | None = None


class Verdict(Enum):
    """What preconditions make of a request."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    FAILED = "failed"


_OPAQUE = r'"([\x21\x23-\x7e\x80-\U0010ffff]*)"'
_ETAG = re.compile(rf"(W/)?{_OPAQUE}")
_MEMBER = re.compile(rf"[ \t,]*+(?:(W/)?{_OPAQUE}[ \t]*+(?=,|\Z)|([^,]+))")


def parse_etag(value: str | None) -> EntityTag | None:
    """One entity tag (RFC 9110 §8.8.3); None when absent or not one. `W/` is case-sensitive."""
    if value is None:
        return None
    found = _ETAG.fullmatch(value.strip(" \t"))
    return EntityTag(found.group(2), found.group(1) is not None) if found else None


def parse_etag_list(value: str) -> list[EntityTag] | Literal["*"]:
    """The members of If-Match or If-None-Match, all lines combined, or "*" where the value is just that.

    Commas inside quotes belong to the tag. What is no entity tag is left out: the list may be empty.
    """
    if value.strip(" \t") == "*":
        return "*"
    tags = []
    for found in _MEMBER.finditer(value.rstrip(" \t,")):
        weak, opaque, _ = found.groups()
        if opaque is not None:
            tags.append(EntityTag(opaque, weak is not None))
    return tags


def strong_match(one: EntityTag | None, other: EntityTag | None) -> bool:
    """Strong comparison (RFC 9110 §8.8.3.2): equal, and neither is weak."""
    return one is not None and one == other and not one.weak


def weak_match(one: EntityTag | None, other: EntityTag | None) -> bool:
    """Weak comparison (RFC 9110 §8.8.3.2): equal but for weakness."""
    return one is not None and other is not None and one.value == other.value


def evaluate(
    method: str,
    request_fields: Fields,
    validators: Validators,
    exists: bool = True,
    *,
    now: float | None = None,
) -> Verdict:
    """Judge a request's preconditions in the order of RFC 9110 §13.2.2; Range and If-Range come after.

    exists  a current representation is there, so that `*` matches
    now     Unix seconds, for two-digit years only

    What is not one HTTP-date is ignored. Without Last-Modified, If-Unmodified-Since is ignored (§13.1.4)
    and If-Modified-Since is measured against Date (RFC 9111 §4.3.2).
    """
    if not any(name[:3] in _IF for name, _ in request_fields):
        return Verdict.PROCEED

    if (value := get(request_fields, "If-Match")) is not None:
        if not _listed(value, validators, exists, strong_match):
            return Verdict.FAILED
    elif (
        (limit := _date(request_fields, "If-Unmodified-Since", now)) is not None
        and validators.last_modified is not None
        and validators.last_modified > limit
    ):
        return Verdict.FAILED

    safe = method in ("GET", "HEAD")
    if (value := get(request_fields, "If-None-Match")) is not None:
        if _listed(value, validators, exists, weak_match):
            return Verdict.NOT_MODIFIED if safe else Verdict.FAILED
    elif safe and (limit := _date(request_fields, "If-Modified-Since", now)) is not None:
        modified = validators.date if validators.last_modified is None else validators.last_modified
        if modified is not None and modified <= limit:
            return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def _listed(value: str, validators: Validators, exists: bool, match: _Comparison) -> bool:
    tags = parse_etag_list(value)
    if tags == "*":
        return exists
    own = parse_etag(validators.etag)
    return any(match(own, tag) for tag in tags)


_Comparison = Callable[[EntityTag | None, EntityTag | None], bool]
_IF = frozenset({"If-", "if-", "IF-", "iF-"})


def _date(fields: Fields, name: str, now: float | None) -> int | None:
    lines = get_all(fields, name)
    return parse_date(lines[0], now) if len(lines) == 1 else None


def if_range_holds(value: str | None, validators: Validators, *, now: float | None = None) -> bool:
    """Whether Range is to be followed (RFC 9110 §13.1.5); True when If-Range is absent (None).

    An entity tag by strong comparison; a date when it equals a Last-Modified that is strong. Neither
    a tag nor a date (several lines combined, too): False, so the whole is sent.
    """
    if value is None:
        return True
    if '"' in value:
        return strong_match(parse_etag(value), parse_etag(validators.etag))
    moment = parse_date(value, now)
    return moment is not None and moment == validators.last_modified and last_modified_is_strong(validators)


def last_modified_is_strong(validators: Validators) -> bool:
    """Date is at least a second after Last-Modified, so no second version fits between (§8.8.2.2)."""
    return (
        validators.last_modified is not None
        and validators.date is not None
        and validators.date >= validators.last_modified + 1
    )


def strong_validator(validators: Validators) -> str | None:
    """The value to send as If-Range: a strong ETag, else a strong Last-Modified; None: there is neither.

    Beside a weak ETag the date is used too: the tag says less about the bytes than the date does.
    """
    tag = parse_etag(validators.etag)
    if tag is not None and not tag.weak:
        return str(tag)
    if last_modified_is_strong(validators) and validators.last_modified is not None:
        return format_date(validators.last_modified)
    return None


def validators_of(fields: Fields, *, now: float | None = None) -> Validators:
    """The validators in a response's fields. A Last-Modified later than Date is taken to be Date.

    ETag on several lines is no entity tag and so is None.
    """
    tags = get_all(fields, "ETag")
    date = parse_date(get(fields, "Date"), now)
    modified = parse_date(get(fields, "Last-Modified"), now)
    if modified is not None and date is not None:
        modified = min(modified, date)
    return Validators(tags[0] if len(tags) == 1 else None, modified, date)
