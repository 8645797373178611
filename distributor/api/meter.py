"""Judges whether a reader takes at least so many bytes a second. Pure."""

from __future__ import annotations

__all__ = ["Meter"]

STEP = 128 * 1024  # bytes; the kernels at both ends may pass bytes on in steps as large as half of this
SHORTEST, LONGEST = 5.0, 30.0  # seconds of the window over which a rate is judged


class Meter:
    """Bytes handed to one connection, and when.

    rate      least bytes a second; 0: everything is fast enough
    handed    bytes given to the kernel or to the transport since the connection began
    settled   all that was handed had been taken at the last look
    """

    __slots__ = ("_since", "_taken", "_window", "handed", "rate", "settled")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.handed = 0
        self.settled = True
        self._window = min(max(STEP / rate, SHORTEST), LONGEST) if rate else LONGEST
        self._since: float | None = None
        self._taken = 0

    def hand(self, count: int) -> None:
        """Note `count` further bytes."""
        self.handed += count
        self.settled = False

    def fast_enough(self, queued: int, now: float) -> bool:
        """Return False when over a whole window the reader took fewer bytes than rate × window.

        queued  bytes handed and not yet acknowledged by the reader's end, >= 0
        """
        self.settled = queued == 0
        if self.settled:
            self._since = None  # it has all there is
            return True
        taken = self.handed - queued
        if self._since is None:
            self._since, self._taken = now, taken
            return True
        elapsed = now - self._since
        if elapsed < self._window:
            return True
        enough = taken - self._taken >= self.rate * elapsed
        self._since, self._taken = now, taken
        return enough
