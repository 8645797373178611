"""Projects, their assets and objects: values, and the rules for their names. No I/O, no clock.

project ── asset ── version 1, 2, … ── Files below <project>/<asset>/<version>/
        └─ object ── the File <project>/<object>.json
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from origin.domain.model import Storage
from origin.domain.rights import PUBLIC_GROUP

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_OBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
_TAKEN = frozenset({"list", "create", "new", "validate"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MAX_ASSET_ID = 200  # bytes of UTF-8
MAX_FILE_NAME = 255

TEXTS = (
    "description",
    "thumbnail",
    "default_mode",
    "presenter_notes",
)
LISTS = ("authors", "publications", "notes", "versions")
SWITCHES = ("controller", "video_controller", "html_controller")
"""The fields of a project's record that are kept as they come, by type."""

_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Project:
    """access: groups, in the order given; fields: of TEXTS, LISTS and SWITCHES, those once set."""

    n: int
    storage_n: int
    id: str
    name: str
    access: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    fields: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    created_ms: int = 0
    updated_ms: int = 0

    @property
    def groups(self) -> frozenset[str]:
        return frozenset(self.access)

    @property
    def public(self) -> bool:
        return PUBLIC_GROUP in self.access


@dataclass(frozen=True, slots=True)
class Place:
    """A project and the storage it lies on."""

    storage: Storage
    project: Project

    def path(self, *below: str) -> str:
        """Return the path on the storage of what lies below the project."""
        return "/".join((self.project.id, *below))


@dataclass(frozen=True, slots=True)
class Event:
    """kind: "Created" or "Updated"."""

    kind: str
    time_ms: int
    version: int


@dataclass(frozen=True, slots=True)
class Asset:
    """version: the current one, from 1.

    index_path  path on the storage of the current version's index file; None when there is none
    index_n     number of that File
    worker      name of the worker now at work; "" for none
    status      "", "new", "processing", "done", "error" or "canceled"
    """

    n: int
    project_n: int
    id: str
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    version: int = 1
    history: tuple[Event, ...] = ()
    created_ms: int = 0
    index_path: str | None = None
    index_n: int | None = None
    worker: str = ""
    status: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """files, size: of the Files below its folder, complete ones; size in bytes."""

    version: int
    created_ms: int
    files: int
    size: int
    index_path: str | None
    index_n: int | None


def is_project_id(id: str) -> bool:
    """True for what S3 takes as a bucket's name and no route uses."""
    if not _BUCKET.fullmatch(id) or ".." in id or id in _TAKEN:
        return False
    try:
        ipaddress.IPv4Address(id)
    except ValueError:
        return True
    return False


def is_asset_id(id: str) -> bool:
    """True for one segment of a path of 1 to 200 bytes that no route uses and that is not hidden."""
    try:
        size = len(id.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return (
        1 <= size <= MAX_ASSET_ID
        and not re.search(r"[/\\]", id)
        and not _CONTROL.search(id)
        and id == id.strip()
        and not id.startswith(".")
        and id not in _TAKEN
    )


def is_object_id(id: str) -> bool:
    return _OBJECT.fullmatch(id) is not None


def is_file_name(name: str) -> bool:
    """True for one segment of a path of 1 to 255 bytes that means nothing special."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return (
        1 <= size <= MAX_FILE_NAME
        and not re.search(r"[/\\]", name)
        and not _CONTROL.search(name)
        and name not in (".", "..", ".ovemeta")
    )


def clean_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags without spaces around, empty ones and repeats, in their order."""
    return tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
