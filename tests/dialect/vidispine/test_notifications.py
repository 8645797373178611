"""Notifications of jobs by HTTP callback: at least once, in order per job, only to listed hosts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.vidispine import TEXT, XML, Client, running

XML_HEAD = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
JSON_TYPE = {"Content-Type": "application/json"}


class Listener:
    """Hears callbacks. answers: statuses to give, the last one for ever."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.answers = [200]
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        await self.heard.put((dict(request.headers), await request.read()))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:9/"})

    async def next(self) -> tuple[dict[str, str], bytes]:
        async with asyncio.timeout(15):
            return await self.heard.get()

    async def fields(self) -> dict[str, str]:
        return {field["key"]: field["value"] for field in json.loads((await self.next())[1])["field"]}


@pytest_asyncio.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", listener.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    listener.port = runner.addresses[0][1]
    yield listener
    await runner.cleanup()


def document(port: int, *triggers: str, host: str = "127.0.0.1", **http: object) -> bytes:
    job: dict[str, object] = {"placeholder": True, **{name: {} for name in triggers}}
    held = {"url": f"http://{host}:{port}/hook", **http}
    return json.dumps({"action": {"http": held}, "trigger": {"job": job}}).encode()


async def subscribe(client: Client, body: bytes) -> str:
    reply = await client("POST", "/API/notification", body=body, headers=JSON_TYPE, accept=TEXT)
    assert reply.status == 200, reply.text
    return reply.text.strip()


async def test_the_end_of_a_job_is_told_with_its_data(client: Client, listener: Listener) -> None:
    id_ = await subscribe(client, document(listener.port, "stop", extradata="mine"))
    await client.upload("a", b"1", label="1")
    query = f"notification={id_}&notificationData=yours&jobmetadata=k=v"
    job = (await client("POST", f"/API/file/{{1}}/storage/VX-2?{query}")).json["jobId"]
    headers, body = await listener.next()
    fields = {field["key"]: field["value"] for field in json.loads(body)["field"]}
    assert (fields["jobId"], fields["type"], fields["status"]) == (job, "COPY_FILE", "FINISHED")
    assert (fields["k"], fields["notificationData"], fields["extradata"]) == ("v", "yours", "mine")
    assert fields["sourceFile"] == client.ids["1"]
    assert headers["Idempotency-Key"]
    assert headers["Content-Type"] == "application/json"


async def test_create_and_finished_are_told_in_order(tmp_path: Path, listener: Listener) -> None:
    async with running(tmp_path, jobs={"runners": 0}) as (_, client):
        id_ = await subscribe(client, document(listener.port, "create", "finished"))
        await client.upload("a", b"1", label="1")
        await client("DELETE", f"/API/file/{{1}}?notification={id_}")
        assert (await listener.fields())["status"] == "READY"
    async with running(tmp_path):
        told = "READY"
        while told == "READY":  # at least once: the stop may have come before the first was noted
            told = (await listener.fields())["status"]
        assert told == "FINISHED"


async def test_a_failed_delivery_is_tried_again_with_the_same_key(client: Client, listener: Listener) -> None:
    listener.answers = [503, 302, 200]
    id_ = await subscribe(client, document(listener.port, "stop"))
    await client.upload("a", b"1", label="1")
    await client("DELETE", f"/API/file/{{1}}?notification={id_}")
    first, second, third = [await listener.next() for _ in range(3)]
    assert first[0]["Idempotency-Key"] == second[0]["Idempotency-Key"] == third[0]["Idempotency-Key"]
    assert first[1] == second[1] == third[1]


async def test_a_job_that_fails_is_told_to_who_asked_for_fail(client: Client, listener: Listener) -> None:
    id_ = await subscribe(client, document(listener.port, "fail"))
    await client.upload("a", b"1", label="1")
    await client.create("taken", storage="VX-2")
    await client("POST", f"/API/file/{{1}}/storage/VX-2?notification={id_}&filename=free")
    await client("POST", f"/API/file/{{1}}/storage/VX-2?notification={id_}&filename=taken")
    fields = await listener.fields()
    assert fields["status"] == "FAILED_TOTAL"
    assert "taken" in fields["errorMessage"]


