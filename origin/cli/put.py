"""`origin put`: files and folders of any size, in constant memory, each checked end to end."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from origin.cli.remote import Refused, Remote, answer_of, remote_options

PIECE = 1 << 20
ATTEMPTS = 4
_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Upload:
    """One file on its way: `source` here to `path` on the storage."""

    source: Path
    path: str
    size: int


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.argument("target", metavar="STORAGE:PATH")
@click.option("--at-once", type=click.IntRange(1, 16), default=2, show_default=True, help="Files at once.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@remote_options
async def put(remote: Remote, sources: tuple[Path, ...], target: str, at_once: int, quiet: bool) -> None:
    """Copy FILES and folders to a storage.

    One file goes to exactly PATH, unless that is empty or ends in "/"; else all go below PATH, folders
    with their names. A file that is there already is replaced, and keeps its id.
    """
    storage, colon, path = target.partition(":")
    if not colon or not storage:
        raise click.UsageError("the last argument must be STORAGE:PATH, e.g. media:news/")
    uploads = list(plan(sources, path))
    if not uploads:
        raise click.ClickException("nothing to copy: no files there")
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not Console(stderr=True).is_terminal,
    )
    total = progress.add_task(f"{len(uploads)} files", total=sum(upload.size for upload in uploads))
    queue = iter(uploads)
    failures: list[str] = []

    async def work(session: aiohttp.ClientSession) -> None:
        for upload in queue:
            try:
                found = await _send(remote, session, storage, upload, progress, total)
            except (Refused, OSError, click.ClickException) as error:
                message = error.message if isinstance(error, click.ClickException) else str(error)
                failures.append(f"{upload.source}: {message}")
                continue
            line = f"{found}\t{upload.path}"
            if progress.disable:
                click.echo(line)
            else:
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    with progress:
        async with remote.session() as session:
            await asyncio.gather(*(work(session) for _ in range(at_once)))
    for failure in failures:
        click.echo(failure, err=True)
    if failures:
        raise click.ClickException(f"{len(failures)} of {len(uploads)} files were not copied")


def plan(sources: tuple[Path, ...], path: str) -> Iterator[Upload]:
    """Yield what goes where. Links to folders are not followed; what is no file is left out."""
    lead = path.strip("/")
    exact = len(sources) == 1 and not sources[0].is_dir() and lead and not path.endswith("/")
    for source in sources:
        if not source.is_dir():
            name = lead if exact else "/".join(part for part in (lead, source.name) if part)
            yield Upload(source, name, source.stat().st_size)
            continue
        top = source.resolve().name
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                file = Path(folder) / name
                if file.is_file():
                    inside = file.relative_to(source).as_posix()
                    target = "/".join(part for part in (lead, top, inside) if part)
                    yield Upload(file, target, file.stat().st_size)


async def _send(
    remote: Remote,
    session: aiohttp.ClientSession,
    storage: str,
    upload: Upload,
    progress: Progress,
    total: TaskID,
) -> str:
    """Send one file, again if the service was only busy; return its id there."""
    bar = progress.add_task(upload.path[-40:], total=upload.size)
    url = remote.address("content", storage, *upload.path.split("/"))
    try:
        for attempt in range(ATTEMPTS):
            sent = _Sent(upload.source, progress, (bar, total))
            try:
                headers = {"Content-Length": str(upload.size), "Content-Type": "application/octet-stream"}
                async with session.put(url, data=sent.read(), headers=headers) as response:
                    value = await answer_of(response)
                if value.get("sha256") != sent.sha256:
                    raise click.ClickException("the service has other bytes than were sent")
                return str(value["id"])
            except (Refused, aiohttp.ClientError, TimeoutError) as error:
                sent.take_back()
                again = not isinstance(error, Refused) or error.status in _AGAIN
                if not again or attempt == ATTEMPTS - 1:
                    raise click.ClickException(str(error) or "timed out") from error
                await asyncio.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")
    finally:
        progress.remove_task(bar)


class _Sent:
    """Reads a file in threads, hashes what it gives out, and moves the bars."""

    def __init__(self, source: Path, progress: Progress, bars: tuple[TaskID, TaskID]) -> None:
        self._source = source
        self._progress = progress
        self._bars = bars
        self._hash = hashlib.sha256()
        self._count = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    async def read(self) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self._source.open, "rb", buffering=0)
        try:
            while data := await asyncio.to_thread(file.read, PIECE):
                await asyncio.to_thread(self._hash.update, data)
                yield data
                self._move(len(data))
        finally:
            file.close()

    def _move(self, count: int) -> None:
        self._count += count
        for bar in self._bars:
            self._progress.advance(bar, count)

    def take_back(self) -> None:
        """The attempt failed: the bars go back."""
        self._move(-self._count)
