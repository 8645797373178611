"""COPY_FILE and MOVE_FILE: only a verified copy is ever visible, and no crash loses the last one.

    step       what is durable at its end                     a crash in the next step begins with
    Check      the copy's number and a temporary file         Transfer from its last synced offset
    Transfer   all bytes in the temporary file, their digest  Verify, from the start of the file
    Verify     read back, equal to what was read              Publish; `new` in the catalog says if done
    Publish    the new File, CLOSED, in the source's places   (a move:) Remove
    Remove     source out of all components, marked, bytes gone, entity gone

The source goes only while its size and time are those that were copied.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as rows
from origin.catalog import items as item_rows
from origin.catalog import jobs as job_rows
from origin.catalog.database import Database, next_number
from origin.domain.model import File, Job, Storage
from origin.domain.states import FileState, JobState
from origin.errors import Conflict, NoRoom, NotFound
from origin.ports import Clock, Digests, Reader, Writer
from origin.services.files import Files
from origin.services.jobs import JobEnded, Run
from origin.services.relocations import COPY_FILE, MOVE_FILE
from origin.services.storages import Storages

T = TypeVar("T")

PIECE = 1 << 20  # bytes read at once
SYNC_EVERY = 64 << 20  # bytes between two offsets from which a crash goes on
CREDIT = 0.1  # seconds
_MOST_NAMES = 10_000
_ASKED = ("file", "storage", "path", "fixed", "limit", "required_seconds")
CHECK, TRANSFER, VERIFY, PUBLISH, REMOVE = 1, 2, 3, 4, 5


class CopyFile:
    """input: `file`, `storage`, `path`, `fixed`, `limit`, `required_seconds`, `new`; and, as the job
    goes on, `temporary`, `offset`, `size`, `mtime_ns`, `sha1`, `sha256`."""

    def __init__(
        self, database: Database, clock: Clock, storages: Storages, files: Files, *, move: bool = False
    ) -> None:
        self._database = database
        self._clock = clock
        self._storages = storages
        self._files = files
        self._move = move

    @property
    def type(self) -> str:
        return MOVE_FILE if self._move else COPY_FILE

    @property
    def steps(self) -> tuple[str, ...]:
        steps = ("Check", "Transfer", "Verify", "Publish")
        return (*steps, "Remove") if self._move else steps

    async def run(self, run: Run) -> str | None:
        new = await self._published(run)
        if new is None:
            source = await self._source(run)
            if run.job.step < TRANSFER or not await self._temporary_is_there(run):
                await self._check(run, source)
            if run.job.step < VERIFY:
                await self._transfer(run, source)
            new = await self._verify_and_publish(run, source)
        if self._move:
            await self._remove(run, new)
        return None

    async def undo(self, connection: AsyncConnection, job: Job) -> None:
        temporary = job.input.get("temporary")
        if isinstance(temporary, str):
            target = self._storages.known(_int(job.input, "storage"))
            await self._storages.backend(target).drop(temporary)

    async def renewed(
        self, connection: AsyncConnection, job: Job
    ) -> tuple[Mapping[str, object], Mapping[str, str]]:
        """The same copy once more: another File, and nothing of the former run."""
        asked = {key: job.input[key] for key in _ASKED}
        data = {key: value for key, value in job.data.items() if key != "targetFile"}
        return {**asked, "new": await next_number(connection, "file")}, data

    # --- Check ------------------------------------------------------------------------------------

    async def _published(self, run: Run) -> File | None:
        """Return the copy when a former run has published it, having noted so if it could not."""
        async with self._database.read() as connection:
            new = await rows.get(connection, _int(run.job.input, "new"))
        if new is not None and run.job.step < PUBLISH:
            async with self._database.write() as connection:
                await self._note_published(connection, run, new)
        return new

    async def _source(self, run: Run) -> File:
        async with self._database.read() as connection:
            file = await rows.get(connection, _int(run.job.input, "file"))
        if file is None:
            raise NotFound("File", str(run.job.data.get("sourceFile", "")))
        return file

    async def _temporary_is_there(self, run: Run) -> bool:
        """False when somebody has swept it away since: then all begins anew."""
        held = run.job.input
        backend = self._storages.backend(self._storages.known(_int(held, "storage")))
        try:
            writer = await backend.chunk(str(held["temporary"]), 0, 0)
        except NotFound:
            return False
        await writer.close()
        return True

    async def _check(self, run: Run, source: File) -> None:
        held = run.job.input
        target = self._storages.known(_int(held, "storage"))
        self._storages.require_writable(target)
        if held["fixed"]:
            await self._refuse_taken(target, str(held["path"]))
        reader = await self._open(source)
        await reader.close()
        stat = reader.stat
        if stat.size > await self._storages.room(target):
            raise NoRoom(target.id)
        temporary = await self._storages.backend(target).reserve(stat.size)
        given = {"temporary": temporary, "offset": 0, "size": stat.size, "mtime_ns": stat.mtime_ns}
        try:
            async with run.commit(step=TRANSFER, input={**held, **given}, done=0, total=stat.size):
                pass
        except BaseException:
            await self._storages.backend(target).drop(temporary)
            raise

    async def _refuse_taken(self, target: Storage, path: str) -> None:
        async with self._database.read() as connection:
            there = await rows.at_path(connection, target.n, path)
        if there is not None:
            raise Conflict(f"{path!r} is taken on {target.id}", id=there.id, value=path)
        if await self._storages.backend(target).stat(path) is not None:
            raise Conflict(f"a file lies at {path!r} on {target.id}", value=path)

    async def _open(self, source: File) -> Reader:
        return await self._storages.backend(self._storages.known(source.storage_n)).open(source.path)

    # --- Transfer ---------------------------------------------------------------------------------

    async def _transfer(self, run: Run, source: File) -> None:
        """Stream the source into the temporary file, hashing what was read."""
        held = run.job.input
        size, offset = _int(held, "size"), _int(held, "offset")
        backend = self._storages.backend(self._storages.known(_int(held, "storage")))
        temporary = str(held["temporary"])
        digests = _Hashes()
        throttle = Throttle(held["limit"] if isinstance(held["limit"], int) else None)
        reader = await self._open(source)
        try:
            if (reader.stat.size, reader.stat.mtime_ns) != (size, held["mtime_ns"]):
                raise Conflict("the source changed while it was being copied", id=source.id)
            writer = await backend.chunk(temporary, offset, size)
            try:
                # What was synced before a crash is hashed from the source again: the copy is checked
                # against these digests as a whole, so it does not matter which run wrote which byte.
                await self._hash_up_to(run, reader, offset, digests)
                synced = offset
                while offset < size:
                    piece = await reader.read(offset, min(throttle.piece(PIECE), size - offset))
                    if not piece:
                        raise Conflict("the source became shorter while it was being copied", id=source.id)
                    await digests.add(piece)
                    await writer.write(piece)
                    offset += len(piece)
                    if offset - synced >= SYNC_EVERY:
                        await writer.seal()
                        synced = offset
                        async with run.commit(input={**run.job.input, "offset": offset}, done=offset):
                            pass
                    await run.progress(offset, size)
                    await throttle.wait(run, len(piece))
                await writer.seal()
            finally:
                await writer.close()
        finally:
            await reader.close()
        self._compare(source, digests, size, _int(held, "mtime_ns"))
        found = {"offset": size, "sha1": digests.sha1, "sha256": digests.sha256}
        async with run.commit(step=VERIFY, input={**run.job.input, **found}, done=size, total=size):
            pass

    async def _hash_up_to(self, run: Run, reader: Reader, end: int, digests: _Hashes) -> None:
        position = 0
        while position < end:
            piece = await reader.read(position, min(PIECE, end - position))
            if not piece:
                return
            await digests.add(piece)
            position += len(piece)
            await run.check()

    def _compare(self, source: File, digests: _Hashes, size: int, mtime_ns: int) -> None:
        """What was read must be what the catalog knows the File to be, if it knows these bytes."""
        if (source.size, source.mtime_ns) != (size, mtime_ns):
            return
        for known, read in ((source.sha256, digests.sha256), (source.sha1, digests.sha1)):
            if known is not None and known != read:
                raise Conflict(f"the source hashes to {read}, not to {known}", id=source.id, value=read)

    # --- Verify, Publish --------------------------------------------------------------------------

    async def _verify_and_publish(self, run: Run, source: File) -> File:
        held = run.job.input
        target = self._storages.known(_int(held, "storage"))
        writer = await self._storages.backend(target).adopt(str(held["temporary"]))
        try:
            digests = await _watched(run, writer.seal())  # reads the copy back
            if digests.sha256 != held["sha256"]:
                raise Conflict(
                    f"the copy hashes to {digests.sha256}, the source to {held['sha256']}", id=source.id
                )
            async with run.commit(step=PUBLISH):
                pass
            new = await self._publish(run, source, target, writer, digests)
        finally:
            await writer.release()
        await self._storages.backend(target).drop(writer.name)  # should its first name have stayed
        return new

    async def _publish(
        self, run: Run, source: File, target: Storage, writer: Writer, digests: Digests
    ) -> File:
        held = run.job.input
        path = str(held["path"])
        for name in [path] if held["fixed"] else _names(path):
            async with self._files.locks.hold((target.n, name)):
                try:
                    await self._refuse_taken(target, name)
                except Conflict:
                    if held["fixed"]:
                        raise
                    continue

                async def also(connection: AsyncConnection, new: File) -> None:
                    job = await job_rows.get(connection, run.job.n)
                    if job is None or job.state is not JobState.STARTED:
                        raise JobEnded
                    await self._note_published(connection, run, new)

                fresh = self._fresh(source, target, name, _int(held, "new"), held)
                return await self._files.publisher.publish(
                    fresh, None, writer, digests, overwrite=False, also=also
                )
        raise Conflict(f"no free name beside {path!r}", value=path)

    def _fresh(self, source: File, target: Storage, path: str, n: int, held: Mapping[str, object]) -> File:
        now = self._clock.now_ms()
        metadata = dict(source.metadata)
        if held["required_seconds"] is not None:
            metadata["timeRequirement"] = str(held["required_seconds"])
        return File(
            n=n,
            storage_n=target.n,
            path=path,
            state=FileState.CLOSED,
            created_ms=now,
            changed_ms=now,
            metadata=metadata,
        )

    async def _note_published(self, connection: AsyncConnection, run: Run, new: File) -> None:
        """Together with the new File: its places, and the job's word that it is there.

        Raises JobEnded when the lease is another's, which undoes all of it.
        """
        job = await job_rows.get(connection, run.job.n)
        if job is None or job.lease_owner != run.job.lease_owner:
            raise JobEnded
        await item_rows.join(connection, _int(job.input, "file"), new.n, replace=False)
        await job_rows.change(
            connection,
            job.n,
            job.lease_owner or "",
            step=REMOVE if self._move else PUBLISH,
            data={**job.data, "targetFile": new.id},
        )

    # --- Remove -----------------------------------------------------------------------------------

    async def _remove(self, run: Run, new: File) -> None:
        """The copy is there: from here on an abort is too late, and nothing is asked but the lease."""
        n = _int(run.job.input, "file")
        async with self._database.read() as connection:
            source = await rows.get(connection, n)
        if source is None:
            return
        backend = self._storages.backend(self._storages.known(source.storage_n))
        async with self._files.locks.hold((source.storage_n, source.path)):
            stat = await backend.stat(source.path)
            copied = (run.job.input["size"], run.job.input["mtime_ns"])
            if stat is not None and (stat.size, stat.mtime_ns) != copied:
                raise Conflict("the source changed after it was copied; both are kept", id=source.id)
            async with self._database.write() as connection:
                await item_rows.join(connection, source.n, new.n, replace=True)
                await rows.update(connection, replace(source, state=FileState.TO_BE_DELETED))
                other = await rows.at_path(connection, source.storage_n, source.path)
            if other is None:
                await backend.remove(source.path)
            async with self._database.write() as connection:
                await rows.remove(connection, source.n)


async def _watched(run: Run, work: Coroutine[Any, Any, T]) -> T:
    """Do long work, looking twice a second whether the job was aborted; then the work is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=0.5)
            if not task.done():
                await run.check()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return task.result()


