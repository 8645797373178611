"""Values as this dialect writes them. Enumerations are the SDK's: one other word and it loses a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from origin.core.conditions import Kind
from origin.core.search import Facets
from origin.core.uris import asset_path
from origin.domain.model import File, Storage, Token
from origin.domain.states import FINAL, JobState
from origin.domain.tasks import Task, TaskFile, TaskRun, TaskState
from origin.services.search import Entry, Result
from origin.services.tree import Node


def time_of(ms: int | None) -> str | None:
    """Return `2019-04-11T12:57:48Z`, None for None and for what no calendar has."""
    if ms is None or not -62_135_596_800_000 <= ms < 253_402_300_800_000:
        return None
    return datetime.fromtimestamp(ms // 1000, UTC).replace(tzinfo=None).isoformat() + "Z"


def split_name(path: str) -> tuple[str, str]:
    """Return the last segment as base name and extension, the dot with the extension."""
    name = path.rpartition("/")[2]
    base, dot, extension = name.rpartition(".")
    return (base, dot + extension) if dot else (name, "")


def content_url(public_url: str, storage: Storage, path: str, n: int) -> str:
    """Return where the edge serves the bytes. n: of the File."""
    return f"{public_url.rstrip('/')}/assets/{asset_path(storage, path, n)}"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def kinds(**names: str) -> dict[str, Kind]:
    """Return field → kind, of "kind" → fields with blanks between."""
    return {name: Kind(kind) for kind, listed in names.items() for name in listed.split()}


# --- files ----------------------------------------------------------------------------------------

FILE_FIELDS = {
    "file_id": Kind.NUMBER,
    "name": Kind.TEXT,
    "type": Kind.TEXT,
    "permission": Kind.TEXT,
    "size": Kind.NUMBER,
    "change_date": Kind.TIME,
    "modification_date": Kind.TIME,
    "access_date": Kind.TIME,
    "gid": Kind.NUMBER,
    "uid": Kind.NUMBER,
}


def file_value(node: Node) -> dict[str, Any]:
    """One of a list: a File or a folder."""
    file = node.file
    folder = node.folder
    cached = None if node.cached is None else int(node.cached)
    return {
        "id": file.n if file else folder.n if folder else None,
        "name": file.name if file else (folder.name if folder and folder.path else node.storage.name),
        "parent": node.parent,
        "primary_id": node.storage.n,
        "type": "file" if file else "folder",
        "permission": None,
        "size": file.size if file and file.size >= 0 else None,
        "change_date": None,
        "modification_date": time_of(file.timestamp_ms) if file else None,
        "access_date": None,
        "uid": None,
        "gid": None,
        "in_cache": cached,
        "offline": None if cached is None else 1 - cached,
        "extern": 0,
    }


def single_file_value(
    node: Node, locations: Sequence[tuple[Storage, File]], public_url: str
) -> dict[str, Any]:
    """With what only the single answer has."""
    path = f"/{node.storage.name}/{node.path}".rstrip("/")
    value = {**file_value(node), "file_path": path}
    if node.file is None:
        return {**value, "state": None, "file_hash": None, "url": None, "locations": []}
    return {
        **value,
        "state": node.file.state.value,
        "file_hash": node.file.sha1,
        "url": content_url(public_url, node.storage, node.file.path, node.file.n),
        "locations": [location_value(s, f.n, f.path, f.state.value) for s, f in locations],
    }


def location_value(storage: Storage, file_n: int, path: str, state: str) -> dict[str, Any]:
    return {
        "storage_id": storage.n,
        "name": storage.name,
        "online": not storage.archive,
        "file_id": file_n,
        "path": path,
        "state": state,
        "verified_at": None,
    }


# --- catalog --------------------------------------------------------------------------------------


def entry_value(entry: Entry, storages: Mapping[int, Storage], public_url: str) -> dict[str, Any]:
    primary = storages[entry.storage_n]
    seen = [copy for copy in entry.locations if copy.storage_n in storages]
    first = [copy for copy in seen if copy.file_n == entry.id]
    others = [copy for copy in seen if copy.file_n != entry.id]
    others.sort(key=lambda copy: storages[copy.storage_n].name)
    copies = first + others
    base, extension = split_name(entry.path)
    parents = [f"{storages[c.storage_n].name}/{c.path}".rpartition("/")[0] for c in copies]
    path = f"{primary.name}/{entry.path}"
    return {
        "id": entry.id,
        "file_path": path,
        "file_parent_path": path.rpartition("/")[0],
        "file_parent_paths_s": parents,
        "file_parent_paths_t": parents,
        "file_size": entry.size if entry.size >= 0 else None,
        "file_base_name": base,
        "file_in_cache": entry.cached_ms is not None,
        "file_extension": extension,
        "file_in_cache_date": time_of(entry.cached_ms),
        "volume_s_names": [storages[c.storage_n].name for c in copies],
        "file_modification_date": time_of(entry.modified_ms),
        "file_hash": entry.sha1,
        "locations": [location_value(storages[c.storage_n], c.file_n, c.path, c.state) for c in copies],
        "project": entry.project,
        "asset": entry.asset,
        "tags": list(entry.tags),
        "metadata": dict(entry.metadata),
        "url": content_url(public_url, primary, entry.path, entry.id),
    }


def result_value(result: Result, public_url: str) -> dict[str, Any]:
    value: dict[str, Any] = {"count": result.count}
    if result.count is None:
        value["count_at_least"] = result.count_at_least
    value["next_cursor_mark"] = result.mark
    value["files"] = [entry_value(entry, result.storages, public_url) for entry in result.entries]
    if result.facets is not None:
        value["facets"] = facets_value(result.facets)
    return value


def facets_value(facets: Facets) -> dict[str, Any]:
    value: dict[str, Any] = {"files_count": facets.files_count, "file_size_sum": facets.file_size_sum}
    for field, buckets in facets.buckets.items():
        value[field.value] = {
            "buckets": [
                {"val": b.val, "files_count": b.files_count, "file_size_sum": b.file_size_sum}
                for b in buckets
            ]
        }
    return value


# --- pools and tapes ------------------------------------------------------------------------------

POOL_TYPES = ("active_archive", "offline_archive", "data_exchange", "scratch", "data_enrichment", "primary")
POOL_CONTENTS = ("tape", "nas", "cloud")
POOL_ON_DISK = ("tape", "nas")
POOL_FIELDS = {
    "id": Kind.NUMBER,
    "name": Kind.TEXT,
    "comment": Kind.TEXT,
    "type": Kind.TEXT,
    "content": Kind.TEXT,
    "primary_id": Kind.NUMBER,
}
COMMENT, LABEL = "nodeum.comment", "nodeum.type"
"""Keys of a storage's metadata that hold what only this dialect knows."""


