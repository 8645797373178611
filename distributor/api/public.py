"""The public routes: raw path → route, in the order of decisions of the contract's §3.3."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from typing import Literal, Protocol, cast

from distributor import errors
from distributor.api.errors import METHOD_NOT_ALLOWED, NO_SUCH_ROUTE, NOT_READY
from distributor.api.hot import HotTier
from distributor.api.messages import Reply, Request, json_reply, problem_reply
from distributor.api.middleware import error_reply
from distributor.core.keys import cache_key, kept_query, parse_asset_path
from distributor.core.model import AssetRequest
from distributor.delivery.answer import Answer
from distributor.delivery.node import Node
from distributor.http.cache_status import CacheState
from distributor.http.fields import Fields
from distributor.ports import Store

__all__ = ["ALLOW", "Assets", "PublicApi", "buckets_reply", "status_reply"]

ALLOW = "GET, HEAD, OPTIONS"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "/api/v1"
_ASSETS = "/assets/"
_PREFLIGHT: Fields = (
    ("Allow", ALLOW),
    ("Access-Control-Allow-Methods", ALLOW),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Cache-Control, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, If-Match, "
        "If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range, X-Request-Id",
    ),
    ("Access-Control-Max-Age", "86400"),
)


class Assets(Protocol):
    """What answers for assets (delivery.edge)."""

    async def answer(self, request: AssetRequest) -> Answer: ...

    @property
    def fetches_in_flight(self) -> int: ...


class PublicApi:
    """Every route of the public port.

    key_query, strip_query  as in the settings: what of a query string belongs to the key
    metrics                 makes the text of /metrics
    hot                     learns from hits; None: there is no short way
    """

    def __init__(
        self,
        assets: Assets,
        node: Node,
        store: Store,
        metrics: Callable[[], bytes],
        *,
        key_query: bool,
        strip_query: frozenset[str],
        hot: HotTier | None = None,
    ) -> None:
        self._assets = assets
        self._node = node
        self._store = store
        self._metrics = metrics
        self._key_query = key_query
        self._strip_query = strip_query
        self._hot = hot
        self._description = resources.files("distributor.api").joinpath("openapi.yaml").read_bytes()
        self._routes: dict[str, tuple[str, Callable[[], Reply]]] = {
            "/status": ("status", self._status),
            "/buckets": ("buckets", self._buckets),
            _PREFIX + "/status": ("status", self._status),
            _PREFIX + "/buckets": ("buckets", self._buckets),
            "/healthz": ("health", self._health),
            "/readyz": ("health", self._ready),
            "/metrics": ("metrics", self._metrics_page),
            "/openapi.yaml": ("openapi", self._openapi),
        }

    async def __call__(self, request: Request) -> Reply:
        """Return the reply to any request."""
        path = request.path
        raw_id = None
        if path.startswith(_PREFIX + _ASSETS):
            raw_id = path[len(_PREFIX) + len(_ASSETS) :]
        elif path.startswith(_ASSETS):
            raw_id = path[len(_ASSETS) :]
        if raw_id:
            return await self._asset(request, raw_id)
        found = self._routes.get(path)
        if found is None:
            if path == "*" and request.method == "OPTIONS":
                return Reply("other", 204, _PREFLIGHT)
            return problem_reply("other", NO_SUCH_ROUTE)
        name, route = found
        if request.method == "OPTIONS":
            return Reply(name, 204, _PREFLIGHT)
        if request.method not in ("GET", "HEAD"):
            return problem_reply(name, METHOD_NOT_ALLOWED, (("Allow", ALLOW),))
        return route()

    # --- assets -------------------------------------------------------------------------------------

    async def _asset(self, request: Request, raw_id: str) -> Reply:
        if request.method == "OPTIONS":
            return Reply("assets", 204, _PREFLIGHT)
        if request.method not in ("GET", "HEAD"):
            return problem_reply("assets", METHOD_NOT_ALLOWED, (("Allow", ALLOW),))
        try:
            asset_id = parse_asset_path(raw_id)
        except errors.RequestError as error:
            return error_reply("assets", error)
        query = kept_query(request.query, self._strip_query) if self._key_query else None
        key = cache_key(asset_id, query)
        answer = await self._assets.answer(
            AssetRequest(
                method=cast(Literal["GET", "HEAD"], request.method),
                asset_id=asset_id,
                key=key,
                query=query,
                fields=request.fields,
                now=request.now,
                request_id=request.request_id,
            )
        )
        if self._hot is not None and request.octets and answer.cache is CacheState.HIT:
            self._hot.learn(request, asset_id, key)
        return _asset_reply(asset_id, answer)

    # --- the node -----------------------------------------------------------------------------------

    def _status(self) -> Reply:
        return status_reply(self._node, self._store, self._assets)

    def _buckets(self) -> Reply:
        return buckets_reply(self._node)

    def _health(self) -> Reply:
        return json_reply("health", {"status": "ok"})

    def _ready(self) -> Reply:
        if self._node.ready and self._store.healthy:
            return json_reply("health", {"status": "ready"})
        return problem_reply("health", NOT_READY, (("Retry-After", "1"),))

    def _metrics_page(self) -> Reply:
        fields = (("Content-Type", METRICS_TYPE), ("Cache-Control", "no-store"))
        return Reply("metrics", 200, fields, self._metrics())

    def _openapi(self) -> Reply:
        fields = (("Content-Type", "application/yaml"), ("Cache-Control", "no-store"))
        return Reply("openapi", 200, fields, self._description)


def _asset_reply(asset_id: str, answer: Answer) -> Reply:
    if answer.error is not None:
        reply = error_reply("assets", answer.error, answer.fields)
        reply.cache = answer.cache
    else:
        reply = Reply("assets", answer.status, answer.fields, answer.body, answer.cache, answer.data_source)
    reply.source_seconds = answer.source_seconds
    reply.range_kind = answer.range_kind
    reply.asset_id = asset_id
    return reply


def status_reply(node: Node, store: Store, assets: Assets) -> Reply:
    """/status, from memory."""
    usage = store.usage()
    return json_reply(
        "status",
        {
            "id": node.id,
            "objectsInCache": usage.complete_objects,
            "storageLimit": usage.limit,
            "storageUsed": usage.complete + usage.partial + usage.reserved,
            "uptime": int(time.monotonic() - node.started),
            "downloadsInProgress": assets.fetches_in_flight,
            "version": node.version,
            "state": node.state.value,
        },
    )


def buckets_reply(node: Node) -> Reply:
    """/buckets, from memory."""
    return json_reply("buckets", buckets_value(node))


def buckets_value(node: Node) -> dict[str, object]:
    """Exactly one of bucketIds and allByWorkerId."""
    if node.buckets is not None:
        return {"bucketIds": list(node.buckets)}
    return {"allByWorkerId": node.worker_id or 0}
