"""From domain values to the documents of the dialect. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from origin.core.uris import file_uri, methods_matching, scheme_of
from origin.domain.items import Item, Place
from origin.domain.model import File, Job, Method, Storage, make_id
from origin.domain.states import FileState, JobState

LOW_WATERMARK, HIGH_WATERMARK = 90, 75  # percent of the capacity, as the real system presets them
SCAN_INTERVAL = 60  # seconds
# Settings of a storage that are kept among its metadata and shown as elements of their own.
HIDDEN_METADATA = ("autoDetect", "showImportables", "scanInterval")


@dataclass(frozen=True, slots=True)
class UriChoice:
    """Which URIs a FileDocument shows; never which files a list holds.

    method_type    "" for methods without a type; "AUTO": the edge's URL alone
    storage_types  empty: any
    metadata       pairs that a method must all carry
    scheme         None: any
    edge_url       the edge's public URL, without "/" at its end
    """

    method_type: str = ""
    storage_types: Collection[str] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    scheme: str | None = None
    edge_url: str = ""

    def uris(self, file: File, storage: Storage | None) -> list[str]:
        """Return the URIs of a file, one a matching method; none when it is LOST."""
        if storage is None or file.state is FileState.LOST:
            return []
        if self.storage_types and storage.type.value not in self.storage_types:
            return []
        if self.method_type == "AUTO":
            uri = f"{self.edge_url}/api/v1/assets/{file.id}"
            return [uri] if self.scheme in (None, scheme_of(uri)) and not self.metadata else []
        matching = methods_matching(
            storage.methods, type=self.method_type, scheme=self.scheme, metadata=self.metadata
        )
        return [file_uri(method.uri, file.path) for method in matching]


def file_value(file: File, uris: Sequence[str], places: Sequence[Place] = ()) -> dict[str, Any]:
    """Return the FileDocument of a File. places: where it stands, when the call asks for that."""
    return {
        "id": file.id,
        "path": file.path,
        "uri": list(uris),
        "state": file.state.value,
        "size": file.size,
        "hash": file.sha1,
        "timestamp": file.timestamp_ms,
        "refreshFlag": 1,
        "storage": file.storage_id,
        "item": item_references(places),
        "metadata": {"field": _file_metadata(file)},
    }


def _file_metadata(file: File) -> list[dict[str, str]]:
    own = {"created": str(file.created_ms)}
    if file.mtime_ns is not None:
        # Access times are not kept: the last moment at which the bytes are known to have been touched.
        own |= {"mtime": str(file.timestamp_ms), "atime": str(file.timestamp_ms)}
    return pairs(own | {key: value for key, value in file.metadata.items() if key not in own})


def own_metadata(file: File) -> dict[str, Any] | None:
    """Return a File's own metadata as a MetadataDocument of one timespan; None without any."""
    if not file.metadata:
        return None
    return {"timespan": [_all_time([(key, value) for key, value in file.metadata.items()])]}


def _all_time(fields: Sequence[tuple[str, str]]) -> dict[str, Any]:
    held = [{"name": name, "value": [{"value": value}]} for name, value in fields]
    return {"start": "-INF", "end": "+INF", "field": held}


def item_value(item: Item) -> dict[str, Any]:
    """Return the ItemDocument. Its metadata: as imported, and the original filename."""
    document = item.metadata.get("document")
    spans = list(document.get("timespan", ())) if isinstance(document, Mapping) else []
    spans.append(_all_time([("originalFilename", str(item.metadata.get("originalFilename", "")))]))
    return {
        "id": item.id,
        "externalId": list(item.external_ids),
        "metadata": {"timespan": spans},
        "shape": [
            {
                "id": shape.id,
                "tag": list(shape.tags),
                "component": [
                    {
                        "id": component.id,
                        "kind": component.kind,
                        "file": [{"id": make_id(n)} for n in component.file_ns],
                    }
                    for component in shape.components
                ],
            }
            for shape in item.shapes
        ],
    }


