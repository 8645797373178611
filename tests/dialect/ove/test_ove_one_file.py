"""One model under four faces: what OVE stores is a Vidispine file, a Nodeum entry and content; and back."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa

from origin.catalog.tables import assets, versions
from tests.support.ove import EDGE, Client

BODY = b"\x00\x01film" * 5000
SHA1 = hashlib.sha1(BODY).hexdigest()
JSON = {"Accept": "application/json"}


async def test_one_upload_shows_in_all_dialects_and_its_deletion_too(films: Client) -> None:
    answer = await films.upload("clip", "trailer.mp4", BODY)
    id = answer.headers["X-File-Id"]
    path = "films/clip/1/trailer.mp4"

    # OVE
    (file,) = await films.ok("GET", "/api/media/films/files/clip")
    assert (file["id"], file["size"], file["url"]) == (id, len(BODY), f"{EDGE}/media/{path}")
    # Vidispine
    document = (await films("GET", f"/API/storage/VX-1/file/{id}", **JSON)).json
    assert (document["path"], document["size"], document["hash"]) == (path, len(BODY), SHA1)
    assert document["state"] == "CLOSED"
    # Nodeum
    found = (await films("GET", "/api/catalog/search?q=trailer")).json
    assert found["count"] == 1 and found["files"][0]["file_path"].endswith(path)
    # content, by id and by path, as the edge asks for it
    for target in (f"/content/{id}", f"/content/media/{path}"):
        content = await films("GET", target, user=None, Range="bytes=2-5")
        assert (content.status, content.body) == (206, b"film")

    # An abandoned entity in one face is abandoned in all.
    deleted = await films("DELETE", f"/API/storage/VX-1/file/{id}", **JSON)
    assert deleted.status in (200, 202), deleted.body
    await films.jobs_done()
    assert await films.ok("GET", "/api/media/films/files/clip") == []
    assert (await films.meta("clip"))["index_file"] == ""
    assert (await films("GET", f"/API/storage/VX-1/file/{id}", **JSON)).status == 404
    assert (await films("GET", "/api/catalog/search?q=trailer")).json["count"] == 0
    assert (await films("GET", f"/content/{id}")).status == 404
    assert films.service.on_disk() == {}


async def test_a_worker_task_is_a_job_in_the_other_dialects(films: Client) -> None:
    await films.upload("clip", "a.mp4", BODY)
    sent = {"worker_type": "none", "store_id": "media", "project_id": "films", "asset_id": "clip"}
    id = (await films("POST", "/api/workers/queue", sent)).headers["X-Task-Id"]
    job = (await films("GET", f"/API/job/{id}", **JSON)).json
    assert (job["jobId"], job["type"], job["status"]) == (id, "WORKER_TASK", "READY")


async def fill(films: Client, count: int) -> None:
    """Make many assets without files at once."""
    database = films.service.services.assets._database
    project = films.service.services.projects.find(films.service.services.storages.known(1), "films").project
    row: dict[str, Any] = {
        "project_n": project.n,
        "name": "n",
        "description": "",
        "tags": [],
        "version": 1,
        "history": [["Created", 0, 1]],
        "created_ms": 0,
        "status": "",
        "error": "",
        "tasks_after": 0,
    }
    async with database.write() as connection:
        rows = [{**row, "n": n, "id": f"asset-{n:06}"} for n in range(1, count + 1)]
        await connection.execute(sa.insert(assets), rows)
        held = [{"asset_n": n, "version": 1, "created_ms": 0} for n in range(1, count + 1)]
        await connection.execute(sa.insert(versions), held)


async def test_a_hundred_thousand_assets_are_listed_whole_and_by_pages(films: Client) -> None:
    await fill(films, 100_000)
    whole = await films("GET", "/api/media/films/list")
    assert whole.headers["Transfer-Encoding"] == "chunked"
    names = json.loads(whole.body)["Assets"]
    assert names == [f"asset-{n:06}" for n in range(1, 100_001)]
    page = await films("GET", "/api/media/films/list?page=999&per_page=100&metadata=true")
    assert [entry["id"] for entry in page.json["Assets"]] == names[99_800:99_900]
    assert page.headers["X-Total"] == "100000"
