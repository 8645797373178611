"""From what is to be served to an Answer: fields by `core.response`, and the body that goes with them."""

from __future__ import annotations

import secrets
from typing import Literal, NamedTuple

from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.response import Selection, Told, content_type, response_fields, select
from distributor.delivery.answer import Answer, DecideAnew
from distributor.delivery.fetch import Fetch
from distributor.delivery.means import Means
from distributor.delivery.outside import Outside, PassBody
from distributor.delivery.passing import whole_only
from distributor.delivery.reader import StoredBody
from distributor.errors import BlobDamaged, PreconditionFailed, RangeNotSatisfiable
from distributor.http.cache_status import CacheState, Detail, Forward, cache_status_member
from distributor.http.fields import Fields
from distributor.http.ranges import Multipart, unsatisfied_range
from distributor.ports import Exchange


class Story(NamedTuple):
    """How the answer came to be.

    member   this node's Cache-Status member
    seconds  until the source's header fields; None when none was asked for this request
    """

    cache: CacheState
    member: str
    seconds: float | None = None


class Serving:
    """Makes answers."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def stored(
        self, request: AssetRequest, stored: StoredResponse, fetch: Fetch | None, story: Story
    ) -> Answer:
        """Answer from the store, finished or growing. Raises DecideAnew when the blob proves bad."""
        means = self._means
        representation, length, sha256 = stored.representation, stored.length, stored.sha256
        means.store.touch(stored, request.now, hit=story.cache is CacheState.HIT)
        try:
            selection = select(request, representation, length, sha256)
        except (PreconditionFailed, RangeNotSatisfiable) as error:
            return _refused(error, story)
        multipart = None
        if selection.spans is not None and len(selection.spans) > 1 and length is not None:
            multipart = Multipart(
                selection.spans,
                length,
                content_type(request.asset_id, representation),
                secrets.token_hex(16),
            )
        body = None
        local = True
        if _has_body(request, selection):
            body = StoredBody(
                means.store,
                stored,
                fetch,
                lambda: Outside(means, request, representation),
                means.observer,
                selection.spans,
                multipart,
                collapsed=story.cache is CacheState.PENDING,
            )
            try:
                local = await body.open()
            except BaseException as error:
                await body.aclose()
                if isinstance(error, BlobDamaged):
                    raise DecideAnew from None
                raise
        source: Literal["local", "external"] | None = None
        if body is not None:
            source = "local" if local else "external"
        told = Told(story.cache, story.member, means.node_id, request.now, source)
        fields = response_fields(
            request.asset_id,
            representation,
            selection,
            told,
            length=length,
            sha256=sha256,
            multipart=multipart,
        )
        return Answer(
            selection.status, fields, body, story.cache, source or "none", story.seconds, selection.kind
        )

    def outside(
        self,
        request: AssetRequest,
        representation: Representation,
        detail: Detail,
        exchange: Exchange,
        start: int,
        seconds: float | None,
    ) -> Answer:
        """Pass a source's answer through; `exchange`, at byte `start`, is closed with the body, or here."""
        means, length = self._means, representation.length
        member = cache_status_member(
            means.node_id, fwd=Forward.URI_MISS, fwd_status=exchange.status, detail=detail
        )
        story = Story(CacheState.MISS, member, seconds)
        try:
            selection = select(
                request if representation.ranges else whole_only(request), representation, length, None
            )
            if selection.spans is not None and len(selection.spans) > 1:
                selection = select(whole_only(request), representation, length, None)
        except (PreconditionFailed, RangeNotSatisfiable) as error:
            exchange.close()
            return _refused(error, story)
        body: PassBody | None = None
        if _has_body(request, selection):
            span = selection.spans[0] if selection.spans else None
            body = PassBody(
                Outside(means, request, representation, exchange=exchange, at=start),
                span.start if span else 0,
                span.stop if span else length,
                check=span is None and representation.digest is not None,
            )
        else:
            exchange.close()
        source: Literal["external"] | None = "external" if body is not None else None
        told = Told(CacheState.MISS, member, means.node_id, request.now, source, representation.ranges)
        fields = response_fields(
            request.asset_id, representation, selection, told, length=length, sha256=None
        )
        return Answer(
            selection.status, fields, body, CacheState.MISS, source or "none", seconds, selection.kind
        )

    def head_only(
        self, request: AssetRequest, representation: Representation, sha256: bytes | None, story: Story
    ) -> Answer:
        """HEAD from what a look-up brought."""
        length = representation.length
        try:
            selection = select(request, representation, length, sha256)
        except PreconditionFailed as error:
            return _refused(error, story)
        told = Told(story.cache, story.member, self._means.node_id, request.now, None)
        fields = response_fields(
            request.asset_id, representation, selection, told, length=length, sha256=sha256
        )
        return Answer(selection.status, fields, None, story.cache, "none", story.seconds)


def _has_body(request: AssetRequest, selection: Selection) -> bool:
    return request.method == "GET" and selection.status not in (204, 304)


def _refused(error: PreconditionFailed | RangeNotSatisfiable, story: Story) -> Answer:
    """412 and 416 tell the cache's state like any answer."""
    fields: Fields = (("X-Cache", story.cache.value), ("Cache-Status", story.member))
    if isinstance(error, RangeNotSatisfiable):
        fields += (("Content-Range", unsatisfied_range(error.complete_length)),)
        return Answer(0, fields, None, story.cache, "none", story.seconds, "unsatisfiable", error)
    return Answer(0, fields, None, story.cache, "none", story.seconds, None, error)
