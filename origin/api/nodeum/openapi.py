"""The OpenAPI 3.1 document, made from the routes: what is not registered is not in it, and the reverse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from origin.api.described import Described
from origin.api.nodeum.calls import PUBLIC_CONTROLLERS, Route
from origin.api.nodeum.schemas import SCHEMAS, reference
from origin.api.release import program_version

_MEANINGS = {
    200: "Done; the body is the resource",
    201: "Made; the body is the resource, Location its path",
    202: "Scheduled",
    204: "Done; no body",
    304: "Not modified since the ETag sent",
    400: "A required attribute is missing, or a value cannot be read",
    401: "No credentials, or bad ones",
    403: "Scope or right is lacking",
    404: "No such resource",
    409: "Clashes with the present state",
    412: "If-Match names another version",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "Well-formed, but not possible",
    429: "Too many requests; Retry-After says when to come again",
    500: "A fault of the service",
    503: "Not now; Retry-After says when",
}
_ALWAYS = (401, 403, 429, 500, 503)
_SECURITY: list[dict[str, list[str]]] = [{"basic": []}, {"bearer": []}, {"key": []}]
_TYPES = {"openapi_yaml": "application/yaml", "html": "text/html"}
_PAGE_HEADERS = {
    "X-Total": "Entries in all",
    "X-Total-Pages": "Pages in all",
    "X-Page": "Number of this page",
    "X-Per-Page": "Entries of a page",
    "X-Next-Page": "Number of the next page, empty on the last",
    "X-Prev-Page": "Number of the page before, empty on the first",
    "Link": "next, prev, first and last (RFC 8288)",
}


def document(routes: Iterable[Route], others: Iterable[Described] = ()) -> dict[str, Any]:
    """Return the document as plain values. others: what further dialects answer."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    for other in others:
        paths.setdefault(other.path, {})[other.method.lower()] = _other(other)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Origin",
            "version": f"2 ({program_version()})",
            "description": "Storage and archive: catalog search, files, pools, tapes, tasks, API keys.",
        },
        "servers": [{"url": "/"}],
        "security": _SECURITY,
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "Authorization"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    described = route.summary + "."
    if route.scope is not None:
        described += f" API Key Scope: {route.scope.replace('/', ' / ')}"
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "description": described,
        "tags": [route.scope.partition("/")[0] if route.scope else "documents"],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.scope is None:
        operation["security"] = []
    else:
        operation["x-scope"] = route.scope
        if route.method == "GET" and route.scope.partition("/")[0] in PUBLIC_CONTROLLERS:
            operation["security"] = [{}, *_SECURITY]  # what is public needs no credentials
    if route.body is not None:
        operation["requestBody"] = {
            "required": not SCHEMAS[route.body].keys().isdisjoint({"required", "anyOf"}),
            "content": {"application/json": {"schema": reference(route.body)}},
        }
    return operation


def _other(other: Described) -> dict[str, Any]:
    """Bodies and answers are those of the dialect's own contract."""
    scope = f" API Key Scope: {other.scope.replace('/', ' / ')}" if other.scope else ""
    operation: dict[str, Any] = {
        "operationId": other.operation,
        "summary": other.summary,
        "description": f"{other.summary}.{scope}",
        "tags": [other.dialect],
        "parameters": _path_parameters(other.path),
        "responses": {"default": {"description": "As the contract of the dialect says"}},
    }
    if other.scope is not None:
        operation["x-scope"] = other.scope
    if other.open_to_all:
        operation["security"] = [{}, *_SECURITY]
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for part in path.split("/")
        if part.startswith("{")
    ]


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = _path_parameters(route.path)
    for parameter in route.parameters:
        described = {"name": parameter.name, "in": "query", "description": parameter.description}
        found.append({**described, "required": parameter.required, "schema": dict(parameter.schema)})
    return found


def _responses(route: Route) -> dict[str, Any]:
    statuses = set(route.statuses)
    if route.scope is not None:
        statuses |= {*_ALWAYS, 400}
    if route.body is not None:
        statuses |= {413}
    error = reference("error_v1" if route.answer == "search_v1" else "error")
    found: dict[str, Any] = {}
    for status in sorted(statuses):
        response: dict[str, Any] = {"description": _MEANINGS[status]}
        if status >= 400:
            response["content"] = {"application/json": {"schema": error}}
        elif status not in (204, 304):
            response["content"] = _content(route.answer)
            if status == 200 and route.answer.endswith("s") and route.scope is not None:
                response["headers"] = {
                    name: {"description": text, "schema": {"type": "string"}}
                    for name, text in _PAGE_HEADERS.items()
                }
        found[str(status)] = response
    return found


def _content(answer: str) -> dict[str, Any]:
    if answer in _TYPES:
        return {_TYPES[answer]: {"schema": {"type": "object"} if answer == "openapi_yaml" else {}}}
    return {"application/json": {"schema": reference(answer)}}