def item_references(places: Sequence[Place]) -> list[dict[str, Any]]:
    """Return items with those of their shapes and components that hold the file."""
    made: dict[int, dict[int, list[dict[str, str]]]] = {}
    for place in places:
        components = made.setdefault(place.item_n, {}).setdefault(place.shape_n, [])
        components.append({"id": make_id(place.component_n)})
    return [
        {
            "id": make_id(item_n),
            "shape": [{"id": make_id(n), "component": components} for n, components in shapes.items()],
        }
        for item_n, shapes in made.items()
    ]


def pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Return {key: value} as KeyValue elements, in order."""
    return [{"key": key, "value": value} for key, value in values.items()]


def method_value(method: Method) -> dict[str, Any]:
    return {
        "id": method.id,
        "uri": method.uri,
        "bandwidth": method.bandwidth,
        "read": method.read,
        "write": method.write,
        "browse": method.browse,
        "type": method.type or "NONE",
        "metadata": {"field": pairs(method.metadata)} if method.metadata else None,
    }


def storage_value(storage: Storage, capacity: int, used: int) -> dict[str, Any]:
    """Return the StorageDocument. capacity and used: bytes; the latter of Files the catalog knows."""
    flags = storage.metadata
    shown = {key: value for key, value in flags.items() if key not in HIDDEN_METADATA}
    return {
        "id": storage.id,
        "state": storage.state.value,
        "type": storage.type.value,
        "capacity": capacity,
        "freeCapacity": max(capacity - used, 0),
        "timestamp": storage.scanned_ms,
        "method": [method_value(method) for method in storage.methods],
        "metadata": {"field": pairs({**shown, "name": storage.name})},
        "lowWatermark": capacity * LOW_WATERMARK // 100,
        "highWatermark": capacity * HIGH_WATERMARK // 100,
        "lowWatermarkPercentage": LOW_WATERMARK,
        "highWatermarkPercentage": HIGH_WATERMARK,
        "autoDetect": flags.get("autoDetect", "true") == "true",
        "showImportables": flags.get("showImportables", "true") == "true",
        "scanInterval": int(flags.get("scanInterval", str(SCAN_INTERVAL))),
    }


# --- jobs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobShape:
    """Which parts of a job are shown.

    data   keys of `data` to show; None: all; (): none
    log    with the tasks
    bare   only the four mandatory fields
    """

    data: tuple[str, ...] | None = ()
    log: bool = False
    bare: bool = False


def job_value(job: Job, shape: JobShape) -> dict[str, Any]:
    """Return the JobDocument of a Job."""
    value: dict[str, Any] = {
        "jobId": job.id,
        "status": job.state.value,
        "type": job.type.upper(),
        "priority": job.priority.name,
    }
    if shape.bare:
        return value
    value |= {"user": job.user, "started": job.created_ms, "finished": job.finished_ms}
    if job.state is JobState.WAITING and job.waiting:
        value["waiting"] = {"resourceType": "storage", "requirement": job.waiting}
    if job.steps:
        number = min(max(job.step, 1), len(job.steps))
        if job.started_ms is not None:
            value["totalSteps"] = len(job.steps)
            value["currentStep"] = {
                "description": job.steps[number - 1],
                "number": number,
                "status": job.state.value,
            }
    if shape.data != ():
        shown = dict(job.data)
        if job.error is not None and job.state is not JobState.FINISHED_WARNING:
            shown["errorMessage"] = job.error
        wanted = shape.data
        value["data"] = pairs({k: v for k, v in shown.items() if wanted is None or k in wanted})
    if shape.log:
        value["log"] = {"task": [_task(job)] if job.started_ms is not None else []}
    return value


def _task(job: Job) -> dict[str, Any]:
    number = min(max(job.step, 1), len(job.steps)) if job.steps else 1
    task: dict[str, Any] = {
        "id": job.n,
        "step": number,
        "attempts": job.attempts,
        "status": job.state.value,
        "timestamp": job.finished_ms or job.started_ms,
        "description": job.steps[number - 1] if job.steps else job.type.upper(),
        "errorMessage": job.error if job.state is not JobState.FINISHED_WARNING else None,
    }
    if job.state is JobState.FINISHED_WARNING and job.error:
        task["subStep"] = [{"timestamp": job.finished_ms, "description": job.error}]
    if job.total is not None or job.done:
        task["progress"] = {"unit": job.unit, "total": job.total, "value": job.done}
    return task
