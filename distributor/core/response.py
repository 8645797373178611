"""What an answer to an asset request says: which bytes, which status, which fields. Pure.

The same for a hit, a pending asset and a miss, so that they cannot differ; only the few fields
that tell the state apart are handed in.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from distributor.core.model import AssetRequest, Representation, Span
from distributor.core.representation import effective_etag, validators
from distributor.errors import PreconditionFailed
from distributor.http import fields as hf
from distributor.http.cache_status import CacheState, append_cache_status
from distributor.http.conditional import Verdict, evaluate, if_range_holds
from distributor.http.fields import Fields
from distributor.http.freshness import current_age
from distributor.http.media_types import media_type
from distributor.http.ranges import Multipart, content_range, select_spans

# Made anew for each answer, so never taken from the stored fields.
OWN_FIELDS = frozenset(
    {
        "accept-ranges",
        "age",
        "cache-status",
        "content-disposition",
        "content-type",
        "date",
        "etag",
        "last-modified",
        "repr-digest",
        "via",
        "x-content-type-options",
    }
)
# RFC 9110 §15.4.5, and what tells the answer's own story.
KEPT_IN_304 = frozenset({"cache-control", "cdn-cache-control", "expires", "vary", "content-location"})


class Selection(NamedTuple):
    """Which bytes go out, and under which status.

    status  200, 206 or 304 (or the stored status of a transparent edge)
    spans   the ranges of a 206, in the order to send; None: the whole representation, or no body
    kind    how the Range field was taken; None when there was none
    """

    status: int
    spans: list[Span] | None
    kind: Literal["single", "multi", "ignored"] | None


def select(
    request: AssetRequest, representation: Representation, length: int | None, sha256: bytes | None
) -> Selection:
    """Judge preconditions, then Range with If-Range (RFC 9110 §13.2.2, §14.2).

    length  of the whole, bytes; None while unknown: Range is then ignored
    sha256  this node's own digest once complete; it may have become the ETag

    Raises PreconditionFailed and RangeNotSatisfiable.
    """
    known = validators(representation, sha256)
    if representation.status == 200:
        verdict = evaluate(request.method, request.fields, known)
        if verdict is Verdict.FAILED:
            raise PreconditionFailed
        if verdict is Verdict.NOT_MODIFIED:
            return Selection(304, None, None)
    asked = hf.get_all(request.fields, "range")
    if not asked or request.method == "HEAD":
        return Selection(representation.status, None, None)
    if (
        length is None
        or representation.status != 200
        or not if_range_holds(hf.get(request.fields, "if-range"), known)
    ):
        return Selection(representation.status, None, "ignored")
    spans = select_spans(asked, length)
    if spans is None:
        return Selection(200, None, "ignored")
    return Selection(206, spans, "single" if len(spans) == 1 else "multi")


class Told(NamedTuple):
    """What the fields say of this one answer.

    member       this node's Cache-Status member (`http.cache_status`)
    data_source  None where X-Data-Source does not belong (HEAD, 304)
    ranges       whether a later Range would be honoured
    """

    cache: CacheState
    member: str
    node_id: str
    now: float
    data_source: Literal["local", "external"] | None
    ranges: bool = True


def response_fields(
    asset_id: str,
    representation: Representation,
    selection: Selection,
    told: Told,
    *,
    length: int | None,
    sha256: bytes | None,
    multipart: Multipart | None = None,
) -> Fields:
    """All fields of a 200, 206 or 304 but Server-Timing, Server, X-Request-Id and CORS."""
    kept = representation.fields
    if selection.status == 304:
        out = [item for item in kept if item[0].lower() in KEPT_IN_304]
    else:
        out = [item for item in kept if item[0].lower() not in OWN_FIELDS]
        out += _content(asset_id, representation, selection, length, multipart)
        digest = representation.digest or sha256
        sent_digest = hf.get(kept, "repr-digest")
        if sent_digest is not None:
            out.append(("Repr-Digest", sent_digest))
        elif digest is not None:
            out.append(("Repr-Digest", hf.format_repr_digest(digest)))
        out.append(("Accept-Ranges", "bytes" if told.ranges else "none"))
    etag = effective_etag(representation, sha256)
    if etag is not None:
        out.append(("ETag", etag))
    if representation.last_modified is not None:
        out.append(("Last-Modified", hf.format_date(representation.last_modified)))
    out.append(("Date", hf.format_date(representation.date)))
    if told.cache is not CacheState.MISS or hf.get(kept, "age") is not None:
        age = current_age(representation.initial_age, representation.response_time, told.now)
        out.append(("Age", str(int(age))))
    via = hf.get(kept, "via")
    own_via = f"1.1 {told.node_id}"
    out.append(("Via", own_via if via is None else f"{via}, {own_via}"))
    out.append(("Cache-Status", append_cache_status(hf.get(kept, "cache-status"), told.member)))
    out.append(("X-Cache", told.cache.value))
    if told.data_source is not None and selection.status != 304:
        out.append(("X-Data-Source", told.data_source))
    return tuple(out)


def _content(
    asset_id: str,
    representation: Representation,
    selection: Selection,
    length: int | None,
    multipart: Multipart | None,
) -> list[tuple[str, str]]:
    """The fields that speak of the body: type, length, range, disposition.

    What a transparent edge relays under another status than 200 gets none of our own.
    """
    kept = representation.fields
    out: list[tuple[str, str]] = []
    if representation.status != 200:
        out += [item for item in kept if item[0].lower() in ("content-type", "content-disposition")]
        if length is not None and representation.status != 204:
            out.append(("Content-Length", str(length)))
        return out
    if multipart is not None:
        out.append(("Content-Type", multipart.content_type))
        out.append(("Content-Length", str(multipart.content_length)))
    else:
        out.append(("Content-Type", content_type(asset_id, representation)))
        if selection.spans is not None and length is not None:
            span = selection.spans[0]
            out.append(("Content-Length", str(span.stop - span.start)))
            out.append(("Content-Range", content_range(span, length)))
        elif length is not None:
            out.append(("Content-Length", str(length)))
    out.append(("X-Content-Type-Options", "nosniff"))
    out.append(("Content-Disposition", hf.get(kept, "content-disposition") or "inline"))
    return out


def content_type(asset_id: str, representation: Representation) -> str:
    """The source's media type, else by the id's extension."""
    return hf.get(representation.fields, "content-type") or media_type(asset_id)
