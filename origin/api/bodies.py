"""Request bodies: as a stream of chunks, or as one small document."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from origin.api.protocol import OriginRequest
from origin.errors import IncompleteBody, Invalid, TooLarge

_SHA256 = re.compile(r"(?:^|[,\s])sha-256\s*=\s*:([A-Za-z0-9+/]{43}=):")


async def body_chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Leave to send it (100 Continue) is given only now.

    Raises IncompleteBody when it ends early, stalls, or its coding is broken.
    """
    await allow_body(request)
    content = request.content
    try:
        while chunk := await content.readany():
            yield chunk
    except IncompleteBody:
        raise
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError) as error:
        raise IncompleteBody("the body ended early, or its transfer coding is broken") from error


async def allow_body(request: web.Request) -> None:
    """Send 100 Continue if the client waits for it (RFC 9110 §10.1.1). Once."""
    if isinstance(request, OriginRequest) and request.answer_expected:
        request.answer_expected = False
        transport = request.transport
        if transport is not None and not request.content.is_eof():
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the whole body, of at most `limit` bytes. Raises TooLarge, IncompleteBody."""
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(limit)
    parts: list[bytes] = []
    size = 0
    async for chunk in body_chunks(request):
        size += len(chunk)
        if size > limit:
            raise TooLarge(limit)
        parts.append(chunk)
    return b"".join(parts)


async def read_object(request: web.Request, limit: int = 1 << 20) -> dict[str, object]:
    """Return a JSON object. Raises Invalid for anything else."""
    try:
        value = msgspec.json.decode(await read_body(request, limit) or b"{}")
    except msgspec.DecodeError as error:
        raise Invalid("body", "not JSON") from error
    if not isinstance(value, dict):
        raise Invalid("body", "not a JSON object")
    return value


def declared_sha256(request: web.Request) -> str | None:
    """Return the SHA-256, hexadecimal, that Content-Digest or Repr-Digest declares (RFC 9530), or None."""
    for name in ("Content-Digest", "Repr-Digest"):
        found = _SHA256.search(", ".join(request.headers.getall(name, [])))
        if found:
            try:
                return base64.b64decode(found[1], validate=True).hex()
            except binascii.Error as error:
                raise Invalid(name, "not a digest") from error
    return None
