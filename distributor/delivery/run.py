"""A run: the stretch of the grid that one connection after another fills, from its start on.

The runs of a fetch never overlap: each absent byte is some run's, or nobody's yet. A run's end may
be brought forward while it is under way, so that another run takes over what lies far ahead, and put
back when that one came to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from distributor.core.segments import SegmentMap
from distributor.ports import Exchange


class Run:
    """Fill [position, stop). stop None: to the end of a body whose length is unknown.

    origin      where it began
    reach       end of what its connection brings, as long as none of that was dropped
    busy_until  end of the bytes in hand: read from the source, on their way to the disk
    owner       the reader for whom it was started ahead of the fill; None: the fill itself
    failures, gained  failures in a row; bytes since the last one
    writing     the store is at work on it: it must not be cancelled, only halted
    halted      nothing more is to be taken in
    """

    __slots__ = (
        "busy_until",
        "exchange",
        "failures",
        "gained",
        "halted",
        "origin",
        "owner",
        "position",
        "reach",
        "source",
        "stop",
        "task",
        "writing",
    )

    def __init__(
        self, position: int, stop: int | None, *, exchange: Exchange | None = None, owner: object = None
    ) -> None:
        self.position = self.origin = self.busy_until = position
        self.stop = self.reach = stop
        self.exchange = exchange
        self.owner = owner
        self.source = exchange.source if exchange is not None else ""
        self.failures = self.gained = 0
        self.writing = self.halted = False
        self.task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Nothing is left to fill, or to be done."""
        return self.halted or (self.stop is not None and self.position >= self.stop)

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

    def end_again(self, limit: int) -> None:
        """Put the end back: to what the connection brings, at most to `limit`."""
        if self.stop is not None and self.reach is not None:
            self.stop = max(self.stop, min(self.reach, limit))

    def take(self, data: bytes) -> bytes:
        """What of `data`, the next bytes of the connection, is this run's; the rest is dropped."""
        if self.stop is not None and len(data) > self.stop - self.position:
            data = data[: self.stop - self.position]
            self.reach = self.stop
        self.busy_until = self.position + len(data)
        self.gained += len(data)
        return data

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


def give_back(failed: Run, runs: Iterable[Run], segments: SegmentMap) -> None:
    """What was taken from a run for `failed`, which brought nothing, is that run's again if it can be."""
    runs = list(runs)
    holder = next((run for run in runs if run.stop == failed.origin), None)
    gap = segments.missing_run(failed.origin)
    if holder is None or gap is None or gap[0] != failed.origin:
        return
    later = [run.origin - run.origin % segments.size for run in runs if run.origin > failed.origin]
    holder.end_again(min([gap[1], *later]))
