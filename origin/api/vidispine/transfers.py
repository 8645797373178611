"""Endpoints that start jobs on a file: copy, move, delete, import."""

from __future__ import annotations

from origin.api.vidispine import documents as d
from origin.api.vidispine.calls import Answer, Call, Document
from origin.api.vidispine.problems import invalid, not_found
from origin.api.vidispine.views import JobShape, item_value, job_value
from origin.domain.states import Priority
from origin.services.imports import Import
from origin.services.notifications import DATA_KEY, JOB_KEY
from origin.services.relocations import Relocation

PRIORITIES = tuple(priority.name for priority in Priority)
# Parameters for thumbnails and transcoding, which nothing here makes: checked, and kept with the job.
_SWITCHES = {"createThumbnails": True, "overrideFastStart": True, "requireFastStart": True}
_MOST_TAGS = 100


async def relocate(call: Call) -> Answer:
    """Copy or move to another storage."""
    file = await call.find_file()
    params = call.params
    wanted = Relocation(
        target_id=call.rest[0],
        move=params.boolean("move", False),
        path=params.text("filename"),
        use_original_name=params.boolean("useOriginalFilename", False),
        limit_rate=params.integer("limitRate", least=1),
        time_requirement=params.integer("timeRequirement"),
    )
    priority, data = await job_parameters(call)
    started = await call.services.relocations.start(call.caller, file, wanted, priority=priority, data=data)
    return Document(job_value(started, JobShape()))


async def delete(call: Call) -> Answer:
    file = await call.find_file()
    priority, data = await job_parameters(call)
    started = await call.services.files.delete(call.caller, file.id, priority=priority, data=data)
    return Document(job_value(started, JobShape()))


async def import_file(call: Call) -> Answer:
    return await _import(call, package=False)


async def import_package(call: Call) -> Answer:
    """An IMF package, by its ASSETMAP."""
    return await _import(call, package=True)


async def _import(call: Call, *, package: bool) -> Answer:
    file = await call.find_file()
    params = call.params
    priority, data = await job_parameters(call)
    data = {**_recorded(call), **data}
    settings = params.text("settings")
    if settings is not None:
        raise not_found("resource", settings, "settings")  # there are none
    tags = params.names("tag")
    if len(tags) > _MOST_TAGS:
        raise invalid("tag", f"at most {_MOST_TAGS} tags")
    wanted = Import(
        filename=None if package else params.text("filename"),
        allow_reimport=params.boolean("allowReimport", False),
        external_ids=tuple(dict.fromkeys(params.names("id"))),
        tags=tags,
        original=params.text("original"),
        transcode=not params.boolean("no-transcode", False),
        import_tag=params.text("importTag") or "original",
        metadata=await call.document(d.METADATA) or {},
        package=package,
    )
    started = await call.services.imports.start(call.caller, file, wanted, priority=priority, data=data)
    return Document(job_value(started, JobShape(data=None)))


def _recorded(call: Call) -> dict[str, str]:
    params = call.params
    for name, default in _SWITCHES.items():
        params.boolean(name, default)
    params.integer("fastStartLength")
    names = (*_SWITCHES, "fastStartLength", "thumbnailService", "original")
    data = {name: text for name in names if (text := params.text(name)) is not None}
    posters = params.names("createPosters")
    return {**data, "createPosters": ",".join(posters)} if posters else data


async def show_item(call: Call) -> Answer:
    item = await call.services.items.get(call.caller, call.rest[0])
    return Document(item_value(item))


async def job_parameters(call: Call) -> tuple[Priority, dict[str, str]]:
    """Return priority and data of a job to be started. Raises Problem 400, NotFound (notification)."""
    params = call.params
    priority = Priority[params.choice("priority", PRIORITIES, Priority.MEDIUM.name)]
    data = dict(params.pairs("jobmetadata"))
    notification = params.text("notification")
    if notification is not None:
        found = await call.services.notifications.get(call.caller, notification)
        told = params.text("notificationData")
        data |= {JOB_KEY: found.id} | ({DATA_KEY: told} if told is not None else {})
    return priority, data
