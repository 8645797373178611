"""The public documents: version, OpenAPI as JSON and YAML, and a page for people made from it."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec
import yaml
from aiohttp import web

from origin.api.described import described
from origin.api.nodeum.calls import Answer, Call, Route, etag_of, none_match
from origin.api.nodeum.openapi import document

_made: dict[int, dict[str, Any]] = {}


def _document(routes: Sequence[Route]) -> dict[str, Any]:
    """Made once: the routes never change."""
    return _made.setdefault(id(routes), document(routes, described()))


async def version(call: Call) -> Answer:
    return Answer({"version": 2, "openapi": "/api/v2/openapi.json", "docs": "/api/docs"})


async def openapi_json(call: Call) -> web.Response:
    return _send(call, msgspec.json.encode(_document(call.routes)), "application/json")


async def openapi_yaml(call: Call) -> web.Response:
    text = yaml.safe_dump(json.loads(msgspec.json.encode(_document(call.routes))), sort_keys=False)
    return _send(call, text.encode(), "application/yaml")


async def page(call: Call) -> web.Response:
    response = _send(call, render(_document(call.routes)).encode(), "text/html")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return response


def _send(call: Call, body: bytes, media_type: str) -> web.Response:
    etag = etag_of(body)
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Authorization"}
    sent = ", ".join(call.request.headers.getall("If-None-Match", []))
    if sent and not none_match(sent, etag):
        return web.Response(status=304, headers=headers)
    charset = "utf-8" if media_type == "text/html" else None
    return web.Response(body=body, content_type=media_type, charset=charset, headers=headers)


_HERE = files("origin.api.nodeum")
_STYLE = (_HERE / "docs.css").read_text("utf-8")
_SCRIPT = (_HERE / "docs.js").read_text("utf-8")


def render(made: Mapping[str, Any]) -> str:
    """Return the page, whole: nothing is loaded from elsewhere."""
    groups: dict[str, list[str]] = {}
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(
                _operation(path, method.upper(), operation, made)
            )
    parts = [f"<h2>{html.escape(name)}</h2>{''.join(found)}" for name, found in groups.items()]
    info = made["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Origin API</title>'
        f"<style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(info['title'])} API</h1><p>{html.escape(info['description'])}</p>"
        '<p><a href="/api/v2/openapi.json">OpenAPI as JSON</a> ·'
        ' <a href="/api/v2/openapi.yaml">as YAML</a>. Each call can be tried below.</p>'
        '<form id="who"><label>User <input id="user" autocomplete="username"></label>'
        '<label>Password <input id="password" type="password" autocomplete="current-password"></label>'
        '<label>or token <input id="token" autocomplete="off"></label></form>'
        f"{''.join(parts)}<script>{_SCRIPT}</script></body></html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    rows = []
    for parameter in operation["parameters"]:
        name, place = html.escape(parameter["name"], quote=True), parameter["in"]
        label = f"<code>{name}</code>{' *' if place == 'path' else ''}"
        field = f'<input name="{name}" data-in="{place}" aria-label="{name}">'
        said = html.escape(parameter.get("description", ""))
        rows.append(f"<tr><td>{label}</td><td>{field}</td><td>{said}</td></tr>")
    body = ""
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        named = made["components"]["schemas"][schema.rpartition("/")[2]]
        required = dict.fromkeys(named.get("required", []), "")
        properties = named.get("properties") or named["anyOf"][0]["properties"]
        optional = ", ".join(n for n in properties if n not in required)
        example = html.escape(json.dumps(required))
        body = f'<p>Body. May also have: {html.escape(optional)}</p><textarea rows="4">{example}</textarea>'
    statuses = "".join(
        f"<tr><td>{status}</td><td>{html.escape(response['description'])}</td></tr>"
        for status, response in operation["responses"].items()
    )
    return (
        f"<details><summary><b>{method}</b> <code>{html.escape(path)}</code>"
        f" {html.escape(operation['summary'])}</summary>"
        f"<p>{html.escape(operation['description'])}</p>"
        f'<form data-path="{html.escape(path, quote=True)}" data-method="{method}">'
        f"<table>{''.join(rows)}</table>{body}<p><button>Try</button></p><pre></pre></form>"
        f"<details><summary>Answers</summary><table>{statuses}</table></details></details>"
    )
