"""The short way: hits that are answered where their octets arrive.

A request on an idle connection is answered here, with no task and no request object, when both halves
of its head have gone the ordinary way before: its request line named an asset that was a hit, and its
field lines, octet for octet but for the digits of one `Range: bytes=a-b`, were parsed and found to
hold nothing else that matters to a hit. So nothing is ever parsed loosely here: what was not accepted
once by the ordinary way is not recognised.

    request line ─▶ Target: asset, GET or HEAD          ┐
    field lines  ─▶ Profile: conditions, Range, its id  ┴▶ head of this second + body ─▶ one write

What makes an answer wrong is looked at anew for each request: the stored response gone or replaced,
freshness, soft purge, its bucket, drain. Bodies up to SMALL are held in memory, longer ones are mapped
and given to the kernel as they lie; what is not in the page cache goes the ordinary way, which waits
for the disk in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from distributor.api.disk import DiskReader
from distributor.api.logs import AccessLog, HotLine, LoggedTarget
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
COPIED = 256 * 1024  # bytes; shorter ranges of files go by sendfile
AT_ONCE = 8 * 1024 * 1024  # bytes; longer answers take the ordinary way, which shares the loop fairly
LONGEST_RANGE = 40  # octets of "first-last"
MOST_LINES = 65_536
MOST_PROFILES = 16_384
MOST_REPEATED = 4096  # whole heads kept beside their two halves
FORGOTTEN = 256  # assets let go of after which what names them is swept out
MOST_OPEN = 512  # descriptors held, and files mapped
LONGEST_HEAD = 4096  # bytes; longer heads take the ordinary way
WARMING = 64  # bodies being made ready at a time
_TIMING = b"Server-Timing: cache;desc=hit, edge;dur=0.0\r\nX-Request-Id: "
_RANGE_FIELD = b"\r\nRange: bytes="
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
    body, map, fd   hold its bytes: in memory, or mapped from the descriptor
    touched         bytes of the map that may count as resident in this process, at most
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
        "touched",
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
        self.touched = 0
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
    logged: LoggedTarget


_Known = tuple[_Target, Profile]


class HotTier:
    """The hot stored responses of a node, found by the octets of requests for them.

    memory   bytes of bodies held at most, and as many of those mapped that have been touched
    idle     seconds that a connection may stay open after an answer
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
        idle: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._disk = disk
        self._counts = counts
        self._access_log = access_log
        self._node_id = node_id
        self._ending = b"\r\n" + common.encode() + b"\r\n"
        self._idle = idle
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
        self._gone = 0
        self._identity = b""
        self._at = 0.0
        self._whole_heads: dict[bytes, _Known] = {}
        self._ranged_heads: dict[bytes, _Known] = {}
        self._touched: set[_Asset] = set()
        self._resident = 0
        self._flushing: asyncio.TimerHandle | None = None
        self._serial = int.from_bytes(os.urandom(6), "big") << 16

    # --- answering ----------------------------------------------------------------------------------

    def shortcut(self, connection: EdgeProtocol, data: bytes) -> bool:
        """Answer the request whose octets are exactly `data`, or leave it to the ordinary way: False."""
        began = time.monotonic()
        asked = b""
        at = data.find(_RANGE_FIELD)
        if at < 0:
            known = self._whole_heads.get(data) or self._recognise(data, self._profiles, self._whole_heads)
        else:
            at += len(_RANGE_FIELD)
            end = data.find(b"\r\n", at)
            asked = data[at:end]
            rest = data[:at] + data[end:]
            known = self._ranged_heads.get(rest) or self._recognise(rest, self._ranged, self._ranged_heads)
        if known is None:
            return False
        target, profile = known
        asset = target.asset
        if not self._usable(asset) or not connection.keeps:
            return False
        if profile.tag is not None and profile.tag == asset.tag:
            status, count = 304, self._send(connection, self._prefix(asset, "304"), profile)
        elif target.head_only:
            status, count = 200, self._send(connection, self._prefix(asset, "HEAD"), profile)
        elif asked:
            status, count = 206, self._range(connection, asset, profile, asked)
        else:
            status, count = 200, self._whole(connection, asset, profile)
        if count < 0:
            return False
        asset.hits += 1
        if asset.hits == 1:
            self._note_use(asset)
        ended = time.monotonic()
        connection.deadline = ended + self._idle
        self._counts.add(target.head_only, status, count, ended - began)
        if self._access_log is not None:
            self._access_log.add_hot(
                HotLine(
                    connection.peer, target.logged, status, count, ended - began, self._identity, self._at
                )
            )
        return True

    def _recognise(
        self, head: bytes, profiles: dict[bytes, Profile], heads: dict[bytes, _Known]
    ) -> _Known | None:
        """Find a head by its two halves, and keep it whole; None: one of them is not known."""
        cut = head.find(b"\r\n")
        target = self._lines.get(head[:cut])
        if target is None:
            return None
        profile = profiles.get(head[cut:])
        if profile is None:
            return None
        _bounded(heads, MOST_REPEATED)
        known = heads[head] = target, profile
        return known

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
        self._at = now = self._now()
        age = int(now - asset.born)
        if age != asset.age:
            if now >= asset.fresh_until:
                return False
            asset.heads.clear()
            asset.age = age
            asset.now = now
        return self._served(asset.bucket)

    def _send(
        self,
        connection: EdgeProtocol,
        prefix: bytes,
        profile: Profile,
        body: bytes | memoryview = b"",
        file: tuple[int, int] | None = None,
    ) -> int:
        """Write head and body: at once as far as the socket takes them, the rest through the transport.

        file  descriptor and position of the body, where the kernel may better take it from there

        Returns the length of the body, -1 when nothing was written and the ordinary way must see to it.
        """
        transport = connection.transport
        if transport is None or transport.is_closing():
            return -1
        identity = profile.request_id
        if identity is None:
            self._serial += 1
            identity = b"%016x" % (self._serial & 0xFFFF_FFFF_FFFF_FFFF)
        self._identity = identity
        head = b"".join((prefix, _TIMING, identity, self._ending))
        count = len(body)
        total = len(head) + count
        connection.meter.hand(total)
        sent = 0
        if transport.get_write_buffer_size() == 0:
            try:
                if file is not None:
                    sent = connection.begin(head)
                    if sent == len(head):
                        sent += os.sendfile(connection.descriptor, file[0], file[1], count)
                else:
                    sent = os.writev(connection.descriptor, (head, body) if count else (head,))
            except BlockingIOError:
                pass
            except OSError:
                connection.cut("client")
                return count
        if sent < len(head):
            transport.write(head[sent:])
            sent = len(head)
        if sent < total:
            transport.write(memoryview(body)[sent - len(head) :])
        return count

    def _whole(self, connection: EdgeProtocol, asset: _Asset, profile: Profile) -> int:
        body = self._bytes(asset, 0, asset.length)
        return -1 if body is None else self._send(connection, self._prefix(asset, "GET"), profile, body)

    def _bytes(self, asset: _Asset, start: int, stop: int) -> bytes | memoryview | None:
        """Those bytes of the asset, if they can be had without waiting for the disk."""
        if asset.body is not None:
            return asset.body if stop - start == asset.length else memoryview(asset.body)[start:stop]
        if asset.map is None or stop - start > AT_ONCE:
            return None
        if not self._store.proven(asset.stored, start, stop):
            return None
        if not self._disk.resident(asset.fd, start, stop - start):
            return None
        if asset.touched < asset.length and stop - start >= COPIED:
            self._touch(asset, stop - start)
        return memoryview(asset.map)[start:stop]

    def _touch(self, asset: _Asset, count: int) -> None:
        """Bound what the maps add to this process: past `memory` all their pages are let go of.

        They stay in the page cache; only this process' own table forgets them.
        """
        more = min(count, asset.length - asset.touched)
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

    def _range(self, connection: EdgeProtocol, asset: _Asset, profile: Profile, asked: bytes) -> int:
        first, dash, last = asked.partition(b"-")
        if not first.isdigit() or not dash or (last and not last.isdigit()) or len(asked) > LONGEST_RANGE:
            return -1
        start = int(first)
        stop = min(int(last) + 1, asset.length) if last else asset.length
        count = stop - start
        if count <= 0 or start >= asset.length:
            return -1
        body = self._bytes(asset, start, stop)
        if body is None:
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
        # Measured: below some hundred kilobytes a copy in this process costs more than sendfile's pages,
        # above it less, because the reader then finds the bytes in a cache.
        file = (asset.fd, start) if asset.fd >= 0 and count < COPIED else None
        return self._send(connection, head, profile, body, file)

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
            self._lines[octets[:cut]] = _Target(
                asset, request.method == "HEAD", LoggedTarget.of(request.method, request.path)
            )

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
        if at < len(_RANGE_FIELD) or not lines[at : at + 1].isdigit():
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
            if length <= AT_ONCE:
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
        return 0 if asset.body is None else asset.length

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
        self._touched.discard(asset)
        self._resident -= asset.touched
        self._gone += 1
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
        if self._gone > FORGOTTEN:
            self._gone = 0
            self._lines = {line: target for line, target in self._lines.items() if not target.asset.dead}
            for heads in (self._whole_heads, self._ranged_heads):
                for head in [head for head, known in heads.items() if known[0].asset.dead]:
                    del heads[head]

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
