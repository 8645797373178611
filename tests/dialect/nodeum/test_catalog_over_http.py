"""The catalog search over HTTP: the answer's shape, cursors, filters, and the moment a File is found."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import pytest

from tests.support.nodeum import Client

on_shared = pytest.mark.asyncio(loop_scope="module")

V1, V2 = "/api/catalog/search", "/api/v2/catalog/search"


async def names(client: Client, query: str) -> list[str]:
    return [f["file_path"] for f in (await client.get(f"{V2}?{query}"))["files"]]


async def test_the_guides_example_answers_with_every_key_and_value(client: Client) -> None:
    body = b"frame"
    n = await client.put_file("media/video/VIDEO%20ARRI/reload/master/A9C001.0143000000.ari", body)
    await client.put_file("archive/video/VIDEO%20ARRI/reload/master/A9C001.0143000000.ari", body)
    answer = await client("GET", f"{V1}?q=&volume_s_names=archive&cursor_mark=*")
    assert answer.status == 200
    value = answer.json
    assert list(value)[:3] == ["status", "code", "count"]
    assert (value["status"], value["code"], value["count"]) == ("SUCCESS", 200, 1)
    (file,) = value["files"]
    folders = ["media/video/VIDEO ARRI/reload/master", "archive/video/VIDEO ARRI/reload/master"]
    modified, cached = file.pop("file_modification_date"), file.pop("file_in_cache_date")
    assert modified == cached and modified.endswith("Z")
    path = "video/VIDEO ARRI/reload/master/A9C001.0143000000.ari"
    locations = file.pop("locations")
    assert locations[0] == {
        "storage_id": 1,
        "name": "media",
        "online": True,
        "file_id": n,
        "path": path,
        "state": "CLOSED",
        "verified_at": None,
    }
    assert [(one["name"], one["online"]) for one in locations] == [("media", True), ("archive", False)]
    assert file == {
        "id": n,
        "file_path": f"media/{path}",
        "file_parent_path": folders[0],
        "file_parent_paths_s": folders,
        "file_parent_paths_t": folders,
        "file_size": 5,
        "file_base_name": "A9C001.0143000000",
        "file_in_cache": True,
        "file_extension": ".ari",
        "volume_s_names": ["media", "archive"],
        "file_hash": hashlib.sha1(body).hexdigest(),
        "project": None,
        "asset": None,
        "tags": [],
        "metadata": {},
        "url": f"http://127.0.0.1:3334/assets/media/{quote(path)}",
    }


async def test_a_file_is_found_when_its_upload_is_answered_and_gone_when_its_deletion_is(
    client: Client,
) -> None:
    for turn in range(5):
        n = await client.put_file(f"media/clip{turn}.mov")
        assert await names(client, f"q=clip{turn}") == [f"media/clip{turn}.mov"]
        gone = await client.service("DELETE", f"/content/VX-{n}")
        assert gone.status == 202
        assert await names(client, f"q=clip{turn}") == []


async def test_a_walk_ends_with_the_mark_that_was_sent_and_goes_on_with_what_is_added(
    client: Client,
) -> None:
    for i in range(5):
        await client.put_file(f"media/a{i}.mov", b"%d" % i)
    mark, walked = "*", []
    for _ in range(3):
        page = await client.get(f"{V1}?sort=file_base_name&rows=2&cursor_mark={mark}")
        assert page["count"] == 5
        walked += [f["file_base_name"] for f in page["files"]]
        assert page["next_cursor_mark"] != mark
        mark = page["next_cursor_mark"]
    assert walked == ["a0", "a1", "a2", "a3", "a4"]
    end = await client.get(f"{V1}?sort=file_base_name&rows=2&cursor_mark={mark}")
    assert (end["files"], end["next_cursor_mark"]) == ([], mark)
    await client.put_file("media/a9.mov", b"9")
    more = await client.get(f"{V1}?sort=file_base_name&rows=2&cursor_mark={mark}")
    assert [f["file_base_name"] for f in more["files"]] == ["a9"]
    nothing = await client.get(f"{V1}?q=nowhere&cursor_mark=%2A")
    assert (nothing["count"], nothing["files"], nothing["next_cursor_mark"]) == (0, [], "*")


@on_shared
@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("cursor_mark=abc", "cursor_mark"),
        ("cursor_mark=AQAAAAAAABJnAAAAAXv1c8kO0lqg", "cursor_mark"),
        ("page=2&cursor_mark=*", "page"),
        ("rows=-1", "rows"),
        ("per_page=x", "per_page"),
        ("file_size=big", "file_size"),
        ("q=size:big", "q"),
        ("q=" + "a" * 1001, "q"),
        ("q=" + "a+" * 33, "q"),
        ("file_in_cache=maybe", "file_in_cache"),
        ("sort=color", "sort"),
        ("facet=color", "facet"),
        ("facet_limit=0", "facet_limit"),
    ],
)
async def test_bad_values_are_400_and_name_their_parameter(shared: Client, query: str, where: str) -> None:
    answer = await shared("GET", f"{V1}?{query}")
    assert answer.status == 400
    assert list(answer.json) == ["status", "code", "messages", "details"]
    assert (answer.json["status"], answer.json["code"]) == ("ERROR", 400)
    assert answer.json["details"][where][0]["error"] == "invalid"
    plain = await shared("GET", f"{V2}?{query}")
    assert plain.status == 400 and list(plain.json) == ["messages", "details"]


async def test_a_mark_of_another_query_filter_or_sort_is_refused(client: Client) -> None:
    await client.put_file("media/a.mov", b"1")
    await client.put_file("media/b.mov", b"2")
    mark = (await client.get(f"{V2}?q=mov&rows=1"))["next_cursor_mark"]
    assert len((await client.get(f"{V2}?q=mov&rows=5&cursor_mark={mark}"))["files"]) == 1
    for query in ("q=mo*", "q=mov&file_size=>1", "q=mov&sort=file_size", "q=mov&sort=id:desc"):
        assert (await client("GET", f"{V2}?{query}&cursor_mark={mark}")).status == 400
    for damaged in (mark[:-1], mark + "=", mark + "A", "B" + mark[1:], mark[:4] + "B" + mark[5:]):
        assert (await client("GET", f"{V2}?q=mov&cursor_mark={quote(damaged)}")).status == 400


async def test_unknown_parameters_are_ignored_and_named(client: Client) -> None:
    value = await client.get(f"{V2}?volume=x&colour=red")
    assert value["ignored"] == ["colour", "volume"]
    assert "ignored" not in await client.get(V2)


async def test_pages_have_headers_and_cursor_walks_do_not(client: Client) -> None:
    for i in range(5):
        await client.put_file(f"media/a{i}.mov", b"%d" % i)
    answer = await client("GET", f"{V2}?page=2&per_page=2&sort=file_base_name&q=mov")
    assert [f["file_base_name"] for f in answer.json["files"]] == ["a2", "a3"]
    assert answer.headers["X-Total"] == "5" and answer.headers["X-Total-Pages"] == "3"
    assert (answer.headers["X-Next-Page"], answer.headers["X-Prev-Page"]) == ("3", "1")
    assert f'<{V2}?sort=file_base_name&q=mov&per_page=2&page=3>; rel="next"' in answer.headers["Link"]
    assert "Link" not in (await client("GET", f"{V2}?cursor_mark=*")).headers
    assert (await client.get(f"{V2}?rows=0"))["files"] == []
    assert (await client.get(f"{V2}?page=999999999999999999999"))["files"] == []


async def test_facets_count_files_and_bytes(client: Client) -> None:
    await client.put_file("media/a.ARI", b"12345")
    await client.put_file("media/b.ari", b"678")
    await client.put_file("archive/c", b"9")
    value = await client.get(f"{V2}?rows=0&facet=file_extension,volume_s_names|file_in_cache,file_size")
    facets = value["facets"]
    assert (facets["files_count"], facets["file_size_sum"]) == (3, 9)
    assert facets["file_extension"]["buckets"] == [
        {"val": ".ari", "files_count": 2, "file_size_sum": 8},
        {"val": "", "files_count": 1, "file_size_sum": 1},
    ]
    assert [b["val"] for b in facets["volume_s_names"]["buckets"]] == ["media", "archive"]
    assert [(b["val"], b["files_count"]) for b in facets["file_in_cache"]["buckets"]] == [
        (True, 2),
        (False, 1),
    ]
    assert facets["file_size"]["buckets"] == [{"val": "less_100_kb", "files_count": 3, "file_size_sum": 9}]
    limited = await client.get(f"{V2}?rows=0&facet=file_extension&facet_limit=1")
    assert len(limited["facets"]["file_extension"]["buckets"]) == 1


async def test_the_anonymous_find_public_files_and_only_public_storages_are_named(client: Client) -> None:
    await client.put_file("media/open.mov", b"same")
    await client.put_file("secret/open.mov", b"same")
    await client.put_file("secret/hidden.mov", b"other")
    seen = await client.get(V2, user=None)
    assert [f["file_path"] for f in seen["files"]] == ["media/open.mov"]
    assert seen["files"][0]["volume_s_names"] == ["media"]
    assert seen["count"] == 1
    assert (await client.get(f"{V2}?volume_s_names=secret", user=None))["count"] == 0
    assert (await client.get(f"{V2}?volume_s_names=secret"))["count"] == 2
