"""A clock that stands still until it is told."""

from __future__ import annotations


class FakeClock:
    """Implements `ports.Clock`; both clocks move together, in seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._monotonic += seconds
