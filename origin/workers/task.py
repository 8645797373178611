"""TASK: one run of a task, file by file.

    List     what the sources hold, written down; anew after a crash
    Process  each file in turn; its result is committed, so a crash costs one file at most

Bytes go the way of every upload: only a whole, checked file is ever visible. A file that was published
just before a crash is found at its target afterwards, equal, and counts as done.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as file_rows
from origin.catalog import tasks as rows
from origin.catalog import tree
from origin.catalog.database import Database
from origin.domain.model import Caller, File, Job
from origin.domain.states import FileState
from origin.domain.tasks import CHECKING, ERASING, MOVING, SCANNING, TASK, End, TaskFile
from origin.errors import AlreadyExists, Conflict, NotFound, OriginError, Unavailable
from origin.services.access import Access
from origin.services.files import Files
from origin.services.jobs import Run
from origin.services.scans import Scans
from origin.services.storages import Storages

PIECE = 1 << 20
_BATCH = 500
_MOST_NAMES = 10_000
_READABLE = frozenset({FileState.CLOSED, FileState.BEING_READ, FileState.ARCHIVED})


class _Skip(Exception):
    """Not to be done, and no failure: the message says why."""


class RunTask:
    """input: `task` number, `action`, `conflict`, `sources` and `destinations` (each as `End`)."""

    type = TASK
    steps = ("List", "Process")

    def __init__(
        self, database: Database, access: Access, storages: Storages, files: Files, scans: Scans
    ) -> None:
        self._database = database
        self._access = access
        self._storages = storages
        self._files = files
        self._scans = scans

    async def run(self, run: Run) -> str | None:
        job = run.job
        caller = Caller(user=await self._access.get_user(job.user))
        if job.input["action"] == SCANNING:
            return await self._scan(run)
        if job.step < 1:
            await self._list(run)
        place = -1
        async with self._database.read() as connection:
            before = await rows.bytes_over(connection, job.n)
        while True:
            await run.check()
            async with self._database.read() as connection:
                file = await rows.next_file(connection, job.n, place)
            if file is None:
                break
            place = file.place
            result, message = await self._one(run, caller, file, before)
            before += max(0, file.size)
            async with run.commit(done=before) as connection:
                await rows.end_file(connection, job.n, place, result, message)
        async with self._database.read() as connection:
            total = await rows.run(connection, job.n)
        if total is None:
            return None
        failed, skipped = total.failed, total.ended - total.done - total.failed
        if failed and failed == total.files and job.input["action"] != CHECKING:
            raise Conflict(f"all {failed} files failed")
        if failed or skipped:
            return f"of {total.files} files {failed} failed and {skipped} were left out"
        return None

    async def undo(self, connection: AsyncConnection, job: Job) -> None:
        """What was done stays done: each file is whole."""

    # --- List -------------------------------------------------------------------------------------

    async def _list(self, run: Run) -> None:
        ends = [End(**source) for source in _ends(run.job, "sources")]
        targets: list[End | None] = [End(**target) for target in _ends(run.job, "destinations")]
        async with run.commit(done=0, total=None) as connection:
            await rows.clear_files(connection, run.job.n)
        place, size = 0, 0
        batch: list[TaskFile] = []
        for source in ends:
            async for file, inner in self._held(source):
                for target in targets or [None]:
                    path = _target(target, file, inner) if target else None
                    storage_n = target.storage_n if target else None
                    batch.append(
                        TaskFile(place, file.n, file.storage_n, file.path, file.size, storage_n, path)
                    )
                    place += 1
                    size += max(0, file.size)
                if len(batch) >= _BATCH:
                    await self._note(run, batch)
                    batch = []
        await self._note(run, batch)
        async with run.commit(step=1, total=size) as connection:
            await rows.planned(connection, run.job.n, place)

    async def _note(self, run: Run, batch: list[TaskFile]) -> None:
        async with run.commit() as connection:
            await rows.insert_files(connection, run.job.n, batch)

    async def _held(self, source: End) -> AsyncIterator[tuple[File, str]]:
        """Yield each File of a source with its path below the folder that holds what was named."""
        async with self._database.read() as connection:
            file = await file_rows.get(connection, source.file_n) if source.file_n else None
            folder = await tree.folder(connection, source.file_n) if source.file_n and not file else None
            if file is None and folder is None and source.path:
                file = await file_rows.at_path(connection, source.storage_n, source.path)
        if file is not None:
            yield file, file.name
            return
        path = folder.path if folder else source.path
        above = len(path.rpartition("/")[0]) + 1 if "/" in path else 0
        after = 0
        while True:
            async with self._database.read() as connection:
                found = await tree.beneath(connection, source.storage_n, path, after, _BATCH)
            for one in found:
                after = one.n
                yield one, one.path[above:]
            if len(found) < _BATCH:
                return

    # --- Process ----------------------------------------------------------------------------------

    async def _one(self, run: Run, caller: Caller, planned: TaskFile, before: int) -> tuple[str, str | None]:
        """Return result and message. before: bytes of the files that are over."""
        action = run.job.input["action"]
        try:
            file = await self._files.get(caller, f"VX-{planned.file_n}")
            if action == ERASING:
                await self._files.delete(caller, file.id)
            elif action == CHECKING:
                await self._check(run, file)
            else:
                await self._copy(run, caller, file, planned, before)
                if action == MOVING:
                    await self._files.delete(caller, file.id)
        except Unavailable:
            raise
        except _Skip as reason:
            return "skipped", str(reason)
        except NotFound as error:
            if action == ERASING or (action == MOVING and await self._moved(planned)):
                return "done", None
            return "failed", str(error)
        except OriginError as error:
            return "failed", str(error)
        return "done", None

    async def _moved(self, planned: TaskFile) -> bool:
        """The source is gone because a former attempt has moved it."""
        if planned.target_n is None or planned.target is None:
            return False
        async with self._database.read() as connection:
            there = await file_rows.at_path(connection, planned.target_n, planned.target)
        return there is not None and there.size == planned.size

    async def _copy(self, run: Run, caller: Caller, file: File, planned: TaskFile, before: int) -> None:
        if file.state not in _READABLE:
            raise Conflict(f"the file is {file.state.value}", id=file.id)
        assert planned.target_n is not None
        target = self._storages.known(planned.target_n)
        path = planned.target or file.path
        replace = False
        async with self._database.read() as connection:
            there = await file_rows.at_path(connection, target.n, path)
        if there is not None:
            if there.n == file.n:
                raise _Skip("source and target are the same file")
            if _equal(there, file):
                return
            if run.job.input["conflict"] == "ignore":
                raise _Skip(f"other content lies at {path}")
            if run.job.input["conflict"] == "overwrite":
                replace = True
            else:
                free = await self._free_path(target.n, path, file)
                if free is None:
                    return
                path = free
        new = await self._transfer(run, caller, file, (target.id, path), before, replace=replace)
        if run.job.input["action"] == MOVING and await self._digest(run, new) != new.sha256:
            raise Conflict("the copy, read back, is not what was written", id=new.id)

    async def _free_path(self, storage_n: int, path: str, file: File) -> str | None:
        """Return `a (1).ari`, `a (2).ari` …: the first that is free; None if one has the content."""
        folder, slash, name = path.rpartition("/")
        stem, dot, extension = name.rpartition(".")
        if not dot or not stem:
            stem, dot, extension = name, "", ""
        for i in range(1, _MOST_NAMES):
            candidate = f"{folder}{slash}{stem} ({i}){dot}{extension}"
            async with self._database.read() as connection:
                there = await file_rows.at_path(connection, storage_n, candidate)
            if there is None:
                return candidate
            if _equal(there, file):
                return None
        raise AlreadyExists(f"VX-{storage_n}", "", path)

    async def _transfer(
        self, run: Run, caller: Caller, file: File, target: tuple[str, str], before: int, *, replace: bool
    ) -> File:
        content = await self._files.open(file)
        try:
            return await self._files.upload(
                caller,
                *target,
                self._pieces(run, content.reader, before),
                declared_length=content.size,
                sha256=content.sha256,
                replace=replace,
                metadata=file.metadata,
            )
        finally:
            with contextlib.suppress(OSError):
                await content.reader.close()

    async def _pieces(self, run: Run, reader: Any, before: int) -> AsyncIterator[bytes]:
        offset = 0
        while piece := await reader.read(offset, PIECE):
            offset += len(piece)
            await run.progress(before + offset, run.job.total)
            yield piece

    async def _digest(self, run: Run, file: File) -> str:
        content = await self._files.open(file)
        try:
            digest, offset = hashlib.sha256(), 0
            while piece := await content.reader.read(offset, PIECE):
                digest.update(piece)
                offset += len(piece)
                await run.check()
            return digest.hexdigest()
        finally:
            with contextlib.suppress(OSError):
                await content.reader.close()

    async def _check(self, run: Run, file: File) -> None:
        """Hash every copy again; what differs is a failure of this file, and a warning of the run."""
        if file.sha256 is None:
            raise _Skip("the file has no digest to compare with")
        async with self._database.read() as connection:
            copies = await tree.copies(connection, file)
        bad = []
        for copy in copies or [file]:
            try:
                if await self._digest(run, copy) != file.sha256:
                    bad.append(f"{copy.id} has other bytes")
            except (NotFound, Conflict) as error:
                bad.append(f"{copy.id}: {error}")
        if bad:
            raise Conflict("; ".join(bad)[:1000], id=file.id)

    async def _scan(self, run: Run) -> str | None:
        storages = {int(source["storage_n"]) for source in _ends(run.job, "sources")}
        for n in sorted(storages):
            await run.check()
            await self._scans.scan(self._storages.known(n))
        return None


def _ends(job: Job, name: str) -> list[Mapping[str, Any]]:
    found = job.input[name]
    assert isinstance(found, list)
    return found


def _equal(one: File, other: File) -> bool:
    return one.sha256 is not None and one.sha256 == other.sha256 and one.state in _READABLE


def _target(target: End, file: File, inner: str) -> str:
    """Without a folder the source's path is kept; with one, what was named goes into it."""
    return f"{target.path}/{inner}" if target.path else file.path
