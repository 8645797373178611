"""In which order sources are asked: the recently fast first, the recently failed behind them.

A source that fails is put behind the others for a while, never out of reach: when all have failed
all are still asked. Estimates fade, so that a source once slow is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = 0.3  # of the newest sample in the moving average
HALF_LIFE = 60.0  # seconds after which an estimate counts half


@dataclass(slots=True)
class _Record:
    latency: float = 0.0
    measured_at: float | None = None
    cooled_until: float = float("-inf")


class Ranking:
    """Order of the sources named `names` (their configured order breaks ties).

    backoff  seconds for which a source that failed stands behind the others, >= 0

    `now` is monotonic seconds throughout.
    """

    def __init__(self, names: list[str], backoff: float = 10.0) -> None:
        self._records = {name: _Record() for name in names}
        self._backoff = backoff

    def order(self, now: float) -> list[str]:
        """All names: usable ones by faded latency, then cooled ones, soonest usable first.

        A source that was never measured counts as fast, so that each is tried.
        """
        places = {name: place for place, name in enumerate(self._records)}

        def rank(name: str) -> tuple[int, float, int]:
            record = self._records[name]
            if record.cooled_until > now:
                return 1, record.cooled_until, places[name]
            if record.measured_at is None:
                return 0, 0.0, places[name]
            return 0, record.latency * 0.5 ** ((now - record.measured_at) / HALF_LIFE), places[name]

        return sorted(self._records, key=rank)

    def succeeded(self, name: str, latency: float, now: float) -> None:
        """`name` answered; latency is seconds from request sent to header fields, >= 0."""
        record = self._records[name]
        known = record.measured_at is not None
        record.latency = (1 - WEIGHT) * record.latency + WEIGHT * latency if known else latency
        record.measured_at = now
        record.cooled_until = float("-inf")

    def failed(self, name: str, now: float) -> float:
        """`name` failed; return for how many seconds it now stands behind the others."""
        self._records[name].cooled_until = now + self._backoff
        return self._backoff

    def up(self, name: str, now: float) -> bool:
        """Whether `name` is usable, i.e. not put behind the others."""
        return self._records[name].cooled_until <= now
