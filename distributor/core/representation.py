"""From a source's answer to a Representation, and whether two answers are of one version. Pure."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from distributor.core.model import Representation
from distributor.errors import RangeIgnored, SourceProtocol, VersionChanged
from distributor.http import fields as hf
from distributor.http.conditional import Validators, parse_etag, strong_match, strong_validator, weak_match
from distributor.http.fields import Fields
from distributor.http.freshness import assess, initial_age, merge_304
from distributor.http.ranges import parse_content_range

DEFAULT_BUCKET = "default"
# The body's framing belongs to one transfer and is made anew for each answer.
FRAMING = ("content-length", "content-range", "transfer-encoding")


class Received(NamedTuple):
    """A source's head: status, fields as received, and when (Unix seconds)."""

    status: int
    fields: Fields
    request_time: float
    response_time: float


def describe(
    received: Received, *, default_ttl: float, keep_set_cookie: bool = False, authorization: bool = False
) -> Representation:
    """Say what a 200, 206 or other final answer with a body tells of the asset's bytes.

    keep_set_cookie  of a transparent edge;  authorization: the request carried the client's

    Of a 206 the length is the total in its Content-Range, None when that is `*`.
    Raises SourceProtocol when Content-Length or Content-Range cannot be read.
    """
    fields = received.fields
    date = hf.parse_date(hf.get(fields, "date") or "", now=received.response_time)
    date = int(received.response_time) if date is None else date
    modified = hf.parse_date(hf.get(fields, "last-modified") or "", now=received.response_time)
    kept = hf.without(hf.storable_fields(fields, keep_set_cookie=keep_set_cookie), FRAMING)
    return Representation(
        status=200 if received.status == 206 else received.status,
        fields=kept,
        length=length_of(received),
        etag=hf.get(fields, "etag"),
        last_modified=None if modified is None else min(modified, date),
        date=date,
        digest=hf.parse_repr_digest(hf.get(fields, "repr-digest")),
        bucket=hf.get(fields, "x-distribution-bucket") or DEFAULT_BUCKET,
        ranges=received.status == 206 or (hf.get(fields, "accept-ranges") or "bytes").lower() != "none",
        initial_age=initial_age(
            fields, request_time=received.request_time, response_time=received.response_time
        ),
        response_time=received.response_time,
        policy=assess(
            200 if received.status == 206 else received.status,
            fields,
            request_time=received.request_time,
            response_time=received.response_time,
            default_ttl=default_ttl,
            request_authorization=authorization,
        ),
    )


def length_of(received: Received) -> int | None:
    """Bytes of the whole, as the head tells; None when it does not. Raises SourceProtocol."""
    if received.status == 204:
        return 0
    if received.status == 206:
        parsed = parse_content_range(hf.get(received.fields, "content-range") or "")
        if parsed is None:
            raise SourceProtocol("206 without a usable Content-Range")
        return parsed[1]
    value = hf.get(received.fields, "content-length")
    if value is None or hf.get(received.fields, "transfer-encoding") is not None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise SourceProtocol("unreadable Content-Length")
    return int(value)


def validators(representation: Representation, sha256: bytes | None) -> Validators:
    """The validators that clients' conditions are judged by, an ETag made of a digest included."""
    return Validators(
        etag=effective_etag(representation, sha256),
        last_modified=representation.last_modified,
        date=representation.date,
    )


def effective_etag(representation: Representation, sha256: bytes | None) -> str | None:
    """The source's ETag; without one `"sha256-…"` of its digest, or of ours once complete."""
    if representation.etag is not None:
        return representation.etag
    digest = representation.digest or sha256
    return None if digest is None else f'"sha256-{digest.hex()}"'


def binding(representation: Representation) -> str | None:
    """The If-Range value that binds further requests to this version; None: there is none.

    The source's own strong ETag, else its strong Last-Modified. A digest alone binds too, but
    cannot be sent as a condition: see `same_version`.
    """
    return strong_validator(
        Validators(
            etag=representation.etag,
            last_modified=representation.last_modified,
            date=representation.date,
        )
    )


def resumable(representation: Representation) -> bool:
    """Whether a second connection may add bytes to those of the first."""
    return (
        representation.status == 200
        and representation.ranges
        and (binding(representation) is not None or representation.digest is not None)
    )


