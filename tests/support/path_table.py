"""The path table of the Vidispine document "Files": four entities on one storage, 23 rows."""

from __future__ import annotations

from typing import Any

import pytest

ENTITIES = ("foo", "foo/bar", "foo/bar/baz", "foo/bar/?az")

# path, recursive, wildcard ("-": both values give the row), and which of ENTITIES are found
ROWS: tuple[tuple[str, str, str, str], ...] = (
    ("", "false", "-", "YNNN"),
    ("", "true", "-", "YYYY"),
    ("/", "false", "-", "YNNN"),
    ("/", "true", "-", "YYYY"),
    ("/foo", "false", "-", "YNNN"),
    ("/foo", "true", "-", "YYYY"),
    ("foo", "false", "-", "YNNN"),
    ("foo", "true", "-", "YYYY"),
    ("/foo/", "false", "-", "NYNN"),
    ("/foo/", "true", "-", "NYYY"),
    ("/foo/bar", "false", "-", "NYNN"),
    ("/foo/bar", "true", "-", "NYYY"),
    ("/foo/bar/", "-", "-", "NNYY"),
    ("\\foo\\bar\\", "-", "-", "NNNN"),
    ("/foo/bax///../bar/./", "-", "-", "NNYY"),
    ("/foo/b?r", "false", "true", "NYNN"),
    ("/foo/b??r", "false", "true", "NNNN"),
    ("/foo/*r", "false", "true", "NYNN"),
    ("/foo/**r", "false", "true", "NYNN"),
    ("/foo/bar/?az", "false", "false", "NNNY"),
    ("/foo/bar/?az", "false", "true", "NNYY"),
    ("/foo/bar/\\?az", "false", "false", "NNNN"),
    ("/foo/bar/\\?az", "false", "true", "NNNY"),
)


def cases() -> list[Any]:
    """Return one pytest.param(path, recursive, wildcard, expected entities) for each row and each `-`."""
    made = []
    for number, (path, recursive, wildcard, found) in enumerate(ROWS, 1):
        expected = [entity for entity, flag in zip(ENTITIES, found, strict=True) if flag == "Y"]
        for r in ("true", "false") if recursive == "-" else (recursive,):
            for w in ("true", "false") if wildcard == "-" else (wildcard,):
                made.append(
                    pytest.param(path, r == "true", w == "true", expected, id=f"row{number}-r_{r}-w_{w}")
                )
    return made
