"""The origin's settings: key, type, default, bounds and help text, each said once.

Attribute names are the keys of the file. Sizes are whole bytes, durations seconds. Everything is
frozen; `OriginConfig()` is the defaults. `docs/configuration.md` and `config/origin.yaml` are made
from this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from distributor import settings
from distributor.settings import (
    DURATION,
    PATH,
    PATHS,
    SIZE,
    SWITCH,
    TEXTS,
    WHOLE,
    LogSettings,
    Settings,
    SettingsError,
    section,
    sections,
    setting,
)

__all__ = ["ENVIRONMENT_PREFIX", "OriginConfig", "SettingsError", "dump", "load"]

ENVIRONMENT_PREFIX = "ORIGIN__"

_NODE_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
_STORAGE_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}")
# They stand where a storage's name would stand in the addresses of the dialects.
_TAKEN_NAMES = re.compile(r"list|auth|user|workers|catalog|docs|v[0-9]+|\.{1,2}", re.ASCII)
_USER_NAME = re.compile(r"[^\x00-\x20\x7f:/]{1,128}")
_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
_CATALOGS = ("sqlite", "sqlite+aiosqlite")


def _node_id(value: str) -> None:
    if not _NODE_ID.fullmatch(value):
        raise ValueError(f"must be a letter, then up to 63 of A-Z a-z 0-9 . _ -, not {value!r}")


def _public_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("must be an absolute http:// or https:// URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("must be an absolute http:// or https:// URL")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must have neither credentials nor a query nor a fragment")


def _edge_url(value: str) -> None:
    _public_url(value)
    if urlsplit(value).path not in ("", "/"):
        raise ValueError("must have no path: scheme, host and port, such as http://127.0.0.1:3335")


def _token(value: str) -> None:
    if not re.fullmatch(r"[\x21-\x7e]{1,1024}", value):
        raise ValueError("must be 1 to 1024 ASCII characters without spaces")


def _catalog(value: str) -> None:
    scheme, separator, rest = value.partition("://")
    if scheme.startswith("postgresql"):
        raise ValueError("PostgreSQL is not supported by this version; name a file: sqlite:///PATH")
    if not separator or not rest or scheme not in _CATALOGS:
        raise ValueError("must begin with sqlite:///")
    if not rest.startswith("/") or rest == "/":
        raise ValueError("must be sqlite:/// and the path of a file")


def _storage_name(value: str) -> None:
    if not _STORAGE_NAME.fullmatch(value) or value != value.strip():
        raise ValueError(f"must be 1 to 255 characters, none of them / or \\, not {value!r}")
    if _TAKEN_NAMES.fullmatch(value):
        raise ValueError(f"{value} is a name no storage may bear")


def _storage_uri(value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise ValueError(
            "must be file: and a directory, such as file:./var/origin/media or file:///srv/media"
        )
    if parts.query or parts.fragment:
        raise ValueError("a file: URI has only a path; write % ? # in it as %25 %3F %23")


def _user_name(value: str) -> None:
    if not _USER_NAME.fullmatch(value):
        raise ValueError(f"must be 1 to 128 characters without spaces, : and /, not {value!r}")


def _password(value: str) -> None:
    if not 1 <= len(value) <= 1024:
        raise ValueError("must be 1 to 1024 characters")


def _hosts(value: tuple[str, ...]) -> None:
    for host in value:
        if not re.fullmatch(r"\[?[A-Za-z0-9._:-]+\]?", host, re.ASCII):
            raise ValueError(f"{host!r} is neither a host name nor an address")


def _origins(value: tuple[str, ...]) -> None:
    for origin in value:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", origin):
            raise ValueError(f"must be * or scheme and host such as https://example.org, not {origin!r}")


def _paths(value: tuple[str, ...]) -> None:
    for path in value:
        if not path.startswith("/"):
            raise ValueError(f"a path begins with /, as {path!r} does not")


def _methods(value: tuple[str, ...]) -> None:
    for method in value:
        if method != "*" and not _METHOD.fullmatch(method):
            raise ValueError(f"a method is written in capitals, as {method!r} is not")


class Api(Settings, frozen=True):
    """Where clients and edges connect."""

    host: str = setting("127.0.0.1", ge=1, help="Address listened on; 0.0.0.0 or :: for all.")
    port: int = setting(3333, kind=WHOLE, ge=0, le=65535, help="TCP port; 0 lets the system choose.")


class Storage(Settings, frozen=True):
    """A storage that is created at start if absent; more can be made over REST."""

    name: str = setting(
        required=True,
        check=_storage_name,
        help="Stands in URLs and is the bucket id, where it is 1 to 64 of A-Z a-z 0-9 . _ -.",
    )
    uri: str = setting(
        required=True,
        check=_storage_uri,
        help="Where the bytes are: file: and a directory, such as file:./var/origin/media or file:///srv/media.",
    )
    public: bool = setting(
        True, kind=SWITCH, help="May be read without credentials, so that edges may serve it."
    )
    archive: bool = setting(False, kind=SWITCH, help="Holds near-line copies.")


class FailedLogins(Settings, frozen=True):
    """Bad credentials taken from one address; beyond them, those not known to be good are answered 429."""

    requests: int = setting(60, kind=WHOLE, ge=1, help="So many at once, and so many in each `per`.")
    per: float = setting("60s", kind=DURATION, ge="1s", le="1d", help="The time they are counted over.")


class Auth(Settings, frozen=True):
    """Who may do what. Users, roles and tokens are kept in the catalog and made over REST."""

    admin_user: str = setting("admin", check=_user_name, help="The first user, made at the first start.")
    admin_password: str | None = setting(
        secret=True,
        check=_password,
        help="The first user's password. Null: the one in admin_password_file.",
    )
    admin_password_file: Path = setting(
        "./var/origin/admin.password",
        kind=PATH,
        help="Holds the password; made at the first start, mode 0600, if there is none and "
        "admin_password is null.",
    )
    anonymous: str = setting(
        "read",
        choices=("none", "read"),
        help="What a request without credentials may do: read what is public.",
    )
    login_lifetime: float = setting(
        "12h",
        kind=DURATION,
        ge="1s",
        help="How long the token that a login gives is good.",
    )
    failed_logins: FailedLogins = section(FailedLogins)


class Cors(Settings, frozen=True):
    """A rule for requests of web pages of other origins; those of all rules that fit add up."""

    origins: tuple[str, ...] = setting(["*"], kind=TEXTS, check=_origins, help="Origins allowed; * for any.")
    paths: tuple[str, ...] = setting(["/"], kind=TEXTS, check=_paths, help="Path prefixes it is for.")
    methods: tuple[str, ...] = setting(
        ["GET", "HEAD", "OPTIONS"], kind=TEXTS, check=_methods, help="Methods allowed."
    )


class Edge(Settings, frozen=True):
    """An edge that is told at once when a file changes, moves or goes."""

    url: str = setting(
        required=True,
        check=_edge_url,
        help="Its operator API: scheme, host and port, such as http://127.0.0.1:3335.",
    )
    token: str | None = setting(
        secret=True, check=_token, help="Its operator token. Null: the one in token_file."
    )
    token_file: Path | None = setting(
        kind=PATH, help="Holds the token; read at each use, so it need not be there before the edge is."
    )

    def problems(self) -> Iterable[tuple[str, str]]:
        if (self.token is None) == (self.token_file is None):
            yield "token", "give either this or token_file"


class RateLimit(Settings, frozen=True):
    """Requests allowed to one token, user or address in a time; more are answered 429. Null: any number."""

    requests: int = setting(600, kind=WHOLE, ge=1, help="So many at once, and so many in each `per`.")
    per: float = setting("60s", kind=DURATION, ge="1s", le="1d", help="The time they are counted over.")


class Jobs(Settings, frozen=True):
    """Work done in the background: copies, digests, imports, scans."""

    runners: int = setting(2, kind=WHOLE, ge=0, le=64, help="Jobs run at once; 0: none are run here.")
    lease: float = setting(
        "60s",
        kind=DURATION,
        ge="1s",
        le="1d",
        help="A job whose runner gave no sign of life for so long is taken up by another.",
    )
    attempts: int = setting(5, kind=WHOLE, ge=1, le=100, help="Then a job whose lease ran out has failed.")


class Workers(Settings, frozen=True):
    """Programs that process assets, and the one built in, which unpacks archives."""

    attempts: int = setting(5, kind=WHOLE, ge=1, le=100, help="Then a task whose lease ran out has failed.")
    patience: float = setting(
        "7d", kind=DURATION, ge="1s", help="A task that no worker claimed for so long has failed."
    )
    keep: float = setting("2d", kind=DURATION, ge="1s", help="For so long tasks that ended stay listed.")
    extract_entries: int = setting(
        100_000, kind=WHOLE, ge=1, le=1_000_000, help="Most entries of an archive."
    )
    extract_bytes: int = setting("16G", kind=SIZE, ge=1, help="Most bytes unpacked from one archive.")
    extract_ratio: int = setting(
        200, kind=WHOLE, ge=1, help="Most bytes unpacked for each of the archive's, beyond the first 64M."
    )


class Limits(Settings, frozen=True):
    """Bounds that keep one client, or a crowd, from taking the service down."""

    max_clients: int = setting(
        1000, kind=WHOLE, ge=1, le=1_000_000, help="Connections; more are answered 503."
    )
    max_upload: int | None = setting(
        kind=SIZE, ge=1, help="Largest file taken in one upload. Null: any size."
    )
    header_timeout: float = setting(
        "10s", kind=DURATION, ge="100ms", le="10m", help="For a request head to be complete."
    )
    idle_timeout: float = setting(
        "75s", kind=DURATION, ge="100ms", le="1d", help="For the next request, or the next byte of an upload."
    )
    drain_timeout: float = setting(
        "30s", kind=DURATION, le="1h", help="For requests under way to end when the service is told to stop."
    )


class OriginConfig(Settings, frozen=True):
    """Settings of the origin."""

    id: str = setting("origin-1", check=_node_id, help="This service's name in logs and to its clients.")
    api: Api = section(Api)
    public_url: str = setting(
        "http://127.0.0.1:3334", check=_public_url, help="The edge: where links to content point."
    )
    catalog: str = setting(
        "sqlite:///./var/origin/catalog.db",
        check=_catalog,
        secret=True,
        mask=str,
        help="The database: sqlite:/// and the path of a file. One process owns it.",
    )
    edges: tuple[Edge, ...] = sections(Edge)
    storages: tuple[Storage, ...] = sections(
        Storage,
        [
            Storage(name="media", uri="file:./var/origin/media"),
            Storage(name="archive", uri="file:./var/origin/archive", archive=True),
        ],
    )
    storage_roots: tuple[Path, ...] = setting(
        ["./var/origin"], kind=PATHS, help="Storages made over REST must lie inside one of these directories."
    )
    notification_hosts: tuple[str, ...] = setting(
        ["127.0.0.1"], kind=TEXTS, check=_hosts, help="Hosts that job notifications may call."
    )
    auth: Auth = section(Auth)
    cors: tuple[Cors, ...] = sections(Cors, [Cors()])
    rate_limit: RateLimit | None = section(RateLimit, optional=True)
    jobs: Jobs = section(Jobs)
    workers: Workers = section(Workers)
    limits: Limits = section(Limits)
    log: LogSettings = section(LogSettings)

    @property
    def signing_key_file(self) -> Path:
        """Where the key of signed addresses is kept: beside the catalog, else beside the password."""
        scheme, _, rest = self.catalog.partition("://")
        if scheme.startswith("sqlite"):
            return Path(rest[1:].partition("?")[0] + ".signing-key")
        return self.auth.admin_password_file.with_name("signing-key")

    def problems(self) -> Iterable[tuple[str, str]]:
        names = [storage.name for storage in self.storages]
        if len(set(names)) < len(names):
            yield "storages", "two storages have the same name"
        uris = [storage.uri for storage in self.storages]
        if len(set(uris)) < len(uris):
            yield "storages", "two storages have the same uri"
        edges = [edge.url.rstrip("/") for edge in self.edges]
        if len(set(edges)) < len(edges):
            yield "edges", "two edges have the same url"


def load(path: Path | None, overrides: Iterable[str], environ: Mapping[str, str]) -> OriginConfig:
    """Return the origin's settings in force.

    path       YAML file; None: none
    overrides  "key.path=value" each, stronger than the environment, which is stronger than the file
    environ    ORIGIN__API__PORT=8080 sets api.port

    Raises SettingsError with a line for every bad value or unknown key.
    """
    return settings.load(
        OriginConfig, path=path, overrides=overrides, environ=environ, prefix=ENVIRONMENT_PREFIX
    )


def dump(config: OriginConfig) -> str:
    """Return the settings in force as YAML, secrets masked."""
    return settings.dump(config)
