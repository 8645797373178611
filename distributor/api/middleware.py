"""What surrounds every route: errors made into answers, common fields, sending, counting, logging."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal, cast

from distributor.api.disk import DiskReader
from distributor.api.errors import INTERNAL, Problem, problem_of, retry_after_of
from distributor.api.logs import AccessLog
from distributor.api.messages import NO_STORE, Reply, Request, problem_reply
from distributor.api.protocol import EdgeProtocol
from distributor.api.send import NotBegun, Sender, serialize_head
from distributor.core.model import Outcome
from distributor.errors import (
    DigestMismatch,
    EdgeError,
    FetchCancelled,
    RangeNotSatisfiable,
    StoreError,
    VersionChanged,
)
from distributor.http.fields import Fields, format_date
from distributor.ports import Body, Observer

__all__ = ["CORS", "PUBLIC_FIELDS", "Frontend"]

log = logging.getLogger(__name__)

Aborted = Literal["client", "source", "digest", "version", "slow_reader", "shutdown"]
CLIENT_LEFT = 499  # logged and counted, never sent: the client left before there was an answer

_EXPOSED = (
    "Accept-Ranges, Age, Cache-Status, Content-Length, Content-Range, Date, ETag, Repr-Digest, "
    "Retry-After, Server-Timing, X-Cache, X-Data-Source, X-Request-Id"
)
CORS = (
    "Access-Control-Allow-Origin: *\r\n"
    "Timing-Allow-Origin: *\r\n"
    "Cross-Origin-Resource-Policy: cross-origin\r\n"
    f"Access-Control-Expose-Headers: {_EXPOSED}\r\n"
)
SERVER = "Server: distributor\r\n"
PUBLIC_FIELDS = SERVER + CORS
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "DELETE"})


class Frontend:
    """Turns requests of one listener into answers on their connections.

    routes  gives the Reply of a request; what it raises becomes an ErrorResponse
    cors    whether answers carry the fields of the contract's CORS paragraph
    """

    def __init__(
        self,
        routes: Callable[[Request], Awaitable[Reply]],
        *,
        cors: bool,
        disk: DiskReader,
        observer: Observer,
        access_log: AccessLog | None,
    ) -> None:
        self._routes = routes
        self._operators = not cors
        self._common = PUBLIC_FIELDS if cors else SERVER
        self._disk = disk
        self._observer = observer
        self._access_log = access_log
        self._date = (0, "")

    def problem(self, problem: Problem, fields: Fields) -> bytes:
        """The octets of an answer to what is no request; the connection then ends."""
        length = (("Content-Length", str(len(problem.body))),)
        lines = (*self._now(), *NO_STORE, *length, *fields, ("Connection", "close"))
        return serialize_head(problem.status, lines, self._common) + problem.body

    async def answer(self, request: Request, connection: EdgeProtocol) -> bool:
        """Answer `request`; True: the connection may go on. Cancelled when the client leaves."""
        route = self._route_of(request.path)
        outcome = Outcome(route, request.method, CLIENT_LEFT, request_id=request.request_id)
        try:
            reply = await self._reply(request, route)
            try:
                return await self._send(request, reply, connection, outcome)
            finally:
                if reply.body is not None and not isinstance(reply.body, bytes):
                    await _closed(reply.body)
        except (asyncio.CancelledError, ConnectionError):
            outcome.aborted = cast(Aborted, connection.cut_reason or "client")
            raise
        finally:
            outcome.duration = time.monotonic() - request.started
            self._over(outcome, request)

    def _route_of(self, path: str) -> str:
        """What a request counts as that gets no reply of its route's own."""
        if self._operators:
            return "operator"
        return "assets" if path.startswith(("/assets/", "/api/v1/assets/")) else "other"

    async def _reply(self, request: Request, route: str) -> Reply:
        try:
            return await self._routes(request)
        except EdgeError as error:
            return error_reply(route, error)
        except Exception:
            log.exception("defect while answering request %s", request.request_id)
            return problem_reply(route, INTERNAL)

    # --- sending ------------------------------------------------------------------------------------

    async def _send(self, request: Request, reply: Reply, connection: EdgeProtocol, outcome: Outcome) -> bool:
        _note(outcome, reply)
        body = reply.body if request.method != "HEAD" and reply.status not in (204, 304) else None
        if body is None or isinstance(body, bytes):
            return await self._send_whole(request, reply, connection, outcome, body or b"")
        chunked = body.length is None and not request.http10
        keep = connection.keeps and (body.length is not None or chunked)
        head = self._head(request, reply, keep, body.length, chunked)
        if head is None:
            return await self._send(request, problem_reply(reply.route, INTERNAL), connection, outcome)
        sender = Sender(connection, self._disk)
        try:
            # On a hit the first piece is there already and shares a packet with the head.
            await sender.stream(head, body, chunked=chunked, at_once=reply.cache != "hit")
        except NotBegun as failure:
            substitute = error_reply(reply.route, failure.error)
            substitute.asset_id = reply.asset_id
            return await self._send(request, substitute, connection, outcome)
        except EdgeError as error:
            outcome.aborted = _abort_reason(error)
            outcome.detail = type(error).__name__
            connection.cut(reset=not chunked and body.length is None)
            return False
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            # A defect of ours, amid a body: it must not look like the body's end.
            log.exception("defect while sending the answer to request %s", request.request_id)
            outcome.aborted = "source"
            connection.cut(reset=True)
            return False
        finally:
            outcome.body_bytes = sender.sent
            if sender.first_byte is not None:
                outcome.ttfb = sender.first_byte - request.started
        return keep

    async def _send_whole(
        self, request: Request, reply: Reply, connection: EdgeProtocol, outcome: Outcome, body: bytes
    ) -> bool:
        length = len(reply.body) if isinstance(reply.body, bytes) else None
        if length is None and reply.body is not None and not isinstance(reply.body, bytes):
            length = reply.body.length  # HEAD
        if length is None and request.method != "HEAD" and reply.status not in (204, 304):
            length = 0
        keep = connection.keeps
        head = self._head(request, reply, keep, length, False)
        if head is None:
            return await self._send(request, problem_reply(reply.route, INTERNAL), connection, outcome)
        sender = Sender(connection, self._disk)
        try:
            await sender.whole(head, body)
        finally:
            outcome.body_bytes = sender.sent
            if sender.first_byte is not None:
                outcome.ttfb = sender.first_byte - request.started
        return keep

    def _head(
        self, request: Request, reply: Reply, keep: bool, length: int | None, chunked: bool
    ) -> bytes | None:
        """The head of an answer; None where its fields cannot be sent, which is a defect of ours."""
        lines = list(reply.fields)
        names = {name.lower() for name, _ in lines}
        if "date" not in names:
            lines += self._now()
        if length is not None and "content-length" not in names and reply.status not in (204, 304):
            lines.append(("Content-Length", str(length)))
        if chunked:
            lines.append(("Transfer-Encoding", "chunked"))
        if not keep:
            lines.append(("Connection", "close"))
        elif request.http10:
            lines.append(("Connection", "keep-alive"))
        if reply.cache is not None:
            lines.append(("Server-Timing", _server_timing(request, reply)))
        lines.append(("X-Request-Id", request.request_id))
        try:
            return serialize_head(reply.status, lines, self._common)
        except ValueError:
            log.exception("defect in the fields of the answer to request %s", request.request_id)
            return None

    def _now(self) -> Fields:
        second = int(time.time())
        if self._date[0] != second:
            self._date = (second, format_date(second))
        return (("Date", self._date[1]),)

    # --- afterwards ---------------------------------------------------------------------------------

    def _over(self, outcome: Outcome, request: Request) -> None:
        if outcome.method not in _METHODS:
            outcome.method = "other"  # as a label: clients must not be able to make up new series
        self._observer.request(outcome)
        if self._access_log is not None:
            outcome.method = request.method
            self._access_log.add(outcome, request.peer, request.path)


