"""Secrets that a program makes for itself at its first start."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from distributor.errors import SettingsError


def read_or_make_secret(path: Path) -> tuple[str, bool]:
    """Return the secret that `path` holds and whether it was made just now (mode 0600, 32 random bytes).

    Two processes that start at once get the same secret: the file appears whole or not at all.
    Blocks on the disk. Raises SettingsError when the file cannot be read, made, or is empty.
    """
    made = False
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                    stream.write(secrets.token_urlsafe(32) + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
                with contextlib.suppress(FileExistsError):
                    # link, not rename: it never replaces what another process has made meanwhile
                    os.link(draft, path)
                    made = True
            finally:
                draft.unlink()
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError([f"{path}: the secret cannot be read or made: {reason}"]) from None
    if not text:
        raise SettingsError([f"{path}: is empty; remove it to have a new secret made"])
    return text, made
