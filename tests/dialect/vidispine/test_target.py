"""Targets and parameters of the Vidispine dialect, read from what stood in the request line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.api.vidispine.problems import Problem
from origin.api.vidispine.target import Params, is_id, read_target


def test_matrix_parameters_of_an_empty_segment_count() -> None:
    target = read_target("/API/storage/VX-1/file/;first=0;number=10?path=/foo")
    assert target.api
    assert target.segments == ("storage", "VX-1", "file")
    assert target.params.integer("first") == 0
    assert target.params.integer("number") == 10
    assert target.params.text("path") == "/foo"


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        pytest.param(
            "/API/storage/VX-1//file/path/a%2Fb%20c.mov;includeItem=True/",
            ("storage", "VX-1", "file", "path", "a/b c.mov"),
            id="path-in-one-segment",
        ),
        pytest.param(
            "/storage/VX-1/file/path/a%3Bb%2F%2E%2E%2Fc/data",
            ("storage", "VX-1", "file", "path", "a;b/../c", "data"),
            id="encoded-semicolon-and-dots",
        ),
        pytest.param(
            "/storage/file/uri/file%3A%2F%2F%2Fsrv%2Fm%2Fa%2520b.mov",
            ("storage", "file", "uri", "file:///srv/m/a%20b.mov"),
            id="uri-is-decoded-once",
        ),
        pytest.param("http://host:1/API/job?x=//y", ("job",), id="absolute-form"),
        pytest.param("/API/storage/a+b", ("storage", "a+b"), id="plus-is-itself-in-the-path"),
        pytest.param("/API/storage/%zz", ("storage", "%zz"), id="no-triplet"),
    ],
)
def test_segments(raw: str, segments: tuple[str, ...]) -> None:
    assert read_target(raw).segments == segments


def test_plus_is_a_space_in_the_query_and_itself_in_the_matrix() -> None:
    params = read_target("/API/job;a=1+2?b=1+2").params
    assert (params.text("a"), params.text("b")) == ("1+2", "1 2")


def test_the_query_splits_at_ampersands_only_and_at_the_first_equals_sign() -> None:
    params = read_target("/API/job?path=/a;b=c/d&x=1").params
    assert (params.text("path"), params.text("x")) == ("/a;b=c/d", "1")


def test_the_query_beats_the_matrix_and_the_first_occurrence_wins() -> None:
    params = read_target("/API/job;number=1;first=3;first=4?number=2&number=5").params
    assert (params.integer("number"), params.integer("first")) == (2, 3)


def test_a_scheme_inside_the_query_is_no_absolute_form() -> None:
    target = read_target("/API/storage/file?uri=file:///srv/a")
    assert target.segments == ("storage", "file")
    assert target.params.text("uri") == "file:///srv/a"


def test_only_the_first_segment_is_the_mount() -> None:
    target = read_target("/storage/API/x")
    assert (target.api, target.segments) == (False, ("storage", "API", "x"))


@pytest.mark.parametrize("raw", ["/API/%ff", "/API/job?a=%c3", "/API/job;a=%80", "/API/job?%ff=1"])
def test_bad_utf8_is_invalid_input(raw: str) -> None:
    with pytest.raises(Problem) as caught:
        read_target(raw)
    assert (caught.value.status, caught.value.document.choice) == (400, "invalidInput")


@given(st.text(st.characters(codec="ascii", min_codepoint=0x21), max_size=40))
def test_any_target_reads_or_is_a_400(raw: str) -> None:
    try:
        target = read_target("/" + raw)
    except Problem as problem:
        assert problem.status == 400
    else:
        assert all(target.segments)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("FALSE", False), ("0", False)]
)
def test_booleans(text: str, value: bool) -> None:
    assert Params([("x", text)]).boolean("x", not value) is value


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        pytest.param("b", "yes", lambda p: p.boolean("b", True), id="boolean"),
        pytest.param("n", "-1", lambda p: p.integer("n"), id="negative"),
        pytest.param("n", "1.5", lambda p: p.integer("n"), id="fraction"),
        pytest.param("n", "٣", lambda p: p.integer("n"), id="other-digits"),
        pytest.param("n", "9" * 30, lambda p: p.integer("n"), id="huge"),
        pytest.param("n", "1001", lambda p: p.integer("n", least=1, most=1000), id="above"),
        pytest.param("m", "novalue", lambda p: p.pairs("m"), id="pair-without-equals-sign"),
        pytest.param("c", "ITEM", lambda p: p.choice("c", ("item",), "item"), id="choice"),
        pytest.param("s", "OPEN,open", lambda p: p.choices("s", ("OPEN",)), id="choices"),
        pytest.param("sort", "size up", lambda p: p.sort(("size",), ()), id="direction"),
        pytest.param("sort", "sise", lambda p: p.sort(("size",), ()), id="sort-field"),
        pytest.param("sort", "+", lambda p: p.sort(("size",), ()), id="sort-nothing"),
    ],
)
def test_a_bad_value_names_its_parameter(name: str, value: str, read: object) -> None:
    with pytest.raises(Problem) as caught:
        read(Params([(name, value)]))  # type: ignore[operator]
    assert caught.value.status == 400
    assert caught.value.document.inner["context"] == name


def test_a_present_but_empty_parameter_counts_as_absent() -> None:
    params = Params([("n", ""), ("b", ""), ("l", ",")], [("n", "7")])
    assert params.integer("n") == 7
    assert params.boolean("b", True) is True
    assert params.names("l") == ()
    assert "b" not in params


def test_lists_are_repeated_and_comma_separated() -> None:
    assert Params([("id", "VX-1,VX-2"), ("id", "VX-3")], [("id", "VX-4")]).names("id") == (
        "VX-1",
        "VX-2",
        "VX-3",
        "VX-4",
    )


def test_pairs_are_never_split_at_commas() -> None:
    assert Params([("jobmetadata", "a=1,b=2;c"), ("jobmetadata", "d=")]).pairs("jobmetadata") == (
        ("a", "1,b=2;c"),
        ("d", ""),
    )


def test_sort_takes_directions_parted_by_space_or_plus() -> None:
    params = Params([], [("sort", "size+desc,fileId,state ascending")])
    assert params.sort(("size", "fileId", "state"), ()) == (
        ("size", True),
        ("fileId", False),
        ("state", False),
    )


@pytest.mark.parametrize(("text", "yes"), [("VX-1", True), ("path", False), ("VX-", False), ("VXX-1", False)])
def test_ids_and_operations_are_told_apart(text: str, yes: bool) -> None:
    assert is_id(text) is yes
