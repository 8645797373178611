"""The node as a whole: the state it is in, and the buckets and worker in force.

    starting ──▶ serving ◀──▶ draining
                   │ ▲           │
          stop-api │ │ start-api │ stop-api
                   ▼ │           ▼
                  stopped ◀──────┘          any ──shutdown──▶ stopping

What an operator sets is on disk before it is in force, and is stronger than the settings file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import Enum, StrEnum
from typing import Literal

from msgspec.structs import replace

from distributor.errors import Conflict
from distributor.store.overrides import Overrides

__all__ = ["Command", "Node", "NodeState"]


class NodeState(StrEnum):
    """What /status says of the node."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Command(Enum):
    """What moves a node from one state to another."""

    READY = "ready"
    STOP_API = "stop-api"
    START_API = "start-api"
    DRAIN = "drain"
    SHUTDOWN = "shutdown"


_S = NodeState
_RUNNING = (_S.STARTING, _S.SERVING, _S.DRAINING, _S.STOPPED)
TRANSITIONS: dict[Command, tuple[tuple[NodeState, ...], NodeState]] = {
    Command.READY: ((_S.STARTING,), _S.SERVING),
    Command.STOP_API: ((_S.STARTING, _S.SERVING, _S.DRAINING), _S.STOPPED),
    Command.START_API: ((_S.DRAINING, _S.STOPPED), _S.SERVING),
    Command.DRAIN: ((_S.SERVING,), _S.DRAINING),
    Command.SHUTDOWN: (_RUNNING, _S.STOPPING),
}
"""Command → (states in which it may be given, state it leads to)."""


class Node:
    """State, buckets and worker of this node.

    buckets    served, in order; None: all
    worker_id  None: not set
    started    monotonic time at which the process started
    """

    def __init__(
        self,
        node_id: str,
        version: str,
        buckets: tuple[str, ...] | Literal["all"],
        worker_id: int | None,
        overrides: Overrides,
        save: Callable[[Overrides], Awaitable[None]],
    ) -> None:
        """`save` returns once the overrides are on disk; raises StoreError."""
        self.id = node_id
        self.version = version
        self.started = time.monotonic()
        self.state = NodeState.STARTING
        self._settings = Overrides(buckets=buckets, worker_id=worker_id)
        self._overrides = overrides
        self._save = save
        self._saving = asyncio.Lock()
        self._enforce()

    def _enforce(self) -> None:
        overrides, settings = self._overrides, self._settings
        buckets = overrides.buckets if overrides.buckets is not None else settings.buckets
        self.buckets = None if buckets == "all" or buckets is None else buckets
        self._served = None if self.buckets is None else frozenset(self.buckets)
        self.worker_id = overrides.worker_id if overrides.worker_id is not None else settings.worker_id

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests here."""
        return self.state is NodeState.SERVING

    @property
    def leaving(self) -> bool:
        """Draining or stopping: no new work of the node's own is begun."""
        return self.state in (NodeState.DRAINING, NodeState.STOPPING)

    def allowed(self, command: Command) -> None:
        """Raise Conflict unless `command` may be given now."""
        if self.state not in TRANSITIONS[command][0]:
            raise Conflict(f"{command.value} while {self.state.value}")

    def change(self, command: Command) -> NodeState:
        """Move to the state that `command` leads to. Raises Conflict."""
        self.allowed(command)
        self.state = TRANSITIONS[command][1]
        return self.state

    def distributes(self, bucket: str) -> bool:
        """Whether assets of `bucket` are served now."""
        return self._served is None or bucket in self._served

    async def set_buckets(self, buckets: tuple[str, ...] | None) -> None:
        """Serve only `buckets`, or None: all. On disk, then in force. Raises StoreError."""
        async with self._saving:
            await self._override(replace(self._overrides, buckets="all" if buckets is None else buckets))

    async def set_worker(self, worker_id: int) -> None:
        """Show `worker_id` in /buckets. On disk, then in force. Raises StoreError."""
        async with self._saving:
            await self._override(replace(self._overrides, worker_id=worker_id))

    async def _override(self, overrides: Overrides) -> None:
        await self._save(overrides)
        self._overrides = overrides
        self._enforce()
