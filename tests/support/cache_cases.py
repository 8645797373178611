"""Two requests for one asset, and what the second one came to: the shape of most conformance cases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from tests.support.cache_site import Asked, CacheSite, Given, Headers
from tests.support.wire import Reply

Outcome = Literal["reused", "validated", "fetched"]


class Case(NamedTuple):
    """One row.

    fields   of the first answer;  want: what the second request comes to
    request  fields of the first request; again: of the second, None: the same
    after    seconds between the two
    """

    id: str
    fields: Headers
    want: Outcome
    after: float = 0
    status: int = 200
    request: Headers = []  # noqa: RUF012
    again: Headers | None = None

    def __repr__(self) -> str:
        return self.id


def ids(cases: Iterable[Case]) -> list[str]:
    """The ids of a table; no two rows may have the same."""
    names = [case.id for case in cases]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return names


async def run(site: CacheSite, case: Case) -> tuple[Reply, Reply]:
    """Carry the case out and assert `want`; the two replies."""
    asset_id = site.new_id()
    site.script(asset_id, Given(case.fields, case.status))
    first = await site.fill(asset_id, case.request)
    assert first.cache == "miss"
    site.clock.advance(case.after)
    before = len(site.seen(asset_id))
    second = await site.fill(asset_id, case.request if case.again is None else case.again)
    assert outcome(second, site.seen(asset_id)[before:]) == case.want
    assert second.status == first.status == case.status
    if case.status != 204:
        answer = 1 if case.want != "fetched" else len(site.seen(asset_id))
        assert second.body == f"answer {answer} to {asset_id}".encode()
    if case.want == "reused":
        await hit_again(site, asset_id, case, second)
    return first, second


async def hit_again(site: CacheSite, asset_id: str, case: Case, second: Reply) -> None:
    """A third request, which may take the short way, says the same."""
    count = len(site.seen(asset_id))
    third = await site.get(asset_id, case.request if case.again is None else case.again)
    assert len(site.seen(asset_id)) == count
    assert third.body == second.body
    assert _lasting(third) == _lasting(second)


def _lasting(reply: Reply) -> list[tuple[str, str]]:
    return sorted(line for line in reply.headers if line[0] not in ("X-Request-Id", "Server-Timing"))


def outcome(reply: Reply, asked: list[Asked]) -> Outcome:
    """What the reply says of itself, held against what the source saw."""
    status = reply["Cache-Status"] or ""
    member = status.rpartition(", ")[2]
    if not asked:
        assert re.fullmatch(r"edge-1; hit; ttl=-?\d+", member), member
        assert reply.cache == "hit" and reply["Age"] is not None
        assert reply["X-Data-Source"] in ("local", None)
        return "reused"
    if reply.cache == "hit":
        assert all(one.conditional for one in asked)
        assert member == "edge-1; fwd=stale; fwd-status=304"
        return "validated"
    assert re.match(r"edge-1; fwd=(uri-miss|vary-miss|stale|partial); fwd-status=\d+", member), member
    assert reply.cache == "miss"
    stored = "; stored" in member
    if reply.status != 204:
        assert reply["X-Data-Source"] == ("local" if stored else "external")
    return "fetched"
