"""What is done with a request: the order of decisions (contract §3.3)."""

from __future__ import annotations

from typing import Any

import pytest

from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.core.policy import Decision, Known, decide, names_node, refusal, ttl
from distributor.core.segments import SegmentMap
from distributor.http.freshness import Policy

D = Decision
NOW = 1_800_000_000.0
ONLY = ("Cache-Control", "only-if-cached")
LOOP = ("CDN-Loop", "other, edge-1")


def request(*fields: tuple[str, str], method: Any = "GET") -> AssetRequest:
    return AssetRequest(method, "a", "a", None, fields, NOW)


def stored(age: float = 0.0, *, complete: bool = True, marked: bool = False, **policy: Any) -> StoredResponse:
    representation = Representation(
        response_time=NOW - age, policy=Policy(**{"freshness_lifetime": 60.0, **policy})
    )
    segments = SegmentMap.whole(10, 100) if complete else SegmentMap(10, 100)
    return StoredResponse("a", "a", representation, segments, "b", complete=complete, stale_marked=marked)


FRESH, STALE, PART = stored(), stored(100), stored(complete=False)
SWR = stored(100, stale_while_revalidate=60)
FORBIDDEN = stored(100, stale_while_revalidate=60, must_revalidate=True)

TABLE = [
    ("misdirected-before-all", Known(FRESH, served=False, remembered=True, fetching=True), (), D.MISDIRECTED),
    ("remembered-before-stored", Known(FRESH, remembered=True), (), D.REMEMBERED),
    ("fresh", Known(FRESH, fetching=True), (ONLY, LOOP), D.HIT),
    ("fresh-though-unstorable", Known(FRESH, unstorable=True), (), D.HIT),
    ("soft-purged", Known(stored(marked=True)), (), D.REVALIDATE),
    ("no-cache", Known(stored(no_cache=True)), (), D.REVALIDATE),
    ("stale", Known(STALE), (), D.REVALIDATE),
    ("stale-joins", Known(STALE, fetching=True), (ONLY,), D.JOIN),
    ("stale-only-if-cached", Known(STALE), (ONLY,), D.ONLY_IF_CACHED),
    ("stale-loop", Known(STALE), (LOOP,), D.LOOP),
    ("only-if-cached-before-loop", Known(), (ONLY, LOOP), D.ONLY_IF_CACHED),
    ("while-revalidate", Known(SWR, fetching=True), (), D.HIT_THEN_REVALIDATE),
    ("while-revalidate-loop", Known(SWR), (LOOP,), D.HIT),
    ("while-revalidate-only-if-cached", Known(SWR), (ONLY,), D.HIT),
    ("while-revalidate-over", Known(stored(130, stale_while_revalidate=60)), (), D.REVALIDATE),
    ("while-revalidate-forbidden", Known(FORBIDDEN), (), D.REVALIDATE),
    ("part-with-all-asked", Known(PART, asked_present=True, fetching=True), (), D.HIT),
    ("stale-part-with-all-asked", Known(stored(100, complete=False), asked_present=True), (), D.RESUME),
    ("part", Known(PART), (), D.RESUME),
    ("part-joins", Known(PART, fetching=True), (), D.JOIN),
    ("part-unstorable", Known(PART, unstorable=True), (), D.RELAY),
    ("nothing", Known(), (), D.FETCH),
    ("nothing-joins", Known(fetching=True), (ONLY,), D.JOIN),
    ("loop-never-waits-for-the-fetch-that-waits-for-it", Known(fetching=True), (LOOP,), D.LOOP),
    ("unstorable", Known(unstorable=True), (), D.RELAY),
    ("client-cannot-force", Known(FRESH), (("Cache-Control", "no-cache, no-store, max-age=0"),), D.HIT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("known", "fields", "decision"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_get_is_decided(known: Known, fields: tuple[tuple[str, str], ...], decision: Decision) -> None:
    assert decide(request(*fields), known, node_id="edge-1") is decision


HEADS = [
    ("nothing", Known(), D.LOOK_UP),
    ("unstorable", Known(unstorable=True), D.LOOK_UP),
    ("part", Known(PART), D.LOOK_UP),
    ("stale", Known(STALE), D.CONFIRM),
    ("fresh", Known(FRESH), D.HIT),
    ("fetching", Known(PART, fetching=True), D.JOIN),
    ("while-revalidate", Known(SWR), D.HIT_THEN_REVALIDATE),
]


@pytest.mark.parametrize(("known", "decision"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
def test_head_is_decided_and_never_begins_a_fetch(known: Known, decision: Decision) -> None:
    assert decide(request(method="HEAD"), known, node_id="edge-1") is decision


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("edge-1", True),
        ("EDGE-1", True),
        ("a, edge-1;x=y", True),
        ('a;x="edge-1"', False),
        ("edge-10", False),
        ('"b, edge-1"', False),
        ("", False),
    ],
)
def test_own_id_is_found_among_the_members_of_cdn_loop(value: str, names: bool) -> None:  # RFC 8586 §2
    assert names_node((("CDN-Loop", value),), "edge-1") is names


def test_a_request_that_forbids_nothing_may_ask_a_source() -> None:
    assert refusal(request(("Cache-Control", "no-cache")), "edge-1") is None


@pytest.mark.parametrize(
    ("age", "marked", "left"),
    [
        (0, False, 60),
        (0.5, False, 59),
        (60, False, 0),
        (60.5, False, -1),
        (90, False, -30),
        (0, True, -1),
        (90, True, -30),
    ],
)
def test_ttl_is_rounded_down_and_below_zero_when_stale(age: float, marked: bool, left: int) -> None:
    assert ttl(stored(age, marked=marked), NOW) == left  # RFC 9211 §2.4
