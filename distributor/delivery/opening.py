"""The first request of a fetch: plain, conditional, resuming, or for the part that is wanted first.

nothing stored, asked from near the start ..... GET of the whole
nothing stored, asked from far ahead .......... GET of those segments: the price of one seek
stored in part ................................ GET of the first wanted absent bytes, If-Range
stored whole, stale ........................... GET with If-None-Match, If-Modified-Since
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from distributor.core.forwarding import source_fields
from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.representation import binding, resumable
from distributor.http import fields as hf
from distributor.http.fields import Fields
from distributor.http.ranges import first_position
from distributor.ports import SourceRequest


class Opening(NamedTuple):
    """request to send; resumes: the version that a 206 must continue, None when there is none."""

    request: SourceRequest
    resumes: Representation | None = None

    def whole(self) -> Opening:
        """The same without conditions and range."""
        return Opening(
            self.request._replace(
                start=None,
                stop=None,
                condition=None,
                fields=hf.without(self.request.fields, ("if-none-match", "if-modified-since")),
            )
        )


def opening(
    request: AssetRequest,
    base: StoredResponse | None,
    segment: int,
    fill: Literal["whole", "asked"],
    node_id: str,
) -> Opening:
    """Choose the first request for `request`, given what is stored.

    segment  bytes of one cell of the grid for a new blob; a partial one keeps its own
    """
    plain = SourceRequest("GET", request.asset_id, request.query, fields=source_fields(request, node_id))
    wanted = first_position(hf.get_all(request.fields, "range"))
    if base is not None and base.complete:
        return Opening(plain._replace(fields=plain.fields + conditions(base.representation)))
    if base is not None and base.length is not None and resumable(base.representation):
        return _resuming(plain, base, wanted, fill)
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


def _resuming(
    plain: SourceRequest,
    base: StoredResponse,
    wanted: tuple[int, int | None] | None,
    fill: Literal["whole", "asked"],
) -> Opening:
    segments = base.segments
    assert segments.length is not None
    start, last = wanted or (0, None)
    stop = segments.length if last is None else min(last + 1, segments.length)
    gap = segments.missing_run(min(start, segments.length), stop) or segments.missing_run(0)
    if gap is None:
        # All bytes are there, only never verified: ask for the last one, to have the version confirmed.
        gap = (segments.length - 1, segments.length)
    begin, end = gap
    index = begin // segments.size
    begin = min(begin, index * segments.size + segments.filled(index))
    return Opening(
        plain._replace(
            start=begin,
            stop=None if end == segments.length else end,
            condition=binding(base.representation),
        ),
        base.representation,
    )
