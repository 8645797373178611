"""Runs on the grid: what is nobody's yet, and who gives way to whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core.segments import SegmentMap
from distributor.delivery.run import Run, unclaimed

SIZE = 10


@st.composite
def layouts(draw: Any) -> tuple[SegmentMap, list[Run]]:
    """A map with some bytes present, and runs that could be at work on it."""
    length = draw(st.integers(1, 95))
    segments = SegmentMap(SIZE, length)
    for index in range(segments.count):
        filled = draw(st.sampled_from([0, 0, 1, 5, segments.extent(index)]))
        segments.accept(index * SIZE, min(filled, segments.extent(index)))
    runs: list[Run] = []
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, length - 1))
        gap = unclaimed(segments, runs, start, draw(st.none() | st.integers(start, length)))
        if gap is not None:
            runs.append(Run(*gap))
    return segments, runs


@given(layouts(), st.integers(0, 94), st.none() | st.integers(1, 95))
def test_unclaimed_stretch_is_absent_and_nobodys_and_the_first_such(
    layout: tuple[SegmentMap, list[Run]], position: int, stop: int | None
) -> None:
    segments, runs = layout
    length = segments.length or 0

    def claimed(at: int) -> bool:
        return any(run.covers(at) for run in runs)

    def absent(at: int) -> bool:
        return segments.available(at) == 0

    end = length if stop is None else min(stop, length)
    free = [at for at in range(min(position, length), end) if absent(at) and not claimed(at)]
    gap = unclaimed(segments, runs, position, stop)
    if gap is None:
        assert not free
        return
    start, upto = gap
    assert all(absent(at) and not claimed(at) for at in range(start, upto))
    assert start <= free[0] < upto
    # It may begin where its segment's prefix ends, and ends at a border, or where something begins.
    assert start % SIZE == segments.filled(start // SIZE) % SIZE
    assert upto == length or upto % SIZE == 0


@given(layouts())
def test_runs_made_one_after_the_other_cover_everything_once(layout: tuple[SegmentMap, list[Run]]) -> None:
    segments, runs = layout
    while (gap := unclaimed(segments, runs, 0, None)) is not None:
        runs.append(Run(*gap))
    for at in range(segments.length or 0):
        holders = sum(run.covers(at) for run in runs)
        assert holders == (0 if segments.available(at) else 1)


@pytest.mark.parametrize(
    ("busy_until", "filled", "halted", "stop"),
    [
        pytest.param(25, 0, False, 50, id="in-time"),
        pytest.param(50, 0, False, 50, id="just-in-time"),
        pytest.param(51, 0, True, 90, id="in-hand-already"),
        pytest.param(25, 3, True, 90, id="begun-already"),
    ],
)
def test_run_that_is_taken_on_takes_its_bytes_from_the_holder_unless_it_came_too_late(
    busy_until: int, filled: int, halted: bool, stop: int
) -> None:
    segments = SegmentMap(SIZE, 90)
    segments.accept(50, filled)
    holder, ahead = Run(20, 90), Run(50, 70)
    holder.busy_until, ahead.tentative = busy_until, True
    ahead.taken_on([holder, ahead], segments)
    assert (ahead.tentative, ahead.halted, holder.stop) == (False, halted, stop)


def test_what_lies_past_a_runs_end_is_dropped() -> None:
    run = Run(20, 25)
    assert run.take(b"0123456789") == b"01234"
    assert (run.busy_until, run.over) == (25, False)
    run.position = 25
    assert run.over


@pytest.mark.parametrize(("position", "near"), [(20, True), (29, True), (39, True), (40, False)])
def test_near_is_the_segment_being_filled_and_the_next(position: int, near: bool) -> None:
    assert Run(20, 90).near(position, SIZE) is near
