"""The origin's things. Values only: frozen, no I/O, no clock.

Every thing has a number `n`, unique per kind and never used again; `id` is `VX-n`. Times are whole
milliseconds since the epoch, UTC (`…_ms`). Sizes are bytes. Digests are lower-case hexadecimal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from origin.domain.states import FileState, JobState, Priority, StorageState, StorageType

_ID = re.compile(r"VX-([1-9][0-9]{0,17})", re.ASCII)
_NAME_IN_URL = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_RESERVED = re.compile(r"list|auth|user|workers|catalog|docs|v[0-9]+", re.ASCII)
_NOTHING: Mapping[str, str] = MappingProxyType({})


def make_id(n: int) -> str:
    """Return `VX-n`."""
    return f"VX-{n}"


def number_of(id: str) -> int | None:
    """Return the n of `VX-n`, or None when `id` is not one of ours (then nothing can bear it)."""
    match = _ID.fullmatch(id)
    return int(match[1]) if match else None


def url_name(name: str, n: int) -> str:
    """Return what a storage of this name and number is called in URLs; see `Storage.bucket`."""
    return name if _NAME_IN_URL.fullmatch(name) else make_id(n)


def is_reserved(name: str) -> bool:
    """True for the names that no storage may bear, because routes of a dialect use them."""
    return _RESERVED.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Method:
    """One address of a storage: `uri` ends in "/", carries no credentials."""

    n: int
    uri: str
    read: bool = True
    write: bool = True
    browse: bool = True
    bandwidth: int | None = None  # bytes per second; None: no bound
    type: str = "NONE"
    metadata: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def id(self) -> str:
        return make_id(self.n)


@dataclass(frozen=True, slots=True)
class Storage:
    """A place for bytes. `methods` has at least one entry; the first writable one is written to."""

    n: int
    name: str
    methods: tuple[Method, ...]
    type: StorageType = StorageType.LOCAL
    state: StorageState = StorageState.NONE
    public: bool = True
    archive: bool = False
    capacity: int | None = None  # bytes as set; None: the file system's size
    created_ms: int = 0
    scanned_ms: int | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def id(self) -> str:
        return make_id(self.n)

    @property
    def bucket(self) -> str:
        """Name in URLs and bucket id: the name where that is 1–64 of A-Za-z0-9._-, else the id."""
        return url_name(self.name, self.n)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the catalog knows to lie on a storage."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class File:
    """One stored copy, or an entity registered without bytes.

    path        relative to the storage, normal form, "/" between segments, none in front
    size        bytes; -1 while unknown
    sha1 sha256 of the bytes; None while unknown
    mtime_ns    modification time of the bytes on disk as they were hashed; None without bytes
    generation  counts replacements of the bytes, from 0 (no bytes yet)
    """

    n: int
    storage_n: int
    path: str
    state: FileState = FileState.OPEN
    size: int = -1
    sha1: str | None = None
    sha256: str | None = None
    mtime_ns: int | None = None
    generation: int = 0
    created_ms: int = 0
    changed_ms: int = 0  # of the row
    metadata: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def id(self) -> str:
        return make_id(self.n)

    @property
    def storage_id(self) -> str:
        return make_id(self.storage_n)

    @property
    def name(self) -> str:
        """Last segment of the path."""
        return self.path.rpartition("/")[2]

    @property
    def timestamp_ms(self) -> int:
        """Last modification of the bytes as known; of the entity when there are none."""
        return self.mtime_ns // 1_000_000 if self.mtime_ns is not None else self.changed_ms


@dataclass(frozen=True, slots=True)
class User:
    """Every user may read; `write` and `admin` are the rights beyond that. admin implies write."""

    n: int
    name: str
    admin: bool = False
    write: bool = False
    enabled: bool = True
    groups: frozenset[str] = frozenset()
    created_ms: int = 0

    @property
    def id(self) -> str:
        return make_id(self.n)


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that stands for a user. The secret itself is not kept, only its SHA-256.

    scopes      pairs "controller/action", "*" for any; None: all that the user may (login tokens)
    hint        the last four characters of the secret
    refresh_ms  how long it is good after each use; None: it ends when it ends
    """

    n: int
    user_n: int
    name: str
    scopes: frozenset[str] | None
    hint: str
    created_ms: int = 0
    expires_ms: int | None = None
    used_ms: int | None = None
    refresh_ms: int | None = None

    @property
    def id(self) -> str:
        return make_id(self.n)

    @property
    def slack_ms(self) -> int:
        """What a use adds beyond `refresh_ms`, so that not every use has to be written down."""
        return min(60_000, (self.refresh_ms or 0) // 4)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. user None: nobody gave credentials. token None: not asked by a token."""

    user: User | None = None
    token: Token | None = None

    @property
    def name(self) -> str:
        return self.user.name if self.user else ""

    @property
    def admin(self) -> bool:
        return self.user is not None and self.user.admin


ANONYMOUS = Caller()


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of durable work.

    data      what dialects show: string pairs
    input     what the task needs, JSON-able; never shown as it stands
    step      last committed step, 0 before the first
    done, total  progress in `unit` ("bytes" or "percent"); total None while unknown
    attempts  how often a runner took it
    """

    n: int
    type: str
    state: JobState = JobState.READY
    priority: Priority = Priority.MEDIUM
    user: str = ""
    created_ms: int = 0
    started_ms: int | None = None
    finished_ms: int | None = None
    step: int = 0
    steps: tuple[str, ...] = ()
    done: int = 0
    total: int | None = None
    unit: str = "bytes"
    attempts: int = 0
    lease_owner: str | None = None
    lease_until_ms: int | None = None
    not_before_ms: int | None = None
    error: str | None = None
    waiting: str | None = None
    data: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    input: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def id(self) -> str:
        return make_id(self.n)
