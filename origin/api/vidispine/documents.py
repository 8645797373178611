"""The documents of the dialect: their elements in XML order, and their lines as text. Pure tables."""

from __future__ import annotations

from origin.api.vidispine.wire import Element, Schema, Value, json_time


def _many(name: str, kind: str | Schema = "string", *, always: bool = False) -> Element:
    return Element(name, kind, many=True, always=always)


def _cell(value: object) -> str:
    """One cell of a tabbed line: what would break the line or the table is a space."""
    text = "" if value is None else str(value)
    return " ".join(text.split("\t")).replace("\r", " ").replace("\n", " ")


def _row(value: Value, *names: str) -> str:
    return "\t".join(_cell(value.get(name)) for name in names)


KEY_VALUE = Schema("SimpleMetadataPairType", (Element("key"), Element("value")))
SIMPLE_METADATA = Schema("SimpleMetadataDocument", (_many("field", KEY_VALUE),))

COMPONENT_REFERENCE = Schema("ComponentType", (Element("id"),))
SHAPE_REFERENCE = Schema("ShapeType", (Element("id"), _many("component", COMPONENT_REFERENCE)))
ITEM_REFERENCE = Schema("ItemType", (Element("id"), _many("shape", SHAPE_REFERENCE)))

FILE = Schema(
    "FileDocument",
    (
        Element("id"),
        Element("path"),
        _many("uri"),
        Element("state"),
        Element("size", "int"),
        Element("hash"),
        Element("timestamp", "time"),
        Element("refreshFlag", "int"),
        Element("storage"),
        _many("item", ITEM_REFERENCE),
        Element("metadata", SIMPLE_METADATA),
    ),
    text=lambda value: [
        _row(
            {**value, "timestamp": json_time(value["timestamp"])}, "id", "path", "size", "state", "timestamp"
        )
    ],
)
# The same document where text/plain is the id alone: create, upload, path and state.
FILE_ID = Schema(FILE.name, FILE.elements, text=lambda value: [_cell(value.get("id"))])

FILE_LIST = Schema(
    "FileListDocument",
    (Element("hits", "int"), _many("file", FILE, always=True), Element("nextCursor")),
    text=lambda value: [_cell(file["id"]) for file in value["file"]],
)

METADATA_VALUE = Schema("MetadataValueType", (Element("value", content=True),))
METADATA_FIELD = Schema("MetadataFieldValueType", (Element("name"), _many("value", METADATA_VALUE)))
METADATA_TIMESPAN = Schema(
    "MetadataTimespan",
    (Element("start", attribute=True), Element("end", attribute=True), _many("field", METADATA_FIELD)),
)
METADATA = Schema("MetadataDocument", (_many("timespan", METADATA_TIMESPAN),))

IMPORTABLE = Schema("ImportableFileType", (Element("file", FILE), Element("metadata", METADATA)))
IMPORTABLE_LIST = Schema(
    "ImportableFileListDocument",
    (Element("hits", "int"), _many("element", IMPORTABLE, always=True), Element("nextCursor")),
)

URI_LIST = Schema(
    "URIListDocument",
    (Element("hits", "int"), _many("uri", always=True)),
    text=lambda value: [_cell(uri) for uri in value["uri"]],
)

STORAGE_METHOD = Schema(
    "StorageMethodDocument",
    (
        Element("id"),
        Element("uri"),
        Element("bandwidth", "int"),
        Element("read", "bool"),
        Element("write", "bool"),
        Element("browse", "bool"),
        Element("lastSuccess", "time"),
        Element("lastFailure", "time"),
        Element("failureMessage"),
        Element("type"),
        Element("metadata", SIMPLE_METADATA),
    ),
    text=lambda value: [_row(value, "id", "uri", "type")],
)
STORAGE_METHOD_LIST = Schema(
    "StorageMethodListDocument",
    (_many("method", STORAGE_METHOD, always=True),),
    text=lambda value: [_row(method, "id", "uri", "type") for method in value["method"]],
)
STORAGE = Schema(
    "StorageDocument",
    (
        Element("id"),
        Element("state"),
        Element("type"),
        Element("capacity", "int"),
        Element("freeCapacity", "int"),
        Element("timestamp", "time"),
        _many("method", STORAGE_METHOD),
        Element("metadata", SIMPLE_METADATA),
        Element("lowWatermark", "int"),
        Element("highWatermark", "int"),
        Element("lowWatermarkPercentage", "int"),
        Element("highWatermarkPercentage", "int"),
        Element("autoDetect", "bool"),
        Element("showImportables", "bool"),
        Element("scanInterval", "int"),
    ),
    text=lambda value: [_cell(value.get("id"))],
)
STORAGE_LIST = Schema(
    "StorageListDocument",
    (Element("hits", "int"), _many("storage", STORAGE, always=True)),
    text=lambda value: [_cell(storage["id"]) for storage in value["storage"]],
)

