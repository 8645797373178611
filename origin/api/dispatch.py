"""Which dialect answers a request: by the raw path as sent, before anything is decoded.

A dialect gives `def handler(services: Services) -> Handler` in its `routes.py` and is mounted by one
line in `origin/app.py`. It shapes its own errors: what it raises ends as the plain form of
`origin/api/errors.py`. Request ids, CORS, the access log, metrics and HEAD bodies are done around it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Mount:
    """prefix: raw path; it fits itself, and whatever continues it after "/" or ";".

    name     of the dialect, for metrics and logs
    slashes  any number of "/" at the beginning of a path counts as one
    max_age  seconds a browser may remember a preflight
    """

    prefix: str
    name: str
    handler: Handler
    slashes: bool = False
    max_age: int = 600

    def fits(self, path: str) -> bool:
        if self.slashes and path.startswith("//"):
            path = "/" + path.lstrip("/")
        if not path.startswith(self.prefix):
            return False
        rest = path[len(self.prefix) :]
        return rest == "" or rest[0] in "/;" or self.prefix.endswith("/")


def raw_path(request: web.Request) -> str:
    """Return the path as sent, without the query, whatever form the target has (RFC 9112 §3.2)."""
    target = request.raw_path if hasattr(request, "raw_path") else request.path_qs
    if not target.startswith("/"):
        _, separator, rest = target.partition("://")
        target = "/" + rest.partition("/")[2] if separator else target
    return target.partition("?")[0].partition("#")[0]


def raw_query(request: web.Request) -> str:
    """Return the query as sent, without "?"; "" when there is none."""
    return request.raw_path.partition("?")[2].partition("#")[0]


class Dispatch:
    """Mounts in the order given; the first that fits answers, else `fallback`."""

    def __init__(self, mounts: Sequence[Mount], fallback: Mount) -> None:
        self._mounts = tuple(mounts)
        self._fallback = fallback

    def find(self, path: str) -> Mount:
        for mount in self._mounts:
            if mount.fits(path):
                return mount
        return self._fallback
