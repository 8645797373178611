"""What a shared cache may store, for how long it may be reused, and how a 304 renews it (RFC 9111).

The directives obeyed are those of CDN-Cache-Control where it is valid, else Cache-Control's (RFC 9213).
Times are Unix seconds. Durations are seconds.

                    age:  0 ──────── lifetime ──── + stale_while_revalidate ──── + stale_if_error ───▶
    usable                   FRESH      │ STALE_WHILE_REVALIDATE │              STALE
    may_serve_on_error                  │         yes            │    yes     │   no

With no_cache every use is STALE; with it or must_revalidate nothing stale is served.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from msgspec import Struct

from distributor.http.conditional import parse_etag, weak_match
from distributor.http.fields import (
    CacheControl,
    Fields,
    get,
    get_all,
    parse_age,
    parse_cache_control,
    parse_date,
    response_directives,
    separable,
    split_list,
    storable_fields,
    without,
)

HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110 §15.1."""

UNDERSTOOD = frozenset(
    {*range(200, 207), 300, 301, 302, 303, 307, 308, *range(400, 416), 417, 421, 422, 426, *range(500, 506)}
)
"""Statuses whose caching this cache knows how to do, for `must-understand` (RFC 9111 §5.2.2.3)."""


class Policy(Struct, frozen=True, kw_only=True):
    """How one stored response may be reused; made once, when it is stored or renewed.

    freshness_lifetime      >= 0; 0: stale at once
    explicit                the source gave the lifetime; otherwise it is a guess of ours
    no_cache                validated before each use
    must_revalidate         never served stale: must-revalidate, proxy-revalidate or s-maxage
    stale_while_revalidate  None: not said, so none
    stale_if_error          None: not said, so the node's default goes
    """

    freshness_lifetime: float = 0.0
    explicit: bool = False
    no_cache: bool = False
    must_revalidate: bool = False
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None


class Reuse(Enum):
    """What may be done with a stored response without asking a source first."""

    FRESH = "fresh"
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    STALE = "stale"


class Storability(NamedTuple):
    """Whether a response may be stored; `reason` names the rule against it, "" when there is none."""

    allowed: bool
    reason: str


# Storing (RFC 9111 §3)


def may_store(
    status: int,
    fields: Fields,
    *,
    method: str = "GET",
    authorization: bool = False,
    transparent: bool = False,
    request_no_store: bool = False,
    understood: frozenset[int] = UNDERSTOOD,
) -> Storability:
    """Judge whether this shared cache may store a response.

    fields            as received, before anything is left out of them
    authorization     the request sent to the source carried the client's Authorization (§3.5)
    transparent       False: only 200, and 206 as a part of a fetch, give a representation
    request_no_store  the request said no-store and the node obeys it (§5.2.1.5)
    understood        statuses `must-understand` lets through

    `private` with field names: stored without those fields (`storable_fields`), but not at all where
    the cache needs one of them. A 5xx without explicit lifetime is never stored.
    """
    directives, targeted = response_directives(fields)
    refused = _refused_by_message(status, method, transparent, directives, understood)
    if refused is None:
        refused = _refused_by_directives(status, fields, directives, targeted, authorization)
    if refused is None and request_no_store:
        refused = "request no-store"
    return Storability(refused is None, refused or "")


def _refused_by_message(
    status: int, method: str, transparent: bool, directives: CacheControl, understood: frozenset[int]
) -> str | None:
    if method != "GET":
        return "method"
    if status < 200 or status == 304 or (not transparent and status not in (200, 206)):
        return "status"
    if directives.must_understand and status not in understood:
        return "must-understand"
    return None


