"""A project's groups guard its Files in this dialect too: lists and searches leave them out, one is 403."""

from __future__ import annotations

from tests.support.nodeum import READER, WRITER, Client


async def test_files_of_a_closed_project_are_left_out_of_lists_and_searches(client: Client) -> None:
    await client.add_users()
    made = await client("POST", "/api/media/create", {"id": "films", "name": "Films", "groups": ["crew"]})
    assert made.status in (200, 201), made.body
    inside = await client.put_file("media/films/secret.mov", b"same")
    outside = await client.put_file("media/open/secret.mov", b"same")

    async def seen(user: tuple[str, str] | None) -> tuple[list[str], list[str], list[str]]:
        found = await client.get("/api/catalog/search?q=secret&sort=file_path", user=user)
        assert found["count"] == len(found["files"])
        listed = await client.get("/api/v2/pools/media/files", user=user)
        assert listed["count"] == len(listed["files"])
        single = await client.get(f"/api/v2/files/{outside}", user=user)
        return (
            [f["file_path"] for f in found["files"]],
            [f["name"] for f in listed["files"]],
            [place["path"] for place in single["locations"]],
        )

    both = ["media/films/secret.mov", "media/open/secret.mov"]
    assert await seen(("admin", "p@55w0rd")) == (both, ["films", "open"], ["open/secret.mov"])
    for user in (READER, WRITER, None):
        assert await seen(user) == (both[1:], ["open"], ["open/secret.mov"])
        status = 403 if user else 401
        assert (await client("GET", f"/api/v2/files/{inside}", user=user)).status == status
    admin = await client.service.admin()
    await client.service.services.access.update_user(admin, WRITER[0], groups=["crew"])
    assert await seen(WRITER) == (both, ["films", "open"], ["open/secret.mov"])
    assert (await client.get(f"/api/v2/files/{inside}", user=WRITER))["id"] == inside
    facets = await client.get("/api/v2/catalog/search?rows=0&facet=file_extension", user=READER)
    assert facets["facets"]["files_count"] == 1


async def test_project_asset_and_tags_are_shown_and_searched_by(client: Client) -> None:
    made = await client("POST", "/api/media/create", {"id": "films", "name": "Films", "groups": []})
    assert made.status in (200, 201), made.body
    upload = "/api/media/films/upload/trailer?filename=x.mov&create=true"
    assert (await client.service("POST", upload, body=b"bytes")).status in (200, 201)
    tagged = await client("POST", "/api/media/films/tags/trailer", ["Blue", "rough cut"])
    assert tagged.status in (200, 201), tagged.body
    await client.put_file("media/films-else/trailer/1/y.mov", b"other")
    for query in ("project=films", "asset=trailer", "tag=Blue", "tag=rough%20cut|none", "q=project:films+x"):
        (file,) = (await client.get(f"/api/catalog/search?{query}"))["files"]
        assert (file["project"], file["asset"], file["tags"]) == ("films", "trailer", ["Blue", "rough cut"])
    for query in ("q=blue", "q=%22Rough+CUT%22", "q=x.mov+rou*"):
        assert (await client.get(f"/api/catalog/search?{query}"))["count"] == 1, query
    assert (await client("POST", "/api/media/films/tags/trailer", ["green"])).status == 200
    assert (await client.get("/api/catalog/search?q=blue"))["count"] == 0
    assert (await client.get("/api/catalog/search?q=green"))["files"][0]["tags"] == ["green"]
    assert (await client("POST", "/api/media/films/tags/trailer", ["Blue"])).status == 200
    for query in ("project=none", "tag=blue", "asset=x", "project=films&tag=none"):
        assert (await client.get(f"/api/catalog/search?{query}"))["count"] == 0
