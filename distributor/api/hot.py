"""The short way: hits that are answered where their octets arrive.

A request on an idle connection is answered here, with no task and no request object, when both halves
of its head have gone the ordinary way before: its request line named an asset that was a hit, and its
field lines, octet for octet but for the digits of one `Range: bytes=a-b`, were parsed and found to
hold nothing else that matters to a hit. So nothing is ever parsed loosely here: what was not accepted
once by the ordinary way is not recognised.

    request line ─▶ Target: asset, GET or HEAD          ┐
    field lines  ─▶ Profile: conditions, Range, its id  ┴▶ head of this second + body ─▶ one write

What makes an answer wrong is looked at anew for each request: the stored response gone or replaced,
freshness, soft purge, its bucket, drain. Bodies up to SMALL are held in memory, those up to MAPPED are
memory-mapped, ranges are read into one buffer; what is not in the page cache goes the ordinary way,
which waits for the disk in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from distributor.api.disk import DiskReader
from distributor.api.logs import AccessLog, HotLine
from distributor.api.messages import Request
from distributor.api.protocol import EdgeProtocol
from distributor.api.send import serialize_head
from distributor.core.model import Span, StoredResponse
from distributor.core.policy import reusable, ttl
from distributor.core.representation import effective_etag
from distributor.core.response import Selection, Told, response_fields
from distributor.errors import EdgeError
from distributor.http import fields as hf
from distributor.http.cache_status import CacheState, cache_status_member
from distributor.http.conditional import parse_etag
from distributor.http.freshness import Reuse
from distributor.metrics import HotCounts
from distributor.ports import Store

__all__ = ["HotTier"]

log = logging.getLogger(__name__)

SMALL = 64 * 1024  # bytes; bodies held in memory
MAPPED = 8 * 1024 * 1024  # bytes; whole bodies sent from a memory map
RANGE = 512 * 1024  # bytes; longest range read into the buffer
MOST_LINES = 65_536
MOST_PROFILES = 16_384
MOST_OPEN = 512  # descriptors held for ranges and maps
LONGEST_HEAD = 4096  # bytes; longer heads take the ordinary way
WARMING = 64  # bodies being made ready at a time
_RANGE_FIELD = b"\r\nRange: bytes="
_RANGE_VALUE = re.compile(rb"([0-9]{1,18})-([0-9]{0,18})\Z")
# Any of these makes a head one for the ordinary way: framing, or conditions that are not judged here.
_ELSEWHERE = frozenset(
    {
        "content-length",
        "expect",
        "if-match",
        "if-modified-since",
        "if-range",
        "if-unmodified-since",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Profile(NamedTuple):
    """What the field lines of a head ask for.

    tag         the one entity tag of If-None-Match, without W/; None: no such field
    request_id  the client's valid X-Request-Id; None: make one
    """

    tag: str | None
    request_id: bytes | None


class _Asset:
    """One hot stored response.

    age             whole seconds; `heads` are those of this age
    body, map, fd   hold its bytes: one of the first two, or only the descriptor
    """

    __slots__ = (
        "age",
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
        "ready",
        "representation",
        "stored",
        "tag",
        "used",
    )

    def __init__(self, asset_id: str, stored: StoredResponse, length: int) -> None:
        self.asset_id = asset_id
        self.stored = stored
        self.representation = stored.representation
        self.bucket = stored.representation.bucket
        self.length = length
        self.body: bytes | None = None
        self.map: mmap.mmap | None = None
        self.fd = -1
        self.fresh_until = 0.0
        self.born = stored.representation.response_time - stored.representation.initial_age
        self.age = -1
        self.now = 0.0
        self.heads: dict[str, bytes | tuple[bytes, bytes]] = {}
        self.tag: str | None = None
        self.hits = 0
        self.ready = False
        self.used = True
        self.dead = False


class _Target(NamedTuple):
    asset: _Asset
    head_only: bool
    path: str


class HotTier:
    """The hot stored responses of a node, found by the octets of requests for them.

    memory   bytes of bodies held or mapped at most
    common   field lines that every answer of the public port carries (`Frontend.common`)
    served   whether a bucket is distributed now
    now      the wall clock by which ages are told, Unix seconds
    """

    def __init__(
        self,
        store: Store,
        disk: DiskReader,
        counts: HotCounts,
        access_log: AccessLog | None,
        *,
        node_id: str,
        common: str,
        served: Callable[[str], bool],
        memory: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._disk = disk
        self._counts = counts
        self._access_log = access_log
        self._node_id = node_id
        self._common = common.encode()
        self._served = served
        self._memory = memory
        self._now = now
        self._held = 0
        self._assets: dict[str, _Asset] = {}
        self._lines: dict[bytes, _Target] = {}
        self._profiles: dict[bytes, Profile] = {}
        self._ranged: dict[bytes, Profile] = {}
        self._used: list[_Asset] = []
        self._warming: set[asyncio.Task[None]] = set()
        self._open = 0
        self._identity = b""
        self._buffer = memoryview(bytearray(RANGE))
        self._flushing: asyncio.TimerHandle | None = None
        self._serial = int.from_bytes(os.urandom(6), "big") << 16

    # --- answering ----------------------------------------------------------------------------------

    def shortcut(self, connection: EdgeProtocol, data: bytes) -> bool:
        """Answer the request whose octets are exactly `data`, or leave it to the ordinary way: False."""
        cut = data.find(b"\r\n")
        target = self._lines.get(data[:cut])
        if target is None or not connection.keeps:
            return False
        lines = data[cut:]
        profile = self._profiles.get(lines)
        asked: re.Match[bytes] | None = None
        if profile is None:
            at = lines.find(_RANGE_FIELD)
            if at < 0:
                return False
            at += len(_RANGE_FIELD)
            end = lines.find(b"\r\n", at)
            profile = self._ranged.get(lines[:at] + lines[end:])
            asked = _RANGE_VALUE.match(lines[at:end])
            if profile is None or asked is None:
                return False
        asset = target.asset
        if not self._usable(asset):
            return False
        began = time.perf_counter()
        if profile.tag is not None and profile.tag == asset.tag:
            sent = self._not_modified(connection, asset, profile)
            status = 304
        elif target.head_only:
            sent = self._head_only(connection, asset, profile)
            status = 200
        elif asked is not None:
            sent = self._range(connection, asset, profile, asked)
            status = 206
        else:
            sent = self._whole(connection, asset, profile)
            status = 200
        if sent < 0:
            return False
        asset.hits += 1
        if asset.hits == 1:
            self._note_use(asset)
        seconds = time.perf_counter() - began
        self._counts.add(target.head_only, status, sent, seconds)
        if self._access_log is not None:
            self._access_log.add_hot(
                HotLine(
                    connection.peer,
                    target.head_only,
                    target.path,
                    status,
                    sent,
                    seconds,
                    self._identity.decode(),
                    time.time(),
                )
            )
        return True

    def _usable(self, asset: _Asset) -> bool:
        stored = asset.stored
        if (
            not asset.ready
            or asset.dead
            or stored.detached
            or stored.stale_marked
            or stored.representation is not asset.representation
        ):
            return False
        now = self._now()
        age = int(now - asset.born)
        if age != asset.age:
            if now >= asset.fresh_until:
                return False
            asset.heads.clear()
            asset.age = age
            asset.now = now
        return self._served(asset.bucket)

    def _ending(self, profile: Profile) -> bytes:
        """The field lines that differ from answer to answer, and the common ones."""
        identity = profile.request_id
        if identity is None:
            self._serial += 1
            identity = b"%016x" % (self._serial & 0xFFFF_FFFF_FFFF_FFFF)
        self._identity = identity
        return (
            b"Server-Timing: cache;desc=hit, edge;dur=0.0\r\nX-Request-Id: "
            + identity
            + b"\r\n"
            + self._common
            + b"\r\n"
        )

    def _write(self, connection: EdgeProtocol, parts: list[bytes | memoryview], total: int) -> bool:
        """Write all parts: at once as far as the socket takes them, the rest by way of the transport."""
        transport = connection.transport
        if transport is None or transport.is_closing():
            return False
        connection.meter.hand(total)
        sent = 0
        if transport.get_write_buffer_size() == 0:
            try:
                sent = os.writev(connection.descriptor, parts)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection.cut("client")
                return True
            if sent == total:
                return True
        rest = []
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
                continue
            rest.append(memoryview(part)[sent:] if sent else part)
            sent = 0
        for part in rest:
            # What lies in the shared buffer will be overwritten by the next range.
            transport.write(
                bytes(part) if isinstance(part, memoryview) and part.obj is self._buffer.obj else part
            )
        return True

    def _whole(self, connection: EdgeProtocol, asset: _Asset, profile: Profile) -> int:
        body: bytes | memoryview
        if asset.body is not None:
            body = asset.body
        elif asset.map is not None:
            if not self._disk.resident(asset.fd, 0, asset.length):
                return -1
            body = memoryview(asset.map)
        else:
            return -1
        head = self._prefix(asset, "GET") + self._ending(profile)
        return asset.length if self._write(connection, [head, body], len(head) + asset.length) else -1

    def _head_only(self, connection: EdgeProtocol, asset: _Asset, profile: Profile) -> int:
        head = self._prefix(asset, "HEAD") + self._ending(profile)
        return 0 if self._write(connection, [head], len(head)) else -1

    def _not_modified(self, connection: EdgeProtocol, asset: _Asset, profile: Profile) -> int:
        head = self._prefix(asset, "304") + self._ending(profile)
        return 0 if self._write(connection, [head], len(head)) else -1

    def _range(
        self, connection: EdgeProtocol, asset: _Asset, profile: Profile, asked: re.Match[bytes]
    ) -> int:
        first, last = asked.groups()
        start = int(first)
        stop = min(int(last) + 1, asset.length) if last else asset.length
        count = stop - start
        if count <= 0 or start >= asset.length:
            return -1
        body: bytes | memoryview
        if asset.body is not None:
            body = memoryview(asset.body)[start:stop]
        elif asset.fd >= 0 and count <= RANGE:
            if not self._store.proven(asset.stored, start, stop):
                return -1
            body = self._buffer[:count]
            try:
                if os.preadv(asset.fd, [body], start, os.RWF_NOWAIT) != count:
                    return -1
            except OSError:
                return -1
        else:
            return -1
        before, after = self._range_prefix(asset)
        head = b"%b%d\r\nContent-Range: bytes %d-%d/%d%b" % (
            before,
            count,
            start,
            stop - 1,
            asset.length,
            after,
        )
        head += self._ending(profile)
        return count if self._write(connection, [head, body], len(head) + count) else -1

    # --- heads --------------------------------------------------------------------------------------

    def _prefix(self, asset: _Asset, kind: str) -> bytes:
        """Status line and stored fields for GET, HEAD or 304, as the ordinary way writes them now."""
        head = asset.heads.get(kind)
        if not isinstance(head, bytes):
            status = 304 if kind == "304" else 200
            head = asset.heads[kind] = self._render(asset, Selection(status, None, None), kind == "GET")
        return head

    def _range_prefix(self, asset: _Asset) -> tuple[bytes, bytes]:
        """The head of a 206, cut where the span's length stands and behind its Content-Range."""
        parts = asset.heads.get("206")
        if not isinstance(parts, tuple):
            whole = self._render(asset, Selection(206, [Span(0, asset.length)], "single"), True)
            field = b"\r\nContent-Length: "
            before, _, rest = whole.partition(field + b"%d\r\nContent-Range: " % asset.length)
            parts = asset.heads["206"] = before + field, rest[rest.index(b"\r\n") :]
        return parts

    def _render(self, asset: _Asset, selection: Selection, with_body: bool) -> bytes:
        stored, now = asset.stored, asset.now
        member = cache_status_member(self._node_id, ttl=ttl(stored, now))
        told = Told(CacheState.HIT, member, self._node_id, now, "local" if with_body else None)
        fields = response_fields(
            asset.asset_id,
            asset.representation,
            selection,
            told,
            length=asset.length,
            sha256=stored.sha256,
        )
        return serialize_head(selection.status, fields, "")[:-2]

    # --- learning -----------------------------------------------------------------------------------

    def learn(self, request: Request, asset_id: str, key: str) -> None:
        """Recognise from now on what the ordinary way has just answered from a fresh hit.

        request.octets is the whole head, accepted, of a request without a body.
        """
        octets = request.octets
        cut = octets.find(b"\r\n")
        if len(octets) > LONGEST_HEAD or request.http10 or b"#" in octets[:cut]:
            return
        if not octets.startswith((b"GET /", b"HEAD /")):
            return
        now = request.now
        stored = self._store.get(key)
        if (
            stored is None
            or not stored.complete
            or stored.length is None
            or stored.representation.status != 200
        ):
            return
        if reusable(stored, now) is not Reuse.FRESH or not self._learn_profile(octets[cut:], request):
            return
        asset = self._assets.get(key)
        if asset is not None and (
            asset.stored is not stored or asset.representation is not stored.representation
        ):
            self._drop(key, asset)
            asset = None
        if asset is None:
            asset = self._new_asset(key, asset_id, stored, now)
        if asset is not None:
            _bounded(self._lines, MOST_LINES)
            self._lines[octets[:cut]] = _Target(asset, request.method == "HEAD", request.path)

    def _learn_profile(self, lines: bytes, request: Request) -> bool:
        """Note what the field lines ask for; False: they are for the ordinary way."""
        names = [name.lower() for name, _ in request.fields]
        if not _ELSEWHERE.isdisjoint(names) or len(names) != len(set(names)):
            return False
        if (hf.get(request.fields, "connection") or "keep-alive").lower() != "keep-alive":
            return False
        tag: str | None = None
        if "if-none-match" in names:
            parsed = parse_etag(hf.get(request.fields, "if-none-match"))
            if parsed is None:
                return False
            tag = parsed.value
        identity = hf.get(request.fields, "x-request-id")
        known = identity is not None and identity == request.request_id
        if identity is not None and not known:
            return False
        profile = Profile(tag, request.request_id.encode() if known else None)
        if "range" not in names:
            _bounded(self._profiles, MOST_PROFILES)
            self._profiles[lines] = profile
            return True
        at = lines.find(_RANGE_FIELD) + len(_RANGE_FIELD)
        end = lines.find(b"\r\n", at)
        if at < len(_RANGE_FIELD) or not _RANGE_VALUE.match(lines[at:end]):
            return False
        _bounded(self._ranged, MOST_PROFILES)
        self._ranged[lines[:at] + lines[end:]] = profile
        return True

    def _new_asset(self, key: str, asset_id: str, stored: StoredResponse, now: float) -> _Asset | None:
        length = stored.length
        if length is None or len(self._warming) >= WARMING:
            return None
        asset = _Asset(asset_id, stored, length)
        asset.fresh_until = now + ttl(stored, now)
        etag = parse_etag(effective_etag(stored.representation, stored.sha256))
        asset.tag = etag.value if etag is not None else None
        self._assets[key] = asset
        task = asyncio.create_task(self._warm(key, asset), name="warm")
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)
        return asset

    async def _warm(self, key: str, asset: _Asset) -> None:
        """Get hold of the bytes: in memory, mapped, or by an open file."""
        stored, length = asset.stored, asset.length
        try:
            if length <= MAPPED:
                await self._store.prove(stored, 0, length)
            blob = await self._store.open(stored)
        except EdgeError:
            self._drop(key, asset)
            return
        try:
            if length <= SMALL:
                body = await self._disk.read(blob.fd, 0, length)
                if len(body) != length:
                    raise OSError("the blob is shorter than its segment map says")
                asset.body = body
            else:
                # A descriptor of our own holds no pin: what is hot must not be safe from eviction.
                asset.fd = os.dup(blob.fd)
                self._open += 1
                if length <= min(MAPPED, self._memory):
                    asset.map = mmap.mmap(asset.fd, length, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            log.debug("%r does not get hot: %s", asset.asset_id, error)
            self._drop(key, asset)
            return
        finally:
            blob.close()
        if asset.dead or stored.detached:
            self._drop(key, asset)
            return
        self._held += self._weight(asset)
        asset.ready = True
        self._make_room()

    @staticmethod
    def _weight(asset: _Asset) -> int:
        return asset.length if asset.body is not None or asset.map is not None else 0

    def _make_room(self) -> None:
        """Let those go that were not asked for since the last time round (second chance)."""
        rounds = 2 * len(self._assets)
        while (self._held > self._memory or self._open > MOST_OPEN) and rounds:
            rounds -= 1
            key, asset = next(iter(self._assets.items()))
            if asset.used:
                asset.used = False
                del self._assets[key]
                self._assets[key] = asset
            else:
                self._drop(key, asset)

    def _drop(self, key: str, asset: _Asset) -> None:
        """Let go of an asset; request lines that name it are no longer recognised."""
        if self._assets.get(key) is asset:
            del self._assets[key]
        if asset.dead:
            return
        asset.dead = True
        if asset.ready:
            self._held -= self._weight(asset)
        asset.body = None
        # Writes under way hold the map themselves; it is unmapped with the last of them.
        asset.map = None
        if asset.fd >= 0:
            os.close(asset.fd)
            asset.fd = -1
            self._open -= 1

    def left(self, key: str) -> None:
        """What `key` names leaves the store: keep no descriptor of its blob."""
        asset = self._assets.get(key)
        if asset is not None:
            self._drop(key, asset)

    # --- keeping house ------------------------------------------------------------------------------

    def _note_use(self, asset: _Asset) -> None:
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
            asset.stored.hits += hits - 1
            self._store.touch(asset.stored, now, hit=True)
        if len(self._lines) > 2 * len(self._assets) + 1024:
            self._lines = {line: target for line, target in self._lines.items() if not target.asset.dead}

    async def close(self) -> None:
        """Let go of everything."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._tell_uses()
            self._flushing = None
        for task in list(self._warming):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._warming, return_exceptions=True)
        for key, asset in list(self._assets.items()):
            self._drop(key, asset)


def _bounded(table: dict[bytes, Any], most: int) -> None:
    """Make room for one more by letting the oldest go."""
    if len(table) >= most:
        del table[next(iter(table))]
