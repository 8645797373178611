"""Tasks, their actions and executions; what a run does to Files, and what a crash leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodeum import READER, WRITER, Client, running

on_shared = pytest.mark.asyncio(loop_scope="module")

TASKS = "/api/v2/tasks"
NAMED = {"name": "x", "workflow_action": "copy"}


async def test_a_task_is_made_with_every_key_and_runs_to_the_tape(client: Client) -> None:
    await client.put_file("media/a/x.ari", b"frame")
    made = await client("POST", TASKS, {"name": "to tape", "workflow_action": "copy", "status": "done"})
    assert made.status == 201 and made.headers["Location"] == f"{TASKS}/1"
    value = made.json
    assert value.pop("creation_date") == value.pop("modification_date")
    assert value == {
        "id": 1,
        "name": "to tape",
        "comment": None,
        "workflow_type": None,
        "workflow_action": "copy",
        "source_type": None,
        "destination_type": None,
        "priority": 5,
        "conflict_resolution": "rename",
        "action": "noop",
        "activate": True,
        "creation_username": "admin",
        "modification_username": "admin",
        "status": "not_activated",
        "job_started": None,
        "job_finished": None,
        "processed_size": 0,
        "to_process_size": 0,
    }
    source = await client("POST", f"{TASKS}/1/task_sources", {"file_path": "/media/a"})
    assert source.status == 201
    assert source.json["file"]["name"] == "a" and source.json["pool"] is None
    assert list(source.json) == ["id", "file", "range", "container", "import_file", "tape", "pool"]
    target = await client("POST", f"{TASKS}/to%20tape/task_destinations", {"tape_barcode": "archive"})
    assert target.json["tape"]["barcode"] == "archive" and target.json["folder"] is None
    started = await client("PUT", f"{TASKS}/1/action/run", Content_Type="application/json")
    assert started.status == 202
    job = started.json["job_id"]
    assert started.json == {"job_id": job, "status": "queued", "progress": 0, "total": 0}
    assert job.startswith("00000000-0000-8000-8000-")
    over = await client.until_over(1, job)
    assert over == {"job_id": job, "status": "completed", "progress": 5, "total": 5}
    (run,) = (await client.get("/api/v2/task_executions?task_id=1"))["task_executions"]
    assert run["id"] == str(int(job[-12:], 16)) and run["task_id"] == 1
    assert (run["status"], run["to_process_files"], run["finalized_files"]) == ("done", 1, 1)
    assert (await client.get(f"{TASKS}/1"))["status"] == "done"
    files = await client.get(f"/api/v2/task_executions/{run['id']}/files")
    assert [(f["name"], f["result"], f["message"]) for f in files["files"]] == [("x.ari", "done", None)]
    assert client.service.on_disk("archive")["a/x.ari"] == b"frame"
    found = await client.get("/api/catalog/search?q=x.ari")
    assert found["files"][0]["volume_s_names"] == ["media", "archive"]
    literal = await client.get(f"{TASKS}/%7Btask_id%7D/task_executions?task_id=1")
    assert literal["count"] == 1


async def test_the_files_of_a_run_are_filtered_and_sorted(client: Client) -> None:
    for path, content in (
        ("media/in/b.ari", b"22"),
        ("media/in/sub/a.ari", b"333"),
        ("media/in/c.mov", b"1"),
    ):
        await client.put_file(path, content)
    await client("POST", TASKS, {"name": "copy", "workflow_action": "copy"})
    await client("POST", f"{TASKS}/1/task_sources", {"file_path": "/media/in"})
    await client("POST", f"{TASKS}/1/task_destinations", {"pool_name": "archive"})
    await client.until_over(1, (await client("PUT", f"{TASKS}/1/action/run")).json["job_id"])
    (run,) = (await client.get("/api/v2/task_executions"))["task_executions"]

    async def names(query: str) -> list[str]:
        found = await client.get(f"/api/v2/task_executions/{run['id']}/files?{query}")
        return [file["name"] for file in found["files"]]

    assert await names("sort_by=name%3Adesc") == ["c.mov", "b.ari", "a.ari"]
    assert await names("sort_by=size") == ["c.mov", "b.ari", "a.ari"]
    assert await names("name=~%25.ari&sort_by=name") == ["a.ari", "b.ari"]
    assert await names("size=%3E1&result=done&sort_by=name&limit=1&offset=1") == ["b.ari"]
    assert await names("uid=1") == []
    assert (await client("GET", f"/api/v2/task_executions/{run['id']}/files?size=big")).status == 400


@pytest.mark.parametrize(
    ("resolution", "status", "content"),
    [
        ("rename", "done", {"x.ari": b"old", "x (1).ari": b"new"}),
        ("overwrite", "done", {"x.ari": b"new"}),
        ("ignore", "finished_with_warnings", {"x.ari": b"old"}),
    ],
)
async def test_other_content_at_the_target_is_treated_as_asked(
    client: Client, resolution: str, status: str, content: dict[str, bytes]
) -> None:
    n = await client.put_file("media/x.ari", b"new")
    await client.put_file("archive/x.ari", b"old")
    task = await client.make_task("copy", [{"file_id": n}], [{"pool_id": 2}], conflict_resolution=resolution)
    assert await client.run(task) == status
    assert client.service.on_disk("archive") == content
    assert await client.run(task) == status  # again: equal content is there, nothing is added
    assert client.service.on_disk("archive") == content


async def test_a_folder_goes_with_its_tree_into_a_destination_folder(client: Client) -> None:
    for name in ("media/show/a/1.dpx", "media/show/a/b/2.dpx", "media/other.dpx"):
        await client.put_file(name, name.encode())
    task = await client.make_task(
        "copy", [{"file_path": "media/show/a"}], [{"folder_path": "archive/in/here"}]
    )
    assert await client.run(task) == "done"
    assert sorted(client.service.on_disk("archive")) == ["in/here/a/1.dpx", "in/here/a/b/2.dpx"]


async def test_a_move_deletes_the_source_and_an_erase_the_file(client: Client) -> None:
    n = await client.put_file("media/x.ari", b"frame")
    task = await client.make_task("move", [{"file_id": n}], [{"pool_name": "archive"}])
    assert await client.run(task) == "done"
    found = (await client.get("/api/catalog/search"))["files"]
    assert [f["file_path"] for f in found] == ["archive/x.ari"]
    erase = await client.make_task("erase", [{"tape_id": 2}], [])
    assert await client.run(erase) == "done"
    assert (await client.get("/api/catalog/search"))["files"] == []


async def test_a_copy_that_no_longer_has_its_bytes_is_a_warning(client: Client) -> None:
    n = await client.put_file("media/x.ari", b"frame")
    check = await client.make_task("check_consistency", [{"file_id": n}], [])
    assert await client.run(check) == "done"
    (client.service.folder / "media" / "x.ari").write_bytes(b"worse")
    assert await client.run(check) == "finished_with_warnings"
    runs = await client.get(f"{TASKS}/{check}/task_executions")
    last = runs["task_executions"][-1]["id"]
    (file,) = (await client.get(f"/api/v2/task_executions/{last}/files"))["files"]
    assert file["result"] == "failed" and f"VX-{n} has other bytes" in file["message"]
    complete = await client.get("/api/v2/task_executions?complete_list=false")
    assert [run["id"] for run in complete["task_executions"]] == [last]


@on_shared
@pytest.mark.parametrize(
    ("kind", "body", "status", "where", "code"),
    [
        ("source", {}, 400, "file_id", "blank"),
        ("source", {"file_id": 99}, 422, "file_id", "not_found"),
        ("source", {"file_path": "media/none"}, 422, "file_path", "not_found"),
        ("source", {"pool_id": 1, "pool_name": "media"}, 422, "pool_name", "invalid"),
        ("source", {"tape_id": 1}, 422, "tape_id", "not_found"),
        ("source", {"range": {}}, 422, "range", "invalid"),
        ("destination", {}, 400, "folder_id", "blank"),
        ("destination", {"pool_name": "none"}, 422, "pool_name", "not_found"),
        ("destination", {"folder_path": "none/x"}, 422, "folder_path", "not_found"),
        ("destination", {"folder_path": "media/../x"}, 422, "folder_path", "invalid"),
        ("destination", {"pool_id": "x"}, 422, "pool_id", "invalid"),
    ],
)
async def test_ends_that_cannot_be_are_refused(
    shared: Client, kind: str, body: Any, status: int, where: str, code: str
) -> None:
    await shared("POST", TASKS, {"name": "t", "workflow_action": "copy"})
    answer = await shared("POST", f"{TASKS}/1/task_{kind}s", body)
    assert (answer.status, answer.json["details"][where][0]["error"]) == (status, code)


@on_shared
@pytest.mark.parametrize(
    ("body", "status", "where", "code"),
    [
        ({}, 400, "name", "blank"),
        ({"name": "x"}, 400, "workflow_action", "blank"),
        ({"name": "x", "workflow_action": "burn"}, 422, "workflow_action", "invalid"),
        ({**NAMED, "priority": -1}, 422, "priority", "greater_than_or_equal_to"),
        ({**NAMED, "priority": "1"}, 422, "priority", "invalid"),
        ({**NAMED, "conflict_resolution": "no"}, 422, "conflict_resolution", "invalid"),
    ],
)
async def test_a_task_that_cannot_be_is_refused(
    shared: Client, body: Any, status: int, where: str, code: str
) -> None:
    answer = await shared("POST", TASKS, body)
    assert (answer.status, answer.json["details"][where][0]["error"]) == (status, code)


async def test_a_task_that_cannot_run_says_why(client: Client) -> None:
    n = await client.put_file("media/x.ari")
    bare = await client.make_task("copy", [], [])
    answer = await client("PUT", f"{TASKS}/{bare}/action/run")
    assert (answer.status, answer.json["details"]) == (422, {"task_sources": [{"error": "blank"}]})
    aimless = await client.make_task("move", [{"file_id": n}], [])
    answer = await client("PUT", f"{TASKS}/{aimless}/action/run")
    assert (answer.status, answer.json["details"]) == (422, {"task_destinations": [{"error": "blank"}]})
    stored = await client.make_task("ejection", [{"file_id": n}], [])
    answer = await client("PUT", f"{TASKS}/{stored}/action/run")
    assert answer.status == 422 and "workflow_action" in answer.json["details"]
    assert (await client("PUT", f"{TASKS}/{bare}/action/pause")).status == 422
    assert (await client("PUT", f"{TASKS}/{bare}/action/dance")).status == 404
    assert (await client("GET", f"{TASKS}/{bare}/action/run")).status == 400
    assert (await client("GET", f"{TASKS}/{bare}/action/run?job_id=x")).status == 404
    stop = await client("PUT", f"{TASKS}/{bare}/action/stop")
    assert (stop.status, stop.json["details"]) == (409, {"base": [{"error": "not_running"}]})


async def test_a_run_that_waits_is_stopped_and_a_task_deleted_under_it(tmp_path: Path) -> None:
    async with running(tmp_path, jobs={"runners": 0}) as client:
        n = await client.put_file("media/x.ari")
        task = await client.make_task("copy", [{"file_id": n}], [{"pool_id": 2}])
        job = (await client("PUT", f"{TASKS}/{task}/action/run")).json["job_id"]
        again = await client("PUT", f"{TASKS}/{task}/action/run")
        assert (again.status, again.json["details"]) == (409, {"base": [{"error": "in_progress"}]})
        waiting = await client("GET", f"{TASKS}/{task}/action/run?job_id={job}")
        assert (waiting.status, waiting.json["status"]) == (202, "queued")
        assert (await client.get(f"{TASKS}/{task}"))["status"] == "in_queue"
        stopped = await client("PUT", f"{TASKS}/{task}/action/stop")
        assert (stopped.status, stopped.json["job_id"]) == (202, job)
        polled = await client("GET", f"{TASKS}/{task}/action/stop?job_id={job}")
        assert (polled.status, polled.json["status"]) == (200, "completed")
        assert (await client.get(f"{TASKS}/{task}"))["status"] == "stopped_by_user"
        failed = await client("GET", f"{TASKS}/{task}/action/run?job_id={job}")
        assert (failed.status, failed.json["status"]) == (200, "failed")
        assert (await client("DELETE", f"{TASKS}/{task}")).status == 204
        assert (await client("GET", f"{TASKS}/{task}")).status == 404
        kept = await client.get(f"/api/v2/task_executions?task_id={task}")
        assert kept["count"] == 1


async def test_a_task_that_runs_is_deleted_when_its_run_has_ended(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = await client.put_file("media/x.ari")
    task = await client.make_task("copy", [{"file_id": n}], [{"pool_id": 2}])
    begun, go_on = asyncio.Event(), asyncio.Event()
    runner = client.service.services.jobs.task("TASK")
    listing = runner._list  # type: ignore[attr-defined]

    async def slow(run: Any) -> None:
        begun.set()
        await go_on.wait()
        await listing(run)

    monkeypatch.setattr(runner, "_list", slow)
    job = (await client("PUT", f"{TASKS}/{task}/action/run")).json["job_id"]
    await begun.wait()
    assert (await client.get(f"{TASKS}/{task}"))["status"] == "calculating"
    answer = await client("DELETE", f"{TASKS}/{task}")
    assert (answer.status, answer.json["id"]) == (202, task)
    assert (await client("GET", f"{TASKS}/{task}")).status == 200
    assert (await client("PUT", f"{TASKS}/{task}/action/run")).status == 409
    go_on.set()
    await client.service.services.jobs.wait(f"VX-{int(job[-12:], 16)}", 10)
    assert (await client("GET", f"{TASKS}/{task}")).status == 404


async def test_a_run_cut_short_by_a_stop_of_the_service_goes_on_with_the_next_start(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as client:
        for i in range(4):
            await client.put_file(f"media/{i}.ari", b"%d" % i)
        task = await client.make_task("copy", [{"pool_id": 1}], [{"pool_id": 2}])
        runner: Any = client.service.services.jobs.task("TASK")
        one, reached = runner._one, asyncio.Event()

        async def stuck(run: Any, caller: Any, planned: Any, before: int) -> Any:
            if planned.place == 2:
                reached.set()
                await asyncio.Event().wait()
            return await one(run, caller, planned, before)

        runner._one = stuck
        await client("PUT", f"{TASKS}/{task}/action/run")
        async with asyncio.timeout(20):
            await reached.wait()
    async with running(tmp_path) as client:
        job = (await client.get(f"{TASKS}/{task}/task_executions"))["task_executions"][0]["id"]
        await client.service.services.jobs.wait(f"VX-{job}", 20)
        value = await client.get(f"/api/v2/task_executions/{job}")
        assert (value["status"], value["finalized_files"], value["processed_size"]) == ("done", 4, 4)
        assert len(client.service.on_disk("archive")) == 4


async def test_tasks_are_seen_by_their_creator_and_administrators(client: Client) -> None:
    await client.add_users()
    made = await client("POST", TASKS, {"name": "t", "workflow_action": "scan"}, user=WRITER)
    assert made.status == 201
    assert (await client("POST", TASKS, {"name": "t"}, user=READER)).status == 403
    assert (await client("GET", f"{TASKS}/1", user=READER)).status == 404
    assert (await client.get(TASKS, user=READER)) == {"count": 0, "tasks": []}
    assert (await client.get(TASKS))["count"] == 1
    changed = await client("PUT", f"{TASKS}/1", {"comment": "c"})
    assert (changed.json["comment"], changed.json["modification_username"]) == ("c", "admin")
    assert (changed.json["creation_username"], changed.json["workflow_action"]) == ("maria", "scan")


async def test_tasks_are_filtered_by_their_ends(client: Client) -> None:
    await client.make_task("copy", [{"pool_id": 1}], [{"tape_id": 2}], priority=3)
    await client.make_task("copy", [{"pool_name": "secret"}], [], priority=7)

    async def ids(query: str) -> list[int]:
        return [t["id"] for t in (await client.get(f"{TASKS}?{query}"))["tasks"]]

    assert await ids("source_pool_name=media") == [1]
    assert await ids("source_pool_id=3") == [2]
    assert await ids("destination_tape_barcode=archive") == [1]
    assert await ids("destination_pool_id=2") == []
    assert await ids("priority=>=4") == [2]
    assert await ids("sort_by=priority%3Adesc%2Cid") == [2, 1]
    assert await ids("status=not_activated&limit=1&offset=1") == [2]
    (source,) = (await client.get(f"{TASKS}/1/task_sources"))["task_sources"]
    changed = await client("PUT", f"{TASKS}/1/task_sources/{source['id']}", {"pool_id": 3})
    assert changed.json["pool"]["name"] == "secret"
    assert (await client("DELETE", f"{TASKS}/1/task_sources/{source['id']}")).status == 204
    assert (await client("GET", f"{TASKS}/1/task_sources/{source['id']}")).status == 404
