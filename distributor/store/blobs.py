"""Blobs: sparse files named at random, under `loose/` while they are filled, then under `blobs/xx/`.

    loose/<16 hex>       partial; a start need stat only these to know what they hold
    blobs/<2 hex>/<14>   complete

Everything here blocks and belongs into a thread, but for `Descriptors`, which belongs to the event
loop. `Disk` is the whole of the operating system that the store uses: tests put one in its place
that fails.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

_READ = 1 << 20
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class Disk:
    """System calls, one method each; they raise OSError."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | _FLAGS, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pwrite(self, fd: int, data: memoryview, position: int) -> int:
        return os.pwrite(fd, data, position)

    def pread(self, fd: int, count: int, position: int) -> bytes:
        return os.pread(fd, count, position)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def ftruncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def unlink(self, path: str) -> None:
        Path(path).unlink()

    def rename(self, old: str, new: str) -> None:
        Path(old).rename(new)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path, follow_symlinks=False)  # noqa: PTH116  # Path.stat is thrice as slow

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def names(self, path: str) -> list[str]:
        return os.listdir(path)  # noqa: PTH208

    def make_directory(self, path: str) -> None:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)

    def index(self) -> None:
        """Called before each transaction of the index, whose calls are SQLite's own."""


class Hasher(Protocol):
    """What hashlib gives."""

    def update(self, data: bytes | memoryview, /) -> None: ...


class Blobs:
    """The blob files below `root`.

    sync  whether anything is made durable by fsync
    """

    def __init__(self, root: Path, disk: Disk, *, sync: bool) -> None:
        self.disk = disk
        self._sync = sync
        self._root = str(root)
        self._loose = str(root / "loose")
        self._blobs = str(root / "blobs")

    def prepare(self) -> None:
        """Make what directories are lacking; those of single shards come when they are needed."""
        for path in (self._loose, self._blobs):
            self.disk.make_directory(path)
        if self._sync:
            self.disk.sync_directory(self._root)

    def path(self, blob: str, *, loose: bool) -> str:
        return f"{self._loose}/{blob}" if loose else f"{self._blobs}/{blob[:2]}/{blob[2:]}"

    def create(self, length: int | None) -> tuple[str, int]:
        """A new empty blob of `length` bytes, sparse: its name and descriptor."""
        blob = secrets.token_hex(8)
        path = self.path(blob, loose=True)
        fd = self.disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            if length:
                self.disk.ftruncate(fd, length)
        except OSError:
            self.disk.close(fd)
            self.unlink(blob)
            raise
        return blob, fd

    def open(self, blob: str, *, loose: bool) -> int:
        """A descriptor for reading and writing. Raises FileNotFoundError when it lies in neither place."""
        # Twice round: it may be moved between the two looks.
        for place in (loose, not loose, loose):
            try:
                return self.disk.open(self.path(blob, loose=place), os.O_RDWR)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, "no such blob", blob)

    def settle(self, blob: str) -> None:
        """Move a complete blob to its place. Raises FileNotFoundError when it is not loose."""
        old, new = self.path(blob, loose=True), self.path(blob, loose=False)
        try:
            self.disk.rename(old, new)
        except FileNotFoundError:
            self.disk.make_directory(f"{self._blobs}/{blob[:2]}")
            if self._sync:
                self.disk.sync_directory(self._blobs)
            self.disk.rename(old, new)

    def unlink(self, blob: str) -> None:
        """Delete the file, wherever it lies; none there is fine."""
        for loose in (False, True):
            try:
                self.disk.unlink(self.path(blob, loose=loose))
            except FileNotFoundError:
                continue

    def unlink_all(self, blobs: Iterable[str]) -> list[tuple[str, OSError]]:
        """Delete files; those that could not be, and why."""
        failed = []
        for blob in blobs:
            try:
                self.unlink(blob)
            except OSError as error:
                failed.append((blob, error))
        return failed

    def write(self, fd: int, position: int, data: bytes) -> None:
        """Write all of `data`, however many calls it takes."""
        view = memoryview(data)
        while view:
            count = self.disk.pwrite(fd, view, position)
            if count <= 0:
                raise OSError(errno.EIO, "nothing was written")
            position += count
            view = view[count:]

    def sync(self, fd: int, *, named: bool) -> None:
        """Make bytes durable, and the name too unless it is; nothing when not asked to sync."""
        if not self._sync:
            return
        self.disk.fdatasync(fd)
        if not named:
            self.disk.sync_directory(self._loose)

    def seal(self, fd: int, named: bool) -> int:
        """Sync a blob that is whole; the time of its last change, ns, by which a later one is noticed."""
        self.sync(fd, named=named)
        return self.disk.fstat(fd).st_mtime_ns

    def read(self, fd: int, position: int, count: int, take: Callable[[memoryview], object]) -> int:
        """Hand [position, position + count) to `take` in pieces; returns how many there were."""
        done = 0
        while done < count:
            piece = self.disk.pread(fd, min(_READ, count - done), position + done)
            if not piece:
                break
            take(memoryview(piece))
            done += len(piece)
        return done

    def sum(self, fd: int, position: int, count: int, hasher: Hasher | None = None) -> int | None:
        """CRC-32 of [position, position + count), hashed too on the way; None when bytes are missing."""
        crc = 0

        def take(piece: memoryview) -> None:
            nonlocal crc
            crc = zlib.crc32(piece, crc)
            if hasher is not None:
                hasher.update(piece)

        return crc if self.read(fd, position, count, take) == count else None

    def damaged(self, fd: int, size: int, segments: Iterable[tuple[int, int, int]]) -> list[int]:
        """Which of `segments` (index, bytes filled, CRC-32) are not on disk as written: indexes."""
        return [
            index for index, filled, expected in segments if self.sum(fd, index * size, filled) != expected
        ]

    def loose(self) -> dict[str, int]:
        """Blobs not settled: name → bytes they take on disk."""
        found: dict[str, int] = {}
        for blob in self.disk.names(self._loose):
            try:
                found[blob] = allocated(self.disk.stat(self.path(blob, loose=True)))
            except FileNotFoundError:
                continue
        return found

    def shards(self) -> set[int]:
        """Shards that have a directory."""
        found = set()
        for name in self.disk.names(self._blobs):
            with contextlib.suppress(ValueError):
                found.add(int(name, 16))
        return found

    def shard(self, shard: int) -> dict[str, int]:
        """Settled blobs whose name begins with this byte: name → length; -1 for what is no file."""
        prefix = f"{shard:02x}"
        directory = f"{self._blobs}/{prefix}"
        found: dict[str, int] = {}
        try:
            names = self.disk.names(directory)
        except FileNotFoundError:
            return found
        for name in names:
            try:
                found[prefix + name] = self.disk.stat(f"{directory}/{name}").st_size
            except FileNotFoundError:
                continue
        return found

    def probe(self) -> None:
        """Write, sync and delete a few bytes. Raises OSError while the disk does not take them."""
        blob, fd = self.create(None)
        try:
            self.write(fd, 0, b"probe")
            self.sync(fd, named=True)
        finally:
            self.disk.close(fd)
            self.unlink(blob)

    def free(self) -> int:
        """Bytes that the file system could still take."""
        space = os.statvfs(self._root)
        return space.f_bavail * space.f_frsize


