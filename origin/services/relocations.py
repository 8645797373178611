"""Copies and moves of Files between storages: what is refused at once, and the job that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from origin.catalog.database import Database, next_number
from origin.domain.model import Caller, File, Job, Storage
from origin.domain.rights import Verb
from origin.domain.states import FileState, Priority
from origin.errors import Conflict, Invalid
from origin.services.access import Access
from origin.services.files import Files, normal_path
from origin.services.jobs import Jobs
from origin.services.storages import Storages

COPY_FILE = "COPY_FILE"
MOVE_FILE = "MOVE_FILE"


@dataclass(frozen=True, slots=True)
class Relocation:
    """What is asked for.

    target_id         the storage's id
    move              delete the original when the copy has finished
    path              on the target, as the client wrote it; None: chosen by the rules below
    use_original_name the recorded original filename in the source's folder; ignored with `path`, and
                      without such a record
    limit_rate        bytes per second, > 0; None: no bound
    time_requirement  seconds, recorded on the new File; None: none
    """

    target_id: str
    move: bool = False
    path: str | None = None
    use_original_name: bool = False
    limit_rate: int | None = None
    time_requirement: int | None = None


class Relocations:
    def __init__(
        self, database: Database, access: Access, storages: Storages, files: Files, jobs: Jobs
    ) -> None:
        self._database = database
        self._access = access
        self._storages = storages
        self._files = files
        self._jobs = jobs

    async def start(
        self,
        caller: Caller,
        file: File,
        wanted: Relocation,
        *,
        priority: Priority = Priority.MEDIUM,
        data: Mapping[str, str] | None = None,
    ) -> Job:
        """Commit the job and return it.

        Without `path` the source's whole path is kept; if it is taken the job chooses
        `stem_1.ext`, `stem_2.ext` and so on. A given path that is taken makes the job fail.

        Raises NotFound (target), Conflict (source without bytes, or a storage that cannot be written
        to) and Invalid (onto itself, a path that cannot be).
        """
        source = self._storages.known(file.storage_n)
        target = await self._storages.get(caller, wanted.target_id)
        path = self._path(file, wanted)
        self._access.require(caller, Verb.WRITE, self._access.thing(target, path or file.path))
        self._storages.require_writable(target)
        if wanted.move:
            self._access.require(caller, Verb.WRITE, self._access.thing(source, file))
            self._storages.require_writable(source)
        if path is not None and (target.n, path) == (source.n, file.path):
            raise Invalid("filename", "the file cannot be copied onto itself", path)
        if path is None and wanted.move and target.n == source.n:
            raise Invalid("filename", "the file is there already", file.path)
        await self._require_bytes(source, file)
        async with self._database.write() as connection:
            job = await self._jobs.enqueue(
                connection,
                MOVE_FILE if wanted.move else COPY_FILE,
                user=caller.name,
                priority=priority,
                data={**(data or {}), "sourceFile": file.id, "targetStorage": target.id},
                input={
                    "file": file.n,
                    "storage": target.n,
                    "path": path or file.path,
                    "fixed": path is not None,
                    "limit": wanted.limit_rate,
                    "required_seconds": wanted.time_requirement,
                    "new": await next_number(connection, "file"),
                },
            )
        await self._jobs.notify()
        return job

    def _path(self, file: File, wanted: Relocation) -> str | None:
        if wanted.path is not None:
            return normal_path(wanted.path)
        original = file.metadata.get("originalFilename")
        if wanted.use_original_name and original:
            return normal_path(f"{file.path.rpartition('/')[0]}/{original.rpartition('/')[2]}")
        return None

    async def _require_bytes(self, source: Storage, file: File) -> None:
        if file.state in (FileState.TO_BE_DELETED, FileState.ARCHIVED):
            raise Conflict(f"the file is {file.state.value}", id=file.id)
        if await self._storages.backend(source).stat(file.path) is None:
            raise Conflict("the file has no bytes", id=file.id)
