"""Request heads: found in the bytes received, checked, and read by aiohttp's parser.

aiohttp's parser is fed exactly one head at a time, so nothing that follows it can be taken for
something else. What that parser lets pass and RFC 9112 does not is refused here: bare CR or LF,
other versions, HTTP/0.9, two spaces, Transfer-Encoding of an HTTP/1.0 client, a Host that is no
authority. It knows a closed list of methods; other tokens are read in the guise of POST, because
whether a method is allowed depends on the path and is not for the framing to decide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

__all__ = ["MAX_FIELD", "MAX_HEAD", "BadHead", "Head", "find_end", "read_head"]

MAX_FIELD = 16 * 1024  # bytes of one field line, and of the request line
MAX_HEAD = 64 * 1024  # bytes of the whole head
_KNOWN_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS"})
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([^\x00-\x20\x7f]+) HTTP/1\.([01])\r\n")
# uri-host [ ":" port ]; loose on purpose: it selects nothing, but octets outside it are an attack
_HOST = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:%\[\]]*", re.ASCII)
_TOKEN_START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]")


class BadHead(Exception):
    """Octets that RFC 9112 does not allow; what follows on the connection cannot be trusted."""


class Head(NamedTuple):
    """A head that is well framed.

    method      as sent
    target      ASCII: octets above 0x7F are percent-encoded
    length      declared bytes of the body; None: chunked; 0: there is none
    payload     where aiohttp's parser puts the body
    """

    method: str
    target: str
    http10: bool
    length: int | None
    expects_continue: bool
    message: RawRequestMessage
    payload: StreamReader


class _Parser(Protocol):
    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]: ...
    def set_upgraded(self, val: bool) -> None: ...


def find_end(received: bytearray, scanned: int) -> int:
    """Return where the head at the start of `received` ends, past its empty line; -1: not yet.

    scanned  bytes already looked at by an earlier call

    Raises BadHead as soon as the octets cannot become a head: not a token at the start, a bare LF,
    more than MAX_HEAD bytes. Empty lines before the request line are removed (RFC 9112 §2.2).
    """
    while received.startswith(b"\r\n"):
        del received[:2]
        scanned = 0
    end = received.find(b"\r\n\r\n", max(scanned - 3, 0))
    if end >= 0:
        if end > MAX_HEAD:
            raise BadHead("head too large")
        return end + 4
    if not received:
        return -1
    if len(received) > MAX_HEAD:
        raise BadHead("head too large")
    if not _TOKEN_START.match(received) and received != b"\r":
        raise BadHead("no token where a method belongs")
    at = received.find(b"\n", max(scanned - 1, 0))
    while at >= 0:
        if received[at - 1 : at] != b"\r":
            raise BadHead("bare LF")
        at = received.find(b"\n", at + 1)
    return -1


def read_head(parser: _Parser, octets: bytes) -> Head:
    """Return the head that `octets`, from the request line to the empty line, hold.

    Raises BadHead. The parser then cannot be used again.
    """
    line = _REQUEST_LINE.match(octets)
    if line is None:
        raise BadHead("request line")
    ends = octets.count(b"\r\n")
    if octets.count(b"\n") != ends or octets.count(b"\r") != ends:
        raise BadHead("bare CR or LF")
    method, target, minor = line.groups()
    if not target.isascii():
        target = b"".join(b"%%%02X" % octet if octet > 0x7F else b"%c" % octet for octet in target)
        octets = b"%b %b HTTP/1.%b\r\n%b" % (method, target, minor, octets[line.end() :])
    if method not in _KNOWN_METHODS:
        octets = b"POST" + octets[len(method) :]
    try:
        messages, upgraded, _ = parser.feed_data(octets)
    except HttpProcessingError as error:
        raise BadHead(type(error).__name__) from error
    if upgraded:
        parser.set_upgraded(False)  # this server never switches protocols
    if len(messages) != 1:
        raise BadHead("not one head")
    message, payload = messages[0]
    return _checked(method.decode(), target.decode(), minor == b"0", message, payload)


def _checked(
    method: str, target: str, http10: bool, message: RawRequestMessage, payload: StreamReader
) -> Head:
    headers = message.headers
    host = headers.get("Host")
    if host is not None and not _HOST.fullmatch(host):
        raise BadHead("Host")
    length: int | None = 0
    if "Transfer-Encoding" in headers:
        if http10:  # RFC 9112 §6.1: its framing cannot be trusted
            raise BadHead("Transfer-Encoding in HTTP/1.0")
        length = None
    elif "Content-Length" in headers:
        length = int(headers["Content-Length"])
    expects = not http10 and headers.get("Expect", "").lower() == "100-continue"
    return Head(method, target, http10, length, expects, message, payload)
