"""Which endpoint answers which address and method: the dialect's table of routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from origin.api.vidispine import documents as d
from origin.api.vidispine import jobs, notifications, storages, system, transfers
from origin.api.vidispine.calls import Endpoint, FileReference, Run
from origin.api.vidispine.files import FileEndpoints
from origin.api.vidispine.problems import Problem, not_found, not_offered
from origin.api.vidispine.target import Target, is_id
from origin.api.vidispine.wire import Schema

Methods = Mapping[str, Endpoint]

# Addresses of the real system that this origin does not have (501).
_FILE_NOT_OFFERED = {"hash", "uri", "metadata", "restore", "shape", "analyze"}
_STORAGE_NOT_OFFERED = {"auto-import", "evacuate", "export", "metadata"}
_ROOT_NOT_OFFERED = {"storage-group", "transfer", "import"}


@dataclass(frozen=True, slots=True)
class Route:
    """Where a target leads. rest: arguments, as decoded segments."""

    methods: Methods
    storage_id: str | None = None
    file: FileReference | None = None
    rest: tuple[str, ...] = ()


def _read_only(run: Run, schema: Schema | None, *scopes: str, open_to_all: bool = False) -> Methods:
    return {"GET": Endpoint(run, schema, scopes, open_to_all=open_to_all)}


STORAGES: Methods = {
    "GET": Endpoint(storages.list_storages, d.STORAGE_LIST, ("stores/index",)),
    "POST": Endpoint(storages.create, d.STORAGE, ("stores/create",), admin=True),
}
STORAGE: Mapping[str, Methods] = {
    "": {
        "GET": Endpoint(storages.show, d.STORAGE, ("stores/show",)),
        "PUT": Endpoint(storages.update, d.STORAGE, ("stores/update",), admin=True),
        "DELETE": Endpoint(storages.delete, None, ("stores/destroy",), admin=True),
    },
    "freespace": _read_only(storages.freespace, None, "stores/show"),
    "status": _read_only(storages.status, None, "stores/show"),
    "rescan": {"POST": Endpoint(storages.rescan, None, ("stores/update",), admin=True)},
    "method": {
        "GET": Endpoint(storages.list_methods, d.STORAGE_METHOD_LIST, ("stores/show",)),
        "POST": Endpoint(storages.create_method, d.STORAGE_METHOD_LIST, ("stores/update",), admin=True),
        "PUT": Endpoint(
            storages.update_or_create_method, d.STORAGE_METHOD_LIST, ("stores/update",), admin=True
        ),
    },
}
STORAGE_TYPE: Methods = {"PUT": Endpoint(storages.set_type, None, ("stores/update",), admin=True)}
STORAGE_METHOD: Methods = {
    "GET": Endpoint(storages.show_method, d.STORAGE_METHOD_LIST, ("stores/show",)),
    "PUT": Endpoint(storages.update_method, d.STORAGE_METHOD_LIST, ("stores/update",), admin=True),
    "DELETE": Endpoint(storages.delete_method, None, ("stores/update",), admin=True),
}

JOBS: Methods = {
    "GET": Endpoint(jobs.list_jobs, d.JOB_LIST, ("jobs/index",)),
    "DELETE": Endpoint(jobs.remove, None, ("jobs/destroy",)),
}
JOB: Mapping[str, Methods] = {
    "": {
        "GET": Endpoint(jobs.show, d.JOB_STATUS, ("jobs/show",)),
        "PUT": Endpoint(jobs.set_priority, d.JOB_STATUS, ("jobs/update",)),
        "DELETE": Endpoint(jobs.abort, d.JOB_STATUS, ("jobs/destroy",)),
    },
    "re-run": {"POST": Endpoint(jobs.run_again, d.JOB, ("jobs/create",))},
    "problem": _read_only(jobs.problems, d.JOB_PROBLEM_LIST, "jobs/show"),
}
NOTIFICATIONS: Methods = {
    "GET": Endpoint(notifications.list_all, d.URI_LIST, ("notifications/index",)),
    "POST": Endpoint(notifications.create, d.URI_LIST, ("notifications/create",)),
}
NOTIFICATION: Methods = {
    "GET": Endpoint(notifications.show, d.NOTIFICATION, ("notifications/show",)),
    "DELETE": Endpoint(notifications.delete, None, ("notifications/destroy",)),
}
ALL_PROBLEMS = _read_only(jobs.problems, d.JOB_PROBLEM_LIST, "jobs/index")
JOB_TYPES = _read_only(jobs.list_types, d.URI_LIST, "jobs/index")
ITEM = _read_only(transfers.show_item, d.ITEM, "items/show")
TOKEN = _read_only(system.token, d.TOKEN, "api_keys/create")
VERSION = _read_only(system.version, d.VERSION)
ONLINE = _read_only(system.is_online, None, open_to_all=True)
SELFTEST = _read_only(system.selftest, None, open_to_all=True)


class Routes:
    """From segments to endpoints."""

    def __init__(self, files: FileEndpoints) -> None:
        create, update, destroy = ("files/create",), ("files/update",), ("files/destroy",)
        imports = ("items/create", "files/show")
        self.file_list: Methods = {
            "GET": Endpoint(files.list, d.FILE_LIST, ("files/index",), open_to_all=True),
            "POST": Endpoint(files.create, d.FILE_ID, create),
        }
        self.importable = _read_only(files.importable, d.IMPORTABLE_LIST, "stores/show")
        self.file_upload: Methods = {"POST": Endpoint(files.upload, d.FILE_ID, create)}
        self.file: Mapping[str, Methods] = {
            "": {
                "GET": Endpoint(files.show, d.FILE, ("files/show",), open_to_all=True),
                "DELETE": Endpoint(transfers.delete, d.JOB, destroy),
            },
            "data": {
                "GET": Endpoint(files.data, None, ("files/show",), open_to_all=True),
                "POST": Endpoint(files.replace, d.FILE_ID, update),
            },
            "import": {"POST": Endpoint(transfers.import_file, d.JOB, imports)},
            "entity": {"DELETE": Endpoint(files.forget, None, destroy)},
            "path": {"POST": Endpoint(files.set_path, d.FILE_ID, update)},
            "abandon": {"PUT": Endpoint(files.abandon, None, update)},
            "re-index": {"PUT": Endpoint(files.reindex, None, update)},
        }
        self.file_package: Methods = {"POST": Endpoint(transfers.import_package, d.JOB, imports)}
        self.file_relocation: Methods = {"POST": Endpoint(transfers.relocate, d.JOB, update)}
        self.file_state: Methods = {"PUT": Endpoint(files.set_state, d.FILE_ID, update)}

    def find(self, target: Target) -> Route:
        """Return the route. Raises Problem 404 for none, 501 for what the real system alone has."""
        if any(segment in (".", "..") for segment in _outside_paths(target.segments)):
            raise _no_route(target)
        match target.segments:
            case ("storage", *rest):
                return self._storage(target, rest)
            case ("file", id, *rest) if target.api and is_id(id):
                return self._file(target, None, FileReference("id", id), rest)
            case ("job",) if target.api:
                return Route(JOBS)
            case ("job", "problem") if target.api:
                return Route(ALL_PROBLEMS)
            case ("job", id) if target.api and is_id(id):
                return Route(JOB[""], rest=(id,))
            case ("job", id, name) if target.api and is_id(id) and name in JOB:
                return Route(JOB[name], rest=(id,))
            case ("jobtype",) if target.api:
                return Route(JOB_TYPES)
            case ("item", id) if target.api and is_id(id):
                return Route(ITEM, rest=(id,))
            case ("notification",) if target.api:
                return Route(NOTIFICATIONS)
            case ("notification", id) if target.api and is_id(id):
                return Route(NOTIFICATION, rest=(id,))
            case ("token",) if target.api:
                return Route(TOKEN)
            case ("user", name, "token") if target.api:
                return Route(TOKEN, rest=(name,))
            case ("version",) if target.api:
                return Route(VERSION)
            case ("APInoauth", "is-online"):
                return Route(ONLINE)
            case ("APInoauth", "selftest"):
                return Route(SELFTEST)
            case (name, *_) if target.api and name in _ROOT_NOT_OFFERED:
                raise not_offered()
        raise _no_route(target)

    def _storage(self, target: Target, rest: list[str]) -> Route:
        storage_id = rest.pop(0) if rest and is_id(rest[0]) else None
        match rest:
            case ["file", *tail]:
                return self._files(target, storage_id, tail)
            case ["importable"]:
                return Route(self.importable, storage_id)
            case [] if storage_id is None:
                return Route(STORAGES)
            case [name, *_] if storage_id is None and name in _ROOT_NOT_OFFERED:
                raise not_offered()
            case _ if storage_id is None:
                raise _no_route(target)
            case []:
                return Route(STORAGE[""], storage_id)
            case [name] if name in STORAGE:
                return Route(STORAGE[name], storage_id)
            case ["type", name]:
                return Route(STORAGE_TYPE, storage_id, rest=(name,))
            case ["method", id]:
                return Route(STORAGE_METHOD, storage_id, rest=(id,))
            case [name, *_] if name in _STORAGE_NOT_OFFERED:
                raise not_offered()
        raise _no_route(target)

    def _files(self, target: Target, storage_id: str | None, rest: list[str]) -> Route:
        match rest:
            case []:
                return Route(self.file_list, storage_id)
            case ["data"]:
                return Route(self.file_upload, storage_id)
            case ["importable"]:
                return Route(self.importable, storage_id)
            case ["import", "assetmap"]:
                path = target.params.text("path") or ""  # "" names no file: 404
                return Route(self.file_package, storage_id, FileReference("path", path))
            case [("path" | "uri") as kind, value, *tail]:
                return self._file(target, storage_id, FileReference(kind, value), tail)
            case [id, *tail] if is_id(id):
                return self._file(target, storage_id, FileReference("id", id), tail)
        raise _no_route(target)

    def _file(self, target: Target, storage_id: str | None, file: FileReference, rest: list[str]) -> Route:
        match rest:
            case []:
                return Route(self.file[""], storage_id, file)
            case [name] if name in self.file:
                return Route(self.file[name], storage_id, file)
            case ["state", name]:
                return Route(self.file_state, storage_id, file, (name,))
            case ["storage", id]:
                return Route(self.file_relocation, storage_id, file, (id,))
            case ["import", "assetmap"]:
                return Route(self.file_package, storage_id, file)
            case [name, *_] if name in _FILE_NOT_OFFERED:
                raise not_offered()
        raise _no_route(target)


def _outside_paths(segments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the segments that are no `{path}` and no `{uri}`."""
    for place in range(len(segments) - 2):
        if segments[place] == "file" and segments[place + 1] in ("path", "uri"):
            return segments[: place + 2] + segments[place + 3 :]
    return segments


def _no_route(target: Target) -> Problem:
    return not_found("resource", "/" + "/".join(target.segments))
