"""What a fetch still brings when the store takes no more: a bounded stretch of bytes in memory.

Readers at or behind its last byte follow it; the source is read no faster than the slowest of them.
A reader that has fallen behind the first byte held goes to a source on its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from collections.abc import Callable

from distributor.delivery.run import Run

LIMIT = 4 * 1024 * 1024  # bytes held
PATIENCE = 1.0  # seconds to wait for a slow reader that could go on by itself
LAST_PATIENCE = 60.0  # for one that could not


class Tail:
    """Bytes [base, base + held) of a body, the only copy of them.

    run        the one run that feeds it
    origin     its first byte: what lies before is on disk, as far as it ever was
    hasher     sha-256 of everything before `origin`, to go on with; None: not to be checked
    droppable  bytes may be dropped before all readers had them: those can fetch them again
    end        length of the whole, once the body of unknown length is over
    """

    def __init__(self, run: Run, hasher: hashlib._Hash | None, *, droppable: bool) -> None:
        self.run = run
        self.origin = self.base = run.position
        self.end: int | None = None
        self._hasher = hasher
        self._droppable = droppable
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._room = asyncio.Event()

    async def push(self, data: bytes, slowest: Callable[[], int | None]) -> None:
        """Append; waits while more than LIMIT bytes are held for a reader that is behind.

        slowest  position up to which every reader that follows has what it needs; None: no reader
        """
        if self._hasher is not None:
            self._hasher.update(data)
        self.trim(slowest())
        if self._full(data):
            try:
                async with asyncio.timeout(PATIENCE if self._droppable else LAST_PATIENCE):
                    while self._full(data):
                        self._room.clear()
                        await self._room.wait()
                        self.trim(slowest())
            except TimeoutError:
                while self._full(data):
                    self._drop()
        self._chunks.append(data)
        self._held += len(data)

    def _full(self, data: bytes) -> bool:
        return self._held > 0 and self._held + len(data) > LIMIT

    def trim(self, slowest: int | None) -> None:
        """Drop what every reader has passed; `slowest` as in push."""
        while self._chunks and (slowest is None or self.base + len(self._chunks[0]) <= slowest):
            self._drop()
        self._room.set()

    def _drop(self) -> None:
        chunk = self._chunks.popleft()
        self.base += len(chunk)
        self._held -= len(chunk)

    def follows(self, position: int) -> bool:
        """Whether a reader at `position` can still be brought on by what the tail holds and gets."""
        return position >= self.base or self.base == self.origin

    def will_bring(self, position: int) -> bool:
        """Whether it is worth waiting for the byte at `position`, which is neither held nor on disk."""
        if not self.run.covers(position):
            return False
        return not self._droppable or position < self.run.position + LIMIT

    def read(self, position: int) -> bytes | None:
        """Some bytes from `position` on, at least one; None when none is held there."""
        start = self.base
        if position < start:
            return None
        for chunk in self._chunks:
            if position < start + len(chunk):
                return chunk[position - start :]
            start += len(chunk)
        return None

    def digest(self, length: int | None) -> bytes | None:
        """sha-256 of the whole of `length` bytes; None unless all of it has passed and was hashed."""
        length = self.end if self.end is not None else length
        if self._hasher is None or self.run.position != length:
            return None
        return self._hasher.digest()


def hash_prefix(fd: int, stop: int) -> hashlib._Hash:
    """sha-256 state after the first `stop` bytes of an open file; for a thread. Raises OSError."""
    hasher = hashlib.sha256()
    position = 0
    while position < stop:
        data = os.pread(fd, min(1 << 20, stop - position), position)
        if not data:
            raise OSError("the blob is shorter than its map")
        hasher.update(data)
        position += len(data)
    return hasher
