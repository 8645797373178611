"""What things may become: states and the legal changes between them, as tables.

File states say what may be done with the bytes; job states say what may happen next.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class FileState(StrEnum):
    """OPEN: registered, or still growing. CLOSED: complete. The others: see each line."""

    NONE = "NONE"  # only as set by a client, as are UNKNOWN, TO_APPEAR, BEING_READ, AWAITING_SYNC
    OPEN = "OPEN"
    CLOSED = "CLOSED"
    UNKNOWN = "UNKNOWN"
    MISSING = "MISSING"  # bytes once seen were gone at one scan
    LOST = "LOST"  # ... and at two
    TO_APPEAR = "TO_APPEAR"
    TO_BE_DELETED = "TO_BE_DELETED"  # a delete job has begun, or another path replaced this entity
    BEING_READ = "BEING_READ"
    ARCHIVED = "ARCHIVED"  # on archive storage, not online
    AWAITING_SYNC = "AWAITING_SYNC"


UNREADABLE = frozenset({FileState.TO_BE_DELETED, FileState.ARCHIVED})
"""No other state stops reading of bytes that are there."""


class StorageState(StrEnum):
    NONE = "NONE"  # new, not scanned, usable
    READY = "READY"
    OFFLINE = "OFFLINE"
    FAILED = "FAILED"
    DISABLED = "DISABLED"
    EVACUATING = "EVACUATING"
    EVACUATED = "EVACUATED"


UNWRITABLE = frozenset({StorageState.DISABLED, StorageState.EVACUATING, StorageState.EVACUATED})


class StorageType(StrEnum):
    LOCAL = "LOCAL"
    ARCHIVE = "ARCHIVE"
    SHARED = "SHARED"  # never written
    REMOTE = "REMOTE"
    EXTERNAL = "EXTERNAL"
    EXPORT = "EXPORT"


class JobState(StrEnum):
    READY = "READY"  # waits for a runner
    WAITING = "WAITING"  # waits for a resource; taken again at `not_before`
    HOLD = "HOLD"  # held until released
    STARTED = "STARTED"  # a runner holds the lease
    ABORTED_PENDING = "ABORTED_PENDING"  # a runner has been asked to stop
    ABORTED = "ABORTED"
    FINISHED = "FINISHED"
    FINISHED_WARNING = "FINISHED_WARNING"
    FAILED_TOTAL = "FAILED_TOTAL"


FINAL = frozenset({JobState.ABORTED, JobState.FINISHED, JobState.FINISHED_WARNING, JobState.FAILED_TOTAL})

JOB_CHANGES: dict[JobState, frozenset[JobState]] = {
    JobState.READY: frozenset({JobState.STARTED, JobState.WAITING, JobState.HOLD, JobState.ABORTED}),
    JobState.WAITING: frozenset({JobState.STARTED, JobState.READY, JobState.HOLD, JobState.ABORTED}),
    JobState.HOLD: frozenset({JobState.READY, JobState.STARTED, JobState.ABORTED, JobState.FAILED_TOTAL}),
    JobState.STARTED: frozenset(
        {
            JobState.FINISHED,
            JobState.FINISHED_WARNING,
            JobState.FAILED_TOTAL,
            JobState.WAITING,
            JobState.READY,  # the lease ran out, or the runner stopped: another takes it up
            JobState.HOLD,
            JobState.ABORTED_PENDING,
        }
    ),
    # Past its point of no return a job ends FINISHED although an abort was asked for.
    JobState.ABORTED_PENDING: frozenset(
        {JobState.ABORTED, JobState.FINISHED, JobState.FINISHED_WARNING, JobState.FAILED_TOTAL}
    ),
    JobState.ABORTED: frozenset(),
    JobState.FINISHED: frozenset(),
    JobState.FINISHED_WARNING: frozenset(),
    JobState.FAILED_TOTAL: frozenset(),
}


class Priority(IntEnum):
    """Lower runs first; within one, the oldest first."""

    IMMEDIATE = 0
    HIGHEST = 1
    HIGH = 2
    MEDIUM = 3
    LOW = 4
    LOWEST = 5


def may_become(state: JobState, new: JobState) -> bool:
    """True when a job in `state` may be put into `new`. Final states lead nowhere."""
    return new in JOB_CHANGES[state]
