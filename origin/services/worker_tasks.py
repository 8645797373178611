"""The queue of worker tasks: scheduled, claimed, kept alive by heartbeats, finished, canceled, reset.

A claim gives a lease with an id of its own; whatever comes with another id, or after the lease's end,
is refused. Output is taken in as hidden temporary files and published as a whole:

    finish "done" → job.step 1 (from here it will be published, whatever crashes) → every file renamed
    → one transaction: rows of the Files, index file, job FINISHED
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files as file_rows
from origin.catalog import projects as project_rows
from origin.catalog import workers as rows
from origin.catalog.database import Database, next_numbers
from origin.catalog.workers import Output
from origin.core.archives import EntryError, entry_path
from origin.domain.model import Caller, File, Job, number_of
from origin.domain.projects import Asset, Place
from origin.domain.rights import Verb
from origin.domain.states import FINAL, FileState, JobState
from origin.domain.workers import WORKER_TASK, Worker, WorkerTask, extension_of
from origin.errors import Conflict, Forbidden, Invalid, NotFound, OriginError
from origin.ports import Clock, StorageBackend
from origin.services.files import Content, Files, normal_path
from origin.services.jobs import Jobs
from origin.services.projects import DELETE_TREE, Projects
from origin.services.publishing import whole
from origin.services.storages import Storages
from origin.services.workers import Workers

log = logging.getLogger("origin.workers")

_PAGE = 500
_SWEEP = 500  # outputs looked at in one go
_AT_ONCE = 16  # files brought to their place: the disk makes them durable together


class TaskCanceled(Conflict):
    """The task was canceled: stop working on it."""


class LeaseLost(Conflict):
    """The task is, or may be, another's by now: stop working on it."""


