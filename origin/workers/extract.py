"""The built-in worker `extract`: unpacks zip and tar archives that nobody vouches for.

    claim → entries, one after the other, into hidden temporary files → finish publishes all of them

What an archive claims about itself is never believed: bytes are counted as they come out, names are
checked before anything is written, and the decoders are kept from holding more than a few buffers.

Whatever writes to the catalog is done to its end though the work is cancelled (`whole`): a connection
that is dropped in the middle of a transaction would hold the catalog's lock.
"""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import io
import logging
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from origin.catalog.workers import Output
from origin.core.archives import EXTENSIONS, EntryError, Names, entry_path, kind_of, pick_index
from origin.core.paths import MAX_PATH_BYTES
from origin.domain.workers import Worker, WorkerTask, stem_of
from origin.errors import NoRoom, OriginError
from origin.ports import Clock, StorageBackend, Writer
from origin.services.files import Content
from origin.services.jobs import Jobs
from origin.services.publishing import whole
from origin.services.storages import Storages
from origin.services.worker_tasks import LeaseLost, TaskCanceled, WorkerTasks
from origin.services.workers import Workers

log = logging.getLogger("origin.workers")

NAME = "extract"
LEASE = 60  # seconds
PIECE = 512 * 1024
_SMALL = 64 << 20  # bytes that any archive may unpack to, whatever its size
_DIRECTORY = 64 << 20  # bytes of a zip's directory
_HEADER = 1 << 20  # bytes of a tar's header extension
_MEMORY = 128 << 20  # bytes an xz decoder may take
_POLL = 5.0
_LOOK = 0.5  # seconds between looks whether the task was canceled
_BATCH = 200  # outputs noted at once
_AT_ONCE = 16  # outputs made durable at once
_ZIP_ENTRY = b"PK\x01\x02"
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """entries; bytes unpacked in all; ratio: bytes unpacked for each of the archive's, past 64 MiB."""

    entries: int = 100_000
    bytes: int = 16 << 30
    ratio: int = 200


