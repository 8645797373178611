"""The short way: hits that are answered where their octets arrive.

A request on an idle connection is answered here, with no task and no request object, when both halves
of its head have gone the ordinary way before: its request line named an asset that was a hit, and its
field lines, octet for octet but for the digits of one `Range: bytes=a-b`, were parsed and found to
hold nothing else that matters to a hit. So nothing is ever parsed loosely here: what was not accepted
once by the ordinary way is not recognised.

    request line ─▶ Target: asset, GET or HEAD          ┐
    field lines  ─▶ Profile: conditions, Range, its id  ┴▶ Known: the answer but for its body and span

What makes an answer wrong is looked at anew for each request: the stored response gone or replaced,
freshness, soft purge, its bucket. What is not in the page cache goes the ordinary way, which waits for
the disk in a thread.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from distributor.api.disk import DiskReader
from distributor.api.hot_assets import HotAsset, HotAssets
from distributor.api.logs import AccessLog, LoggedTarget
from distributor.api.messages import Request
from distributor.api.protocol import EdgeProtocol
from distributor.api.send import serialize_head
from distributor.core.model import Span
from distributor.core.policy import reusable, ttl
from distributor.core.response import Selection, Told, response_fields
from distributor.http import fields as hf
from distributor.http.cache_status import CacheState, cache_status_member
from distributor.http.conditional import parse_etag
from distributor.http.freshness import Reuse
from distributor.metrics import HotCounts, HotRow
from distributor.ports import Store

__all__ = ["HotTier"]

JOINED = 16 * 1024  # bytes; bodies copied behind their heads, which costs less than handing over both
COPIED = 256 * 1024  # bytes; shorter ranges of files go by sendfile
ONE_PACKET = 60 * 1024  # bytes; what the kernel sends on at once
LONGEST_RANGE = 40  # octets of "first-last"
MOST_LINES = 65_536
MOST_PROFILES = 16_384
MOST_REPEATED = 4096  # whole heads kept beside their two halves
FORGOTTEN = 256  # assets let go of after which what names them is swept out
LONGEST_HEAD = 4096  # bytes; longer heads take the ordinary way
_TIMING = b"Server-Timing: cache;desc=hit, edge;dur=0.0\r\nX-Request-Id: "
_RANGE_FIELD = b"\r\nRange: bytes="
_NO_RANGE = b"", b"", None
_ZERO = ord("0")
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


class _Target(NamedTuple):
    asset: HotAsset
    head_only: bool
    logged: LoggedTarget


class _Known(NamedTuple):
    """All that is the same for requests with one head: kind is GET, HEAD, 304 or 206."""

    asset: HotAsset
    kind: str
    request_id: bytes | None
    row: HotRow
    logged: LoggedTarget


class HotTier:
    """Recognises requests for hot stored responses by their octets, and answers them.

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
        self._counts = counts
        self._access_log = access_log
        self._node_id = node_id
        self._ending = b"\r\n" + common.encode() + b"\r\n"
        self._idle = idle
        self._served = served
        self._now = now
        self._lines: dict[bytes, _Target] = {}
        self._profiles: dict[bytes, Profile] = {}
        self._range_profiles: dict[bytes, Profile] = {}
        self._heads: dict[bytes, _Known] = {}
        self._range_heads: dict[bytes, _Known] = {}
        self._request_ids = _request_ids()
        self.assets = HotAssets(store, disk, memory, now)

    # --- answering ----------------------------------------------------------------------------------

    def shortcut(self, connection: EdgeProtocol, data: bytes) -> bool:
        """Answer the request whose octets are exactly `data`, or leave it to the ordinary way: False."""
        began = time.monotonic()
        asked = b""
        known = self._heads.get(data)
        if known is None:
            # Players ask on with the same head but for the digits.
            before, after, known = connection.last_range or _NO_RANGE
            if known is not None and data.startswith(before) and data.endswith(after):
                asked = data[len(before) : -len(after)]
            else:
                asked, known = self._recognise(data, connection)
            if known is None:
                return False
        asset, kind, request_id, row, logged = known
        now = self._now()
        stored = asset.stored
        if (
            not (asset.since <= now < asset.until or self.assets.renew(asset, now))
            or stored.detached
            or stored.stale_marked
            or stored.representation is not asset.representation
            or not self._served(asset.bucket)
        ):
            connection.last_range = None
            return False
        if request_id is None:
            request_id = next(self._request_ids)
        if kind == "206":
            count = self._range(connection, asset, request_id, asked, began)
        elif kind == "GET":
            count = self._whole(connection, asset, request_id, began)
        else:
            self._send(connection, self._head(asset, kind) + request_id + self._ending)
            count = 0
        if count < 0:
            return False
        ended = time.monotonic()
        connection.deadline = ended + self._idle
        row.answers += 1
        row.body_bytes += count
        self._counts.note(ended - began)
        asset.hits += 1
        if asset.hits == 1:
            self._note_use(asset)
        if self._access_log is not None:
            self._access_log.add_hot(
                (connection.peer, logged, row.status, count, ended - began, request_id, now)
            )
        return True

    def _recognise(self, data: bytes, connection: EdgeProtocol) -> tuple[bytes, _Known | None]:
        """Find a head by its two halves: the set of its Range, if any, and what is known of the rest."""
        before, asked, after = _around_range(data)
        if not after:
            return b"", self._learned(data, ranged=False)
        head = before + after
        known = self._range_heads.get(head) or self._learned(head, ranged=True)
        connection.last_range = before, after, known
        return asked, known

    def _learned(self, head: bytes, *, ranged: bool) -> _Known | None:
        cut = head.find(b"\r\n")
        target = self._lines.get(head[:cut])
        profile = (self._range_profiles if ranged else self._profiles).get(head[cut:])
        if target is None or profile is None:
            return None
        asset, head_only, logged = target
        if profile.tag is not None and profile.tag == asset.tag:
            kind, status = "304", 304
        elif head_only:
            kind, status = "HEAD", 200
        else:
            kind, status = ("206", 206) if ranged else ("GET", 200)
        heads = self._range_heads if ranged else self._heads
        _bounded(heads, MOST_REPEATED)
        known = heads[head] = _Known(
            asset, kind, profile.request_id, self._counts.row(head_only, status), logged
        )
        return known

    def _whole(self, connection: EdgeProtocol, asset: HotAsset, request_id: bytes, clock: float) -> int:
        """Answer 200; returns the length of the body, -1 when the ordinary way must see to it."""
        head, length, body = self._head(asset, "GET"), asset.length, asset.body
        if body is not None and length <= JOINED:
            self._send(connection, b"".join((head, request_id, self._ending, body)))
            return length
        head += request_id + self._ending
        if body is not None:
            self._send_both(connection, head, body)
        elif asset.map is None or not self.assets.at_hand(asset, 0, length, clock):
            return -1
        else:
            self.assets.touch(asset, length)
            self._send_both(connection, head, memoryview(asset.map))
        return length

    def _range(
        self, connection: EdgeProtocol, asset: HotAsset, request_id: bytes, asked: bytes, clock: float
    ) -> int:
        """Answer 206 to a range "first-last" or "first-"; returns as _whole."""
        first, dash, last = asked.partition(b"-")
        if not first.isdigit() or not dash or (last and not last.isdigit()) or len(asked) > LONGEST_RANGE:
            return -1
        start, length = int(first), asset.length
        stop = int(last) + 1 if last else length
        if not last or stop > length or asked[0] == _ZERO or last[0] == _ZERO:
            stop = min(stop, length)
            asked = b"%d-%d" % (start, stop - 1)
        count = stop - start
        if count <= 0 or not self.assets.at_hand(asset, start, stop, clock):
            return -1
        before, after = self._range_head(asset)
        span = b"\r\nContent-Range: bytes "
        head = b"".join((before, b"%d" % count, span, asked, after, request_id, self._ending))
        if asset.body is not None:
            self._send(connection, head + asset.body[start:stop])
        elif asset.map is None:
            return -1
        elif count < COPIED:
            # Measured: below some hundred kilobytes a copy in this process costs more than sendfile's
            # pages, above it less, because the reader then finds the bytes in a cache.
            self._send_file(connection, head, asset, start, count)
        else:
            self.assets.touch(asset, count)
            self._send_both(connection, head, memoryview(asset.map)[start:stop])
        return count

    # --- sending: at once as far as the socket takes it, the rest through the transport ----------------

    def _send(self, connection: EdgeProtocol, octets: bytes) -> None:
        connection.meter.hand(len(octets))
        transport = connection.transport
        sent = 0
        if transport is None:
            return
        if not transport.get_write_buffer_size():
            try:
                sent = (connection.direct or connection.open_direct())(octets)
            except BlockingIOError:
                pass
            except OSError:
                connection.cut("client")
                return
        if sent < len(octets):
            transport.write(octets[sent:])

    def _send_both(self, connection: EdgeProtocol, head: bytes, body: bytes | memoryview) -> None:
        connection.meter.hand(len(head) + len(body))
        sent = 0
        if connection.transport is not None and not connection.transport.get_write_buffer_size():
            try:
                sent = os.writev(connection.descriptor, (head, body))
            except BlockingIOError:
                pass
            except OSError:
                connection.cut("client")
                return
        self._queue(connection, head, body, sent)

    def _send_file(
        self, connection: EdgeProtocol, head: bytes, asset: HotAsset, start: int, count: int
    ) -> None:
        """As _send_both, the body by sendfile."""
        connection.meter.hand(len(head) + count)
        sent = 0
        if connection.transport is not None and not connection.transport.get_write_buffer_size():
            try:
                send = connection.direct or connection.open_direct()
                # Measured: what does not fit one packet with its head had better not wait for it, for
                # the rest is then held back by the pacing of the one before.
                sent = send(head, socket.MSG_MORE) if len(head) + count <= ONE_PACKET else send(head)
                if sent == len(head):
                    sent += os.sendfile(connection.descriptor, asset.fd, start, count)
            except BlockingIOError:
                pass
            except OSError:
                connection.cut("client")
                return
        if sent < len(head) + count and asset.map is not None:
            self._queue(connection, head, memoryview(asset.map)[start : start + count], sent)

    @staticmethod
    def _queue(connection: EdgeProtocol, head: bytes, body: bytes | memoryview, sent: int) -> None:
        """Hand what follows the first `sent` octets of both to the transport."""
        transport = connection.transport
        if transport is None or sent == len(head) + len(body):
            return
        if sent < len(head):
            transport.write(head[sent:])
            sent = len(head)
        transport.write(memoryview(body)[sent - len(head) :])

    # --- heads --------------------------------------------------------------------------------------

    def _head(self, asset: HotAsset, kind: str) -> bytes:
        """The head of a GET, HEAD or 304 up to its request id, as the ordinary way writes it now."""
        head = asset.heads.get(kind)
        if not isinstance(head, bytes):
            selection = Selection(304 if kind == "304" else 200, None, None)
            head = asset.heads[kind] = self._render(asset, selection, kind == "GET")
        return head

    def _range_head(self, asset: HotAsset) -> tuple[bytes, bytes]:
        """The head of a 206, cut where the span's length stands and behind its Content-Range's span."""
        parts = asset.heads.get("206")
        if not isinstance(parts, tuple):
            length = asset.length
            whole = self._render(asset, Selection(206, [Span(0, length)], "single"), True)
            field = b"\r\nContent-Length: "
            span = b"%d\r\nContent-Range: bytes 0-%d" % (length, length - 1)
            before, _, after = whole.partition(field + span)
            parts = asset.heads["206"] = before + field, after
        return parts

    def _render(self, asset: HotAsset, selection: Selection, with_body: bool) -> bytes:
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
        return serialize_head(selection.status, fields, "")[:-2] + _TIMING

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
        asset = self.assets.want(key, asset_id, stored, now)
        if asset is not None:
            _bounded(self._lines, MOST_LINES)
            self._lines[octets[:cut]] = _Target(
                asset, request.method == "HEAD", LoggedTarget.of(request.method, request.path)
            )
            # What was kept of this very head may name an asset that has been let go of.
            self._heads.pop(octets, None)
            before, _, after = _around_range(octets)
            self._range_heads.pop(before + after, None)

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
        before, asked, after = _around_range(lines)
        if not asked[:1].isdigit():
            return False
        _bounded(self._range_profiles, MOST_PROFILES)
        self._range_profiles[before + after] = profile
        return True

    # --- keeping house ------------------------------------------------------------------------------

    def _note_use(self, asset: HotAsset) -> None:
        self.assets.note_use(asset)
        if self.assets.gone > FORGOTTEN:
            self.assets.gone = 0
            self._lines = {line: target for line, target in self._lines.items() if not target.asset.dead}
            for heads in (self._heads, self._range_heads):
                for head in [head for head, known in heads.items() if known.asset.dead]:
                    del heads[head]

    async def close(self) -> None:
        """Let go of everything."""
        await self.assets.close()


def _around_range(octets: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before, in and behind the set of the `Range: bytes=` field; the last b"": there is none."""
    at = octets.find(_RANGE_FIELD)
    if at < 0:
        return octets, b"", b""
    at += len(_RANGE_FIELD)
    end = octets.find(b"\r\n", at)
    return octets[:at], octets[at:end], octets[end:]


def _request_ids() -> Iterator[bytes]:
    """16 hexadecimal digits each, no two alike for as long as the process lives."""
    suffixes = [b"%03x" % number for number in range(4096)]
    serial = int.from_bytes(os.urandom(6), "big") << 4
    while True:
        prefix = b"%013x" % (serial & 0xF_FFFF_FFFF_FFFF)
        for suffix in suffixes:
            yield prefix + suffix
        serial += 1


def _bounded(table: dict[bytes, Any], most: int) -> None:
    """Make room for one more by letting the oldest go."""
    if len(table) >= most:
        del table[next(iter(table))]
