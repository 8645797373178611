"""What is made from the settings' declarations is what the repository holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor import config as edge
from distributor.settings import describe
from docs.generate import ROOT, documents, stale
from origin import config as origin


@pytest.mark.parametrize("path", documents(), ids=str)
def test_generated_file_is_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == documents()[path], f"{path} is stale: make docs"


def test_stale_and_missing_files_are_named(tmp_path: Path) -> None:
    for path, text in documents().items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert stale(tmp_path) == []
    (tmp_path / "docs/configuration.md").unlink()
    with (tmp_path / "config/origin.yaml").open("a") as sample:
        sample.write("\n")
    assert stale(tmp_path) == ["docs/configuration.md", "config/origin.yaml"]


def test_sample_of_the_edge_loads_as_the_defaults() -> None:
    assert edge.load(ROOT / "config/distributor.yaml", [], {}) == edge.Config()


def test_sample_of_the_origin_loads_as_the_defaults() -> None:
    assert origin.load(ROOT / "config/origin.yaml", [], {}) == origin.OriginConfig()


@pytest.mark.parametrize("group", [edge.Config, origin.OriginConfig])
def test_every_setting_has_a_sentence_on_the_page(group: type[edge.Config]) -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    for row in describe(group):
        assert f"`{row.key}`" in page
        assert row.help.endswith("."), row.key
