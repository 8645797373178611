"""The order in which sources are asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.core.ranking import Ranking

NAMES = ["a", "b", "c"]


def test_configured_order_holds_until_something_is_known() -> None:
    assert Ranking(NAMES).order(0.0) == NAMES


def test_recently_fast_is_first_and_what_was_never_tried_is_tried() -> None:
    ranking = Ranking(NAMES)
    ranking.succeeded("a", 0.5, 0.0)
    ranking.succeeded("b", 0.1, 0.0)
    assert ranking.order(1.0) == ["c", "b", "a"]
    ranking.succeeded("c", 0.2, 1.0)
    assert ranking.order(1.0) == ["b", "c", "a"]


def test_estimate_fades_so_that_a_slow_source_is_tried_again() -> None:
    ranking = Ranking(["a", "b"])
    ranking.succeeded("a", 0.5, 0.0)
    for second in range(400):
        ranking.succeeded("b", 0.1, float(second))
    assert ranking.order(399.0) == ["a", "b"]


def test_failed_stands_behind_the_others_for_the_backoff_and_never_out_of_reach() -> None:
    ranking = Ranking(NAMES, backoff=10.0)
    assert ranking.failed("a", 100.0) == 10.0
    assert ranking.order(109.9) == ["b", "c", "a"]
    assert not ranking.up("a", 109.9)
    assert ranking.order(110.0) == ["a", "b", "c"]
    ranking.failed("b", 100.0)
    ranking.failed("c", 101.0)
    ranking.failed("a", 102.0)
    assert ranking.order(103.0) == ["b", "c", "a"]  # the soonest usable first


def test_success_ends_the_backoff() -> None:
    ranking = Ranking(["a", "b"], backoff=10.0)
    ranking.failed("a", 0.0)
    ranking.succeeded("a", 0.0, 1.0)
    assert ranking.up("a", 1.0)


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.booleans(), st.floats(0, 100), st.floats(0, 1000)), max_size=30
    )
)
def test_every_source_is_always_in_the_order_once(events: list[tuple[str, bool, float, float]]) -> None:
    ranking = Ranking(NAMES)
    now = 0.0
    for name, good, value, pause in events:
        now += pause
        if good:
            ranking.succeeded(name, value, now)
        else:
            ranking.failed(name, now)
        assert sorted(ranking.order(now)) == NAMES
