"""The composition root: builds everything from the settings, starts it in order, and stops it.

start   store (takes the directory) → token → sources → edge → operator port → public port → ready
stop    public port closed → answers under way, as long as drain_timeout allows → jobs → fetches
        (what they have is kept) → operator port → sources → store (index written) → log
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import Coroutine, Iterator
from importlib.metadata import version as installed_version
from pathlib import Path

import aiohttp
import uvloop

from distributor.api.disk import DiskReader
from distributor.api.hot import HotTier
from distributor.api.listener import Listener
from distributor.api.logs import AccessLog, LogWriter, set_up_logging
from distributor.api.middleware import PUBLIC_FIELDS, Frontend
from distributor.api.operator import MAX_BODY, OperatorApi
from distributor.api.protocol import EdgeServer, ServerLimits
from distributor.api.public import PublicApi
from distributor.config import Config
from distributor.core.keys import cache_key, parse_asset_path, source_path
from distributor.delivery.edge import Edge
from distributor.delivery.invalidation import Invalidation
from distributor.delivery.jobs import Jobs
from distributor.delivery.means import Means
from distributor.delivery.node import Command, Node, NodeState
from distributor.errors import Conflict, EdgeError, SettingsError
from distributor.metrics import Metrics
from distributor.ports import Clock, SystemClock
from distributor.settings import read_or_make_secret
from distributor.store.overrides import Overrides, load_overrides, save_overrides
from distributor.store.store import DiskStore
from distributor.upstream.client import HttpSource, make_session
from distributor.upstream.pool import SourcePool

__all__ = ["VERSION", "Application", "serve"]

log = logging.getLogger("distributor")

VERSION = installed_version("distributor")
OPERATOR_CLIENTS = 256  # connections to the operator API; its users are few
HASTE = 2.0  # seconds for what must not be left undone when the node is to stop at once


class Application:
    """One edge: start, then wait, then stop. Implements api.operator.Control.

    node      state, buckets and worker
    public, operator  the two listeners
    """

    node: Node
    public: Listener
    operator: Listener

    def __init__(self, config: Config, writer: LogWriter, clock: Clock | None = None) -> None:
        """`clock` tells ages and freshness; None: the machine's own. Connections keep real time."""
        self._config = config
        self._writer = writer
        self._clock: Clock = clock or SystemClock()
        self._metrics = Metrics(VERSION)
        self._disk = DiskReader()
        self._access_log = AccessLog(writer, config.log.format) if config.log.access else None
        self._switching = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    # --- starting ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the cache directory and listen. Raises SettingsError, StoreError, OSError."""
        config, cache = self._config, self._config.cache
        self.store = DiskStore(
            cache.directory,
            limit=cache.limit,
            max_object=cache.max_object,
            segment=cache.segment,
            eviction=cache.eviction,
            durability=cache.durability,
            observer=self._metrics,
            clock=self._clock,
        )
        await self.store.start()
        try:
            token = await asyncio.to_thread(_token, config)
            overrides = await asyncio.to_thread(load_overrides, cache.directory)
            self._build(overrides, token)
            await self.operator.listen()
            await self.public.listen()
        except BaseException:
            await self.stop()
            raise
        self.node.change(Command.READY)
        log.info("ready public=%s operator=%s id=%s", self.public.url, self.operator.url, config.id)

    def _build(self, overrides: Overrides, token: str) -> None:
        config = self._config
        self.node = Node(config.id, VERSION, config.buckets, config.worker_id, overrides, self._save)
        self.edge = Edge(
            self._means(),
            negative_ttl=config.freshness.negative_ttl,
            stale_if_error=config.freshness.stale_if_error,
        )
        self._metrics.watch(self.store, lambda: self.edge.fetches_in_flight)
        purger = Invalidation(self.store, self.edge, self._metrics)
        self.jobs = Jobs(
            self.store,
            self._prefetch,
            self._metrics,
            self._clock,
            verify_rate=config.cache.verify_rate,
        )
        self.hot = self._hot()
        public = PublicApi(
            self.edge,
            self.node,
            self.store,
            self._metrics.text,
            key_query=config.cache.key_query,
            strip_query=frozenset(config.cache.strip_query),
            hot=self.hot,
        )
        operator = OperatorApi(
            token,
            node=self.node,
            store=self.store,
            assets=self.edge,
            purger=purger,
            jobs=self.jobs,
            control=self,
            clock=self._clock,
        )
        limits = config.limits
        of_clients = ServerLimits(
            limits.max_clients, limits.header_timeout, limits.idle_timeout, limits.min_send_rate
        )
        address = config.public_api
        server = self._server(public, "public", of_clients)
        if self.hot is not None:
            server.shortcut = self.hot.shortcut
        self.public = Listener(server, address.host, address.port)
        of_operators = of_clients._replace(max_clients=OPERATOR_CLIENTS)
        private = config.operator_api
        self.operator = Listener(self._server(operator, "operator", of_operators), private.host, private.port)

    def _hot(self) -> HotTier | None:
        """The short way for hot hits; None where it is switched off."""
        if not self._config.cache.hot or self._config.origin.transparent:
            return None  # a transparent edge chooses among variants, which the short way does not
        hot = HotTier(
            self.store,
            self._disk,
            self._metrics.hot,
            self._access_log,
            node_id=self._config.id,
            common=PUBLIC_FIELDS,
            served=self.node.distributes,
            memory=self._config.cache.hot,
            idle=self._config.limits.idle_timeout,
            now=self._clock.now,
        )
        self.store.watch(hot.assets.left)
        return hot

    def _means(self) -> Means:
        config, origin = self._config, self._config.origin
        session = self._session = make_session()
        sources = [
            HttpSource(
                source.name or str(number),
                source.url,
                session,
                user_agent=f"distributor/{VERSION}",
                connect_timeout=origin.connect_timeout,
                stall_timeout=origin.stall_timeout,
                observer=self._metrics,
                headers=source.headers,
                clock=self._clock,
            )
            for number, source in enumerate(origin.sources, 1)
        ]
        pool = SourcePool(
            sources,
            clock=self._clock,
            observer=self._metrics,
            max_connections=origin.max_connections,
            max_waiting=config.limits.max_waiting_fetches,
            backoff=origin.backoff,
            transparent=origin.transparent,
        )
        return Means(
            store=self.store,
            pool=pool,
            clock=self._clock,
            observer=self._metrics,
            node_id=config.id,
            segment=config.cache.segment,
            default_ttl=config.freshness.default_ttl,
            served=self.node.distributes,
            fill=config.cache.fill,
            transparent=origin.transparent,
            min_rate=origin.min_rate,
            pace_window=origin.stall_timeout,
            max_fetches=config.limits.max_fetches,
            max_waiting=config.limits.max_waiting_fetches,
        )

    def _server(self, routes: PublicApi | OperatorApi, listener: str, limits: ServerLimits) -> EdgeServer:
        frontend = Frontend(
            routes,
            cors=listener == "public",
            disk=self._disk,
            observer=self._metrics,
            access_log=self._access_log,
        )
        return EdgeServer(
            frontend.answer,
            frontend.problem,
            listener=listener,
            limits=limits,
            observer=self._metrics,
            clock=self._clock,
            max_body=MAX_BODY if listener == "operator" else 0,
        )

    async def _save(self, overrides: Overrides) -> None:
        await asyncio.to_thread(save_overrides, self._config.cache.directory, overrides)

    async def _prefetch(self, asset_id: str) -> int:
        """Have one asset complete and fresh; its bytes. Raises EdgeError."""
        parse_asset_path(source_path(asset_id))  # what is no id on the public port is none here
        key = cache_key(asset_id)
        await self.edge.prefetch(asset_id, key, self._clock.now())
        stored = self.store.get(key)
        return 0 if stored is None else stored.length or 0

    # --- what operators may do (api.operator.Control) ---------------------------------------------

    async def stop_api(self) -> None:
        """Close the public port; transfers under way go on."""
        async with self._switching:
            self.node.change(Command.STOP_API)
            self.public.close()
            self.public.server.close_idle()

    async def start_api(self) -> None:
        """Listen again, end a drain."""
        async with self._switching:
            self.node.allowed(Command.START_API)
            await self.public.listen()
            self.public.server.draining = False
            self.node.change(Command.START_API)

    async def drain(self) -> None:
        """Let load balancers send clients elsewhere; requests are still served."""
        async with self._switching:
            self.node.change(Command.DRAIN)
            self.public.server.draining = True

    async def shutdown(self) -> None:
        """Begin to stop."""
        self.node.change(Command.SHUTDOWN)
        self._stopping.set()

    # --- stopping ---------------------------------------------------------------------------------

    def signalled(self) -> None:
        """SIGTERM or SIGINT: the first begins to stop, the second stops at once."""
        if self._stopping.is_set():
            log.warning("stopping at once")
            self._at_once.set()
            return
        if hasattr(self, "node"):  # else it is still starting, and stops as soon as it has started
            with contextlib.suppress(Conflict):
                self.node.change(Command.SHUTDOWN)
        self._stopping.set()

    async def wait(self) -> None:
        """Return when the node is to stop."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Stop everything, in order; what was never started is passed over."""
        if hasattr(self, "public"):
            log.info("stopping")
            if self.node.state is not NodeState.STOPPING:
                self.node.change(Command.SHUTDOWN)
            self.public.close()
            self.public.server.close_idle()
            await self._drained()
            await self.jobs.close()
            if self.hot is not None:
                await self.hot.close()
            await self.public.server.stop()
            await self._hurried(self.edge.close())
            self.operator.close()
            self.operator.server.close_idle()
            await self.operator.server.wait_quiet(HASTE)
            await self.operator.server.stop()
        if self._session is not None:
            await self._session.close()
        await self._hurried(self.store.close())
        self._disk.close()
        if self._access_log is not None:
            self._access_log.flush()

    async def _drained(self) -> None:
        """Wait for the answers under way, unless the node is to stop at once."""
        quiet = asyncio.ensure_future(self.public.server.wait_quiet(self._config.limits.drain_timeout))
        at_once = asyncio.ensure_future(self._at_once.wait())
        await asyncio.wait([quiet, at_once], return_when=asyncio.FIRST_COMPLETED)
        for waiting in (quiet, at_once):
            waiting.cancel()

    async def _hurried(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` to its end; once the node is to stop at once, for HASTE seconds at most."""
        task = asyncio.ensure_future(work)
        at_once = asyncio.ensure_future(self._at_once.wait())
        await asyncio.wait([task, at_once], return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        try:
            await asyncio.wait_for(task, HASTE if self._at_once.is_set() else None)
        except (EdgeError, TimeoutError) as error:
            log.error("not everything could be ended well: %s", type(error).__name__)


def _token(config: Config) -> str:
    """The operators' token; made at the first start. Blocks. Raises SettingsError."""
    operator = config.operator_api
    if operator.token is not None:
        return operator.token
    token, made = read_or_make_secret(Path(operator.token_file))
    if made:
        log.info("a token for the operator API was made: %s", operator.token_file)
    return token


@contextlib.contextmanager
def _signals(application: Application) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, signal.SIGINT)
    for number in caught:
        loop.add_signal_handler(number, application.signalled)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


async def _serve(config: Config, writer: LogWriter) -> None:
    application = Application(config, writer)
    with _signals(application):
        await application.start()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        try:
            await application.wait()
        finally:
            await application.stop()


def serve(config: Config) -> int:
    """Run an edge until it is told to stop; return the exit code. Blocks."""
    writer = LogWriter()
    set_up_logging(config.log.level, config.log.format, writer)
    _raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, writer))
    except SettingsError as error:
        for problem in error.problems:
            log.error("%s", problem)
        return 2
    except (EdgeError, OSError) as error:
        log.error("the node cannot run: %s", error)
        return 1
    except Exception:
        log.exception("the node ended by a defect")
        return 1
    else:
        log.info("stopped")
        return 0
    finally:
        writer.close()


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: a client is one or two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
