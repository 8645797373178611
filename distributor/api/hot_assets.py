"""The bodies of the short way: which stored responses are hot, and the bytes of each at hand.

    wanted ──warmed in a task──▶ ready ──not asked for when room is needed, or gone from the store──▶ dead

Bodies up to SMALL are held in memory; longer ones are mapped and kept open. What is held is bounded:
bytes in memory, bytes of maps that count as resident, descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import mmap
import os
from collections.abc import Callable

from distributor.api.disk import STEP, DiskReader, Pages
from distributor.core.model import StoredResponse
from distributor.core.policy import ttl
from distributor.core.representation import effective_etag
from distributor.errors import EdgeError
from distributor.http.conditional import parse_etag
from distributor.ports import Store

__all__ = ["AT_ONCE", "SMALL", "HotAsset", "HotAssets"]

log = logging.getLogger(__name__)

SMALL = 64 * 1024  # bytes; bodies held in memory
AT_ONCE = 8 * 1024 * 1024  # bytes; longer answers take the ordinary way, which shares the loop fairly
MOST_OPEN = 512  # descriptors held, and files mapped
WARMING = 64  # bodies being made ready at a time
NEVER = -math.inf


class HotAsset:
    """One hot stored response.

    since, until    the wall-clock second of its age that `heads` are of; until is NEVER unless it is ready
    heads           by kind of answer, as HotTier has them
    sound           every segment was proven when this second began
    body, map, fd   hold its bytes: in memory, or mapped from the descriptor
    pages           what is known of the file in the page cache
    touched         bytes of the map that may count as resident in this process, at most
    hits            answers since the store was told of them last
    """

    __slots__ = (
        "asset_id",
        "body",
        "born",
        "bucket",
        "dead",
        "fd",
        "fresh_until",
        "heads",
        "hits",
        "length",
        "map",
        "now",
        "pages",
        "representation",
        "since",
        "sound",
        "stored",
        "tag",
        "touched",
        "until",
        "used",
    )

    def __init__(self, asset_id: str, stored: StoredResponse, length: int, now: float) -> None:
        representation = stored.representation
        etag = parse_etag(effective_etag(representation, stored.sha256))
        self.asset_id = asset_id
        self.stored = stored
        self.representation = representation
        self.bucket = representation.bucket
        self.length = length
        self.tag = etag.value if etag is not None else None
        self.body: bytes | None = None
        self.map: mmap.mmap | None = None
        self.fd = -1
        self.pages = Pages()
        self.touched = 0
        self.born = representation.response_time - representation.initial_age
        self.fresh_until = now + ttl(stored, now)
        self.now = now
        self.since, self.until = now, NEVER
        self.heads: dict[str, bytes | tuple[bytes, bytes]] = {}
        self.sound = False
        self.hits = 0
        self.used = True
        self.dead = False

    @property
    def ready(self) -> bool:
        return self.body is not None or self.map is not None


class HotAssets:
    """The hot stored responses of a node, by cache key.

    memory   bytes of bodies held at most, and as many of those mapped that have been touched
    open     descriptors held;  held  bytes in memory
    gone     assets let go of since it was last set to 0
    """

    def __init__(self, store: Store, disk: DiskReader, memory: int, now: Callable[[], float]) -> None:
        self._store = store
        self._disk = disk
        self._memory = memory
        self._now = now
        self._assets: dict[str, HotAsset] = {}
        self._warming: set[asyncio.Task[None]] = set()
        self._touched: set[HotAsset] = set()
        self._resident = 0
        self._used: list[HotAsset] = []
        self._flushing: asyncio.TimerHandle | None = None
        self.held = 0
        self.open = 0
        self.gone = 0

    def __contains__(self, key: str) -> bool:
        return key in self._assets

    def want(self, key: str, asset_id: str, stored: StoredResponse, now: float) -> HotAsset | None:
        """The asset of a complete, fresh stored response, which a task makes ready; None: not now."""
        asset = self._assets.get(key)
        if asset is not None:
            if asset.stored is stored and asset.representation is stored.representation:
                return asset
            self._drop(key, asset)
        length = stored.length
        if length is None or len(self._warming) >= WARMING:
            return None
        asset = self._assets[key] = HotAsset(asset_id, stored, length, now)
        task = asyncio.create_task(self._warm(key, asset), name="warm")
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)
        return asset

    def renew(self, asset: HotAsset, now: float) -> bool:
        """Begin the second of its age that holds `now`; False: it must not be answered from."""
        if asset.dead or not asset.ready or now >= asset.fresh_until:
            return False
        asset.heads.clear()
        asset.sound = self._store.proven(asset.stored, 0, asset.length)
        asset.since = asset.now = now
        asset.until = min(asset.born + int(now - asset.born) + 1, asset.fresh_until)
        return True

    def at_hand(self, asset: HotAsset, start: int, stop: int, clock: float) -> bool:
        """Whether those bytes can be had without waiting for the disk; clock: monotonic, now."""
        if asset.body is not None:
            return True
        if stop - start > AT_ONCE:
            return False
        if not asset.sound and not self._store.proven(asset.stored, start, stop):
            return False
        pages = asset.pages
        first, last = start // STEP, (stop - 1) // STEP
        if first in pages.steps and last in pages.steps and last - first <= 1 and clock < pages.until:
            return True
        return self._disk.resident(asset.fd, start, stop - start, asset.pages, clock)

    def touch(self, asset: HotAsset, count: int) -> None:
        """Bound what reading `count` bytes of a map adds to this process: past `memory` all is let go of.

        The pages stay in the page cache; only this process' own table forgets them.
        """
        more = min(count, asset.length - asset.touched)
        if more <= 0:
            return
        asset.touched += more
        self._resident += more
        self._touched.add(asset)
        if self._resident > self._memory:
            for one in self._touched:
                one.touched = 0
                if one.map is not None:
                    one.map.madvise(mmap.MADV_DONTNEED)
            self._touched.clear()
            self._resident = 0

    async def _warm(self, key: str, asset: HotAsset) -> None:
        """Get hold of the bytes: in memory, or mapped."""
        try:
            if asset.length <= AT_ONCE:
                await self._store.prove(asset.stored, 0, asset.length)
            blob = await self._store.open(asset.stored)
        except EdgeError:
            self._drop(key, asset)
            return
        try:
            if asset.dead or asset.stored.detached:
                raise OSError("it has left the store")
            if asset.length <= SMALL:
                body = await self._disk.read(blob.fd, 0, asset.length)
                if len(body) != asset.length:
                    raise OSError("the blob is shorter than its segment map says")
            else:
                body = None
                # A descriptor of our own holds no pin: what is hot must not be safe from eviction.
                asset.fd = os.dup(blob.fd)
                self.open += 1
                asset.map = mmap.mmap(asset.fd, asset.length, prot=mmap.PROT_READ)
            if asset.dead or asset.stored.detached:
                raise OSError("it has left the store")
        except (OSError, ValueError) as error:
            log.debug("%r does not get hot: %s", asset.asset_id, error)
            self._drop(key, asset)
            return
        finally:
            blob.close()
        if body is not None:
            asset.body = body
            self.held += asset.length
        self._make_room()

    def _make_room(self) -> None:
        """Let those go that were not asked for since the last time round (second chance)."""
        rounds = 2 * len(self._assets)
        while (self.held > self._memory or self.open > MOST_OPEN) and rounds:
            rounds -= 1
            key, asset = next(iter(self._assets.items()))
            if asset.used:
                asset.used = False
                del self._assets[key]
                self._assets[key] = asset
            else:
                self._drop(key, asset)

    def _drop(self, key: str, asset: HotAsset) -> None:
        if self._assets.get(key) is asset:
            del self._assets[key]
        asset.dead = True
        asset.until = NEVER
        self.gone += 1
        if asset.body is not None:
            self.held -= asset.length
            asset.body = None
        # Writes under way hold the map themselves; it is unmapped with the last of them.
        asset.map = None
        self._touched.discard(asset)
        self._resident -= asset.touched
        asset.touched = 0
        if asset.fd >= 0:
            os.close(asset.fd)
            asset.fd = -1
            self.open -= 1

    def left(self, key: str) -> None:
        """What `key` names leaves the store: keep no descriptor of its blob."""
        asset = self._assets.get(key)
        if asset is not None:
            self._drop(key, asset)

    def note_use(self, asset: HotAsset) -> None:
        """It was answered from for the first time since the store was told last."""
        self._used.append(asset)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(1.0, self._tell_uses)

    def _tell_uses(self) -> None:
        """Tell the store which assets were used in the last second, and how often."""
        self._flushing = None
        used, self._used = self._used, []
        now = self._now()
        for asset in used:
            hits, asset.hits = asset.hits, 0
            asset.used = True
            asset.pages.steps.clear()  # it is looked at anew every second, or not needed any more
            asset.stored.hits += hits - 1
            self._store.touch(asset.stored, now, hit=True)

    async def warmed(self) -> None:
        """Wait until nothing is being made ready."""
        await asyncio.gather(*self._warming, return_exceptions=True)

    async def close(self) -> None:
        """Let go of everything."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._tell_uses()
        for task in list(self._warming):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.warmed()
        for key, asset in list(self._assets.items()):
            self._drop(key, asset)
