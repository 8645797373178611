"""Filters and orders of lists; pages and their links."""

from __future__ import annotations

import pytest

from origin.core.conditions import Kind, Order, parse_condition, parse_order, select
from origin.core.paging import PageWindow, page_headers, read_window
from origin.errors import Invalid

HOLDS = {
    "equal": (Kind.TEXT, "a", "a", "b"),
    "equal with sign": (Kind.NUMBER, "=5", 5, 4),
    "not equal": (Kind.TEXT, "!=a", "b", "a"),
    "in": (Kind.TEXT, "><a|b", "b", "c"),
    "not in": (Kind.NUMBER, "!><1|2", 3, 2),
    "like": (Kind.TEXT, "~%.MOV", "x.mov", "x.ari"),
    "like one": (Kind.TEXT, "~a_c", "abc", "abbc"),
    "like is no regular expression": (Kind.TEXT, "~a.c%", "a.cd", "abcd"),
    "not like": (Kind.TEXT, "!~a%", "ba", "ab"),
    "above": (Kind.NUMBER, ">5", 6, 5),
    "at least": (Kind.NUMBER, ">=5", 5, 4),
    "below": (Kind.NUMBER, "<5", 4, 5),
    "at most": (Kind.NUMBER, "<=5", 5, 6),
    "flag": (Kind.FLAG, "true", True, False),
    "time": (Kind.TIME, ">=2019-04-11", "2019-04-11T00:00:00Z", "2019-04-10T23:59:59Z"),
    "time after a day": (Kind.TIME, ">2019-04-11", "2019-04-12T00:00:00Z", "2019-04-11T23:59:59Z"),
}


@pytest.mark.parametrize(("kind", "text", "yes", "no"), HOLDS.values(), ids=HOLDS.keys())
def test_a_condition_holds_for_what_it_says(kind: Kind, text: str, yes: object, no: object) -> None:
    condition = parse_condition("f", kind, text)
    assert condition.holds(yes)  # type: ignore[arg-type]
    assert not condition.holds(no)  # type: ignore[arg-type]
    assert condition.holds(None) is text.startswith("!")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.NUMBER, ""),
        (Kind.NUMBER, "x"),
        (Kind.NUMBER, "><1|x"),
        (Kind.FLAG, "maybe"),
        (Kind.TIME, "soon"),
        (Kind.TEXT, "~" + "%a" * 11),
    ],
)
def test_values_of_another_kind_are_refused(kind: Kind, text: str) -> None:
    with pytest.raises(Invalid):
        parse_condition("f", kind, text)


def test_rows_are_ordered_with_nulls_last_and_the_number_as_last_key() -> None:
    rows = [{"id": 3, "a": 1}, {"id": 1, "a": None}, {"id": 2, "a": 1}, {"id": 4, "a": 2}]
    assert [r["id"] for r in select(rows, [], [Order("a")], "id")] == [2, 3, 4, 1]
    assert [r["id"] for r in select(rows, [], [Order("a", descending=True)], "id")] == [4, 2, 3, 1]


def test_orders_are_split_at_commas_and_pipes() -> None:
    assert parse_order("a:desc|b,a:asc", ["a", "b"]) == (Order("a", True), Order("b"), Order("a"))
    assert parse_order(None, []) == ()
    with pytest.raises(Invalid):
        parse_order("c", ["a"])


def test_the_headers_are_those_of_the_contracts_table() -> None:
    params = [("per_page", "40"), ("page", "2"), ("name", "a b")]
    headers = page_headers(read_window(params), 105, "/api/v2/tasks", params)
    links = headers.pop("Link").split(", ")
    assert headers == {
        "X-Total": "105",
        "X-Total-Pages": "3",
        "X-Page": "2",
        "X-Per-Page": "40",
        "X-Next-Page": "3",
        "X-Prev-Page": "1",
    }
    assert links == [
        '</api/v2/tasks?name=a%20b&per_page=40&page=3>; rel="next"',
        '</api/v2/tasks?name=a%20b&per_page=40&page=1>; rel="prev"',
        '</api/v2/tasks?name=a%20b&per_page=40&page=1>; rel="first"',
        '</api/v2/tasks?name=a%20b&per_page=40&page=3>; rel="last"',
    ]


WINDOWS = {
    "nothing said": ([], PageWindow(20, 0)),
    "pages": ([("page", "3"), ("per_page", "10")], PageWindow(10, 20)),
    "limit and offset win": (
        [("page", "9"), ("per_page", "7"), ("limit", "5"), ("offset", "12")],
        PageWindow(5, 12, by_offset=True),
    ),
    "cut": ([("per_page", "101")], PageWindow(100, 0)),
    "huge": ([("page", "1" + "0" * 30)], PageWindow(20, (10**30 - 1) * 20)),
}


@pytest.mark.parametrize(("params", "expected"), WINDOWS.values(), ids=WINDOWS.keys())
def test_windows(params: list[tuple[str, str]], expected: PageWindow) -> None:
    assert read_window(params) == expected


@pytest.mark.parametrize(
    "bad", [("page", "0"), ("per_page", "0"), ("limit", "0"), ("offset", "-1"), ("page", "x")]
)
def test_bad_windows_are_refused(bad: tuple[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        read_window([bad])
    assert caught.value.context == bad[0]
