"""Calls to an origin's administration from the command line."""

from __future__ import annotations

import asyncio
import base64
import functools
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import click
import msgspec

CONNECT = 10.0  # seconds
STALL = 120.0  # seconds without a byte from the service; the end of a large upload is one long fsync


class Refused(click.ClickException):
    """The service said no. Exit code 1."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the service is, and who asks."""

    url: str
    user: str
    password: str | None
    token: str | None

    def session(self) -> aiohttp.ClientSession:
        headers = {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        elif self.password is not None:
            pair = f"{self.user}:{self.password}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=STALL)
        return aiohttp.ClientSession(headers=headers, timeout=timeout)

    def address(self, *segments: str) -> str:
        """Return the URL of a path given by its segments, each encoded whole."""
        return self.url.rstrip("/") + "/" + "/".join(quote(segment, safe="") for segment in segments)

    async def call(
        self,
        session: aiohttp.ClientSession,
        method: str,
        *segments: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Any:
        """Return the JSON answer of `/admin/v1/<segments>`, None for 204. Raises Refused."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = None if body is None else msgspec.json.encode(body)
        url = self.address("admin", "v1", *segments)
        try:
            async with session.request(method, url, params=query, data=data, headers=headers) as response:
                return await answer_of(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise click.ClickException(f"{self.url} does not answer: {error or 'timed out'}") from error


async def answer_of(response: aiohttp.ClientResponse) -> Any:
    """Return the JSON of an answer. Raises Refused with the service's own words for an error."""
    text = await response.read()
    try:
        value = msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        value = None
    if response.status < 400:
        return value
    said = value.get("messages") if isinstance(value, dict) else None
    message = "; ".join(map(str, said)) if isinstance(said, list) and said else response.reason or "refused"
    raise Refused(response.status, f"{response.status}: {message}")


def remote_options(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Add the options that say where and who; the command becomes `command(remote, …)`."""

    @click.option("--url", envvar="ORIGIN_URL", default="http://127.0.0.1:3333", show_default=True)
    @click.option("--user", envvar="ORIGIN_USER", default="admin", show_default=True, help="Who asks.")
    @click.option("--password", envvar="ORIGIN_PASSWORD", help="Better given as ORIGIN_PASSWORD.")
    @click.option("--token", envvar="ORIGIN_TOKEN", help="Instead of user and password.")
    @functools.wraps(command)
    def run(*args: Any, url: str, user: str, password: str | None, token: str | None, **options: Any) -> None:
        if not password and not token and sys.stdin.isatty():
            text = f"Password of {user} (empty: none)"
            password = click.prompt(text, hide_input=True, default="", show_default=False, err=True) or None
        try:
            asyncio.run(command(Remote(url, user, password, token), *args, **options))
        except KeyboardInterrupt:
            raise click.Abort from None

    return run
