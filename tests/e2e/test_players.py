"""Real tools against the edge: players that seek, a playlist to its end, resumed and split downloads."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.support.edge import Edge
from tests.support.fixtures import StartEdge
from tests.support.source import Fault, Source

MEDIA = Path(__file__).resolve().parents[2] / "samples" / "media"
SIZE = 40 << 20


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


async def run(*arguments: str | Path) -> tuple[int, bytes]:
    """Exit code and standard output."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), 90)
    return process.returncode or 0, out or (error if process.returncode else b"")


def add_samples(source: Source) -> list[str]:
    """Put the sample clip and its HLS rendition on the source; ids as below samples/media."""
    if not (MEDIA / "clip.mp4").exists():
        pytest.skip("the sample clip has not been rendered")
    ids = []
    for path in sorted(p for p in MEDIA.rglob("*") if p.is_file()):
        ids.append(path.relative_to(MEDIA).as_posix())
        source.add(ids[-1], body=path.read_bytes(), digest=True)
    return ids


@needs("ffprobe")
async def test_ffprobe_reads_a_cold_clip_through_the_edge_as_from_disk(edge: Edge, source: Source) -> None:
    add_samples(source)
    show = ("ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_entries", "format=duration,size")
    code, direct = await run(*show, MEDIA / "clip.mp4")
    through_code, through = await run(*show, f"{edge.url}/assets/clip.mp4")
    assert (code, through_code) == (0, 0)
    assert json.loads(through) == json.loads(direct)


@needs("ffmpeg", "ffprobe")
async def test_three_seeks_give_the_frames_that_are_in_the_file(edge: Edge, source: Source) -> None:
    add_samples(source)
    await edge.operate("POST", "/purge", {"prefix": "clip"})
    code, out = await run(
        "ffprobe", "-v", "error", "-of", "json", "-show_entries", "format=duration", MEDIA / "clip.mp4"
    )
    duration = float(json.loads(out)["format"]["duration"])
    for share in (0.9, 0.2, 0.6):

        def frame(url: str | Path, at: float = duration * share) -> tuple[str | Path, ...]:
            seek = ("ffmpeg", "-v", "error", "-ss", f"{at:.2f}", "-i", url)
            return (*seek, "-map", "0:v:0", "-frames:v", "3", "-f", "framemd5", "-")

        code, direct = await run(*frame(MEDIA / "clip.mp4"))
        through_code, through = await run(*frame(f"{edge.url}/assets/clip.mp4"))
        assert (code, through_code) == (0, 0), through
        assert through == direct
        assert direct.count(b"\n0,") >= 1


@needs("ffmpeg")
async def test_hls_playlist_plays_to_its_end(edge: Edge, source: Source) -> None:
    ids = add_samples(source)
    playlists = [one for one in ids if one.endswith(".m3u8")]
    if not playlists:
        pytest.skip("no HLS rendition among the samples")
    segments = [one for one in ids if one.endswith((".ts", ".m4s"))]
    for playlist in playlists:
        play = ("ffmpeg", "-v", "error", "-i")
        tail = ("-f", "framemd5", "-")
        code, direct = await run(*play, MEDIA / playlist, *tail)
        through_code, through = await run(*play, f"{edge.url}/assets/{playlist}", *tail)
        assert (code, through_code) == (0, 0), through
        assert through == direct
    assert {seen.asset_id for seen in source.seen(method="GET")} >= set(segments)


@needs("curl")
async def test_curl_resumes_where_it_stopped(tmp_path: Path, edge: Edge, source: Source, asset: str) -> None:
    source.add(asset, SIZE)
    url, target = f"{edge.url}/assets/{asset}", tmp_path / "file"
    content = source.assets[asset].content(asset)
    for until in (1, 10_000_000, 30_000_001):
        target.write_bytes(content[:until])
        code, out = await run("curl", "-sS", "-C", "-", "-o", target, url)
        assert (code, out) == (0, b"")
        assert target.read_bytes() == content


@needs("aria2c")
@pytest.mark.parametrize("state", ["cold", "stored"])
async def test_aria2c_with_eight_connections_gets_the_same_file(
    state: str, tmp_path: Path, edge: Edge, source: Source, asset: str
) -> None:
    source.add(asset, SIZE)
    if state == "stored":
        await edge.get(asset, keep=False)
    code, out = await run(
        "aria2c",
        "-x8",
        "-s8",
        "-k1M",
        "-q",
        "--no-conf",
        "--file-allocation=none",
        "-d",
        tmp_path,
        "-o",
        "file",
        f"{edge.url}/assets/{asset}",
    )
    assert code == 0, out
    found = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    assert found == source.assets[asset].sha256(asset).hex()
    if state == "stored":
        assert source.count(asset) == 1


@needs("curl")
async def test_curl_sees_nothing_of_a_source_that_dies_amid_the_body(
    tmp_path: Path, start_edge: StartEdge, sources: tuple[Source, Source]
) -> None:
    edge = await start_edge(*sources)
    for one in sources:
        one.add("a", SIZE)
    sources[0].fault("a", Fault(reset_after=SIZE // 3))
    sources[1].fault("a", Fault(cut_after=SIZE // 2), on=1)
    target = tmp_path / "file"
    code, out = await run("curl", "-sS", "-o", target, f"{edge.url}/assets/a")
    assert (code, out) == (0, b"")
    assert target.read_bytes() == sources[0].assets["a"].content("a")
