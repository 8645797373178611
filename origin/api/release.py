"""Which release of the program this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """Return the installed version; "0" when the program runs without having been installed."""
    try:
        return version("distributor")
    except PackageNotFoundError:
        return "0"
