"""Stores for tests: filling, reading back, and an observer that remembers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from distributor.core.model import Representation, StoredResponse
from distributor.http.freshness import Policy
from distributor.ports import Observer, Store

NOW = 1_800_000_000.0


def content(seed: object, length: int) -> bytes:
    """Bytes that look like no others."""
    return random.Random(str(seed)).randbytes(length)


def described(length: int | None, etag: str | None = '"one"', **more: object) -> Representation:
    """What a source might have said of `length` bytes."""
    return Representation(
        fields=(("Content-Type", "video/mp4"), ("ETag", etag or "")),
        length=length,
        etag=etag,
        date=int(NOW),
        response_time=NOW,
        policy=Policy(),
        **more,  # type: ignore[arg-type]
    )


async def begin(
    store: Store, key: str, asset_id: str, representation: Representation, now: float, **more: Any
) -> StoredResponse:
    """As Store.begin, of a response that was wished for before: no policy refuses it for its size."""
    if representation.length is not None or "reserve" in more:
        store.admits(key, representation.length or more.get("reserve", 0))
    return await store.begin(key, asset_id, representation, now, **more)


async def fill(
    store: Store, key: str, body: bytes, *, piece: int = 1 << 30, now: float = NOW, known: bool = True
) -> StoredResponse:
    """Store `body` whole under `key`, in pieces, and give the fetch's pin back."""
    stored = await begin(store, key, key, described(len(body) if known else None), now)
    try:
        for start in range(0, len(body), piece):
            part = body[start : start + piece]
            if not known:
                await store.reserve(stored, len(part))
            await store.write(stored, start, part)
        if not known:
            await store.finish_length(stored, len(body))
        digest = await store.digest(stored)
        assert digest == hashlib.sha256(body).digest()
        await store.commit(stored, digest, now)
    finally:
        store.release(stored)
    return stored


async def read(store: Store, stored: StoredResponse, start: int = 0, stop: int | None = None) -> bytes:
    """What a reader would send: proven, and only what the map has."""
    stop = stored.length if stop is None else stop
    assert stop is not None
    blob = await store.open(stored)
    try:
        await store.prove(stored, start, stop)
        assert store.proven(stored, start, stop)
        count = min(stop - start, stored.segments.available(start))
        return os.pread(blob.fd, count, start)
    finally:
        blob.close()


async def recovered(store: Store) -> None:
    """Wait until every row is reconciled."""
    await until(lambda: not store.recovering)


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Let the loop turn until something holds; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


async def settled(store: Store) -> None:
    """Wait for what the store does by itself: checkpoints, deletions."""
    tasks = store._shelf._tasks  # type: ignore[attr-defined]
    while tasks:
        await asyncio.wait(set(tasks))
        await asyncio.sleep(0)


def within_limit(store: Store) -> bool:
    usage = store.usage()
    return usage.complete + usage.partial + usage.reserved <= usage.limit


class Remembering(Observer):
    """counts: of (method, first argument)."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def verified(self, result: str, count: int = 1) -> None:
        self.counts["verified", result] += count

    def evicted(self, reason: str, count: int) -> None:
        self.counts["evicted", reason] += 1
        self.counts["evicted bytes", reason] += count

    def store_error(self, op: str) -> None:
        self.counts["store_error", op] += 1
