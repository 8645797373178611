"""A disk whose nth call fails, or every call after it, or all of one kind.

disk = FaultyDisk(nth=7)                          the seventh call raises EIO, once
disk = FaultyDisk(nth=7, error=ENOSPC, lasting=True)
disk = FaultyDisk(only="pwrite", lasting=True)    writes fail, all else works
disk.heal()
"""

from __future__ import annotations

import errno
import os
import threading

from distributor.store.blobs import Disk


class FaultyDisk(Disk):
    """Syncs of files are counted and not made: no test pulls the plug, and they are slow.

    calls: names of the calls made so far, in order. failed: how many of them were made to fail.
    """

    def __init__(
        self,
        nth: int | None = None,
        *,
        error: int = errno.EIO,
        only: str | None = None,
        lasting: bool = False,
        short: bool = False,
    ) -> None:
        self.calls: list[str] = []
        self.failed = 0
        self.short = short
        self._nth = nth if nth is not None else (1 if only else None)
        self._error = error
        self._only = only
        self._lasting = lasting
        self._lock = threading.Lock()

    def heal(self) -> None:
        self._nth = None

    def _count(self, name: str) -> None:
        with self._lock:
            self.calls.append(name)
            if self._nth is None or (self._only is not None and name != self._only):
                return
            counted = self.calls.count(name) if self._only else len(self.calls)
            if counted == self._nth or (self._lasting and counted > self._nth):
                self.failed += 1
                raise OSError(self._error, f"made to fail: {name}, call {len(self.calls)}")

    def open(self, path: str, flags: int) -> int:
        self._count("open")
        return super().open(path, flags)

    def close(self, fd: int) -> None:
        # close(2) gives the descriptor back though it fails.
        super().close(fd)
        self._count("close")

    def pwrite(self, fd: int, data: memoryview, position: int) -> int:
        if self.short and len(data) > 1:
            data = data[: len(data) // 2]
        try:
            self._count("pwrite")
        except OSError:
            # Some of it may have gone to the disk all the same.
            os.pwrite(fd, bytes(len(data) // 2), position)
            raise
        return super().pwrite(fd, data, position)

    def pread(self, fd: int, count: int, position: int) -> bytes:
        self._count("pread")
        return super().pread(fd, count, position)

    def fdatasync(self, fd: int) -> None:
        self._count("fdatasync")

    def sync_directory(self, path: str) -> None:
        self._count("sync_directory")

    def ftruncate(self, fd: int, length: int) -> None:
        self._count("ftruncate")
        super().ftruncate(fd, length)

    def unlink(self, path: str) -> None:
        self._count("unlink")
        super().unlink(path)

    def rename(self, old: str, new: str) -> None:
        self._count("rename")
        super().rename(old, new)

    def stat(self, path: str) -> os.stat_result:
        self._count("stat")
        return super().stat(path)

    def fstat(self, fd: int) -> os.stat_result:
        self._count("fstat")
        return super().fstat(fd)

    def names(self, path: str) -> list[str]:
        self._count("names")
        return super().names(path)

    def make_directory(self, path: str) -> None:
        self._count("make_directory")
        super().make_directory(path)

    def index(self) -> None:
        self._count("index")
