"""Archives: what their entries may be called, and which entry is the index file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_SEGMENT_BYTES = 255
INDEX_NAMES = ("index.html", "index.htm", "index.js")

_KINDS = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
}
EXTENSIONS = tuple(_KINDS)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:")


class EntryError(ValueError):
    """An entry that no archive of ours may hold. The message says why, in words fit for a client."""


def kind_of(extension: str) -> str | None:
    """Return zip, tar, gz, bz2 or xz (of a tar), None for another extension."""
    return _KINDS.get(extension)


def entry_path(name: str) -> str:
    """Return the path below the output folder that an entry's name stands for; "" for the folder itself.

    Empty segments and "." mean nothing. Raises EntryError for an absolute path, a drive letter, "..",
    a backslash, a control character, text that is not UTF-8, and a segment over 255 bytes.
    """
    shown = name[:80].encode("utf-8", "backslashreplace").decode("utf-8")
    if _CONTROL.search(name):
        raise EntryError("an entry's name has a control character")
    if name.startswith("/") or _DRIVE.match(name):
        raise EntryError(f"the entry {shown!r} has an absolute path")
    if "\\" in name:
        raise EntryError(f"the entry {shown!r} has a backslash in its name")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EntryError(f"the entry {shown!r} has a name that is not UTF-8") from error
    segments = [segment for segment in name.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise EntryError(f"the entry {shown!r} leads out of its folder")
    if any(len(segment.encode("utf-8")) > MAX_SEGMENT_BYTES for segment in segments):
        raise EntryError(f"the entry {shown!r} has a name longer than {MAX_SEGMENT_BYTES} bytes")
    return "/".join(segments)


class Names:
    """The entries met so far: none twice, and none that is a file to one and a folder to another."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, path: str, *, folder: bool) -> None:
        """Raises EntryError."""
        parts = path.split("/") if path else []
        if folder:
            above = range(1, len(parts) + 1)
        else:
            if not path:
                raise EntryError("an entry has no name")
            if path in self._files:
                raise EntryError(f"the entry {path[:80]!r} comes twice")
            if path in self._folders:
                raise EntryError(f"the entry {path[:80]!r} is a file and a folder")
            self._files.add(path)
            above = range(1, len(parts))
        for count in above:
            lead = "/".join(parts[:count])
            if lead in self._files:
                raise EntryError(f"the entry {lead[:80]!r} is a file and a folder")
            self._folders.add(lead)


def pick_index(paths: Iterable[str], wanted: str | None = None) -> str | None:
    """Return the path of the index file, None when there is none.

    wanted  a name or a path's end, whole segments, any case; None: INDEX_NAMES, in this order
    """
    found = list(paths)
    ends: Sequence[str] = (wanted,) if wanted else INDEX_NAMES
    for end in ends:
        tail = [segment for segment in end.casefold().split("/") if segment]
        fitting = [path for path in found if tail and path.casefold().split("/")[-len(tail) :] == tail]
        if fitting:
            return min(fitting, key=lambda path: (path.count("/"), path))
    return None
