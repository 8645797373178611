"""Workers and their queue: registration, claims, leases, heartbeats, output, the end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from origin.services.worker_tasks import WorkerTasks
from tests.support.origin_service import PASSWORD, running_origin
from tests.support.ove import EDGE, MEMBER, STRANGER, Client

QUEUE = "/api/workers/queue"
DOCS = Path(__file__).parents[3] / "docs"


class Wall:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms

    def advance(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


@pytest.fixture
def clock() -> Wall:
    return Wall()


@pytest_asyncio.fixture
async def queue(tmp_path: Path, clock: Wall) -> AsyncIterator[Client]:
    """An origin whose time the test moves, with asset `pic` of project films, which holds pic.png."""
    async with running_origin(tmp_path, clock=clock, jobs={"runners": 1}) as service:
        client = Client(service)
        await client.project()
        await client.upload("pic", "pic.png", b"pixels")
        yield client


async def register(client: Client, name: str = "w1", **more: Any) -> str:
    sent = {"name": name, "type": "tiles", "extensions": [".PNG"], "description": "d", **more}
    return str((await client.ok("POST", "/api/workers", sent))["token"])


async def schedule(client: Client, asset: str = "pic", kind: str = "tiles", **more: Any) -> str:
    sent = {"worker_type": kind, "store_id": "media", "project_id": "films", "asset_id": asset, **more}
    answer = await client("POST", QUEUE, sent)
    assert (answer.status, answer.json) == (200, {"Status": "OK"}), answer.body
    return str(answer.headers["X-Task-Id"])


async def claim(client: Client, token: str, name: str = "w1", lease: int = 60) -> dict[str, Any] | None:
    answer = await client("POST", f"{QUEUE}/claim", {"name": name, "lease": lease}, token=token)
    assert answer.status in (200, 204), answer.body
    return dict(answer.json) if answer.status == 200 else None


async def tasks(client: Client) -> dict[str, dict[str, Any]]:
    return {task["_id"]: task for task in await client.ok("GET", QUEUE)}


# --- registration ---------------------------------------------------------------------------------


async def test_a_worker_registers_is_listed_and_its_name_is_taken_while_it_lives(
    queue: Client, clock: Wall
) -> None:
    token = await register(queue)
    assert await queue.ok("GET", "/api/workers") == ["extract", "w1"]
    (shown,) = await queue.ok("GET", "/api/workers?detail=true&name=w1")
    assert shown.pop("last_seen") and shown == {
        "name": "w1",
        "type": "tiles",
        "status": "ready",
        "description": "d",
        "extensions": [".png"],
        "parameters": {},
        "docs": "",
    }
    again = {"name": "w1", "type": "tiles", "extensions": [], "description": ""}
    assert await queue.refused("POST", "/api/workers", again) == (409, "Worker already in use")
    renewed = (await queue.ok("POST", "/api/workers", again, token=token))["token"]
    assert await queue.refused("POST", f"{QUEUE}/claim", {"name": "w1"}, token=token) == (
        401,
        "Access token required",
    )
    assert await claim(queue, renewed) is None
    clock.advance(121)
    (shown,) = await queue.ok("GET", "/api/workers?detail=1&name=w1")
    assert shown["status"] == "offline"
    await register(queue)
    assert await queue.refused("POST", f"{QUEUE}/claim", {"name": "w1"}, token=renewed) == (
        401,
        "Access token required",
    )


async def test_an_unregistered_workers_token_dies_and_its_tasks_are_new(queue: Client) -> None:
    token = await register(queue)
    id = await schedule(queue)
    assert await claim(queue, token) is not None
    assert await queue.refused("DELETE", "/api/workers", {"name": "w2"}) == (400, "Worker not found")
    assert await queue.refused("DELETE", "/api/workers", {}) == (400, "Missing name")
    assert await queue.ok("DELETE", "/api/workers", {"name": "w1"}, token=token) == {"Status": "OK"}
    assert (await tasks(queue))[id]["status"] == "new"
    assert (await queue.refused("POST", f"{QUEUE}/claim", {"name": "w1"}, token=token))[0] == 401


async def test_a_workers_token_is_good_for_nothing_but_its_own_tasks(queue: Client) -> None:
    token = await register(queue)
    await register(queue, "w2")
    id = await schedule(queue)
    for method, target, value in (
        ("GET", "/api/media/films/list", None),
        ("GET", QUEUE, None),
        ("GET", "/api/workers", None),
        ("PATCH", QUEUE, {"task_id": id}),
        ("DELETE", QUEUE, {"task_id": id}),
        ("POST", f"{QUEUE}/claim", {"name": "w2"}),
        ("DELETE", "/api/workers", {"name": "w2"}),
        ("POST", "/api/workers", {"name": "w3", "type": "x"}),
    ):
        refused = await queue.refused(method, target, value, token=token)
        assert refused == (403, "Access denied"), target


# --- the queue ------------------------------------------------------------------------------------


async def test_a_task_shows_what_is_known_and_nothing_else(queue: Client) -> None:
    id = await schedule(queue, parameters={"depth": 3}, priority=5)
    (task,) = await queue.ok("GET", QUEUE)
    assert task.pop("createdOn")
    assert task == {
        "_id": id,
        "task_id": id,
        "priority": 5,
        "status": "new",
        "username": "admin",
        "storeID": "media",
        "projectID": "films",
        "assetID": "pic",
        "version": 1,
        "filename": "pic.png",
        "extension": ".png",
        "workerType": "tiles",
        "taskOptions": {"depth": 3},
        "progress": 0.0,
        "attempts": 0,
    }
    assert (await queue.meta("pic"))["processing_status"] == "new"


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"worker_type": None}, "Missing worker_type"),
        ({"asset_id": ""}, "Missing asset_id"),
        ({"store_id": "none"}, "Store not found"),
        ({"project_id": "none"}, "Project not found"),
        ({"asset_id": "none"}, "Asset not found"),
        ({"asset_id": "empty"}, "File not found"),
        ({"parameters": {"filename": "other.png"}}, "File not found"),
        ({"parameters": {"filename": "../../x"}}, "File not found"),
        ({"parameters": []}, "Invalid data"),
        ({"priority": "high"}, "Invalid data"),
    ],
)
async def test_a_task_without_something_to_work_on_is_refused(
    queue: Client, change: dict[str, Any], title: str
) -> None:
    await queue.ok("POST", "/api/media/films/create", {"name": "empty"})
    sent = {"worker_type": "t", "store_id": "media", "project_id": "films", "asset_id": "pic", **change}
    assert await queue.refused("POST", QUEUE, sent) == (400, title)
    assert await tasks(queue) == {}


async def test_unknown_tasks_are_not_found(queue: Client) -> None:
    for method in ("DELETE", "PATCH"):
        assert await queue.refused(method, QUEUE, {"task_id": "VX-99"}) == (400, "Task not found")
        assert await queue.refused(method, QUEUE, {}) == (400, "Missing task_id")
    assert await queue.refused("PUT", f"{QUEUE}/VX-99", {}) == (400, "Task not found")
    assert await queue.refused("GET", f"{QUEUE}/VX-99/source") == (400, "Task not found")


async def test_tasks_show_to_those_who_may_write_to_their_project(queue: Client) -> None:
    await queue.add_users()
    await queue.ok("POST", "/api/media/films/projectAccessMeta", {"groups": ["team", "public"]})
    id = await schedule(queue)
    assert await queue.ok("GET", QUEUE, user=STRANGER) == []
    refused = await queue.refused("DELETE", QUEUE, {"task_id": id}, user=STRANGER)
    assert refused == (403, "Access denied")
    assert [task["_id"] for task in await queue.ok("GET", QUEUE, user=MEMBER)] == [id]
    assert await queue.ok("DELETE", QUEUE, {"task_id": id}, user=MEMBER) == {"Status": "OK"}


async def test_claims_go_by_priority_then_age_by_type_and_extension_one_at_a_time_for_an_asset(
    queue: Client,
) -> None:
    for name in ("b.png", "c.png", "d.txt"):
        await queue.upload(name[0], name, b"x")
    token = await register(queue)
    old = await schedule(queue, "b")
    high = await schedule(queue, "c", priority=9)
    await schedule(queue, "d")
    await schedule(queue, "pic", "other")
    same = await schedule(queue, "c", priority=8)
    first = await claim(queue, token)
    second = await claim(queue, token)
    assert first is not None and second is not None
    assert (first["_id"], second["_id"]) == (high, old)
    assert (first["status"], first["workerName"], first["attempts"]) == ("processing", "w1", 1)
    assert await claim(queue, token) is None
    await queue.ok("PUT", f"{QUEUE}/{high}", {"status": "done"}, token=token)
    third = await claim(queue, token)
    assert third is not None and third["_id"] == same


# --- at work --------------------------------------------------------------------------------------


async def test_a_task_is_done_from_claim_to_index_file(queue: Client) -> None:
    token = await register(queue)
    id = await schedule(queue)
    task = await claim(queue, token)
    assert task is not None
    here, lease = f"{QUEUE}/{id}", task["lease_id"]
    meta = await queue.meta("pic")
    assert (meta["worker"], meta["processing_status"]) == ("w1", "processing")
    source = await queue("GET", f"{here}/source", token=token, Range="bytes=1-3")
    assert (source.status, source.body) == (206, b"ixe")
    beat = await queue.ok("PUT", here, {"progress": 0.4, "lease_id": lease}, token=token)
    assert set(beat) == {"Status", "lease_expires"}
    assert (await tasks(queue))[id]["progress"] == 0.4
    for bad in ({"progress": 2}, {"progress": "x"}, {"status": "new"}, {"progress": True}):
        assert await queue.refused("PUT", here, bad, token=token) == (400, "Invalid data")
    for name in ("t/0.png", "view.html"):
        await queue.ok("PUT", f"{here}/output?filename={name}", body=name.encode(), token=token)
    for name in ("../x", "%2Fx", "a%5Cb", "", "C:x"):
        refused = await queue.refused("PUT", f"{here}/output?filename={name}", body=b"x", token=token)
        assert refused == (400, "Invalid filename"), name
    assert await queue.names("pic") == ["pic.png"]  # nothing shows before the end
    bad_end = {"status": "done", "index_file": "w1/pic/none.html"}
    assert await queue.refused("PUT", here, bad_end, token=token) == (400, "Invalid data")
    end = {"status": "done", "index_file": "w1/pic/view.html", "lease_id": lease}
    for _ in range(2):
        assert await queue.ok("PUT", here, end, token=token) == {"Status": "OK"}
    assert await queue.names("pic") == ["pic.png", "w1/pic/t/0.png", "w1/pic/view.html"]
    meta = await queue.meta("pic")
    assert meta["index_file"] == f"{EDGE}/media/films/pic/1/w1/pic/view.html"
    assert (meta["worker"], meta["processing_status"]) == ("", "done")
    shown = (await tasks(queue))[id]
    assert shown["progress"] == 1.0 and shown["endTime"] and "lease_expires" not in shown
    content = await queue("GET", "/content/media/films/pic/1/w1/pic/t/0.png", user=None)
    assert content.body == b"t/0.png"


async def test_a_run_again_replaces_the_earlier_output_as_a_whole(queue: Client) -> None:
    token = await register(queue)
    id = await schedule(queue)
    for names in (("a", "b"), ("b", "c")):
        await claim(queue, token)
        for name in names:
            body = f"{name} of {names}".encode()
            await queue.ok("PUT", f"{QUEUE}/{id}/output?filename={name}", body=body, token=token)
        await queue.ok("PUT", f"{QUEUE}/{id}", {"status": "done"}, token=token)
        await queue.ok("PATCH", QUEUE, {"task_id": id})
    await queue.service.services.jobs.changed(0)
    assert await queue.names("pic") == ["pic.png", "w1/pic/b", "w1/pic/c"]
    assert (await queue("GET", "/content/media/films/pic/1/w1/pic/b")).body == b"b of ('b', 'c')"


async def test_a_failed_task_tells_why_and_leaves_no_output(queue: Client) -> None:
    token = await register(queue)
    id = await schedule(queue)
    await claim(queue, token)
    await queue.ok("PUT", f"{QUEUE}/{id}/output?filename=a", body=b"x", token=token)
    await queue.ok("PUT", f"{QUEUE}/{id}", {"status": "error", "message": "no pixels"}, token=token)
    meta = await queue.meta("pic")
    assert (meta["processing_status"], meta["processing_error"]) == ("error", "no pixels")
    assert (await tasks(queue))[id]["error"] == "no pixels"
    assert list(queue.service.on_disk()) == ["films/pic/1/pic.png"]
    await queue.ok("PATCH", QUEUE, {"task_id": id})
    task = (await tasks(queue))[id]
    assert not {"startTime", "endTime", "error", "workerName"} & set(task) and task["attempts"] == 0
    await queue.upload("pic", "new.png", b"y", "update=1")
    assert (await queue.meta("pic"))["processing_status"] == ""


async def test_after_a_cancel_every_call_of_the_worker_says_so(queue: Client) -> None:
    token = await register(queue)
    id = await schedule(queue)
    await claim(queue, token)
    await queue.ok("PUT", f"{QUEUE}/{id}/output?filename=a", body=b"x", token=token)
    for _ in range(2):
        assert await queue.ok("DELETE", QUEUE, {"task_id": id}) == {"Status": "OK"}
    canceled = (409, "Task canceled")
    assert await queue.refused("PUT", f"{QUEUE}/{id}", {"progress": 0.5}, token=token) == canceled
    assert await queue.refused("PUT", f"{QUEUE}/{id}", {"status": "done"}, token=token) == canceled
    assert await queue.refused("GET", f"{QUEUE}/{id}/source", token=token) == canceled
    refused = await queue.refused("PUT", f"{QUEUE}/{id}/output?filename=b", body=b"x", token=token)
    assert refused == canceled
    assert (await queue.meta("pic"))["processing_status"] == "canceled"
    assert list(queue.service.on_disk()) == ["films/pic/1/pic.png"]


async def test_an_abort_in_another_dialect_is_a_cancel(queue: Client) -> None:
    token = await register(queue)
    id = await schedule(queue)
    await claim(queue, token)
    assert (await queue("DELETE", f"/API/job/{id}")).status in (200, 202, 204)
    refused = await queue.refused("PUT", f"{QUEUE}/{id}", {"progress": 0.5}, token=token)
    assert refused == (409, "Task canceled")


async def test_a_lease_that_ran_out_gives_the_task_to_another_and_the_first_has_lost_it(
    queue: Client, clock: Wall
) -> None:
    first, second = await register(queue), await register(queue, "w2")
    id = await schedule(queue)
    await claim(queue, first, lease=10)
    await queue.ok("PUT", f"{QUEUE}/{id}/output?filename=a", body=b"x", token=first)
    clock.advance(8)
    await queue.ok("PUT", f"{QUEUE}/{id}", {"progress": 0.5}, token=first)
    clock.advance(8)
    assert await claim(queue, second, "w2") is None
    clock.advance(3)
    lost = (409, "Lease lost")
    assert await queue.refused("PUT", f"{QUEUE}/{id}", {"progress": 0.6}, token=first) == lost
    task = await claim(queue, second, "w2")
    assert task is not None and (task["_id"], task["attempts"], task["progress"]) == (id, 2, 0.0)
    for end in ({"status": "done"}, {"status": "error"}):
        assert await queue.refused("PUT", f"{QUEUE}/{id}", end, token=first) == lost
    wrong = {"status": "done", "lease_id": "0" * 32}
    assert await queue.refused("PUT", f"{QUEUE}/{id}", wrong, token=second) == lost
    await queue.ok("PUT", f"{QUEUE}/{id}", {"status": "done"}, token=second)
    assert await queue.names("pic") == ["pic.png"]  # the first one's output went with its lease
    assert list(queue.service.on_disk()) == ["films/pic/1/pic.png"]


async def test_a_task_fails_when_its_lease_ran_out_too_often(queue: Client, clock: Wall) -> None:
    token = await register(queue)
    id = await schedule(queue)
    for attempt in range(1, 6):
        task = await claim(queue, token, lease=5)
        assert task is not None and task["attempts"] == attempt
        clock.advance(6)
    assert await claim(queue, token) is None
    assert (await tasks(queue))[id]["error"] == "lease expired"
    assert (await queue.meta("pic"))["processing_error"] == "lease expired"


async def test_what_nobody_serves_ends_after_a_week_and_is_forgotten_two_days_later(
    queue: Client, clock: Wall
) -> None:
    id = await schedule(queue, kind="nobody")
    clock.advance(7 * 86_400 + 1)
    await queue.service.services.worker_tasks.keep_up()
    assert (await tasks(queue))[id]["error"] == "no worker"
    clock.advance(2 * 86_400 + 1)
    await queue.service.services.worker_tasks.keep_up()
    assert await tasks(queue) == {}
    meta = await queue.meta("pic")
    assert (meta["processing_status"], meta["processing_error"]) == ("error", "no worker")


async def test_output_waits_for_the_end_across_a_restart(tmp_path: Path) -> None:
    async with running_origin(tmp_path) as service:
        client = Client(service)
        await client.project()
        await client.upload("pic", "pic.png", b"pixels")
        token = await register(client)
        id = await schedule(client)
        await claim(client, token)
        await client.ok("PUT", f"{QUEUE}/{id}/output?filename=a", body=b"x", token=token)
    async with running_origin(tmp_path) as service:
        client = Client(service)
        await client.ok("PUT", f"{QUEUE}/{id}", {"status": "done"}, token=token)
        assert await client.names("pic") == ["pic.png", "w1/pic/a"]
        assert service.on_disk()["films/pic/1/w1/pic/a"] == b"x"


async def test_a_publication_cut_short_by_a_crash_is_carried_on_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: Any) -> bool:
        raise RuntimeError("power cut")

    async with running_origin(tmp_path) as service:
        client = Client(service)
        await client.project()
        await client.upload("pic", "pic.png", b"pixels")
        token = await register(client)
        id = await schedule(client)
        await claim(client, token)
        for name in ("a", "view.html"):
            await client.ok("PUT", f"{QUEUE}/{id}/output?filename={name}", body=b"x", token=token)
        monkeypatch.setattr(WorkerTasks, "_commit", crash)
        end = {"status": "done", "index_file": "w1/pic/view.html"}
        refused = await client.refused("PUT", f"{QUEUE}/{id}", end, token=token)
        assert refused == (500, "Internal server error")
        assert await client.names("pic") == ["pic.png"]
        monkeypatch.undo()
    async with running_origin(tmp_path) as service:
        client = Client(service)
        assert await client.names("pic") == ["pic.png", "w1/pic/a", "w1/pic/view.html"]
        meta = await client.meta("pic")
        assert meta["processing_status"] == "done" and meta["index_file"].endswith("/w1/pic/view.html")


async def test_what_is_in_the_way_of_output_ends_the_task_and_leaves_none_of_it(queue: Client) -> None:
    token = await register(queue)
    id = await schedule(queue)
    await claim(queue, token)
    for name in ("a", "b/c"):
        await queue.ok("PUT", f"{QUEUE}/{id}/output?filename={name}", body=b"x", token=token)
    (queue.service.folder / "media/films/pic/1/w1/pic").mkdir(parents=True)
    (queue.service.folder / "media/films/pic/1/w1/pic/b").write_bytes(b"a file where a folder should be")
    assert (await queue.refused("PUT", f"{QUEUE}/{id}", {"status": "done"}, token=token))[0] == 409
    assert (await queue.meta("pic"))["processing_status"] == "error"
    assert set(queue.service.on_disk()) == {"films/pic/1/pic.png", "films/pic/1/w1/pic/b"}


async def test_two_workers_that_race_do_every_task_once(client: Client) -> None:
    await client.project()
    for n in range(10):
        await client.upload(f"a{n}", "x.png", b"x")
    ids = [await schedule(client, f"a{n % 10}") for n in range(60)]
    done: list[str] = []

    async def run(name: str) -> int:
        token, count = await register(client, name), 0
        while len(done) < len(ids):
            task = await claim(client, token, name)
            if task is None:
                await asyncio.sleep(0)
                continue
            await client.ok("PUT", f"{QUEUE}/{task['_id']}", {"status": "done"}, token=token)
            done.append(task["_id"])
            count += 1
        return count

    shares = await asyncio.gather(run("w1"), run("w2"))
    assert sorted(done) == sorted(ids) and min(shares) > 0


async def test_the_example_worker_does_what_it_says(client: Client) -> None:
    await client.project()
    await client.upload("clip", "a.mp4", b"bytes" * 1000)
    id = await schedule(client, "clip", "describe")
    variables = {**os.environ, "ORIGIN": client.service.url, "ORIGIN_PASSWORD": PASSWORD, "PAUSE": "0.05"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(DOCS / "ove_worker.py"), env=variables
    )
    try:
        job = await client.service.services.jobs.wait(id, 30)
    finally:
        process.terminate()
        await process.wait()
    assert job.state.value == "FINISHED", job.error
    assert await client.names("clip") == ["a.mp4", "describe-1/a/index.html"]
    page = await client("GET", "/content/media/films/clip/1/describe-1/a/index.html", user=None)
    assert b"5000 bytes" in page.body
    assert json.dumps((await client.meta("clip"))["index_file"]).endswith('/describe-1/a/index.html"')
