"""The life of a fetch.

    ASKING ──head──▶ FILLING ──all bytes──▶ VERIFYING ──ok──▶ COMPLETE
       │                │                       │
       ├─304─▶ CONFIRMED├─asked bytes─▶ PARTIAL └─bad─▶ FAILED
       ├─not to be stored, no room─▶ UNSTORED (also from FILLING, when the disk fails)
       └─no source─▶ FAILED;   purge, shutdown: CANCELLED, from any state that is not an end

Readers may be served in FILLING, VERIFYING and in every end but FAILED and CANCELLED.
"""

from __future__ import annotations

from enum import Enum


class FetchState(Enum):
    """Named by what may happen next."""

    ASKING = "asking"
    FILLING = "filling"
    VERIFYING = "verifying"
    COMPLETE = "complete"
    PARTIAL = "partial"
    CONFIRMED = "confirmed"
    UNSTORED = "unstored"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """No further change can come."""
        return not TRANSITIONS[self]


_S = FetchState
TRANSITIONS: dict[FetchState, frozenset[FetchState]] = {
    _S.ASKING: frozenset({_S.FILLING, _S.CONFIRMED, _S.UNSTORED, _S.FAILED, _S.CANCELLED}),
    _S.FILLING: frozenset({_S.VERIFYING, _S.PARTIAL, _S.UNSTORED, _S.FAILED, _S.CANCELLED}),
    _S.VERIFYING: frozenset({_S.COMPLETE, _S.UNSTORED, _S.FAILED, _S.CANCELLED}),
    _S.COMPLETE: frozenset(),
    _S.PARTIAL: frozenset(),
    _S.CONFIRMED: frozenset(),
    _S.UNSTORED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


def advance(current: FetchState, following: FetchState) -> FetchState:
    """Return `following`; raises ValueError when the table has no such step."""
    if following not in TRANSITIONS[current]:
        raise ValueError(f"a fetch cannot go from {current.value} to {following.value}")
    return following
