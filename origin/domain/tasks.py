"""Tasks: named work on Files that can be run again and again. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from origin.domain.states import JobState, Priority

TASK = "TASK"
"""Type of the jobs that are runs of a task."""

COPYING = frozenset({"copy", "duplication", "rehydratation"})
MOVING = "move"
ERASING = "erase"
CHECKING = "check_consistency"
SCANNING = "scan"
RUNNABLE = COPYING | {MOVING, ERASING, CHECKING, SCANNING}
"""Actions that can be run; others can only be stored."""

NEED_DESTINATION = COPYING | {MOVING}


@dataclass(frozen=True, slots=True)
class End:
    """A source or a destination: a storage, or a path on it.

    storage_n  of a File, too: where it lay when it was named
    path       on the storage; "" for all of it
    file_n     number of the File or folder, None when named by its path or for a whole storage
    tape       it was named as a tape
    """

    storage_n: int
    path: str = ""
    file_n: int | None = None
    tape: bool = False


@dataclass(frozen=True, slots=True)
class TaskEnd:
    n: int
    task_n: int
    kind: str
    end: End


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the last run of a task came to; shown by the words of a dialect."""

    job_n: int
    state: JobState
    step: int
    aborted_by_user: bool
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class Task:
    """fields: name → value as a dialect keeps them: comment, workflow_type, …"""

    n: int
    name: str
    user: str
    modified_by: str
    created_ms: int
    modified_ms: int
    fields: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    run_n: int | None = None
    deleting: bool = False
    last: TaskState | None = None

    @property
    def action(self) -> str:
        return str(self.fields.get("workflow_action", ""))


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One run. files: planned; ended: of those over; done: of those as asked; failed: with an error."""

    task_n: int
    name: str
    user: str
    fields: Mapping[str, object]
    state: TaskState
    files: int
    done: int
    ended: int
    failed: int


@dataclass(frozen=True, slots=True)
class TaskFile:
    """result: waiting, done, skipped or failed. target: path on storage `target_n`."""

    place: int
    file_n: int
    storage_n: int
    path: str
    size: int
    target_n: int | None = None
    target: str | None = None
    result: str = "waiting"
    message: str | None = None


def priority_of(value: int) -> Priority:
    """Return the job's priority for a task's: to 1 LOWEST, to 3 LOW, to 6 MEDIUM, to 8 HIGH, 9 HIGHEST,
    above IMMEDIATE."""
    bounds = ((1, Priority.LOWEST), (3, Priority.LOW), (6, Priority.MEDIUM), (8, Priority.HIGH))
    for bound, priority in bounds:
        if value <= bound:
            return priority
    return Priority.HIGHEST if value == 9 else Priority.IMMEDIATE
