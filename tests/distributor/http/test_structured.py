"""Structured fields: RFC 9651."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.http import structured as sf
from distributor.http.structured import Date, DisplayString, InnerList, Invalid, Item, Token

ITEMS = {
    "integer": ("42", 42),
    "negative": ("-0017", -17),
    "decimal": ("4.50", Decimal("4.50")),
    "string": (r'"a \"b\" \\ c"', 'a "b" \\ c'),
    "token": ("*foo/bar:1", Token("*foo/bar:1")),
    "bytes": (":aGVsbG8=:", b"hello"),
    "bytes without padding": (":aGVsbG8:", b"hello"),
    "true": ("?1", True),
    "false": ("?0", False),
    "date": ("@1659578233", Date(1659578233)),
    "display string": ('%"f%c3%bc%c3%bc %22"', DisplayString('füü "')),
    "spaces around": ("  1  ", 1),
}


@pytest.mark.parametrize(("text", "value"), ITEMS.values(), ids=ITEMS.keys())
def test_item_is_read_with_its_type(text: str, value: sf.BareItem) -> None:
    item = sf.parse_item(text)
    assert item == Item(value, {})
    assert type(item.value) is type(value)


BAD_ITEMS = [
    "", "1 2", "1.", "1.1234", "1234567890123456", "1234567890123.1", "--1", "-", '"open', '"\x7f"', '"é"',
    r'"\n"', ":a", ":a!:", ":abcde:", "?2", "?", "@1.5", "@", '%"%C3%BC"', '%"%ff"', '%"a', "é", "=", "a;",
    "a;B",
    "a;b=", "\t1", "١",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_ITEMS, ids=repr)
def test_faulty_item_is_refused_whole(text: str) -> None:  # RFC 9651 §4.2
    with pytest.raises(Invalid):
        sf.parse_item(text)


def test_dictionary_keeps_order_and_the_last_of_equal_keys() -> None:  # RFC 9651 §4.2.2
    members = sf.parse_dictionary('a=1, b;x;y="z" ,\tc=(1 two);q=0.5,a=?0')
    assert list(members.items()) == [
        ("b", Item(True, {"x": True, "y": "z"})),
        ("c", InnerList((Item(1), Item(Token("two"))), {"q": Decimal("0.5")})),
        ("a", Item(False)),
    ]


@pytest.mark.parametrize(
    "text", ["a,", ",a", "a b", "A=1", "a=", "a=(1", "a=(1)(2)", "a=(1,2)", "a=1;;b"], ids=repr
)
def test_faulty_dictionary_is_refused_whole(text: str) -> None:
    with pytest.raises(Invalid):
        sf.parse_dictionary(text)


def test_list_of_items_and_inner_lists() -> None:
    assert sf.parse_list("edge-1; hit; ttl=-3,  (a  b )") == [
        Item(Token("edge-1"), {"hit": True, "ttl": -3}),
        InnerList((Item(Token("a")), Item(Token("b")))),
    ]
    assert sf.parse_list("") == []


@pytest.mark.parametrize(
    "value",
    [10**15, Decimal("1e12"), Decimal("NaN"), "é", "\n", Token("a b"), Token(""), DisplayString("\ud800")],
    ids=repr,
)
def test_what_no_field_can_hold_is_not_serialised(value: sf.BareItem) -> None:
    with pytest.raises(Invalid):
        sf.serialise_item(Item(value))


def test_key_that_is_none_is_not_serialised() -> None:
    with pytest.raises(Invalid):
        sf.serialise_dictionary({"A": Item(1)})


BARE = st.one_of(
    st.integers(-sf.INTEGER_LIMIT, sf.INTEGER_LIMIT),
    st.decimals(Decimal(-999_999_999_999), Decimal(999_999_999_999), places=3),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)),
    st.from_regex(r"\A[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*\Z").map(Token),
    st.binary(max_size=40),
    st.booleans(),
    st.integers(0, 2**40).map(Date),
    st.text(st.characters(exclude_categories=["Cs"])).map(DisplayString),
)
KEYS = st.from_regex(r"\A[a-z*][a-z0-9_\-.*]{0,8}\Z")
ITEM = st.builds(Item, BARE, st.dictionaries(KEYS, BARE, max_size=3))
MEMBER = st.one_of(
    ITEM, st.builds(InnerList, st.lists(ITEM, max_size=3).map(tuple), st.dictionaries(KEYS, BARE, max_size=2))
)


@given(st.dictionaries(KEYS, MEMBER, max_size=4))
def test_dictionary_survives_serialising(members: dict[str, sf.Member]) -> None:
    assert sf.parse_dictionary(sf.serialise_dictionary(members)) == members


@given(st.lists(MEMBER, max_size=4))
def test_list_survives_serialising(members: list[sf.Member]) -> None:
    assert sf.parse_list(sf.serialise_list(members)) == members


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (sf.parse_item, sf.parse_list, sf.parse_dictionary):
        try:
            parse(text)
        except Invalid:
            continue
