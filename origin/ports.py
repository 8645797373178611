"""What the floors above hold on to. Each Protocol has a contract suite in tests/contract/.

A storage backend knows bytes below one root, by path in normal form, and nothing of Files. All its
coroutines raise only `origin.errors`: NotFound, Conflict, Invalid, NoRoom, StorageOffline.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Whole milliseconds since the epoch, UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Stat:
    """Bytes that are there. size: bytes; mtime_ns: last modification."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Digests:
    """Of what a Writer has taken. Hexadecimal, lower case."""

    size: int
    sha1: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the place below the root: all, and those that can still be written."""

    total: int
    free: int


class Writer(Protocol):
    """Bytes on their way in: a hidden temporary file. Ends with `publish` or `discard`.

    Cancelling any call leaves the temporary file; `discard` takes it away and never raises.
    """

    @property
    def name(self) -> str:
        """Names the temporary file across a restart, for `StorageBackend.finish`."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append. Waits while earlier bytes are still on their way to the disk."""
        ...

    async def seal(self) -> Digests:
        """Write out what is buffered, make it durable, and say what it is. Once."""
        ...

    @property
    def published(self) -> bool:
        """True once the bytes are at the path, also when `publish` failed after that."""
        ...

    async def publish(self, path: str, *, replace: bool) -> Stat:
        """Put the sealed bytes at `path`, atomically and durably. Once, after `seal`.

        replace False: raises Conflict when something is at the path. Missing folders are made;
        a parent that is a file, or a target that is a folder, raises Conflict.
        """
        ...

    async def discard(self) -> None: ...

    async def release(self) -> None:
        """End without taking the temporary file away, so that a later Writer can adopt it."""
        ...


class Reader(Protocol):
    """An open file: goes on with these bytes whatever happens to the path. Close it."""

    @property
    def stat(self) -> Stat: ...

    @property
    def descriptor(self) -> int | None:
        """For os.sendfile; None where there is no local file."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Return 1..length bytes from `offset`, or b"" at the end."""
        ...

    async def close(self) -> None: ...


class ChunkWriter(Protocol):
    """Writes one range of a reserved temporary file."""

    async def write(self, chunk: bytes) -> None:
        """Append to the range. Raises Invalid when it would go past its end."""
        ...

    async def seal(self) -> int:
        """Make durable; return the offset one past the last byte written."""
        ...

    async def close(self) -> None: ...


class StorageBackend(Protocol):
    async def prepare(self, keep: frozenset[str] = frozenset()) -> int:
        """Make the root if need be; remove temporary files of a former run but those in `keep`.

        Returns how many were removed.
        """
        ...

    async def writer(self) -> Writer: ...

    async def finish(self, temporary: str, path: str) -> Stat | None:
        """After a crash: was the temporary file of that name published at `path`?

        If the temporary file is still there it was not: it is removed, and None is returned.
        """
        ...

    async def open(self, path: str) -> Reader:
        """Raise NotFound("File", path) when there are no bytes."""
        ...

    async def stat(self, path: str) -> Stat | None: ...

    async def remove(self, path: str) -> bool:
        """Remove the bytes and the folders this leaves empty; False when there were none."""
        ...

    async def space(self) -> Space: ...

    def scan(self) -> AsyncGenerator[Stat, None]:
        """Every file below the root, in no order, hidden temporary names left out.

        Holds some of them at a time. Close it if not all are taken.
        """
        ...

    # Temporary files that outlive their Writer: uploads in chunks, copies that go on after a crash.

    async def reserve(self, size: int) -> str:
        """Make a temporary file of `size` bytes, without content; return its name."""
        ...

    async def chunk(self, temporary: str, offset: int, end: int) -> ChunkWriter:
        """Return a writer for the bytes [offset, end). Raises NotFound when the file is gone."""
        ...

    async def adopt(self, temporary: str) -> Writer:
        """Return a Writer whose bytes are those of the temporary file; its `seal` hashes them."""
        ...

    async def drop(self, temporary: str) -> None:
        """Remove a temporary file; that it is gone is fine."""
        ...


class EdgeApi(Protocol):
    """An edge, as the origin speaks to it."""

    @property
    def url(self) -> str:
        """Of its operator API; names it in the log and in the catalog. Without credentials."""
        ...

    async def purge(self, *, ids: Sequence[str] = (), bucket: str | None = None) -> None:
        """Have it forget `ids`, at most 1000, or all of a bucket: stored and remembered answers alike.

        In force, for every request that the edge gets from then on, when this returns. That it has
        nothing of the kind is fine. Raises Unavailable when it does not answer, or refuses.
        """
        ...

    async def close(self) -> None: ...
