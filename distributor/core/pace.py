"""Whether a source brings its bytes too slowly to be waited for. Pure."""

from __future__ import annotations


class Pace:
    """Bytes over time spent waiting for them, judged once a window.

    least   bytes per second; 0: nothing is too slow
    window  seconds of waiting after which is judged, > 0. Time in which nobody waited does not count,
            so a slow disk or reader is not the source's fault
    """

    __slots__ = ("_bytes", "_least", "_waited", "_window")

    def __init__(self, least: int, window: float) -> None:
        self._least = least
        self._window = window
        self._bytes = 0
        self._waited = 0.0

    def too_slow(self, count: int, waited: float) -> bool:
        """Note that `count` bytes came after `waited` seconds; whether the window that ends now was bad."""
        self._bytes += count
        self._waited += waited
        if self._waited < self._window:
            return False
        slow = self._bytes < self._least * self._waited
        self._bytes, self._waited = 0, 0.0
        return slow
