"""Typed settings for both programs: one place for key, type, default, bounds and help text.

A program's settings are a tree of frozen `Settings` structs whose fields are made by `setting`,
`section` or `sections`. From that tree come the loader, the listing of what is in force, the
sample file and the reference page, so that none of them can say something else.

Order of strength: `--set key.path=value`, environment, file, default. Every bad value is reported,
not only the first, each line beginning with its dotted key (`SettingsError.problems`).

A secret `x` may be given as `x_file`, the path of a file that holds it.
"""

from __future__ import annotations

from distributor.errors import SettingsError
from distributor.settings.declaring import (
    DURATION,
    MAP,
    PATH,
    PATHS,
    RATE,
    SIZE,
    SWITCH,
    TEXT,
    TEXTS,
    WHOLE,
    Kind,
    LogSettings,
    Settings,
    section,
    sections,
    setting,
)
from distributor.settings.loading import load
from distributor.settings.secret_files import read_or_make_secret
from distributor.settings.writing import MASK, Row, as_plain, describe, dump, sample

__all__ = [
    "DURATION",
    "MAP",
    "MASK",
    "PATH",
    "PATHS",
    "RATE",
    "SIZE",
    "SWITCH",
    "TEXT",
    "TEXTS",
    "WHOLE",
    "Kind",
    "LogSettings",
    "Row",
    "Settings",
    "SettingsError",
    "as_plain",
    "describe",
    "dump",
    "load",
    "read_or_make_secret",
    "sample",
    "section",
    "sections",
    "setting",
]
