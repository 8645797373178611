"""What the one OpenAPI document says of the other dialects: every address with its methods and scopes,
read from their tables, so that it cannot say what is not so. Their contracts describe the bodies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from origin.api.ove.table import ROUTES as OVE_ROUTES
from origin.api.vidispine.files import FileEndpoints
from origin.api.vidispine.signing import Signer
from origin.api.vidispine.table import Routes
from origin.api.vidispine.target import read_target


@dataclass(frozen=True, slots=True)
class Described:
    """One method at one address. scope: "controller/action"; None: none is asked for.

    open_to_all  answers without credentials, if only what is public
    """

    method: str
    path: str
    dialect: str
    summary: str
    scope: str | None = None
    open_to_all: bool = False

    @property
    def operation(self) -> str:
        """A name that no other operation has."""
        words = re.findall(r"[A-Za-z0-9]+", self.path)
        return "_".join([self.dialect, self.method.lower(), *words])


_CONTENT = "/content/{id}"
_BYTES = (
    Described(
        "GET", _CONTENT, "content", "Bytes of a file, by id or by storage and path", "files/show", True
    ),
    Described("PUT", _CONTENT, "content", "Put the bytes of a file", "files/create"),
    Described("DELETE", _CONTENT, "content", "Delete a file", "files/destroy"),
)
_SYSTEM = (
    Described("GET", "/healthz", "system", "Whether the service lives", open_to_all=True),
    Described("GET", "/readyz", "system", "Whether the service is ready", open_to_all=True),
    Described("GET", "/metrics", "system", "Metrics for Prometheus", open_to_all=True),
)

VIDISPINE_PATHS = (
    "/API/storage",
    "/API/storage/importable",
    "/API/storage/{storage}",
    "/API/storage/{storage}/freespace",
    "/API/storage/{storage}/status",
    "/API/storage/{storage}/rescan",
    "/API/storage/{storage}/method",
    "/API/storage/{storage}/method/{method}",
    "/API/storage/{storage}/type/{type}",
    "/API/storage/{storage}/importable",
    "/API/storage/file",
    "/API/storage/{storage}/file",
    "/API/storage/file/data",
    "/API/storage/{storage}/file/data",
    "/API/storage/file/{file}",
    "/API/storage/file/{file}/data",
    "/API/storage/file/{file}/import",
    "/API/storage/file/{file}/entity",
    "/API/storage/file/{file}/path",
    "/API/storage/file/{file}/abandon",
    "/API/storage/file/{file}/re-index",
    "/API/storage/file/{file}/state/{state}",
    "/API/storage/file/{file}/storage/{storage}",
    "/API/storage/file/{file}/import/assetmap",
    "/API/storage/{storage}/file/{file}",
    "/API/storage/file/path/{path}",
    "/API/storage/{storage}/file/path/{path}",
    "/API/file/{file}",
    "/API/job",
    "/API/job/problem",
    "/API/job/{job}",
    "/API/job/{job}/re-run",
    "/API/job/{job}/problem",
    "/API/jobtype",
    "/API/item/{item}",
    "/API/notification",
    "/API/notification/{notification}",
    "/API/token",
    "/API/user/{user}/token",
    "/API/version",
    "/APInoauth/is-online",
    "/APInoauth/selftest",
)
_SAMPLES = {"type": "LOCAL", "state": "CLOSED", "path": "a%2Fb", "user": "admin"}


def _vidispine() -> Iterable[Described]:
    routes = Routes(FileEndpoints(Signer(bytes(32))))
    for path in VIDISPINE_PATHS:
        sample = re.sub(r"\{(\w+)\}", lambda name: _SAMPLES.get(name[1], "VX-1"), path)
        for method, endpoint in routes.find(read_target(sample)).methods.items():
            scope = endpoint.scopes[0] if endpoint.scopes else None
            yield Described(method, path, "vidispine", _summary(endpoint.run), scope, endpoint.open_to_all)


def _ove() -> Iterable[Described]:
    for route in OVE_ROUTES:
        yield Described(
            route.method, route.path, "ove", _summary(route.run), route.scope, bool(route.anonymous)
        )


def _summary(run: Callable[..., object]) -> str:
    """Return the first line of its description, else its name."""
    text = (run.__doc__ or run.__name__.replace("_", " ")).strip()
    return text.partition("\n")[0].rstrip(".")


def described() -> list[Described]:
    """Return what all dialects but that of the document itself answer."""
    return [*_BYTES, *_vidispine(), *_ove(), *_SYSTEM]
