"""What goes around every answer: health, request ids, cross-origin rules, metrics, logs."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from origin.api.logs import set_up
from tests.support.origin_service import Service, running_origin

HOME = {"Origin": "http://page.example"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_health_answers_get_and_head_and_nothing_else(service: Service, path: str) -> None:
    get = await service("GET", path, user=None)
    head = await service("HEAD", path, user=None)
    assert (get.status, head.status, head.body) == (200, 200, b"")
    assert (await service("POST", path, user=None)).status == 405


async def test_readyz_is_503_once_stopping(service: Service) -> None:
    service.origin.ready = False
    reply = await service("GET", "/readyz", user=None)
    assert (reply.status, "Retry-After" in reply.headers) == (503, True)
    assert (await service("GET", "/healthz", user=None)).status == 200


async def test_metrics_count_requests_by_dialect_and_files_by_storage(service: Service) -> None:
    await service.put("media/a", b"12345")
    await service("GET", "/nowhere/at/all")
    text = (await service("GET", "/metrics")).body.decode()
    assert 'origin_http_requests_total{code="201",dialect="content",method="PUT"} 1.0' in text
    assert 'origin_http_requests_total{code="404",dialect="none",method="GET"} 1.0' in text
    assert 'origin_storage_files{storage="media"} 1.0' in text
    assert 'origin_storage_bytes{storage="media"} 5.0' in text


async def test_request_id_is_taken_from_the_client_if_it_is_sane(service: Service) -> None:
    kept = await service("GET", "/healthz", headers={"X-Request-Id": "abc.D-1_2"})
    made = await service("GET", "/healthz", headers={"X-Request-Id": "bad id"})
    assert kept.headers["X-Request-Id"] == "abc.D-1_2"
    assert len(made.headers["X-Request-Id"]) == 16


@pytest.mark.parametrize(
    ("target", "status"),
    [("/healthz", 200), ("/nowhere", 404), ("/content/secret/a", 401), ("/content/media/%", 400)],
)
async def test_any_page_may_read_any_answer_errors_too(service: Service, target: str, status: int) -> None:
    reply = await service("GET", target, headers=HOME, user=None)
    assert reply.status == status
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in reply.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in reply.headers


async def test_preflight_is_204_without_credentials(tmp_path: Path) -> None:
    auth = {"admin_password": "x", "anonymous": "none"}
    async with running_origin(tmp_path, auth=auth) as service:
        ask = {**HOME, "Access-Control-Request-Method": "GET"}
        reply = await service("OPTIONS", "/content/media/a", headers=ask, user=None)
        assert reply.status == 204
        assert reply.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
        assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        refused = {**HOME, "Access-Control-Request-Method": "DELETE"}
        reply = await service("OPTIONS", "/content/media/a", headers=refused, user=None)
        assert reply.status == 204
        assert "Access-Control-Allow-Methods" not in reply.headers


async def test_rules_for_named_origins_hold_by_origin_path_and_method(tmp_path: Path) -> None:
    cors = [
        {"origins": ["http://page.example"], "paths": ["/content"], "methods": ["GET", "PUT"]},
        {"origins": ["http://other.example"], "paths": ["/"], "methods": ["*"]},
    ]
    async with running_origin(tmp_path, cors=cors) as service:
        fits = await service("GET", "/content/media/a", headers=HOME)
        assert fits.headers["Access-Control-Allow-Origin"] == "http://page.example"
        for method, target, origin in (
            ("GET", "/healthz", "http://page.example"),
            ("DELETE", "/content/media/a", "http://page.example"),
            ("GET", "/content/media/a", "http://third.example"),
        ):
            reply = await service(method, target, headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in reply.headers, (method, target, origin)
            assert "Origin" in reply.headers["Vary"]


async def test_unknown_path_is_404_in_the_plain_form(service: Service) -> None:
    reply = await service("GET", "/nowhere")
    assert reply.status == 404
    assert reply.json == {
        "messages": ["no such path"],
        "details": {"base": [{"error": "not_found"}]},
    }


async def test_what_fails_inside_is_500_without_its_reason(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("/srv/secret/place")

    monkeypatch.setattr(service.services.files, "get", fail)
    reply = await service("GET", "/content/VX-1")
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert reply.headers["X-Request-Id"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_line_is_one_line_whatever_a_client_sent(form: str) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    listener = set_up("info", form, stream)
    try:
        logging.getLogger("origin.access").info("GET %s", "/a\nfake\x1b[31m", extra={"id": "x\ny"})
        logging.getLogger("origin").debug("not said")
    finally:
        listener.stop()
        root.handlers[:], root.level = before
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    if form == "json":
        assert json.loads(lines[0])["message"] == "GET /a\nfake\x1b[31m"


async def test_query_is_never_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "origin.access"):
        await service("GET", "/healthz?AUTH_TOKEN=hidden")
    assert "GET /healthz 200" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/content/media/a", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/admin/v1/users", "GET, POST, HEAD, OPTIONS"),
    ],
)
async def test_options_says_what_a_path_has(service: Service, path: str, allow: str) -> None:
    reply = await service("OPTIONS", path)
    assert (reply.status, reply.headers["Allow"], reply.body) == (204, allow, b"")
