"""Cross-origin rules of the setting `cors`, on every answer, errors too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from origin.api.dispatch import raw_path


class Rule(Protocol):
    @property
    def origins(self) -> tuple[str, ...]: ...
    @property
    def paths(self) -> tuple[str, ...]: ...
    @property
    def methods(self) -> tuple[str, ...]: ...


ALLOWED = (
    "Authorization, AUTH_TOKEN, AUTH-TOKEN, Content-Type, Content-Disposition, Content-Digest, "
    "If-Match, If-None-Match, If-Range, Range, RunAs, index, size"
)
EXPOSED = (
    "ETag, Link, Location, Retry-After, Content-Range, Accept-Ranges, Repr-Digest, X-Request-Id, X-Total, "
    "X-Total-Pages, X-Page, X-Per-Page, X-Next-Page, X-Prev-Page, X-File-Id, X-Asset-Version, X-Task-Id, "
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MAX_AGE = 600  # seconds a browser may remember a preflight


class Cors:
    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._any = all(rule.origins == ("*",) for rule in rules)

    def _fitting(self, origin: str, path: str) -> list[Rule]:
        return [
            rule
            for rule in self._rules
            if ("*" in rule.origins or origin in rule.origins)
            and any(path.startswith(prefix) for prefix in rule.paths)
        ]

    @staticmethod
    def _methods(rules: Sequence[Rule]) -> list[str]:
        named = {method for rule in rules for method in rule.methods}
        return [method for method in _METHODS if method in named or "*" in named]

    def preflight(self, request: web.Request, max_age: int = MAX_AGE) -> web.Response | None:
        """Answer a preflight; None when the request is none. max_age: seconds it may be remembered."""
        origin = request.headers.get("Origin")
        wanted = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or origin is None or wanted is None:
            return None
        response = web.Response(status=204)
        rules = self._fitting(origin, raw_path(request))
        methods = self._methods(rules)
        if wanted in methods:
            response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
            response.headers["Access-Control-Allow-Headers"] = ALLOWED
            response.headers["Access-Control-Max-Age"] = str(max_age)
        return response

    def apply(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add what an answer needs to be read by a page of another origin."""
        if not self._any:
            response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is None:
            return
        wanted = request.headers.get("Access-Control-Request-Method") or request.method
        rules = [
            rule
            for rule in self._fitting(origin, raw_path(request))
            if wanted in rule.methods or "*" in rule.methods
        ]
        if rules:
            named = not any("*" in rule.origins for rule in rules)
            response.headers["Access-Control-Allow-Origin"] = origin if named else "*"
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
