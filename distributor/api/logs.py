"""Log lines, in text or JSON, written by one thread so that no request waits for a full pipe.

Access lines are gathered and handed over in batches. The queue to the thread is bounded: when
whoever reads the log has stopped, lines are dropped and counted, and the node goes on serving.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

import msgspec

from distributor.core.model import DataSource, Outcome
from distributor.http.cache_status import CacheState

__all__ = ["AccessLog", "HotLine", "LogWriter", "LoggedTarget", "set_up_logging"]

BATCH_LINES = 1000
BATCH_SECONDS = 0.25
QUEUED_BATCHES = 1000
_TENTH = 0.00005  # seconds; less is 0.0 ms
_UNSAFE = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x22, 0x5C, *range(0x7F, 0xA0))}


class LogWriter:
    """Writes what it is given to a stream, in order, from its own thread.

    dropped  batches lost because the stream took none
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr.buffer
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUED_BATCHES)
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        self.dropped = 0

    def put(self, lines: bytes) -> None:
        """Write `lines`, whole lines with their ends, as soon as may be. Never waits."""
        try:
            self._queue.put_nowait(lines)
        except queue.Full:
            self.dropped += 1

    def close(self, seconds: float = 2.0) -> None:
        """Write what is queued, as far as `seconds` go."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            try:
                self._stream.write(lines)
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1


class _Handler(logging.Handler):
    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._writer.put(line.encode("utf-8", "backslashreplace") + b"\n")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_stamp(record.created)} {record.levelname} {record.name} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def set_up_logging(level: str, form: str, writer: LogWriter) -> None:
    """Send all log records of the process, from `level` up, to `writer`; form: text or json."""
    handler = _Handler(writer)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # asyncio and aiohttp speak of what clients did at these levels; what matters we log ourselves.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("aiohttp").setLevel(logging.ERROR)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LoggedTarget(NamedTuple):
    """What a request line reads like in the log, made once for all requests that bear it."""

    method: str
    path: str
    text: bytes

    @classmethod
    def of(cls, method: str, path: str) -> LoggedTarget:
        return cls(method, path, f"{method} {path.translate(_UNSAFE)}".encode("utf-8", "backslashreplace"))


HotLine = tuple[str, LoggedTarget, int, int, float, bytes, float]
"""A hit that was answered the short way: peer, target, status, body bytes, seconds, request id, now.

Formatted with its batch, into what the ordinary way would have logged.
"""


class AccessLog:
    """One line for each answer: who asked for what, what they got, and how many body bytes of it.

    form  text or json. The query string is not logged: it may hold signatures.
    """

    def __init__(self, writer: LogWriter, form: str) -> None:
        self._writer = writer
        self._format, self._format_hot = FORMS[form]
        self._lines: list[bytes] = []
        self._hot: list[HotLine] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, outcome: Outcome, peer: str, path: str) -> None:
        """Note an answer that is over."""
        self._append(self._format(outcome, peer, path, time.time()))

    def add_hot(self, line: HotLine) -> None:
        """Note a hit that was answered the short way: in the log the same line as any other's."""
        self._hot.append(line)
        if len(self._hot) >= BATCH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self.flush)

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) >= BATCH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hand over what is gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._hot:
            self._lines += self._format_hot(self._hot)
            self._hot = []
        if self._lines:
            self._writer.put(b"".join(self._lines))
            self._lines = []


def _text_line(outcome: Outcome, peer: str, path: str, now: float) -> bytes:
    cache = outcome.cache.value if outcome.cache is not None else "-"
    line = (
        f"{_stamp(now)} ACCESS {peer} {outcome.method.translate(_UNSAFE)} {path.translate(_UNSAFE)} "
        f"{outcome.status} {outcome.body_bytes} {cache} {outcome.data_source} "
        f"{outcome.ttfb * 1000:.1f}ms {outcome.duration * 1000:.1f}ms {outcome.request_id}"
    )
    if outcome.aborted is not None:
        line += f" aborted={outcome.aborted}"
    if outcome.detail:
        line += f" error={outcome.detail}"
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _json_line(outcome: Outcome, peer: str, path: str, now: float) -> bytes:
    entry: dict[str, object] = {
        "time": _stamp(now),
        "level": "access",
        "peer": peer,
        "route": outcome.route,
        "method": outcome.method,
        "path": path.encode("utf-8", "backslashreplace").decode(),
        "status": outcome.status,
        "bytes": outcome.body_bytes,
        "cache": outcome.cache.value if outcome.cache is not None else None,
        "dataSource": outcome.data_source,
        "ttfb": round(outcome.ttfb, 6),
        "duration": round(outcome.duration, 6),
        "requestId": outcome.request_id,
    }
    if outcome.aborted is not None:
        entry["aborted"] = outcome.aborted
    if outcome.detail:
        entry["error"] = outcome.detail
    return msgspec.json.encode(entry) + b"\n"


def _text_hot_lines(lines: list[HotLine]) -> list[bytes]:
    """As _text_line, for a whole batch; what is the same for many lines is made once."""
    out: list[bytes] = []
    peers: dict[str, bytes] = {}
    known, stamp = -1, b""
    for peer, target, status, count, seconds, request_id, now in lines:
        millisecond = int(now * 1000)
        if millisecond != known:
            known, stamp = millisecond, f"{_stamp(millisecond / 1000)} ACCESS ".encode()
        who = peers.get(peer)
        if who is None:
            who = peers[peer] = peer.encode()
        spent = b"0.0ms 0.0ms" if seconds < _TENTH else b"%.1fms %.1fms" % (seconds * 1000, seconds * 1000)
        source = b"local" if count else b"none"
        out.append(
            b"%b%b %b %d %d hit %b %b %b\n"
            % (stamp, who, target.text, status, count, source, spent, request_id)
        )
    return out


def _json_hot_lines(lines: list[HotLine]) -> list[bytes]:
    out: list[bytes] = []
    for peer, target, status, count, seconds, request_id, now in lines:
        source: DataSource = "local" if count else "none"
        outcome = Outcome(
            "assets",
            target.method,
            status,
            CacheState.HIT,
            source,
            count,
            seconds,
            seconds,
            request_id=request_id.decode(),
        )
        out.append(_json_line(outcome, peer, target.path, now))
    return out


FORMS = {"text": (_text_line, _text_hot_lines), "json": (_json_line, _json_hot_lines)}
"""By name: how a line is made of an outcome, and lines of hits that were answered the short way."""
