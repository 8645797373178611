"""Log lines as text or JSON, on standard error, written by a thread of their own.

The queue to the thread is bounded: when whoever reads the log has stopped, lines are dropped and
counted, and the origin goes on serving.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
import time
from typing import TextIO

import msgspec

_QUEUED = 10_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def _clean(text: str) -> str:
    """Keep one line one line, whatever a client sent."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = (
            f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower():7} {record.name} "
            f"{_clean(record.getMessage())}"
        )
        for key, value in vars(record).items():
            if key not in _STANDARD:
                line += f" {key}={_clean(str(value))}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({k: v for k, v in vars(record).items() if k not in _STANDARD})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode("utf-8")


class _Queue(logging.handlers.QueueHandler):
    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # formatted by the thread, exception and all


def set_up(level: str, form: str, stream: TextIO | None = None) -> logging.handlers.QueueListener:
    """Send all logging to `stream` (None: standard error). Returns the running thread: `stop` it.

    level  debug, info, warning, error; form: text or json
    """
    target = logging.StreamHandler(stream or sys.stderr)
    target.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUED)
    root = logging.getLogger()
    root.handlers[:] = [_Queue(lines)]
    root.setLevel(_LEVELS.get(level, logging.INFO))
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    listener = logging.handlers.QueueListener(lines, target)
    listener.start()
    return listener