WAITING = Schema("JobWaitingType", (Element("resourceId"), Element("resourceType"), Element("requirement")))
CURRENT_STEP = Schema("JobStepType", (Element("description"), Element("number", "int"), Element("status")))
PROGRESS = Schema("ProgressType", (Element("unit"), Element("total", "int"), Element("value", "int")))
SUB_STEP = Schema("JobSubStepType", (Element("timestamp", "time"), Element("description")))
TASK = Schema(
    "JobTaskType",
    (
        Element("id", "int", attribute=True),
        Element("step", "int"),
        Element("attempts", "int"),
        Element("status"),
        Element("timestamp", "time"),
        Element("description"),
        Element("progress", PROGRESS),
        _many("subStep", SUB_STEP),
        Element("errorMessage"),
        Element("totalSubTasks", "int"),
    ),
)
LOG = Schema("JobLogType", (_many("task", TASK, always=True),))
JOB_ELEMENTS = (
    Element("jobId"),
    Element("user"),
    Element("started", "time"),
    Element("finished", "time"),
    Element("status"),
    Element("type"),
    Element("priority"),
    Element("waiting", WAITING),
    Element("currentStep", CURRENT_STEP),
    _many("data", KEY_VALUE),
    Element("totalSteps", "int"),
    Element("log", LOG),
)
JOB = Schema("JobDocument", JOB_ELEMENTS, text=lambda value: [_cell(value.get("jobId"))])
# The same document where text/plain is the status: GET of one job.
JOB_STATUS = Schema(JOB.name, JOB_ELEMENTS, text=lambda value: [_cell(value.get("status"))])
JOB_LIST = Schema(
    "JobListDocument",
    (Element("hits", "int"), _many("job", JOB, always=True)),
    text=lambda value: [_cell(job["jobId"]) for job in value["job"]],
)
JOB_PROBLEM = Schema(
    "JobProblemType",
    (Element("id", "int"), Element("type"), _many("data", KEY_VALUE), _many("job")),
)
JOB_PROBLEM_LIST = Schema("JobProblemListDocument", (_many("problem", JOB_PROBLEM),))

FILE_REFERENCE = Schema("FileReferenceType", (Element("id"),))
ITEM_COMPONENT = Schema("ItemComponentType", (Element("id"), Element("kind"), _many("file", FILE_REFERENCE)))
ITEM_SHAPE = Schema("ItemShapeType", (Element("id"), _many("tag"), _many("component", ITEM_COMPONENT)))
ITEM = Schema(
    "ItemDocument",
    (
        Element("id", attribute=True),
        _many("externalId"),
        Element("metadata", METADATA),
        _many("shape", ITEM_SHAPE),
    ),
    text=lambda value: [_cell(value.get("id"))],
)

HTTP_ACTION = Schema(
    "NotificationHttpActionType",
    (
        Element("synchronous", attribute=True),
        Element("url"),
        Element("method"),
        Element("timeout", "int"),
        Element("retry", "int"),
        Element("contentType"),
        Element("extradata"),
    ),
)
ACTION = Schema(
    "NotificationActionType",
    (
        Element("http", HTTP_ACTION),
        *(Element(name, Schema(name, ())) for name in ("jms", "ejb", "javascript", "sqs", "sns")),
    ),
)
_FLAG = Schema("NotificationTriggerKind", ())
JOB_TRIGGER = Schema(
    "NotificationJobTriggerType",
    (
        Element("placeholder", "bool"),
        *(
            Element(name, _FLAG)
            for name in ("create", "update", "finished", "fail", "stop", "filter", "idle")
        ),
    ),
)
TRIGGER = Schema(
    "NotificationTriggerType",
    (
        Element("job", JOB_TRIGGER),
        *(
            Element(name, _FLAG)
            for name in ("metadata", "item", "collection", "shape", "storage", "file", "group", "access")
        ),
    ),
)
NOTIFICATION = Schema("NotificationDocument", (Element("action", ACTION), Element("trigger", TRIGGER)))

TOKEN = Schema(
    "TokenDocument", (Element("token"), Element("user")), text=lambda value: [_cell(value.get("token"))]
)
VERSION = Schema(
    "VersionDocument",
    (_many("component", Schema("ComponentType", (Element("name"), Element("version"))), always=True),),
    text=lambda value: [_row(component, "name", "version") for component in value["component"]],
)
