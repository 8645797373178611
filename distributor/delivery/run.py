"""A run: the stretch of the grid that one connection after another fills, from its start on.

The runs of a fetch never overlap: each absent byte is some run's, or nobody's yet. A run's end may
be brought forward while it is under way, so that another run takes over what lies far ahead: but not
before a source has taken that on, for a source without ranges would leave a hole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from distributor.core.segments import SegmentMap
from distributor.delivery.pacing import Pacing
from distributor.ports import Exchange


class Run:
    """Fill [position, stop). stop None: to the end of a body whose length is unknown.

    origin      where it began
    busy_until  end of the bytes in hand: read from the source, on their way to the disk
    owner       the reader for whom it was started ahead of the fill; None: the fill itself
    pacing      of its connections; None before the first read
    failures, gained  failures in a row; bytes since the last one
    tentative   no source has taken it on yet, so another run still covers its bytes
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
        "pacing",
        "position",
        "source",
        "stop",
        "task",
        "tentative",
        "writing",
    )

    def __init__(
        self, position: int, stop: int | None, *, exchange: Exchange | None = None, owner: object = None
    ) -> None:
        self.position = self.origin = self.busy_until = position
        self.stop = stop
        self.exchange = exchange
        self.owner = owner
        self.source = exchange.source if exchange is not None else ""
        self.failures = self.gained = 0
        self.pacing: Pacing | None = None
        self.tentative = self.writing = self.halted = False
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

    def taken_on(self, runs: Iterable[Run], segments: SegmentMap) -> None:
        """A source brings it: whoever covered its bytes stops short of them, or it came too late."""
        self.tentative = False
        index, filled = divmod(self.position, segments.size)
        holder = next((run for run in runs if run is not self and run.covers(self.position)), None)
        if segments.filled(index) != filled:
            self.halted = True  # Whoever covered them is done with it.
        elif holder is not None and holder.busy_until > self.position - filled:
            self.halted = True
        elif holder is not None:
            holder.end_at(self.position - filled)

    def take(self, data: bytes) -> bytes:
        """What of `data`, the next bytes of the connection, is this run's; the rest is dropped."""
        if self.stop is not None and len(data) > self.stop - self.position:
            data = data[: self.stop - self.position]
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
