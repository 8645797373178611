"""What follows a failure of a source."""

from __future__ import annotations

import pytest

from distributor.core.retry import (
    LONGEST_PAUSE,
    PROGRESS,
    Again,
    after_failure,
    failures_after,
    pause_before,
)
from distributor.errors import (
    BodyShort,
    DigestMismatch,
    LoopDetected,
    SourceError,
    SourceStalled,
    SourceUnreachable,
    VersionChanged,
)


@pytest.mark.parametrize("error", [VersionChanged(), DigestMismatch(), LoopDetected()], ids=repr)
def test_what_no_source_can_mend_is_not_asked_for_again(error: SourceError) -> None:
    assert after_failure(error, 1, 5) is None


@pytest.mark.parametrize("error", [BodyShort(), SourceStalled(), SourceUnreachable()], ids=repr)
@pytest.mark.parametrize("sources", [1, 2, 3])
def test_two_rounds_over_all_sources_and_no_more(error: SourceError, sources: int) -> None:
    steps = [after_failure(error, failures, sources) for failures in range(1, 2 * sources + 2)]
    assert all(isinstance(step, Again) for step in steps[: 2 * sources - 1])
    assert steps[2 * sources - 1 :] == [None, None]
    # The first round does not wait; only a second one does.
    assert [step.pause for step in steps if step is not None][:sources] == [0.0] * min(
        sources, 2 * sources - 1
    )


def test_pauses_grow_to_a_limit() -> None:
    pauses = [pause_before(number) for number in range(40)]
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize(("failures", "gained", "then"), [(3, 0, 4), (3, PROGRESS - 1, 4), (3, PROGRESS, 1)])
def test_progress_starts_the_count_anew(failures: int, gained: int, then: int) -> None:
    assert failures_after(failures, gained) == then