class Extractor:
    """count: archives unpacked at once."""

    def __init__(
        self,
        clock: Clock,
        storages: Storages,
        jobs: Jobs,
        workers: Workers,
        tasks: WorkerTasks,
        *,
        count: int,
        limits: Limits,
    ) -> None:
        self._clock = clock
        self._storages = storages
        self._jobs = jobs
        self._workers = workers
        self._tasks = tasks
        self._count = count
        self._limits = limits
        self._loops: list[asyncio.Task[None]] = []
        self._worker = Worker(
            n=0, name=NAME, type=NAME, extensions=EXTENSIONS, description="Unpacks zip and tar archives"
        )

    async def start(self) -> None:
        """Register, take back what a former run had claimed, and begin."""
        if not self._count:
            return
        await self._workers.register_own(self._worker)
        await self._tasks.give_back(self._worker)
        self._loops = [asyncio.create_task(self._loop(), name=f"extract-{i}") for i in range(self._count)]

    async def stop(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops = []

    async def _loop(self) -> None:
        while True:
            try:
                news = asyncio.create_task(self._jobs.changed(_POLL))  # before the look, to miss none
                try:
                    if not await self._registered():
                        return  # gone until the next start
                    waiting = await whole(self._tasks.has_work(self._worker))
                    task = await whole(self._tasks.claim(self._worker, LEASE)) if waiting else None
                    if task is None:
                        await news
                    else:
                        await self._carry_out(task)
                finally:
                    news.cancel()
            except Exception:
                log.exception("the worker %s failed and goes on", NAME)
                await asyncio.sleep(1)

    async def _registered(self) -> bool:
        return any(w.name == NAME and w.token_n is None for w, _ in await self._workers.everyone())

    async def _carry_out(self, task: WorkerTask) -> None:
        """Unpack; whatever ends it early leaves nothing."""
        work = asyncio.create_task(self._unpack(task))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=_LOOK)
                await self._tasks.held(self._worker, task.id, task.lease_id)
            index = work.result()
            await whole(self._tasks.finish(self._worker, task.id, index_file=index, lease_id=task.lease_id))
        except (TaskCanceled, LeaseLost):
            log.info("task %s was taken away", task.id)
        except (EntryError, OriginError) as error:
            with contextlib.suppress(OriginError):
                await whole(
                    self._tasks.finish(self._worker, task.id, error=str(error), lease_id=task.lease_id)
                )
        finally:
            if not work.done():
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _unpack(self, task: WorkerTask) -> str | None:
        """Take every entry in; return the name in the version of the index file, if there is one."""
        kind = kind_of(task.extension)
        if kind is None:
            raise EntryError(f"{task.filename} is no archive: {' '.join(EXTENSIONS)} are")
        content = await self._tasks.source(self._worker, task.id)
        try:
            paths = await self._entries(task, kind, content)
        finally:
            await content.reader.close()
        wanted = task.options.get("index_file")
        index = pick_index(paths, wanted if isinstance(wanted, str) else None)
        return None if index is None else f"{NAME}/{stem_of(task.filename)}/{index}"

    async def _entries(self, task: WorkerTask, kind: str, content: Content) -> list[str]:
        limits = self._limits
        room = await self._storages.room(content.storage)
        most = min(limits.bytes, max(_SMALL, limits.ratio * content.size))
        taken = _Taken(self._tasks, self._storages.backend(content.storage), task)
        pieces = _Steps(_opener(kind, content, limits.entries))
        paths: list[str] = []
        told = self._clock.now_ms()
        unpacked = 0
        try:
            while (piece := await pieces.next()) is not None:
                if piece.path is not None:
                    await taken.begin(piece.path)
                    paths.append(piece.path)
                unpacked += len(piece.data)
                if unpacked > most:
                    raise EntryError(f"the archive unpacks to more than {most} bytes")
                if unpacked > room:
                    raise NoRoom(content.storage.id)
                await taken.write(piece.data)
                if self._clock.now_ms() - told >= LEASE * 1000 // 6:
                    told = self._clock.now_ms()
                    done = min(1.0, pieces.position() / max(1, content.size))
                    await whole(
                        self._tasks.heartbeat(self._worker, task.id, progress=done, lease_id=task.lease_id)
                    )
            await taken.end()
            await taken.note()
        finally:
            await pieces.close()
            await taken.discard()
        return paths


class _Taken:
    """Entries on their way into temporary files, noted with the task some hundred at a time.

    Small files cost their fsync; so several are made durable at once while the next are written.
    """

    def __init__(self, tasks: WorkerTasks, backend: StorageBackend, task: WorkerTask) -> None:
        self._tasks = tasks
        self._backend = backend
        self._task = task
        self._writer: Writer | None = None
        self._path = ""
        self._sealing: list[asyncio.Task[None]] = []
        self._made: list[Output] = []

    async def begin(self, path: str) -> None:
        await self.end()
        if len(self._made) + len(self._sealing) >= _BATCH:
            await self.note()
        self._path = f"{self._task.folder()}/{path}"
        if len(self._path.encode("utf-8")) > MAX_PATH_BYTES:
            raise EntryError(f"the entry {path[:80]!r} has too long a path")
        self._writer = await self._backend.writer()

    async def write(self, data: bytes) -> None:
        if data and self._writer is not None:
            await self._writer.write(data)

    async def end(self) -> None:
        if self._writer is not None:
            self._sealing.append(asyncio.create_task(self._seal(self._writer, self._path)))
            self._writer = None
        if len(self._sealing) >= _AT_ONCE:
            await self._settle()

    async def _seal(self, writer: Writer, path: str) -> None:
        try:
            digests = await writer.seal()
        except BaseException:
            await writer.discard()
            raise
        storage_n = self._task.storage_n
        self._made.append(Output(path, storage_n, writer.name, digests.size, digests.sha1, digests.sha256))
        await writer.release()

    async def _settle(self) -> None:
        sealing, self._sealing = self._sealing, []
        ended = await asyncio.gather(*sealing, return_exceptions=True)
        for failure in ended:
            if failure is not None:
                raise failure

    async def note(self) -> None:
        await self._settle()
        if self._made:
            await whole(self._tasks.note_output(self._task, self._made))
            self._made = []

    async def discard(self) -> None:
        """Drop what was not noted; what was is swept up with the task."""
        if self._writer is not None:
            await self._writer.discard()
        await asyncio.gather(*self._sealing, return_exceptions=True)
        for output in self._made:
            with contextlib.suppress(OriginError):
                await self._backend.drop(output.temporary)


