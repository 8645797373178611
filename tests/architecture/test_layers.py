"""The layout is the architecture: floors, circles, purity and sizes, read from the syntax trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.layers import (
    Layout,
    Module,
    circles,
    impurities,
    oversized,
    read_package,
    upward_imports,
)

ROOT = Path(__file__).parents[2]

_WORLD = frozenset(
    [
        "aiofiles",
        "aiohttp",
        "aiosqlite",
        "asyncio",
        "diskcache",
        "http",
        "httpx",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "prometheus_client",
        "random",
        "requests",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlalchemy",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "uvloop",
    ]
)

LAYOUTS = {
    "distributor": Layout(
        floors=(
            ("errors", "units"),
            ("settings",),
            ("config", "http"),
            ("core",),
            ("ports",),
            ("store", "upstream", "metrics"),
            ("delivery",),
            ("api",),
            ("app",),
            ("cli",),
            ("__main__",),
        ),
        foreign=frozenset(),
        pure=frozenset({"units", "http", "core"}),
        impure=_WORLD,
    ),
    "origin": Layout(
        floors=(
            ("errors",),
            ("config", "domain"),
            ("core",),
            ("ports",),
            ("backends", "catalog"),
            ("services",),
            ("workers", "api"),
            ("app",),
            ("cli",),
            ("__main__",),
        ),
        foreign=frozenset({"distributor.http", "distributor.units", "distributor.settings"}),
        pure=frozenset({"domain", "core"}),
        impure=_WORLD,
    ),
}


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return {name: module for package in LAYOUTS for name, module in read_package(ROOT / package).items()}


def report(found: list[str]) -> str:
    return "\n" + "\n".join(found)


def test_every_import_goes_to_a_lower_floor_or_stays_in_its_folder(modules: dict[str, Module]) -> None:
    found = upward_imports(modules, LAYOUTS)
    assert not found, report(found)


def test_no_modules_import_each_other_in_a_circle(modules: dict[str, Module]) -> None:
    found = circles(modules)
    assert not found, report(found)


def test_pure_modules_do_no_io_and_read_no_clock(modules: dict[str, Module]) -> None:
    found = impurities(modules, LAYOUTS)
    assert not found, report(found)


def test_no_file_or_function_has_outgrown_its_reader(modules: dict[str, Module]) -> None:
    found = oversized(modules) + [line for line in oversized(read_package(ROOT / "tests")) if ".py: " in line]
    assert not found, report(found)


# The checks themselves, on packages that break each rule.

SMALL = {
    "distributor": Layout(
        floors=(("low", "side"), ("core",), ("high",)),
        foreign=frozenset(),
        pure=frozenset({"core"}),
        impure=_WORLD,
    ),
    "origin": Layout(
        floors=(("top",),), foreign=frozenset({"distributor.low"}), pure=frozenset(), impure=frozenset()
    ),
}


def build(root: Path, files: dict[str, str]) -> dict[str, Module]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {
        name: module
        for package in ("distributor", "origin")
        if (root / package).exists()
        for name, module in read_package(root / package).items()
    }


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {"distributor/low.py": "import distributor.high", "distributor/high.py": ""},
            "low:1: imports distributor.high",
        ),
        ({"distributor/low.py": "from distributor import high", "distributor/high.py": ""}, "low:1: imports"),
        ({"distributor/low.py": "from . import high", "distributor/high.py": ""}, "low:1: imports"),
        ({"distributor/core/a.py": "from ..high import x", "distributor/high.py": ""}, "core.a:1: imports"),
        (
            {"distributor/low.py": "def f():\n    import distributor.side", "distributor/side.py": ""},
            "low:2: imports",
        ),
        ({"distributor/new.py": ""}, "new: has no floor"),
        ({"distributor/low.py": "import origin.top"}, "imports origin.top of another package"),
        ({"origin/top.py": "from distributor.core import x"}, "imports distributor.core of another package"),
        (
            {"origin/top.py": "from distributor.lower import x"},
            "imports distributor.lower of another package",
        ),
    ],
    ids=[
        "plain",
        "from package",
        "relative",
        "two dots",
        "same floor, inside a function",
        "no floor",
        *"abc",
    ],
)
def test_import_that_does_not_go_down_is_found(tmp_path: Path, files: dict[str, str], found: str) -> None:
    (line,) = upward_imports(build(tmp_path, files), SMALL)
    assert found in line


def test_imports_that_go_down_or_stay_are_let_be(tmp_path: Path) -> None:
    files = {
        "distributor/__init__.py": "",
        "distributor/low.py": "import os\nfrom distributor import __version__",
        "distributor/core/a.py": "from distributor.core.b import x\nfrom . import b\nfrom .. import low",
        "distributor/core/b.py": "",
        "origin/top.py": "from distributor.low import x\nfrom distributor import low",
    }
    assert upward_imports(build(tmp_path, files), SMALL) == []


def test_circle_of_three_is_found(tmp_path: Path) -> None:
    files = {f"distributor/core/{a}.py": f"from distributor.core import {b}" for a, b in ("ab", "bc", "ca")}
    assert circles(build(tmp_path, files)) == [
        "distributor.core.a → distributor.core.b → distributor.core.c → distributor.core.a"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import time\ntime.gmtime()",
        "import time\ntime.gmtime(0), time.time()",
        "from time import gmtime",
        "from os import path",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.now()",
        "open('x')",
    ],
)
def test_impurity_is_found(tmp_path: Path, text: str) -> None:
    assert len(impurities(build(tmp_path, {"distributor/core/a.py": text}), SMALL)) == 1
    assert impurities(build(tmp_path / "other", {"distributor/high.py": text}), SMALL) == []


def test_conversion_of_a_given_moment_is_pure(tmp_path: Path) -> None:
    files = {"distributor/core/a.py": "import time\ndef f(now):\n    return time.gmtime(now)"}
    assert impurities(build(tmp_path, files), SMALL) == []


def test_long_file_and_long_function_are_found(tmp_path: Path) -> None:
    files = {
        "distributor/core/a.py": "pass\n" * 701,
        "distributor/core/b.py": _function(61),
        "distributor/core/c.py": _function(60),
        "distributor/core/d.py": "def f():\n    a = 1\n    return (\n" + "        a,\n" * 100 + "    )\n",
        "distributor/core/e.py": "def f():\n    if 1:\n        a = 1\n    return (\n"
        + "        a,\n" * 100
        + "    )\n",
    }
    found = oversized(build(tmp_path, files))
    assert [line.rpartition("/")[2] for line in found] == [
        "a.py: 701 lines, of 700",
        "b.py:1: f has 61 lines",
        "e.py:1: f has 104 lines",
    ]


def _function(lines: int) -> str:
    return 'def f():\n    """Not counted.' + "\n" * 80 + '    """\n' + "    pass\n" * lines