def pool_value(storage: Storage, *, used: int, files: int, writable: bool) -> dict[str, Any]:
    content = "tape" if storage.archive else "nas"
    label = storage.metadata.get(LABEL)
    usual = "offline_archive" if content == "tape" else "primary"
    return {
        "id": storage.n,
        "name": storage.name,
        "comment": storage.metadata.get(COMMENT, ""),
        "type": label if label in POOL_TYPES else usual,
        "content": content,
        "primary_id": None,
        "storage_id": storage.n,
        "uri": storage.methods[0].uri if storage.methods else None,
        "public": storage.public,
        "read_only": not writable,
        "online": not storage.archive,
        "capacity": storage.capacity,
        "used": used,
        "files_count": files,
    }


TAPE_FIELDS = kinds(
    number="id tape_library_id pool_id mount_count free max",
    text="barcode location type hash",
    flag="locked scratch cleaning write_protect mounted ejected known repack_status force_import_type"
    " need_to_check",
    time="date_in date_move last_size_update last_maintenance last_repack",
)


def tape_value(
    storage: Storage, *, used: int, files: int, writable: bool, mounted: bool, most: int | None
) -> dict[str, Any]:
    return {
        "id": storage.n,
        "tape_library_id": None,
        "pool_id": storage.n,
        "barcode": storage.name,
        "location": None,
        "type": "unknown",
        "locked": False,
        "scratch": files == 0,
        "cleaning": False,
        "write_protect": not writable,
        "mounted": mounted,
        "ejected": False,
        "known": True,
        "mount_count": None,
        "date_in": time_of(storage.created_ms),
        "date_move": None,
        "free": None if most is None else max(0, most - used),
        "max": most,
        "last_size_update": None,
        "last_maintenance": None,
        "last_repack": None,
        "repack_status": False,
        "hash": None,
        "force_import_type": False,
        "need_to_check": False,
    }


# --- tasks ----------------------------------------------------------------------------------------

WORKFLOW_TYPES = _words(
    "active_archive offline_archive data_exchange data_migration maintenance data_enrichment"
)
WORKFLOW_ACTIONS = _words(
    "copy move erase scan rehydratation format check_consistency duplication cache_cleaning ejection"
    " get_index full_backup incremental_backup"
)
END_TYPES = _words("container primary_nas secondary_nas primary_cloud secondary_cloud secondary_tape")
CONFLICTS = ("rename", "overwrite", "ignore")

TASK_FIELDS = kinds(
    number="id priority processed_size to_process_size",
    text="name comment workflow_type workflow_action source_type destination_type conflict_resolution action"
    " creation_username modification_username status",
    flag="activate",
    time="creation_date modification_date job_started job_finished",
)

EXECUTION_FIELDS = kinds(
    number="id task_id to_process_size processed_size to_process_files processed_files finalized_files"
    " estimation_time bandwidth",
    text="name workflow_type workflow_action source_type destination_type status",
    time="log_time job_started job_finished",
)