# --- reading archives, in threads -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an entry. path: of the entry that begins with them; None: of the one before."""

    path: str | None
    data: bytes


class _Steps:
    """An iterator whose steps are taken in a thread, one at a time."""

    def __init__(self, opened: tuple[Iterator[Piece], Callable[[], int], Callable[[], None]]) -> None:
        self._steps, self.position, self._close = opened
        self._under_way: asyncio.Future[Piece | None] | None = None

    async def next(self) -> Piece | None:
        """Raises EntryError for whatever is wrong with the archive."""
        self._under_way = asyncio.get_running_loop().run_in_executor(None, self._step)
        return await asyncio.shield(self._under_way)

    def _step(self) -> Piece | None:
        try:
            return next(self._steps, None)
        except EntryError:
            raise
        except UnicodeError as error:
            raise EntryError("an entry's name is not UTF-8") from error
        except _BROKEN as error:
            raise EntryError(f"the archive cannot be read: {error}") from error

    async def close(self) -> None:
        if self._under_way is not None:
            await asyncio.gather(self._under_way, return_exceptions=True)
        await asyncio.to_thread(self._close)


_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


def _opener(
    kind: str, content: Content, most: int
) -> tuple[Iterator[Piece], Callable[[], int], Callable[[], None]]:
    descriptor = content.reader.descriptor
    if descriptor is None:
        raise EntryError("archives on this storage cannot be unpacked")
    source = Source(os.dup(descriptor), content.size, most)
    entries = read_zip(source, most) if kind == "zip" else read_tar(source, kind, most)
    return entries, source.tell, source.close


class Source(io.RawIOBase):
    """The archive's bytes, at a place of its own in a shared descriptor. most: entries."""

    def __init__(self, descriptor: int, size: int, most: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._size = size
        self._most = most
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._size)[whence]
        if base + offset < 0:
            raise OSError("before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._size - self._at if size is None or size < 0 else size
        wanted = max(0, min(wanted, self._size - self._at))
        # zipfile reads the whole directory at once, and makes an object of every entry in it.
        if wanted > _DIRECTORY:
            raise EntryError("the archive's directory is too long")
        data = os.pread(self._descriptor, wanted, self._at)
        if data.startswith(_ZIP_ENTRY) and data.count(_ZIP_ENTRY) > self._most:
            raise EntryError(f"the archive has more than {self._most} entries")
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def read_zip(source: io.RawIOBase, most: int) -> Iterator[Piece]:
    """Yield the files of a zip in the order of its directory. Raises EntryError and what zipfile does."""
    with zipfile.ZipFile(cast(Any, source)) as archive:
        infos = archive.infolist()
        if len(infos) > most:
            raise EntryError(f"the archive has more than {most} entries")
        _refuse_overlaps(infos, archive.start_dir)
        names = Names()
        wanted: list[tuple[zipfile.ZipInfo, str]] = []
        for info in infos:
            path = entry_path(_zip_name(info))
            folder = info.orig_filename.endswith("/")
            _check_zip_entry(info, folder)
            names.add(path, folder=folder)
            if not folder:
                wanted.append((info, path))
        for info, path in wanted:
            with archive.open(info) as entry:
                begun: str | None = path
                while (data := entry.read(PIECE)) or begun is not None:
                    yield Piece(begun, data)
                    begun = None


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name as it stands in the directory; without the mark for UTF-8 its bytes must be that."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    return info.orig_filename.encode("cp437").decode("utf-8")


def _check_zip_entry(info: zipfile.ZipInfo, folder: bool) -> None:
    shown = info.filename[:80]
    if info.flag_bits & 0x1:
        raise EntryError(f"the entry {shown!r} is encrypted")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not folder):
        raise EntryError(f"the entry {shown!r} is a link or a device")
    # The library's decoders of the other methods put no bound on what comes out of one buffer.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise EntryError(f"the entry {shown!r} is compressed in a way not known here")


