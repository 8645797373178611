"""What everything in this folder works with; made once, by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from distributor.ports import Clock, Observer, Store
from distributor.upstream.pool import SourcePool


@dataclass(frozen=True)
class Means:
    """What every fetch of a node works with. `served(bucket)`: is it distributed now?"""

    store: Store
    pool: SourcePool
    clock: Clock
    observer: Observer
    node_id: str
    segment: int
    default_ttl: float
    served: Callable[[str], bool]
    fill: Literal["whole", "asked"] = "whole"
    transparent: bool = False
