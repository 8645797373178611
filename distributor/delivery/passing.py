"""Pass-through: the request to a source of one client alone, for what cannot be stored."""

from __future__ import annotations

import dataclasses

from distributor.core.model import AssetRequest, Representation
from distributor.core.representation import Received, check_exact, length_of, without_ranges
from distributor.delivery.means import Means, received_from
from distributor.errors import Misdirected, VersionChanged
from distributor.http import fields as hf
from distributor.http.ranges import first_position
from distributor.ports import Exchange


def whole_only(request: AssetRequest) -> AssetRequest:
    """The same request without its Range."""
    return dataclasses.replace(request, fields=hf.without(request.fields, ("range", "if-range")))


async def open_pass(means: Means, request: AssetRequest) -> tuple[Exchange, Representation, int]:
    """Ask the sources for this client: the one range it wants where that can be told, else the whole.

    Returns the exchange, what it speaks of, and the position of its first body byte.
    Raises what `SourcePool.open` raises, and Misdirected.
    """
    plain = means.plain(request)
    wanted = first_position(hf.get_all(request.fields, "range"))
    asked = plain
    if wanted is not None and hf.get(request.fields, "if-range") is None:
        start, last = wanted
        asked = plain._replace(start=start, stop=None if last is None else last + 1)

    def judge(received: Received) -> None:
        length_of(received)
        if received.status == 206:
            check_exact(received, asked.start or 0, asked.stop)

    try:
        exchange = await means.pool.open(asked, judge, last_resort=True)
    except VersionChanged:
        exchange = await means.pool.open(plain, judge, last_resort=True)
    try:
        representation = _describe(means, request, exchange)
        if exchange.status == 206 and representation.length is None:
            exchange.close()
            exchange = await means.pool.open(plain, judge, last_resort=True)
            representation = _describe(means, request, exchange)
    except BaseException:
        exchange.close()
        raise
    if asked.start is not None and exchange.status == 200:
        representation = without_ranges(representation)
    return exchange, representation, (asked.start or 0) if exchange.status == 206 else 0


def _describe(means: Means, request: AssetRequest, exchange: Exchange) -> Representation:
    representation = means.describe(request, received_from(exchange))
    if not means.served(representation.bucket):
        raise Misdirected("its bucket is not distributed by this node")
    return representation
