"""When a source is too slow to be waited for."""

from __future__ import annotations

import pytest

from distributor.core.pace import Pace


@pytest.mark.parametrize(
    ("least", "events", "verdicts"),
    [
        pytest.param(10, [(5, 1.0)], [True], id="below"),
        pytest.param(10, [(10, 1.0)], [False], id="exactly"),
        pytest.param(10, [(1, 0.5), (1, 0.5)], [False, True], id="judged-at-the-end-of-the-window"),
        pytest.param(10, [(1, 0.5), (9, 0.5)], [False, False], id="what-came-late-counts"),
        pytest.param(10, [(100, 1.0), (1, 1.0)], [False, True], id="each-window-for-itself"),
        pytest.param(10, [(1, 0.0)] * 3, [False] * 3, id="nobody-waited"),
        pytest.param(10, [(15, 2.0)], [True], id="one-long-wait"),
        pytest.param(0, [(0, 100.0)], [False], id="no-least"),
    ],
)
def test_source_is_too_slow_when_a_window_of_waiting_brought_too_little(
    least: int, events: list[tuple[int, float]], verdicts: list[bool]
) -> None:
    pace = Pace(least, 1.0)
    assert [pace.too_slow(count, waited) for count, waited in events] == verdicts