def _refused_by_directives(
    status: int, fields: Fields, directives: CacheControl, targeted: bool, authorization: bool
) -> str | None:
    # A status that is understood sets no-store aside where must-understand stands beside it (§5.2.2.3).
    if directives.no_store and not directives.must_understand:
        return "no-store"
    if directives.private and not separable(directives.private_fields):
        return "private"
    if "*" in split_list(get(fields, "Vary") or ""):
        return "vary"
    if authorization and not _shared_despite_authorization(directives):
        return "authorization"
    explicit = _explicit_lifetime(directives, targeted, fields, None) is not None
    if status >= 500 and not explicit:
        return "error without lifetime"
    if not (explicit or directives.public or status in HEURISTICALLY_CACHEABLE):
        return "no lifetime"
    return None


def _shared_despite_authorization(directives: CacheControl) -> bool:
    """RFC 9111 §3.5."""
    return directives.must_revalidate or directives.public or directives.s_maxage is not None


# Freshness (RFC 9111 §4.2)


def assess(
    status: int,
    fields: Fields,
    *,
    request_time: float,
    response_time: float,
    default_ttl: float,
    request_authorization: bool = False,
    request_no_store: bool = False,
) -> Policy:
    """Say how a response may be reused.

    fields                 as received, or as stored after merge_304
    request_time           when the request was sent; response_time: when the header fields came
    default_ttl            lifetime guessed for a response that has a validator but says none
    request_authorization, request_no_store  of the request it answers: a response that may_store
                           would refuse for their sake is not reused without validation either

    Of `no-cache` with field names nothing is left once these fields are not stored; it holds for
    every use where the cache needs one of them. Pragma means nothing in a response (§5.4), but no
    lifetime is guessed against a `Pragma: no-cache` that is all the source said.
    """
    directives, targeted = response_directives(fields)
    date = parse_date(get(fields, "Date"), response_time)
    moment = int(response_time) if date is None else date
    lifetime = _explicit_lifetime(directives, targeted, fields, moment)
    explicit = lifetime is not None
    if lifetime is None:
        lifetime = _guess(status, fields, moment, default_ttl)
    refused = request_no_store or (request_authorization and not _shared_despite_authorization(directives))
    return Policy(
        freshness_lifetime=lifetime,
        explicit=explicit,
        no_cache=refused or (directives.no_cache and not separable(directives.no_cache_fields)),
        must_revalidate=directives.must_revalidate
        or directives.proxy_revalidate
        or directives.s_maxage is not None,
        stale_while_revalidate=directives.stale_while_revalidate,
        stale_if_error=directives.stale_if_error,
    )


def _explicit_lifetime(
    directives: CacheControl, targeted: bool, fields: Fields, date: int | None
) -> float | None:
    """s-maxage, max-age, Expires − Date, in that order (§4.2.1); None when none of them is there.

    date  of the response; None when unknown: then any Expires that can be read gives 0. An Expires
          that is no date, or more than one line of it, is in the past (§5.3)
    """
    if directives.s_maxage is not None:
        return float(directives.s_maxage)
    if directives.max_age is not None:
        return float(directives.max_age)
    lines = [] if targeted else get_all(fields, "Expires")
    if not lines:
        return None
    expires = parse_date(lines[0], date) if len(lines) == 1 else None
    return 0.0 if expires is None or date is None else float(max(0, expires - date))


def _guess(status: int, fields: Fields, date: int, default_ttl: float) -> float:
    """The heuristic lifetime (§4.2.2): a tenth of the time since the last change, at most default_ttl."""
    if status not in HEURISTICALLY_CACHEABLE:
        return 0.0
    pragma = (get(fields, "Pragma") or "").lower()
    if "no-cache" in split_list(pragma) and get(fields, "Cache-Control") is None:
        return 0.0
    modified = parse_date(get(fields, "Last-Modified"), date)
    if modified is not None:
        return max(0.0, min(default_ttl, (date - modified) / 10))
    return max(0.0, default_ttl) if get(fields, "ETag") else 0.0


