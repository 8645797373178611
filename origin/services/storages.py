"""Storages: which there are, where their bytes lie, how full they are.

Few and read by every call, so they are held in memory; a change is committed first. This process
owns its catalog, so nothing else changes them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from origin.backends.disk import Disk
from origin.backends.registry import directory_of, file_uri, make_backend
from origin.catalog import files as file_rows
from origin.catalog import storages as rows
from origin.catalog.database import Database, next_number
from origin.domain.model import Caller, Method, Storage, Usage, is_reserved, number_of
from origin.domain.rights import Verb
from origin.domain.states import UNWRITABLE, StorageState, StorageType
from origin.errors import Conflict, Forbidden, Invalid, NotFound, OriginError, StorageOffline
from origin.ports import Clock, Space, StorageBackend
from origin.services.access import Access

log = logging.getLogger("origin.storages")


@dataclass(frozen=True, slots=True)
class NewMethod:
    """An address for a storage, as asked for."""

    uri: str
    read: bool = True
    write: bool = True
    browse: bool = True
    bandwidth: int | None = None
    type: str = "NONE"
    metadata: Mapping[str, str] = field(default_factory=dict)


class Storages:
    """roots: directories inside which storages made over REST must lie; disk: None for the real one."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        *,
        roots: Sequence[Path],
        disk: Disk | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._roots = tuple(roots)
        self._disk = disk
        self._all: dict[int, Storage] = {}
        self._backends: dict[int, StorageBackend] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what the catalog has."""
        async with self._database.read() as connection:
            found = await rows.everything(connection)
        self._all = {storage.n: storage for storage in found}
        self._backends = {}

    async def ensure(self, name: str, uri: str, *, public: bool, archive: bool) -> Storage:
        """Make a storage of the settings if none has its name. It may lie anywhere."""
        for storage in self._all.values():
            if storage.name == name:
                if _place(uri) not in {_place(method.uri) for method in storage.methods}:
                    log.warning("storage %s stays where the catalog has it, not where the settings say", name)
                return storage
        kind = StorageType.ARCHIVE if archive else StorageType.LOCAL
        return await self._insert(name, [NewMethod(uri)], kind, public=public, archive=archive)

    # --- reading ----------------------------------------------------------------------------------

    async def listing(self, caller: Caller) -> list[Storage]:
        """All that the caller may read, by number."""
        return [s for s in self._all.values() if self._access.may(caller, Verb.READ, self._access.thing(s))]

    async def get(self, caller: Caller, id: str) -> Storage:
        """By id. Raises NotFound, Unauthenticated, Forbidden."""
        storage = self._all.get(number_of(id) or 0)
        if storage is None:
            raise NotFound("Storage", id)
        self._access.require(caller, Verb.READ, self._access.thing(storage))
        return storage

    async def find(self, caller: Caller, name: str) -> Storage:
        """By name, by the name it has in URLs, or by id. Raises as `get`."""
        for storage in self._all.values():
            if name in (storage.name, storage.bucket, storage.id):
                return await self.get(caller, storage.id)
        raise NotFound("Storage", name)

    def known(self, n: int) -> Storage:
        """By number, without asking who wants to know. Raises NotFound."""
        storage = self._all.get(n)
        if storage is None:
            raise NotFound("Storage", f"VX-{n}")
        return storage

    def everything(self) -> list[Storage]:
        """All, by number, without asking who wants to know."""
        return list(self._all.values())

    def visible(self, caller: Caller) -> list[int] | None:
        """Numbers of the storages whose Files the caller may read; None: all."""
        seen = [n for n, s in self._all.items() if self._access.may(caller, Verb.READ, self._access.thing(s))]
        return None if len(seen) == len(self._all) else seen

    async def usage(self, ids: Sequence[str]) -> dict[str, Usage]:
        """Count and bytes of the Files on each; unknown ids are left out."""
        ns = [n for n in map(number_of, ids) if n is not None and n in self._all]
        async with self._database.read() as connection:
            found = await file_rows.usage(connection, ns)
        return {f"VX-{n}": usage for n, usage in found.items()}

    async def space(self, storage: Storage) -> Space:
        """Of the file system below. Raises StorageOffline."""
        return await self.backend(storage).space()

    async def capacity(self, storage: Storage) -> int:
        """Bytes: as set, else the file system's; 0 while that cannot be reached."""
        if storage.capacity is not None:
            return storage.capacity
        try:
            return (await self.space(storage)).total
        except StorageOffline:
            return 0

    async def free(self, storage: Storage) -> int:
        """Capacity less the sizes of the Files, bytes, not below 0."""
        used = (await self.usage([storage.id]))[storage.id].bytes
        return max(0, await self.capacity(storage) - used)

    async def room(self, storage: Storage) -> int:
        """Bytes that a new File can have: what capacity and file system both leave."""
        space = await self.space(storage)
        if storage.capacity is None:
            return space.free
        return min(space.free, await self.free(storage))

    def is_writable(self, storage: Storage) -> bool:
        return (
            storage.type is not StorageType.SHARED
            and storage.state not in UNWRITABLE
            and any(method.write for method in storage.methods)
        )

    def require_writable(self, storage: Storage) -> None:
        if not self.is_writable(storage):
            raise Conflict("the storage is not writable", context="storage", id=storage.id)

    async def roomiest(self, caller: Caller) -> Storage:
        """The storage with most free capacity that the caller may write to. Raises Conflict if none."""
        fit = [
            s
            for s in self._all.values()
            if self.is_writable(s) and self._access.may(caller, Verb.WRITE, self._access.thing(s))
        ]
        if not fit:
            raise Conflict("no storage can be written to", context="storage")
        sizes = {storage.n: await self.free(storage) for storage in fit}
        return max(fit, key=lambda storage: (sizes[storage.n], -storage.n))

    def backend(self, storage: Storage) -> StorageBackend:
        """Where its bytes go and come from: the first method that writes, else the first."""
        backend = self._backends.get(storage.n)
        if backend is None:
            chosen = next((m for m in storage.methods if m.write), None) or next(iter(storage.methods), None)
            if chosen is None:
                raise StorageOffline(storage.id)
            backend = make_backend(chosen.uri, storage.id, self._disk)
            self._backends[storage.n] = backend
        return backend

    # --- changing ---------------------------------------------------------------------------------

    async def create(
        self,
        caller: Caller,
        name: str | None,
        methods: Sequence[NewMethod] = (),
        *,
        type: StorageType = StorageType.LOCAL,
        public: bool = True,
        archive: bool = False,
        capacity: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Storage:
        """Make a storage; administrators only.

        name     None: its id
        methods  none: a directory of its own below the first of `storage_roots`

        Raises Invalid (name, URI), Forbidden (outside the roots), Conflict (name taken, or equal to,
        inside or around another storage's directory).
        """
        self._access.require_admin(caller)
        for method in methods:
            await asyncio.to_thread(self._require_confined, method.uri)
        return await self._insert(
            name,
            methods,
            type,
            public=public,
            archive=archive or type is StorageType.ARCHIVE,
            capacity=capacity,
            metadata=metadata,
        )

    async def _insert(
        self,
        name: str | None,
        methods: Sequence[NewMethod],
        type: StorageType,
        *,
        public: bool,
        archive: bool,
        capacity: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Storage:
        async with self._changing:
            async with self._database.write() as connection:
                n = await next_number(connection, "storage")
                name = name if name is not None else f"VX-{n}"
                self._check_name(name, n)
                if not methods:
                    if not self._roots:
                        raise Invalid("uri", "no storage_roots are set, so a place must be given")
                    methods = [NewMethod(file_uri(self._roots[0].absolute() / "storages" / str(n)))]
                await asyncio.to_thread(self._require_apart, [m.uri for m in methods], n)
                storage = Storage(
                    n=n,
                    name=name,
                    methods=tuple(
                        [await self._method(connection, method) for method in methods],
                    ),
                    type=type,
                    state=StorageState.NONE,
                    public=public,
                    archive=archive,
                    capacity=capacity,
                    created_ms=self._clock.now_ms(),
                    metadata=dict(metadata or {}),
                )
                # Before the commit: a storage that cannot be made is not in the catalog.
                await self.backend(storage).prepare()
                await rows.save(connection, storage, new=True)
            self._all[n] = storage
        return storage

    async def _method(self, connection: object, method: NewMethod) -> Method:
        n = await next_number(connection, "method")  # type: ignore[arg-type]
        return Method(
            n=n,
            uri=file_uri(directory_of(method.uri)),
            read=method.read,
            write=method.write,
            browse=method.browse,
            bandwidth=method.bandwidth,
            type=method.type,
            metadata=dict(method.metadata),
        )

    async def update(
        self,
        caller: Caller,
        id: str,
        *,
        name: str | None = None,
        type: StorageType | None = None,
        state: StorageState | None = None,
        public: bool | None = None,
        capacity: int | None = None,
        metadata: Mapping[str, str] | None = None,
        methods: Sequence[NewMethod] | None = None,
    ) -> Storage:
        """Change what is not None; administrators only. Methods and metadata are replaced as a whole;
        a method with the URI of a former one keeps its id."""
        self._access.require_admin(caller)
        storage = await self.get(caller, id)
        for method in methods or ():
            if _place(method.uri) not in {_place(old.uri) for old in storage.methods}:
                await asyncio.to_thread(self._require_confined, method.uri)
        async with self._changing:
            async with self._database.write() as connection:
                storage = await self.get(caller, id)
                if name is not None and name != storage.name:
                    self._check_name(name, storage.n)
                    storage = replace(storage, name=name)
                if methods is not None:
                    await asyncio.to_thread(self._require_apart, [m.uri for m in methods], storage.n)
                    kept = {_place(method.uri): method.n for method in storage.methods}
                    made = [await self._method(connection, method) for method in methods]
                    made = [replace(m, n=kept.pop(_place(m.uri), m.n)) for m in made]
                    storage = replace(storage, methods=tuple(made))
                changes = {"type": type, "state": state, "public": public, "capacity": capacity}
                given = {key: value for key, value in changes.items() if value is not None}
                storage = replace(storage, **given)  # type: ignore[arg-type]
                if metadata is not None:
                    storage = replace(storage, metadata=dict(metadata))
                await rows.save(connection, storage, new=False)
            self._all[storage.n] = storage
            self._backends.pop(storage.n, None)
        return storage

    async def mark(self, storage: Storage, state: StorageState, *, scanned_ms: int | None = None) -> Storage:
        """Record what the origin itself has found out: READY, OFFLINE, a scan done."""
        async with self._changing:
            storage = replace(self.known(storage.n), state=state)
            if scanned_ms is not None:
                storage = replace(storage, scanned_ms=scanned_ms)
            async with self._database.write() as connection:
                await rows.save(connection, storage, new=False)
            self._all[storage.n] = storage
        return storage

    async def delete(self, caller: Caller, id: str, *, only_if_empty: bool = False) -> None:
        """Remove a storage with its entities; the bytes are always kept. Administrators only.

        only_if_empty  raise Conflict while Files are there
        """
        self._access.require_admin(caller)
        async with self._changing:
            storage = await self.get(caller, id)
            async with self._database.write() as connection:
                used = await file_rows.usage(connection, [storage.n])
                if only_if_empty and used[storage.n].files:
                    raise Conflict("the storage still holds files", context="storage", id=id)
                await rows.remove(connection, storage.n)
            self._all.pop(storage.n, None)
            self._backends.pop(storage.n, None)

    # --- rules ------------------------------------------------------------------------------------

    def _check_name(self, name: str, n: int) -> None:
        control = any(ord(character) < 0x20 or ord(character) == 0x7F for character in name)
        if not 1 <= len(name) <= 255 or control or name != name.strip():
            raise Invalid("name", "1 to 255 characters, none of them a control character", name)
        if is_reserved(name) or name in (".", ".."):
            raise Invalid("name", f"{name} is a name no storage may bear", name)
        if number_of(name) not in (None, n):
            raise Invalid("name", "the name is the form of another storage's id", name)
        for other in self._all.values():
            if other.n != n and name == other.name:
                raise Conflict("a storage has this name", context="storage", id=other.id, value=name)

    def _require_confined(self, uri: str) -> None:
        directory = Path(os.path.realpath(directory_of(uri)))
        for root in self._roots:
            if directory.is_relative_to(os.path.realpath(root)):
                return
        raise Forbidden("the place lies outside the configured roots", context="uri")

    def _require_apart(self, uris: Sequence[str], n: int) -> None:
        mine = [Path(os.path.realpath(directory_of(uri))) for uri in uris]
        for other in self._all.values():
            for method in other.methods if other.n != n else ():
                theirs = Path(os.path.realpath(directory_of(method.uri)))
                if any(own.is_relative_to(theirs) or theirs.is_relative_to(own) for own in mine):
                    raise Conflict(
                        "the place is equal to, inside or around another storage's",
                        context="storage",
                        id=other.id,
                    )


def _place(uri: str) -> str:
    try:
        return str(directory_of(uri))
    except OriginError:
        return uri
