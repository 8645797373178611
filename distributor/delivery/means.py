"""What everything in this folder works with; made once, by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from distributor.core.forwarding import source_fields
from distributor.core.model import AssetRequest, Representation
from distributor.core.pace import Pace
from distributor.core.representation import Received, describe, renewed
from distributor.http import fields as hf
from distributor.http.freshness import Storability, may_store
from distributor.ports import Clock, Exchange, Observer, SourceRequest, Store
from distributor.upstream.pool import SourcePool


@dataclass(frozen=True)
class Means:
    """What every fetch of a node works with. `served(bucket)`: is it distributed now?

    min_rate     bytes a second below which a source is left for another, over pace_window seconds; 0: none is
    max_fetches  under way at once; max_waiting: waiting for one of them to end, one more is Overloaded
    """

    store: Store
    pool: SourcePool
    clock: Clock
    observer: Observer
    node_id: str
    segment: int
    default_ttl: float
    served: Callable[[str], bool]
    fill: Literal["whole", "asked"] = "whole"
    transparent: bool = False
    min_rate: int = 0
    pace_window: float = 10.0
    max_fetches: int = 256
    max_waiting: int = 4096

    def pace(self) -> Pace:
        """For one connection; where there is no other source, none is too slow."""
        return Pace(self.min_rate if len(self.pool) > 1 else 0, self.pace_window)

    def plain(self, request: AssetRequest) -> SourceRequest:
        """A GET of the whole for `request`, without conditions."""
        fields = source_fields(request, self.node_id, transparent=self.transparent)
        return SourceRequest("GET", request.asset_id, request.query, fields=fields)

    def describe(self, request: AssetRequest, received: Received) -> Representation:
        """See `core.representation.describe`."""
        return describe(
            received,
            default_ttl=self.default_ttl,
            keep_set_cookie=self.transparent,
            authorization=self.forwards_authorization(request),
        )

    def renewed(self, stored: Representation, request: AssetRequest, received: Received) -> Representation:
        """See `core.representation.renewed`."""
        return renewed(
            stored,
            received,
            default_ttl=self.default_ttl,
            keep_set_cookie=self.transparent,
            authorization=self.forwards_authorization(request),
        )

    def may_store(self, request: AssetRequest, received: Received) -> Storability:
        """See `http.freshness.may_store`."""
        return may_store(
            received.status,
            received.fields,
            transparent=self.transparent,
            authorization=self.forwards_authorization(request),
        )

    def may_keep(self, renewed: Representation) -> bool:
        """Whether what a 304 made of a stored response may still be stored: it may say `private` now."""
        return may_store(renewed.status, renewed.fields, transparent=self.transparent).allowed

    def forwards_authorization(self, request: AssetRequest) -> bool:
        """Whether the client's credentials go to the source (RFC 9111 §3.5)."""
        return self.transparent and hf.get(request.fields, "authorization") is not None


def received_from(exchange: Exchange) -> Received:
    """The head of an exchange as a plain value."""
    return Received(exchange.status, exchange.fields, exchange.request_time, exchange.response_time)
