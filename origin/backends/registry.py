"""URI scheme → backend. A new kind of place for bytes is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from origin.backends.disk import Disk
from origin.backends.local import LocalBackend
from origin.errors import Invalid
from origin.ports import StorageBackend

Maker = Callable[[str, str, Disk | None], StorageBackend]


def directory_of(uri: str) -> Path:
    """Return the absolute directory that a `file:` URI names, links not resolved.

    Both `file:./var/x` (relative to the working directory) and `file:///srv/x` are taken. Another
    scheme, a host, a query or a fragment raises Invalid.
    """
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise Invalid("uri", f"no backend for {parts.scheme or 'no'} scheme", parts.scheme)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise Invalid("uri", "a file: URI has only a path")
    try:
        path = unquote(parts.path, errors="strict")
    except UnicodeDecodeError as error:
        raise Invalid("uri", "not UTF-8") from error
    if not path or "\0" in path:
        raise Invalid("uri", "a file: URI needs a path")
    return Path(path).absolute()


def file_uri(directory: Path) -> str:
    """Return `file:///…/`, percent-encoded, with the slash at its end that methods have."""
    return "file://" + quote(str(directory).rstrip("/"), safe="/") + "/"


def _local(uri: str, storage: str, disk: Disk | None) -> LocalBackend:
    return LocalBackend(directory_of(uri), storage, disk)


BACKENDS: dict[str, Maker] = {"file": _local}


def make_backend(uri: str, storage: str, disk: Disk | None = None) -> StorageBackend:
    """Return the backend for a URI. storage: its id, for messages; disk: None for the real one.

    Raises Invalid for a scheme that no backend has.
    """
    maker = BACKENDS.get(urlsplit(uri).scheme)
    if maker is None:
        raise Invalid("uri", "no storage backend has this scheme", urlsplit(uri).scheme)
    return maker(uri, storage, disk)
