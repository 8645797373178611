"""Files and storages put straight into a catalog, for tests of what is made from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import files, storages
from origin.domain.model import File, Method, Storage
from origin.domain.states import FileState


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


async def add_storage(
    connection: AsyncConnection, n: int, name: str, *, archive: bool = False, public: bool = True
) -> None:
    method = Method(n=n, uri=f"file:///nowhere/{n}/")
    await storages.save(
        connection, Storage(n=n, name=name, methods=(method,), archive=archive, public=public), new=True
    )


def make_file(
    n: int,
    storage_n: int,
    path: str,
    content: str | None = "x",
    *,
    size: int | None = None,
    state: FileState = FileState.CLOSED,
    modified_ms: int = 1_000_000,
    created_ms: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> File:
    """content None: without digests."""
    return File(
        n=n,
        storage_n=storage_n,
        path=path,
        state=state,
        size=size if size is not None else len(content or ""),
        sha1=None if content is None else hashlib.sha1(content.encode()).hexdigest(),
        sha256=None if content is None else digest(content),
        mtime_ns=modified_ms * 1_000_000,
        generation=1,
        created_ms=created_ms or modified_ms,
        metadata=dict(metadata or {}),
    )


async def add_file(connection: AsyncConnection, file: File) -> None:
    await files.insert(connection, file)
