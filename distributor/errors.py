"""The edge's exceptions. The axis is what the caller can do; HTTP statuses live in `api/errors.py`.

EdgeError
├── RequestError            the client can do something about it: ask for another thing
│   ├── BadAssetId          the id cannot be one (malformed octets)
│   ├── UnknownAsset        no such id, or every source said so
│   │   └── AssetGone       ... and said it was there once
│   ├── Misdirected         this node does not serve the asset's bucket
│   ├── PreconditionFailed  the client's own condition does not hold
│   ├── RangeNotSatisfiable no asked range overlaps the representation
│   └── OnlyIfCached        the client forbade asking a source, and nothing is stored
├── SourceError             the sources' fault: another source, or later, may do
│   ├── SourceUnreachable   no connection; nothing was sent, any request may be repeated
│   ├── SourceTimeout       connected, then silent too long
│   │   └── SourceStalled   ... amid the body
│   │       └── SourceSlow  ... or all but silent
│   ├── SourceRefused       answered with a status that gives no representation
│   ├── SourceProtocol      broke HTTP, cut the body short, sent too much, a wrong range
│   │   └── RangeIgnored    sent the whole where a part was asked: this source has no ranges
│   ├── VersionChanged      what it has now is another representation than what was begun
│   ├── DigestMismatch      the whole body does not hash to what the source declared
│   └── LoopDetected        the request already passed this node
├── StoreError              the local store's fault: the bytes may still be had from a source
│   ├── SpaceExhausted      no room can be made now
│   ├── TooLarge            would not fit the empty store, or exceeds the largest object allowed
│   ├── BlobDamaged         stored bytes are not those that were written
│   └── DiskFailed          the operating system said no
├── Overloaded              a bounded queue is full; the same request may succeed later
├── FetchCancelled          the fetch was cut loose (purge, shutdown) before it had an outcome
├── Conflict                an operator's call does not fit the present state
└── SettingsError           the settings cannot be used; the message names the key
"""

from __future__ import annotations

import copy
from typing import TypeVar


class EdgeError(Exception):
    """Root of all exceptions the edge raises on purpose."""


class RequestError(EdgeError):
    """The request cannot be answered as it stands; repeating it unchanged will not help.

    fields  header fields of the source that said so, for their freshness; () when none did
    """

    def __init__(self, message: str = "", *, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class BadAssetId(RequestError):
    """The octets of the path cannot be an asset id."""


class UnknownAsset(RequestError):
    """No such asset: the id is outside the grammar, or all sources asked said 404."""


class AssetGone(UnknownAsset):
    """All sources asked said 410."""


class Misdirected(RequestError):
    """The asset's bucket is not distributed by this node, or the source said 421."""


class PreconditionFailed(RequestError):
    """If-Match or If-Unmodified-Since does not hold (RFC 9110 §13.1)."""


class RangeNotSatisfiable(RequestError):
    """No range of the field overlaps the representation (RFC 9110 §15.5.17).

    complete_length  length of the representation, bytes, >= 0
    """

    def __init__(self, complete_length: int) -> None:
        super().__init__(f"no range overlaps {complete_length} bytes")
        self.complete_length = complete_length


class OnlyIfCached(RequestError):
    """`only-if-cached` was asked and nothing usable is stored (RFC 9111 §5.2.1.7)."""


class SourceError(EdgeError):
    """A source did not give what was asked.

    source       the source's configured name or number; never an address
    retry_after  whole seconds the source asked for; None when it did not
    """

    reason = "protocol"

    def __init__(self, message: str = "", *, source: str = "", retry_after: int | None = None) -> None:
        super().__init__(message or self.__class__.__name__)
        self.source = source
        self.retry_after = retry_after


class SourceUnreachable(SourceError):
    """No connection was made, so nothing was sent and every request may be repeated."""

    reason = "connect"


class SourceTimeout(SourceError):
    """Silent for longer than `origin.connect_timeout` or `origin.stall_timeout`."""

    reason = "timeout"


class SourceStalled(SourceTimeout):
    """The body stopped for `origin.stall_timeout` after it had begun."""

    reason = "stall"


class SourceSlow(SourceStalled):
    """Fewer bytes a second than `origin.min_rate` over `origin.stall_timeout`: another may do better."""


class SourceRefused(SourceError):
    """A final status without a representation.

    status  the source's status code
    """

    reason = "status"

    def __init__(
        self, status: int, message: str = "", *, source: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message or f"status {status}", source=source, retry_after=retry_after)
        self.status = status


class SourceProtocol(SourceError):
    """The source broke HTTP or its own word."""

    reason = "protocol"


class BodyShort(SourceProtocol):
    """The body ended before its declared length."""

    reason = "short"


class BodyLong(SourceProtocol):
    """The body went on past its declared length."""

    reason = "long"


class RangeIgnored(SourceProtocol):
    """The same version, but the whole of it where a part was asked: no fault, and of no use here."""

    reason = "status"


class VersionChanged(SourceError):
    """The source now has another representation; bytes of both must never meet."""

    reason = "validator"


class DigestMismatch(SourceError):
    """The complete body does not hash to the source's Repr-Digest (RFC 9530)."""

    reason = "digest"


class LoopDetected(SourceError):
    """This node's id already stands in CDN-Loop (RFC 8586)."""


class StoreError(EdgeError):
    """The local store cannot hold or give bytes. The response may be passed through unstored."""


class SpaceExhausted(StoreError):
    """No room can be made now for a blob that would fit an emptier store.

    The caller may pass the response through unstored; retrying at once will not help.
    """


class TooLarge(StoreError):
    """Larger than `cache.max_object` or than the whole store: never storable under these settings."""


class BlobDamaged(StoreError):
    """Stored bytes are missing or differ from those written. The stored response must be dropped."""


class DiskFailed(StoreError):
    """The operating system refused a disk operation.

    op  one of read, write, sync, index
    """

    def __init__(self, op: str, cause: BaseException | None = None) -> None:
        super().__init__(f"disk {op} failed: {cause}")
        self.op = op
        self.__cause__ = cause


class Overloaded(EdgeError):
    """A bounded queue is full.

    retry_after  whole seconds, 1..3600
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FetchCancelled(EdgeError):
    """The fetch was purged or the node stops; the next request begins anew."""


class Conflict(EdgeError):
    """The operator's call does not fit the present state, e.g. a second stop."""


class SettingsError(EdgeError):
    """Settings that cannot be used.

    problems  one line each, beginning with the dotted key
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


E = TypeVar("E", bound=EdgeError)


def anew(error: E) -> E:
    """A copy of `error` to be raised or kept; one instance would gather the frames of all who raise it."""
    return copy.copy(error)
