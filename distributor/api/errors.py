"""One table: what went wrong → status, type and the fixed sentence of its ErrorResponse.

A message never holds what a client or a source sent, an address, a path or an exception's text.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from distributor import errors

__all__ = ["ErrorResponse", "Problem", "problem_of", "retry_after_of"]


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of every 4xx and 5xx."""

    type: str
    message: str


class Problem(NamedTuple):
    """A status with its body, encoded once."""

    status: int
    type: str
    message: str
    body: bytes


def _problem(status: int, type_: str, message: str) -> Problem:
    return Problem(status, type_, message, msgspec.json.encode(ErrorResponse(type_, message)))


# What the API finds wrong itself
BAD_REQUEST = _problem(400, "bad_request", "The request is malformed.")
BAD_BODY = _problem(400, "bad_request", "The request body is not what this operation takes.")
BAD_PARAMETER = _problem(400, "bad_request", "A query parameter is not what this operation takes.")
BAD_CURSOR = _problem(400, "bad_request", "The cursor is not one that this node made.")
UNAUTHORIZED = _problem(401, "unauthorized", "A valid bearer token is required.")
NO_SUCH_ROUTE = _problem(404, "not_found", "There is nothing at this path.")
NO_SUCH_OBJECT = _problem(404, "not_found", "The object is not stored.")
NO_SUCH_JOB = _problem(404, "not_found", "There is no such job.")
METHOD_NOT_ALLOWED = _problem(405, "method_not_allowed", "The method is not allowed here.")
REQUEST_TIMEOUT = _problem(408, "request_timeout", "The request did not arrive in time.")
CONFLICT = _problem(409, "conflict", "The node's present state does not allow this.")
PAYLOAD_TOO_LARGE = _problem(413, "payload_too_large", "The request body is too large.")
UNSUPPORTED_MEDIA_TYPE = _problem(415, "unsupported_media_type", "The request body must be application/json.")
INTERNAL = _problem(500, "internal", "The node failed to answer.")
TOO_MANY_CLIENTS = _problem(503, "unavailable", "Too many connections are open.")
NOT_READY = _problem(503, "unavailable", "The node is not ready.")

# What the floors below raise. The first class that fits, in the order of the MRO, decides.
_TABLE: dict[type[BaseException], Problem] = {
    errors.RequestError: BAD_REQUEST,
    errors.BadAssetId: _problem(400, "bad_request", "The object id is malformed."),
    errors.UnknownAsset: _problem(404, "not_found", "Data object does not exist."),
    errors.AssetGone: _problem(410, "gone", "Data object does not exist any more."),
    errors.Misdirected: _problem(421, "misdirected_request", "Data object is not served by this node."),
    errors.PreconditionFailed: _problem(412, "precondition_failed", "A condition does not hold."),
    errors.RangeNotSatisfiable: _problem(
        416, "range_not_satisfiable", "No requested range overlaps the object."
    ),
    errors.OnlyIfCached: _problem(504, "gateway_timeout", "The object is not stored here."),
    errors.SourceError: _problem(502, "bad_gateway", "The source did not give the object."),
    errors.SourceTimeout: _problem(504, "gateway_timeout", "The source did not answer in time."),
    errors.LoopDetected: _problem(502, "loop_detected", "The request has already passed this node."),
    errors.Overloaded: _problem(503, "unavailable", "Too many requests are waiting."),
    errors.FetchCancelled: _problem(503, "unavailable", "The transfer of the object was ended."),
    errors.Conflict: CONFLICT,
    errors.EdgeError: INTERNAL,
}
SOURCE_UNAVAILABLE = _problem(503, "unavailable", "The source is not available.")

_LEAST_RETRY, _LONGEST_RETRY = 1, 3600


def problem_of(error: BaseException) -> Problem:
    """Return what to answer for `error`; INTERNAL for whatever is not an EdgeError."""
    if isinstance(error, errors.SourceRefused) and error.status == 503:
        return SOURCE_UNAVAILABLE  # the source's own word for "later", which a client can act on
    for kind in type(error).__mro__:
        problem = _TABLE.get(kind)
        if problem is not None:
            return problem
    return INTERNAL


def retry_after_of(error: BaseException) -> int:
    """Return whole seconds, 1..3600, for the Retry-After of a 503."""
    seconds = getattr(error, "retry_after", None)
    return min(max(seconds, _LEAST_RETRY), _LONGEST_RETRY) if isinstance(seconds, int) else _LEAST_RETRY
