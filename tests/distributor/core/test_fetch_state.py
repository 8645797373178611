"""The life of a fetch as a table."""

from __future__ import annotations

from itertools import product

import pytest

from distributor.core.fetch_state import TRANSITIONS, FetchState, advance

S = FetchState
ENDS = {S.COMPLETE, S.PARTIAL, S.CONFIRMED, S.UNSTORED, S.FAILED, S.CANCELLED}


def test_exactly_the_ends_have_no_way_on() -> None:
    assert {state for state in FetchState if state.ended} == ENDS


@pytest.mark.parametrize("state", [state for state in FetchState if state not in ENDS])
def test_every_state_that_is_no_end_can_fail_and_be_cancelled(state: FetchState) -> None:
    assert advance(state, S.FAILED) is S.FAILED
    assert advance(state, S.CANCELLED) is S.CANCELLED


def test_nothing_is_complete_that_was_not_verified() -> None:
    assert [state for state in FetchState if S.COMPLETE in TRANSITIONS[state]] == [S.VERIFYING]


def test_steps_outside_the_table_are_refused() -> None:
    for current, following in product(FetchState, FetchState):
        if following in TRANSITIONS[current]:
            assert advance(current, following) is following
        else:
            with pytest.raises(ValueError, match="cannot go"):
                advance(current, following)
