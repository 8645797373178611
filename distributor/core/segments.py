"""The segment map: which bytes of a blob are on disk.

A blob is laid out on a grid of segments of `size` bytes; the last one may be shorter. A segment is
filled from its start, so what is present of it is a prefix and one number says all. Segments may be
filled in any order. While the length is unknown the grid has no end.

    EMPTY ──accept──▶ PARTIAL ──accept──▶ FULL          set_length may turn PARTIAL into FULL

One byte a segment, searched by memchr: 20 GB at 1 MiB are 20,480 bytes. A complete map holds none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_EMPTY, _PARTIAL, _FULL = 0, 1, 2


class SegmentMap:
    """Which bytes of a representation are present.

    size      bytes of a segment, >= 1
    length    bytes of the whole, >= 0; None while unknown
    present   bytes present, 0..length
    """

    __slots__ = ("_partial", "_states", "length", "present", "size")

    def __init__(self, size: int, length: int | None) -> None:
        if size < 1 or (length is not None and length < 0):
            raise ValueError(f"no grid of {size} bytes over {length}")
        self.size = size
        self.length = length
        self.present = 0
        # None: every segment is full. Short of the grid's end: the rest is empty.
        self._states: bytearray | None = bytearray() if length != 0 else None
        self._partial: dict[int, int] = {}

    @classmethod
    def whole(cls, size: int, length: int) -> SegmentMap:
        """A map with every byte present."""
        made = cls(size, length)
        made.present = length
        made._states = None
        return made

    def dump(self) -> tuple[bytes, list[tuple[int, int]]]:
        """The map in two plain values for `load`: a byte a segment, and the partly filled ones.

        Copies memory and walks nothing, so that it is quick for a large map too. A complete map is
        (b"", []).
        """
        if self._states is None:
            return b"", []
        return bytes(self._states), list(self._partial.items())

    @classmethod
    def load(
        cls, size: int, length: int | None, states: bytes, partial: Iterable[tuple[int, int]]
    ) -> SegmentMap:
        """The map of a partial blob that `dump` told of. Raises ValueError if there can be no such map."""
        made = cls(size, length)
        cut = dict(partial)
        if length is not None and len(states) > made.count:
            raise ValueError(f"{len(states)} segments of {made.count}")
        if states.translate(None, b"\0\1\2") or states.count(_PARTIAL) != len(cut):
            raise ValueError("not a map")
        full = states.count(_FULL)
        made.present = full * size + sum(cut.values())
        if length is not None and len(states) == made.count and states.endswith(b"\2"):
            made.present -= size - made.extent(made.count - 1)
        for index, filled in cut.items():
            if not 0 <= index < len(states) or states[index] != _PARTIAL:
                raise ValueError(f"segment {index} is not partly filled")
            if not 0 < filled < made.extent(index):
                raise ValueError(f"segment {index} cannot hold {filled} bytes")
        if made.complete:
            return cls.whole(size, made.present)
        made._states = bytearray(states)
        made._partial = cut
        return made

    @property
    def complete(self) -> bool:
        """True when the length is known and every byte is present."""
        return self.present == self.length

    @property
    def count(self) -> int:
        """Segments of the whole; while the length is unknown, up to the last one with a byte."""
        if self.length is not None:
            return -(-self.length // self.size)
        return len(self._states or b"")

    def extent(self, index: int) -> int:
        """Bytes that segment `index` holds when full: `size`, less for the last, 0 past the end."""
        if self.length is None:
            return self.size
        return max(0, min(self.size, self.length - index * self.size))

    def filled(self, index: int) -> int:
        """Bytes present from the start of segment `index` (>= 0), 0..size; 0 past the end."""
        states = self._states
        if states is None:
            return self.extent(index)
        state = states[index] if index < len(states) else _EMPTY
        if state == _FULL:
            return self.extent(index)
        return self._partial[index] if state == _PARTIAL else 0

    def prefixes(self) -> Iterator[tuple[int, int]]:
        """(index, bytes filled) of every segment that has a byte, by index."""
        for index in range(self.count):
            if filled := self.filled(index):
                yield index, filled

    def available(self, position: int) -> int:
        """Bytes present without a gap from `position` (>= 0) on, across segments; may be 0."""
        states = self._states
        if states is None:
            return max(0, (self.length or 0) - position)
        index = position // self.size
        stop = self._first_not_full(index)
        end = stop * self.size
        if stop < len(states) and states[stop] == _PARTIAL:
            end += self._partial[stop]
        elif self.length is not None and end > self.length:
            end = self.length
        return max(0, end - position)

    def missing_from(self, position: int, stop: int | None = None) -> int | None:
        """First absent byte at or after `position` and before `stop`; None when there is none.

        stop  None: the length; while that is unknown there is always an absent byte.
        """
        first = position + self.available(position)
        end = self._end(stop)
        return first if end is None or first < end else None

    def missing_run(self, position: int, stop: int | None = None) -> tuple[int, int] | None:
        """The next bytes to ask for, half-open; None when none of [position, stop) is absent.

        From the first absent byte to where bytes are present again, or to `stop` rounded up to the
        grid, never past the length. With neither stop nor length: to the end of that segment.
        """
        first = self.missing_from(position, stop)
        if first is None:
            return None
        index = first // self.size
        end = self._end(stop)
        last = index + 1 if end is None else -(-end // self.size)
        again = self._first_not_empty(index + 1, last) * self.size
        return first, again if self.length is None else min(again, self.length)

    def accept(self, position: int, count: int) -> None:
        """Note `count` bytes (>= 0) at `position` as present.

        They must extend a segment's filled prefix; segments after the first must have been empty.
        Raises ValueError otherwise, or past the length; nothing is then changed.
        """
        self.check(position, count)
        while count:
            index, offset = divmod(position, self.size)
            taken = min(count, self.size - offset)
            self._put(index, offset + taken)
            self.present += taken
            position += taken
            count -= taken
        if self.complete:
            self._states = None
            self._partial = {}

    def check(self, position: int, count: int) -> None:
        """Raise the ValueError that `accept` would, change nothing."""
        if position < 0 or count < 0:
            raise ValueError(f"no {count} bytes at {position}")
        if not count:
            return
        if self.length is not None and position + count > self.length:
            raise ValueError(f"{count} bytes at {position} are past the length {self.length}")
        first, offset = divmod(position, self.size)
        if self.filled(first) != offset:
            raise ValueError(f"segment {first} is filled to {self.filled(first)}, not to {offset}")
        last = (position + count - 1) // self.size
        if last > first and (met := self._first_not_empty(first + 1, last + 1)) <= last:
            raise ValueError(f"segment {met} has bytes already")

    def set_length(self, length: int) -> None:
        """Fix the length once it is known; may be repeated with the same.

        Raises ValueError when it was another, or when bytes past it are present.
        """
        if self.length is not None:
            if self.length != length:
                raise ValueError(f"the length is {self.length}, not {length}")
            return
        states = self._states if self._states is not None else bytearray()
        last = len(states) - 1
        if length < 0 or (last >= 0 and last * self.size + self.filled(last) > length):
            raise ValueError(f"bytes past {length} are present")
        self.length = length
        if last in self._partial and self._partial[last] == self.extent(last):
            del self._partial[last]
            states[last] = _FULL
        if self.complete:
            self._states = None
            self._partial = {}

    def _end(self, stop: int | None) -> int | None:
        if stop is None or self.length is None:
            return self.length if stop is None else stop
        return min(stop, self.length)

    def _put(self, index: int, filled: int) -> None:
        states = self._states
        assert states is not None
        if index >= len(states):
            states.extend(bytes(index + 1 - len(states)))
        if filled == self.extent(index):
            states[index] = _FULL
            self._partial.pop(index, None)
        else:
            states[index] = _PARTIAL
            self._partial[index] = filled

    def _first_not_full(self, index: int) -> int:
        """First segment at or after `index` that is not full; may lie past the grid's end."""
        states = self._states
        assert states is not None
        empty = states.find(_EMPTY, index)
        if empty < 0:
            empty = max(index, len(states))
        if self._partial:
            partial = states.find(_PARTIAL, index, empty)
            if partial >= 0:
                return partial
        return empty

    def _first_not_empty(self, index: int, stop: int) -> int:
        """First segment of [index, stop) that has a byte; `stop` when there is none."""
        states = self._states
        if states is None:
            return index if index < stop else stop
        full = states.find(_FULL, index, stop)
        if full < 0:
            full = stop
        if self._partial:
            partial = states.find(_PARTIAL, index, full)
            if partial >= 0:
                return partial
        return full

    def __repr__(self) -> str:
        return f"SegmentMap(size={self.size}, length={self.length}, present={self.present})"
