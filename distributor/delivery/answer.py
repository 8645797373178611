"""What the edge gives back for an asset request, before anything is written to a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distributor.core.model import DataSource
from distributor.errors import EdgeError
from distributor.http.cache_status import CacheState
from distributor.http.fields import Fields
from distributor.ports import Body

RangeKind = Literal["single", "multi", "ignored", "unsatisfiable"]


class DecideAnew(EdgeError):
    """What the decision stood on has gone."""


@dataclass(slots=True)
class Answer:
    """Either a response (error is None) or an error to be shaped by the API's one table.

    status          200, 206 or 304 (or, when transparent, what the source said); 0 with an error
    fields          every field the contract's §3.5 asks for except Server-Timing, Server,
                    X-Request-Id and CORS; with an error, only those to be added to its answer
                    (X-Cache, Cache-Status, Content-Range, Retry-After)
    body            None: there is none to send (HEAD, 304, errors). The receiver must aclose() it
    cache           None where X-Cache does not belong (404, 421, 5xx)
    source_seconds  until the source's header fields, where this request asked one
    """

    status: int
    fields: Fields = ()
    body: Body | None = None
    cache: CacheState | None = None
    data_source: DataSource = "none"
    source_seconds: float | None = None
    range_kind: RangeKind | None = None
    error: EdgeError | None = None
