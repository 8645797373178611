"""An edge's operator API, over HTTP: what the origin tells it to forget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from origin.errors import Unavailable

_CONNECT = 2.0  # seconds
_ANSWER = 30.0  # seconds: a bucket of millions takes its time
_LONGEST = 64 * 1024  # bytes of an answer that are looked at


class HttpEdge:
    """Fulfils `ports.EdgeApi`.

    url         of the operator port, without a path: http://127.0.0.1:3335
    token       bearer token; None: the one that token_file holds at the time of each call
    """

    def __init__(self, url: str, *, token: str | None = None, token_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._token_file = token_file
        self._session: aiohttp.ClientSession | None = None

    async def purge(self, *, ids: Sequence[str] = (), bucket: str | None = None) -> None:
        """See `ports.EdgeApi`."""
        token = await self._read_token()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=_ANSWER, sock_connect=_CONNECT),
            )
        try:
            async with self._session.post(
                f"{self.url}/api/v1/purge",
                json={"bucket": bucket} if bucket is not None else {"ids": list(ids)},
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
            ) as response:
                await response.content.read(_LONGEST)
                if response.status != 200:
                    raise Unavailable(f"it answers {response.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(_reason(error)) from None

    async def _read_token(self) -> str:
        if self._token is not None:
            return self._token
        assert self._token_file is not None
        try:
            token = (await asyncio.to_thread(self._token_file.read_text, "ascii")).strip()
        except (OSError, UnicodeDecodeError):
            raise Unavailable(f"its token cannot be read from {self._token_file}") from None
        if not token.isprintable() or not token:
            raise Unavailable(f"{self._token_file} holds no token")
        return token

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _reason(error: Exception) -> str:
    """For the log; of an exception's own words only those of the operating system."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    cause = getattr(error, "strerror", None) if isinstance(error, OSError) else None
    return f"it cannot be reached ({cause or type(error).__name__})"