def _refuse_overlaps(infos: list[zipfile.ZipInfo], end: int) -> None:
    ordered = sorted(infos, key=lambda info: info.header_offset)
    for at, info in enumerate(ordered):
        limit = ordered[at + 1].header_offset if at + 1 < len(ordered) else end
        if info.header_offset + 30 + info.compress_size > limit:
            raise EntryError(f"the entry {info.filename[:80]!r} overlaps another")


class _Info(tarfile.TarInfo):
    """Refuses header extensions that would be read into memory whole, and sparse files."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _EXTENDED and self.size > _HEADER:
            raise EntryError("an entry has too long a header")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise EntryError(f"the entry {self.name[:80]!r} is sparse")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _refuse(self, *_: Any) -> None:
        raise EntryError(f"the entry {self.name[:80]!r} is sparse")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


def read_tar(source: io.RawIOBase, kind: str, most: int) -> Iterator[Piece]:
    """Yield the files of a tar as they come. kind: tar, gz, bz2 or xz."""
    raw = source if kind == "tar" else Unpacked(source, kind)
    names = Names()
    count = 0
    with tarfile.open(
        fileobj=cast(Any, raw), mode="r|", tarinfo=_Info, encoding="utf-8", errors="strict", bufsize=PIECE
    ) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep every one
            count += 1
            if count > most:
                raise EntryError(f"the archive has more than {most} entries")
            path = entry_path(info.name)
            if not info.isdir() and not info.isreg():
                raise EntryError(f"the entry {info.name[:80]!r} is a link or a device")
            names.add(path, folder=info.isdir())
            if info.isdir():
                continue
            entry = archive.extractfile(info)
            assert entry is not None
            begun: str | None = path
            left = info.size
            while left or begun is not None:
                data = entry.read(min(PIECE, left))
                if left and not data:
                    raise EntryError("the archive ends early")
                left -= len(data)
                yield Piece(begun, data)
                begun = None


class Unpacked(io.RawIOBase):
    """A compressed stream, decoded: never more than what is asked for, and a buffer of what comes in."""

    def __init__(self, source: io.RawIOBase, kind: str) -> None:
        super().__init__()
        self._source = source
        self._kind = kind
        self._waiting = b""
        self._decoder = self._make()

    def _make(self) -> Any:
        if self._kind == "gz":
            return zlib.decompressobj(31)
        if self._kind == "bz2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(memlimit=_MEMORY)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = PIECE if size is None or size < 0 else size
        parts: list[bytes] = []
        while wanted:
            data = self._some(wanted)
            if not data:
                break
            parts.append(data)
            wanted -= len(data)
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        """Return 1 to `most` bytes, or b"" at the end. Raises EOFError when it comes early."""
        while True:
            if self._decoder.eof:
                rest = (self._decoder.unused_data or self._waiting).lstrip(b"\0")
                self._waiting = rest or (self._source.read(PIECE) or b"").lstrip(b"\0")
                if not self._waiting:
                    return b""
                self._decoder = self._make()
            needs = not self._waiting and getattr(self._decoder, "needs_input", True)
            if needs:
                self._waiting = self._source.read(PIECE) or b""
                if not self._waiting:  # zlib may still hold something back
                    held = self._decoder.decompress(b"", most) if self._kind == "gz" else b""
                    if held or self._decoder.eof:
                        return bytes(held) or self._some(most)
                    raise EOFError("it ends early")
            data = bytes(self._decoder.decompress(self._waiting, most))
            self._waiting = getattr(self._decoder, "unconsumed_tail", b"")
            if data:
                return data
