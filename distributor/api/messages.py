"""A request as the API sees it, and the reply that it makes. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from distributor.api.errors import Problem
from distributor.core.model import DataSource
from distributor.errors import EdgeError
from distributor.http.cache_status import CacheState
from distributor.http.fields import Fields
from distributor.ports import Body

__all__ = ["NO_STORE", "Reply", "Request", "json_reply", "problem_reply"]

NO_STORE: Fields = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))

RangeKind = Literal["single", "multi", "ignored", "unsatisfiable"]


@dataclass(slots=True)
class Request:
    """A request whose head is whole and well framed.

    method      the token as sent, any case
    path        raw path of the target, ASCII: octets above 0x7F are percent-encoded already
    query       raw query without "?"; None when there is no "?"
    http10      the client speaks HTTP/1.0: nothing may be chunked
    headers     the field lines, looked up without regard to case
    fields      the field lines as received, an octet a character (ISO 8859-1)
    request_id  the client's if it is well formed, else a new one
    octets      the head as received, when it came in one piece with nothing behind it; b"" otherwise
    peer        the client's address, for the log only
    now         Unix seconds; started  the monotonic clock, when the head was whole
    read_body   reads the whole body; raises BodyTooLarge, BadHead, TimeoutError
    """

    method: str
    path: str
    query: str | None
    http10: bool
    headers: Mapping[str, str]
    fields: Fields
    request_id: str
    peer: str
    now: float
    started: float
    read_body: Callable[[], Awaitable[bytes]]
    octets: bytes = b""


@dataclass(slots=True)
class Reply:
    """What to send.

    fields   all header fields but Date (unless it is another than now), Server, X-Request-Id, CORS,
             Connection, Transfer-Encoding; Content-Length may be left out where the body tells it
    body     bytes are whole; a Body streams and is always aclose()d; None: no body
    error    for the log: what the reply was made of
    """

    route: str
    status: int
    fields: Fields = ()
    body: bytes | Body | None = None
    cache: CacheState | None = None
    data_source: DataSource = "none"
    source_seconds: float | None = None
    range_kind: RangeKind | None = None
    asset_id: str = ""
    error: EdgeError | None = None


class BodyTooLarge(Exception):
    """The request body is larger than this operation takes."""


def json_reply(route: str, value: object, status: int = 200, fields: Fields = ()) -> Reply:
    """Return `value` as a JSON answer that no cache keeps."""
    return Reply(route, status, (*NO_STORE, *fields), msgspec.json.encode(value))


def problem_reply(route: str, problem: Problem, fields: Fields = ()) -> Reply:
    """Return the ErrorResponse of `problem`."""
    return Reply(route, problem.status, (*NO_STORE, *fields), problem.body)
