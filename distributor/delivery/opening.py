"""The first request of a fetch: plain, conditional, resuming, or for the part that is wanted first.

nothing stored, asked from near the start ..... GET of the whole
nothing stored, asked from far ahead .......... GET of those segments: the price of one seek
stored in part ................................ GET of the first wanted absent bytes, If-Range
stored in part, nothing wanted is absent ...... GET with If-None-Match, If-Modified-Since
stored whole, stale ........................... the same
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.representation import binding, resumable
from distributor.core.response import select
from distributor.core.segments import SegmentMap
from distributor.errors import RequestError
from distributor.http import fields as hf
from distributor.http.fields import Fields
from distributor.http.ranges import Span, first_position
from distributor.ports import SourceRequest


class Opening(NamedTuple):
    """request to send; resumes: the version that a 206 must continue, None when there is none."""

    request: SourceRequest
    resumes: Representation | None = None

    def whole(self) -> Opening:
        """The same without conditions and range."""
        fields = hf.without(self.request.fields, ("if-none-match", "if-modified-since"))
        return Opening(self.request._replace(start=None, stop=None, condition=None, fields=fields))


def opening(
    plain: SourceRequest,
    request: AssetRequest,
    base: StoredResponse | None,
    segment: int,
    fill: Literal["whole", "asked"],
) -> Opening:
    """Choose the first request for `request`, given what is stored.

    plain    GET of the whole, without conditions
    segment  bytes of one cell of the grid for a new blob; a partial one keeps its own
    """
    if base is not None and base.complete:
        return _confirming(plain, base)
    if base is not None and base.length and resumable(base.representation):
        return _resuming(plain, request, base, fill)
    wanted = first_position(hf.get_all(request.fields, "range"))
    if wanted is not None and hf.get(request.fields, "if-range") is None:
        start, last = wanted
        index = start // segment
        if index >= 2 or fill == "asked":
            stop = None if last is None else (last // segment + 1) * segment
            return Opening(plain._replace(start=index * segment, stop=stop))
    return Opening(plain)


def conditions(representation: Representation) -> Fields:
    """If-None-Match and If-Modified-Since of what the source itself sent; both where it sent both."""
    out: list[tuple[str, str]] = []
    if representation.etag is not None:
        out.append(("If-None-Match", representation.etag))
    if representation.last_modified is not None:
        out.append(("If-Modified-Since", hf.format_date(representation.last_modified)))
    return tuple(out)


def _confirming(plain: SourceRequest, base: StoredResponse) -> Opening:
    return Opening(plain._replace(fields=plain.fields + conditions(base.representation)))


def _resuming(
    plain: SourceRequest, request: AssetRequest, base: StoredResponse, fill: Literal["whole", "asked"]
) -> Opening:
    segments = base.segments
    assert segments.length is not None
    gap = None
    for span in _wanted(request, base, segments.length):
        gap = gap or segments.missing_run(*span)
    if gap is None and fill == "asked" and not segments.complete:
        return _confirming(plain, base)
    # All bytes may be there, only never verified: the last one then brings word of the version.
    begin, end = gap or segments.missing_run(0) or (segments.length - 1, segments.length)
    if not segments.available(begin):
        begin = prefix_end(segments, begin)
    return Opening(
        plain._replace(
            start=begin,
            stop=None if end == segments.length else end,
            condition=binding(base.representation),
        ),
        base.representation,
    )


def prefix_end(segments: SegmentMap, position: int) -> int:
    """Where the present bytes of the segment of the absent byte at `position` end."""
    index = position // segments.size
    return index * segments.size + segments.filled(index)


def _wanted(request: AssetRequest, base: StoredResponse, length: int) -> list[Span]:
    """What the answer will need of the bytes; nothing for a 304, 412 or 416."""
    try:
        selection = select(request, base.representation, length, None)
    except RequestError:
        return []
    if selection.status == 304:
        return []
    return [Span(0, length)] if selection.spans is None else selection.spans
