"""Names of archives' entries, and the choice of the index file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.core.archives import EntryError, Names, entry_path, pick_index
from origin.core.paths import PathError, normal_form

_PARTS = st.lists(
    st.sampled_from(["a", "..", ".", "", "b c", "ü", "C:", "\\", "x" * 300, "\x00"]), max_size=6
)


@given(st.one_of(st.text(max_size=40), _PARTS.map("/".join)))
def test_an_entry_that_passes_stays_below_its_folder(name: str) -> None:
    try:
        path = entry_path(name)
    except EntryError:
        return
    try:
        assert normal_form(f"out/{path}/x") == "/".join(filter(None, ("out", path, "x")))
    except PathError:  # too long as a whole: refused when it is placed
        assert len(path.encode()) > 4000


@pytest.mark.parametrize(
    ("name", "path"), [("./a/./b", "a/b"), ("a//b/", "a/b"), ("./", ""), ("a..b/...", "a..b/...")]
)
def test_empty_segments_and_dots_mean_nothing(name: str, path: str) -> None:
    assert entry_path(name) == path


@pytest.mark.parametrize(
    ("entries", "fits"),
    [
        ([("a", False), ("b/c", False), ("b", True), ("b", True)], True),
        ([("a", False), ("a", False)], False),
        ([("a", False), ("a", True)], False),
        ([("a/b", False), ("a", False)], False),
        ([("a", False), ("a/b/c", False)], False),
        ([("", True)], True),
        ([("", False)], False),
    ],
    ids=str,
)
def test_a_path_is_one_thing(entries: list[tuple[str, bool]], fits: bool) -> None:
    names = Names()
    if fits:
        for path, folder in entries:
            names.add(path, folder=folder)
        return
    with pytest.raises(EntryError):
        for path, folder in entries:
            names.add(path, folder=folder)


@pytest.mark.parametrize(
    ("paths", "wanted", "found"),
    [
        (["b/index.html", "a/x/index.html", "a/index.html"], None, "a/index.html"),
        (["INDEX.HTM", "a/index.html"], None, "a/index.html"),
        (["z/index.js", "index.htm"], None, "index.htm"),
        (["myindex.html", "index.html.bak"], None, None),
        (["site/Main.HTML", "main.html.x"], "site/main.html", "site/Main.HTML"),
        (["site/main.html"], "ite/main.html", None),
        (["index.html"], "other.html", None),
        ([], None, None),
    ],
)
def test_the_index_is_nearest_the_top_then_first_by_name(
    paths: list[str], wanted: str | None, found: str | None
) -> None:
    assert pick_index(paths, wanted) == found