def run_status(state: TaskState | None) -> str:
    """Return the status of an execution, and of a task by its last run."""
    if state is None:
        return "not_activated"
    if state.state in (JobState.READY, JobState.WAITING):
        return "in_queue"
    if state.state is JobState.STARTED:
        return "calculating" if state.step < 1 else "in_progress"
    if state.state is JobState.ABORTED:
        return "stopped_by_user" if state.aborted_by_user else "stopped_by_system"
    return {
        JobState.HOLD: "paused",
        JobState.ABORTED_PENDING: "in_progress",
        JobState.FINISHED: "done",
        JobState.FINISHED_WARNING: "finished_with_warnings",
        JobState.FAILED_TOTAL: "error",
    }[state.state]


def action_status(state: JobState) -> str:
    if state in (JobState.FINISHED, JobState.FINISHED_WARNING):
        return "completed"
    if state in FINAL:
        return "failed"
    return "working" if state in (JobState.STARTED, JobState.ABORTED_PENDING) else "queued"


def task_value(task: Task) -> dict[str, Any]:
    last = task.last
    held = task.fields.get
    return {
        "id": task.n,
        "name": task.name,
        "comment": held("comment"),
        "workflow_type": held("workflow_type"),
        "workflow_action": held("workflow_action"),
        "source_type": held("source_type"),
        "destination_type": held("destination_type"),
        "priority": held("priority", 5),
        "conflict_resolution": held("conflict_resolution", "rename"),
        "action": "noop",
        "activate": held("activate", True),
        "creation_date": time_of(task.created_ms),
        "modification_date": time_of(task.modified_ms),
        "creation_username": task.user,
        "modification_username": task.modified_by,
        "status": run_status(last),
        "job_started": time_of(last.started_ms) if last else None,
        "job_finished": time_of(last.finished_ms) if last else None,
        "processed_size": last.done_bytes if last else 0,
        "to_process_size": (last.total_bytes or 0) if last else 0,
    }


def execution_value(run: TaskRun, now_ms: int) -> dict[str, Any]:
    state = run.state
    total = state.total_bytes or 0
    ended = state.finished_ms or now_ms
    seconds = max(1, (ended - state.started_ms) // 1000) if state.started_ms is not None else 0
    bandwidth = state.done_bytes // seconds if seconds else 0
    left = 0 if state.state in FINAL or not bandwidth else max(0, total - state.done_bytes) // bandwidth
    return {
        "id": str(state.job_n),
        "task_id": run.task_n,
        "name": run.name,
        "workflow_type": run.fields.get("workflow_type"),
        "workflow_action": run.fields.get("workflow_action"),
        "source_type": run.fields.get("source_type"),
        "destination_type": run.fields.get("destination_type"),
        "status": run_status(state),
        "log_time": time_of(state.finished_ms or state.started_ms or state.created_ms),
        "job_started": time_of(state.started_ms),
        "job_finished": time_of(state.finished_ms),
        "to_process_size": total,
        "processed_size": state.done_bytes,
        "to_process_files": run.files,
        "processed_files": run.ended,
        "finalized_files": run.done,
        "estimation_time": left,
        "bandwidth": bandwidth,
    }


RUN_FILE_FIELDS = {**FILE_FIELDS, **kinds(number="id", text="result message")}


def run_file_value(file: TaskFile, storage: Storage | None) -> dict[str, Any]:
    return {
        "id": file.file_n,
        "name": file.path.rpartition("/")[2],
        "parent": None,
        "primary_id": file.storage_n,
        "type": "file",
        "permission": None,
        "size": file.size if file.size >= 0 else None,
        "change_date": None,
        "modification_date": None,
        "access_date": None,
        "uid": None,
        "gid": None,
        "in_cache": None,
        "offline": None,
        "extern": 0,
        "file_path": f"/{storage.name if storage else ''}/{file.path}",
        "result": file.result,
        "message": file.message,
    }


def job_id(n: int) -> str:
    """Return the UUID (version 8) that stands for Job n < 2**48."""
    return f"00000000-0000-8000-8000-{n:012x}"


# --- API keys -------------------------------------------------------------------------------------

KEY_FIELDS = {
    "id": Kind.NUMBER,
    "name": Kind.TEXT,
    "expires_at": Kind.TIME,
    "created_at": Kind.TIME,
    "last_used_at": Kind.TIME,
}


def key_value(token: Token, *, secret: str | None = None, scopes: bool = True) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": token.n,
        "name": token.name,
        "key": secret if secret is not None else "*" * 18 + token.hint,
    }
    if scopes:
        granted = ["*/*"] if token.scopes is None else sorted(token.scopes)
        pairs = [scope.partition("/") for scope in granted]
        value["api_key_scopes"] = [{"controller": c, "action": a} for c, _, a in pairs]
    return {
        **value,
        "expires_at": time_of(token.expires_ms),
        "created_at": time_of(token.created_ms),
        "last_used_at": time_of(token.used_ms),
    }
