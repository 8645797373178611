"""One exchange with one source: aiohttp's client, its errors turned into our own.

Redirects are not followed, nothing is decoded, no field is invented but those of the contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NoReturn

import aiohttp
from yarl import URL

from distributor.core.keys import fill_template
from distributor.errors import (
    BodyShort,
    SourceError,
    SourceProtocol,
    SourceStalled,
    SourceTimeout,
    SourceUnreachable,
)
from distributor.http.fields import Fields
from distributor.ports import Clock, Observer, SourceRequest, SystemClock

READ_BUFFER = 512 * 1024  # bytes a connection may run ahead of its reader; half of it in practice


class HttpExchange:
    """A response whose head has come. See `ports.Exchange`."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        source: str,
        stall_timeout: float,
        request_time: float,
        response_time: float,
        observer: Observer,
    ) -> None:
        self.status = response.status
        self.fields: Fields = tuple((_text(name), _text(value)) for name, value in response.raw_headers)
        self.source = source
        self.request_time = request_time
        self.response_time = response_time
        self._response = response
        self._stall_timeout = stall_timeout
        self._observer = observer
        connection = response.connection
        framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        self._protocol = None if framed or connection is None else connection.protocol

    async def read(self) -> bytes:
        """See `ports.Exchange.read`."""
        try:
            async with asyncio.timeout(self._stall_timeout):
                data = await self._response.content.readany()
        except TimeoutError:
            data = self._left_over()
            if not data:
                raise SourceStalled(source=self.source) from None
        except (aiohttp.ClientError, OSError) as error:
            data = self._left_over()
            if not data:
                kind = BodyShort if isinstance(error, aiohttp.ClientPayloadError) else SourceProtocol
                raise kind(type(error).__name__, source=self.source) from error
        if not data and self._was_reset():
            raise BodyShort("reset", source=self.source)
        self._observer.source_received(self.source, len(data))
        return data

    def _was_reset(self) -> bool:
        """A body that only closing ends is whole when the source closed, not when it broke off."""
        return self._protocol is not None and isinstance(self._protocol.exception(), aiohttp.ClientOSError)

    def _left_over(self) -> bytes:
        """What came before the body broke off: the public ways to it raise from then on."""
        content = self._response.content
        return content._read_nowait(-1) if content._buffer else b""

    def close(self) -> None:
        """See `ports.Exchange.close`."""
        if not self._response.closed:
            if self._response.content.at_eof():
                self._response.release()
            else:
                self._response.close()


class HttpSource:
    """One upstream address, `url` with `{id}`. See `ports.Source`.

    headers  fields set for the source, such as its credentials; never logged
    """

    def __init__(
        self,
        name: str,
        url: str,
        session: aiohttp.ClientSession,
        *,
        user_agent: str,
        connect_timeout: float,
        stall_timeout: float,
        observer: Observer,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._url = url
        self._session = session
        self._user_agent = user_agent
        # Silence is measured from the last byte either way came, so a slow connect takes nothing from it.
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout, sock_read=stall_timeout
        )
        self._head_timeout = connect_timeout + stall_timeout
        self._stall_timeout = stall_timeout
        self._observer = observer
        self._headers = dict(headers or {})
        self._clock = clock or SystemClock()

    @property
    def name(self) -> str:
        return self._name

    async def open(self, request: SourceRequest) -> HttpExchange:
        """See `ports.Source.open`."""
        url = URL(fill_template(self._url, request.asset_id, request.query), encoded=True)
        clock = self._clock
        sent, began = clock.now(), clock.monotonic()
        try:
            async with asyncio.timeout(self._head_timeout):
                response = await self._session.request(
                    request.method,
                    url,
                    headers=self._fields(request),
                    allow_redirects=False,
                    timeout=self._timeout,
                )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._fail(error)
        self._observer.source_request(self._name, request.method, response.status)
        self._observer.source_latency(self._name, clock.monotonic() - began)
        return HttpExchange(response, self._name, self._stall_timeout, sent, clock.now(), self._observer)

    def _fields(self, request: SourceRequest) -> list[tuple[str, str]]:
        out = list(request.fields)
        if request.start is not None:
            last = "" if request.stop is None else str(request.stop - 1)
            out.append(("Range", f"bytes={request.start}-{last}"))
            if request.condition is not None:
                out.append(("If-Range", request.condition))
        own = [
            ("Accept", "*/*"),
            ("User-Agent", self._user_agent),
            ("Want-Repr-Digest", "sha-256=10"),
        ]
        # What is set for the source is stronger than what a client's request brought along.
        for stronger in (out, [("Accept-Encoding", "identity"), *self._headers.items()]):
            given = {name.lower() for name, _ in stronger}
            own = [item for item in own if item[0].lower() not in given] + stronger
        return [(name, _sendable(value)) for name, value in own]

    def _fail(self, error: BaseException) -> NoReturn:
        """Raise our own error for `error`; whether anything was sent decides which."""
        kind = type(error).__name__
        failure: SourceError
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            failure = SourceUnreachable(kind, source=self._name)
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                failure = SourceTimeout(kind, source=self._name)
        elif isinstance(error, TimeoutError):
            failure = SourceTimeout(kind, source=self._name)
        else:
            failure = SourceProtocol(kind, source=self._name)
        raise failure from error

    async def close(self) -> None:
        """The session is shared by all sources and closed by whoever made it."""


def make_session() -> aiohttp.ClientSession:
    """The one client session of a node: no cookies, no decoding, no invented fields, no proxies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ttl_dns_cache=10, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=READ_BUFFER,
        max_line_size=32 * 1024,
        max_field_size=32 * 1024,
    )


def _text(octets: bytes) -> str:
    """A character for each octet (ISO 8859-1): whatever a source sends is sent on as it came."""
    return octets.decode("latin-1")


def _sendable(value: str) -> str:
    """`value`, an octet a character, as what aiohttp will encode into those octets where it can."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
