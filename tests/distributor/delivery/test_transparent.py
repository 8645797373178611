"""`origin.transparent`: a general RFC 9111 cache for its sources (contract §6)."""

from __future__ import annotations

import asyncio

import pytest

from tests.distributor.delivery.conftest import MakeBench
from tests.support.source import Fault

N = 20_000


async def test_client_fields_go_along_but_for_those_that_must_not(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True) as bench:
        bench.source.add("a", N)
        sent = [
            ("X-Mood", "good"), ("Authorization", "Basic eA=="), ("Accept", "text/x"), ("User-Agent", "ua"),
            ("Cookie", "c"), ("Range", "bytes=0-1"), ("If-None-Match", '"z"'), ("Accept-Encoding", "br"),
            ("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=x"), ("X-HTTP-Method-Override", "PUT"),
            ("X-Original-URL", "/"), ("Via", "1.1 other"), ("Connection", "x-hop"), ("X-Hop", "1"),
        ]  # fmt: skip
        await bench.get("a", sent)
        seen = bench.source.requests[0].headers
        assert (seen["x-mood"], seen["authorization"], seen["accept"]) == ("good", "Basic eA==", "text/x")
        assert (seen["user-agent"], seen["via"], seen["accept-encoding"]) == (
            "ua",
            "1.1 other, 1.1 edge-1",
            "identity",
        )
        assert not {"cookie", "range", "if-none-match", "x-forwarded-for", "forwarded", "x-hop"} & set(seen)
        assert not {"x-http-method-override", "x-original-url"} & set(seen)


async def test_one_stored_response_for_each_variant(make_bench: MakeBench) -> None:  # RFC 9111 §4.1
    async with make_bench(transparent=True) as bench:
        control = [("Vary", "X-Mood, Accept-Encoding"), ("Cache-Control", "max-age=60")]
        good, bad = [("X-Mood", "good")], [("X-Mood", "bad")]
        asset = bench.source.add("a", N, headers=control)
        gate = asyncio.Event()
        bench.source.fault("a", Fault(gate=gate), on=1)
        tasks = [asyncio.create_task(bench.get("a", fields)) for fields in (good, good, bad, bad, [])]
        await bench.source.until(lambda: bench.source.count("a") == 1)
        gate.set()
        replies = [await task for task in tasks]
        assert sorted(reply.cache or "" for reply in replies) == ["miss"] * 3 + ["pending"] * 2
        assert all(reply.body == asset.content("a") for reply in replies)
        assert sorted(seen.headers.get("x-mood", "") for seen in bench.source.requests) == ["", "bad", "good"]
        await bench.idle()
        for fields in (good, bad, []):
            assert (await bench.get("a", fields)).cache == "hit"
        assert (await bench.get("a", [("X-Mood", "new")])).cache == "miss"
        await bench.idle()
        variants = {stored.variant for stored in bench.store.variants("a")}
        assert variants == {f"accept-encoding: ; x-mood: {mood}" for mood in ("", "good", "bad", "new")}
        assert (await bench.purger.purge(ids=["a"]))[0] == 4
        assert (await bench.get("a", good)).cache == "miss"


async def test_vary_star_is_not_stored(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True) as bench:
        bench.source.add("a", N, headers=[("Vary", "*"), ("Cache-Control", "max-age=60")])
        for _ in range(2):
            assert (await bench.get("a")).state == (200, "miss", "external")


@pytest.mark.parametrize("status", [201, 301, 302, 400, 403, 404, 410])
async def test_any_final_status_is_relayed_with_its_fields_and_body_and_stored_if_it_may_be(
    status: int, make_bench: MakeBench
) -> None:
    async with make_bench(transparent=True) as bench:
        fields = [("Location", "/elsewhere"), ("Cache-Control", "max-age=9"), ("ETag", '"e"')]
        bench.source.fault("a.mp4", Fault(status=status, body=b"their own page", headers=fields))
        got = await bench.get("a.mp4", [("Range", "bytes=0-1"), ("If-Match", '"no"')])
        assert (got.status, got.body, got.fields["location"]) == (status, b"their own page", "/elsewhere")
        assert "content-type" not in got.fields
        await bench.idle()
        assert (await bench.get("a.mp4")).cache == "hit"
        assert bench.source.count("a.mp4") == 1


async def test_status_without_a_lifetime_is_relayed_each_time(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True) as bench:
        bench.source.fault("a", Fault(status=403, body=b"no"))
        for _ in range(2):
            got = await bench.get("a")
            assert (got.status, got.body, got.source) == (403, b"no", "external")
        assert bench.source.count("a") == 2


