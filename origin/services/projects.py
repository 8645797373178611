"""Projects: made, found, changed and deleted; and whose Files are whose.

All projects are kept in memory, for the right to every File asks which project's it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as file_rows
from origin.catalog import projects as rows
from origin.catalog import workers as worker_rows
from origin.catalog.database import Database, next_number
from origin.domain.model import Caller, Storage
from origin.domain.projects import Place, Project, is_project_id
from origin.domain.rights import Thing, Verb
from origin.errors import Conflict, Invalid, NotFound, Unauthenticated
from origin.ports import Clock
from origin.services.access import Access
from origin.services.jobs import Jobs
from origin.services.storages import Storages

DELETE_TREE = "DELETE_TREE"


class InUse(Conflict):
    """The id is taken. context: project, asset, object or worker."""


class NotEmpty(Conflict):
    """The project holds something."""


class Projects:
    def __init__(
        self, database: Database, clock: Clock, access: Access, storages: Storages, jobs: Jobs
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._storages = storages
        self._jobs = jobs
        self._by_id: dict[tuple[int, str], Project] = {}
        self._changing = asyncio.Lock()  # so that memory changes in the order of the commits
        access.groups_at = self._groups_at
        access.closed_to = self._closed_to

    async def load(self) -> None:
        """Read what the catalog has."""
        async with self._database.read() as connection:
            found = await rows.everything(connection)
        self._by_id = {(project.storage_n, project.id): project for project in found}

    def _groups_at(self, storage_n: int, path: str) -> frozenset[str] | None:
        project = self._by_id.get((storage_n, path.partition("/")[0]))
        return None if project is None else project.groups

    def _closed_to(self, caller: Caller) -> list[tuple[int, str]]:
        if caller.admin:
            return []
        return [(p.storage_n, p.id) for p in self._there() if not self.may(caller, Verb.READ, p)]

    def _there(self) -> Iterator[Project]:
        """Those whose storage has not been removed."""
        known = {storage.n for storage in self._storages.everything()}
        return (project for project in self._by_id.values() if project.storage_n in known)

    # --- rights and reading -----------------------------------------------------------------------

    def _thing(self, project: Project) -> Thing:
        return Thing(public=self._storages.known(project.storage_n).public, groups=project.groups)

    def may(self, caller: Caller, verb: Verb, project: Project) -> bool:
        return self._access.may(caller, verb, self._thing(project))

    async def stores(self, caller: Caller) -> list[Storage]:
        """By number; to the anonymous only those that hold a public project."""
        found = await self._storages.listing(caller)
        if caller.user is not None:
            return found
        shown = {p.storage_n for p in self._there() if self.may(caller, Verb.READ, p)}
        return [storage for storage in found if storage.n in shown]

    async def store(self, caller: Caller, name: str) -> Storage:
        """By name. Raises NotFound; to the anonymous, what shows nothing public is not there."""
        storage = await self._storages.find(caller, name)
        if caller.user is None and storage not in await self.stores(caller):
            raise Unauthenticated
        return storage

    def listing(self, caller: Caller, storage: Storage, tag: str | None = None) -> list[Project]:
        """Those the caller may read, by id. tag: that they must have."""
        found = [
            project
            for (storage_n, _), project in self._by_id.items()
            if storage_n == storage.n
            and (tag is None or tag in project.tags)
            and self.may(caller, Verb.READ, project)
        ]
        return sorted(found, key=lambda project: project.id)

    def known(self, n: int) -> Project | None:
        """By number, without asking who wants to know."""
        return next((project for project in self._there() if project.n == n), None)

    def find(self, storage: Storage, id: str) -> Place:
        """Without asking who wants to know. Raises NotFound."""
        project = self._by_id.get((storage.n, id))
        if project is None:
            raise NotFound("Project", id)
        return Place(storage, project)

    def require(self, caller: Caller, verb: Verb, place: Place) -> None:
        """Raise Unauthenticated or Forbidden unless the caller may."""
        self._access.require(caller, verb, self._thing(place.project))

    # --- changing ---------------------------------------------------------------------------------

    async def create(
        self, caller: Caller, storage: Storage, id: str, name: str | None, groups: Sequence[str]
    ) -> Project:
        """groups: none only for administrators; others must be in one of them.

        Raises Forbidden, Invalid (id), InUse.
        """
        thing = Thing(public=storage.public, groups=frozenset(groups))
        self._access.require(caller, Verb.WRITE, thing)
        self._storages.require_writable(storage)
        if not is_project_id(id):
            raise Invalid("name", "a project's id is the name of an S3 bucket: 3 to 63 of a-z 0-9 . -", id)
        now = self._clock.now_ms()
        async with self._changing:
            async with self._database.write() as connection:
                if (storage.n, id) in self._by_id or await file_rows.at_path(connection, storage.n, id):
                    raise InUse(
                        f"Project {id!r} already exists in store {storage.name!r}.", context="project", id=id
                    )
                project = Project(
                    n=await next_number(connection, "project"),
                    storage_n=storage.n,
                    id=id,
                    name=name or id,
                    access=tuple(dict.fromkeys(groups)),
                    created_ms=now,
                    updated_ms=now,
                )
                await rows.save(connection, project, new=True)
            self._by_id[storage.n, id] = project
        return project

    async def update(
        self,
        place: Place,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> Project:
        """None stays, as do fields that are not given."""
        async with self._changing:
            async with self._database.write() as connection:
                project = self._current(place)
                project = replace(
                    project,
                    name=project.name if name is None else name or project.id,
                    tags=project.tags if tags is None else tuple(tags),
                    fields={**project.fields, **(fields or {})},
                    updated_ms=self._clock.now_ms(),
                )
                await rows.save(connection, project, new=False)
            self._by_id[project.storage_n, project.id] = project
        return project

    async def set_access(self, caller: Caller, place: Place, groups: Sequence[str]) -> Project:
        """Replace the groups; administrators only."""
        self._access.require_admin(caller)
        async with self._changing:
            async with self._database.write() as connection:
                project = replace(
                    self._current(place), access=tuple(dict.fromkeys(groups)), updated_ms=self._clock.now_ms()
                )
                await rows.save(connection, project, new=False)
            self._by_id[project.storage_n, project.id] = project
        return project

    def _current(self, place: Place) -> Project:
        project = self._by_id.get((place.storage.n, place.project.id))
        if project is None or project.n != place.project.n:
            raise NotFound("Project", place.project.id)
        return project

    async def delete(self, caller: Caller, place: Place, *, force: bool = False) -> None:
        """With all assets, objects and Files below; their bytes go after the rows. Raises NotEmpty."""
        async with self._changing:
            async with self._database.write() as connection:
                project = self._current(place)
                held = await rows.contents(connection, project)
                if any(held) and not force:
                    raise NotEmpty(
                        f"Project {project.id!r} holds {_held(*held)}; send force=true to delete them.",
                        context="project",
                        id=project.id,
                    )
                await worker_rows.cancel(connection, self._clock.now_ms(), project_n=project.n)
                await rows.remove(connection, project.n)
                # While the rows go nobody may read the Files as if they belonged to no project.
                await self.condemn(connection, caller, place.storage, project.id)
            del self._by_id[project.storage_n, project.id]
        await self._jobs.notify()

    async def condemn(self, connection: AsyncConnection, caller: Caller, storage: Storage, path: str) -> None:
        """Mark the File at a path, and all below it, and start the job that deletes them."""
        await rows.condemn(connection, storage.n, path, self._clock.now_ms())
        await self._jobs.enqueue(
            connection,
            DELETE_TREE,
            user=caller.name,
            data={"storage": storage.id, "path": path},
            input={"storage": storage.n, "path": path},
        )


def _held(assets: int, objects: int, files: int) -> str:
    for count, word in ((assets, "asset"), (objects, "object"), (files, "file")):
        if count:
            return f"{count} {word}{'' if count == 1 else 's'}"
    return "nothing"
