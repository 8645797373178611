"""Which form an answer has, what an exception looks like, and who may call what."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.vidispine import JSON, TEXT, XML, Client, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

READER, WRITER = ("rita", "reads"), ("walt", "writes")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """File 1 on the public media (VX-1), file 2 on the closed vault (VX-2); two users beside admin."""
    folder = tmp_path_factory.mktemp("origin")
    storages = [
        {"name": "media", "uri": f"file:{folder}/media"},
        {"name": "vault", "uri": f"file:{folder}/vault", "public": False},
    ]
    async with running(folder, storages=storages) as (app, client):
        admin = await app.services.access.authenticate_password("admin", "secret")
        await app.services.access.create_user(admin, *READER)
        await app.services.access.create_user(admin, *WRITER, write=True)
        walt = await app.services.access.authenticate_password(*WRITER)
        for label, scopes in (("all", None), ("show", ["files/show"]), ("index", ["files/index"])):
            _, client.ids[label] = await app.services.access.create_token(walt, label, scopes)
        await client.upload("a", b"1", label="1")
        await client.upload("b", b"2", "VX-2", label="2")
        yield client


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/xml"),
        ("*/*", "application/xml"),
        ("*", "application/xml"),
        ("text/xml", "application/xml"),
        ("application/json", "application/json"),
        ("application/json;q=0.1, application/xml;q=0.2", "application/xml"),
        ("text/plain", "text/plain;charset=UTF-8"),
    ],
)
async def test_a_document_has_the_form_asked_for(
    people: Client, accept: str | None, content_type: str
) -> None:
    reply = await people("GET", "/API/file/{1}", accept=accept)
    assert reply.headers["Content-Type"] == content_type
    assert reply.headers["Vary"] == "Accept"
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("target", "accept"), [("/API/file/{1}", "image/png"), ("/API/storage/VX-1/importable", TEXT)]
)
async def test_no_acceptable_form_is_406_in_xml(people: Client, target: str, accept: str) -> None:
    reply = await people("GET", target, accept=accept)
    assert reply.status == 406
    form = TEXT if accept == TEXT else XML
    assert reply.headers["Content-Type"].startswith(form)


@pytest.mark.parametrize("target", ["/API/storage/VX-1/freespace", "/API/storage/VX-1/status"])
async def test_calls_that_give_text_only_ignore_accept(people: Client, target: str) -> None:
    reply = await people("GET", target, accept="image/png")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith(TEXT)


async def test_an_exception_in_all_three_forms(people: Client) -> None:
    target = "/API/job/VX-1000000"
    document = (await people("GET", target)).json
    assert len(document) == 9
    assert [key for key, value in document.items() if value is not None] == ["notFound"]
    assert document["notFound"] == {"type": "Job", "id": "VX-1000000", "context": None}
    assert (await people("GET", target, accept=XML)).body == (
        b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        b'<ExceptionDocument xmlns="http://xml.vidispine.com/schema/vidispine">'
        b"<notFound><type>Job</type><id>VX-1000000</id></notFound></ExceptionDocument>"
    )
    assert (await people("GET", target, accept=TEXT)).body == (
        b"404 A resource could not be found\r\nType: Job\r\nID: VX-1000000\r\n"
    )


async def test_an_exception_falls_back_to_xml(people: Client) -> None:
    reply = await people("GET", "/API/job/VX-1000000", accept="image/png")
    assert (reply.status, reply.headers["Content-Type"]) == (404, "application/xml")


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PATCH", "/API/file/{1}", {"GET", "HEAD", "DELETE"}),
        ("PUT", "/API/storage/VX-1/file/data", {"POST"}),
        ("GET", "/API/file/{1}/entity", {"DELETE"}),
        ("POST", "/API/job", {"GET", "HEAD", "DELETE"}),
    ],
)
async def test_a_wrong_method_is_405_and_says_which(
    people: Client, method: str, target: str, allow: set[str]
) -> None:
    reply = await people(method, target)
    assert reply.status == 405
    assert set(reply.headers["Allow"].split(", ")) == allow
    assert reply.json["invalidInput"]["context"] == "request"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/API/file/{1}/hash"),
        ("POST", "/API/file/{1}/analyze"),
        ("GET", "/API/storage/VX-1/file/{1}/metadata"),
        ("GET", "/API/storage/VX-1/auto-import"),
        ("PUT", "/API/storage/VX-1/evacuate"),
        ("GET", "/API/storage/storage-group"),
        ("GET", "/API/transfer"),
        ("POST", "/API/import/passkey"),
    ],
)
async def test_what_is_not_offered_is_501(people: Client, method: str, target: str) -> None:
    reply = await people(method, target)
    assert (reply.status, reply.json["notYetImplemented"]) == (501, {})


# --- rights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/API/file/{1}", "/API/job", "/storage/VX-1", "/API/nothing", "/API/%ff"])
async def test_bad_credentials_are_401_on_every_path(people: Client, target: str) -> None:
    reply = await people("GET", target, as_=("admin", "wrong"))
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    assert reply.json["notAuthorized"]["message"]


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        pytest.param("GET", "/API/file/{1}", 200, id="public-file"),
        pytest.param("HEAD", "/API/file/{1}/data", 200, id="public-data"),
        pytest.param("GET", "/API/file/{2}", 401, id="closed-file"),
        pytest.param("GET", "/API/file/{2}/data", 401, id="closed-data"),
        pytest.param("GET", "/API/file/VX-9999", 401, id="no-file"),
        pytest.param("GET", "/API/job", 401, id="jobs"),
        pytest.param("GET", "/API/storage", 401, id="storages"),
        pytest.param("GET", "/API/storage/VX-1/importable", 401, id="importable"),
        pytest.param("POST", "/API/storage/VX-1/file/data?path=x", 401, id="upload"),
        pytest.param("POST", "/API/storage/VX-1/file?path=x", 401, id="create"),
        pytest.param("DELETE", "/API/file/{1}", 401, id="delete"),
        pytest.param("PUT", "/API/file/{1}/state/LOST", 401, id="state"),
        pytest.param("GET", "/APInoauth/is-online", 200, id="is-online"),
        pytest.param("GET", "/APInoauth/selftest", 200, id="selftest"),
    ],
)
async def test_nobody_may_read_what_is_public_and_nothing_else(
    people: Client, method: str, target: str, status: int
) -> None:
    assert (await people(method, target, as_=None)).status == status


async def test_lists_show_nobody_only_what_is_public(people: Client) -> None:
    document = (await people("GET", "/API/storage/file", as_=None)).json
    assert people.labels([file["id"] for file in document["file"]]) == "1"
    document = (await people("GET", "/API/storage/file", as_=READER)).json
    assert people.labels([file["id"] for file in document["file"]]) == "12"


@pytest.mark.parametrize(
    ("who", "method", "target", "status"),
    [
        pytest.param(READER, "GET", "/API/file/{2}/data", 200, id="reader-reads"),
        pytest.param(READER, "GET", "/API/storage", 200, id="reader-sees-storages"),
        pytest.param(READER, "POST", "/API/storage/VX-1/file?path=x", 403, id="reader-creates"),
        pytest.param(READER, "POST", "/API/storage/VX-1/file/data?path=x", 403, id="reader-uploads"),
        pytest.param(READER, "DELETE", "/API/file/{1}", 403, id="reader-deletes"),
        pytest.param(READER, "PUT", "/API/file/{1}/abandon", 403, id="reader-abandons"),
        pytest.param(READER, "PUT", "/API/file/{1}/re-index", 403, id="reader-re-indexes"),
        pytest.param(READER, "POST", "/API/file/{1}/storage/VX-2", 403, id="reader-copies"),
        pytest.param(READER, "POST", "/API/file/{1}/import", 403, id="reader-imports"),
        pytest.param(WRITER, "POST", "/API/storage/VX-1/file?path=w", 200, id="writer-creates"),
        pytest.param(WRITER, "POST", "/API/storage", 403, id="writer-makes-storages"),
        pytest.param(WRITER, "DELETE", "/API/storage/VX-1", 403, id="writer-deletes-storages"),
        pytest.param(WRITER, "POST", "/API/storage/VX-1/rescan", 403, id="writer-scans"),
    ],
)
async def test_users_may_what_their_rights_give(
    people: Client, who: tuple[str, str], method: str, target: str, status: int
) -> None:
    assert (await people(method, target, as_=who)).status == status


@pytest.mark.parametrize("scheme", ["Bearer", "token"])
async def test_a_token_stands_for_its_user(people: Client, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {people.ids['all']}"}
    assert (await people("GET", "/API/job", headers=headers, as_=None)).status == 200


@pytest.mark.parametrize(
    ("token", "target", "status"),
    [
        ("show", "/API/file/{1}", 200),
        ("show", "/API/file/{1}/data", 200),
        ("show", "/API/storage/file", 403),
        ("index", "/API/storage/file", 200),
        ("index", "/API/file/{1}", 403),
        ("index", "/API/storage", 403),
    ],
)
async def test_a_token_reaches_as_far_as_its_scopes(
    people: Client, token: str, target: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {people.ids[token]}"}
    assert (await people("GET", target, headers=headers, as_=None)).status == status


async def test_run_as_acts_for_a_user(people: Client) -> None:
    reply = await people("GET", "/API/token", headers={"RunAs": "rita"})
    assert reply.json["user"] == "rita"
    reply = await people("POST", "/API/storage/VX-1/file?path=x", headers={"RunAs": "rita"})
    assert reply.status == 403


async def test_run_as_is_for_administrators(people: Client) -> None:
    assert (await people("GET", "/API/job", headers={"RunAs": "rita"}, as_=WRITER)).status == 403


async def test_a_login_token_is_good_for_its_user(people: Client) -> None:
    reply = await people("GET", "/API/token?seconds=30&autoRefresh=true", as_=READER, accept=TEXT)
    headers = {"Authorization": f"token {reply.text.strip()}"}
    assert (await people("GET", "/API/file/{2}", headers=headers, as_=None)).status == 200
    assert (await people("GET", "/API/user/rita/token", as_=READER)).json["user"] == "rita"
    assert (await people("GET", "/API/user/admin/token", as_=READER)).status == 403


async def test_what_a_login_page_asks_needs_no_credentials(people: Client) -> None:
    assert (await people("GET", "/APInoauth/is-online", as_=None)).body == b"online\r\n"
    reply = await people("GET", "/APInoauth/selftest", as_=None)
    assert json.loads(reply.body) == {"status": "ok", "test": []}
    assert reply.headers["Content-Type"].startswith(JSON)


async def test_the_version_is_told_to_those_who_have_signed_in(people: Client) -> None:
    (component,) = (await people("GET", "/API/version", as_=READER)).json["component"]
    assert component["name"] == "origin" and component["version"][0].isdigit()
    assert "<VersionDocument" in (await people("GET", "/API/version", accept=XML)).text
    assert (await people("GET", "/API/version", as_=None)).status == 401


async def test_jobs_of_others_are_404(people: Client) -> None:
    await people.upload("gone", b"1", label="3")
    job = (await people("DELETE", "/API/file/{3}")).json["jobId"]
    await people.job(job)
    assert (await people("GET", f"/API/job/{job}", as_=WRITER)).status == 404
    assert (await people("GET", "/API/job?user=false", as_=WRITER)).json["hits"] == 0
