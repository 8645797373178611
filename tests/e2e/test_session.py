"""Contract §10: the session, by curl, line by line."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.edge import TOKEN
from tests.support.fixtures import StartEdge
from tests.support.source import Source

SIZE = 8_388_608
TAG = '"9c1185a5c5e9fc54"'


async def _curl(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec("curl", *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_session_goes_as_the_contract_tells_it(tmp_path: Path, start_edge: StartEdge) -> None:
    async with Source() as source:
        source.add("clip.mp4", SIZE, etag=TAG)
        edge = await start_edge(source, cache__limit="10G", cache__segment="1M")
        base = f"{edge.url}/api/v1"
        clip = f"{base}/assets/clip.mp4"

        async def brief(*arguments: str) -> tuple[str, str | None]:
            """As the contract's "$w"; the header from -D, because older curls lack %header{}."""
            out = await _curl("-s", "-D-", "-w", "%{http_code} %{size_download}", *arguments)
            found = re.search(r"(?mi)^x-cache: (\w+)\r$", out)
            return out.split("\n")[-1], found[1] if found else None

        status = json.loads(await _curl("-s", f"{base}/status"))
        assert (
            status.items()
            >= {
                "id": "edge-1",
                "objectsInCache": 0,
                "storageLimit": 10_737_418_240,
                "storageUsed": 0,
                "downloadsInProgress": 0,
                "version": "0.1.0",
                "state": "serving",
            }.items()
        )

        head = await _curl("-sI", clip)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        for line in ("X-Cache: miss", f"Content-Length: {SIZE}", f"ETag: {TAG}"):
            assert f"\r\n{line}\r\n" in head
        assert source.count("clip.mp4", "GET") == 0

        gate = source.hold("clip.mp4", 2 << 20)
        first = await _curl("-so", "/dev/null", "-D-", "-r", "0-99", clip)
        assert first.startswith("HTTP/1.1 206 Partial Content\r\n")
        for line in (
            "X-Cache: miss",
            "X-Data-Source: local",
            f"Content-Range: bytes 0-99/{SIZE}",
            "Content-Length: 100",
        ):
            assert f"\r\n{line}\r\n" in first

        tail = tmp_path / "tail"
        assert await brief("-r", "-4096", "-o", str(tail), clip) == ("206 4096", "pending")
        content = source.assets["clip.mp4"].content("clip.mp4")
        assert tail.read_bytes() == content[-4096:]
        gate.open()
        await edge.settled("clip.mp4")

        whole = tmp_path / "clip.mp4"
        assert await brief("-o", str(whole), clip) == (f"200 {SIZE}", "hit")
        assert whole.read_bytes() == content
        assert await brief("-o", "/dev/null", "-H", f"If-None-Match: {TAG}", clip) == ("304 0", "hit")
        other = ("-r", "0-9", "-H", 'If-Range: "other"')
        assert await brief("-o", "/dev/null", *other, clip) == (f"200 {SIZE}", "hit")

        past = await _curl("-si", "-r", "9000000-", clip)
        assert past.startswith("HTTP/1.1 416 Range Not Satisfiable\r\n")
        assert f"\r\nContent-Range: bytes */{SIZE}\r\n" in past
        assert "\r\nContent-Type: application/json\r\n" in past
        assert json.loads(past.partition("\r\n\r\n")[2]) == {
            "type": "range_not_satisfiable",
            "message": "No requested range overlaps the object.",
        }
        path = f"{base}/assets/..%2f..%2fetc%2fpasswd"
        assert (await brief("-o", "/dev/null", "--path-as-is", path))[0].startswith("404")

        operator = f"http://127.0.0.1:{edge.operator_port}/api/v1"
        login = ("-sH", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/json")

        async def post(name: str, document: str) -> object:
            return json.loads(await _curl(*login, "-d", document, f"{operator}/{name}"))

        assert await post("set-buckets", '{"buckets":["archive"]}') == {"bucketIds": ["archive"]}
        assert (await brief("-o", "/dev/null", clip))[0].startswith("421")
        assert await post("set-buckets", "{}") == {"allByWorkerId": 0}
        assert await brief("-o", "/dev/null", clip) == (f"200 {SIZE}", "hit")
        assert await post("purge", '{"ids":["clip.mp4"]}') == {"purged": 1, "bytes": SIZE}
        assert "\r\nX-Cache: miss\r\n" in await _curl("-sI", clip)
