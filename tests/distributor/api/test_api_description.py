"""openapi.yaml, held to the contract and to what the port really answers."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from distributor.api import errors as table
from distributor.delivery.node import Command
from tests.support.front import Front, whole
from tests.support.wire import Reply, Wire

DOCUMENT: dict[str, Any] = yaml.safe_load(
    resources.files("distributor.api").joinpath("openapi.yaml").read_text(encoding="utf-8")
)

# Every header field that the contract names for answers of the public port.
FIELDS = [
    "Accept-Ranges",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
    "Age",
    "Allow",
    "CDN-Cache-Control",
    "Cache-Control",
    "Cache-Status",
    "Connection",
    "Content-Disposition",
    "Content-Length",
    "Content-Location",
    "Content-Range",
    "Cross-Origin-Resource-Policy",
    "Date",
    "ETag",
    "Expires",
    "Last-Modified",
    "Repr-Digest",
    "Retry-After",
    "Server",
    "Server-Timing",
    "Timing-Allow-Origin",
    "Vary",
    "Via",
    "X-Cache",
    "X-Content-Type-Options",
    "X-Data-Source",
    "X-Distribution-Bucket",
    "X-Request-Id",
]
ASSET_STATUSES = [
    "200",
    "206",
    "304",
    "400",
    "404",
    "405",
    "408",
    "410",
    "412",
    "416",
    "421",
    "500",
    "502",
    "503",
    "504",
]
TYPES = {
    "bad_request",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "gone",
    "precondition_failed",
    "range_not_satisfiable",
    "misdirected_request",
    "internal",
    "bad_gateway",
    "loop_detected",
    "unavailable",
    "gateway_timeout",
}


def resolved(value: Any) -> Any:
    while isinstance(value, dict) and "$ref" in value:
        found: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_route_and_method_of_the_port_is_described_and_no_other() -> None:
    found = {
        path: {m for m in item if m in ("get", "head", "options")} for path, item in DOCUMENT["paths"].items()
    }
    routes = ["/status", "/buckets", "/assets/{id}", "/healthz", "/readyz", "/metrics", "/openapi.yaml"]
    assert found == {path: {"get", "head", "options"} for path in routes}


def test_the_three_schemas_of_the_contract_are_there() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["StatusResponse"]["required"] == [
        "id",
        "objectsInCache",
        "storageLimit",
        "storageUsed",
        "uptime",
        "downloadsInProgress",
    ]
    assert [list(one["properties"]) for one in schemas["BucketsResponse"]["oneOf"]] == [
        ["bucketIds"],
        ["allByWorkerId"],
    ]
    assert schemas["ErrorResponse"]["required"] == ["message"]
    assert set(schemas["ErrorResponse"]["properties"]["type"]["enum"]) == TYPES


def test_every_status_of_the_contract_is_described_for_assets() -> None:
    item = DOCUMENT["paths"]["/assets/{id}"]
    assert sorted(item["get"]["responses"]) == ASSET_STATUSES
    assert sorted(item["head"]["responses"]) == [s for s in ASSET_STATUSES if s not in ("206", "416")]


def test_every_header_field_of_the_contract_is_described() -> None:
    assert set(FIELDS) <= set(DOCUMENT["components"]["headers"])


def test_every_type_that_the_table_of_errors_can_give_on_this_port_is_described() -> None:
    operator_only = {"unauthorized", "conflict", "payload_too_large", "unsupported_media_type"}
    problems = [value for value in vars(table).values() if isinstance(value, table.Problem)]
    given = {problem.type for problem in (*problems, *table._TABLE.values())}
    assert given - operator_only == TYPES


def undescribed(reply: Reply, path: str, method: str) -> set[str]:
    """Header fields of `reply` that the document does not have for its status."""
    response = resolved(DOCUMENT["paths"][path][method.lower()]["responses"][str(reply.status)])
    described = {name.lower() for name in response["headers"]} | {"content-type"}
    return reply.names - described


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_the_port_answers_is_what_the_document_says(method: str) -> None:
    async with Front() as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        for path in DOCUMENT["paths"]:
            for target in (path.replace("{id}", "a"), path.replace("{id}", "none")):
                reply = await wire.get(target, method)
                assert not undescribed(reply, path, method), target
        front.node.change(Command.DRAIN)
        reply = await wire.get("/readyz", method)
        assert not undescribed(reply, "/readyz", method)
