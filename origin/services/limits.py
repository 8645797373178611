"""Limits on requests: token buckets in memory. One for each token, else user, else client address."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from origin.domain.model import Caller
from origin.errors import TooMany

_KEPT = 10_000  # buckets; the longest untouched goes first, and would be nearly full anyway


class Left(NamedTuple):
    """limit: requests at once; remaining: whole ones left; reset: seconds until the bucket is full."""

    limit: int
    remaining: int
    reset: int


class Buckets:
    """Each holds `requests` and is refilled evenly with as many in every `per` seconds."""

    def __init__(self, requests: int, per: float, now: Callable[[], float] = time.monotonic) -> None:
        self._size = requests
        self._rate = requests / per
        self._now = now
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def _level(self, key: str) -> float:
        level, since = self._levels.get(key, (float(self._size), self._now()))
        return min(self._size, level + (self._now() - since) * self._rate)

    def require(self, key: str) -> None:
        """Raise TooMany when the bucket has no whole request left."""
        missing = 1 - self._level(key)
        if missing > 0:
            raise TooMany("too many requests", retry_after=max(1, math.ceil(missing / self._rate)))

    def left(self, key: str) -> Left:
        level = self._level(key)
        return Left(self._size, int(level), math.ceil((self._size - level) / self._rate))

    def take(self, key: str) -> None:
        """Take one, or raise TooMany."""
        self.require(key)
        self._levels[key] = (self._level(key) - 1, self._now())
        self._levels.move_to_end(key)
        while len(self._levels) > _KEPT:
            self._levels.popitem(last=False)


class Limiter:
    """requests: of each caller, None for no limit; failures: bad credentials of each address, after which
    none are even looked at."""

    def __init__(self, requests: Buckets | None, failures: Buckets) -> None:
        self._requests = requests
        self._failures = failures

    def require_login(self, remote: str | None) -> None:
        """Raise TooMany for an address from which too many bad credentials came."""
        self._failures.require(network(remote))

    def failed_login(self, remote: str | None) -> None:
        self._failures.take(network(remote))

    def take(self, caller: Caller, remote: str | None) -> None:
        """Count a request, or raise TooMany."""
        if self._requests is not None:
            self._requests.take(_key(caller, remote))

    def left(self, caller: Caller, remote: str | None) -> Left | None:
        """None: there is no limit."""
        return None if self._requests is None else self._requests.left(_key(caller, remote))


def _key(caller: Caller, remote: str | None) -> str:
    if caller.token is not None:
        return f"token {caller.token.n}"
    return network(remote) if caller.user is None else f"user {caller.user.n}"


def network(remote: str | None) -> str:
    """Return the key of an address; all of an IPv6 /64 are one client."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return remote or "unknown"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
