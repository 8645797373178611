"""A run: the stretch of the grid that one connection after another fills, from its start on.

The runs of a fetch never overlap: each absent byte is some run's, or nobody's yet. A run's end may
be brought forward while it is under way, so that another run takes over what lies far ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from distributor.core.segments import SegmentMap
from distributor.ports import Exchange


class Run:
    """Fill [position, stop). stop None: to the end of a body whose length is unknown.

    busy_until  end of the bytes in hand: read from the source, on their way to the disk
    owner       the reader for whom it was started ahead of the fill; None: the fill itself
    """

    __slots__ = ("busy_until", "exchange", "owner", "position", "source", "stop", "task")

    def __init__(
        self, position: int, stop: int | None, *, exchange: Exchange | None = None, owner: object = None
    ) -> None:
        self.position = position
        self.stop = stop
        self.busy_until = position
        self.exchange = exchange
        self.owner = owner
        self.source = exchange.source if exchange is not None else ""
        self.task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Nothing is left to fill."""
        return self.stop is not None and self.position >= self.stop

    def covers(self, position: int) -> bool:
        """Whether the absent byte at `position` will be filled by this run."""
        return self.position <= position and (self.stop is None or position < self.stop)

    def near(self, position: int, size: int) -> bool:
        """Whether `position` lies in the segment being filled or in the next one."""
        return position // size <= max(self.position, self.busy_until - 1) // size + 1

    def end_at(self, stop: int) -> None:
        """Bring the end forward to `stop`, a border of the grid not before busy_until."""
        if self.stop is None or stop < self.stop:
            self.stop = stop

    def drop_exchange(self) -> None:
        """Close the connection, if there is one."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.close()


def unclaimed(
    segments: SegmentMap, runs: Iterable[Run], position: int, stop: int | None
) -> tuple[int, int] | None:
    """The first stretch of absent bytes in [position, stop) that is no run's; None: there is none.

    It begins where its segment's present bytes end, so the run may begin there, and ends at the
    next present byte, the next run, or `stop` rounded up to the grid.
    """
    claimed = sorted(runs, key=lambda run: run.position)
    while True:
        gap = segments.missing_run(position, stop)
        if gap is None:
            return None
        start, end = gap
        index = start // segments.size
        start = index * segments.size + segments.filled(index)
        holder = next((run for run in claimed if run.covers(start)), None)
        if holder is None:
            following = [run.position for run in claimed if run.position > start]
            return start, min([end, *(at - at % segments.size for at in following)])
        if holder.stop is None:
            return None
        position = holder.stop
        if stop is not None and position >= stop:
            return None
