"""What belongs to an asset's version or an object is overwritten by OVE's own calls and no others."""

from __future__ import annotations

import pytest

from tests.support.ove import Client

CLIP = "films/clip/1/a.mov"
OBJECT = "films/layout.json"


async def _owned(films: Client) -> dict[str, str]:
    """Make an asset and an object; return their Files' ids by path."""
    await films.upload("clip", "a.mov", b"first")
    await films.ok("POST", "/api/media/films/object/layout", {"kept": 1})
    return {path: (await films.service.file(path)).id for path in (CLIP, OBJECT)}


CALLS = [
    pytest.param("POST", "/API/storage/VX-1/file/data?path={path}", {}, id="upload"),
    pytest.param("POST", "/API/file/{id}/data", {}, id="replace"),
    pytest.param(
        "POST",
        "/API/storage/VX-1/file/data?path={path}&transferId=t",
        {"index": "0", "size": "5"},
        id="chunk",
    ),
    pytest.param("PUT", "/content/media/{path}", {}, id="content"),
    pytest.param("POST", "/API/file/{other}/path?path={path}", {}, id="set path"),
]


@pytest.mark.parametrize(("method", "target", "headers"), CALLS)
@pytest.mark.parametrize("path", [CLIP, OBJECT], ids=["asset", "object"])
async def test_a_file_of_an_asset_or_object_is_409_to_overwrite_elsewhere(
    films: Client, method: str, target: str, headers: dict[str, str], path: str
) -> None:
    ids = await _owned(films)
    await films.service.put("media/elsewhere", b"other")
    other = (await films.service.file("elsewhere")).id
    before = films.service.on_disk()
    target = target.format(path=path, id=ids[path], other=other)
    answer = await films.service(method, target, body=b"other", headers=headers)
    assert answer.status == 409, answer.body
    assert films.service.on_disk() == before
    assert (await films.service.file(path)).id == ids[path]


async def test_a_file_that_another_dialect_put_into_a_version_is_the_versions_then(films: Client) -> None:
    await films.upload("clip", "a.m3u8", b"x")
    assert (await films.service.put("media/films/clip/1/1.ts", b"y")).status == 201
    assert (await films.service.put("media/films/clip/1/1.ts", b"z")).status == 409
    assert films.service.on_disk()["films/clip/1/1.ts"] == b"y"


@pytest.mark.parametrize(
    "path", ["films/clip/01/a", "films/clip/2/a", "films/clip/a", "films/loose", "other/clip/1/a"]
)
async def test_what_belongs_to_no_version_is_replaced_as_ever(films: Client, path: str) -> None:
    await films.upload("clip", "a.mov", b"x")
    assert (await films.service.put(f"media/{path}", b"1")).status == 201
    assert (await films.service.put(f"media/{path}", b"2")).status == 200
    assert films.service.on_disk()[path] == b"2"


async def test_the_object_itself_is_still_replaced_by_its_own_call(films: Client) -> None:
    await _owned(films)
    await films.ok("PUT", "/api/media/films/object/layout", {"kept": 2})
    assert await films.ok("GET", "/api/media/films/object/layout") == {"kept": 2}
