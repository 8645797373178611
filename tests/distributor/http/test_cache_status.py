"""X-Cache and Cache-Status: RFC 9211, and the forms of §3.5 of the edge's HTTP contract."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.http import structured
from distributor.http.cache_status import (
    CacheState,
    Detail,
    Forward,
    append_cache_status,
    cache_status_member,
)

MEMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "fresh hit": ({"ttl": 3581.9}, "edge-1; hit; ttl=3581"),
    "stale served": ({"ttl": -29.1}, "edge-1; hit; ttl=-30"),
    "confirmed by the source": (
        {"fwd": Forward.STALE, "fwd_status": 304},
        "edge-1; fwd=stale; fwd-status=304",
    ),
    "pending": ({"fwd": Forward.URI_MISS, "collapsed": True}, "edge-1; fwd=uri-miss; collapsed"),
    "miss": (
        {"fwd": Forward.URI_MISS, "fwd_status": 200, "stored": True},
        "edge-1; fwd=uri-miss; fwd-status=200; stored",
    ),
    "some bytes stored": (
        {"fwd": Forward.PARTIAL, "fwd_status": 206, "stored": True},
        "edge-1; fwd=partial; fwd-status=206; stored",
    ),
    "another version stored": (
        {"fwd": Forward.STALE, "fwd_status": 200, "stored": True},
        "edge-1; fwd=stale; fwd-status=200; stored",
    ),
    "external": (
        {"fwd": Forward.URI_MISS, "fwd_status": 200, "detail": Detail.TOO_LARGE},
        "edge-1; fwd=uri-miss; fwd-status=200; detail=too-large",
    ),
    "remembered 404": ({"ttl": 3, "detail": Detail.NEGATIVE}, "edge-1; hit; ttl=3; detail=negative"),
}


@pytest.mark.parametrize(("arguments", "member"), MEMBERS.values(), ids=MEMBERS.keys())
def test_member_has_this_form(arguments: dict[str, Any], member: str) -> None:
    assert cache_status_member("edge-1", **arguments) == member


def test_states_are_the_words_of_x_cache() -> None:
    assert [str(state) for state in CacheState] == ["hit", "pending", "miss"]
    assert [str(detail) for detail in Detail] == [
        "too-large", "no-room", "not-storable", "store-failed", "negative",
    ]  # fmt: skip


def test_member_stands_behind_those_of_caches_nearer_the_source() -> None:  # RFC 9211 §2
    assert append_cache_status("shield; hit; ttl=5", "edge-1; hit") == "shield; hit; ttl=5, edge-1; hit"
    assert append_cache_status(None, "edge-1; hit") == "edge-1; hit"


@pytest.mark.parametrize("existing", ["", "  ", "HIT from cache", "a,", '"open', "é; hit"], ids=repr)
def test_a_list_that_cannot_be_read_is_dropped(existing: str) -> None:
    assert append_cache_status(existing, "edge-1; hit") == "edge-1; hit"


@given(
    st.from_regex(r"\A[A-Za-z][A-Za-z0-9._-]{0,63}\Z"),
    st.sampled_from(sorted(MEMBERS)),
    st.sampled_from([None, "shield; hit", '"other cache"; fwd=miss; key="a,b"']),
)
def test_field_is_a_structured_list(node_id: str, case: str, existing: str | None) -> None:
    value = append_cache_status(existing, cache_status_member(node_id, **MEMBERS[case][0]))
    *before, own = structured.parse_list(value)
    assert len(before) == (existing is not None)
    assert isinstance(own, structured.Item)
    assert own.value == structured.Token(node_id)
    assert ("hit" in own.parameters) != ("fwd" in own.parameters)