@dataclass(slots=True)
class Throttle:
    """Keeps a transfer at `rate` bytes per second from its first byte on; None: no bound.

    What disk and scheduler took of its time is made up for, but never more than CREDIT seconds' worth,
    so that any 2 s hold at most 2 · rate and the 7.5 % that credit and one piece come to.
    """

    rate: int | None
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _due: float | None = None

    def piece(self, most: int) -> int:
        """How many bytes to take at once: those of 50 ms, and no more than `most`."""
        return most if self.rate is None else max(1, min(most, self.rate // 20))

    async def wait(self, run: Run, sent: int) -> None:
        """Wait until more may be sent; looks twice a second whether the job was aborted."""
        if self.rate is None:
            return
        now = self.now()
        start = now if self._due is None else max(self._due, now - CREDIT)
        self._due = start + sent / self.rate
        while (left := self._due - self.now()) > 0:
            await self.sleep(min(left, 0.5))
            await run.check()


class _Hashes:
    def __init__(self) -> None:
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    async def add(self, data: bytes) -> None:
        if len(data) < 4096:
            self._update(data)
        else:
            await asyncio.to_thread(self._update, data)

    def _update(self, data: bytes) -> None:
        self._sha1.update(data)
        self._sha256.update(data)

    @property
    def sha1(self) -> str:
        return self._sha1.hexdigest()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def _names(path: str) -> list[str]:
    """Return the path itself, then `stem_1.ext`, `stem_2.ext`, …"""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return [path] + [f"{folder}{slash}{stem}_{i}{dot}{suffix}" for i in range(1, _MOST_NAMES)]


def _int(held: Mapping[str, object], key: str) -> int:
    value = held[key]
    if not isinstance(value, int):
        raise TypeError(f"{key} is not a whole number")
    return value