def initial_age(fields: Fields, *, request_time: float, response_time: float) -> float:
    """corrected_initial_age: the age at response_time, >= 0 (§4.2.3).

    Date counts whole seconds, so the time of receipt is rounded down before the two are compared.
    """
    date = parse_date(get(fields, "Date"), response_time)
    apparent = 0 if date is None else max(0, math.floor(response_time) - date)
    delay = max(0.0, response_time - request_time)
    return max(float(apparent), (parse_age(get(fields, "Age")) or 0) + delay)


def current_age(initial_age: float, response_time: float, now: float) -> float:
    """Age at `now`, >= initial_age also when the clock was set back (§4.2.3)."""
    return initial_age + max(0.0, now - response_time)


# Reuse (RFC 9111 §4, RFC 5861)


def usable(policy: Policy, age: float, *, soft_purged: bool = False) -> Reuse:
    """What may be done with a stored response of this current age.

    soft_purged  an operator marked it stale: validated at the next use, whatever the source allows
    """
    if policy.no_cache or soft_purged:
        return Reuse.STALE
    if age < policy.freshness_lifetime:
        return Reuse.FRESH
    window = policy.stale_while_revalidate or 0
    if not policy.must_revalidate and age < policy.freshness_lifetime + window:
        return Reuse.STALE_WHILE_REVALIDATE
    return Reuse.STALE


def may_serve_on_error(policy: Policy, age: float, default_stale_if_error: float) -> bool:
    """Whether a stale response may answer while no source gives better than 5xx (RFC 5861 §4).

    default_stale_if_error  the node's own limit, for a source that said none
    """
    if policy.no_cache or policy.must_revalidate:
        return False
    limit = default_stale_if_error if policy.stale_if_error is None else policy.stale_if_error
    return age < policy.freshness_lifetime + limit


def negative_ttl(
    fields: Fields, *, default: float, maximum: float = 60, response_time: float | None = None
) -> float:
    """Seconds for which a 404, 410 or 421 with these fields is remembered, >= 0.

    default        `freshness.negative_ttl`, taken when no lifetime is given. `no-store` alone gives
                   none: what is remembered is that the asset is not there, not the response
    maximum        limit on the source's own lifetime, less the age it had already
    response_time  stands in for a missing Date when the lifetime comes from Expires
    """
    directives, targeted = response_directives(fields)
    date = parse_date(get(fields, "Date"), response_time)
    if date is None and response_time is not None:
        date = int(response_time)
    lifetime = _explicit_lifetime(directives, targeted, fields, date)
    if lifetime is None:
        return default
    return max(0.0, min(float(maximum), lifetime - (parse_age(get(fields, "Age")) or 0)))


def only_if_cached(request_fields: Fields) -> bool:
    """The client wants no source to be asked (§5.2.1.7)."""
    return parse_cache_control(get(request_fields, "Cache-Control")).only_if_cached


# Renewal (RFC 9111 §3.2, §4.3.4)

# They speak of the bytes that are stored, or of the content of the 304, which is empty.
_NOT_RENEWED = frozenset(
    {
        "content-digest",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "digest",
        "repr-digest",
    }
)


def merge_304(stored: Fields, received: Fields, *, keep_set_cookie: bool = False) -> Fields:
    """The stored fields after a 304: each field received takes the place of all its stored lines.

    received  as received, with a Date (`with_date`)

    Never renewed: what describes the stored bytes (Content-Length, -Encoding, -Range, digests), what
    is not stored in the first place, and a strong ETag by its own weak form. A stored Age goes: it
    was that of the earlier response.
    """
    taken = without(storable_fields(received, keep_set_cookie=keep_set_cookie), _NOT_RENEWED)
    own, other = parse_etag(get(stored, "ETag")), parse_etag(get(taken, "ETag"))
    if own is not None and other is not None and not own.weak and other.weak and weak_match(own, other):
        taken = without(taken, ("ETag",))
    names = {name.lower() for name, _ in taken} | {"age"}
    merged = (*without(stored, names), *taken)
    # Anew, for the renewed Cache-Control may name fields that stood there before.
    return storable_fields(merged, keep_set_cookie=keep_set_cookie)
