"""JSON Schemas of bodies and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from origin.api.nodeum.wire import (
    CONFLICTS,
    END_TYPES,
    POOL_CONTENTS,
    POOL_ON_DISK,
    POOL_TYPES,
    WORKFLOW_ACTIONS,
    WORKFLOW_TYPES,
)
from origin.domain.rights import SCOPES

Schema = dict[str, Any]

_PRIMITIVES = {"int": "integer", "str": "string", "bool": "boolean", "obj": "object"}


def _fields(text: str) -> Schema:
    """Read "name:type name:type?": int, str, bool, time, obj, strs; "?" may be null."""
    properties: Schema = {}
    for part in text.split():
        name, _, kind = part.partition(":")
        null = kind.endswith("?")
        kind = kind.rstrip("?")
        if kind == "time":
            schema: Schema = {"type": "string", "format": "date-time"}
        elif kind == "strs":
            schema = {"type": "array", "items": {"type": "string"}}
        elif kind == "objs":
            schema = {"type": "array", "items": {"type": "object"}}
        else:
            schema = {"type": _PRIMITIVES[kind]}
        if null:
            schema["type"] = [schema["type"], "null"]
        properties[name] = schema
    return properties


def _object(text: str, **more: Schema) -> Schema:
    """An object that has all these; additions may come at any time."""
    properties = {**_fields(text), **more}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _one_of(values: tuple[str, ...], *, null: bool = False) -> Schema:
    return {"enum": [*values, None]} if null else {"type": "string", "enum": list(values)}


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(plural: str, one: str) -> Schema:
    items = {"type": "array", "items": reference(one)}
    return _object("count:int", **{plural: items})


_FILE = (
    "id:int? name:str parent:int? primary_id:int permission:str? size:int? change_date:time?"
    " modification_date:time? access_date:time? uid:int? gid:int? in_cache:int? offline:int? extern:int"
)
_POOL = (
    "id:int name:str comment:str primary_id:int? storage_id:int uri:str? public:bool read_only:bool"
    " online:bool capacity:int? used:int files_count:int"
)
_TAPE = (
    "id:int tape_library_id:int? pool_id:int? barcode:str location:str? type:str? locked:bool scratch:bool"
    " cleaning:bool write_protect:bool mounted:bool ejected:bool known:bool mount_count:int? date_in:time?"
    " date_move:time? free:int? max:int? last_size_update:time? last_maintenance:time? last_repack:time?"
    " repack_status:bool hash:str? force_import_type:bool need_to_check:bool"
)
_TASK = (
    "id:int name:str comment:str? priority:int action:str activate:bool creation_date:time"
    " modification_date:time creation_username:str modification_username:str status:str job_started:time?"
    " job_finished:time? processed_size:int to_process_size:int"
)
_EXECUTION = (
    "id:str task_id:int name:str status:str log_time:time? job_started:time? job_finished:time?"
    " to_process_size:int processed_size:int to_process_files:int processed_files:int finalized_files:int"
    " estimation_time:int bandwidth:int"
)
_ENTRY = (
    "id:int file_path:str file_parent_path:str file_parent_paths_s:strs file_parent_paths_t:strs"
    " file_size:int? file_base_name:str file_in_cache:bool file_extension:str file_in_cache_date:time?"
    " volume_s_names:strs file_modification_date:time? file_hash:str? locations:objs project:str? asset:str?"
    " tags:strs metadata:obj url:str"
)
_SCOPE = {
    "type": "object",
    "properties": {
        "controller": {"type": "string", "enum": [*sorted(SCOPES), "*"]},
        "action": {"type": "string", "enum": [*sorted(set().union(*SCOPES.values())), "*"]},
    },
    "required": ["controller", "action"],
}
_WORKFLOW = {
    "workflow_type": _one_of(WORKFLOW_TYPES, null=True),
    "workflow_action": _one_of(WORKFLOW_ACTIONS, null=True),
    "source_type": _one_of(END_TYPES, null=True),
    "destination_type": _one_of(END_TYPES, null=True),
}
# Blank is what Python strips: some separators more than \s of a pattern.
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"[^\s\x1c-\x1f\x85]"}


def _body(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


_TASK_BODY = {
    "name": _NAME,
    "comment": {"type": ["string", "null"]},
    **_WORKFLOW,
    "priority": {"type": ["integer", "null"], "minimum": 0, "maximum": 2**53},
    "conflict_resolution": _one_of(CONFLICTS, null=True),
    "activate": {"type": ["boolean", "null"]},
}
_POOL_BODY = {
    "name": _NAME,
    "content": _one_of(POOL_ON_DISK),
    "comment": {"type": ["string", "null"]},
    "type": _one_of(POOL_TYPES, null=True),
    "uri": {"type": ["string", "null"]},
    "public": {"type": ["boolean", "null"]},
    "read_only": {"type": ["boolean", "null"]},
}
_POOL_CHANGE = {
    **{name: kind for name, kind in _POOL_BODY.items() if name != "uri"},
    "content": _one_of(POOL_ON_DISK, null=True),
}
_END_NAMES = {
    "pool_id": {"type": "integer"},
    "pool_name": {"type": "string"},
    "tape_id": {"type": "integer"},
    "tape_barcode": {"type": "string"},
}


def _end_body(what: str) -> Schema:
    """One of the names must be there; two are refused."""
    names: Schema = {f"{what}_id": {"type": "integer"}, f"{what}_path": {"type": "string"}, **_END_NAMES}
    return {"anyOf": [_body((name,), **names) for name in names]}


_SEARCH: Schema = {
    "type": "object",
    "properties": {
        "count": {"type": ["integer", "null"]},
        "count_at_least": {"type": "integer"},
        "next_cursor_mark": {"type": "string"},
        "files": {"type": "array", "items": reference("entry")},
        "facets": {"type": "object"},
        "ignored": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["count", "next_cursor_mark", "files"],
}
_ERROR_DETAIL = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "value": {}, "count": {"type": "integer"}},
    "required": ["error"],
}
_ERROR = _object(
    "messages:strs",
    details={
        "type": "object",
        "additionalProperties": {"type": "array", "items": reference("error_detail")},
    },
)
_END = "id:int container:obj? tape:obj? pool:obj?"

_KEY_BODY = _body(
    (),
    name=_NAME,
    api_key_scopes={"type": ["array", "null"], "items": _SCOPE},
    expires_at={"type": ["string", "null"], "format": "date-time"},
)

SCHEMAS: dict[str, Schema] = {
    "error": _ERROR,
    "error_detail": _ERROR_DETAIL,
    "error_v1": {
        **_ERROR,
        "properties": {
            "status": {"const": "ERROR"},
            "code": {"type": "integer"},
            **_ERROR["properties"],
        },
    },
    "entry": _object(_ENTRY),
    "search": _SEARCH,
    "search_v1": {
        **_SEARCH,
        "properties": {
            "status": {"const": "SUCCESS"},
            "code": {"const": 200},
            **_SEARCH["properties"],
        },
        "required": ["status", "code", *_SEARCH["required"]],
    },
    "file": _object(_FILE, type=_one_of(("file", "folder"))),
    "files": _list("files", "file"),
    "pool": _object(_POOL, type=_one_of(POOL_TYPES), content=_one_of(POOL_CONTENTS)),
    "pools": _list("pools", "pool"),
    "pool_body": _body(("name", "content"), **_POOL_BODY),
    "pool_change": _body((), **_POOL_CHANGE),
    "tape": _object(_TAPE),
    "tapes": _list("tapes", "tape"),
    "task": _object(_TASK, **_WORKFLOW, conflict_resolution=_one_of(CONFLICTS)),
    "tasks": _list("tasks", "task"),
    "task_body": _body(
        ("name", "workflow_action"), **{**_TASK_BODY, "workflow_action": _one_of(WORKFLOW_ACTIONS)}
    ),
    "task_change": _body((), **_TASK_BODY),
    "action": _object(
        "job_id:str progress:int total:int", status=_one_of(("queued", "working", "completed", "failed"))
    ),
    "task_execution": _object(_EXECUTION, **_WORKFLOW),
    "task_executions": _list("task_executions", "task_execution"),
    "task_source": _object(f"{_END} file:obj? range:obj? import_file:obj?"),
    "task_sources": _list("task_sources", "task_source"),
    "task_source_body": _end_body("file"),
    "task_destination": _object(f"{_END} folder:obj?"),
    "task_destinations": _list("task_destinations", "task_destination"),
    "task_destination_body": _end_body("folder"),
    "api_key": {
        **_object("id:int name:str key:str expires_at:time? created_at:time last_used_at:time?"),
    },
    "api_keys": _list("api_keys", "api_key"),
    "api_key_body": _KEY_BODY,
    "api_key_change": _KEY_BODY,
    "change": _object(
        "id:int at:time user:str api_key_id:int? method:str path:str dialect:str request_id:str address:str?"
    ),
    "changes": _list("changes", "change"),
    "version": _object("version:int openapi:str docs:str"),
    "openapi": {"type": "object"},
}
