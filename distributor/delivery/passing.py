"""Pass-through: the request to a source of one client alone, for what cannot be stored."""

from __future__ import annotations

import dataclasses

from distributor.core.forwarding import source_fields
from distributor.core.model import AssetRequest, Representation
from distributor.core.representation import Received, check_exact, describe
from distributor.delivery.means import Means
from distributor.errors import Misdirected, VersionChanged
from distributor.http import fields as hf
from distributor.http.ranges import first_position
from distributor.ports import Exchange, SourceRequest


def whole_only(request: AssetRequest) -> AssetRequest:
    """The same request without its Range."""
    return dataclasses.replace(request, fields=hf.without(request.fields, ("range", "if-range")))


async def open_pass(means: Means, request: AssetRequest) -> tuple[Exchange, Representation, int]:
    """Ask the sources for this client: the one range it wants where that can be told, else the whole.

    Returns the exchange, what it speaks of, and the position of its first body byte.
    Raises what `SourcePool.open` raises, and Misdirected.
    """
    plain = SourceRequest(
        "GET", request.asset_id, request.query, fields=source_fields(request, means.node_id)
    )
    wanted = first_position(hf.get_all(request.fields, "range"))
    asked = plain
    if wanted is not None and hf.get(request.fields, "if-range") is None:
        start, last = wanted
        asked = plain._replace(start=start, stop=None if last is None else last + 1)

    def judge(received: Received) -> None:
        if received.status == 206:
            check_exact(received, asked.start or 0, asked.stop)

    try:
        exchange = await means.pool.open(asked, judge)
    except VersionChanged:
        exchange = await means.pool.open(plain)
    try:
        representation = _describe(means, exchange)
        if exchange.status == 206 and representation.length is None:
            exchange.close()
            exchange = await means.pool.open(plain)
            representation = _describe(means, exchange)
    except BaseException:
        exchange.close()
        raise
    return exchange, representation, (asked.start or 0) if exchange.status == 206 else 0


def _describe(means: Means, exchange: Exchange) -> Representation:
    received = Received(exchange.status, exchange.fields, exchange.request_time, exchange.response_time)
    representation = describe(received, default_ttl=means.default_ttl)
    if not means.served(representation.bucket):
        raise Misdirected("its bucket is not distributed by this node")
    return representation
