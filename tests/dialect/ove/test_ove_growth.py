"""What a call costs does not grow with what lies beside: neither its memory nor the rows it walks through."""

from __future__ import annotations

import gc
import io
import re
import sqlite3
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from origin.catalog import projects as rows
from origin.catalog.tables import asset_tags, assets, versions
from origin.domain.projects import Asset
from origin.services import assets as assets_service
from tests.support.ove import Client

_WHOLE_STORAGE = re.compile(
    r"SCAN (f|files)\b|SEARCH (f|files) USING .*\((storage_n|state)=\?( AND (size|n)>\?)?\)"
)


@contextmanager
def statements(client: Client) -> Iterator[dict[str, Any]]:
    """Collect what the catalog is asked meanwhile: SQL → the values of its first use."""
    seen: dict[str, Any] = {}

    def note(_c: Any, _u: Any, statement: str, values: Any, _x: Any, many: bool) -> None:
        seen.setdefault(statement, values[0] if many else values)

    database = client.service.services.assets._database
    engines = [database._reader.sync_engine, database._writer.sync_engine]
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            sa.event.remove(engine, "before_cursor_execute", note)


def walks(client: Client, asked: dict[str, Any]) -> list[str]:
    """Return those statements, triggers included, that look at all Files of a storage."""
    found = []
    with closing(sqlite3.connect(client.service.folder / "catalog.db")) as catalog:
        for statement, values in asked.items():
            if not re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)", statement) or " s_" in statement:
                continue  # of the search index, whose temporary tables are its connection's own
            plan = [step[3] for step in catalog.execute(f"EXPLAIN QUERY PLAN {statement}", values or ())]
            found += [f"{step}: {statement}" for step in plan if _WHOLE_STORAGE.search(step)]
    return found


def packed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.html", "<p>")
        archive.writestr("css/a.css", "p{}")
    return buffer.getvalue()


async def test_no_call_walks_through_all_files_of_a_storage(films: Client) -> None:
    task = {"worker_type": "extract", "store_id": "media", "project_id": "films", "asset_id": "site"}
    home = "/api/media/films"
    await films.service.services.scans.stop()  # which walk through a storage by their nature
    with statements(films) as asked:
        await films.upload("site", "s.zip", packed())
        await films.ok("POST", "/api/workers/queue", task)
        await films.jobs_done()
        assert (await films.meta("site"))["processing_status"] == "done"
        await films.upload("site", "s.zip", packed(), "update=true")
        await films.ok("POST", f"{home}/meta/site", {"tags": ["a", "b"]})
        for asked_for in ("list?metadata=true&includeEmpty=true", "list?filterByTag=a", "list?page=1"):
            await films.ok("GET", f"{home}/{asked_for}")
        for asked_for in ("files/site", "files/site?version=1", "versions/site", "meta/site", "projectMeta"):
            await films.ok("GET", f"{home}/{asked_for}")
        for method in ("POST", "PUT", "GET", "DELETE"):
            await films.ok(method, f"{home}/object/o", {"a": 1} if method[0] == "P" else None)
        await films.ok("GET", "/api/workers/queue")
        await films.ok("DELETE", f"{home}/meta/site")
        await films.jobs_done()
        await films.ok("POST", f"{home}/projectAccessMeta", {"groups": ["public", "team"]})
        await films.ok("DELETE", f"{home}?force=true")
        await films.jobs_done()
    assert len(asked) > 50
    assert walks(films, asked) == []


async def fill(client: Client, count: int) -> None:
    """Have `count` assets in project films, tagged."""
    services = client.service.services
    project = services.projects.find(services.storages.known(1), "films").project
    async with services.assets._database.write() as connection:
        await rows.insert_asset(
            connection, Asset(n=1, project_n=project.n, id="a-0001", name="n", tags=("film",))
        )
        for table, column in ((assets, "n"), (asset_tags, "asset_n"), (versions, "asset_n")):
            first = (await connection.execute(sa.select(table))).mappings().one()
            fresh = [{**first, column: n} for n in range(2, count + 1)]
            if table is assets:
                fresh = [{**row, "id": f"a-{row['n']:04}"} for row in fresh]
            await connection.execute(sa.insert(table), fresh)


async def peak(client: Client, target: str) -> tuple[int, int]:
    """Return the most memory that Python held at once for the call, and the bytes of its answer."""
    size = 0
    url = client.service.url + target
    gc.collect()
    tracemalloc.start()
    try:
        async with client.service.session.get(url) as response:
            assert response.status == 200
            async for chunk in response.content.iter_chunked(65_536):
                size += len(chunk)
        return tracemalloc.get_traced_memory()[1], size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("more", ["", "&filterByTag=film", "&includeEmpty=true"])
async def test_the_memory_of_a_metadata_list_is_one_pages_however_long_it_is(
    films: Client, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setattr(assets_service, "PAGE", 100)
    target = f"/api/media/films/list?metadata=true{more}"
    await fill(films, 1_500)
    await peak(films, target)  # what is made once is made
    few, short = await peak(films, target)
    await films.ok("DELETE", "/api/media/films?force=true")
    await films.jobs_done()
    await films.project()
    await fill(films, 6_000)
    many, long = await peak(films, target)
    assert long > 3.9 * short
    assert many - few < (long - short) / 2, (few, many)  # not even the bytes sent, let alone the assets
