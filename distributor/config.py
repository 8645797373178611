"""The edge's settings: key, type, default, bounds and help text, each said once.

Attribute names are the keys of the file. Sizes are whole bytes, durations seconds. Everything is
frozen; `Config()` is the defaults. `docs/configuration.md` and `config/distributor.yaml` are made
from this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from distributor import settings
from distributor.settings import (
    DURATION,
    MAP,
    MASK,
    PATH,
    RATE,
    SIZE,
    SWITCH,
    TEXTS,
    WHOLE,
    Kind,
    LogSettings,
    Settings,
    section,
    sections,
    setting,
)

__all__ = ["ENVIRONMENT_PREFIX", "Config", "dump", "load"]

ENVIRONMENT_PREFIX = "DISTRIBUTOR__"

_NODE_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
_BUCKET_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SOURCE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # token, RFC 9110 §5.6.2
# Fields that the edge itself must be able to rely on in a request to a source.
_OWN_FIELDS = frozenset(
    [
        "accept-encoding",
        "cdn-loop",
        "connection",
        "content-length",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "want-repr-digest",
        "x-request-id",
    ]
)


def _node_id(value: str) -> None:
    if not _NODE_ID.fullmatch(value):
        raise ValueError(f"must be a letter, then up to 63 of A-Z a-z 0-9 . _ -, not {value!r}")


def _source_url(value: str) -> None:
    if "{id}" not in value:
        raise ValueError("must contain {id}, where the asset's id is put")
    if value.count("{id}") > 1:
        raise ValueError("must contain {id} only once")
    try:
        parts = urlsplit(value.replace("{id}", "id"))
        _ = parts.port
    except ValueError:
        raise ValueError("must be an absolute http:// or https:// URL with {id}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("must be an absolute http:// or https:// URL with {id}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain credentials; give them in headers")
    if parts.fragment or value.endswith("#"):
        raise ValueError("must not have a fragment")
    if "{id}" not in value.partition("://")[2].partition("/")[2]:
        raise ValueError("must have {id} in its path or query")


def _source_headers(value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no header field name")
        if name.lower() in _OWN_FIELDS:
            raise ValueError(f"{name} is set by the edge itself")
        if not text.isascii():
            raise ValueError(f"the value of {name} must be ASCII")


def _mask_headers(value: Mapping[str, str]) -> dict[str, str]:
    return dict.fromkeys(value, MASK)


def _read_buckets(value: Any) -> Any:
    if value == "all":
        return "all"
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError(f"must be all, or a list of bucket ids, not {value!r}")
    for bucket in value:
        if not isinstance(bucket, str) or not _BUCKET_ID.fullmatch(bucket):
            raise ValueError(f"a bucket id is 1 to 64 of A-Z a-z 0-9 . _ : -, not {bucket!r}")
    if not value:
        raise ValueError("must name at least one bucket, or be all")
    if len(set(value)) < len(value):
        raise ValueError("must not name a bucket twice")
    return tuple(value)


def _buckets_text(text: str) -> Any:
    return "all" if text.strip() == "all" else TEXTS.text(text)


def _tokens(value: tuple[str, ...]) -> None:
    for name in value:
        if not name or "&" in name or "=" in name:
            raise ValueError(f"{name!r} is no name of a query parameter")


def _token(value: str) -> None:
    if not re.fullmatch(r"[\x21-\x7e]{1,1024}", value):
        raise ValueError("must be 1 to 1024 ASCII characters without spaces")


BUCKETS = Kind(
    "all, or a list of bucket ids", _read_buckets, lambda v: v if v == "all" else list(v), _buckets_text
)


class PublicApi(Settings, frozen=True):
    """Where clients connect."""

    host: str = setting("127.0.0.1", ge=1, help="Address listened on; 0.0.0.0 or :: for all.")
    port: int = setting(3334, kind=WHOLE, ge=0, le=65535, help="TCP port; 0 lets the system choose.")


class OperatorApi(Settings, frozen=True):
    """Where operators connect: purge, drain, prefetch and the like. Keep it off the public network."""

    host: str = setting("127.0.0.1", ge=1, help="Address listened on.")
    port: int = setting(3335, kind=WHOLE, ge=0, le=65535, help="TCP port; 0 lets the system choose.")
    token: str | None = setting(
        secret=True, check=_token, help="Bearer token of the operator API. Null: the one in token_file."
    )
    token_file: Path = setting(
        "./var/edge/operator.token",
        kind=PATH,
        help="Holds the token; made at the first start, mode 0600, if there is none and token is null.",
    )


class Source(Settings, frozen=True):
    """An upstream: any HTTP/1.1 server, an origin, or another edge (a shield)."""

    url: str = setting(
        required=True,
        check=_source_url,
        help="Absolute URL; {id}, in its path or query, stands for the asset's id.",
    )
    name: str | None = setting(
        help="Names the source in metrics and logs, in place of its number (the first is 1)."
    )
    headers: dict[str, str] = setting(
        {},
        kind=MAP,
        secret=True,
        mask=_mask_headers,
        check=_source_headers,
        help="Fields sent with every request to this source, such as its credentials.",
    )

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.name is not None and not _SOURCE_NAME.fullmatch(self.name):
            yield "name", f"must be 1 to 64 of A-Z a-z 0-9 . _ -, not {self.name!r}"


class Origin(Settings, frozen=True):
    """Where the edge gets what it does not have."""

    sources: tuple[Source, ...] = sections(Source, [Source(url="http://127.0.0.1:3333/content/{id}")], ge=1)
    connect_timeout: float = setting("5s", kind=DURATION, ge="10ms", le="5m", help="For one connection.")
    stall_timeout: float = setting(
        "10s",
        kind=DURATION,
        ge="10ms",
        le="1h",
        help="No byte from a source for so long, before or amid the body: the next source is tried.",
    )
    min_rate: int = setting(
        "1K",
        kind=RATE,
        help="A source that brings fewer bytes a second, over a stall_timeout of waiting, is left for "
        "another amid a fetch, if there is another and the fetch can be resumed; 0: none is.",
    )
    max_connections: int = setting(100, kind=WHOLE, ge=1, le=100_000, help="To each source at once.")
    backoff: float = setting(
        "10s",
        kind=DURATION,
        ge=0,
        le="1h",
        help="How long a source that failed is put behind the others. It is never out of reach.",
    )
    transparent: bool = setting(
        False,
        kind=SWITCH,
        help="Be a general RFC 9111 cache: forward the client's fields, relay every status.",
    )

    def problems(self) -> Iterable[tuple[str, str]]:
        names = [source.name for source in self.sources if source.name is not None]
        if len(set(names)) < len(names):
            yield "sources", "two sources have the same name"
        urls = [source.url for source in self.sources]
        if len(set(urls)) < len(urls):
            yield "sources", "two sources have the same url"


class Cache(Settings, frozen=True):
    """The store on disk."""

    directory: Path = setting("./var/edge", kind=PATH, help="Owned by one process; made with mode 0700.")
    limit: int = setting(
        "10G", kind=SIZE, ge=1, le="8388608T", help="Hard limit on stored bytes, reserved ones included."
    )
    max_object: int | None = setting(
        kind=SIZE, ge=1, help="A larger object is passed through unstored. Null: as large as the store."
    )
    segment: int = setting(
        "1M", kind=SIZE, ge="4K", le="1G", help="The grid on which objects are filled; a power of two."
    )
    fill: Literal["whole", "asked"] = setting(
        "whole", choices=("whole", "asked"), help="Fetch objects to their end, or only what was asked for."
    )
    eviction: Literal["lru", "s3-fifo"] = setting(
        "lru", choices=("lru", "s3-fifo"), help="Who leaves when room is needed."
    )
    durability: Literal["fsync", "none"] = setting(
        "fsync",
        choices=("fsync", "none"),
        help="Flush bytes to the disk before they count as stored, or leave it to the system (faster; a "
        "power cut may then cost objects, never correctness of a process that was killed).",
    )
    key_query: bool = setting(
        False,
        kind=SWITCH,
        help="Make the query string, less strip_query, part of the cache key and send it upstream.",
    )
    strip_query: tuple[str, ...] = setting(
        ["CMCD", "hdnts", "hdnea", "md5", "expires", "Expires", "Policy", "Signature", "Key-Pair-Id"],
        kind=TEXTS,
        check=_tokens,
        help="Query parameters that are neither part of the key nor sent upstream.",
    )
    hot: int = setting(
        "64M",
        kind=SIZE,
        help="Bytes of small and middling bodies kept in memory or mapped for the quickest answers; 0: none.",
    )
    verify_rate: int = setting(
        "100M",
        kind=RATE,
        ge="64K",
        help="How fast `verify` reads stored objects, so that clients do not feel it.",
    )

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.segment & (self.segment - 1):
            yield "segment", "must be a power of two"
        if self.max_object is not None and self.max_object > self.limit:
            yield "max_object", "must not be larger than cache.limit"


class Freshness(Settings, frozen=True):
    """How long stored responses are good for when the source leaves it open (RFC 9111)."""

    default_ttl: float = setting(
        "60s",
        kind=DURATION,
        le="365d",
        help="When the source gives no lifetime but a validator; at most a tenth of the time since its "
        "Last-Modified.",
    )
    negative_ttl: float = setting(
        "5s", kind=DURATION, le="1h", help="How long 404 and 410 of the sources are remembered."
    )
    stale_if_error: float = setting(
        "1d",
        kind=DURATION,
        le="365d",
        help="How long after its end a response is still served when no source answers and none forbade it.",
    )


class Limits(Settings, frozen=True):
    """Bounds that keep one client, or a crowd, from taking the node down."""

    max_clients: int = setting(
        10_000, kind=WHOLE, ge=1, le=1_000_000, help="Connections to the public API; more are answered 503."
    )
    header_timeout: float = setting(
        "10s", kind=DURATION, ge="100ms", le="10m", help="For a request head to be complete."
    )
    idle_timeout: float = setting(
        "75s", kind=DURATION, ge="100ms", le="1d", help="For the next request on an open connection."
    )
    min_send_rate: int = setting(
        "1K", kind=RATE, help="A reader slower than this, per second, is cut off; 0: none is."
    )
    max_fetches: int = setting(
        256, kind=WHOLE, ge=1, le=100_000, help="Fetches under way at once; more wait."
    )
    max_waiting_fetches: int = setting(
        4096,
        kind=WHOLE,
        ge=0,
        le=1_000_000,
        help="Fetches waiting; beyond, requests for cold assets get 503.",
    )
    drain_timeout: float = setting(
        "30s", kind=DURATION, le="1h", help="For transfers under way to end when the node is told to stop."
    )


class Config(Settings, frozen=True):
    """Settings of the edge."""

    id: str = setting(
        "edge-1",
        check=_node_id,
        help="This node's name in /status, Via, CDN-Loop and Cache-Status; its own among the edges.",
    )
    public_api: PublicApi = section(PublicApi)
    operator_api: OperatorApi = section(OperatorApi)
    buckets: Literal["all"] | tuple[str, ...] = setting(
        "all", kind=BUCKETS, help="The buckets this node distributes; an asset of another one is 421."
    )
    worker_id: int | None = setting(
        kind=WHOLE, ge=0, help="Shown by /buckets when buckets is all; null shows 0."
    )
    origin: Origin = section(Origin)
    cache: Cache = section(Cache)
    freshness: Freshness = section(Freshness)
    limits: Limits = section(Limits)
    log: LogSettings = section(LogSettings)

    def problems(self) -> Iterable[tuple[str, str]]:
        public, operator = self.public_api, self.operator_api
        if public.port and (public.host, public.port) == (operator.host, operator.port):
            yield "operator_api.port", "must differ from public_api.port"


def load(path: Path | None, overrides: Iterable[str], environ: Mapping[str, str]) -> Config:
    """Return the edge's settings in force.

    path       YAML file; None: none
    overrides  "key.path=value" each, stronger than the environment, which is stronger than the file
    environ    DISTRIBUTOR__CACHE__LIMIT=1G sets cache.limit

    Raises SettingsError with a line for every bad value or unknown key.
    """
    return settings.load(Config, path=path, overrides=overrides, environ=environ, prefix=ENVIRONMENT_PREFIX)


def dump(config: Config) -> str:
    """Return the settings in force as YAML, secrets masked."""
    return settings.dump(config)