async def test_5xx_is_relayed_only_as_the_last_resort(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True, sources=2, backoff=0.0) as bench:
        asset = bench.sources[1].add("a", N)
        bench.sources[0].fault(None, Fault(status=503, body=b"later"), method=None)
        assert (await bench.get("a")).body == asset.content("a")
        bench.sources[1].fault(None, Fault(status=500, body=b"broken"), method=None)
        got = await bench.get("b")
        assert (got.status, got.body) in ((500, b"broken"), (503, b"later"))
        assert sum(source.count("b") for source in bench.sources) == 4
        assert (await bench.head("b")).status in (500, 503)


async def test_5xx_with_a_lifetime_is_an_answer_like_any_other(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True) as bench:
        headers = [("Cache-Control", "max-age=60")]
        bench.source.fault("a", Fault(status=503, body=b"later", headers=headers))
        assert (await bench.get("a")).status == 503
        await bench.idle()
        got = await bench.get("a")
        assert (got.status, got.cache, got.body) == (503, "hit", b"later")
        assert bench.source.count("a") == 1


async def test_stale_goes_before_a_relayed_5xx(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True) as bench:
        asset = bench.source.add("a", N, headers=[("Cache-Control", "max-age=10")], date=False)
        await bench.fill("a")
        bench.clock.advance(60)
        bench.source.fault("a", Fault(status=503, body=b"later"))
        got = await bench.get("a")
        assert (got.status, got.cache, got.body) == (200, "hit", asset.content("a"))


@pytest.mark.parametrize(
    ("control", "stored"),
    [
        ("max-age=60", False),
        ("public, max-age=60", True),
        ("s-maxage=60", True),
        ("must-revalidate, max-age=60", True),
    ],
)
async def test_answer_to_authorization_is_stored_only_where_allowed(  # RFC 9111 §3.5
    control: str, stored: bool, make_bench: MakeBench
) -> None:
    async with make_bench(transparent=True) as bench:
        bench.source.add("a", N, headers=[("Cache-Control", control)])
        mine = [("Authorization", "Basic eA==")]
        assert (await bench.get("a", mine)).source == ("local" if stored else "external")
        await bench.idle()
        assert (await bench.get("a", mine)).cache == ("hit" if stored else "miss")
        if not stored:  # and for others nothing is spoilt
            assert (await bench.fill("a")).source == "local"
            assert (await bench.get("a")).cache == "hit"


async def test_set_cookie_is_kept_and_replayed(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True) as bench:
        bench.source.add("a", N, headers=[("Set-Cookie", "a=b"), ("Cache-Control", "max-age=60")])
        for _ in range(2):
            assert (await bench.get("a")).fields["set-cookie"] == "a=b"
            await bench.idle()


async def test_204_has_no_body_and_no_length(make_bench: MakeBench) -> None:  # RFC 9110 §15.3.5
    async with make_bench(transparent=True) as bench:
        head = b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n"
        bench.source.fault("a", Fault(head=head))
        for state in ("miss", "hit"):
            got = await bench.get("a")
            assert (got.status, got.cache, got.answer.body) == (204, state, None)
            assert "content-length" not in got.fields
            await bench.idle()


async def test_heads_with_other_fields_are_asked_apart(make_bench: MakeBench) -> None:
    async with make_bench(transparent=True) as bench:
        bench.source.add("a", N)
        for mood in ("good", "bad", "good"):
            assert (await bench.head("a", [("X-Mood", mood)])).status == 200
        assert bench.source.count("a", "HEAD") == 2


async def test_variants_of_an_asset_are_bounded_and_the_longest_unused_leave(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.delivery.asking.MOST", 4)
    async with make_bench(transparent=True) as bench:
        bench.source.add("a", N, headers=[("Vary", "X-Mood"), ("Cache-Control", "max-age=9000000")])
        bench.source.add("b", N, headers=[("Cache-Control", "max-age=9000000")])
        await bench.fill("b")
        for number in range(10):
            await bench.get("a", [("X-Mood", str(number))])
            await bench.idle()
            bench.clock.advance(1)
            assert (await bench.get("a", [("X-Mood", "0")])).cache == "hit"
            bench.clock.advance(1)
        variants = {stored.variant for stored in bench.store.variants("a")}
        assert variants == {f"x-mood: {number}" for number in (0, 7, 8, 9)}
        assert (await bench.get("b")).cache == "hit"
        assert bench.store.usage().complete == 5 * N
