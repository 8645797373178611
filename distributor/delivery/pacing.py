"""Whether a transfer stays with its source: one that has slowed to a trickle is left for another."""

from __future__ import annotations

from distributor.delivery.means import Means
from distributor.errors import SourceSlow


class Pacing:
    """Of one transfer, over all its connections. Each source is left once; then slow will do.

    pacing.renew()                      a connection was made
    pacing.check()                      before each read
    pacing.came(source, count, waited)  after it
    """

    __slots__ = ("_means", "_pace", "_slow", "_too_slow")

    def __init__(self, means: Means) -> None:
        self._means = means
        self._slow: set[str] = set()
        self.renew()

    def renew(self) -> None:
        """What the connection before it was like does not count."""
        self._pace = self._means.pace()
        self._too_slow = ""

    def came(self, source: str, count: int, waited: float) -> None:
        """Note that `count` bytes came after `waited` seconds. They are good, whatever `check` says then."""
        if self._pace.too_slow(count, waited) and len(self._means.pool) > len(self._slow | {source}):
            self._slow.add(source)
            self._too_slow = source

    def check(self) -> None:
        """Raise SourceSlow, once, where another source may do better."""
        if self._too_slow:
            source, self._too_slow = self._too_slow, ""
            raise SourceSlow(source=source)
