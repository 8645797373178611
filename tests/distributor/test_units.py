"""Sizes and durations read and written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.units import format_bytes, format_duration, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        (1500, 1500),
        ("64K", 65536),
        ("64k", 65536),
        ("1M", 1 << 20),
        ("1.5G", 3 << 29),
        ("500G", 500 << 30),
        ("2T", 2 << 40),
        ("1GiB", 1 << 30),
        (" 10 G ", 10 << 30),
    ],
)
def test_size_counts_in_powers_of_1024(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "G",
        "-1",
        "1GB",
        "1P",
        "1,5G",
        "1e3",
        "0.1",
        "1.0001K",
        "0x10",
        "١K",
        "1 G B",
        "9" * 100,
        -1,
        True,
        1.5,
    ],
    ids=repr,
)
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"size|whole number"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("60s", 60.0),
        ("90", 90.0),
        (90, 90.0),
        (0.25, 0.25),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("0.1s", 0.1),
    ],
)
def test_duration_is_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "-1s", "1w", "1 hour", "1h30m", "inf", "nan", "1e3", -1, True, float("inf"), float("nan")],
    ids=repr,
)
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1500, "1500"), (1024, "1K"), (1 << 30, "1G"), (3 << 29, "1536M"), (1 << 50, "1024T")],
)
def test_size_is_written_in_the_largest_unit_that_divides_it(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (60, "1m"), (90, "90s"), (86400, "1d"), (0.0001, "0.0001s")],
)
def test_duration_is_written_in_the_largest_unit_that_divides_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 1 << 70))
def test_size_written_reads_back(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


@given(st.floats(0, 1e15, allow_nan=False, allow_subnormal=False) | st.integers(0, 10**9).map(float))
def test_duration_written_reads_back(seconds: float) -> None:
    written = format_duration(seconds)
    assert len(written) > 64 or parse_duration(written) == seconds


@given(st.text() | st.integers() | st.floats())
def test_any_value_is_read_or_refused_with_value_error(value: str | float) -> None:
    for parse in (parse_bytes, parse_duration):
        with contextlib.suppress(ValueError):
            assert parse(value) >= 0  # type: ignore[operator]
