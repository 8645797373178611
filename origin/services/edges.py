"""Edges hear of changes: before the answer to who made them, or in the background until they have heard.

    change committed (catalog/outbox.py) → `told` waits until every edge that answers has forgotten
    an edge does not answer, or not in time → logged once, nobody waits for it, tried again for ever
    it has heard of everything again → logged, waited for again

A change is told by every name under which an edge may have asked for it: `<file id>` and, for each name
of the storage, `<name>/<path>`. How far an edge was told is written down now and then; after a crash it
is told again what it had heard of already, which does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from origin.catalog import outbox
from origin.catalog.database import Database
from origin.catalog.outbox import Change
from origin.domain.model import make_id, url_name
from origin.errors import NotFound, OriginError, Unavailable
from origin.ports import EdgeApi
from origin.services.storages import Storages

log = logging.getLogger("origin.edges")

DEADLINE = 2.0  # seconds that a caller waits for all edges together
_CHANGES = 250  # told in one call: at most four names each, and 1000 names are taken at once
_LONGEST_NAME = 1024  # octets of UTF-8; an edge has no longer ones
_SAVE_SECONDS, _SAVE_CHANGES = 1.0, 2000
_RETRY_MIN, _RETRY_MAX = 0.5, 30.0  # seconds

Sleep = Callable[[float], Awaitable[None]]


class Edges:
    """sleep: between two tries with an edge that does not answer."""

    def __init__(
        self,
        database: Database,
        storages: Storages,
        edges: Sequence[EdgeApi],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._database = database
        self._lines = [_Line(database, storages, edge, sleep) for edge in edges]

    async def start(self) -> None:
        """Begin with what a former run did not get to."""
        async with self._database.write() as connection:
            told = await outbox.configure(connection, [line.edge.url for line in self._lines])
            noted = await outbox.last(connection)
        if not self._lines:
            return
        self._database.noted = noted
        self._database.on_noted = self._wake
        for line in self._lines:
            line.start(told[line.edge.url])

    async def stop(self) -> None:
        """What an edge has not heard of it hears after the next start."""
        for line in self._lines:
            await line.stop()
        self._database.on_noted = lambda: None

    def _wake(self) -> None:
        for line in self._lines:
            line.wake.set()

    async def told(self) -> None:
        """Return once every edge that answers has forgotten all that was changed before this call.

        After DEADLINE at most; never raises because of an edge.
        """
        noted = self._database.noted
        behind = [line for line in self._lines if noted is not None and line.up and line.told < noted]
        if not behind or noted is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*(line.reach(noted) for line in behind))
        for line in behind:
            line.give_up(noted)

    async def waiting(self) -> list[int]:
        """Return for each edge, as configured, how many changes it has not heard of."""
        return [await line.waiting() for line in self._lines]

    @property
    def failures(self) -> list[int]:
        """For each edge, as configured, the calls that failed since the start."""
        return [line.failures for line in self._lines]


class _Line:
    """To one edge. told: number of the last change it has heard of; up: whether callers wait for it."""

    def __init__(self, database: Database, storages: Storages, edge: EdgeApi, sleep: Sleep) -> None:
        self.edge = edge
        self.told = 0
        self.up = True
        self.failures = 0
        self.wake = asyncio.Event()
        self._moved = asyncio.Condition()
        self._database = database
        self._storages = storages
        self._sleep = sleep
        self._saved = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, told: int) -> None:
        self.told = self._saved = told
        self._task = asyncio.create_task(self._loop(), name=f"edge {self.edge.url}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            with contextlib.suppress(OriginError):
                await self._save()
        await self.edge.close()

    async def reach(self, n: int) -> None:
        """Wait until it has heard of change `n`, or does not answer."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.told >= n or not self.up)

    def give_up(self, n: int) -> None:
        """Callers waited too long: they do not again until it has caught up."""
        if self.up and self.told < n:
            self.up = False
            log.warning("edge %s does not keep up; what changes is told it in the background", self.edge.url)

    async def waiting(self) -> int:
        async with self._database.read() as connection:
            return await outbox.count(connection, self.edge.url, self.told, self._database.noted or 0)

    async def _loop(self) -> None:
        pause = _RETRY_MIN
        while True:
            try:
                if await self._tell_some():
                    pause = _RETRY_MIN
                    continue
                await self._rest()
            except Unavailable as error:
                await self._failed(str(error))
                await self._sleep(pause)
                pause = min(_RETRY_MAX, pause * 2)
            except Exception:
                log.exception("edge %s: telling it failed and goes on", self.edge.url)
                await self._failed("an error of ours")
                await self._sleep(_RETRY_MAX)

    async def _rest(self) -> None:
        """All is told: wait for more; write down how far it is when there is none for a while."""
        unsaved = self.told > self._saved
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SAVE_SECONDS if unsaved else None):
                await self.wake.wait()
                return
        await self._save()

    async def _save(self) -> None:
        if self.told > self._saved:
            told = self.told
            async with self._database.write() as connection:
                await outbox.told_up_to(connection, {self.edge.url: told})
            self._saved = told

    async def _tell_some(self) -> bool:
        """Make the next call; False when there is nothing to tell."""
        self.wake.clear()
        noted = self._database.noted or 0
        if self.told >= noted:
            return False
        async with self._database.read() as connection:
            changes = await outbox.waiting(connection, self.edge.url, self.told, noted, _CHANGES)
        began = time.monotonic()
        for bucket in dict.fromkeys(url_name(c.name, c.storage_n) for c in changes if c.name is not None):
            await self.edge.purge(bucket=bucket)
        if ids := self._names([change for change in changes if change.name is None]):
            await self.edge.purge(ids=ids)
        whole = len(changes) < _CHANGES
        await self._heard(noted if whole else changes[-1].n, fast=time.monotonic() - began < DEADLINE / 2)
        if self.told - self._saved >= _SAVE_CHANGES:
            await self._save()
        return True

    def _names(self, changes: Sequence[Change]) -> list[str]:
        """Return the ids that an edge may have asked by, each once."""
        names: dict[str, None] = {}
        for change in changes:
            names[make_id(change.file_n or 0)] = None
            with contextlib.suppress(NotFound):  # gone with all its Files: that is a change of its own
                storage = self._storages.known(change.storage_n)
                for name in (storage.bucket, storage.id, storage.name):
                    names[f"{name}/{change.path}"] = None
        return [name for name in names if _can_be_asked_for(name)]

    async def _heard(self, n: int, *, fast: bool) -> None:
        async with self._moved:
            self.told = n
            if not self.up and fast and n >= (self._database.noted or 0):
                self.up = True
                log.info("edge %s has heard of all changes", self.edge.url)
            self._moved.notify_all()

    async def _failed(self, reason: str) -> None:
        self.failures += 1
        async with self._moved:
            if self.up:
                self.up = False
                log.warning("edge %s is not told of changes: %s; it will be", self.edge.url, reason)
            self._moved.notify_all()


def _can_be_asked_for(name: str) -> bool:
    """Leave out names that no edge takes, of those at least that would make a call too long."""
    return len(name.encode("utf-8", "replace")) <= _LONGEST_NAME and not {'"', "\\"} & set(name)
