from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.store import table
from distributor.store.table import SortedKeys


@given(
    steps=st.lists(st.tuples(st.booleans(), st.text("ab/?\n", max_size=4)), max_size=200),
    after=st.none() | st.text("ab/?\n", max_size=4),
)
def test_sorted_keys_are_what_a_sorted_set_is(steps: list[tuple[bool, str]], after: str | None) -> None:
    before, table._CHUNK = table._CHUNK, 3
    try:
        keys, model = SortedKeys(), set[str]()
        for add, key in steps:
            if add and key not in model:
                keys.add(key)
                model.add(key)
            elif not add and key in model:
                keys.remove(key)
                model.remove(key)
            assert list(keys.after(None)) == sorted(model)
        assert list(keys.after(after)) == sorted(k for k in model if after is None or k > after)
    finally:
        table._CHUNK = before


def test_no_chunk_of_sorted_keys_grows_without_bound() -> None:
    keys = SortedKeys()
    for n in range(20_000):
        keys.add(f"{n:06d}")
    assert max(len(chunk) for chunk in keys._chunks) <= 2 * table._CHUNK
    assert list(keys.after("019998")) == ["019999"]
