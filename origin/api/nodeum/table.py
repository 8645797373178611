"""Every route of the dialect, once: what answers, what scope it needs, what the documents say of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from origin.api.nodeum import audit, catalog, docs, ends, files, keys, pools, tasks
from origin.api.nodeum.calls import Parameter, Route
from origin.api.nodeum.wire import (
    EXECUTION_FIELDS,
    FILE_FIELDS,
    KEY_FIELDS,
    POOL_FIELDS,
    RUN_FILE_FIELDS,
    TAPE_FIELDS,
    TASK_FIELDS,
    kinds,
)
from origin.core.conditions import Kind
from origin.core.search import FACETS, Field, Sort

_WHOLE = {"type": "integer", "minimum": 1}
_NONE_UP = {"type": "integer", "minimum": 0}


def _paging(least: dict[str, Any]) -> tuple[Parameter, ...]:
    return (
        Parameter("page", "Number of the page, from 1.", _WHOLE),
        Parameter("per_page", "Entries of a page, at most 100; default 20.", least),
        Parameter("limit", "As per_page, and wins over it.", least),
        Parameter("offset", "Entries to leave out; wins over page.", _NONE_UP),
    )


PAGING = _paging(_WHOLE)
_NUMBER = "-?[0-9]{1,18}"
_MOMENT = "[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?"
_COMPARED = "(!=|>=|<=|=|>|<)?"
_PATTERNS = {
    Kind.NUMBER: f"^({_COMPARED}{_NUMBER}|!?><{_NUMBER}([|]{_NUMBER}){{0,9}})$",
    Kind.FLAG: "^(!=|=)?(true|false|0|1)$",
    Kind.TIME: f"^{_COMPARED}{_MOMENT}$",
}


def _sorts(fields: Iterable[str], separators: str = ",|") -> dict[str, Any]:
    one = f"({'|'.join(fields)})(:asc|:desc)?"
    more = f"([{separators}]{one}){{0,3}}" if separators else ""
    return {"type": "string", "pattern": f"^({one}{more})?$"}


def _filter(kind: Kind) -> dict[str, Any]:
    """Patterns are narrower than what is taken where no pattern can say all of it."""
    return {"type": "string", "pattern": _PATTERNS[kind]} if kind in _PATTERNS else {"type": "string"}


def _list(fields: dict[str, Kind], more: dict[str, Kind] | None = None) -> tuple[Parameter, ...]:
    """What a list takes: paging, order, and a filter for each field. more: fields not to sort by."""
    sort = "Fields of the list with :asc or :desc, joined by a comma or a pipe."
    filters = [
        Parameter(name, f"Filter: {kind.value}, with a prefix such as >= or ><a|b.", _filter(kind))
        for name, kind in {**fields, **(more or {})}.items()
    ]
    return (*PAGING, Parameter("sort_by", sort, _sorts(fields)), *filters)


_TASK_FILTERS = kinds(
    number="source_pool_id destination_pool_id source_tape_id destination_tape_id",
    text="source_pool_name destination_pool_name source_tape_barcode destination_tape_barcode",
)
_RANGE = "A value, a..b, or a prefix > >= < <= = before one."
_SIZE = "[0-9]{1,15}"


def _range(unit: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^((>=|<=|=|>|<)?{unit}|{unit}[.][.]{unit})?$"}


_TEXT = {"type": "string"}
_SEARCH_FIELDS: dict[Field, tuple[str, dict[str, Any]]] = {
    Field.VOLUME: ("A storage among the locations; several are joined by a comma or a pipe.", _TEXT),
    Field.EXTENSION: ("Extension, with or without its dot.", _TEXT),
    Field.SIZE: ("Bytes. " + _RANGE, _range(_SIZE)),
    Field.MODIFIED: ("A year, month, day or time, UTC. " + _RANGE, _range(_MOMENT)),
    Field.CACHED_DATE: ("A year, month, day or time, UTC. " + _RANGE, _range(_MOMENT)),
    Field.CACHED: (
        "Whether an online storage has a copy.",
        {"type": "string", "enum": ["true", "false", ""]},
    ),
    Field.HASH: (
        "SHA-1 or SHA-256, hexadecimal.",
        {"type": "string", "pattern": "^([0-9a-f]{40}|[0-9a-f]{64})?$"},
    ),
    Field.NAME: ("The base name, equal.", _TEXT),
    Field.PATH: ("The whole path, equal.", _TEXT),
    Field.PARENT: ("The folder's path, equal.", _TEXT),
    Field.UNDER: ("A folder, for all below it on any storage.", _TEXT),
    Field.PROJECT: ("Id of a project.", _TEXT),
    Field.ASSET: ("Id of an asset.", _TEXT),
    Field.TAG: ("A tag.", _TEXT),
}
_FACETS = f"({'|'.join(FACETS)})"
_SEARCH: tuple[Parameter, ...] = (
    Parameter(
        "q",
        "Words, prefixes (A9C00*), phrases in quotes, and field:value; all must fit.",
        {"type": "string", "maxLength": 1000},
    ),
    Parameter("cursor_mark", "* for the first page, then the next_cursor_mark of the page before."),
    Parameter("rows", "Entries of a page, at most 100; default 20; 0 for none.", _NONE_UP),
    *_paging(_NONE_UP),
    Parameter("sort", "What entries are ordered by, with :asc or :desc.", _sorts(Sort, "")),
    *(Parameter(field.value, text, schema) for field, (text, schema) in _SEARCH_FIELDS.items()),
    Parameter(
        "facet",
        "Some of " + ", ".join(FACETS) + ", joined by a comma.",
        {"type": "string", "pattern": f"^({_FACETS}([,|]{_FACETS}){{0,4}})?$"},
    ),
    Parameter("facet_limit", "Buckets of a facet.", {"type": "integer", "minimum": 1, "maximum": 100}),
)

_MADE = (201, 400, 415, 422)
_SET = (200, 400, 404, 412, 415, 422)
_ONE = (200, 304, 404)
_MANY = (200, 304, 400)
_MANY_OF = (200, 304, 400, 404)


def _get(path: str, run: Any, operation: str, scope: str, summary: str, answer: str, **more: Any) -> Route:
    more.setdefault("statuses", _ONE)
    return Route("GET", path, run, operation, scope, summary, answer, **more)


def _files() -> tuple[Route, ...]:
    some = {"parameters": _list(FILE_FIELDS), "statuses": _MANY_OF}
    return (
        _get(
            "/api/v2/files",
            files.list_roots,
            "index_files",
            "files/index",
            "Root folders, one for each storage",
            "files",
            **some,
        ),
        _get("/api/v2/files/{file}", files.show, "show_file", "files/show", "One file or folder", "file"),
        _get(
            "/api/v2/files/{file}/children",
            files.list_children,
            "files_children",
            "files/index",
            "What lies directly in a folder",
            "files",
            **some,
        ),
        _get(
            "/api/v2/pools/{pool}/files",
            files.list_in_pool,
            "index_files_by_pool",
            "files/index",
            "What lies in the root folder of a pool",
            "files",
            **some,
        ),
        _get(
            "/api/v2/pools/{pool}/files/{file}",
            files.show,
            "show_file_by_pool",
            "files/show",
            "One file or folder of a pool",
            "file",
        ),
        _get(
            "/api/v2/pools/{pool}/files/{file}/children",
            files.list_children,
            "files_children_by_pool",
            "files/index",
            "What lies directly in a folder of a pool",
            "files",
            **some,
        ),
        _get(
            "/api/v2/pools/{pool}/files/{file}/tapes",
            files.list_tapes,
            "index_tapes_by_file_by_pool",
            "files/tapes",
            "The tapes that hold a copy of a file",
            "tapes",
            parameters=_list(TAPE_FIELDS),
            statuses=_MANY_OF,
        ),
    )


def _pools() -> tuple[Route, ...]:
    tapes = {"parameters": _list(TAPE_FIELDS), "statuses": _MANY_OF}
    return (
        _get(
            "/api/v2/pools",
            pools.index,
            "index_pools",
            "pools/index",
            "Pools",
            "pools",
            parameters=_list(POOL_FIELDS),
            statuses=_MANY,
        ),
        Route(
            "POST",
            "/api/v2/pools",
            pools.create,
            "create_pool",
            "pools/create",
            "Make a pool",
            "pool",
            body="pool_body",
            statuses=(*_MADE, 409),
        ),
        _get("/api/v2/pools/{pool}", pools.show, "show_pool", "pools/show", "One pool", "pool"),
        Route(
            "PUT",
            "/api/v2/pools/{pool}",
            pools.update,
            "update_pool",
            "pools/update",
            "Change a pool",
            "pool",
            body="pool_change",
            statuses=(*_SET, 409),
        ),
        Route(
            "DELETE",
            "/api/v2/pools/{pool}",
            pools.destroy,
            "destroy_pool",
            "pools/destroy",
            "Remove a pool without files",
            "nothing",
            statuses=(204, 404, 409, 412),
        ),
        _get("/api/v2/tapes", pools.list_tapes, "index_tapes", "tapes/index", "Tapes", "tapes", **tapes),
        _get("/api/v2/tapes/{tape}", pools.show_tape, "show_tape", "tapes/show", "One tape", "tape"),
        _get(
            "/api/v2/pools/{pool}/tapes",
            pools.list_tapes_of_pool,
            "index_tapes_by_pool",
            "tapes/index",
            "Tapes of a pool",
            "tapes",
            **tapes,
        ),
        _get(
            "/api/v2/pools/{pool}/tapes/{tape}",
            pools.show_tape_of_pool,
            "show_tape_by_pool",
            "tapes/show",
            "One tape of a pool",
            "tape",
        ),
    )


def _tasks() -> tuple[Route, ...]:
    one = "/api/v2/tasks/{task}"
    runs = {
        "parameters": (
            *_list(EXECUTION_FIELDS),
            Parameter("complete_list", "false: only each task's last successful one.", {"type": "boolean"}),
        ),
        "statuses": _MANY_OF,
    }
    job = (
        Parameter(
            "job_id",
            "The job_id of the answer that started it.",
            {"type": "string", "pattern": "^00000000-0000-8000-8000-[0-9a-f]{12}$"},
            required=True,
        ),
    )
    return (
        _get(
            "/api/v2/tasks",
            tasks.index,
            "index_tasks",
            "tasks/index",
            "Tasks",
            "tasks",
            parameters=_list(TASK_FIELDS, _TASK_FILTERS),
            statuses=_MANY,
        ),
        Route(
            "POST",
            "/api/v2/tasks",
            tasks.create,
            "create_task",
            "tasks/create",
            "Make a task",
            "task",
            body="task_body",
            statuses=_MADE,
        ),
        _get(one, tasks.show, "show_task", "tasks/show", "One task", "task"),
        Route(
            "PUT",
            one,
            tasks.update,
            "update_task",
            "tasks/update",
            "Change a task",
            "task",
            body="task_change",
            statuses=_SET,
        ),
        Route(
            "DELETE",
            one,
            tasks.destroy,
            "destroy_task",
            "tasks/destroy",
            "Remove a task; one that runs is stopped first",
            "task",
            statuses=(202, 204, 404, 412),
        ),
        Route(
            "PUT",
            f"{one}/action/run",
            tasks.run,
            "run_task",
            "tasks/action",
            "Start a run",
            "action",
            statuses=(202, 404, 409, 422),
        ),
        _get(
            f"{one}/action/run",
            tasks.poll_run,
            "run_task_result",
            "tasks/action",
            "How a run stands",
            "action",
            parameters=job,
            statuses=(200, 202, 304, 400, 404),
        ),
        Route(
            "PUT",
            f"{one}/action/stop",
            tasks.stop,
            "stop_task",
            "tasks/action",
            "Stop the run",
            "action",
            statuses=(202, 404, 409),
        ),
        _get(
            f"{one}/action/stop",
            tasks.poll_stop,
            "stop_task_result",
            "tasks/action",
            "Whether the run has stopped",
            "action",
            parameters=job,
            statuses=(200, 202, 304, 400, 404),
        ),
        *(
            Route(
                "PUT",
                f"{one}/action/{word}",
                tasks.not_offered,
                f"{word}_task",
                "tasks/action",
                "Not offered",
                "action",
                statuses=(404, 422),
            )
            for word in ("pause", "resume")
        ),
        *(
            _get(
                f"{one}/action/{word}",
                tasks.not_offered,
                f"{word}_task_result",
                "tasks/action",
                "Not offered",
                "action",
                parameters=job,
                statuses=(404, 422),
            )
            for word in ("pause", "resume")
        ),
        _get(
            "/api/v2/task_executions",
            tasks.list_executions,
            "index_task_executions",
            "task_executions/index",
            "Runs of tasks",
            "task_executions",
            **runs,
        ),
        _get(
            "/api/v2/task_executions/{execution}",
            tasks.show_execution,
            "show_task_execution",
            "task_executions/show",
            "One run",
            "task_execution",
        ),
        _get(
            "/api/v2/task_executions/{execution}/files",
            tasks.list_execution_files,
            "index_files_by_task_execution",
            "task_executions/show",
            "The files of a run, with their results",
            "files",
            parameters=_list(RUN_FILE_FIELDS),
            statuses=_MANY_OF,
        ),
        _get(
            f"{one}/task_executions",
            tasks.list_executions,
            "index_task_executions_by_task",
            "task_executions/index",
            "Runs of a task",
            "task_executions",
            **runs,
        ),
        _get(
            f"{one}/task_executions/{{execution}}",
            tasks.show_execution,
            "show_task_execution_by_task",
            "task_executions/show",
            "One run of a task",
            "task_execution",
        ),
        *_ends(one, ends.SOURCE),
        *_ends(one, ends.DESTINATION),
    )


def _ends(one: str, kind: str) -> tuple[Route, ...]:
    name = f"task_{kind}"
    path, controller = f"{one}/{name}s", f"{name}s"
    return (
        _get(
            path,
            ends.index(kind),
            f"index_{name}s",
            f"{controller}/index",
            f"The {kind}s of a task",
            f"{name}s",
            parameters=(*PAGING, Parameter("sort_by", "id, with :asc or :desc.", _sorts(["id"]))),
            statuses=_MANY_OF,
        ),
        Route(
            "POST",
            path,
            ends.create(kind),
            f"create_{name}",
            f"{controller}/create",
            f"Add a {kind}",
            name,
            body=f"{name}_body",
            statuses=(*_MADE, 404),
        ),
        _get(f"{path}/{{end}}", ends.show(kind), f"show_{name}", f"{controller}/show", f"One {kind}", name),
        Route(
            "PUT",
            f"{path}/{{end}}",
            ends.update(kind),
            f"update_{name}",
            f"{controller}/update",
            f"Change a {kind}",
            name,
            body=f"{name}_body",
            statuses=_SET,
        ),
        Route(
            "DELETE",
            f"{path}/{{end}}",
            ends.destroy(kind),
            f"destroy_{name}",
            f"{controller}/destroy",
            f"Remove a {kind}",
            "nothing",
            statuses=(204, 404),
        ),
    )


def _keys() -> tuple[Route, ...]:
    path = "/api/v2/users/me/api_keys"
    one = f"{path}/{{key}}"
    return (
        _get(
            path,
            keys.index,
            "index_api_keys",
            "api_keys/index",
            "Your API keys",
            "api_keys",
            parameters=_list(KEY_FIELDS),
            statuses=_MANY,
        ),
        Route(
            "POST",
            path,
            keys.create,
            "create_api_key",
            "api_keys/create",
            "Make an API key, shown whole this once",
            "api_key",
            body="api_key_body",
            statuses=_MADE,
        ),
        _get(one, keys.show, "show_api_key", "api_keys/show", "One API key", "api_key"),
        Route(
            "PUT",
            one,
            keys.update,
            "update_api_key",
            "api_keys/update",
            "Change an API key; scopes are replaced as a whole",
            "api_key",
            body="api_key_change",
            statuses=_SET,
        ),
        Route(
            "DELETE",
            one,
            keys.destroy,
            "destroy_api_key",
            "api_keys/destroy",
            "Remove an API key",
            "nothing",
            statuses=(204, 404, 412),
        ),
    )


def _about() -> tuple[Route, ...]:
    def route(path: str, run: Any, operation: str, summary: str, answer: str) -> Route:
        return Route("GET", path, run, operation, None, summary, answer)

    return (
        route("/api/v2", docs.version, "show_version", "Version and documents", "version"),
        route("/api/v2/openapi.json", docs.openapi_json, "show_openapi_json", "This document", "openapi"),
        route(
            "/api/v2/openapi.yaml",
            docs.openapi_yaml,
            "show_openapi_yaml",
            "This document as YAML",
            "openapi_yaml",
        ),
        route("/api/docs", docs.page, "show_docs", "A page for people, made from this document", "html"),
    )


ROUTES: tuple[Route, ...] = (
    _get(
        "/api/catalog/search",
        catalog.search_v1,
        "search_catalog_v1",
        "catalog/search",
        "Search the catalog (version 1)",
        "search_v1",
        parameters=_SEARCH,
        statuses=_MANY,
    ),
    _get(
        "/api/v2/catalog/search",
        catalog.search,
        "search_catalog",
        "catalog/search",
        "Search the catalog",
        "search",
        parameters=_SEARCH,
        statuses=_MANY,
    ),
    *_files(),
    *_pools(),
    *_tasks(),
    *_keys(),
    _get(
        "/api/v2/audit",
        audit.index,
        "index_changes",
        "audit/index",
        "Who changed what, and when; newest first; for administrators",
        "changes",
        parameters=(
            *PAGING,
            *(Parameter(n, f"Filter: {k.value}.", _filter(k)) for n, k in audit.FIELDS.items()),
        ),
        statuses=_MANY,
    ),
    *_about(),
)
