"""What a fetch has learned once its source's header fields are there."""

from __future__ import annotations

from dataclasses import dataclass

from distributor.core.model import Representation, StoredResponse
from distributor.http.cache_status import Detail
from distributor.ports import Exchange


@dataclass(frozen=True, slots=True)
class Filling:
    """The head is known and the bytes are coming into `stored`."""

    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The source answered 304: `stored` is fresh again."""

    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class Unstored:
    """The answer is not kept; `exchange` is for the one who started the fetch, and only for it.

    start  position of the exchange's first body byte
    """

    representation: Representation
    reason: Detail
    exchange: Exchange
    start: int


Head = Filling | Confirmed | Unstored
