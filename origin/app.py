"""The composition root: everything is made here, from settings, and started and stopped in order.

catalog → first user → storages (finish what a crash cut short, sweep) → hashing, runners, upkeep
→ listen → ready.      Stop: not ready → no new connections → answers end → runners → catalog
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import signal
import time

from aiohttp import web

from distributor.settings import SettingsError, read_or_make_secret
from origin.api import admin, content, system
from origin.api.cors import Cors
from origin.api.dispatch import Dispatch, Mount, raw_path
from origin.api.errors import plain, plain_from
from origin.api.logs import set_up
from origin.api.metrics import Metrics
from origin.api.nodeum import routes as nodeum
from origin.api.ove import routes as ove
from origin.api.protocol import OriginProtocol, OriginRequest, OriginServer, ServerLimits
from origin.api.vidispine import routes as vidispine
from origin.backends.disk import Disk
from origin.backends.edges import HttpEdge
from origin.catalog.database import Database
from origin.catalog.searching import Searcher
from origin.config import OriginConfig
from origin.domain.model import ANONYMOUS, Storage
from origin.domain.states import StorageState
from origin.errors import OriginError
from origin.ports import Clock
from origin.services import (
    Access,
    Assets,
    Audit,
    Buckets,
    Edges,
    Files,
    Imports,
    Items,
    Jobs,
    Limiter,
    Notifications,
    Projects,
    Relocations,
    Scans,
    Search,
    Services,
    Slots,
    Storages,
    Tasks,
    Transfers,
    Tree,
    Workers,
    WorkerTasks,
)
from origin.services.audit import Act, acting
from origin.workers.copy import CopyFile
from origin.workers.delete import DeleteFile
from origin.workers.delete_tree import DeleteTree
from origin.workers.extract import Extractor, Limits
from origin.workers.import_item import ImportItem
from origin.workers.notifier import Notifier
from origin.workers.runner import Runner
from origin.workers.task import RunTask

log = logging.getLogger("origin")
access_log = logging.getLogger("origin.access")

UPKEEP = 30.0  # seconds between looks at storages and old transfers
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class Origin:
    """The whole service. `start`, then `stop`, once each."""

    def __init__(self, config: OriginConfig, clock: Clock, disk: Disk | None) -> None:
        self.config = config
        self.clock = clock
        self.metrics = Metrics()
        self.ready = False
        self._disk = disk
        self._cors = Cors(config.cors)
        self._database: Database | None = None
        self._searcher: Searcher | None = None
        self._runner: Runner | None = None
        self._notifier: Notifier | None = None
        self._extractor: Extractor | None = None
        self._web: web.ServerRunner | None = None
        self._server: OriginServer | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._dispatch: Dispatch | None = None
        self.services: Services

    # --- making -----------------------------------------------------------------------------------

    def _make(self, database: Database) -> Runner:
        config, clock = self.config, self.clock
        access = Access(database, clock, anonymous_reads=config.auth.anonymous == "read")
        storages = Storages(database, clock, access, roots=config.storage_roots, disk=self._disk)
        jobs = Jobs(database, clock)
        files = Files(database, clock, access, storages, jobs, max_upload=config.limits.max_upload)
        transfers = Transfers(database, clock, storages, files)
        edges = Edges(
            database,
            storages,
            [HttpEdge(edge.url, token=edge.token, token_file=edge.token_file) for edge in config.edges],
        )
        scans = Scans(database, clock, access, storages, files, edges)
        self._searcher = Searcher(config.catalog)
        projects = Projects(database, clock, access, storages, jobs)
        workers = Workers(database, clock, access)
        worker_tasks = WorkerTasks(
            database,
            clock,
            storages,
            projects,
            files,
            jobs,
            workers,
            attempts=config.workers.attempts,
            patience_ms=int(config.workers.patience * 1000),
            keep_ms=int(config.workers.keep * 1000),
        )
        self.services = Services(
            config=config,
            clock=clock,
            access=access,
            storages=storages,
            files=files,
            transfers=transfers,
            items=Items(database),
            jobs=jobs,
            relocations=Relocations(database, access, storages, files, jobs),
            imports=Imports(database, storages, files, jobs),
            scans=scans,
            notifications=Notifications(database, clock, hosts=config.notification_hosts),
            slots=Slots(),
            limiter=Limiter(
                Buckets(config.rate_limit.requests, config.rate_limit.per) if config.rate_limit else None,
                Buckets(config.auth.failed_logins.requests, config.auth.failed_logins.per),
            ),
            tree=Tree(database, access, storages),
            search=Search(self._searcher, access, storages, clock),
            tasks=Tasks(database, clock, access, jobs),
            audit=Audit(database, access),
            edges=edges,
            projects=projects,
            assets=Assets(database, clock, projects, files, jobs),
            workers=workers,
            worker_tasks=worker_tasks,
        )
        return self._make_runners(database)

    def _make_runners(self, database: Database) -> Runner:
        """What works in the background, and the kinds of jobs it knows."""
        config, clock, services = self.config, self.clock, self.services
        storages, files, jobs = services.storages, services.files, services.jobs
        jobs.register(DeleteTree(database, storages, files))
        jobs.register(DeleteFile(database, storages, files))
        jobs.register(CopyFile(database, clock, storages, files))
        jobs.register(CopyFile(database, clock, storages, files, move=True))
        jobs.register(ImportItem(database, clock, storages, files))
        jobs.register(RunTask(database, services.access, storages, files, services.scans))
        bounds = config.workers
        self._extractor = Extractor(
            clock,
            storages,
            jobs,
            services.workers,
            services.worker_tasks,
            count=config.jobs.runners,
            limits=Limits(bounds.extract_entries, bounds.extract_bytes, bounds.extract_ratio),
        )
        return Runner(
            database,
            clock,
            jobs,
            services.edges,
            name=config.id,
            count=config.jobs.runners,
            lease=config.jobs.lease,
            attempts=config.jobs.attempts,
        )

    def _mounts(self, key: bytes) -> Dispatch:
        services = self.services
        about = system.handler(
            services, self.metrics, ready=lambda: self.ready, connections=self._count_connections
        )
        files_dialect = vidispine.handler(services, key)
        archive_dialect = nodeum.handler(services)
        mounts = [
            Mount(content.PREFIX, "content", content.handler(services)),
            Mount(admin.PREFIX, "admin", admin.handler(services)),
            *(Mount(prefix, "vidispine", files_dialect) for prefix in vidispine.PREFIXES),
            *(Mount(prefix, "nodeum", archive_dialect) for prefix in nodeum.PREFIXES),
            Mount(ove.PREFIX, "ove", ove.handler(services), slashes=True, max_age=ove.MAX_AGE),
            Mount("/healthz", "system", about),
            Mount("/readyz", "system", about),
            Mount("/metrics", "system", about),
        ]
        return Dispatch(mounts, Mount("/", "none", _nothing_here))

    def _count_connections(self) -> int:
        return len(self._server.open) if self._server else 0

    # --- start and stop ---------------------------------------------------------------------------

    async def start(self) -> list[str]:
        """Return the addresses listened on, as URLs. Raises OriginError, SettingsError, OSError."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> list[str]:
        self._database = await Database.open(self.config.catalog)
        self._runner = self._make(self._database)
        await self._first_user()
        await self._open_storages()
        await self.services.projects.load()
        await self.services.edges.start()
        await self.services.worker_tasks.recover()
        await self.services.files.hasher.start()
        self.services.scans.start()
        self._notifier = Notifier(self.services.notifications, self.services.jobs)
        self._notifier.start()
        await self._runner.start()
        if self._extractor is not None:
            await self._extractor.start()
        self._upkeep = asyncio.create_task(self._keep_up(), name="upkeep")
        key, _ = await asyncio.to_thread(read_or_make_secret, self.config.signing_key_file)
        self._dispatch = self._mounts(key.encode())
        addresses = await self._listen()
        self.ready = True
        log.info("ready %s", " ".join(addresses))
        return addresses

    async def _first_user(self) -> None:
        auth = self.config.auth
        if await self.services.access.has_users():
            return
        if auth.admin_password is not None:
            password = auth.admin_password
        else:
            password, made = await asyncio.to_thread(read_or_make_secret, auth.admin_password_file)
            if made:
                log.info("the password of %s is in %s", auth.admin_user, auth.admin_password_file)
        await self.services.access.first_user(auth.admin_user, password)

    async def _open_storages(self) -> None:
        storages = self.services.storages
        await storages.load()
        for wanted in self.config.storages:
            await storages.ensure(wanted.name, wanted.uri, public=wanted.public, archive=wanted.archive)
        for storage in storages.everything():
            await self._open_storage(storage)

    async def _open_storage(self, storage: Storage) -> None:
        """Finish or undo what a crash cut short, then sweep temporary files nobody needs."""
        services = self.services
        try:
            backend = services.storages.backend(storage)
            finished = await services.files.publisher.recover(storage, backend)
            needed = await services.transfers.temporaries(storage) | await services.jobs.temporaries()
            needed |= await services.worker_tasks.temporaries(storage.n)
            swept = await backend.prepare(needed)
            if finished or swept:
                log.info("storage %s: %d uploads settled, %d leftovers", storage.name, finished, swept)
            await self._note(storage, StorageState.READY)
        except OriginError as error:
            log.error("storage %s: %s", storage.name, error)
            await self._note(storage, StorageState.OFFLINE)

    async def _note(self, storage: Storage, state: StorageState) -> None:
        found_out = (StorageState.NONE, StorageState.READY, StorageState.OFFLINE)
        if storage.state is not state and storage.state in found_out:
            await self.services.storages.mark(storage, state)

    async def _listen(self) -> list[str]:
        limits = self.config.limits
        self._server = OriginServer(
            self._answer,
            prepare=self._prepare,
            problem=plain,
            done=self._done,
            limits=ServerLimits(
                max_clients=limits.max_clients,
                header_timeout=limits.header_timeout,
                idle_timeout=limits.idle_timeout,
            ),
        )
        self._web = web.ServerRunner(self._server, shutdown_timeout=1.0)
        await self._web.setup()
        site = web.TCPSite(self._web, self.config.api.host, self.config.api.port, backlog=1024)
        await site.start()
        return [_url(address) for address in self._web.addresses]

    async def stop(self) -> None:
        """Let answers under way end, then stop all. Safe after a failed start."""
        self.ready = False
        if self._web is not None:
            for site in list(self._web.sites):
                await site.stop()
            if self._server is not None:
                await self._server.drain(self.config.limits.drain_timeout)
            await self._web.cleanup()
            self._web = None
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
            self._upkeep = None
        if self._runner is not None:
            if self._extractor is not None:
                await self._extractor.stop()
                self._extractor = None
            await self._runner.stop()
            await self.services.scans.stop()
            if self._notifier is not None:
                await self._notifier.stop()
                self._notifier = None
            await self.services.files.hasher.stop()
            await self.services.edges.stop()
            self._runner = None
        if self._searcher is not None:
            await self._searcher.close()
            self._searcher = None
        if self._database is not None:
            await self._database.close()
            self._database = None

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP)
            try:
                await self.services.transfers.expire()
                await self.services.worker_tasks.keep_up()
                for storage in self.services.storages.everything():
                    try:
                        await self.services.storages.space(storage)
                    except OriginError:
                        await self._note(storage, StorageState.OFFLINE)
                    else:
                        if storage.state is StorageState.OFFLINE:
                            await self._open_storage(storage)
                        else:  # in use: what looks like a leftover may be an upload under way
                            await self._note(storage, StorageState.READY)
            except Exception:
                log.exception("upkeep failed and goes on")

    # --- around every request ---------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if isinstance(request, OriginRequest):
            asked = request.headers.get("X-Request-Id", "")
            request.id = asked if _REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)
        if self._dispatch is None:
            return plain(503, "starting", headers={"Retry-After": "1"})
        mount = self._dispatch.find(raw_path(request))
        preflight = self._cors.preflight(request, mount.max_age)
        if preflight is not None:
            return preflight
        if isinstance(request, OriginRequest):
            request.dialect = mount.name
        act = self._act(request, mount.name)
        acting.set(act)
        try:
            response = await mount.handler(request)
        except ConnectionError:
            raise
        except Exception as error:
            response = plain_from(error)
        if act is not None:
            await self.services.edges.told()  # whoever hears of a change here may ask an edge next
        return response

    def _act(self, request: web.Request, dialect: str) -> Act | None:
        """For the audit log: what is asked, if it may change something."""
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return None
        return Act(
            at_ms=self.clock.now_ms(),
            method=request.method,
            path=raw_path(request),
            dialect=dialect,
            request_id=getattr(request, "id", ""),
            address=request.remote,
        )

    def _prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "origin"
        if isinstance(request, OriginRequest):
            request.id = request.id or secrets.token_hex(8)  # of what could not be read as a request
            response.headers["X-Request-Id"] = request.id
            if request.left is not None:
                response.headers["RateLimit-Limit"] = str(request.left.limit)
                response.headers["RateLimit-Remaining"] = str(request.left.remaining)
                response.headers["RateLimit-Reset"] = str(request.left.reset)
        protocol = request.protocol
        leaving = self._server is not None and self._server.draining
        if leaving or (isinstance(protocol, OriginProtocol) and protocol.half_closed):
            response.headers["Connection"] = "close"
        self._cors.apply(request, response)

    def _done(self, request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
        dialect = getattr(request, "dialect", "none")
        sent = request.writer.output_size
        self.metrics.answered(dialect, request.method, response.status, seconds, sent)
        if self.config.log.access:
            caller = getattr(request, "caller", ANONYMOUS)
            access_log.info(
                "%s %s %d",
                request.method,
                request.path_qs.partition("?")[0],
                response.status,
                extra={
                    "id": getattr(request, "id", "-"),
                    "dialect": dialect,
                    "user": caller.name or "-",
                    "remote": request.remote,
                    "sent": sent,
                    "seconds": round(seconds, 6),
                },
            )


async def _nothing_here(request: web.Request) -> web.StreamResponse:
    return plain(404, "no such path")


def _url(address: object) -> str:
    if not isinstance(address, tuple):
        return str(address)
    host, port = str(address[0]), address[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_app(config: OriginConfig, *, clock: Clock | None = None, disk: Disk | None = None) -> Origin:
    """Return the service, not started. clock, disk: None for the real ones."""
    return Origin(config, clock or SystemClock(), disk)


async def serve(config: OriginConfig) -> None:
    """Run until SIGTERM or SIGINT, then drain. A second signal stops at once."""
    origin = build_app(config)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    task = asyncio.current_task()

    def stop() -> None:
        if asked.is_set() and task is not None:
            task.cancel()
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await origin.start()
        await asked.wait()
        log.info("stopping")
    finally:
        await origin.stop()


def run(config: OriginConfig) -> int:
    """Run in the foreground. Return the exit code: 0 stopped as asked, 1 could not run."""
    import uvloop

    lines = set_up(config.log.level, config.log.format)
    try:
        uvloop.run(serve(config))
    except SettingsError as error:
        log.error("cannot run: %s", error)
        return 2
    except (OriginError, OSError) as error:
        log.error("cannot run: %s", error)
        return 1
    except asyncio.CancelledError:
        return 0
    finally:
        lines.stop()
    return 0
