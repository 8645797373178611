"""A change at the origin is in force at an edge before the origin answers, whatever dialect made it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.edge import TOKEN
from tests.support.origin_service import running_origin
from tests.support.told_edge import Pair, told_edge

OLD, NEW = b"old bytes " * 400, b"new bytes, and more of them " * 300
JSON = {"Accept": "application/json"}
TEXT = {"Accept": "text/plain"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with told_edge(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


async def as_content(pair: Pair, id: str, path: str) -> None:
    assert (await pair.service.put(f"media/{path}", NEW)).status == 200


async def as_content_by_id(pair: Pair, id: str, path: str) -> None:
    assert (await pair.service.put(id, NEW)).status == 200


async def as_vidispine_path(pair: Pair, id: str, path: str) -> None:
    target = f"/API/storage/VX-1/file/data?path={path}"
    assert (await pair.service("POST", target, body=NEW, headers=TEXT)).status == 200


async def as_vidispine_file(pair: Pair, id: str, path: str) -> None:
    assert (await pair.service("POST", f"/API/file/{id}/data", body=NEW, headers=TEXT)).status == 200


async def as_vidispine_chunks(pair: Pair, id: str, path: str) -> None:
    target = f"/API/storage/VX-1/file/data?path={path}&transferId=t-{id}"
    for first, last in ((4000, len(NEW)), (0, 4000)):
        headers = {**TEXT, "size": str(len(NEW)), "index": str(first)}
        answer = await pair.service("POST", target, body=NEW[first:last], headers=headers)
        assert answer.status in (200, 204)


async def as_nodeum_task(pair: Pair, id: str, path: str) -> None:
    await pair.put(path, NEW, "archive")
    made = {"name": id, "workflow_action": "copy", "conflict_resolution": "overwrite"}
    await run_task(pair, made, f"/archive/{path}", {"folder_path": "/media"})


async def run_task(pair: Pair, made: dict[str, str], source: str, target: dict[str, str]) -> None:
    """Make a task in the Nodeum dialect, run it, and return when its job is over."""
    ask = pair.service
    headers = {"Content-Type": "application/json"}
    answer = await ask("POST", "/api/v2/tasks", body=json.dumps(made).encode(), headers=headers)
    assert answer.status == 201, answer.body
    task = answer.json["id"]
    end = json.dumps({"file_path": source}).encode()
    place = await ask("POST", f"/api/v2/tasks/{task}/task_sources", body=end, headers=headers)
    assert place.status == 201, place.body
    if target:
        goal = json.dumps(target).encode()
        place = await ask("POST", f"/api/v2/tasks/{task}/task_destinations", body=goal, headers=headers)
        assert place.status == 201, place.body
    started = await ask("PUT", f"/api/v2/tasks/{task}/action/run", headers=headers)
    assert started.status == 202, started.body
    await pair.job_done(f"VX-{int(started.json['job_id'][-12:], 16)}")


@pytest.mark.parametrize(
    "overwrite",
    [
        as_content,
        as_content_by_id,
        as_vidispine_path,
        as_vidispine_file,
        as_vidispine_chunks,
        as_nodeum_task,
    ],
    ids=lambda way: way.__name__.removeprefix("as_"),
)
async def test_overwritten_bytes_are_new_at_the_edge_under_every_name(
    pair: Pair, overwrite: Callable[[Pair, str, str], Awaitable[None]]
) -> None:
    path = f"{overwrite.__name__}/clip.bin"
    id = await pair.put(path, OLD)
    names = (id, f"media/{path}", f"VX-1/{path}")
    for name in names:
        await pair.warm(name, OLD)
    await overwrite(pair, id, path)
    await pair.holds(NEW, *names)


async def test_an_object_of_a_project_that_is_replaced_is_new_at_the_edge(pair: Pair) -> None:
    ask = pair.service
    headers = {"Content-Type": "application/json"}
    project = json.dumps({"id": "objects", "groups": ["public"]}).encode()
    assert (await ask("POST", "/api/media/create", body=project, headers=headers)).status == 200
    target = "/api/media/objects/object/one"
    for method, value in (("POST", b'{"a":1}'), ("PUT", b'{"a":2}')):
        answer = await ask(method, target, body=value, headers=headers)
        assert answer.status == 200, answer.body
        reply = await pair.edge.get("media/objects/one.json")
        assert json.loads(reply.body) == json.loads(value)


async def vidispine_delete(pair: Pair, id: str, path: str) -> None:
    assert (await pair.service("DELETE", f"/API/file/{id}", headers=JSON)).status == 200


async def vidispine_forget(pair: Pair, id: str, path: str) -> None:
    assert (await pair.service("DELETE", f"/API/file/{id}/entity")).status == 200


async def content_delete(pair: Pair, id: str, path: str) -> None:
    assert (await pair.service("DELETE", f"/content/media/{path}")).status == 202


async def vidispine_set_state(pair: Pair, id: str, path: str) -> None:
    assert (await pair.service("PUT", f"/API/file/{id}/state/ARCHIVED", headers=TEXT)).status == 200


async def nodeum_erase(pair: Pair, id: str, path: str) -> None:
    await run_task(pair, {"name": id, "workflow_action": "erase"}, f"/media/{path}", {})


@pytest.mark.parametrize(
    "remove",
    [vidispine_delete, vidispine_forget, content_delete, vidispine_set_state, nodeum_erase],
    ids=lambda way: way.__name__,
)
async def test_what_is_removed_is_404_at_the_edge_under_every_name(
    pair: Pair, remove: Callable[[Pair, str, str], Awaitable[None]]
) -> None:
    path = f"{remove.__name__}/clip.bin"
    id = await pair.put(path, OLD)
    names = (id, f"media/{path}", f"VX-1/{path}")
    for name in names:
        await pair.warm(name, OLD)
    await remove(pair, id, path)
    if remove is vidispine_set_state:  # archived: the origin says 409, of which an edge makes 502
        assert [(await pair.edge.get(name)).status for name in names] == [502] * 3
    else:
        await pair.gone(*names)


async def test_a_moved_file_is_gone_at_its_old_name_and_there_at_its_new_one_though_404_was_remembered(
    pair: Pair,
) -> None:
    id = await pair.put("move/a.bin", OLD)
    await pair.warm(id, OLD)
    await pair.warm("media/move/a.bin", OLD)
    await pair.gone("archive/move/b.bin")
    target = f"/API/file/{id}/storage/VX-2?move=true&filename=move/b.bin"
    started = await pair.service("POST", target, headers=JSON)
    await pair.job_done(started.json["jobId"])
    job = (await pair.service("GET", f"/API/job/{started.json['jobId']}", headers=JSON)).json
    new = next(pair["value"] for pair in job["data"] if pair["key"] == "targetFile")
    await pair.holds(OLD, new, "archive/move/b.bin")
    await pair.gone(id, "media/move/a.bin")


async def test_a_file_moved_by_a_task_is_gone_at_its_old_name_and_there_at_its_new_one(pair: Pair) -> None:
    id = await pair.put("task/a.bin", OLD)
    await pair.warm(id, OLD)
    await pair.warm("media/task/a.bin", OLD)
    await pair.gone("archive/task/a.bin")
    made = {"name": "moves", "workflow_action": "move"}
    await run_task(pair, made, "/media/task/a.bin", {"tape_barcode": "archive"})
    await pair.holds(OLD, "archive/task/a.bin")
    await pair.gone(id, "media/task/a.bin")


async def test_a_path_set_by_hand_is_followed_at_once(pair: Pair) -> None:
    id = await pair.put("set/a.bin", OLD)
    await pair.warm(id, OLD)
    await pair.warm("media/set/a.bin", OLD)
    await pair.gone("media/set/b.bin")
    root = pair.service.folder / "media"
    (root / "set/a.bin").rename(root / "set/b.bin")
    moved = await pair.service("POST", f"/API/file/{id}/path?path=set/b.bin", headers=TEXT)
    assert moved.status == 200
    await pair.holds(OLD, moved.body.decode().strip(), "media/set/b.bin")
    await pair.gone(id, "media/set/a.bin")


async def test_an_upload_is_there_at_once_though_404_was_remembered(pair: Pair) -> None:
    await pair.gone("media/fresh.bin")
    await pair.put("fresh.bin", NEW)
    await pair.holds(NEW, "media/fresh.bin")


@pytest.mark.parametrize("what", ["clip", ""], ids=["asset", "project"])
async def test_a_deleted_asset_or_project_is_404_at_the_edge(pair: Pair, what: str) -> None:
    ask = pair.service
    headers = {"Content-Type": "application/json"}
    id = f"films-{what or 'all'}"
    project = json.dumps({"id": id, "groups": ["public"]}).encode()
    assert (await ask("POST", "/api/media/create", body=project, headers=headers)).status == 200
    target = f"/api/media/{id}/upload/clip?filename=a.mp4&create=true"
    answer = await ask("POST", target, body=OLD, headers={"Content-Type": "application/octet-stream"})
    file, path = answer.headers["X-File-Id"], f"media/{id}/clip/1/a.mp4"
    await pair.warm(file, OLD)
    await pair.warm(path, OLD)
    target = f"/api/media/{id}/meta/{what}" if what else f"/api/media/{id}?force=true"
    assert (await ask("DELETE", target)).status == 200
    await pair.gone(file, path)


async def test_a_project_that_is_no_longer_public_is_not_served_by_the_edge(pair: Pair) -> None:
    ask = pair.service
    headers = {"Content-Type": "application/json"}
    id = await pair.put("closed/clip/1/a.bin", OLD)
    names = (id, "media/closed/clip/1/a.bin")
    for name in names:
        await pair.warm(name, OLD)
    project = json.dumps({"id": "closed", "groups": ["public"]}).encode()
    assert (await ask("POST", "/api/media/create", body=project, headers=headers)).status == 200
    await pair.holds(OLD, *names)
    groups = json.dumps({"groups": ["team"]}).encode()
    changed = await ask("POST", "/api/media/closed/projectAccessMeta", body=groups, headers=headers)
    assert changed.status == 200, changed.body
    for name in names:
        assert (await pair.edge.get(name)).status == 502  # the origin wants credentials


async def test_a_scan_that_finds_other_bytes_or_none_tells_the_edge(pair: Pair) -> None:
    for name in ("scan/a.bin", "scan/b.bin"):
        await pair.put(name, OLD)
        await pair.warm(f"media/{name}", OLD)
    root = pair.service.folder / "media"
    (root / "scan/a.bin").write_bytes(NEW)
    (root / "scan/b.bin").unlink()
    services = pair.service.services
    await services.scans.scan(services.storages.known(1))
    await pair.holds(NEW, "media/scan/a.bin")
    await pair.gone("media/scan/b.bin")


async def test_a_storage_renamed_hidden_or_removed_is_gone_at_the_edge_under_its_old_name(pair: Pair) -> None:
    services = pair.service.services
    admin = await pair.service.admin()
    storage = await services.storages.create(admin, "shelf", [])
    id = await pair.put("a.bin", OLD, "shelf")
    await pair.warm(id, OLD)
    await pair.warm("shelf/a.bin", OLD)
    await services.storages.update(admin, storage.id, name="board")
    await services.edges.told()
    await pair.gone("shelf/a.bin")
    await pair.warm("board/a.bin", OLD)
    await services.storages.update(admin, storage.id, public=False)
    await services.edges.told()
    for name in (id, "board/a.bin"):
        assert (await pair.edge.get(name)).status == 502
    await services.storages.update(admin, storage.id, public=True)
    await services.edges.told()
    await pair.warm("board/a.bin", OLD)
    removed = await pair.service("DELETE", f"/API/storage/{storage.id}")
    assert removed.status == 204
    await pair.gone(id, "board/a.bin")


async def test_an_edge_that_is_away_delays_nobody_and_hears_of_it_when_it_is_back(tmp_path: Path) -> None:
    async with told_edge(tmp_path) as pair:
        id = await pair.put("a.bin", OLD)
        await pair.warm(id, OLD)
        await pair.warm("media/a.bin", OLD)
        pair.relay.cut()
        began = asyncio.get_running_loop().time()
        for body in (b"a", b"b", b"c", b"d", NEW):
            await pair.put("a.bin", body)
        assert asyncio.get_running_loop().time() - began < 2.0
        assert (await pair.edge.get("media/a.bin")).body == OLD  # it cannot know
        metrics = (await pair.service("GET", "/metrics")).body.decode()
        assert 'origin_edge_changes_waiting{edge="1"} 5.0' in metrics
        pair.relay.closed = False

        async def heard() -> bool:
            return await pair.service.services.edges.waiting() == [0]

        await pair.edge.until(heard)
        await pair.holds(NEW, id, "media/a.bin")
        await pair.put("a.bin", OLD)  # and from here on at once again
        await pair.holds(OLD, id, "media/a.bin")


async def test_an_edge_that_is_away_hears_of_it_from_an_origin_that_was_started_anew(tmp_path: Path) -> None:
    async with told_edge(tmp_path) as pair:
        id = await pair.put("a.bin", OLD)
        for name in (id, "media/a.bin"):
            await pair.warm(name, OLD)
        pair.relay.cut()
        await pair.put("a.bin", NEW)
        await pair.service.origin.stop()
        pair.relay.closed = False
        # Another port: the edge cannot ask it, so what it had is gone or it would still be a hit.
        (edge,) = pair.service.origin.config.edges
        again = [{"url": edge.url, "token": TOKEN}]
        async with running_origin(pair.service.folder, edges=again) as service:

            async def heard() -> bool:
                return await service.services.edges.waiting() == [0]

            await pair.edge.until(heard)
            held = await pair.edge.operate("GET", "/objects")
            assert held[1]["objects"] == []
