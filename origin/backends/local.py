"""Bytes in a directory. Fulfils `ports.StorageBackend`.

How a File's bytes come in: a temporary file `.part-…` in the root → written, hashed → fsync → rename
→ fsync of the folder. The root and its folders are one file system; a folder that is another one
(a mount point) refuses with Conflict, for no rename leads there.

Confinement: a path is walked from the root's descriptor, component by component, with O_NOFOLLOW. A
link on the way is resolved apart, must lie inside the root, and the resolved path is walked the same
way: whatever changes in between, a descriptor outside the root never results.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from origin.backends.disk import Disk, is_file, is_folder, is_link
from origin.errors import Conflict, Invalid, NoRoom, NotFound, OriginError, StorageOffline
from origin.ports import ChunkWriter, Digests, Reader, Space, Stat, Writer

T = TypeVar("T")

TEMPORARY = ".part-"  # names in the root that begin so are ours, and no path may
BATCH = 512 * 1024  # bytes gathered for one trip to a thread
_MAX_LINKS = 16
_SMALL = 16 << 20  # bytes
_SCANNED = 500  # files looked at in one trip to a thread
_MOST_OPEN = 64  # folders that a scan holds open

_Listed = Generator[tuple[str, os.stat_result], None, None]

# Shared by all storages: more threads than disks only make them seek.
_POOL = ThreadPoolExecutor(max_workers=16, thread_name_prefix="disk")


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_POOL, call)


async def _to_the_end(call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Run in a thread, to its end even when cancelled; then `undo` gets what nobody will."""

    def abandoned(future: asyncio.Future[T]) -> None:
        if not future.cancelled() and future.exception() is None and undo is not None:
            _POOL.submit(undo, future.result())

    future = asyncio.get_running_loop().run_in_executor(_POOL, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(abandoned)
        raise


def _translate(error: OSError, storage: str, path: str) -> OriginError:
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoRoom(storage)
    if code == errno.ENOENT:
        return NotFound("File", path)
    if code in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EXDEV):
        return Conflict("a file or folder on disk is in the way of this path", context="path", value=path)
    if code in (errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return Invalid("path", "the path cannot be one of this storage", path)
    return StorageOffline(storage)


class LocalBackend:
    """root: an absolute directory; storage: the storage's id, for messages."""

    def __init__(self, root: Path, storage: str, disk: Disk | None = None) -> None:
        self._root = root
        self._storage = storage
        self._disk = disk or Disk()

    # --- ports.StorageBackend ---------------------------------------------------------------------

    async def prepare(self, keep: frozenset[str] = frozenset()) -> int:
        """keep: names of temporary files that are still needed."""
        return await _in_thread(lambda: self._prepare(keep))

    async def writer(self) -> Writer:
        return await _to_the_end(self._make_writer, lambda writer: writer.drop())

    async def finish(self, temporary: str, path: str) -> Stat | None:
        return await _in_thread(lambda: self._finish(temporary, path))

    async def open(self, path: str) -> Reader:
        return await _to_the_end(lambda: self._open(path), lambda reader: reader.drop())

    async def stat(self, path: str) -> Stat | None:
        return await _in_thread(lambda: self._stat(path))

    async def remove(self, path: str) -> bool:
        return await _to_the_end(lambda: self._remove(path))

    async def space(self) -> Space:
        return await _in_thread(self._space)

    async def scan(self) -> AsyncGenerator[Stat, None]:
        walk = self._files_below()
        one_at_a_time = threading.Lock()  # when this is cancelled a thread may still be at it

        def take() -> list[Stat]:
            with one_at_a_time:
                return list(itertools.islice(walk, _SCANNED))

        def end() -> None:
            with one_at_a_time:
                walk.close()

        try:
            while found := await _to_the_end(take):
                for stat in found:
                    yield stat
        finally:
            await _to_the_end(end)

    # --- partial uploads: a temporary file that is filled in any order ----------------------------

    async def reserve(self, size: int) -> str:
        """Make a temporary file of `size` bytes, sparse; return its name."""
        return await _to_the_end(lambda: self._reserve(size))

    async def chunk(self, temporary: str, offset: int, end: int) -> ChunkWriter:
        """Return a writer for the bytes [offset, end) of a reserved file."""
        descriptor = await _to_the_end(lambda: self._reopen(temporary), self._disk.close)
        return LocalChunkWriter(self, descriptor, offset, end)

    async def adopt(self, temporary: str) -> Writer:
        """Return a Writer whose bytes are those of a filled temporary file; `seal` hashes them."""
        descriptor = await _to_the_end(lambda: self._reopen(temporary), self._disk.close)
        return LocalWriter(self, temporary, descriptor, adopted=True)

    async def drop(self, temporary: str) -> None:
        await _to_the_end(lambda: self._drop(temporary))

    # --- in threads -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def translated(self, path: str = "") -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            raise Invalid("path", "not UTF-8") from error
        except ValueError as error:  # a NUL in a name
            raise Invalid("path", "not a name a file can have", path) from error
        except OSError as error:
            raise _translate(error, self._storage, path) from error

    @property
    def disk(self) -> Disk:
        return self._disk

    @contextlib.contextmanager
    def root(self) -> Iterator[int]:
        """Descriptor of the root. Raises StorageOffline when there is none."""
        try:
            descriptor = self._disk.open_root(str(self._root))
        except OSError as error:
            raise StorageOffline(self._storage) from error
        try:
            yield descriptor
        finally:
            self._disk.close(descriptor)

    @contextlib.contextmanager
    def folder_of(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Descriptor of the folder that holds `path`, and the name in it."""
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or path.startswith(TEMPORARY):
            raise Invalid("path", "the path cannot be one of this storage", path)
        folder = self._walk(parts[:-1], make)
        try:
            yield folder, parts[-1]
        finally:
            self._disk.close(folder)

    def _walk(self, parts: list[str], make: bool) -> int:
        disk = self._disk
        for _ in range(_MAX_LINKS):
            with self.root() as root:
                folder = os.dup(root)
            try:
                for place, part in enumerate(parts):
                    try:
                        below = disk.open_folder(part, folder)
                    except FileNotFoundError:
                        if not make:
                            raise
                        with contextlib.suppress(FileExistsError):
                            disk.make_folder(part, folder)
                            disk.sync(folder)
                        below = disk.open_folder(part, folder)
                    except OSError as error:
                        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                            raise
                        if not is_link(disk.stat_name(part, folder).st_mode):
                            raise
                        parts = self._inside(parts[: place + 1]) + parts[place + 1 :]
                        break
                    disk.close(folder)
                    folder = below
                else:
                    opened, folder = folder, -1
                    return opened
            finally:
                if folder >= 0:
                    disk.close(folder)
        raise OSError(errno.ELOOP, "too many links")

    def _inside(self, parts: list[str]) -> list[str]:
        """Resolve a path that ends in a link; return it relative to the root, or refuse."""
        root = os.path.realpath(self._root)
        target = os.path.realpath(os.path.join(root, *parts), strict=True)  # noqa: PTH118
        if not Path(target).is_relative_to(root):
            raise Invalid("path", "the path leads out of the storage")
        return list(Path(target).relative_to(root).parts)

    def _prepare(self, keep: frozenset[str]) -> int:
        removed = 0
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageOffline(self._storage) from error
        with self.root() as root, self.translated():
            for name in [n for n, seen in self._disk.names(root) if is_file(seen.st_mode) and _is_ours(n)]:
                if name not in keep:
                    self._disk.unlink(name, root)
                    removed += 1
        return removed

    def _make_writer(self) -> LocalWriter:
        name = TEMPORARY + secrets.token_hex(12)
        with self.root() as root, self.translated():
            return LocalWriter(self, name, self._disk.create(name, root))

    def _reserve(self, size: int) -> str:
        name = TEMPORARY + secrets.token_hex(12)
        with self.root() as root, self.translated():
            descriptor = self._disk.create(name, root)
            try:
                os.truncate(descriptor, size)
            finally:
                self._disk.close(descriptor)
        return name

    def _reopen(self, temporary: str) -> int:
        with self.root() as root, self.translated(temporary):
            return self._disk.reopen(temporary, root)

    def _drop(self, temporary: str) -> None:
        with contextlib.suppress(OSError, OriginError), self.root() as root:
            self._disk.unlink(temporary, root)

    def _finish(self, temporary: str, path: str) -> Stat | None:
        with self.root() as root, self.translated(path):
            try:
                seen = self._disk.stat_name(temporary, root)
            except FileNotFoundError:
                return self._stat(path)
            self._disk.unlink(temporary, root)
            # Published without replacing: linked at its path, and its first name not yet taken away.
            if seen.st_nlink > 1:
                return self._stat(path)
            return None

    def _open(self, path: str) -> LocalReader:
        disk = self._disk
        with self.translated(path):
            for _ in range(_MAX_LINKS):
                with self.folder_of(path) as (folder, name):
                    try:
                        descriptor = disk.open_read(name, folder)
                    except OSError as error:
                        if error.errno != errno.ELOOP:
                            raise
                        path = "/".join(self._inside(path.split("/")))
                        continue
                try:
                    seen = disk.stat(descriptor)
                    if not is_file(seen.st_mode):
                        raise NotFound("File", path)
                    return LocalReader(
                        self, descriptor, Stat(path=path, size=seen.st_size, mtime_ns=seen.st_mtime_ns)
                    )
                except BaseException:
                    disk.close(descriptor)
                    raise
            raise OSError(errno.ELOOP, "too many links")

    def _stat(self, path: str) -> Stat | None:
        try:
            reader = self._open(path)
        except (NotFound, Conflict):
            return None
        self._disk.close(reader.descriptor)
        return reader.stat

    def _remove(self, path: str) -> bool:
        disk = self._disk
        with self.translated(path):
            try:
                with self.folder_of(path) as (folder, name):
                    disk.unlink(name, folder)
                    disk.sync(folder)
            except (FileNotFoundError, NotADirectoryError):
                return False
            parts = path.split("/")[:-1]
            with contextlib.suppress(OSError):  # a folder in use stays
                while parts:
                    above = self._walk(parts[:-1], make=False)
                    try:
                        disk.remove_folder(parts[-1], above)
                    finally:
                        disk.close(above)
                    parts.pop()
        return True

    def _space(self) -> Space:
        with self.root() as root, self.translated():
            total, free = self._disk.space(root)
        return Space(total=total, free=free)

    def _files_below(self) -> Generator[Stat, None, None]:
        """Yield every file below the root, depth first: memory holds the way down, not what lies there."""
        way = [self._listed("")]
        try:
            while way:
                for path, seen in way[-1]:
                    if is_folder(seen.st_mode):
                        # Each folder on the way is an open descriptor, so far down they are read at once.
                        below = self._listed(path)
                        way.append(below if len(way) < _MOST_OPEN else _read_whole(below))
                        break
                    yield Stat(path, seen.st_size, seen.st_mtime_ns)
                else:
                    way.pop()
        finally:
            for folder in way:
                folder.close()

    def _listed(self, folder: str) -> _Listed:
        """Yield the files and folders of a folder; nothing when it is gone."""
        try:
            descriptor = self._walk(folder.split("/") if folder else [], make=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            with self.translated(folder):
                for name, seen in self._disk.names(descriptor):
                    if not _is_utf8(name) or (_is_ours(name) and not folder):
                        continue
                    if is_folder(seen.st_mode) or is_file(seen.st_mode):
                        yield f"{folder}/{name}" if folder else name, seen
        finally:
            self._disk.close(descriptor)


def _read_whole(listed: _Listed) -> _Listed:
    """Return what yields the same, and has been read already."""
    held = list(listed)
    return (entry for entry in held)


def _is_ours(name: str) -> bool:
    """Whether a name in the root is that of a temporary file."""
    return name.startswith(TEMPORARY)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(slots=True)
class LocalReader:
    backend: LocalBackend
    descriptor: int
    stat: Stat
    _closed: bool = False

    async def read(self, offset: int, length: int) -> bytes:
        def call() -> bytes:
            with self.backend.translated():
                return self.backend.disk.read(self.descriptor, length, offset)

        return await _to_the_end(call)

    async def close(self) -> None:
        if self.stat.size < _SMALL:
            self.drop()
        else:  # closing the last descriptor of a large file that was replaced frees its blocks
            await _to_the_end(self.drop)

    def drop(self) -> None:
        if not self._closed:
            self._closed = True
            self.backend.disk.close(self.descriptor)


@dataclass(slots=True)
class LocalWriter:
    """One batch is on its way to the disk while the next is gathered: two are held, never more."""

    backend: LocalBackend
    name: str
    descriptor: int
    adopted: bool = False  # the bytes are there already: `seal` reads and hashes them
    published: bool = False
    _gathered: list[bytes] = field(default_factory=list)
    _waiting: int = 0
    _size: int = 0
    _sha1: hashlib._Hash = field(default_factory=lambda: hashlib.sha1(usedforsecurity=False))
    _sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    _under_way: asyncio.Future[None] | None = None

    async def write(self, chunk: bytes) -> None:
        self._gathered.append(chunk)
        self._waiting += len(chunk)
        if self._waiting >= BATCH:
            await self._send()

    async def _send(self) -> None:
        await self._settle()
        batch, self._gathered, self._waiting = self._gathered, [], 0
        if batch:
            loop = asyncio.get_running_loop()
            self._under_way = loop.run_in_executor(_POOL, self._write, batch)

    async def _settle(self) -> None:
        """Wait for the batch under way; raise what it raised. A cancelled wait may be repeated."""
        if self._under_way is not None:
            await asyncio.shield(self._under_way)
            self._under_way = None

    def _write(self, batch: list[bytes]) -> None:
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        self._sha1.update(data)
        self._sha256.update(data)
        with self.backend.translated():
            _write_all(self.backend.disk, self.descriptor, data, self._size)
        self._size += len(data)

    async def seal(self) -> Digests:
        await self._send()
        await self._settle()
        while self.adopted and await _to_the_end(self._hash_on):
            pass
        await _to_the_end(self._sync)
        return Digests(size=self._size, sha1=self._sha1.hexdigest(), sha256=self._sha256.hexdigest())

    def _hash_on(self) -> bool:
        """Hash the next few batches of bytes that were there before; False at the end."""
        for _ in range(16):
            with self.backend.translated():
                data = self.backend.disk.read(self.descriptor, BATCH, self._size)
            if not data:
                return False
            self._sha1.update(data)
            self._sha256.update(data)
            self._size += len(data)
        return True

    def _sync(self) -> None:
        with self.backend.translated():
            self.backend.disk.sync(self.descriptor)

    async def publish(self, path: str, *, replace: bool) -> Stat:
        return await _to_the_end(lambda: self._publish(path, replace))

    def _publish(self, path: str, replace: bool) -> Stat:
        disk = self.backend.disk
        with (
            self.backend.translated(path),
            self.backend.root() as root,
            self.backend.folder_of(path, make=True) as (folder, name),
        ):
            if replace:
                disk.rename(self.name, root, name, folder)
            else:
                self._link(root, name, folder)
            self.published = True
            disk.sync(folder)
            seen = disk.stat(self.descriptor)
        return Stat(path=path, size=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def _link(self, root: int, name: str, folder: int) -> None:
        """Rename without replacing: Python has no renameat2."""
        disk = self.backend.disk
        try:
            disk.link(self.name, root, name, folder)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            # A file system without hard links: the services' lock on the path must do.
            with contextlib.suppress(FileNotFoundError):
                disk.stat_name(name, folder)
                raise FileExistsError(errno.EEXIST, "taken") from error
            disk.rename(self.name, root, name, folder)
        else:
            # The bytes are at their path: a first name that cannot be taken away now is swept later.
            with contextlib.suppress(OSError):
                disk.unlink(self.name, root)

    async def discard(self) -> None:
        with contextlib.suppress(Exception):
            while self._under_way is not None:
                try:
                    await self._settle()
                except asyncio.CancelledError:
                    continue
                except Exception:
                    self._under_way = None
        with contextlib.suppress(asyncio.CancelledError):
            await _to_the_end(self.drop)

    async def release(self) -> None:
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            self.backend.disk.close(descriptor)

    def drop(self) -> None:
        if self.descriptor >= 0:
            self.backend.disk.close(self.descriptor)
            self.descriptor = -1
        if not self.published:
            with contextlib.suppress(OSError, OriginError), self.backend.root() as root:
                self.backend.disk.unlink(self.name, root)


@dataclass(slots=True)
class LocalChunkWriter:
    """Writes one range of a reserved temporary file. Not hashed: `adopt` hashes the whole."""

    backend: LocalBackend
    descriptor: int
    offset: int
    end: int
    _gathered: list[bytes] = field(default_factory=list)
    _waiting: int = 0
    _under_way: asyncio.Future[None] | None = None

    async def write(self, chunk: bytes) -> None:
        """Raise Invalid when the chunk would go past the end of its range."""
        self._gathered.append(chunk)
        self._waiting += len(chunk)
        if self.offset + self._waiting > self.end:
            raise Invalid("body", "the chunk reaches past the end of the file")
        if self._waiting >= BATCH:
            await self._send()

    async def _send(self) -> None:
        data, self._gathered, self._waiting = b"".join(self._gathered), [], 0
        self._under_way = asyncio.get_running_loop().run_in_executor(_POOL, self._write, data)
        await asyncio.shield(self._under_way)

    def _write(self, data: bytes) -> None:
        with self.backend.translated():
            _write_all(self.backend.disk, self.descriptor, data, self.offset)
        self.offset += len(data)

    async def seal(self) -> int:
        """Make durable; return the offset one past the last byte written."""
        await self._send()

        def sync() -> None:
            with self.backend.translated():
                self.backend.disk.sync(self.descriptor)

        await _to_the_end(sync)
        return self.offset

    async def close(self) -> None:
        # A write that was cancelled goes on in its thread. Were the descriptor closed meanwhile, its
        # number could be another file's by then.
        while self._under_way is not None and not self._under_way.done():
            with contextlib.suppress(asyncio.CancelledError, OriginError):
                await asyncio.shield(self._under_way)
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            self.backend.disk.close(descriptor)


def _write_all(disk: Disk, descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = disk.write(descriptor, view, offset)
        view = view[written:]
        offset += written
