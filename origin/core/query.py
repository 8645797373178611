"""What to look for, as values; no SQL. Filters join with AND, a collection within one with OR.

An empty tuple is "no such filter", except where said.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from origin.core.paths import PathPattern
from origin.domain.states import FileState, JobState


class FileField(StrEnum):
    """What Files can be sorted by. FILENAME: last segment, by code point. EXTENSION: after its last
    dot, "" without one. TIMESTAMP: `File.timestamp_ms`. ID: by number."""

    ID = "fileId"
    SIZE = "size"
    STATE = "state"
    TIMESTAMP = "timestamp"
    FILENAME = "filename"
    EXTENSION = "extension"


@dataclass(frozen=True, slots=True)
class FileSort:
    field: FileField
    descending: bool = False


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which Files. ids and storage_ids: None means any; () and ids that cannot exist match nothing."""

    ids: tuple[str, ...] | None = None
    storage_ids: tuple[str, ...] | None = None
    path: PathPattern | None = None
    states: tuple[FileState, ...] = ()
    sha1: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    with_bytes: bool = False  # whose size is known
    in_item: bool | None = None  # belongs to a component; None: either
    exclude_queued: bool = False  # without those that an unfinished import job names


class JobField(StrEnum):
    ID = "jobId"
    TYPE = "type"
    STATE = "state"
    USER = "user"
    START_TIME = "startTime"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class JobSort:
    field: JobField
    descending: bool = False


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which Jobs. `data` pairs must all be there. Times: whole ms, ends included, None is open."""

    ids: tuple[str, ...] | None = None
    types: tuple[str, ...] = ()
    states: tuple[JobState, ...] = ()
    user: str | None = None
    data: tuple[tuple[str, str], ...] = ()
    started_from_ms: int | None = None
    started_to_ms: int | None = None
    finished_from_ms: int | None = None
    finished_to_ms: int | None = None