def without_ranges(representation: Representation) -> Representation:
    """What is to be said of a source that was asked for a part and sent the whole."""
    return replace(representation, ranges=False)


def check_continuation(representation: Representation, received: Received, start: int) -> None:
    """Accept a 206 that continues `representation` from byte `start`, or raise.

    Taken only with the same strong validator or the same Repr-Digest, the same total, and the
    asked start (RFC 9110 §15.3.7.3: never combine without a strong validator).
    Raises RangeIgnored for the whole of the same version; VersionChanged when it is, or may be,
    another one; SourceProtocol for a 206 that breaks the protocol.
    """
    if received.status != 206:
        if same_version(representation, received) and length_of(received) in (None, representation.length):
            raise RangeIgnored("the whole instead of a part")
        raise VersionChanged("not a continuation")
    parsed = parse_content_range(hf.get(received.fields, "content-range") or "")
    if parsed is None:
        raise SourceProtocol("206 without a usable Content-Range")
    span, total = parsed
    if not same_version(representation, received):
        raise VersionChanged("other validators")
    if total is not None and representation.length is not None and total != representation.length:
        raise VersionChanged("other total length")
    if span.start != start:
        raise SourceProtocol("206 of another range than asked")


def check_exact(received: Received, start: int, stop: int | None) -> None:
    """A 206 must carry exactly the range asked for, clipped to the total (contract §6).

    stop  as asked; None: to the end.  Raises SourceProtocol.
    """
    parsed = parse_content_range(hf.get(received.fields, "content-range") or "")
    if parsed is None:
        raise SourceProtocol("206 without a usable Content-Range")
    span, total = parsed
    end = total if stop is None else stop if total is None else min(stop, total)
    if span.start != start or (end is not None and span.stop != end):
        raise SourceProtocol("206 of another range than asked")


def same_version(representation: Representation, received: Received) -> bool:
    """Whether `received` speaks of the bytes that `representation` speaks of, by strong comparison.

    By the digest where both have one; else by the entity tags where one of them is strong; else by
    a strong Last-Modified, beside which weak tags, if any, must be the same too.
    """
    digest = hf.parse_repr_digest(hf.get(received.fields, "repr-digest"))
    if digest is not None and representation.digest is not None:
        return digest == representation.digest
    ours, theirs = parse_etag(representation.etag), parse_etag(hf.get(received.fields, "etag"))
    if (ours is not None and not ours.weak) or (theirs is not None and not theirs.weak):
        return strong_match(ours, theirs)
    modified = hf.parse_date(hf.get(received.fields, "last-modified") or "", now=received.response_time)
    return (
        ours == theirs
        and modified is not None
        and modified == representation.last_modified
        and binding(representation) is not None
    )


def confirms(representation: Representation, received: Received) -> bool:
    """Whether a 304 is of what is stored: a validator it carries must not be another one (§4.3.3)."""
    theirs = parse_etag(hf.get(received.fields, "etag"))
    return theirs is None or weak_match(parse_etag(representation.etag), theirs)


def renewed(
    stored: Representation,
    received: Received,
    *,
    default_ttl: float,
    keep_set_cookie: bool = False,
    authorization: bool = False,
) -> Representation:
    """The stored representation after a 304 or a matching 206 (RFC 9111 §3.2, §4.3.4).

    Same bytes, length, validators and digest; new fields, date, age and freshness.
    """
    update = hf.with_date(received.fields, received.response_time)
    fields = hf.without(merge_304(stored.fields, update, keep_set_cookie=keep_set_cookie), FRAMING)
    date = hf.parse_date(hf.get(received.fields, "date") or "", now=received.response_time)
    return Representation(
        status=stored.status,
        fields=fields,
        length=stored.length,
        etag=hf.get(fields, "etag"),
        last_modified=stored.last_modified,
        date=int(received.response_time) if date is None else date,
        digest=stored.digest,
        bucket=hf.get(received.fields, "x-distribution-bucket") or stored.bucket,
        ranges=stored.ranges,
        initial_age=initial_age(
            received.fields, request_time=received.request_time, response_time=received.response_time
        ),
        response_time=received.response_time,
        policy=assess(
            stored.status,
            fields,
            request_time=received.request_time,
            response_time=received.response_time,
            default_ttl=default_ttl,
            request_authorization=authorization,
        ),
    )