@pytest.mark.parametrize(
    ("content_type", "begins"),
    [
        (
            "application/xml",
            b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<SimpleMetadataDocument',
        ),
        ("text/plain", b"jobId=VX-"),
    ],
)
async def test_the_body_has_the_content_type_asked_for(
    client: Client, listener: Listener, content_type: str, begins: bytes
) -> None:
    id_ = await subscribe(client, document(listener.port, "stop", contentType=content_type))
    await client.upload("a", b"1", label="1")
    await client("DELETE", f"/API/file/{{1}}?notification={id_}")
    headers, body = await listener.next()
    assert headers["Content-Type"].startswith(content_type)
    assert body.startswith(begins)


async def test_notifications_are_listed_shown_and_deleted(client: Client) -> None:
    id_ = await subscribe(client, document(1, "stop", timeout="5"))
    assert (await client("GET", "/API/notification")).json == {"hits": 1, "uri": [id_]}
    shown = (await client("GET", f"/API/notification/{id_}")).json
    assert shown["action"]["http"]["timeout"] == 5
    assert set(shown["trigger"]["job"]) == {"placeholder", "stop"}
    assert (await client("DELETE", f"/API/notification/{id_}")).body == b""
    reply = await client("GET", f"/API/notification/{id_}")
    assert reply.json["notFound"] == {"type": "notification", "id": id_, "context": None}


async def test_a_notification_is_made_from_xml(client: Client) -> None:
    body = (
        b'<NotificationDocument xmlns="http://xml.vidispine.com/schema/vidispine"><action>'
        b'<http synchronous="false"><url>http://127.0.0.1:1/</url></http></action>'
        b"<trigger><job><placeholder>true</placeholder><finished/></job></trigger></NotificationDocument>"
    )
    reply = await client("POST", "/API/notification", body=body, headers={"Content-Type": XML})
    assert reply.json["uri"][0].startswith("VX-")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(document(1, "stop", host="example.org"), 403, id="host-not-listed"),
        pytest.param(document(1, "stop", host="localhost"), 403, id="another-name-of-a-listed-host"),
        pytest.param(document(1, "stop", host="127.0.0.1@example.org"), 400, id="credentials"),
        pytest.param(document(1, "stop", url="ftp://127.0.0.1/"), 400, id="scheme"),
        pytest.param(document(1, "stop", method="BREW"), 400, id="method"),
        pytest.param(document(1, "stop", contentType="image/png"), 400, id="content-type"),
        pytest.param(document(1), 400, id="no-trigger"),
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b'{"action":{"jms":{}},"trigger":{"job":{"stop":{}}}}', 501, id="another-action"),
        pytest.param(
            b'{"action":{"http":{"url":"http://127.0.0.1/"}},"trigger":{"item":{}}}', 501, id="trigger"
        ),
        pytest.param(document(1, "idle"), 501, id="another-job-trigger"),
    ],
)
async def test_notifications_that_cannot_be(client: Client, body: bytes, status: int) -> None:
    reply = await client("POST", "/API/notification", body=body, headers=JSON_TYPE)
    assert reply.status == status


async def test_a_listed_name_that_leads_to_this_machine_is_not_called(
    tmp_path: Path, listener: Listener
) -> None:
    async with running(tmp_path, notification_hosts=["localhost"]) as (_, client):
        held = document(listener.port, "stop", host="localhost", retry=0)
        id_ = await subscribe(client, held)
        await client.upload("a", b"1", label="1")
        job = (await client("DELETE", f"/API/file/{{1}}?notification={id_}")).json["jobId"]
        await client.job(job)
        for _ in range(100):
            if not await pending(tmp_path):
                break
            await asyncio.sleep(0.05)
        assert listener.heard.empty()


async def pending(folder: Path) -> bool:
    """Whether a state is untold or a delivery is still to be made; read from beside the origin."""

    def look() -> int:
        connection = sqlite3.connect(folder / "catalog.db")
        try:
            untold = "SELECT count(*) FROM notification_watches WHERE NOT over"
            unsent = "SELECT count(*) FROM notification_deliveries"
            watched = "SELECT count(*) FROM notification_watches"
            counts = [connection.execute(query).fetchone()[0] for query in (untold, unsent, watched)]
            return counts[0] + counts[1] + (0 if counts[2] else 1)
        finally:
            connection.close()

    return bool(await asyncio.to_thread(look))
