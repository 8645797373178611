"""Workers that process assets, and their tasks. Values only.

A task's life, in the words of its job and of those who look at it:

    READY  STARTED                                     ABORTED   FINISHED  FAILED_TOTAL
    new ──claim──▶ processing ──finish──▶                canceled  done      error
     ▲                 │ lease over, worker gone
     └─────────────────┴───── reset, from any ─────────────┴─────────┴─────────┘
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from origin.domain.model import Job, make_id
from origin.domain.states import JobState

WORKER_TASK = "WORKER_TASK"
"""Type of the jobs that workers claim; no runner of the origin takes them."""

OFFLINE_MS = 120_000
MIN_LEASE, MAX_LEASE = 5, 3600  # seconds

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_NOTHING: Mapping[str, object] = MappingProxyType({})

_STATUS = {
    JobState.STARTED: "processing",
    JobState.ABORTED: "canceled",
    JobState.ABORTED_PENDING: "canceled",
    JobState.FINISHED: "done",
    JobState.FINISHED_WARNING: "done",
    JobState.FAILED_TOTAL: "error",
}


def status_of(state: JobState) -> str:
    """Return new, processing, canceled, done or error."""
    return _STATUS.get(state, "new")


def is_worker_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Worker:
    """Whoever claims tasks of `type`.

    extensions  with their dot, lower case; () for any
    token_n     number of its token; None for one that runs inside the origin
    """

    n: int
    name: str
    type: str
    extensions: tuple[str, ...] = ()
    description: str = ""
    parameters: object = None
    docs: str = ""
    token_n: int | None = None
    seen_ms: int = 0

    def is_live(self, now_ms: int) -> bool:
        return self.token_n is None or now_ms - self.seen_ms < OFFLINE_MS


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """One task with its job.

    version    of the asset, fixed when the task was made
    file_n     of the File to work on; filename: its name in the version; extension: with its dot
    priority   higher goes first
    worker     who claimed it last; "" for nobody
    lease_id   of the last claim; "" for none
    queued_ms  since when it has been new
    """

    job: Job
    storage_n: int
    project_n: int
    project_id: str
    asset_n: int
    asset_id: str
    version: int
    file_n: int
    filename: str
    extension: str
    worker_type: str
    priority: int = 1
    options: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    worker: str = ""
    lease_id: str = ""
    progress: float = 0.0
    queued_ms: int = 0

    @property
    def id(self) -> str:
        return make_id(self.job.n)

    @property
    def status(self) -> str:
        return status_of(self.job.state)

    def folder(self) -> str:
        """Return where its output goes, on the storage."""
        stem = stem_of(self.filename)
        return f"{self.project_id}/{self.asset_id}/{self.version}/{self.worker}/{stem}"


_DOUBLE = (".tar.gz", ".tar.bz2", ".tar.xz")


def extension_of(filename: str) -> str:
    """Return the last suffix with its dot, lower case, or both of .tar.gz, .tar.bz2, .tar.xz; "" for none."""
    name = filename.rpartition("/")[2].lower()
    for double in _DOUBLE:
        if name.endswith(double):
            return double
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix}" if dot and stem and suffix else ""


def stem_of(filename: str) -> str:
    """Return the name of the file without folders and without its extension."""
    name = filename.rpartition("/")[2]
    extension = extension_of(filename)
    return name[: len(name) - len(extension)] or name
