"""Reading blobs without making the event loop wait for the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

__all__ = ["STEP", "WINDOW", "DiskReader", "Pages"]

WINDOW = 1024 * 1024  # bytes looked at, and if need be read ahead, at a time
STEP = 128 * 1024  # the kernel's usual read-ahead: where one page is in memory its neighbours are
FRESH = 1.0  # seconds for which a step that was in the page cache is taken to be there still
_THREADS = 8


class Pages:
    """The steps of one file that were seen in the page cache; true until then, by the monotonic clock."""

    __slots__ = ("steps", "until")

    def __init__(self) -> None:
        self.steps: set[int] = set()
        self.until = 0.0


class DiskReader:
    """Says whether bytes are in the page cache, and brings them there in a thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk-read")
        self._scratch = threading.local()
        self._probe = [bytearray(1)]
        self._files: dict[tuple[int, int], Pages] = {}
        self._forget_at = 0.0

    def pages(self, fd: int, clock: float) -> Pages:
        """What is known of the file that `fd` is open on, whoever learned it; clock: monotonic, now.

        Raises OSError.
        """
        if clock >= self._forget_at:
            # All at once: what nobody reads any more must not pile up, film by film.
            self._files.clear()
            self._forget_at = clock + FRESH
        stat = os.fstat(fd)
        return self._files.setdefault((stat.st_dev, stat.st_ino), Pages())

    def resident(self, fd: int, start: int, count: int, known: Pages, clock: float) -> bool:
        """True when `count` > 0 bytes from `start` can be read without waiting, as far as samples tell.

        A step is looked at anew when it was not seen for FRESH; clock: monotonic, now. A file system
        that cannot say counts as one that must be waited for.
        """
        steps = known.steps
        if clock >= known.until:
            steps.clear()
            known.until = clock + FRESH
        first, last = start // STEP, (start + count - 1) // STEP
        for step in range(first, last + 1):
            if step not in steps:
                begin, end = step * STEP, (step + 1) * STEP
                if self._seen(fd, begin) and (first < step < last or self._seen(fd, end - 1)):
                    steps.add(step)
                elif not (self._seen(fd, max(start, begin)) and self._seen(fd, min(start + count, end) - 1)):
                    return False
        return True

    def _seen(self, fd: int, position: int) -> bool:
        """Whether the byte there is in the page cache."""
        try:
            # Past the end of the file there is nothing to wait for: reading says so at once.
            return os.preadv(fd, self._probe, position, os.RWF_NOWAIT) >= 0
        except BlockingIOError:
            return False
        except OSError as error:
            # What the disk refuses is met again, and told, by whoever reads.
            return error.errno not in (errno.EOPNOTSUPP, errno.EINVAL)

    async def load(self, fd: int, start: int, count: int) -> None:
        """Bring `count` <= WINDOW bytes, and what else their steps hold, into the page cache.

        Raises OSError.
        """
        first = start // STEP * STEP
        stop = -(-(start + count) // STEP) * STEP
        await asyncio.get_running_loop().run_in_executor(self._threads, self._load, fd, first, stop - first)

    async def read(self, fd: int, start: int, count: int) -> bytes:
        """Return `count` <= WINDOW bytes; fewer only at the end of the file. Raises OSError."""
        try:
            buffer = bytearray(count)
            if os.preadv(fd, [buffer], start, os.RWF_NOWAIT) == count:
                return bytes(buffer)
        except OSError:
            pass
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, os.pread, fd, count, start)

    def _load(self, fd: int, start: int, count: int) -> None:
        scratch = getattr(self._scratch, "buffer", None)
        if scratch is None:
            scratch = self._scratch.buffer = bytearray(WINDOW + 2 * STEP)
        view = memoryview(scratch)[:count]
        os.preadv(fd, [view], start)
        # The next window will be wanted too; the kernel may begin on it now.
        os.posix_fadvise(fd, start + count, WINDOW, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Let the threads end; what they are reading is finished first."""
        self._threads.shutdown(wait=False)
