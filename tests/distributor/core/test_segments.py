from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from distributor.core.segments import SegmentMap

SIZE = 4
EDGE = 40


class AgainstASetOfBytes(RuleBasedStateMachine):
    """The model is a plain set of byte positions."""

    @initialize(length=st.one_of(st.none(), st.integers(0, EDGE)))
    def begin(self, length: int | None) -> None:
        self.map = SegmentMap(SIZE, length)
        self.length = length
        self.bytes: set[int] = set()

    def model_takes(self, position: int, count: int) -> bool:
        """A prefix of its segment goes up to `position`, and nothing of the new bytes was there."""
        new = range(position, position + count)
        if self.length is not None and position + count > self.length:
            return count == 0
        before = range(position - position % SIZE, position)
        rest = range(position, -(-(position + count) // SIZE) * SIZE)
        return not count or (set(before) <= self.bytes and not self.bytes & set(rest) and bool(new))

    @rule(position=st.integers(0, EDGE), count=st.integers(0, 3 * SIZE))
    def accept(self, position: int, count: int) -> None:
        if self.model_takes(position, count):
            self.map.accept(position, count)
            self.bytes |= set(range(position, position + count))
        else:
            with pytest.raises(ValueError):
                self.map.accept(position, count)

    @rule(index=st.integers(0, EDGE // SIZE), count=st.integers(1, 2 * SIZE))
    def extend(self, index: int, count: int) -> None:
        self.accept(index * SIZE + self.map.filled(index), count)

    @precondition(lambda self: self.length is None)
    @rule(more=st.integers(-1, 2 * SIZE))
    def set_length(self, more: int) -> None:
        length = max(self.bytes, default=-1) + 1 + more
        if more < 0:
            with pytest.raises(ValueError):
                self.map.set_length(length)
        else:
            self.map.set_length(length)
            self.length = length

    @invariant()
    def agrees(self) -> None:
        m, length = self.map, self.length
        assert m.present == len(self.bytes)
        assert m.length == length
        assert m.complete == (length is not None and self.bytes == set(range(length)))
        top = max(self.bytes, default=-1)
        assert m.count == -(-(length if length is not None else top + 1) // SIZE)
        for index in range(EDGE // SIZE + 3):
            assert m.filled(index) == len(self.bytes & set(range(index * SIZE, (index + 1) * SIZE)))
        if m.complete:
            assert m.dump() == (b"", [])
            again = SegmentMap.whole(SIZE, m.present)
        else:
            again = SegmentMap.load(SIZE, length, *m.dump())
        assert again.present == m.present
        assert list(again.prefixes()) == list(m.prefixes())
        for position in range(EDGE + 2 * SIZE):
            run = 0
            while position + run in self.bytes:
                run += 1
            assert m.available(position) == run == again.available(position)
            for stop in (None, position, position + 1, position + SIZE, EDGE):
                self.missing_agrees(position, stop)

    def missing_agrees(self, position: int, stop: int | None) -> None:
        ends = [e for e in (stop, self.length) if e is not None]
        end = min(ends) if ends else 10 * EDGE
        absent = [b for b in range(position, end) if b not in self.bytes]
        run = self.map.missing_run(position, stop)
        if not absent:
            assert self.map.missing_from(position, stop) is None
            assert run is None
            return
        assert self.map.missing_from(position, stop) == absent[0]
        assert run is not None
        assert run[0] == absent[0]
        assert not self.bytes & set(range(*run))
        assert run[1] == self.length or run[1] % SIZE == 0
        if not ends:
            assert run[1] == (absent[0] // SIZE + 1) * SIZE
        elif run[1] < end:
            assert run[1] in self.bytes
        else:
            assert run[1] - end < SIZE


TestAgainstASetOfBytes = AgainstASetOfBytes.TestCase
TestAgainstASetOfBytes.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_bytes_that_do_not_touch_the_filled_prefix_are_refused_and_change_nothing() -> None:
    m = SegmentMap(4, 16)
    m.accept(4, 2)
    for position, count in [(5, 1), (7, 1), (0, 5), (15, 2), (-1, 1), (0, -1)]:
        with pytest.raises(ValueError):
            m.accept(position, count)
    assert list(m.prefixes()) == [(1, 2)]
    assert m.present == 2


def test_a_whole_of_no_bytes_is_complete_from_the_start() -> None:
    m = SegmentMap(4, 0)
    assert m.complete
    assert (m.count, m.available(0), m.missing_from(0), m.missing_run(0)) == (0, 0, None, None)


def test_a_body_of_unknown_length_that_ended_empty_is_complete() -> None:
    m = SegmentMap(4, None)
    assert not m.complete
    m.set_length(0)
    assert m.complete


def test_the_length_cannot_change_once_it_is_known() -> None:
    m = SegmentMap(4, 10)
    m.set_length(10)
    with pytest.raises(ValueError):
        m.set_length(11)


@pytest.mark.parametrize(
    ("states", "partial"),
    [
        (b"\1", [(0, 4)]),
        (b"\1", [(0, 0)]),
        (b"\1", [(0, -1)]),
        (b"\0\0\0\1", [(3, 3)]),
        (b"\2\2\2\2\2", []),
        (b"\3", []),
        (b"\1", []),
        (b"\2", [(0, 1)]),
        (b"\1", [(1, 1)]),
        (b"\1", [(-1, 1)]),
    ],
    ids=[
        "a full segment said to be partial",
        "an empty one said to be partial",
        "less than empty",
        "the last one longer than it is",
        "more segments than there are",
        "a state that is none",
        "partial, but how far",
        "full and partial",
        "another segment's prefix",
        "before the first",
    ],
)
def test_a_map_that_cannot_be_is_refused(states: bytes, partial: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError):
        SegmentMap.load(4, 15, states, partial)


@given(size=st.integers(1, 9), length=st.integers(0, 60))
def test_a_whole_map_equals_one_filled_byte_by_byte(size: int, length: int) -> None:
    filled = SegmentMap(size, length)
    for position in range(length):
        assert not filled.complete
        filled.accept(position, 1)
    whole = SegmentMap.whole(size, length)
    assert filled.complete and whole.complete
    assert list(filled.prefixes()) == list(whole.prefixes())
    assert all(whole.available(p) == filled.available(p) == length - p for p in range(length))


def test_looking_for_gaps_in_a_film_of_20_gb_takes_microseconds() -> None:
    m = SegmentMap(1 << 20, 20 << 30)
    m.accept(0, (20 << 30) - 1)
    begun = time.perf_counter()
    for _ in range(1000):
        assert m.available(5) == (20 << 30) - 6
    assert time.perf_counter() - begun < 1.0
