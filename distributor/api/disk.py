"""Reading blobs without making the event loop wait for the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

__all__ = ["WINDOW", "DiskReader"]

WINDOW = 1024 * 1024  # bytes looked at, and if need be read ahead, at a time
STEP = 128 * 1024  # the kernel's usual read-ahead: where one page is in memory its neighbours are
_THREADS = 8


class DiskReader:
    """Says whether bytes are in the page cache, and brings them there in a thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk-read")
        self._scratch = threading.local()
        self._probe = [bytearray(1)]

    def resident(self, fd: int, start: int, count: int) -> bool:
        """True when `count` bytes from `start` can be read without waiting, as far as samples tell.

        A file system that cannot say counts as one that must be waited for.
        """
        try:
            if count <= STEP:
                first = os.preadv(fd, self._probe, start, os.RWF_NOWAIT)
                return not first or os.preadv(fd, self._probe, start + count - 1, os.RWF_NOWAIT) >= 0
            for position in (*range(start, start + count, STEP), start + count - 1):
                if os.preadv(fd, self._probe, position, os.RWF_NOWAIT) != 1:
                    return True  # past the end: reading says so at once
        except BlockingIOError:
            return False
        except OSError as error:
            # What the disk refuses is met again, and told, by whoever reads.
            return error.errno not in (errno.EOPNOTSUPP, errno.EINVAL)
        return True

    async def load(self, fd: int, start: int, count: int) -> None:
        """Bring `count` <= WINDOW bytes into the page cache. Raises OSError."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._load, fd, start, count)

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
            scratch = self._scratch.buffer = bytearray(WINDOW)
        view = memoryview(scratch)[:count]
        os.preadv(fd, [view], start)
        # The next window will be wanted too; the kernel may begin on it now.
        os.posix_fadvise(fd, start + count, WINDOW, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Let the threads end; what they are reading is finished first."""
        self._threads.shutdown(wait=False)
