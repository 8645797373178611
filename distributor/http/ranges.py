"""Byte ranges: Range → spans, Content-Range, and the framing of multipart/byteranges (RFC 9110 §14)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from distributor.errors import RangeNotSatisfiable as RangeNotSatisfiable

MAX_RANGES = 16
POSITION_LIMIT = 10**19
"""What a larger position counts as: past the end of anything (2^63 < 10^19)."""


class Span(NamedTuple):
    """Bytes [start, stop) of a representation; 0 <= start <= stop."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


_UNIT = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL | re.ASCII)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")

_Spec = tuple[int | None, int | None]
"""(first, last), both inclusive; (None, n) is the suffix of n bytes, (n, None) goes to the end."""


def select_spans(
    range_values: Sequence[str], complete_length: int, max_ranges: int = MAX_RANGES
) -> list[Span] | None:
    """Return the bytes that Range asks for, or None to send the whole.

    range_values     values of the Range field lines, as received; may be empty
    complete_length  length of the representation, bytes, >= 0
    max_ranges       a field that lists more ranges is ignored (§14.2 allows it)

    None means "act as if Range were absent": no line or more than one, another unit, bad syntax, too
    many ranges, or a suffix of an empty representation, of which the whole is all there is.

    The spans are within the representation, not empty, disjoint and not adjacent, in the order
    asked for; merged ones stand where the first of them stood. There is at least one.

    Raises RangeNotSatisfiable when each range begins at or past the end or is a suffix of 0 bytes.
    """
    specs = _parse(range_values)
    if specs is None or len(specs) > max_ranges:
        return None
    if len(specs) == 1:
        span = _select(specs[0], complete_length)
        spans = [] if span is None else [span]
    else:
        spans = _merge([span for spec in specs if (span := _select(spec, complete_length)) is not None])
    if not spans:
        raise RangeNotSatisfiable(complete_length)
    # Only a suffix of an empty representation selects no bytes and is satisfiable all the same.
    return spans if spans[0].length else None


def first_position(range_values: Sequence[str]) -> tuple[int, int | None] | None:
    """(first, last) of a lone `bytes=a-b` or `bytes=a-` (last None), both inclusive; else None.

    For a representation whose length is not known yet. Positions past 10^19 are given as 10^19.
    """
    specs = _parse(range_values)
    if specs is None or len(specs) != 1:
        return None
    first, last = specs[0]
    return None if first is None else (first, last)


def _parse(range_values: Sequence[str]) -> list[_Spec] | None:
    if len(range_values) != 1:
        return None
    found = _UNIT.fullmatch(range_values[0].strip(" \t"))
    if found is None:
        return None
    specs: list[_Spec] = []
    for element in found.group(1).split(","):
        member = element.strip(" \t")
        if not member:
            continue
        spec = _parse_spec(member)
        if spec is None:
            return None
        specs.append(spec)
    return specs or None


def _parse_spec(member: str) -> _Spec | None:
    found = _SPEC.fullmatch(member)
    if found is None:
        return None
    first, last = (digits.lstrip("0") or "0" if digits else None for digits in found.groups())
    if first is None:
        return None if last is None else (None, _position(last))
    if last is None:
        return _position(first), None
    # Compared as digits, so that two positions past the limit keep their order.
    if (len(last), last) < (len(first), first):
        return None
    return _position(first), _position(last)


def _position(digits: str) -> int:
    return int(digits) if len(digits) < 20 else POSITION_LIMIT


def _select(spec: _Spec, length: int) -> Span | None:
    """The bytes of one range; None when it is unsatisfiable (§14.1.2)."""
    first, last = spec
    if first is None:
        return Span(max(0, length - last), length) if last else None
    if first >= length:
        return None
    return Span(first, length if last is None else min(last + 1, length))


def _merge(spans: list[Span]) -> list[Span]:
    """Join what overlaps or touches; each group stands where its first member stood."""
    ordered = sorted(range(len(spans)), key=lambda index: spans[index])
    groups: list[tuple[int, Span]] = []
    for index in ordered:
        span = spans[index]
        if groups and span.start <= groups[-1][1].stop:
            place, grown = groups[-1]
            groups[-1] = (min(place, index), Span(grown.start, max(grown.stop, span.stop)))
        else:
            groups.append((index, span))
    return [span for _, span in sorted(groups)]


# Content-Range (RFC 9110 §14.4)


def content_range(span: Span, complete_length: int | None) -> str:
    """Content-Range value of a 206; complete_length None: not known, written `*`. The span is not empty."""
    total = "*" if complete_length is None else complete_length
    return f"bytes {span.start}-{span.stop - 1}/{total}"


def unsatisfied_range(complete_length: int) -> str:
    """Content-Range value of a 416."""
    return f"bytes */{complete_length}"


_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE | re.ASCII)


def parse_content_range(value: str | None) -> tuple[Span, int | None] | None:
    """The span and the complete length (None for `*`) of a 206's Content-Range.

    None: absent, several lines combined, another unit, the unsatisfied form, or a contradiction
    (last before first, past the complete length): the answer is then not to be used.
    """
    found = _CONTENT_RANGE.fullmatch(value.strip(" \t")) if value is not None else None
    if found is None:
        return None
    first, last = int(found.group(1)), int(found.group(2))
    total = None if found.group(3) == "*" else int(found.group(3))
    if last < first or (total is not None and last >= total):
        return None
    return Span(first, last + 1), total


# multipart/byteranges (RFC 9110 §14.6, RFC 2046 §5.1.1)

_BOUNDARY = re.compile(r"[0-9A-Za-z'+_.\-]{1,70}")


class Multipart:
    """Framing of several spans. The body is preambles[0], bytes of spans[0], …, closing.

    spans         two or more, each within complete_length
    content_type  of the representation; None: parts have no Content-Type
    boundary      1–70 of `0-9 A-Z a-z ' + _ . -`, made at random by the caller, so that it does not
                  occur in the bytes
    """

    __slots__ = ("closing", "content_length", "content_type", "preambles", "spans")

    def __init__(
        self, spans: Sequence[Span], complete_length: int, content_type: str | None, boundary: str
    ) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise ValueError("not a boundary that needs no quotes")
        part_type = f"Content-Type: {content_type}\r\n" if content_type is not None else ""
        self.spans = list(spans)
        self.preambles = [
            (
                f"\r\n--{boundary}\r\n{part_type}"
                f"Content-Range: {content_range(span, complete_length)}\r\n\r\n"
            ).encode("utf-8", "surrogateescape")
            for span in self.spans
        ]
        # The line break before a delimiter belongs to it; the first one needs none.
        self.preambles[0] = self.preambles[0][2:]
        self.closing = f"\r\n--{boundary}--\r\n".encode("ascii")
        self.content_type = f"multipart/byteranges; boundary={boundary}"
        self.content_length = (
            sum(map(len, self.preambles)) + sum(span.length for span in self.spans) + len(self.closing)
        )
