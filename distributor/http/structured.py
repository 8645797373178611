"""Structured field values: parse and serialise (RFC 9651, which contains RFC 8941).

    bare item     Python type
    Integer       int, -999999999999999..999999999999999
    Decimal       decimal.Decimal, at most 12 integer and 3 fractional digits
    String        str                      Token   Token
    Byte Sequence bytes                    Boolean bool
    Date          Date (Unix seconds)      Display String  DisplayString

An Item is (bare item, parameters); an InnerList is (items, parameters). Parsing is strict: on any
fault the whole field is unusable (§4.2) and Invalid is raised. Of equal keys the last one counts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

INTEGER_LIMIT = 999_999_999_999_999


class Invalid(ValueError):
    """The text is not a structured field of the wanted type; it is to be ignored as a whole."""


class Token(str):
    """A bare word, e.g. `hit`; serialised without quotes."""

    __slots__ = ()


class DisplayString(str):
    """Unicode text for people (RFC 9651 §3.3.8)."""

    __slots__ = ()


class Date(int):
    """Unix seconds (RFC 9651 §3.3.7)."""

    __slots__ = ()


BareItem = int | Decimal | str | bytes | bool
Parameters = dict[str, BareItem]


class Item(NamedTuple):
    """One value with its parameters, in the order given."""

    value: BareItem
    parameters: Parameters = {}  # noqa: RUF012 - shared only while empty; nothing here mutates it


class InnerList(NamedTuple):
    """A parenthesised list of items, with parameters of its own."""

    items: tuple[Item, ...]
    parameters: Parameters = {}  # noqa: RUF012 - as above


Member = Item | InnerList

_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BYTES = re.compile(r":([A-Za-z0-9+/=]*):")
_DISPLAY = re.compile(r'%"((?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)"')


def parse_item(text: str) -> Item:
    """Parse a field whose type is Item. Raises Invalid."""
    reader = _Reader(text)
    item = reader.item()
    reader.end()
    return item


def parse_list(text: str) -> list[Member]:
    """Parse a field whose type is List; all lines combined, may be empty. Raises Invalid."""
    reader = _Reader(text)
    members: list[Member] = []
    while reader.more():
        members.append(reader.member())
        if not reader.comma():
            break
    return members


def parse_dictionary(text: str) -> dict[str, Member]:
    """Parse a field whose type is Dictionary; may be empty. A key without value is true. Raises Invalid."""
    reader = _Reader(text)
    members: dict[str, Member] = {}
    while reader.more():
        key = reader.key()
        member = reader.member() if reader.take("=") else Item(True, reader.parameters())
        members.pop(key, None)
        members[key] = member
        if not reader.comma():
            break
    return members


def serialise_item(item: Item) -> str:
    """Serialise an Item. Raises Invalid for a value no structured field can hold."""
    return _bare(item.value) + _parameters(item.parameters)


def serialise_list(members: list[Member]) -> str:
    """Serialise a List; "" when empty (then the field is not to be sent)."""
    return ", ".join(_member(member) for member in members)


def serialise_dictionary(members: Mapping[str, Member]) -> str:
    """Serialise a Dictionary; "" when empty (then the field is not to be sent)."""
    parts = []
    for key, member in members.items():
        if isinstance(member, Item) and member.value is True:
            parts.append(_key(key) + _parameters(member.parameters))
        else:
            parts.append(f"{_key(key)}={_member(member)}")
    return ", ".join(parts)


class _Reader:
    """A position in a text; each method takes what it is named after, or raises Invalid."""

    __slots__ = ("position", "text")

    def __init__(self, text: str) -> None:
        self.text = text.strip(" ")
        self.position = 0

    def more(self) -> bool:
        return self.position < len(self.text)

    def end(self) -> None:
        if self.more():
            raise Invalid("text after the value")

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def take(self, char: str) -> bool:
        if self.peek() != char:
            return False
        self.position += 1
        return True

    def skip(self, chars: str) -> None:
        while self.more() and self.text[self.position] in chars:
            self.position += 1

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.position)
        if found is None:
            raise Invalid("unexpected character")
        self.position = found.end()
        return found

    def comma(self) -> bool:
        """Take the comma between members; False at the end."""
        self.skip(" \t")
        if not self.more():
            return False
        if not self.take(","):
            raise Invalid("members not separated by a comma")
        self.skip(" \t")
        if not self.more():
            raise Invalid("comma at the end")
        return True

    def key(self) -> str:
        return self.match(_KEY).group()

    def member(self) -> Member:
        if not self.take("("):
            return self.item()
        items: list[Item] = []
        while True:
            self.skip(" ")
            if self.take(")"):
                return InnerList(tuple(items), self.parameters())
            items.append(self.item())
            if self.peek() not in (" ", ")"):
                raise Invalid("inner list not closed")

    def item(self) -> Item:
        return Item(self.bare(), self.parameters())

    def parameters(self) -> Parameters:
        found: Parameters = {}
        while self.take(";"):
            self.skip(" ")
            key = self.key()
            value = self.bare() if self.take("=") else True
            found.pop(key, None)
            found[key] = value
        return found

    def bare(self) -> BareItem:
        first = self.peek()
        if first == '"':
            return re.sub(r"\\(.)", r"\1", self.match(_STRING).group(1))
        if first == ":":
            text = self.match(_BYTES).group(1)
            try:
                # Padding may be missing (RFC 9651 §4.2.7).
                return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            except binascii.Error:
                raise Invalid("not base64") from None
        if first == "?":
            self.position += 1
            if self.peek() not in ("0", "1"):
                raise Invalid("not a boolean")
            self.position += 1
            return self.text[self.position - 1] == "1"
        if first == "@":
            self.position += 1
            seconds = self.number()
            if isinstance(seconds, Decimal):
                raise Invalid("date with a fraction")
            return Date(seconds)
        if first == "%":
            octets = re.sub(
                rb"%([0-9a-f]{2})",
                lambda found: bytes.fromhex(found[1].decode()),
                self.match(_DISPLAY).group(1).encode("ascii"),
            )
            try:
                return DisplayString(octets.decode("utf-8"))
            except UnicodeDecodeError:
                raise Invalid("display string is not UTF-8") from None
        if first == "-" or first.isdigit():
            return self.number()
        return Token(self.match(_TOKEN).group())

    def number(self) -> int | Decimal:
        sign, whole, fraction = self.match(_NUMBER).groups()
        if fraction is None:
            if len(whole) > 15:
                raise Invalid("integer of more than 15 digits")
            if self.peek() == ".":
                raise Invalid("decimal without fraction")
            return int(sign + whole)
        if len(whole) > 12 or len(fraction) > 3:
            raise Invalid("decimal out of bounds")
        return Decimal(f"{sign}{whole}.{fraction}")


def _member(member: Member) -> str:
    if isinstance(member, InnerList):
        inner = " ".join(serialise_item(item) for item in member.items)
        return f"({inner}){_parameters(member.parameters)}"
    return serialise_item(member)


def _key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise Invalid("not a key")
    return key


def _parameters(parameters: Parameters) -> str:
    return "".join(
        f";{_key(key)}" if value is True else f";{_key(key)}={_bare(value)}"
        for key, value in parameters.items()
    )


def _bare(value: BareItem) -> str:
    # bool before int, Date before int, Token and DisplayString before str: each is a subclass.
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        if abs(value) > INTEGER_LIMIT:
            raise Invalid("integer out of bounds")
        return f"@{int(value)}" if isinstance(value, Date) else str(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, bytes):
        return f":{base64.b64encode(value).decode()}:"
    if isinstance(value, Token):
        if not _TOKEN.fullmatch(value):
            raise Invalid("not a token")
        return str(value)
    if isinstance(value, DisplayString):
        return _display(value)
    if not all(" " <= char <= "~" for char in value):
        raise Invalid("not an ASCII string")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Invalid("not a number")
    rounded = value.quantize(Decimal("0.001"), rounding=ROUND_HALF_EVEN)
    if abs(rounded) >= 10**12:
        raise Invalid("decimal out of bounds")
    whole, _, fraction = f"{rounded:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def _display(value: str) -> str:
    try:
        octets = value.encode("utf-8")
    except UnicodeEncodeError:
        raise Invalid("not Unicode text") from None
    body = "".join(
        chr(octet) if 0x20 <= octet <= 0x7E and octet not in (0x22, 0x25) else f"%{octet:02x}"
        for octet in octets
    )
    return f'%"{body}"'
