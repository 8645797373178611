"""Asset ids and cache keys: §3.1 and §3.2 of the edge's HTTP contract."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core import keys
from distributor.core.keys import KeyParts, parse_asset_path
from distributor.errors import BadAssetId, RequestError, UnknownAsset

SAME: dict[str, tuple[str | bytes, str]] = {
    "plain": ("clip.mp4", "clip.mp4"),
    "segments": ("a/b-c/d_e~f.m4s", "a/b-c/d_e~f.m4s"),
    "one character": ("a", "a"),
    "sub-delimiters": ("!$&'()*+,;=:@", "!$&'()*+,;=:@"),
    "dots that are not dot segments": ("a..b/.hidden/...", "a..b/.hidden/..."),
    "encoded letter": ("%41", "A"),
    "encoded unreserved": ("clip%2Emp4", "clip.mp4"),
    "hex in any case": ("caf%c3%A9", "café"),
    "encoded space": ("a%20b", "a b"),
    "raw space": ("a b", "a b"),
    "plus stays plus": ("a+b", "a+b"),
    "encoded plus": ("a%2Bb", "a+b"),
    "raw UTF-8": ("café", "café"),
    "raw UTF-8 as octets": ("café".encode(), "café"),
    "raw octets as surrogate escapes": (b"caf\xc3\xa9".decode("ascii", "surrogateescape"), "café"),
    "half raw half encoded": (b"caf\xc3%a9", "café"),
    "first code point above Latin-1 controls": ("%C2%A1", "\u00a1"),
    "astral": ("%F0%9F%8E%AC", "\U0001f3ac"),
    "last code point that is a character": ("%F4%8F%BF%BD", "\U0010fffd"),
    "private use": ("%EE%80%80", "\ue000"),
    "not normalised": ("e%CC%81", "e\u0301"),
    "letter case kept": ("Clip.MP4", "Clip.MP4"),
    "1024 octets": ("a" * 1024, "a" * 1024),
    "1024 octets when decoded": ("%C3%A9" * 512, "é" * 512),
    "numbers": ("1", "1"),
    "octets": (b"a/b", "a/b"),
}


@pytest.mark.parametrize(("raw", "asset_id"), SAME.values(), ids=SAME.keys())
def test_raw_path_names_this_id(raw: str | bytes, asset_id: str) -> None:
    assert parse_asset_path(raw) == asset_id


BAD: dict[str, str | bytes] = {
    "percent at the end": "a%",
    "percent and one digit": "a%4",
    "percent and no hex": "a%zz",
    "percent and a sign": "a%+1",
    "lone continuation octet": "%80",
    "truncated sequence": "%C3",
    "raw octet that is not UTF-8": b"caf\xe9",
    "raw octet as surrogate escape": "caf\udce9",
    "lone surrogate": "a\ud800",
    "overlong slash": "%C0%AF",
    "encoded surrogate": "%ED%A0%80",
    "past U+10FFFF": "%F4%90%80%80",
    "NUL encoded": "a%00",
    "NUL raw": "a\x00",
    "line feed": "a%0Ab",
    "carriage return raw": "a\rb",
    "tab": "a%09",
    "DEL": "a%7f",
    "C1 control": "%C2%85",
    "raw number sign": "a#b",
    "sequence across a separator": b"\xc3/\xa9",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_is_no_text_is_a_bad_id(raw: str | bytes) -> None:
    with pytest.raises(BadAssetId):
        parse_asset_path(raw)


UNKNOWN: dict[str, str | bytes] = {
    "empty": "",
    "dot": ".",
    "dot dot": "..",
    "dot dot first": "../a",
    "dot dot between": "a/../b",
    "dot last": "a/.",
    "encoded dots": "%2e%2E/a",
    "half encoded dots": "a/.%2E",
    "one encoded dot": "%2e",
    "empty segment": "a//b",
    "slash at the end": "a/",
    "slash at the start": "/a",
    "encoded slash": "a%2Fb",
    "encoded slash in lower case": "a%2fb",
    "traversal": "..%2f..%2fetc%2fpasswd",
    "backslash": "a\\b",
    "encoded backslash": "a%5Cb",
    "encoded percent": "a%25b",
    "twice encoded": "a%252Fb",
    "question mark": "a%3Fb",
    "raw question mark": "a?b",
    "encoded number sign": "a%23b",
    "quote": 'a"b',
    "brackets": "a[0]",
    "angle": "a%3Cb",
    "braces": "{id}",
    "pipe": "a|b",
    "caret": "a^b",
    "back-tick": "a`b",
    "no-break space": "%C2%A0",
    "noncharacter FFFE": "%EF%BF%BE",
    "noncharacter FFFF": "%EF%BF%BF",
    "noncharacter FDD0": "%EF%B7%90",
    "noncharacter 10FFFF": "%F4%8F%BF%BF",
    "1025 octets": "a" * 1025,
    "1026 octets in 513 characters": "é" * 513,
}


@pytest.mark.parametrize("raw", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_text_outside_the_grammar_is_an_unknown_asset(raw: str | bytes) -> None:
    with pytest.raises(UnknownAsset):
        parse_asset_path(raw)


@pytest.mark.parametrize("raw", ["../%", "%2F%00", "a" * 2000 + "%zz", "a//%FF", "#..", "a/#/.."])
def test_bad_goes_before_unknown(raw: str) -> None:
    with pytest.raises(BadAssetId):
        parse_asset_path(raw)


def test_many_dots_are_read_in_linear_time() -> None:
    with pytest.raises(UnknownAsset):
        parse_asset_path("a./" * 300 + "..")
    with pytest.raises(UnknownAsset):
        parse_asset_path("%2e" * 200_000)


_CHARACTERS = st.one_of(
    st.sampled_from("abcXYZ019-._~!$&'()*+,;=:@ "),
    st.characters(min_codepoint=0xA1, exclude_categories=["Cs"]).filter(
        lambda char: not 0xFDD0 <= ord(char) <= 0xFDEF and ord(char) & 0xFFFE != 0xFFFE
    ),
)
SEGMENTS = st.text(_CHARACTERS, min_size=1, max_size=8).filter(lambda segment: segment not in (".", ".."))
IDS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)


@given(IDS)
def test_id_survives_the_way_to_a_source(asset_id: str) -> None:
    path = keys.source_path(asset_id)
    assert re.fullmatch(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-F]{2})+", path)
    assert parse_asset_path(path) == asset_id
    assert parse_asset_path(path.encode()) == asset_id
    assert parse_asset_path(asset_id) == asset_id
    assert parse_asset_path(asset_id.encode()) == asset_id


@given(IDS, st.data())
def test_any_encoding_of_an_id_names_it(asset_id: str, data: st.DataObject) -> None:
    raw = b""
    for octet in asset_id.encode():
        encode = octet != 0x2F and data.draw(st.booleans())
        raw += (f"%{octet:02x}" if encode else chr(octet)).encode("latin-1")
    assert parse_asset_path(raw) == asset_id
    assert parse_asset_path(raw.decode("utf-8", "surrogateescape")) == asset_id


@given(st.one_of(st.binary(max_size=40), st.text(st.sampled_from("ab./%2fFeE\\\x00é?#"), max_size=20)))
def test_what_is_accepted_has_the_grammar(raw: bytes | str) -> None:
    try:
        asset_id = parse_asset_path(raw)
    except RequestError:
        return
    assert 1 <= len(asset_id.encode()) <= 1024
    assert not set(asset_id.split("/")) & {"", ".", ".."}
    assert not re.search(r'[\x00-\x1f\x7f-\xa0"#%<>?\[\\\]^`{|}]', asset_id)
    assert parse_asset_path(keys.source_path(asset_id)) == asset_id


def test_encodings_towards_a_source() -> None:
    asset_id = "a b/é+(1)~.mp4"
    assert keys.source_path(asset_id) == "a%20b/%C3%A9+(1)~.mp4"
    assert keys.source_query_value(asset_id) == "a%20b%2F%C3%A9%2B%281%29~.mp4"


TEMPLATES: dict[str, tuple[str, str | None, str]] = {
    "path": ("http://h:1/content/{id}", None, "http://h:1/content/a/b%20c"),
    "path and query": ("http://h/c/{id}", "x=1&y", "http://h/c/a/b%20c?x=1&y"),
    "id in the query": ("http://h/get?file={id}&v=2", None, "http://h/get?file=a%2Fb%20c&v=2"),
    "id in the query, more behind": ("http://h/get?file={id}", "x=1", "http://h/get?file=a%2Fb%20c&x=1"),
    "template with a query": ("http://h/{id}?k=v", "x=1", "http://h/a/b%20c?k=v&x=1"),
    "template ending in a question mark": ("http://h/{id}?", "x=1", "http://h/a/b%20c?x=1"),
    "text behind the id": ("http://h/{id}/raw", None, "http://h/a/b%20c/raw"),
}


@pytest.mark.parametrize(("template", "query", "url"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_template_is_filled_by_the_place_of_the_id(template: str, query: str | None, url: str) -> None:
    assert keys.fill_template(template, "a/b c", query) == url


def test_an_id_that_looks_like_the_placeholder_is_not_filled_twice() -> None:
    assert keys.fill_template("http://h/{id}", "(id)") == "http://h/(id)"


STRIP = frozenset({"CMCD", "Expires", "Key-Pair-Id"})
QUERIES: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None),
    "empty": ("", None),
    "kept as given": ("b=2&a=1&b=%7e", "b=2&a=1&b=%7e"),
    "stripped": ("a=1&CMCD=bl%3D3&b=2&Expires=9", "a=1&b=2"),
    "all stripped": ("CMCD=x&Expires=9", None),
    "case-sensitive": ("cmcd=x&expires=9", "cmcd=x&expires=9"),
    "name encoded": ("%43MCD=x&Key%2DPair-Id=1&a", "a"),
    "name without value": ("CMCD&a", "a"),
    "name only begins so": ("CMCDx=1", "CMCDx=1"),
    "empty parameters": ("a=1&&b", "a=1&&b"),
    "value with the sign": ("a=b=c&d=?/", "a=b=c&d=?/"),
    "plus and escapes untouched": ("q=a+b%20c%zz", "q=a+b%20c%zz"),
    "octets no URL may hold": ("q=é\udcff \r\n#", "q=%C3%A9%FF%20%0D%0A%23"),
}


@pytest.mark.parametrize(("raw", "kept"), QUERIES.values(), ids=QUERIES.keys())
def test_kept_query(raw: str | None, kept: str | None) -> None:
    assert keys.kept_query(raw, STRIP) == kept


@given(IDS, st.one_of(st.none(), st.text(max_size=20)))
def test_key_is_split_into_what_it_was_made_of(asset_id: str, raw: str | None) -> None:
    query = keys.kept_query(raw if raw is None else raw.encode("utf-8", "ignore").decode(), STRIP)
    key = keys.cache_key(asset_id, query)
    assert keys.split_key(key) == KeyParts(asset_id, query, None)
    variant = keys.variant_key(key, ["Accept"], (("Accept", "x"),))
    assert keys.split_key(variant)[:2] == (asset_id, query)
    assert keys.split_key(variant).variant
    assert variant.encode("utf-8")


def test_requests_with_equal_selecting_fields_share_a_variant() -> None:  # RFC 9111 §4.1
    def variant(*lines: tuple[str, str], names: tuple[str, ...] = ("Accept-Language", "X-A")) -> str:
        return keys.variant_key("a", names, lines)

    german = variant(("Accept-Language", "de, en"), ("Other", "1"))
    assert german == variant(("accept-language", "de"), ("Accept-Language", "en"), ("Other", "2"))
    assert german == variant(("Accept-Language", "de ,\ten"), names=("x-a", "ACCEPT-LANGUAGE", "X-A"))
    assert german != variant(("Accept-Language", "en, de"))
    assert german != variant(("Accept-Language", "de, en"), ("X-A", ""))
    assert variant(("X-A", "")) != variant()
    assert variant(("X-A", "absent")) != variant()
    assert keys.variant_key("a", [], (("X-A", "1"),)) == "a"
