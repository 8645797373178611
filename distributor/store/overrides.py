"""What operators set at run time and a restart must not lose: `<cache directory>/operator-state.json`."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from pathlib import Path
from typing import Literal

import msgspec

from distributor.errors import DiskFailed

__all__ = ["Overrides", "load_overrides", "save_overrides"]

log = logging.getLogger(__name__)

_NAME = "operator-state.json"


class Overrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What is stronger than the settings; None: nothing, the settings hold.

    buckets  the list served, or "all"
    """

    buckets: tuple[str, ...] | Literal["all"] | None = None
    worker_id: int | None = None


def load_overrides(directory: Path) -> Overrides:
    """Return what was saved in `directory`; nothing where nothing was. Blocks on the disk.

    A file that cannot be read is put aside, and the settings hold: a damaged file must not keep the
    node from starting.
    """
    path = directory / _NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Overrides)
    except FileNotFoundError:
        return Overrides()
    except (OSError, msgspec.MsgspecError) as error:
        log.error("%s cannot be read, the settings hold: %s", _NAME, error)
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return Overrides()


def save_overrides(directory: Path, overrides: Overrides) -> None:
    """Put `overrides` on the disk, whole or not at all. Blocks. Raises DiskFailed."""
    path = directory / _NAME
    draft = directory / f".{_NAME}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(msgspec.json.encode(overrides) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise DiskFailed("write", error) from error
