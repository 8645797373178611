"""Jobs: copied and moved files, their limits and their ends; lists, priorities, aborts, re-runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.support.vidispine import TEXT, Client, running

COPY = "/API/file/{1}/storage/VX-2"


def data_of(job: dict[str, object]) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in job["data"]}  # type: ignore[attr-defined]


async def names(client: Client, storage: str = "VX-2") -> list[str]:
    document = (await client("GET", f"/API/storage/{storage}/file;number=100")).json
    return [file["path"] for file in document["file"]]


async def finished(client: Client, target: str, status: str = "FINISHED") -> dict[str, object]:
    reply = await client("POST", target)
    assert reply.status == 200, reply.text
    job = await client.job(reply.json["jobId"])
    assert job["status"] == status, job
    return job


# --- copy and move --------------------------------------------------------------------------------


async def test_a_copy_is_a_new_closed_file_with_both_hashes(client: Client, tmp_path: Path) -> None:
    body = bytes(range(256)) * 3000
    await client.upload("a.txt", body, label="1")
    started = (await client("POST", f"{COPY}?filename=2026/a.txt&priority=HIGH")).json
    assert (started["status"], started["type"], started["priority"]) == ("READY", "COPY_FILE", "HIGH")
    job = await client.job(started["jobId"])
    data = data_of(job)
    assert (data["sourceFile"], data["targetStorage"]) == (client.ids["1"], "VX-2")
    copy = (await client("GET", f"/API/file/{data['targetFile']}")).json
    assert (copy["storage"], copy["path"], copy["state"]) == ("VX-2", "2026/a.txt", "CLOSED")
    assert copy["hash"] == hashlib.sha1(body).hexdigest()
    assert (tmp_path / "archive/2026/a.txt").read_bytes() == body
    assert (await client("GET", "/API/file/{1}/data")).body == body
    task = job["log"]["task"][0]
    assert task["progress"] == {"unit": "bytes", "total": len(body), "value": len(body)}
    assert [path.name for path in (tmp_path / "archive").iterdir()] == ["2026"], "no temporary file is left"


async def test_a_move_takes_the_source_away(client: Client, tmp_path: Path) -> None:
    await client.upload("x/a.txt", b"bytes", label="1")
    job = await finished(client, f"{COPY}?move=true")
    assert (job["type"], job["totalSteps"]) == ("MOVE_FILE", 5)
    assert (await client("GET", "/API/file/{1}")).status == 404
    assert not (tmp_path / "media/x").exists()
    assert (tmp_path / "archive/x/a.txt").read_bytes() == b"bytes"


async def test_an_empty_file_is_copied(client: Client) -> None:
    await client.upload("a", b"", label="1")
    await finished(client, COPY)
    assert await names(client) == ["a"]


async def test_without_a_filename_another_name_is_chosen_when_the_path_is_taken(client: Client) -> None:
    await client.upload("d/a.tar.gz", b"1", label="1")
    await client.upload("d/a.tar.gz", b"taken", "VX-2")
    await finished(client, COPY)
    await finished(client, COPY)
    assert await names(client) == ["d/a.tar.gz", "d/a.tar_1.gz", "d/a.tar_2.gz"]


async def test_a_copy_within_a_storage_chooses_another_name(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    await finished(client, "/API/file/{1}/storage/VX-1")
    assert await names(client, "VX-1") == ["a", "a_1"]


async def test_the_original_filename_is_used_in_the_sources_folder(client: Client) -> None:
    await client.upload("d/VX-stored.mov", b"1", label="1")
    target = "/API/file/{1}/import?filename=Holiday.mov"
    await client.job((await client("POST", target)).json["jobId"])
    await finished(client, f"{COPY}?useOriginalFilename=true&timeRequirement=60")
    assert await names(client) == ["d/Holiday.mov"]
    fields = (await client("GET", "/API/storage/VX-2/file/path/d%2FHoliday.mov")).json["metadata"]["field"]
    assert {"key": "timeRequirement", "value": "60"} in fields


async def test_a_given_filename_that_is_taken_makes_the_job_fail(client: Client, tmp_path: Path) -> None:
    await client.upload("a", b"1", label="1")
    await client.create("entity", storage="VX-2")
    (tmp_path / "archive/disk").write_bytes(b"there")
    for taken in ("entity", "disk"):
        job = await finished(client, f"{COPY}?filename={taken}", "FAILED_TOTAL")
        message = data_of(job)["errorMessage"]
        assert taken in message
        assert job["log"]["task"][0]["errorMessage"] == message  # type: ignore[index]
    assert (tmp_path / "archive/disk").read_bytes() == b"there"


async def test_a_source_that_does_not_hash_to_what_is_known_fails_the_copy(
    client: Client, tmp_path: Path
) -> None:
    await client.upload("a", b"right bytes", label="1")
    path = tmp_path / "media/a"
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"wrong")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    message = data_of(await finished(client, COPY, "FAILED_TOTAL"))["errorMessage"]
    assert hashlib.sha256(b"right bytes").hexdigest() in message
    assert hashlib.sha256(b"wrong bytes").hexdigest() in message
    assert await names(client) == []
    assert list((tmp_path / "archive").iterdir()) == []


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param("/API/file/{1}/storage/VX-9", 404, id="unknown-target"),
        pytest.param("/API/file/VX-999/storage/VX-2", 404, id="unknown-file"),
        pytest.param("/API/file/{2}/storage/VX-2", 409, id="no-bytes"),
        pytest.param("/API/file/{1}/storage/VX-1?filename=/a", 400, id="onto-itself"),
        pytest.param("/API/file/{1}/storage/VX-2?filename=../a", 400, id="above-the-root"),
        pytest.param("/API/file/{1}/storage/VX-2?limitRate=0", 400, id="limit"),
        pytest.param("/API/file/{1}/storage/VX-2?priority=high", 400, id="priority"),
        pytest.param("/API/file/{1}/storage/VX-2?jobmetadata=x", 400, id="jobmetadata"),
        pytest.param("/API/file/{1}/storage/VX-2?notification=VX-9", 404, id="notification"),
    ],
)
async def test_copies_that_are_refused_at_once(client: Client, target: str, status: int) -> None:
    await client.upload("a", b"1", label="1")
    await client.create("empty", label="2")
    assert (await client("POST", target)).status == status
    assert (await client("GET", "/API/job")).json["hits"] == 0


async def test_a_target_that_cannot_be_written_is_409(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    await client("PUT", "/API/storage/VX-2/type/SHARED")
    assert (await client("POST", COPY)).status == 409


async def test_a_limited_copy_takes_its_time_and_an_unlimited_one_does_not(client: Client) -> None:
    await client.upload("a", bytes(60_000), label="1")
    began = time.monotonic()
    await finished(client, f"{COPY}?limitRate=50000&filename=slow")
    assert time.monotonic() - began >= 60_000 / 50_000 - 0.1


async def test_an_aborted_copy_ends_aborted_and_leaves_nothing(client: Client, tmp_path: Path) -> None:
    await client.upload("a", bytes(5000), label="1")
    id_ = (await client("POST", f"{COPY}?filename=slow.txt&limitRate=1", accept=TEXT)).text.strip()
    await client.job(id_, until="STARTED")
    reply = await client("DELETE", f"/API/job/{id_}?reason=enough")
    assert reply.json["status"] == "ABORTED_PENDING"
    began = time.monotonic()
    job = await client.job(id_)
    assert job["status"] == "ABORTED"
    assert time.monotonic() - began < 3
    assert data_of(job)["abortReason"] == "enough"
    assert await names(client) == []
    assert list((tmp_path / "archive").iterdir()) == []
    again = await client("DELETE", f"/API/job/{id_}")
    assert (again.status, again.json["status"]) == (200, "ABORTED")


async def test_an_abort_that_shall_leave_its_remains_is_refused_and_the_job_goes_on(client: Client) -> None:
    await client.upload("a", bytes(5000), label="1")
    id_ = (await client("POST", f"{COPY}?limitRate=1000", accept=TEXT)).text.strip()
    reply = await client("DELETE", f"/API/job/{id_}?cleanup=false")
    assert (reply.status, reply.json["invalidInput"]["context"]) == (400, "cleanup")
    assert (await client("GET", f"/API/job/{id_}")).json["status"] in ("READY", "STARTED")
    assert (await client("DELETE", f"/API/job/{id_}?cleanup=true")).status == 200
    assert (await client.job(id_))["status"] == "ABORTED"


async def test_a_copy_cut_off_by_a_stop_goes_on_at_the_next_start(tmp_path: Path) -> None:
    body = bytes(range(256)) * 100
    async with running(tmp_path) as (_, client):
        await client.upload("a", body, label="1")
        id_ = (await client("POST", f"{COPY}?limitRate=20000")).json["jobId"]
        await client.job(id_, until="STARTED")
    async with running(tmp_path) as (_, client):
        job = await client.job(id_)
        assert job["status"] == "FINISHED"
        assert job["log"]["task"][0]["attempts"] == 2
        assert (await client("GET", "/API/storage/VX-2/file/path/a/data")).body == body


async def test_a_move_whose_source_changes_keeps_both(client: Client, tmp_path: Path) -> None:
    await client.upload("a", bytes(9000), label="1")
    id_ = (await client("POST", f"{COPY}?move=true&limitRate=6000")).json["jobId"]
    async with asyncio.timeout(20):
        while (await client("GET", f"/API/job/{id_}")).json.get("currentStep", {}).get("number") != 2:
            await asyncio.sleep(0.02)
    (tmp_path / "media/a").write_bytes(b"changed meanwhile")
    job = await client.job(id_)
    assert job["status"] == "FAILED_TOTAL"
    assert "while it was being copied" in data_of(job)["errorMessage"]
    assert (tmp_path / "media/a").read_bytes() == b"changed meanwhile"


# --- lists ----------------------------------------------------------------------------------------


async def test_jobs_are_listed_filtered_and_paged_from_one(client: Client) -> None:
    for name in ("a", "b", "c"):
        await client.upload(name, b"1", label=name)
    first = await client.job((await client("DELETE", "/API/file/{a}?jobmetadata=k=1")).json["jobId"])
    second = await finished(client, "/API/file/{b}/storage/VX-2?jobmetadata=k=1&priority=LOW")
    third = await finished(client, "/API/file/{c}/storage/VX-2", "FINISHED")
    all_ids = [first["jobId"], second["jobId"], third["jobId"]]

    async def listed(query: str) -> list[str]:
        document = (await client("GET", f"/API/job{query}")).json
        return [job["jobId"] for job in document["job"]]

    assert await listed("") == all_ids
    assert await listed(";first=0;number=2") == all_ids[:2]
    assert await listed(";first=2;number=2") == all_ids[1:]
    assert await listed("?type=DELETE_FILE") == all_ids[:1]
    assert await listed("?type=all&state=all") == all_ids
    assert await listed("?state=FINISHED,STARTED&type=COPY_FILE") == all_ids[1:]
    assert await listed("?jobmetadata=k=1") == all_ids[:2]
    assert await listed("?jobmetadata=k=1&jobmetadata=targetStorage=VX-2") == all_ids[1:2]
    assert await listed("?sort=priority%20desc,jobId%20desc") == [all_ids[1], all_ids[2], all_ids[0]]
    assert await listed("?starttime-from=2000-01-01T00:00:00Z&finishtime-to=2100-01-01") == all_ids
    assert await listed("?starttime-to=2000-01-01T00:00:00.000%2B0000") == []
    assert (await client("GET", "/API/job", accept=TEXT)).lines == all_ids


@pytest.mark.parametrize("query", ["state=DONE", "sort=age", "starttime-from=today", "number=-1"])
async def test_bad_job_parameters_are_400(client: Client, query: str) -> None:
    assert (await client("GET", f"/API/job?{query}")).status == 400


async def test_a_list_shows_what_is_asked_for(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    await finished(client, COPY)

    async def shown(query: str) -> dict[str, object]:
        job: dict[str, object] = (await client("GET", f"/API/job?{query}")).json["job"][0]
        return job

    assert "data" not in await shown("")
    assert "log" not in await shown("")
    assert set(data_of(await shown("metadata=true"))) == {"sourceFile", "targetStorage", "targetFile"}
    assert set(data_of(await shown("field=targetFile"))) == {"targetFile"}
    assert "log" in await shown("step=true")
    assert set(await shown("idonly=true")) == {"jobId", "status", "type", "priority"}


async def test_text_of_one_job_is_its_status(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    job = await finished(client, COPY)
    assert (await client("GET", f"/API/job/{job['jobId']}", accept=TEXT)).body == b"FINISHED\r\n"


async def test_job_types_are_listed(client: Client) -> None:
    types = (await client("GET", "/API/jobtype", accept=TEXT)).lines
    assert {"COPY_FILE", "DELETE_FILE", "MOVE_FILE", "PLACEHOLDER_IMPORT"} <= set(types)


# --- what is done to jobs -------------------------------------------------------------------------


async def test_waiting_jobs_go_by_priority_and_can_be_re_ordered_and_aborted(tmp_path: Path) -> None:
    async with running(tmp_path, jobs={"runners": 0}) as (_, client):
        for name in ("a", "b", "c"):
            await client.upload(name, b"1", label=name)
        low = (await client("DELETE", "/API/file/{a}?priority=LOW")).json["jobId"]
        high = (await client("DELETE", "/API/file/{b}?priority=HIGH")).json["jobId"]
        gone = (await client("DELETE", "/API/file/{c}")).json["jobId"]
        assert (await client("PUT", f"/API/job/{low}?priority=IMMEDIATE")).json["priority"] == "IMMEDIATE"
        assert (await client("PUT", f"/API/job/{high}")).json["priority"] == "MEDIUM"
        assert (await client("DELETE", f"/API/job/{gone}")).json["status"] == "ABORTED"
        assert (await client("GET", "/API/file/{c}")).json["state"] == "CLOSED", "the old state is back"
        reply = await client("DELETE", f"/API/job?id={gone},{low}")
        assert reply.status == 409
        assert (await client("GET", f"/API/job/{gone}")).status == 200, "none is removed"
    async with running(tmp_path, jobs={"runners": 1}) as (_, client):
        first, second = await client.job(low), await client.job(high)
        assert first["finished"] <= second["finished"]
        assert (await client("PUT", f"/API/job/{low}")).status == 409
        assert (await client("DELETE", f"/API/job?id={gone},{low}&id={high}")).status == 200
        assert (await client("GET", "/API/job")).json == {"hits": 0, "job": []}


async def test_a_job_is_run_again_as_a_new_one(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    taken = await client.upload("x", b"taken", "VX-2")
    failed = await finished(client, f"{COPY}?filename=x&priority=LOW", "FAILED_TOTAL")
    await client.job((await client("DELETE", f"/API/file/{taken}")).json["jobId"])
    reply = await client("POST", f"/API/job/{failed['jobId']}/re-run")
    assert (reply.json["jobId"] != failed["jobId"], reply.json["priority"]) == (True, "LOW")
    assert (await client.job(reply.json["jobId"]))["status"] == "FINISHED"
    assert await names(client) == ["x"]


async def test_a_finished_copy_run_again_is_another_copy(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    first = await finished(client, COPY)
    second = await finished(client, f"/API/job/{first['jobId']}/re-run")
    assert data_of(second)["targetFile"] != data_of(first)["targetFile"]
    assert await names(client) == ["a", "a_1"]


async def test_nothing_waits_so_there_is_no_problem(client: Client) -> None:
    assert (await client("GET", "/API/job/problem")).json == {}


async def test_many_jobs_at_once_all_end(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    replies = await asyncio.gather(*(client("POST", COPY) for _ in range(10)))
    for reply in replies:
        assert (await client.job(reply.json["jobId"]))["status"] == "FINISHED"
    assert len(set(await names(client))) == 10
