"""What stores would have kept of a trace, against traces worked out by hand and a trivial model."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core.simulation import Access, BadTrace, PolicyName, Simulation, read_trace, simulate


def accesses(text: str, size: int = 10) -> list[Access]:
    return [Access(key, size) for key in text]


def hits(policy: PolicyName, limit: int, trace: list[Access], max_object: int | None = None) -> str:
    store = Simulation(policy, limit, max_object)
    return "".join("h" if store.request(access) else "-" for access in trace)


HAND = [
    # Three of ten bytes fit. LRU: d puts out b, for a was used after it; then b puts out c.
    pytest.param("lru", "abcadbac", "---h--h-", id="lru"),
    # A scan as long as the store puts everything out.
    pytest.param("lru", "aabcda", "-h----", id="lru-scan"),
]


@pytest.mark.parametrize(("policy", "trace", "expected"), HAND)
def test_hits_are_those_worked_out_by_hand(policy: PolicyName, trace: str, expected: str) -> None:
    assert hits(policy, 30, accesses(trace)) == expected


def test_tally_of_a_trace_worked_out_by_hand() -> None:
    # 100 bytes. a 60 miss; b 30 miss; a hit; c 40 needs 30: b leaves; b 30 needs 30: a leaves, c stays.
    trace = [
        Access("a", 60),
        Access("b", 30),
        Access("a", 60),
        Access("c", 40),
        Access("b", 30),
        Access("c", 40),
    ]
    (tally,) = simulate(trace, [Simulation("lru", 100)])
    assert tally == ("lru", 100, 6, 260, 4, 160, 4, 2, 0)
    assert (tally.object_miss_ratio, tally.byte_miss_ratio) == (4 / 6, 160 / 260)


def test_s3_fifo_keeps_what_is_asked_for_again_through_a_scan() -> None:
    hot = accesses("ab") * 3
    scan = [Access(str(n), 10) for n in range(40)]
    trace = hot + scan + accesses("ab")
    assert hits("s3-fifo", 200, trace)[-2:] == "hh"
    assert hits("lru", 200, trace)[-2:] == "--"


def test_large_object_is_stored_by_s3_fifo_at_its_second_wish() -> None:
    assert hits("s3-fifo", 100, [Access("a", 50)] * 4) == "--hh"
    assert hits("lru", 100, [Access("a", 50)] * 3) == "-hh"


@pytest.mark.parametrize(("size", "max_object"), [(101, None), (60, 50)])
def test_what_is_too_large_is_passed_through_and_puts_nobody_out(size: int, max_object: int | None) -> None:
    store = Simulation("lru", 100, max_object)
    tally = simulate([Access("a", 40), Access("b", size), Access("b", size), Access("a", 40)], [store])[0]
    assert (tally.missed_requests, tally.passed, tally.evicted, store.used) == (3, 2, 0, 40)


def test_other_size_is_another_version() -> None:
    store = Simulation("lru", 100)
    assert [store.request(Access("a", size)) for size in (40, 50, 50)] == [False, False, True]
    assert store.used == 50


def test_empty_trace_misses_nothing() -> None:
    (tally,) = simulate([], [Simulation("lru", 100)])
    assert (tally.object_miss_ratio, tally.byte_miss_ratio) == (0.0, 0.0)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 40)), max_size=200), st.integers(20, 100)
)
def test_lru_agrees_with_a_trivial_model(requests: list[tuple[str, int]], limit: int) -> None:
    model: OrderedDict[str, int] = OrderedDict()
    store = Simulation("lru", limit)
    for key, size in requests:
        hit = model.get(key) == size
        model.pop(key, None)
        if size <= limit:
            while sum(model.values()) + size > limit:
                model.popitem(last=False)
            model[key] = size
        assert store.request(Access(key, size)) == hit
        assert store.used == sum(model.values()) <= limit


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=300),
    st.integers(1, 200),
    st.sampled_from(["lru", "s3-fifo"]),
)
def test_limit_holds_and_the_sums_agree(
    requests: list[tuple[int, int]], limit: int, policy: PolicyName
) -> None:
    store = Simulation(policy, limit)
    found = [store.request(Access(str(key), size)) for key, size in requests]
    tally = store.tally()
    assert store.used <= limit
    assert tally.missed_requests == found.count(False) == tally.stored + tally.passed
    assert tally.missed_bytes == sum(size for hit, (_, size) in zip(found, requests, strict=True) if not hit)


def test_memory_does_not_grow_with_the_trace() -> None:
    def scan(count: int) -> Iterator[Access]:
        return (Access(f"key-{n}", 10) for n in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        simulate(scan(count), [Simulation("lru", 1000), Simulation("s3-fifo", 1000)])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000)
    assert peak(60_000) < peak(20_000) * 1.5


def test_trace_is_read_with_and_without_a_heading() -> None:
    lines = ["1,a,10\n", "1.5, b ,0\n", "\n", "# said by hand\n", '2,"c,d",30\n']
    expected = [Access("a", 10), Access("b", 0), Access("c,d", 30)]
    assert list(read_trace(lines)) == expected
    assert list(read_trace(["time,id,size\n", *lines])) == expected


BAD = {
    "few": ("1,a", "line 2: not time,id,size"),
    "many": ("1,a,2,3", "line 2: not time,id,size"),
    "no-id": ("1,,2", "line 2: not time,id,size"),
    "size": ("1,a,x", "line 2: time or size is no number"),
    "fraction": ("1,a,1.5", "line 2: time or size is no number"),
    "time": ("x,a,1", "line 2: time or size is no number"),
    "nan": ("nan,a,1", "line 2: time goes back"),
    "back": ("-1,a,1", "line 2: time goes back"),
    "negative": ("1,a,-1", "line 2: size is below 0"),
    "heading-again": ("time,id,size", "line 2: time or size is no number"),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD)
def test_line_that_is_no_request_is_named(line: str, message: str) -> None:
    with pytest.raises(BadTrace, match=message):
        list(read_trace(["0,first,1\n", line + "\n"]))
