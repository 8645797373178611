"""What the pages name exists: files, settings, folders, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distributor import config as edge
from distributor.settings import describe
from docs.generate import ROOT
from origin import config as origin

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SETTINGS = {row.key for group in (edge.Config, origin.OriginConfig) for row in describe(group)}
GROUPS = "|".join(sorted({key.partition(".")[0].removesuffix("[]") for key in SETTINGS if "." in key}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_setting_named_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{GROUPS})\.[a-z_.]+)(?:: [^`]*)?`", text))
    known = SETTINGS | {key.replace("[]", ".0") for key in SETTINGS}
    unknown = {key for key in named if key not in known and key.removesuffix("_file") not in known}
    assert not {key for key in unknown if not key.endswith((".yaml", ".py", ".md"))}


def test_readme_names_every_folder_and_module_of_the_layout() -> None:
    laid_out = (ROOT / "README.md").read_text(encoding="utf-8").partition("## How the code is laid out")[2]
    for package in ("distributor", "origin"):
        table = laid_out.partition(f"`{package}/`,")[2].partition("\n\n")[0]
        places = {
            path.stem
            for path in (ROOT / package).iterdir()
            if not path.name.startswith("__") and (path.suffix == ".py" or (path / "__init__.py").exists())
        }
        assert places == {name.rstrip("/") for name in re.findall(r"`([a-z_]+/?)`", table)} - {"content"}


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".ci/run"], ids=lambda page: page.name)
def test_make_target_named_on_a_page_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^\$ |^)make ([a-z]+)", text, re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize(
    ("package", "group"), [("distributor", edge.Config), ("origin", origin.OriginConfig)], ids=str
)
def test_every_setting_is_read_by_its_program(package: str, group: type[edge.Config]) -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "config.py"
    )
    names = {row.key: row.key.replace("[]", "").rpartition(".")[2] for row in describe(group)}
    unread = [key for key, name in names.items() if not re.search(rf"\.{name}\b", code)]
    assert not unread
