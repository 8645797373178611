"""What follows a failure of a source: again, with another one, or no more.

The error's type says whether repeating is of use; the count says whether it is enough. A request
fails only after `ROUNDS` rounds over all sources; bytes gained since the last failure start the
count anew, so that a long film over a poor line still arrives.
"""

from __future__ import annotations

from typing import NamedTuple

from distributor.errors import DigestMismatch, LoopDetected, SourceError, VersionChanged

ROUNDS = 2
PROGRESS = 64 * 1024  # bytes; fewer than these do not count as having got on
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


class Again(NamedTuple):
    """Ask again after `pause` seconds, >= 0; the ranking says whom."""

    pause: float


def pause_before(round_number: int) -> float:
    """Seconds to wait before a round over all sources; rounds count from 0, the first waits 0."""
    if round_number == 0:
        return 0.0
    return min(FIRST_PAUSE * 2.0 ** min(round_number - 1, 16), LONGEST_PAUSE)


def pause_after(failures: int) -> float:
    """Seconds that the next fetch of an asset waits once `failures` (>= 1) of them in a row have failed."""
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE)


def after_failure(error: SourceError, failures: int, sources: int) -> Again | None:
    """Say what follows the failure of a body midway; None: give up.

    failures  failures in a row, counted by `failures_after`, this one included, >= 1
    sources   how many are configured, >= 1
    """
    if isinstance(error, VersionChanged | DigestMismatch | LoopDetected):
        return None
    if failures >= ROUNDS * sources:
        return None
    return Again(pause_before((failures - 1) // sources))


def failures_after(failures: int, gained: int) -> int:
    """Count one more failure; `gained` bytes since the last one, PROGRESS or more, start anew."""
    return 1 if gained >= PROGRESS else failures + 1
