"""Fetches that failed of late: the next attempt for the same key waits its turn.

An error is never remembered as an answer: whoever asks meanwhile joins the one fetch that waits, or
is served stale where that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from distributor.core.retry import pause_after
from distributor.delivery.memory import Memory
from distributor.errors import SourceError, anew
from distributor.ports import Clock

FORGOTTEN = 30.0  # seconds after the pause for which failures in a row are still counted


class _Failing(NamedTuple):
    """failures  in a row;  until: monotonic time before which no source is asked;  error: the last"""

    failures: int
    until: float
    error: SourceError


class Backoff:
    """By cache key; at most as many keys as a Memory holds. Times are those of the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failing: Memory[_Failing] = Memory()

    def pause(self, key: str) -> float:
        """Seconds, >= 0, for which no source is to be asked for `key`."""
        now = self._clock.monotonic()
        item = self._failing.get(key, now)
        return 0.0 if item is None else max(0.0, item[0].until - now)

    def last(self, key: str) -> SourceError | None:
        """What the sources said, while no source is to be asked for `key`; else None."""
        now = self._clock.monotonic()
        item = self._failing.get(key, now)
        return None if item is None or item[0].until <= now else item[0].error

    def failed(self, key: str, error: SourceError) -> None:
        """No source gave what was asked. Failures that end while the pause lasts are the same one."""
        now = self._clock.monotonic()
        item = self._failing.get(key, now)
        if item is not None and item[0].until > now:
            return
        failures = 1 if item is None else item[0].failures + 1
        until = now + pause_after(failures)
        self._failing.put(key, _Failing(failures, until, anew(error)), until + FORGOTTEN)

    def succeeded(self, key: str) -> None:
        """A source gave it."""
        self._failing.forget(key)

    def forget_if(self, matches: Callable[[str], bool]) -> None:
        """Whatever matches may be asked for at once."""
        self._failing.forget_if(matches)
