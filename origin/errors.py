"""The origin's exceptions. The axis is what the caller can do; statuses and bodies live in `api/`.

    OriginError
    ├── Invalid               the request is wrong as it stands: change it
    │   ├── IncompleteBody    fewer bytes arrived than were declared, or none came for too long
    │   └── DigestMismatch    the bytes do not hash to what the request declared
    ├── Unauthenticated       say who you are, with credentials that are good
    ├── Forbidden             known, but without the right or the scope
    ├── NotFound              no such thing, or none that this caller may know of
    ├── Conflict              clashes with the present state: look, then decide
    │   └── AlreadyExists     the path is taken by another File
    ├── TooLarge              more bytes than this call takes
    ├── NoRoom                the storage is full
    ├── Unavailable           not now: the same request may succeed later
    │   ├── StorageOffline    the storage cannot be reached, or its disk fails
    │   └── TooMany           a limit on requests is used up
    └── NotOffered            a call of the dialect that this origin does not have

Messages are for the caller: they name things by id, path or parameter, never by an internal place.
"""

from __future__ import annotations


class OriginError(Exception):
    """Root of all exceptions the origin raises on purpose."""


class Invalid(OriginError):
    """The request cannot be carried out as it stands.

    context      parameter, attribute or part of the request at fault, e.g. "path"
    explanation  one sentence for people
    value        the offending value, shortened; None when there is none to show
    """

    def __init__(self, context: str, explanation: str, value: str | None = None) -> None:
        super().__init__(f"{context}: {explanation}")
        self.context = context
        self.explanation = explanation
        self.value = value[:200] if value is not None else None


class IncompleteBody(Invalid):
    """The body ended, or stalled, before its declared end. Nothing of it was kept."""

    def __init__(self, explanation: str = "the body ended before its declared length") -> None:
        super().__init__("body", explanation)


class DigestMismatch(Invalid):
    """The body does not hash to the digest that came with it. Nothing of it was kept."""

    def __init__(self, declared: str, actual: str) -> None:
        super().__init__("digest", f"the body hashes to {actual}, not to {declared}", declared)


class Unauthenticated(OriginError):
    """No credentials where some are needed, or bad ones.

    bad_token  True when a token was sent and is unknown, deleted or expired
    """

    def __init__(self, message: str = "credentials are needed", *, bad_token: bool = False) -> None:
        super().__init__(message)
        self.bad_token = bad_token


class Forbidden(OriginError):
    """The caller is known and lacks the right or the scope."""

    def __init__(self, explanation: str, *, context: str = "right", id: str | None = None) -> None:
        super().__init__(explanation)
        self.explanation = explanation
        self.context = context
        self.id = id


class NotFound(OriginError):
    """No such thing.

    kind  "File", "Storage", "Job", "User", "Token", …: one word, as in the domain model
    id    what was asked for: an id, a name or a path
    """

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"no {kind} {id!r}")
        self.kind = kind
        self.id = id


class Conflict(OriginError):
    """The request does not fit the present state.

    context  kind of thing, lower case, e.g. "file"; id: its id, None when it has none
    """

    def __init__(
        self, explanation: str, *, context: str = "file", id: str | None = None, value: str | None = None
    ) -> None:
        super().__init__(explanation)
        self.explanation = explanation
        self.context = context
        self.id = id
        self.value = value


class AlreadyExists(Conflict):
    """A live File already has this path on this storage."""

    def __init__(self, storage_id: str, file_id: str, path: str) -> None:
        super().__init__(f"{path!r} is taken on {storage_id}", id=file_id, value=path)
        self.storage_id = storage_id
        self.file_id = file_id
        self.path = path


class TooLarge(OriginError):
    """More bytes than this call takes. limit: bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"at most {limit} bytes are taken here")
        self.limit = limit


class NoRoom(OriginError):
    """The storage has no room for these bytes. Retrying at once will not help."""

    def __init__(self, storage_id: str) -> None:
        super().__init__(f"no room on {storage_id}")
        self.storage_id = storage_id


class Unavailable(OriginError):
    """Not now. retry_after: whole seconds, >= 1."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageOffline(Unavailable):
    """The storage cannot be reached, or its disk refuses an operation that should work."""

    def __init__(self, storage_id: str, retry_after: int = 10) -> None:
        super().__init__(f"{storage_id} cannot be reached", retry_after)
        self.storage_id = storage_id


class TooMany(Unavailable):
    """A limit on requests is used up."""


class NotOffered(OriginError):
    """A call that the dialect knows and this origin does not have."""
