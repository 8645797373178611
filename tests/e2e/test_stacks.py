"""Edges before edges: what is told adds up, and a loop is answered, not run (RFC 8586, RFC 9211)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.edge import Edge
from tests.support.fixtures import free_port
from tests.support.source import Source


async def test_an_edge_behind_an_edge_gives_the_same_bytes_and_tells_of_both(tmp_path: Path) -> None:
    async with Source() as source:
        asset = source.add("film.mp4", 300_000, headers=[("Cache-Control", "max-age=600")])
        async with Edge(tmp_path / "a", [source.url], {"id": "shield"}) as shield:
            url = f"http://127.0.0.1:{shield.port}/assets/{{id}}"
            async with Edge(tmp_path / "b", [url], {"id": "front"}) as front:
                first = await front.get("film.mp4")
                assert first.body == asset.content("film.mp4")
                assert first["Via"] == "1.1 shield, 1.1 front"
                told = (first["Cache-Status"] or "").split(", ")
                assert [member.partition(";")[0] for member in told] == ["shield", "front"]
                assert source.count("film.mp4") == 1


async def test_two_edges_that_name_each_other_answer_at_once(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}/assets/{{id}}" for port in ports]
    patient = {"origin.stall_timeout": "30s"}
    one = {"id": "one", "public_api.port": ports[0], **patient}
    two = {"id": "two", "public_api.port": ports[1], **patient}
    async with (
        Edge(tmp_path / "a", [urls[1]], one) as first,
        Edge(tmp_path / "b", [urls[0]], two),
        asyncio.timeout(10),
    ):
        reply = await first.get("film.mp4")
        assert reply.status == 502
        assert (await first.get("film.mp4")).status == 502