def allocated(status: os.stat_result) -> int:
    """Bytes a file takes on disk; a sparse one takes less than its length."""
    return status.st_blocks * 512


def checksums(
    data: bytes, position: int, size: int, before: int, hasher: hashlib._Hash | None
) -> list[tuple[int, int]]:
    """(segment, CRC-32 of its filled prefix) for `data` at `position` on a grid of `size`.

    before  CRC-32 of what the first segment held
    hasher  takes all of `data`, when it continues the hashed beginning
    """
    view = memoryview(data)
    sums: list[tuple[int, int]] = []
    index, offset = divmod(position, size)
    start = 0
    while start < len(view):
        piece = view[start : start + size - offset]
        sums.append((index, zlib.crc32(piece, before)))
        start += len(piece)
        index, offset, before = index + 1, 0, 0
    if hasher is not None:
        hasher.update(view)
    return sums


class _Descriptor:
    __slots__ = ("fd", "kept", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0
        self.kept = False


class Descriptors:
    """Open descriptors by blob, the idle ones bounded, least recently used closed first.

    close  takes a descriptor to close; called on the event loop, to hand it to a thread
    """

    def __init__(self, close: Callable[[int], object], limit: int | None = None) -> None:
        self._close = close
        self._limit = descriptor_limit() if limit is None else limit
        self._open: OrderedDict[str, _Descriptor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, blob: str) -> int | None:
        """The descriptor, good until `give`; None when it must be opened."""
        found = self._open.get(blob)
        if found is None:
            return None
        found.users += 1
        self._open.move_to_end(blob)
        return found.fd

    def put(self, blob: str, fd: int) -> int:
        """Add one just opened and take it. When another was faster, that one, and `fd` is closed."""
        found = self.take(blob)
        if found is not None:
            self._close(fd)
            return found
        made = self._open[blob] = _Descriptor(fd)
        made.users = 1
        self._shrink()
        return fd

    def give(self, blob: str) -> None:
        """Give one `take` or `put` back."""
        found = self._open.get(blob)
        if found is not None:
            found.users -= 1
            self._shrink()

    def keep(self, blob: str) -> bool:
        """Never close it for want of room: the file has no name any more. False when it is not open."""
        found = self._open.get(blob)
        if found is None:
            return False
        found.kept = True
        return True

    def forget(self, blob: str) -> int | None:
        """Take it out of the table, for the caller to close; None when it is not open, or still in use."""
        found = self._open.get(blob)
        if found is None:
            return None
        if found.users:
            found.kept = False
            return None
        del self._open[blob]
        return found.fd

    def close_all(self) -> None:
        """Close what is open, used or not: the store ends."""
        while self._open:
            self._close(self._open.popitem()[1].fd)

    def _shrink(self) -> None:
        excess = len(self._open) - self._limit
        if excess <= 0:
            return
        for blob, found in list(self._open.items()):
            if found.users == 0 and not found.kept:
                del self._open[blob]
                self._close(found.fd)
                excess -= 1
                if excess <= 0:
                    return


def descriptor_limit() -> int:
    """A quarter of what the process may have open, 16..4096; connections need the rest."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 4096
    return max(16, min(4096, soft // 4))
