"""The system calls that the local backend makes, each in one place, so that a test can fail the nth.

All block; `backends/local.py` calls them in threads. Names are relative to a directory's descriptor:
between a check and its use nobody can put a link in the way.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """Thin: raises what the operating system raises."""

    def open_root(self, root: str) -> int:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_folder(self, name: str, folder: int) -> int:
        """Raise OSError(ELOOP or ENOTDIR) for a link."""
        return os.open(name, _DIRECTORY, dir_fd=folder)

    def open_read(self, name: str, folder: int) -> int:
        # O_NONBLOCK: opening a FIFO must not wait for its other end.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(name, flags, dir_fd=folder)

    def create(self, name: str, folder: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o644, dir_fd=folder)

    def reopen(self, name: str, folder: int) -> int:
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)

    def make_folder(self, name: str, folder: int) -> None:
        os.mkdir(name, 0o755, dir_fd=folder)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(descriptor, data, offset)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        return os.pread(descriptor, length, offset)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def stat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def stat_name(self, name: str, folder: int) -> os.stat_result:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def rename(self, old: str, old_folder: int, new: str, new_folder: int) -> None:
        os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)

    def link(self, old: str, old_folder: int, new: str, new_folder: int) -> None:
        """Raise FileExistsError when the new name is taken: the rename that never replaces."""
        os.link(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder, follow_symlinks=False)

    def unlink(self, name: str, folder: int) -> None:
        os.unlink(name, dir_fd=folder)

    def remove_folder(self, name: str, folder: int) -> None:
        os.rmdir(name, dir_fd=folder)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def names(self, folder: int) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (name, its stat) of what lies in a folder, in no order; what vanished meanwhile is left out.

        Whoever does not take all closes it.
        """
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.name, self.stat_name(entry.name, folder)
                except FileNotFoundError:
                    continue

    def space(self, descriptor: int) -> tuple[int, int]:
        """Return (bytes in all, bytes that can still be written)."""
        result = os.statvfs(descriptor)
        return result.f_blocks * result.f_frsize, result.f_bavail * result.f_frsize


def is_file(mode: int) -> bool:
    return modes.S_ISREG(mode)


def is_folder(mode: int) -> bool:
    return modes.S_ISDIR(mode)


def is_link(mode: int) -> bool:
    return modes.S_ISLNK(mode)
