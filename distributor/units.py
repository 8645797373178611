"""Sizes and durations as people write them: "500G" ↔ bytes, "60s" ↔ seconds. Pure.

Sizes count in powers of 1024. Both directions agree: what `format_*` writes, `parse_*` reads
back to the same value.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

__all__ = ["format_bytes", "format_duration", "parse_bytes", "parse_duration"]

_BYTE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECOND_UNITS = {
    "ms": Decimal("0.001"),
    "": Decimal(1),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(?:iB)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|[smhd]?)", re.ASCII)
# int() of more digits than this is refused by Python itself, with a message that helps nobody.
_MAX_LENGTH = 64


def parse_bytes(value: str | int) -> int:
    """Return the number of bytes, >= 0, that `value` stands for.

    value  a whole number of bytes, or text: "1048576", "64K", "1M", "1.5G", "2T", "1GiB";
           the letters mean powers of 1024, in either case

    Raises ValueError for anything else: below 0, no whole number of bytes, another unit. "GB" is
    refused because people mean two different numbers by it.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"must be a size such as 500G, not {value!r}")
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"a size is never below 0, as {value} is")
        return value
    match = _SIZE.fullmatch(value.strip()) if len(value) <= _MAX_LENGTH else None
    if match is None:
        raise ValueError(f"must be a size such as 500G (K, M, G, T are powers of 1024), not {value[:64]!r}")
    size = Decimal(match[1]) * _BYTE_UNITS[match[2].upper()]
    if size != size.to_integral_value():
        raise ValueError(f"{value!r} is no whole number of bytes")
    return int(size)


def format_bytes(size: int) -> str:
    """Return `size` (bytes, >= 0) in the largest unit that divides it: 1073741824 → "1G", 1500 → "1500"."""
    if size < 0:
        raise ValueError(f"a size is never below 0, as {size} is")
    for unit in ("T", "G", "M", "K"):
        if size and size % _BYTE_UNITS[unit] == 0:
            return f"{size // _BYTE_UNITS[unit]}{unit}"
    return str(size)


def parse_duration(value: str | int | float) -> float:
    """Return the seconds, finite and >= 0, that `value` stands for.

    value  a number of seconds, or text: "500ms", "60s", "5m", "2h", "1d", "1.5h", "90"

    Raises ValueError for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a duration such as 60s, not {value!r}")
    if isinstance(value, int | float):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"a duration is finite and never below 0, as {value} is not")
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if len(value) <= _MAX_LENGTH else None
    if match is None:
        raise ValueError(f"must be a duration such as 60s (ms, s, m, h, d), not {value[:64]!r}")
    return float(Decimal(match[1]) * _SECOND_UNITS[match[2]])


def format_duration(seconds: float) -> str:
    """Return `seconds` (finite, >= 0) in the largest unit that divides it: 86400 → "1d", 0.5 → "500ms"."""
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"a duration is finite and never below 0, as {seconds} is not")
    exact = Decimal(repr(float(seconds)))
    if exact == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / _SECOND_UNITS[unit]
        if count == count.to_integral_value() and count * _SECOND_UNITS[unit] == exact:
            return f"{int(count)}{unit}"
    return f"{exact:f}s"
