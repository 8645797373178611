"""Files: bytes in, bytes out, and the entities that stand for them.

Paths come as clients wrote them, decoded, and are brought into normal form here. A write holds the
lock of (storage, path) while bytes and row change together. Every call says who asks.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as rows
from origin.catalog import jobs as job_rows
from origin.catalog import projects as project_rows
from origin.catalog.database import Database, next_number
from origin.core import paths
from origin.core.paging import Listing, Page
from origin.core.query import FileFilter, FileSort
from origin.domain.model import ANONYMOUS, Caller, File, Job, Storage, number_of
from origin.domain.rights import Verb
from origin.domain.states import FileState, Priority
from origin.errors import (
    AlreadyExists,
    Conflict,
    DigestMismatch,
    IncompleteBody,
    Invalid,
    NoRoom,
    NotFound,
    TooLarge,
)
from origin.ports import Clock, Digests, Reader, Writer
from origin.services.access import Access
from origin.services.digests import Hasher
from origin.services.jobs import Jobs
from origin.services.locks import KeyedLocks
from origin.services.publishing import Publisher, With
from origin.services.storages import Storages

DELETE_FILE = "DELETE_FILE"
MUTABLE = "mutable"
"""Metadata of a File that is expected to change: nobody may serve it from memory without asking."""
_KEPT = 4096  # rows remembered between two writes


@dataclass(frozen=True, slots=True)
class Content:
    """Open bytes of a File: these and no others, whatever happens to the path meanwhile.

    size, mtime_ns  of the open bytes
    sha256          of exactly these bytes; None while they are not (yet) known to the catalog
    etag            strong entity-tag, quoted
    public          may be read without credentials
    """

    file: File
    storage: Storage
    reader: Reader
    size: int
    mtime_ns: int
    sha256: str | None
    etag: str
    public: bool = True


class Files:
    """max_upload: bytes, None for any size."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        storages: Storages,
        jobs: Jobs,
        *,
        max_upload: int | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._storages = storages
        self._jobs = jobs
        self._max_upload = max_upload
        self._known: OrderedDict[Hashable, tuple[int, File | None]] = OrderedDict()
        self.locks = KeyedLocks()
        self.publisher = Publisher(database, clock, storages)
        self.hasher = Hasher(database, clock, storages)

    # --- upload -----------------------------------------------------------------------------------

    async def check_upload(
        self,
        caller: Caller,
        storage_id: str | None,
        path: str | None,
        *,
        declared_length: int | None = None,
        replace: bool = True,
        by_owner: bool = False,
    ) -> Storage:
        """Raise whatever `upload` would raise before it needs the body; return the storage it takes.

        by_owner  the caller looks itself whether a File that is there may be replaced
        """
        if storage_id is None:
            storage = await self._storages.roomiest(caller)
        else:
            storage = await self._storages.get(caller, storage_id)
        normal = None if path is None else normal_path(path)
        self._access.require(caller, Verb.WRITE, self._access.thing(storage, normal))
        self._storages.require_writable(storage)
        if normal is not None and not by_owner:
            async with self._database.read() as connection:
                old = await self._replaceable(connection, storage, normal)
            if old is not None and not replace:
                raise AlreadyExists(storage.id, old.id, normal)
        await self.check_length(storage, declared_length)
        return storage

    async def _replaceable(self, connection: AsyncConnection, storage: Storage, path: str) -> File | None:
        """Return the File at the path, None without one. Raises Conflict if no client may overwrite it."""
        old = await rows.at_path(connection, storage.n, path)
        if old is not None:
            await _refuse_owned(connection, old)
        return old

    async def check_length(self, storage: Storage, declared_length: int | None) -> None:
        """Raise TooLarge or NoRoom for a body of so many bytes; None: not known yet."""
        if declared_length is None:
            return
        if self._max_upload is not None and declared_length > self._max_upload:
            raise TooLarge(self._max_upload)
        if declared_length > await self._storages.room(storage):
            raise NoRoom(storage.id)

    async def upload(
        self,
        caller: Caller,
        storage_id: str | None,
        path: str | None,
        body: AsyncIterator[bytes],
        *,
        declared_length: int | None = None,
        state: FileState = FileState.CLOSED,
        sha256: str | None = None,
        replace: bool = True,
        metadata: Mapping[str, str] | None = None,
        also: With | None = None,
    ) -> File:
        """Take a whole File in. Nothing is visible before all of it is there, checked and durable.

        storage_id       None: the writable storage with most free capacity
        path             None: the new File's id
        declared_length  bytes the body must have; None: whatever comes
        sha256           what the bytes must hash to, hexadecimal; None: not declared
        replace          a File at the path gets the new bytes and keeps its id; False: AlreadyExists
        metadata         of the File; None keeps what there is
        also             more to commit in the same transaction

        Raises Invalid, IncompleteBody, DigestMismatch, Conflict, TooLarge, NoRoom, StorageOffline and
        what `body` raises. On any failure, and when cancelled, nothing is left behind.
        """
        storage = await self.check_upload(
            caller, storage_id, path, declared_length=declared_length, replace=replace
        )
        async with self._taken_in(storage, body, declared_length, sha256) as (writer, digests):
            number = None
            if path is None:
                number = await self._number()
                path = f"VX-{number}"
            normal = normal_path(path)
            async with self.locks.hold((storage.n, normal)):
                async with self._database.read() as connection:
                    old = await self._replaceable(connection, storage, normal)
                if old is not None and not replace:
                    raise AlreadyExists(storage.id, old.id, normal)
                file = old or await self._fresh(storage, normal, state, number)
                file = _with(file, state, metadata)
                return await self.publisher.publish(file, old, writer, digests, overwrite=replace, also=also)

    @contextlib.asynccontextmanager
    async def receive(
        self,
        storage: Storage,
        body: AsyncIterator[bytes],
        *,
        declared_length: int | None = None,
        sha256: str | None = None,
        keep: bool = False,
    ) -> AsyncIterator[tuple[Writer, Digests]]:
        """Bytes whose path is decided once they are here: `place` them inside the block, or they are gone.

        keep  the temporary file stays when the block ends well, for a Writer that adopts it

        Rights, and what `check_upload` raises, were asked before. Raises as `upload`.
        """
        async with self._taken_in(storage, body, declared_length, sha256, keep=keep) as received:
            yield received

    async def place(
        self,
        storage: Storage,
        path: str,
        received: tuple[Writer, Digests],
        *,
        metadata: Mapping[str, str] | None = None,
        also: With | None = None,
    ) -> File:
        """Make received bytes a new File at a path of normal form. Raises AlreadyExists, Conflict."""
        async with self.locks.hold((storage.n, path)):
            async with self._database.read() as connection:
                old = await rows.at_path(connection, storage.n, path)
                doomed = await rows.is_doomed(connection, storage.n, path)
            if old is not None:
                raise AlreadyExists(storage.id, old.id, path)
            file = _with(await self._fresh(storage, path, FileState.CLOSED, None), FileState.CLOSED, metadata)
            return await self.publisher.publish(file, None, *received, overwrite=doomed, also=also)

    async def take_over(
        self, storage: Storage, path: str, writer: Writer, *, state: FileState, also: With | None = None
    ) -> File:
        """Publish bytes that are in a temporary file already; rights were asked before. As `upload`."""
        try:
            digests = await writer.seal()
            async with self.locks.hold((storage.n, path)):
                async with self._database.read() as connection:
                    old = await self._replaceable(connection, storage, path)
                file = _with(old or await self._fresh(storage, path, state, None), state, None)
                return await self.publisher.publish(file, old, writer, digests, also=also)
        finally:
            await writer.release()

    async def replace(
        self,
        caller: Caller,
        file_id: str,
        body: AsyncIterator[bytes],
        *,
        declared_length: int | None = None,
        sha256: str | None = None,
        storage_id: str | None = None,
        by_owner: bool = False,
    ) -> File:
        """Fill or replace the bytes of an existing entity, which becomes CLOSED. Raises as `upload`.

        by_owner  for what the File belongs to; else a File of an asset or an object is a Conflict
        """
        file = await self.get(caller, file_id, storage_id=storage_id)
        storage = await self.check_upload(caller, file.storage_id, None, declared_length=declared_length)
        if file.state is FileState.TO_BE_DELETED:
            raise Conflict("the file is being deleted", id=file.id)
        async with (
            self._taken_in(storage, body, declared_length, sha256) as (writer, digests),
            self.locks.hold((storage.n, file.path)),
        ):
            old = await self.get(caller, file_id, storage_id=storage_id)
            if old.state is FileState.TO_BE_DELETED:
                raise Conflict("the file is being deleted", id=file.id)
            if not by_owner:
                async with self._database.read() as connection:
                    await _refuse_owned(connection, old)
            return await self.publisher.publish(_with(old, FileState.CLOSED, None), old, writer, digests)

    @contextlib.asynccontextmanager
    async def _taken_in(
        self,
        storage: Storage,
        body: AsyncIterator[bytes],
        declared: int | None,
        sha256: str | None,
        *,
        keep: bool = False,
    ) -> AsyncIterator[tuple[Writer, Digests]]:
        """Bring a body into a sealed temporary file, which is gone after the block if not published."""
        writer = await self._storages.backend(storage).writer()
        kept = False
        try:
            taken = 0
            async for chunk in body:
                taken += len(chunk)
                if declared is not None and taken > declared:
                    raise Invalid("body", "more bytes came than were declared")
                if self._max_upload is not None and taken > self._max_upload:
                    raise TooLarge(self._max_upload)
                await writer.write(chunk)
            if declared is not None and taken != declared:
                raise IncompleteBody
            digests = await writer.seal()
            if sha256 is not None and digests.sha256 != sha256.lower():
                raise DigestMismatch(sha256.lower(), digests.sha256)
            yield writer, digests
            if keep:
                await writer.release()
                kept = True
        finally:
            if not kept:
                await writer.discard()

    async def _number(self) -> int:
        async with self._database.write() as connection:
            return await next_number(connection, "file")

    async def _fresh(self, storage: Storage, path: str, state: FileState, number: int | None) -> File:
        now = self._clock.now_ms()
        return File(
            n=number if number is not None else await self._number(),
            storage_n=storage.n,
            path=path,
            state=state,
            created_ms=now,
            changed_ms=now,
        )

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, caller: Caller, file_id: str, *, storage_id: str | None = None) -> File:
        """By id. storage_id: where it must lie. Raises NotFound, Unauthenticated, Forbidden."""
        n = number_of(file_id) or 0
        file = await self._kept(n, lambda connection: rows.get(connection, n))
        if file is None or (storage_id is not None and file.storage_id != storage_id):
            raise NotFound("File", file_id)
        return self._readable(caller, file)

    async def find(self, caller: Caller, path: str, *, storage_id: str | None = None) -> File:
        """By path. Without a storage: Conflict when several that the caller may read have the path."""
        normal = paths.lookup_form(path)
        if storage_id is not None:
            storage = await self._storages.get(caller, storage_id)
            key = (storage.n, normal)
            file = await self._kept(key, lambda connection: rows.at_path(connection, *key))
            if file is None:
                raise NotFound("File", path)
            return self._readable(caller, file)
        visible = self._storages.visible(caller)
        async with self._database.read() as connection:
            found = await rows.with_path(connection, normal)
        found = [file for file in found if visible is None or file.storage_n in visible]
        if len(found) > 1:  # what others keep to themselves makes nothing ambiguous
            found = [file for file in found if self._may_read(caller, file)] or found[:1]
        if not found:
            raise NotFound("File", path)
        if len(found) > 1:
            raise Conflict("several storages have a file with this path", id=found[0].id, value=normal)
        return self._readable(caller, found[0])

    async def _kept(
        self, key: Hashable, look: Callable[[AsyncConnection], Awaitable[File | None]]
    ) -> File | None:
        """Return what `look` finds, from memory as long as nothing at all was written since."""
        version = self._database.version
        known = self._known.get(key)
        if known is not None and known[0] == version:
            return known[1]
        async with self._database.read() as connection:
            file = await look(connection)
        self._known[key] = (version, file)
        self._known.move_to_end(key)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return file

    def _may_read(self, caller: Caller, file: File) -> bool:
        storage = self._storages.known(file.storage_n)
        return self._access.may(caller, Verb.READ, self._access.thing(storage, file))

    def _readable(self, caller: Caller, file: File) -> File:
        storage = self._storages.known(file.storage_n)
        self._access.require(caller, Verb.READ, self._access.thing(storage, file))
        return file

    def _writable(self, caller: Caller, file: File) -> Storage:
        storage = self._storages.known(file.storage_n)
        self._access.require(caller, Verb.WRITE, self._access.thing(storage, file))
        return storage

    async def listing(
        self, caller: Caller, wanted: FileFilter, sort: Sequence[FileSort] = (), page: Page | None = None
    ) -> Listing[File]:
        """One page of the Files the caller may read; sorted by id unless said."""
        async with self._database.read() as connection:
            return await rows.listing(
                connection,
                wanted,
                sort,
                page or Page(),
                within=self._storages.visible(caller),
                closed=self._access.closed_to(caller),
            )

    async def open(self, file: File) -> Content:
        """Open the bytes of a File that the caller was found to be allowed to read. Close `reader`.

        When size or time on disk are not those of the row, the bytes were changed behind the
        origin's back: they are served as what they are, without a digest and with a validator of
        their own, and are hashed in the background.

        Raises NotFound without bytes, and while being deleted; Conflict when only archived.
        """
        storage = self._storages.known(file.storage_n)
        if file.state is FileState.TO_BE_DELETED:
            raise NotFound("File", file.id)
        if file.state is FileState.ARCHIVED:
            raise Conflict("the file is archived and not online", id=file.id)
        reader = await self._storages.backend(storage).open(file.path)
        stat = reader.stat
        if not _same(file, stat.size, stat.mtime_ns):
            # An upload may have come between the row and the bytes: look once more.
            try:
                async with self._database.read() as connection:
                    file = await rows.get(connection, file.n) or file
            except BaseException:
                await reader.close()
                raise
        if _same(file, stat.size, stat.mtime_ns) and file.sha256 is not None:
            digest, tag = file.sha256, file.sha256[:32]
        else:
            if file.state is not FileState.OPEN:  # what still grows is hashed once it is closed
                self.hasher.add(file.n)
            digest, tag = None, f"u-{file.n:x}-{stat.size:x}-{stat.mtime_ns:x}"
        public = self._access.may(ANONYMOUS, Verb.READ, self._access.thing(storage, file))
        return Content(file, storage, reader, stat.size, stat.mtime_ns, digest, f'"{tag}"', public)

    # --- entities ---------------------------------------------------------------------------------

    async def create(
        self,
        caller: Caller,
        storage_id: str,
        path: str,
        *,
        state: FileState | None = None,
        create_only: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> File:
        """Register an entity; no bytes are made or needed. If some are there they are looked at.

        state        None: OPEN, or of an entity that exists already, what it has
        create_only  AlreadyExists when the path is taken; False: that entity's state is updated
        """
        storage = await self._storages.get(caller, storage_id)
        normal = normal_path(path)
        self._access.require(caller, Verb.WRITE, self._access.thing(storage, normal))
        async with self.locks.hold((storage.n, normal)):
            async with self._database.read() as connection:
                old = await rows.at_path(connection, storage.n, normal)
            if old is not None and create_only:
                raise AlreadyExists(storage.id, old.id, normal)
            file = old or await self._fresh(storage, normal, state or FileState.OPEN, None)
            file = await self._looked_at(storage, _with(file, state or file.state, metadata))
            async with self._database.write() as connection:
                if old is None:
                    await rows.insert(connection, file)
                elif not await rows.update(connection, file):
                    raise NotFound("File", file.id)
        return self._queue_hashes(file)

    async def _looked_at(self, storage: Storage, file: File) -> File:
        """Take size and time of bytes that are there into the row, and drop hashes that are not theirs."""
        stat = await self._storages.backend(storage).stat(file.path)
        if stat is None or (_same(file, stat.size, stat.mtime_ns) and file.sha256 is not None):
            return file
        return replace(file, size=stat.size, mtime_ns=stat.mtime_ns, sha1=None, sha256=None)

    def _queue_hashes(self, file: File) -> File:
        """After the commit of what `_looked_at` found: the hasher starts from the row."""
        if file.mtime_ns is not None and file.sha256 is None:
            self.hasher.add(file.n)
        return file

    async def set_state(self, caller: Caller, file_id: str, state: FileState) -> File:
        """Set any state; bytes stay as they are. CLOSED looks at them and queues the hashes."""
        file = await self.get(caller, file_id)
        storage = self._writable(caller, file)
        async with self.locks.hold((storage.n, file.path)):
            file = await self.get(caller, file_id)
            if file.state is FileState.TO_BE_DELETED and state is not FileState.TO_BE_DELETED:
                await self._refuse_taken(file)
            file = _with(file, state, None)
            if state is FileState.CLOSED:
                file = await self._looked_at(storage, file)
            file = replace(file, changed_ms=self._clock.now_ms())
            async with self._database.write() as connection:
                if not await rows.update(connection, file):
                    raise NotFound("File", file_id)
        return self._queue_hashes(file)

    async def _refuse_taken(self, file: File) -> None:
        async with self._database.read() as connection:
            other = await rows.at_path(connection, file.storage_n, file.path)
        if other is not None and other.n != file.n:
            raise AlreadyExists(file.storage_id, other.id, file.path)

    def require_write(self, caller: Caller, file: File) -> None:
        """Raise Unauthenticated or Forbidden unless the caller may change this File."""
        self._writable(caller, file)

    async def reindex(self, caller: Caller, file_id: str) -> File:
        """Queue one re-read of size, time and hashes; answers at once."""
        file = await self.get(caller, file_id)
        self._writable(caller, file)
        self.hasher.add(file.n)
        return file

    async def forget(self, caller: Caller, file_id: str) -> None:
        """The entity goes, its bytes stay; a later scan finds them as a new File."""
        file = await self.get(caller, file_id)
        storage = self._writable(caller, file)
        async with self.locks.hold((storage.n, file.path)), self._database.write() as connection:
            if not await rows.remove(connection, file.n):
                raise NotFound("File", file_id)

    async def set_path(
        self,
        caller: Caller,
        file_id: str,
        path: str,
        *,
        storage_id: str | None = None,
        state: FileState | None = None,
        duplicate: bool = False,
        also: With | None = None,
    ) -> File:
        """Register a new File for bytes that somebody has moved; return it. Bytes are not touched.

        state      None: the old one's
        duplicate  keep the old entity
        also       more to commit, with the new File, in the same transaction

        An entity at the target takes the place of the new one. Target equal to source: only the
        state is set.
        """
        old = await self.get(caller, file_id)
        self._writable(caller, old)
        storage = self._storages.known(old.storage_n)
        if storage_id is not None:
            storage = await self._storages.get(caller, storage_id)
        normal = normal_path(path)
        self._access.require(caller, Verb.WRITE, self._access.thing(storage, normal))
        state = state or old.state
        if (storage.n, normal) == (old.storage_n, old.path):
            return await self.set_state(caller, file_id, state)
        async with self.locks.hold((storage.n, normal)):
            async with self._database.read() as connection:
                there = await self._replaceable(connection, storage, normal)
                busy = await job_rows.unfinished(connection, DELETE_FILE, "file", old.id)
            new = there or await self._fresh(storage, normal, state, None)
            new = _with(new, state, None if there else {**old.metadata})
            new = await self._looked_at(storage, new)
            async with self._database.write() as connection:
                if there is None:
                    await rows.insert(connection, new)
                else:
                    await rows.update(connection, new)
                if also is not None:
                    await also(connection, new)
                if not duplicate and busy is None:
                    await rows.remove(connection, old.n)
                elif not duplicate:
                    await rows.update(connection, _with(old, FileState.TO_BE_DELETED, None))
        return self._queue_hashes(new)

    # --- deletion ---------------------------------------------------------------------------------

    async def delete(
        self,
        caller: Caller,
        file_id: str,
        *,
        priority: Priority = Priority.MEDIUM,
        data: Mapping[str, str] | None = None,
    ) -> Job:
        """Start a durable job that deletes bytes and entity; return it. Asked again: the same job.

        The File is TO_BE_DELETED, and no longer readable, when this returns.
        """
        file = await self.get(caller, file_id)
        storage = self._writable(caller, file)
        self._storages.require_writable(storage)
        async with self.locks.hold((storage.n, file.path)), self._database.write() as connection:
            current = await rows.get(connection, file.n)
            if current is None:
                raise NotFound("File", file_id)
            under_way = await job_rows.unfinished(connection, DELETE_FILE, "file", file.id)
            if under_way is not None:
                return under_way
            await rows.update(connection, _with(current, FileState.TO_BE_DELETED, None))
            job = await self._jobs.enqueue(
                connection,
                DELETE_FILE,
                user=caller.name,
                priority=priority,
                data={**(data or {}), "file": file.id, "sourceFile": file.id},
                input={"file": file.n, "state": current.state.value},
            )
        await self._jobs.notify()
        return job


def normal_path(path: str) -> str:
    """Return the normal form of a path that is to be made. Raises Invalid."""
    try:
        return paths.normal_form(path)
    except paths.PathError as error:
        raise Invalid("path", str(error), path) from error


async def _refuse_owned(connection: AsyncConnection, file: File) -> None:
    owner = await project_rows.owner_of(connection, file)
    if owner is not None:
        raise Conflict(f"the file belongs to {owner}, which alone may replace it", context="file", id=file.id)


def _with(file: File, state: FileState, metadata: Mapping[str, str] | None) -> File:
    return replace(file, state=state, metadata=file.metadata if metadata is None else dict(metadata))


def _same(file: File, size: int, mtime_ns: int) -> bool:
    return file.size == size and file.mtime_ns == mtime_ns