class WorkerTasks:
    """attempts: claims of one task; patience, keep: milliseconds, see the settings of `workers`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        storages: Storages,
        projects: Projects,
        files: Files,
        jobs: Jobs,
        workers: Workers,
        *,
        attempts: int,
        patience_ms: int,
        keep_ms: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._storages = storages
        self._projects = projects
        self._files = files
        self._jobs = jobs
        self._workers = workers
        self._attempts = attempts
        self._patience_ms = patience_ms
        self._keep_ms = keep_ms
        self._publishing: set[int] = set()  # numbers of the jobs whose output is on its way now
        jobs.register_elsewhere(WORKER_TASK, self._dropped)

    async def _dropped(self, connection: AsyncConnection, job: Job) -> None:
        """Aborted in another dialect: its output is swept up by `keep_up`."""

    # --- the queue --------------------------------------------------------------------------------

    async def listing(self, caller: Caller) -> AsyncIterator[list[WorkerTask]]:
        """Yield, in pages, oldest first, those of projects that the caller may write."""
        await self.expire()
        after = (-1, 0)
        while True:
            async with self._database.read() as connection:
                found = await rows.everything(connection, after, _PAGE)
            yield [task for task in found if self._may_write(caller, task)]
            if len(found) < _PAGE:
                return
            after = (found[-1].job.created_ms, found[-1].job.n)

    def _may_write(self, caller: Caller, task: WorkerTask) -> bool:
        project = self._projects.known(task.project_n)
        return caller.admin if project is None else self._projects.may(caller, Verb.WRITE, project)

    async def get(self, id: str) -> WorkerTask:
        """Raises NotFound."""
        async with self._database.read() as connection:
            return await self._get(connection, id)

    async def _get(self, connection: AsyncConnection, id: str) -> WorkerTask:
        task = await rows.get(connection, number_of(id) or 0)
        if task is None:
            raise NotFound("Task", id)
        return task

    async def schedule(
        self,
        caller: Caller,
        place: Place,
        asset: Asset,
        worker_type: str,
        *,
        options: Mapping[str, object],
        priority: int,
    ) -> WorkerTask:
        """Queue a task for the asset's current version. Raises NotFound("File") without a file for it."""
        filename = options.get("filename")
        async with self._database.write() as connection:
            folder = place.path(asset.id, str(asset.version))
            file: File | None = None
            if isinstance(filename, str) and filename:
                with contextlib.suppress(Invalid):
                    path = normal_path(f"{folder}/{filename}")
                    if path.startswith(f"{folder}/"):
                        file = await file_rows.at_path(connection, place.storage.n, path)
            else:
                uploaded = await project_rows.uploaded(connection, asset.n, asset.version)
                file = await file_rows.get(connection, uploaded) if uploaded else None
            if file is None or file.state is FileState.TO_BE_DELETED:
                raise NotFound("File", str(filename or asset.id))
            name = file.path.removeprefix(f"{folder}/")
            job = await self._jobs.enqueue(
                connection,
                WORKER_TASK,
                user=caller.name,
                data={"workerType": worker_type, "project": place.project.id, "asset": asset.id},
                input={},
            )
            job = replace(job, unit="percent", total=100)
            await rows.change(connection, job.n, {"unit": "percent", "total": 100}, {})
            task = WorkerTask(
                job=job,
                storage_n=place.storage.n,
                project_n=place.project.n,
                project_id=place.project.id,
                asset_n=asset.n,
                asset_id=asset.id,
                version=asset.version,
                file_n=file.n,
                filename=name,
                extension=extension_of(name),
                worker_type=worker_type,
                priority=priority,
                options=options,
                queued_ms=self._clock.now_ms(),
            )
            await rows.insert(connection, task)
        await self._jobs.tell()
        return task

    async def _changing(self, connection: AsyncConnection, caller: Caller, id: str) -> WorkerTask:
        task = await self._get(connection, id)
        if not self._may_write(caller, task):
            raise Forbidden("you may not write to the task's project")
        return task

    async def cancel(self, caller: Caller, id: str) -> None:
        """At once; what has ended stays as it is. Raises NotFound, Forbidden."""
        async with self._database.write() as connection:
            task = await self._changing(connection, caller, id)
            if task.job.state not in FINAL and task.job.step == 0:
                await rows.change(connection, task.job.n, self._ended(JobState.ABORTED), {})
        await self._sweep()
        await self._jobs.tell()

    def _ended(self, state: JobState, error: str | None = None) -> dict[str, object]:
        now = self._clock.now_ms()
        ended = {"state": state.value, "finished_ms": now, "error": error, "step": 0}
        return {**ended, "lease_owner": None, "lease_until_ms": None}

    async def reset(self, caller: Caller, id: str) -> None:
        """Make any task new again; who is at it has lost its lease. Raises NotFound, Forbidden."""
        async with self._database.write() as connection:
            task = await self._changing(connection, caller, id)
            if task.job.step == 0:
                cleared = {"started_ms": None, "finished_ms": None, "error": None, "attempts": 0, "done": 0}
                await self._renew(connection, task, cleared)
        await self._sweep()
        await self._jobs.tell()

    async def _renew(
        self, connection: AsyncConnection, task: WorkerTask, also: Mapping[str, object] | None = None
    ) -> None:
        ready = {"state": JobState.READY.value, "lease_owner": None, "lease_until_ms": None, "done": 0}
        fresh = {"worker": "", "lease_id": "", "progress": 0.0, "queued_ms": self._clock.now_ms()}
        await rows.change(connection, task.job.n, {**ready, **(also or {})}, fresh)

    async def give_back(self, worker: Worker) -> None:
        """Make the tasks that a worker holds new again: it is gone."""
        async with self._database.write() as connection:
            for task in await rows.leased(connection, until_ms=2**62, worker=worker.name):
                if task.job.step == 0:
                    await self._renew(connection, task)
        await self._sweep()
        await self._jobs.tell()

    # --- the worker's side ------------------------------------------------------------------------

    async def has_work(self, worker: Worker) -> bool:
        """Whether a claim would give something now."""
        await self.expire()
        async with self._database.read() as connection:
            return await rows.next_for(connection, worker) is not None

    async def claim(self, worker: Worker, lease: int) -> WorkerTask | None:
        """Return the next task, with a new lease of so many seconds; None when there is none."""
        await self.expire()
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            await rows.seen(connection, worker.name, now)
            task = await rows.next_for(connection, worker)
            if task is None:
                return None
            lease_id = secrets.token_hex(16)
            taken = {
                "state": JobState.STARTED.value,
                "started_ms": now,
                "attempts": task.job.attempts + 1,
                "lease_owner": f"worker/{worker.name}",
                "lease_until_ms": now + lease * 1000,
                "step": 0,
            }
            fresh = {"worker": worker.name, "lease_id": lease_id, "progress": 0.0}
            await rows.change(connection, task.job.n, {**taken, "waiting": str(lease)}, fresh)
            task = await self._get(connection, task.id)
        await self._jobs.tell()
        return task

    def _require_held(self, task: WorkerTask, worker: Worker | None, lease_id: str | None) -> None:
        """worker: that asks, None for an administrator. Raises TaskCanceled, LeaseLost."""
        if task.status == "canceled":
            raise TaskCanceled(
                f"Task {task.id!r} was canceled; stop working on it.", context="task", id=task.id
            )
        until = task.job.lease_until_ms or 0
        if (
            task.status != "processing"
            or (worker is not None and worker.name != task.worker)
            or (lease_id is not None and lease_id != task.lease_id)
            or until <= self._clock.now_ms()
        ):
            raise LeaseLost(f"Task {task.id!r} is not leased to you; stop.", context="task", id=task.id)

    async def held(self, worker: Worker | None, id: str, lease_id: str | None = None) -> WorkerTask:
        """Return a task that the worker holds. Raises NotFound, TaskCanceled, LeaseLost."""
        task = await self.get(id)
        self._require_held(task, worker, lease_id)
        return task

    async def heartbeat(
        self, worker: Worker | None, id: str, *, progress: float | None = None, lease_id: str | None = None
    ) -> WorkerTask:
        """Start the lease anew. progress: 0 to 1. Raises as `held`."""
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            task = await self._get(connection, id)
            self._require_held(task, worker, lease_id)
            await rows.seen(connection, task.worker, now)
            job: dict[str, object] = {"lease_until_ms": now + int(task.job.waiting or 60) * 1000}
            fresh: dict[str, object] = {}
            if progress is not None:
                job["done"], fresh["progress"] = int(progress * 100), progress
            await rows.change(connection, task.job.n, job, fresh)
            return await self._get(connection, id)

    async def source(self, worker: Worker | None, id: str, lease_id: str | None = None) -> Content:
        """Open the File of a task that the worker holds. Close `reader`."""
        task = await self.held(worker, id, lease_id)
        async with self._database.read() as connection:
            file = await file_rows.get(connection, task.file_n)
        if file is None:
            raise NotFound("File", task.filename)
        return await self._files.open(file)

    async def add_output(
        self,
        worker: Worker | None,
        id: str,
        name: str,
        body: AsyncIterator[bytes],
        *,
        lease_id: str | None = None,
        declared_length: int | None = None,
        sha256: str | None = None,
    ) -> None:
        """Take in a file of the task's output; one of the same name takes its place. Raises as `held`."""
        task = await self.held(worker, id, lease_id)
        try:
            path = normal_path(f"{task.folder()}/{entry_path(name)}")
        except (EntryError, Invalid) as error:
            raise Invalid("filename", str(error), name) from error
        storage = self._storages.known(task.storage_n)
        await self._files.check_length(storage, declared_length)
        async with self._files.receive(
            storage, body, declared_length=declared_length, sha256=sha256, keep=True
        ) as (writer, digests):
            made = Output(path, storage.n, writer.name, digests.size, digests.sha1, digests.sha256)
            await self.note_output(task, [made])

    async def note_output(self, task: WorkerTask, made: list[Output]) -> None:
        """Keep sealed temporary files for the end of the task. Raises TaskCanceled, LeaseLost."""
        async with self._database.write() as connection:
            now = await self._get(connection, task.id)
            self._require_held(now, None, task.lease_id)
            old = await rows.add_outputs(connection, task.job.n, task.lease_id, made)
        await self._drop(old)

    async def finish(
        self,
        worker: Worker | None,
        id: str,
        *,
        error: str | None = None,
        index_file: str | None = None,
        lease_id: str | None = None,
    ) -> None:
        """End a task: with `error`, its message, output discarded; else with all its output published.

        index_file  name in the version of the asset's new index file; Invalid when there is none such

        Asked again: nothing more happens. Raises as `held`.
        """
        async with self._database.write() as connection:
            task = await self._get(connection, id)
            same = task.status == ("done" if error is None else "error")
            mine = worker is None or worker.name == task.worker
            if same and mine and lease_id in (None, task.lease_id):
                return
            self._require_held(task, worker, lease_id)
            if error is not None:
                await rows.change(connection, task.job.n, self._ended(JobState.FAILED_TOTAL, error), {})
            else:
                index_path = await self._index(connection, task, index_file)
                # Its lease cannot end any more.
                begun = {"step": 1, "lease_until_ms": 2**62, "input": {"index": index_path}}
                await rows.change(connection, task.job.n, begun, {})
            if task.worker:
                await rows.seen(connection, task.worker, self._clock.now_ms())
        try:
            if error is None:
                await whole(self._publish(task, index_path))
        finally:
            await self._sweep()
            await self._jobs.tell()

    async def _index(self, connection: AsyncConnection, task: WorkerTask, name: str | None) -> str | None:
        if not name:
            return None
        path = f"{task.project_id}/{task.asset_id}/{task.version}/{name}"
        made = await rows.outputs(connection, task.job.n, task.lease_id)
        file = await file_rows.at_path(connection, task.storage_n, path)
        replaced = path.startswith(f"{task.folder()}/")  # by the output as a whole
        if path not in {output.path for output in made} and (file is None or replaced):
            raise Invalid("index_file", "there is no file of this name", name)
        return path

    async def _publish(self, task: WorkerTask, index_path: str | None) -> None:
        """Can be repeated: after a crash, or a failure of the catalog, `recover` carries it on.

        An OriginError that is raised has ended the task.
        """
        self._publishing.add(task.job.n)
        try:
            await self._publish_now(task, index_path)
        finally:
            self._publishing.discard(task.job.n)

    async def _publish_now(self, task: WorkerTask, index_path: str | None) -> None:
        storage = self._storages.known(task.storage_n)
        backend = self._storages.backend(storage)
        async with self._database.read() as connection:
            made = await rows.outputs(connection, task.job.n, task.lease_id)
        times: dict[str, int] = {}
        async with contextlib.AsyncExitStack() as locks:
            for output in made:  # by path, so that nobody waits for another in a circle
                await locks.enter_async_context(self._files.locks.hold((storage.n, output.path)))
            try:
                for first in range(0, len(made), _AT_ONCE):
                    await _put_all(backend, made[first : first + _AT_ONCE], times)
            except OriginError as error:
                await self._end_unpublished(task, times, str(error))
                raise
            async with self._database.write() as connection:
                committed = await self._commit(connection, task, made, times, index_path)
            if made:
                await self._jobs.notify()  # what it replaces is deleted by a job
            if not committed:
                await self._end_unpublished(task, times, None)
                raise TaskCanceled(f"Task {task.id!r} was canceled.", context="task", id=task.id)

    async def _end_unpublished(self, task: WorkerTask, times: Mapping[str, int], message: str | None) -> None:
        """Take away what has got to its place already. message: why; None: the asset or the task is gone."""
        backend = self._storages.backend(self._storages.known(task.storage_n))
        async with self._database.read() as connection:
            known = set()
            for path in times:
                if await file_rows.at_path(connection, task.storage_n, path):
                    known.add(path)
        for path in times:
            if path not in known:
                with contextlib.suppress(OriginError):
                    await backend.remove(path)
        if message is not None:
            async with self._database.write() as connection:
                await rows.change(connection, task.job.n, self._ended(JobState.FAILED_TOTAL, message), {})

    async def _commit(
        self,
        connection: AsyncConnection,
        task: WorkerTask,
        made: list[Output],
        times: Mapping[str, int],
        index_path: str | None,
    ) -> bool:
        """False when the task was aborted, or its asset deleted, meanwhile."""
        now = self._clock.now_ms()
        current = await rows.get(connection, task.job.n)
        if current is None or current.job.state is not JobState.STARTED:
            return False
        old: dict[str, File] = {}
        for first in range(0, len(made), 500):
            paths = [output.path for output in made[first : first + 500]]
            old |= await file_rows.at_paths(connection, task.storage_n, paths)
        fresh: list[File] = []
        number = await next_numbers(connection, "file", len(made)) if made else 0
        for place, output in enumerate(made):
            there = old.get(output.path)
            base = there or File(n=number + place, storage_n=task.storage_n, path=output.path, created_ms=now)
            file = replace(
                base,
                state=FileState.CLOSED,
                size=output.size,
                sha1=output.sha1,
                sha256=output.sha256,
                mtime_ns=times[output.path],
                generation=base.generation + 1,
                changed_ms=now,
            )
            if there is None:
                fresh.append(file)
            else:
                await file_rows.update(connection, file)
        await file_rows.insert_all(connection, fresh)
        keep = {output.path for output in made}
        if await project_rows.condemn_others(connection, task.storage_n, task.folder(), keep, now):
            await self._jobs.enqueue(
                connection,
                DELETE_TREE,
                user=task.job.user,
                input={"storage": task.storage_n, "path": task.folder()},
            )
        if index_path is not None:
            await project_rows.set_index(connection, task.asset_n, task.version, index_path)
        done = {**self._ended(JobState.FINISHED), "done": 100}
        await rows.change(connection, task.job.n, done, {"progress": 1.0})
        await rows.forget_outputs(connection, task.job.n)
        return True

    # --- upkeep -----------------------------------------------------------------------------------

    async def expire(self) -> None:
        """Make tasks whose lease is over new again, or end them after too many attempts."""
        now = self._clock.now_ms()
        async with self._database.read() as connection:
            if not await rows.leased(connection, until_ms=now):
                return
        async with self._database.write() as connection:
            for task in await rows.leased(connection, until_ms=now):
                if task.job.attempts >= self._attempts:
                    ended = self._ended(JobState.FAILED_TOTAL, "lease expired")
                    await rows.change(connection, task.job.n, ended, {})
                else:
                    await self._renew(connection, task)
        await self._sweep()
        await self._jobs.tell()

    async def keep_up(self) -> None:
        """Expire leases, end what nobody claims, forget what ended long ago, sweep up output."""
        await self.expire()
        await self.recover()
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            for n in await rows.unclaimed(connection, now - self._patience_ms):
                await rows.change(connection, n, self._ended(JobState.FAILED_TOTAL, "no worker"), {})
            await rows.forget_ended(connection, now - self._keep_ms)
        await self._sweep()

    async def recover(self) -> None:
        """At start, and now and then: publish what was on its way to its place."""
        async with self._database.read() as connection:
            found = await rows.publishing(connection)
        for task in found:
            if task.job.n in self._publishing:
                continue
            index = task.job.input.get("index")
            try:
                await self._publish(task, index if isinstance(index, str) else None)
            except OriginError:
                log.exception("the output of task %s could not be published", task.id)

    async def temporaries(self, storage_n: int) -> frozenset[str]:
        """Names of the temporary files that hold output."""
        async with self._database.read() as connection:
            return frozenset(await rows.temporaries(connection, storage_n))

    async def _sweep(self) -> None:
        while True:
            async with self._database.read() as connection:
                if not await rows.has_abandoned(connection):
                    return
            async with self._database.write() as connection:
                found = await rows.abandoned(connection, _SWEEP)
            await self._drop(found)

    async def _drop(self, found: list[Output]) -> None:
        for output in found:
            with contextlib.suppress(OriginError):
                storage = self._storages.known(output.storage_n)
                await self._storages.backend(storage).drop(output.temporary)


async def _put_all(backend: StorageBackend, made: Sequence[Output], times: dict[str, int]) -> None:
    """Bring outputs to their paths, and note the times of those that got there."""
    put = await asyncio.gather(*(_put(backend, output) for output in made), return_exceptions=True)
    for output, time in zip(made, put, strict=True):
        if isinstance(time, int):
            times[output.path] = time
    for failure in put:
        if isinstance(failure, BaseException):
            raise failure


async def _put(backend: StorageBackend, output: Output) -> int:
    """Bring one output to its path; return the time of its bytes. Can be repeated."""
    try:
        writer = await backend.adopt(output.temporary)
    except NotFound:
        stat = await backend.stat(output.path)  # there already, by an attempt that was cut short
        if stat is None or stat.size != output.size:
            raise
        return stat.mtime_ns
    try:
        return (await writer.publish(output.path, replace=True)).mtime_ns
    finally:
        await writer.release()
