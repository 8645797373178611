"""Domain values in the words of the dialect: JSON-able, keys in the order clients know."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

from origin.core.uris import asset_path
from origin.domain.model import Storage, number_of
from origin.domain.projects import LISTS, SWITCHES, TEXTS, Asset, Place, Project, Version
from origin.domain.workers import Worker, WorkerTask
from origin.services.assets import Held

OK = {"Status": "OK"}
NONE = "none"


def time_text(ms: int) -> str:
    """Return UTC as YYYY-MM-DD HH:MM:SS. ms: since the epoch."""
    return _second_text(ms // 1000)


@lru_cache(4096)  # the events of a list fall on few seconds
def _second_text(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))


class Wire:
    """public_url: of the edge, where links point."""

    def __init__(self, public_url: str) -> None:
        self._base = public_url.rstrip("/") + "/api/v1/assets/"

    def url(self, storage: Storage, path: str | None, n: int | None) -> str:
        """Return the address of a File at the edge; "" for None. n: of the File."""
        return "" if path is None or n is None else self._base + asset_path(storage, path, n)

    def asset(self, place: Place, asset: Asset) -> dict[str, Any]:
        return {
            "id": asset.id,
            "name": asset.name,
            "project": place.project.id,
            "description": asset.description,
            "index_file": self.url(place.storage, asset.index_path, asset.index_n),
            "version": str(asset.version),
            "history": [
                {"Type": event.kind, "Time": time_text(event.time_ms), "Version": event.version}
                for event in asset.history
            ],
            "tags": list(asset.tags),
            "worker": asset.worker,
            "processing_status": asset.status,
            "processing_error": asset.error,
        }

    def file(self, place: Place, folder: str, held: Held) -> dict[str, Any]:
        """folder: of the version."""
        return {
            "name": held.path.removeprefix(f"{folder}/"),
            "url": self.url(place.storage, held.path, number_of(held.id)),
            "default": held.uploaded,
            "id": held.id,
            "size": held.size,
        }

    def version(self, place: Place, version: Version, current: int) -> dict[str, Any]:
        return {
            "version": str(version.version),
            "creationDate": time_text(version.created_ms),
            "files": version.files,
            "size": version.size,
            "index_file": self.url(place.storage, version.index_path, version.index_n),
            "current": version.version == current,
        }


def project_kind(project: Project, sections: bool) -> str:
    if project.fields.get("controller"):
        return "controller"
    return "launcher" if sections else NONE


def project_record(
    project: Project, *, url: str, has_project: bool, sections: bool, read: bool, write: bool
) -> dict[str, Any]:
    """url: of object `project`, "" without; sections: that it has them; read, write: the caller's rights."""
    fields = project.fields
    return {
        "id": project.id,
        "creationDate": time_text(project.created_ms),
        "updateDate": time_text(project.updated_ms),
        "url": url,
        "hasProject": has_project,
        "projectType": project_kind(project, sections),
        "access": list(project.access),
        "read_access": read,
        "write_access": write,
        "name": project.name,
        "tags": list(project.tags),
        **{name: fields.get(name, "") for name in TEXTS},
        **{name: fields.get(name, []) for name in LISTS},
        **{name: fields.get(name, False) for name in SWITCHES},
    }


def worker(entry: tuple[Worker, str]) -> dict[str, Any]:
    held, status = entry
    seen = {"last_seen": time_text(held.seen_ms)} if held.seen_ms else {"last_seen": ""}
    return {
        "name": held.name,
        "type": held.type,
        "status": status,
        **seen,
        "description": held.description,
        "extensions": list(held.extensions),
        "parameters": held.parameters if held.parameters is not None else {},
        "docs": held.docs,
    }


def task(held: WorkerTask, store: str) -> dict[str, Any]:
    """Fields without a value are absent. store: name of its storage."""
    job = held.job
    shown = {
        "_id": held.id,
        "task_id": held.id,
        "createdOn": time_text(job.created_ms),
        "startTime": job.started_ms and time_text(job.started_ms),
        "endTime": job.finished_ms and time_text(job.finished_ms),
        "priority": held.priority,
        "status": held.status,
        "username": job.user,
        "storeID": store,
        "projectID": held.project_id,
        "assetID": held.asset_id,
        "version": held.version,
        "filename": held.filename,
        "extension": held.extension,
        "workerType": held.worker_type,
        "workerName": held.worker or None,
        "taskOptions": dict(held.options),
        "progress": held.progress,
        "attempts": job.attempts,
        "lease_expires": job.lease_until_ms and time_text(min(job.lease_until_ms, 2**45)),
        "error": job.error or None,
    }
    return {name: value for name, value in shown.items() if value is not None}
