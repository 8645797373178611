"""What holds on every path: credentials, statuses, ETags, error bodies, CORS, limits, the documents."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from origin.api.described import described as every_other
from origin.api.nodeum.table import ROUTES
from origin.domain.rights import SCOPES
from tests.support.nodeum import Client, running

on_shared = pytest.mark.asyncio(loop_scope="module")


@on_shared
@pytest.mark.parametrize(
    "field",
    [
        "Basic !!!",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b"admin:wrong").decode(),
        "Bearer unknown-token",
        "unknown-token",
        "Digest abc def",
    ],
)
async def test_bad_credentials_are_401_with_a_challenge(shared: Client, field: str) -> None:
    answer = await shared("GET", "/api/v2/files", Authorization=field)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith('Basic realm="origin", charset="UTF-8", Bearer')
    assert answer.json["details"] == {"base": [{"error": "unauthorized"}]}
    assert answer.headers["X-Request-Id"]


async def test_the_guides_basic_credentials_are_good(client: Client) -> None:
    answer = await client(
        "GET", "/api/v2/tapes?limit=10", Authorization="Basic YWRtaW46cEA1NXcwcmQ=", Accept="application/json"
    )
    assert answer.status == 200 and answer.json["count"] == 1


async def test_the_anonymous_see_what_is_public_and_learn_nothing_else(client: Client) -> None:
    n = await client.put_file("media/x.mov")
    hidden = await client.put_file("secret/x.mov", b"other")
    assert (await client.get(f"/api/v2/files/{n}", user=None))["id"] == n
    assert [p["name"] for p in (await client.get("/api/v2/pools", user=None))["pools"]] == [
        "media",
        "archive",
    ]
    for target in (f"files/{hidden}", "files/99999", "pools/secret", "pools/none", "tasks", "tapes"):
        assert (await client("GET", f"/api/v2/{target}", user=None)).status == 401, target
    for target in ("pools", "tasks", "users/me/api_keys"):
        assert (await client("POST", f"/api/v2/{target}", {}, user=None)).status == 401, target


async def test_without_anonymous_reading_only_the_documents_are_public(tmp_path: Path) -> None:
    async with running(tmp_path, auth={"admin_password": "p@55w0rd", "anonymous": "none"}) as client:
        for target in ("/api/v2/files", "/api/catalog/search", "/api/v2/pools"):
            answer = await client("GET", target, user=None)
            assert answer.status == 401, target
            assert answer.json["details"] == {"base": [{"error": "unauthorized"}]}
        for target in ("/api/v2", "/api/v2/openapi.json", "/api/v2/openapi.yaml", "/api/docs"):
            assert (await client("GET", target, user=None)).status == 200, target


@on_shared
@pytest.mark.parametrize("target", ["/api/v2/files", "/api/v2/tapes", "/api/catalog/search", "/api/v2"])
async def test_an_etag_that_is_current_is_answered_304_without_a_body(shared: Client, target: str) -> None:
    first = await shared("GET", target)
    etag = first.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["Vary"] == "Authorization"
    for field in (etag, f'"x", W/{etag}', "*"):
        again = await shared("GET", target, If_None_Match=field)
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert (await shared("GET", target, If_None_Match='"other"')).status == 200
    head = await shared("HEAD", target)
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", etag)
    assert head.headers["Content-Length"] == str(len(first.body))


async def test_an_etag_changes_with_the_resource_and_if_match_guards_it(client: Client) -> None:
    etag = (await client("GET", "/api/v2/pools/archive")).headers["ETag"]
    changed = await client("PUT", "/api/v2/pools/archive", {"comment": "x"}, If_Match=etag)
    assert changed.status == 200
    refused = await client("PUT", "/api/v2/pools/archive", {"comment": "y"}, If_Match=etag)
    assert refused.status == 412
    assert (await client("DELETE", "/api/v2/pools/archive", If_Match=etag)).status == 412
    assert (await client("GET", "/api/v2/pools/archive", If_None_Match=etag)).status == 200
    assert (await client("GET", "/api/v2/pools/archive")).headers["ETag"] == changed.headers["ETag"]


@on_shared
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json; charset=utf-8", 400),
        (b"name=x", "application/x-www-form-urlencoded", 415),
        (b"{}", None, 415),
        (b"", "application/json", 400),
        (b"", None, 400),
        (b" " * (1 << 20) + b"{}", "application/json", 413),
        (b" " * (1 << 20) + b"{}", "text/plain", 415),
    ],
    ids=["cut", "list", "no UTF-8", "form", "untyped", "empty", "nothing", "huge", "huge text"],
)
async def test_bodies_that_are_no_json_object_are_refused(
    shared: Client, body: bytes, kind: str | None, status: int
) -> None:
    head = f"POST /api/v2/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    head += "Authorization: Basic YWRtaW46cEA1NXcwcmQ=\r\n"
    if kind:
        head += f"Content-Type: {kind}\r\n"
    answer = await shared.service.exchange(head.encode() + b"\r\n" + body)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert b'"messages"' in answer and b'"details"' in answer


async def test_an_empty_body_typed_json_is_legal_on_get_and_delete(client: Client) -> None:
    for method, target in (("GET", "/api/v2/files"), ("DELETE", "/api/v2/tasks/9")):
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
            "Content-Type: application/json\r\nAuthorization: Basic YWRtaW46cEA1NXcwcmQ=\r\n\r\n"
        )
        answer = await client.service.exchange(head.encode())
        assert answer.split(b" ")[1] == (b"200" if method == "GET" else b"404")


@on_shared
@pytest.mark.parametrize(
    "target", ["/api/v2/nothing", "/api/v2/files/", "/api/v2/containers", "/api/v2/files/x"]
)
async def test_unknown_paths_and_ids_are_404_in_json(shared: Client, target: str) -> None:
    answer = await shared("GET", target)
    assert answer.status == 404
    assert answer.json["details"] == {"base": [{"error": "not_found"}]}
    assert answer.json["messages"][0]


async def test_options_names_the_methods(client: Client) -> None:
    answer = await client("OPTIONS", "/api/v2/tasks/1", user=None)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Allow"] == "GET, HEAD, PUT, DELETE, OPTIONS"


async def test_pages_of_other_origins_may_read_every_answer_a_rule_allows(tmp_path: Path) -> None:
    rules = [{"origins": ["http://localhost:3000"], "paths": ["/api/"], "methods": ["GET"]}]
    async with running(tmp_path, cors=rules) as client:
        preflight = await client(
            "OPTIONS",
            "/api/v2/files",
            user=None,
            Origin="http://localhost:3000",
            Access_Control_Request_Method="GET",
        )
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert preflight.headers["Access-Control-Max-Age"] == "600"
        for target, user, status in (
            ("/api/v2/files", ("admin", "p@55w0rd"), 200),
            ("/api/v2/nothing", ("admin", "p@55w0rd"), 404),
            ("/api/v2/tasks", None, 401),
        ):
            answer = await client("GET", target, user=user, Origin="http://localhost:3000")
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
            assert "X-Total" in answer.headers["Access-Control-Expose-Headers"]
            assert "Origin" in ", ".join(answer.headers.getall("Vary"))
        other = await client("GET", "/api/v2/files", Origin="http://elsewhere")
        assert "Access-Control-Allow-Origin" not in other.headers
        posted = await client("POST", "/api/v2/tasks", {}, Origin="http://localhost:3000")
        assert "Access-Control-Allow-Origin" not in posted.headers


async def test_past_the_limit_is_429_with_the_seconds_to_wait(tmp_path: Path) -> None:
    async with running(tmp_path, rate_limit={"requests": 3, "per": "60s"}) as client:
        answers = [await client("GET", "/api/v2/files") for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[3].headers["Retry-After"]) <= 20
        assert answers[3].json["details"] == {"base": [{"error": "too_many_requests"}]}
        assert [answer.headers["RateLimit-Limit"] for answer in answers] == ["3"] * 4
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert (await client("GET", "/api/v2/files", user=None)).status == 200  # counted by address


# --- documents ------------------------------------------------------------------------------------


async def test_the_openapi_document_is_valid_and_has_every_route(client: Client) -> None:
    made = await client.get("/api/v2/openapi.json", user=None)
    OpenAPIV31SpecValidator(made).validate()
    text = await client("GET", "/api/v2/openapi.yaml", user=None)
    assert text.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(text.body) == made
    described = {(m.upper(), path) for path, methods in made["paths"].items() for m in methods}
    own = {(route.method, route.path) for route in ROUTES}
    others = {(other.method, other.path) for other in every_other()}
    assert not own & others
    assert described == own | others
    assert ("GET", "/API/storage/{storage}/file/{file}") in others and ("PUT", "/content/{id}") in others
    operations = [o["operationId"] for methods in made["paths"].values() for o in methods.values()]
    assert len(operations) == len(set(operations))
    for route in ROUTES:
        if route.scope is not None:
            controller, _, action = route.scope.partition("/")
            assert action in SCOPES[controller], route
            described_as = made["paths"][route.path][route.method.lower()]["description"]
            assert described_as.endswith(f"API Key Scope: {controller} / {action}")


async def test_the_page_for_people_loads_nothing_and_names_every_path(client: Client) -> None:
    answer = await client("GET", "/api/docs", user=None)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    text = answer.body.decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in text
    version = await client.get("/api/v2", user=None)
    assert version == {"version": 2, "openapi": "/api/v2/openapi.json", "docs": "/api/docs"}


# --- scopes ---------------------------------------------------------------------------------------


async def test_an_administrators_token_of_one_scope_opens_nothing_else_in_any_dialect(client: Client) -> None:
    scopes = [{"controller": "catalog", "action": "search"}]
    made = await client("POST", "/api/v2/users/me/api_keys", {"api_key_scopes": scopes})
    opened = set()
    for route in (*ROUTES, *every_other()):
        target = re.sub(r"\{[^}]*\}", "VX-1", route.path)
        answer = await client(route.method, target, Authorization=made.json["key"])
        if answer.status != 403:
            opened.add(f"{route.method} {route.path}")
    assert opened == {
        "GET /api/catalog/search",
        "GET /api/v2/catalog/search",
        # What is for all:
        "GET /api/v2",
        "GET /api/v2/openapi.json",
        "GET /api/v2/openapi.yaml",
        "GET /api/docs",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /API/version",
        "GET /APInoauth/is-online",
        "GET /APInoauth/selftest",
        "POST /api/auth",
    }
