"""How paths are stored and how a query's path selects. The seed document "Files" gives the table."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.core.paths import PathError, PathPattern, extension, fold, lookup_form, normal_form, parents
from tests.support.path_table import ENTITIES, ROWS, cases

SEGMENT = st.text(st.sampled_from("abAZ?*\\.ßé /".replace("/", "")), min_size=1, max_size=6).filter(
    lambda s: s not in (".", "..")
)
STORED = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)
QUERY = st.text(st.sampled_from("abA?*\\./ß"), max_size=12)


def test_the_table_has_the_rows_of_the_seed() -> None:
    assert len(ROWS) == 23
    assert ENTITIES == ("foo", "foo/bar", "foo/bar/baz", "foo/bar/?az")


@pytest.mark.parametrize(("path", "recursive", "wildcard", "expected"), cases())
def test_a_row_of_the_seeds_table_selects_what_it_says(
    path: str, recursive: bool, wildcard: bool, expected: list[str]
) -> None:
    pattern = PathPattern.parse(path, recursive=recursive, wildcard=wildcard)
    assert [entity for entity in ENTITIES if pattern.matches(entity)] == expected


@pytest.mark.parametrize(
    ("path", "stored", "selected"),
    [
        pytest.param("a*c", "abbc", True, id="star-within-a-segment"),
        pytest.param("a*c", "ab/c", False, id="star-does-not-cross-the-delimiter"),
        pytest.param("a?c", "a/c", False, id="question-mark-does-not-cross-the-delimiter"),
        pytest.param("*", "a", True, id="star-alone"),
        pytest.param("a*", "a", True, id="star-matches-nothing"),
        pytest.param("*.mov", ".mov", True, id="star-matches-a-leading-dot"),
        pytest.param("a\\*", "a*", True, id="quoted-star-is-literal"),
        pytest.param("a\\*", "ab", False, id="quoted-star-is-no-wildcard"),
        pytest.param("a\\", "a\\", True, id="last-lone-backslash-is-itself"),
        pytest.param("a\\\\b", "a\\b", True, id="quoted-backslash"),
        pytest.param("a\\b", "ab", True, id="quoted-letter"),
        pytest.param("é?", "éx", True, id="a-question-mark-is-a-character-not-a-byte"),
        pytest.param("*b*b", "abcb", True, id="last-chunk-reaches-the-end"),
        pytest.param("*ab", "aab", True, id="overlap"),
        pytest.param("*aba", "ababa", True, id="overlap-with-itself"),
    ],
)
def test_wildcards(path: str, stored: str, selected: bool) -> None:
    assert PathPattern.parse(path, recursive=False, wildcard=True).matches(stored) is selected


@pytest.mark.parametrize(
    ("path", "stored"),
    [("FOO/Bar", "foo/bar"), ("straße", "STRAẞE"), ("ÉTÉ", "été"), ("Σ", "ς")],
)
def test_ignored_case_folds_both_sides(path: str, stored: str) -> None:
    assert PathPattern.parse(path, ignore_case=True).matches(stored)
    assert not PathPattern.parse(path).matches(stored)


@given(st.text(max_size=20))
def test_folding_keeps_the_number_of_characters_and_settles(text: str) -> None:
    assert len(fold(text)) == len(text)
    assert fold(fold(text)) == fold(text)


@given(QUERY, STORED, st.booleans(), st.booleans(), st.booleans())
def test_memory_index_and_expression_agree(
    query: str, stored: str, recursive: bool, wildcard: bool, ignore_case: bool
) -> None:
    pattern = PathPattern.parse(query, recursive=recursive, wildcard=wildcard, ignore_case=ignore_case)
    key = fold(stored) if ignore_case else stored
    selected = pattern.matches(stored)
    assert (re.search(pattern.regex(), key) is not None) is selected
    equal, low, high = pattern.key_range()
    candidate = key == equal or low is None or high is None or low < key < high
    if selected:
        assert candidate
    if pattern.exact_range():
        assert candidate is selected
    if pattern.everything:
        assert selected


def test_a_hostile_pattern_costs_no_exponential_time() -> None:
    pattern = PathPattern.parse("*a" * 120 + "*b", wildcard=True)
    began = time.process_time()
    assert not pattern.matches("a" * 255)
    assert re.search(pattern.regex(), "a" * 255) is None
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a//b/./c", "a/b/c"),
        ("a/x/../b", "a/b"),
        ("a\\b", "a\\b"),
        ("a b;c%2F", "a b;c%2F"),
        ("ä/" + "x" * 255, "ä/" + "x" * 255),
    ],
)
def test_normal_form(path: str, normal: str) -> None:
    assert normal_form(path) == normal


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        ".",
        "a/..",
        "../a",
        "a/../../b",
        "a\nb",
        "a\x7f",
        "a\x00",
        "ä" * 128,
        "a/" * 2100 + "b",
        "\ud800",
    ],
    ids=repr,
)
def test_paths_that_cannot_be_stored(path: str) -> None:
    with pytest.raises(PathError):
        normal_form(path)


def test_too_many_wild_segments_are_refused() -> None:
    with pytest.raises(PathError):
        PathPattern.parse("*/" * 65 + "a", wildcard=True)


@given(STORED)
def test_normal_form_is_its_own_normal_form(path: str) -> None:
    assert normal_form(normal_form(path)) == normal_form(path)


def test_lookup_drops_dots_above_the_root() -> None:
    assert lookup_form("/../../a/./b/../c") == "a/c"


def test_parents_are_outermost_first() -> None:
    assert parents("a/b/c") == ("a", "a/b")
    assert parents("a") == ()


@pytest.mark.parametrize(
    ("path", "suffix"), [("a.b/c", ""), ("a/b.mov", "mov"), ("a/b.tar.gz", "gz"), ("x.", "")]
)
def test_extension_follows_the_last_dot_of_the_last_segment(path: str, suffix: str) -> None:
    assert extension(path) == suffix
