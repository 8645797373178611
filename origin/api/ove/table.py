"""The dialect's routes."""

from __future__ import annotations

from origin.api.ove import assets, objects, projects, workers
from origin.api.ove.calls import Route
from origin.domain.rights import Verb

READ, WRITE = Verb.READ, Verb.WRITE
_P = "/api/{store}/{project}"
_OBJECT = f"{_P}/object/{{object}}"
_META = f"{_P}/meta/{{asset}}"
_TAGS = f"{_P}/tags/{{asset}}"
_QUEUE = "/api/workers/queue"

ROUTES: tuple[Route, ...] = (
    Route("POST", "/api/auth", projects.log_in, None, anonymous=True, open_to_all=True),
    # stores and projects
    Route("GET", "/api/list", projects.list_stores, "stores/index", anonymous=True),
    Route("GET", "/api/{store}/list", projects.list_projects, "projects/index", anonymous=True),
    Route("POST", "/api/{store}/create", projects.create_project, "projects/create"),
    Route("DELETE", _P, projects.delete_project, "projects/destroy", WRITE),
    Route("GET", f"{_P}/projectMeta", projects.show_record, "projects/show", READ, anonymous=True),
    Route("POST", f"{_P}/projectMeta", projects.update_record, "projects/update", WRITE),
    Route("GET", f"{_P}/projectAccessMeta", projects.show_access, "projects/show", READ, anonymous=True),
    Route("POST", f"{_P}/projectAccessMeta", projects.update_access, "projects/update"),
    # assets
    Route("GET", f"{_P}/list", assets.list_assets, "assets/index", READ, anonymous=True),
    Route("POST", f"{_P}/create", assets.create_asset, "assets/create", WRITE),
    Route("GET", _META, assets.show_asset, "assets/show", READ, anonymous=True),
    Route("POST", _META, assets.update_asset, "assets/update", WRITE),
    Route("DELETE", _META, assets.delete_asset, "assets/destroy", WRITE),
    Route("GET", f"{_P}/files/{{asset}}", assets.list_files, "files/index", READ, anonymous=True),
    Route("POST", f"{_P}/upload/{{asset}}", assets.upload, "files/create", WRITE),
    Route("GET", f"{_P}/versions/{{asset}}", assets.list_versions, "assets/show", READ, anonymous=True),
    Route("GET", _TAGS, assets.show_tags, "assets/show", READ, anonymous=True),
    Route("POST", _TAGS, assets.replace_tags, "assets/update", WRITE),
    Route("PATCH", _TAGS, assets.change_tags, "assets/update", WRITE),
    Route("DELETE", _TAGS, assets.clear_tags, "assets/update", WRITE),
    # objects
    Route("GET", _OBJECT, objects.show, "objects/show", READ, anonymous=True),
    Route("POST", _OBJECT, objects.create, "objects/create", WRITE),
    Route("PUT", _OBJECT, objects.update, "objects/update", WRITE),
    Route("DELETE", _OBJECT, objects.delete, "objects/destroy", WRITE),
    Route("GET", f"{_OBJECT}/info", objects.info, "objects/show", READ, anonymous=True),
    # workers; without a scope the endpoint asks, for a worker's token is good for itself
    Route("GET", "/api/workers", workers.list_workers, "workers/index"),
    Route("POST", "/api/workers", workers.register, None),
    Route("DELETE", "/api/workers", workers.unregister, None),
    Route("GET", _QUEUE, workers.list_tasks, "worker_tasks/index"),
    Route("POST", _QUEUE, workers.schedule, "worker_tasks/create"),
    Route("DELETE", _QUEUE, workers.cancel, "worker_tasks/destroy"),
    Route("PATCH", _QUEUE, workers.reset, "worker_tasks/update"),
    Route("POST", f"{_QUEUE}/claim", workers.claim, "worker_tasks/claim"),
    Route("PUT", f"{_QUEUE}/{{task}}", workers.update, "worker_tasks/update"),
    Route("GET", f"{_QUEUE}/{{task}}/source", workers.source, "worker_tasks/update"),
    Route("PUT", f"{_QUEUE}/{{task}}/output", workers.output, "worker_tasks/update"),
)
