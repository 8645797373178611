"""What q and the filters mean, and what never reaches the index."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.core.marks import Mark, decode_mark, encode_mark
from origin.core.search import (
    Clause,
    Field,
    Filter,
    Range,
    SearchQuery,
    Sort,
    parse_facets,
    parse_filter,
    parse_sort,
    parse_text,
)
from origin.core.words import extension_word, words
from origin.errors import Invalid

CLAUSES = {
    "word": ("reload", [Clause(("reload",))]),
    "case and accents": ("RÉEL", [Clause(("reel",))]),
    "prefix": ("A9C00*", [Clause(("a9c00",), prefix=True)]),
    "phrase": ('"video arri"', [Clause(("video", "arri"))]),
    "dotted": ("A9C001.0143000000", [Clause(("a9c001", "0143000000"))]),
    "open quote": ('"video arri', [Clause(("video", "arri"))]),
    "metadata": ('meta.camera:"Alexa LF"', [Clause(("alexa", "lf"), key="camera")]),
    "metadata prefix": ("meta.camera:al*", [Clause(("al",), prefix=True, key="camera")]),
    "unknown field is text": ("foo:bar", [Clause(("foo", "bar"))]),
    "operators are words": ("a AND NOT", [Clause(("a",)), Clause(("and",)), Clause(("not",))]),
    "signs are skipped": ('- ( ^ a " "', [Clause(("a",))]),
    "column syntax is text": ("text:x", [Clause(("text", "x"))]),
}


@pytest.mark.parametrize(("q", "clauses"), CLAUSES.values(), ids=CLAUSES.keys())
def test_clauses_are_folded_words(q: str, clauses: list[Clause]) -> None:
    assert list(parse_text(q).clauses) == clauses


@pytest.mark.parametrize("q", ["", " ", "*", "*:*", " *:* "])
def test_some_texts_are_all(q: str) -> None:
    found = parse_text(q)
    assert (found.clauses, found.filters, found.nothing) == ((), (), False)


@pytest.mark.parametrize("q", ["-", "** **", '""', "* *", "…"])
def test_clauses_without_any_word_find_nothing(q: str) -> None:
    assert parse_text(q).nothing


def test_short_names_are_filters_and_all_of_them_hold() -> None:
    found = parse_text('volume:MTC606 volume:"MTC 631" ext:.ARI size:1000..2000 path:"/a/b c/"')
    assert found.filters == (
        Filter(Field.VOLUME, ("MTC606",)),
        Filter(Field.VOLUME, ("MTC 631",)),
        Filter(Field.EXTENSION, ("ari",)),
        Filter(Field.SIZE, (Range(1000, 2000),)),
        Filter(Field.UNDER, ("a/b c",)),
    )


@pytest.mark.parametrize("q", ["a" * 1001, "a " * 33, "size:x", "cached:perhaps", "date:2019-13", "hash:12"])
def test_only_size_number_and_bad_values_are_refused(q: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_text(q)
    assert caught.value.context == "q"


DAY = 86_400_000
RANGES = {
    "equal": ("5", Range(5, 5)),
    "between": ("5..7", Range(5, 7)),
    "open above": ("5..", Range(5, None)),
    "open below": ("..7", Range(None, 7)),
    "above": (">5", Range(6, None)),
    "at least": (">=5", Range(5, None)),
    "below": ("<5", Range(None, 4)),
    "at most": ("<=5", Range(None, 5)),
    "the same": ("=5", Range(5, 5)),
}


@pytest.mark.parametrize(("text", "expected"), RANGES.values(), ids=RANGES.keys())
def test_ranges_of_sizes_include_their_ends(text: str, expected: Range) -> None:
    assert parse_filter(Field.SIZE, [text]) == (Filter(Field.SIZE, (expected,)),)


DATES = {
    "day": ("1970-01-02", Range(DAY, 2 * DAY - 1)),
    "month": ("1970-02", Range(31 * DAY, 59 * DAY - 1)),
    "leap year": ("1972", Range(730 * DAY, 1096 * DAY - 1)),
    "second": ("1970-01-01T00:00:01Z", Range(1000, 1999)),
    "offset": ("1970-01-01T01:00:00+01:00", Range(0, 999)),
    "offset whose sign became a blank": ("1970-01-01T01:00:00 01:00", Range(0, 999)),
    "millisecond": ("1970-01-01T00:00:01.5Z", Range(1500, 1500)),
    "upper end covers its unit": ("1970-01..1970-02", Range(0, 59 * DAY - 1)),
    "after a day": (">1970-01-01", Range(DAY, None)),
    "up to a month": ("<=1970-01", Range(None, 31 * DAY - 1)),
}


@pytest.mark.parametrize(("text", "expected"), DATES.values(), ids=DATES.keys())
def test_dates_stand_for_their_whole_unit(text: str, expected: Range) -> None:
    assert parse_filter(Field.MODIFIED, [text]) == (Filter(Field.MODIFIED, (expected,)),)


def test_repeated_values_widen_and_repeated_ranges_narrow() -> None:
    assert parse_filter(Field.EXTENSION, ["ari|.MOV", ""]) == (Filter(Field.EXTENSION, ("ari", "mov", "")),)
    assert parse_filter(Field.SIZE, [">5|1", "<9"]) == (
        Filter(Field.SIZE, (Range(6, None), Range(1, 1))),
        Filter(Field.SIZE, (Range(None, 8),)),
    )
    assert parse_filter(Field.VOLUME, [""]) == ()


@given(st.text(max_size=60))
def test_words_are_stable_under_folding_again(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(word and not any(c in ' "*¤_' for c in word) for word in found)


@given(st.text(max_size=12))
def test_the_word_of_an_extension_is_one_that_no_text_has(extension: str) -> None:
    word = extension_word(extension)
    assert word.startswith("¤") and " " not in word
    assert word.isascii() is False and word not in words(extension)


@given(
    st.sampled_from(list(Sort)),
    st.integers(1, 2**62),
    st.integers(-(2**62), 2**62),
    st.text(max_size=40),
    st.one_of(st.none(), st.integers(0, 2**31)),
)
def test_marks_come_back_as_they_went_and_only_for_their_query(
    sort: Sort, id: int, number: int, text: str, count: int | None
) -> None:
    query = SearchQuery(sort=sort)
    key = None if sort is Sort.ID else number if sort in (Sort.SIZE, Sort.MODIFIED) else text
    mark = Mark(id, key, count)
    encoded = encode_mark(query, mark)
    assert decode_mark(query, encoded) == mark
    assert encoded.replace("-", "").replace("_", "").isalnum()
    other = SearchQuery(sort=sort, descending=True)
    with pytest.raises(Invalid):
        decode_mark(other, encoded)


@given(st.text(alphabet="ABCDabcd0189-_=+/ ", max_size=60))
def test_no_other_text_is_a_mark(text: str) -> None:
    with pytest.raises(Invalid):
        decode_mark(SearchQuery(), text)


def test_the_mark_of_a_short_walk_has_28_characters() -> None:
    assert len(encode_mark(SearchQuery(), Mark(4711, None, 1))) == 28


def test_sort_and_facets_are_of_a_list() -> None:
    assert parse_sort("file_size:desc") == (Sort.SIZE, True)
    assert parse_sort(None) == (Sort.ID, False)
    assert parse_facets("file_size,file_extension|file_size") == (Field.SIZE, Field.EXTENSION)
    for bad in ("color", "file_size:up"):
        with pytest.raises(Invalid):
            parse_sort(bad)