def error_reply(route: str, error: EdgeError, fields: Fields = ()) -> Reply:
    """Return the ErrorResponse for `error`, with the fields that its status asks for."""
    problem = problem_of(error)
    names = {name.lower() for name, _ in fields}
    extra = [line for line in fields if line[0].lower() not in ("content-type", "cache-control")]
    if problem.status == 503 and "retry-after" not in names:
        extra.append(("Retry-After", str(retry_after_of(error))))
    if isinstance(error, RangeNotSatisfiable) and "content-range" not in names:
        extra.append(("Content-Range", f"bytes */{error.complete_length}"))
    return Reply(route, problem.status, (*NO_STORE, *extra), problem.body, error=error)


def _note(outcome: Outcome, reply: Reply) -> None:
    outcome.route, outcome.status = reply.route, reply.status
    outcome.cache, outcome.data_source = reply.cache, reply.data_source
    outcome.source_seconds, outcome.range_kind = reply.source_seconds, reply.range_kind
    outcome.asset_id = reply.asset_id
    if reply.error is not None:
        outcome.detail = type(reply.error).__name__


def _server_timing(request: Request, reply: Reply) -> str:
    spent = (time.monotonic() - request.started) * 1000
    timing = f"cache;desc={reply.cache}, edge;dur={spent:.1f}"
    if reply.source_seconds is not None:
        timing += f", source;dur={reply.source_seconds * 1000:.1f}"
    return timing


def _abort_reason(error: EdgeError) -> Aborted:
    if isinstance(error, DigestMismatch | StoreError):
        return "digest" if isinstance(error, DigestMismatch) else "source"
    if isinstance(error, VersionChanged):
        return "version"
    return "shutdown" if isinstance(error, FetchCancelled) else "source"


async def _closed(body: Body) -> None:
    """Close a body whatever it raises: the answer is over, and its end must not change that."""
    try:
        await body.aclose()
    except Exception:
        log.exception("defect while closing a body")
