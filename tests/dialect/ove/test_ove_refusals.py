"""What is refused, case by case, on one origin with the empty project `films`: no refusal leaves a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.support.ove import Client, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

UPLOAD = "/api/media/films/upload"
OBJECT = "/api/media/films/object/o-1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with running(tmp_path_factory.mktemp("origin")) as client:
        await client.project()
        yield client


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ({"name": "x", "groups": []}, "Missing id"),
        ({"id": "", "groups": []}, "Missing id"),
        ({"id": "films"}, "Missing groups"),
        ({"id": 7, "groups": []}, "Invalid data"),
        ({"id": "films", "groups": "public"}, "Invalid data"),
        ({"id": "films", "groups": [1]}, "Invalid data"),
        *[
            ({"id": id, "groups": []}, "Invalid name")
            for id in ("ab", "Films", "a..b", "-ab", "ab-", "list", "create", "10.0.0.1", "a" * 64, "a/b")
        ],
    ],
    ids=str,
)
async def test_a_project_that_cannot_be_is_refused_with_the_title_that_says_why(
    shared: Client, value: dict[str, object], title: str
) -> None:
    assert await shared.refused("POST", "/api/media/create", value) == (400, title)
    assert len(await shared.ok("GET", "/api/media/list")) == 1


@pytest.mark.parametrize(
    "target",
    ["/api", "/api/", "/api/list/", "/api/media/list/", "/api/user", "/api/user/x", "/api/workers/status",
     "/api/media/films/version", "/api/media//list", "/api/media/films/meta/%FF", "/api/list/list"],
)  # fmt: skip
async def test_what_is_no_route_is_404_in_the_shape_of_the_dialect(shared: Client, target: str) -> None:
    assert await shared.refused("GET", target) == (404, "Not found")


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"{}", "text/plain", (415, "Unsupported media type")),
        (b"{", "application/json", (400, "Invalid JSON")),
        (b"\xff", "application/json", (400, "Invalid JSON")),
        (b"[" * 100_000, "application/json", (400, "Invalid JSON")),
        (b"[]", "application/json; charset=utf-8", (400, "Invalid data")),
        (b"", "application/json", (400, "Invalid JSON")),
    ],
)
async def test_a_body_that_is_no_document_is_refused(
    shared: Client, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    target = "/api/media/films/create"
    assert await shared.refused("POST", target, body=body, Content_Type=kind) == expected


@pytest.mark.parametrize(
    "name", ["list", "new", ".ovemeta", ".x", "a/b", "a\\b", " a", "a ", "ä" * 101, "a\u0001", "validate"]
)
async def test_an_asset_that_cannot_be_is_an_invalid_name(shared: Client, name: str) -> None:
    refused = await shared.refused("POST", "/api/media/films/create", {"name": name})
    assert refused == (400, "Invalid name")
    refused = await shared.refused("POST", f"{UPLOAD}/{quote(name, safe='')}?filename=x&create=1", body=b"x")
    assert refused == (400, "Invalid name")
    assert await shared.ok("GET", "/api/media/films/list") == {"Assets": []}


@pytest.mark.parametrize(
    "query",
    ["", "?filename=", "?filename=a/b", "?filename=..", "?filename=.", "?filename=.ovemeta",
     "?filename=a%00", "?filename=a%5Cb", f"?filename={'a' * 256}", "?filename=%2Fetc%2Fpasswd"],
)  # fmt: skip
async def test_a_name_that_no_file_can_have_is_refused(shared: Client, query: str) -> None:
    more = f"{query}&create=1" if query else "?create=1"
    assert await shared.refused("POST", f"{UPLOAD}/clip{more}", body=b"x") == (400, "Invalid filename")
    assert shared.service.on_disk() == {}


@pytest.mark.parametrize(
    ("body", "title"),
    [(b"[1]", "Invalid data"), (b'"x"', "Invalid data"), (b"1", "Invalid data"),
     (b'{"a": NaN}', "Invalid JSON"), (b'{"a": -Infinity}', "Invalid JSON"), (b"{'a': 1}", "Invalid JSON")],
)  # fmt: skip
async def test_an_object_is_a_json_object(shared: Client, body: bytes, title: str) -> None:
    refused = await shared.refused("POST", OBJECT, body=body, Content_Type="application/json")
    assert refused == (400, title)


@pytest.mark.parametrize("id", ["a.b", "-a", "a%2Fb", "%C3%BC", "a" * 129])
async def test_an_id_that_no_object_has_is_not_found_in_every_method(shared: Client, id: str) -> None:
    target = f"/api/media/films/object/{id}"
    value: Any = {"a": 1}
    for method in ("GET", "POST", "PUT", "DELETE"):
        sent = value if method in ("POST", "PUT") else None
        assert await shared.refused(method, target, sent) == (400, "Object not found")
    assert (await shared("HEAD", target)).status == 404
