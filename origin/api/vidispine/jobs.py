"""Endpoints on jobs."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from origin.api.vidispine.calls import Answer, Call, Document, Empty
from origin.api.vidispine.problems import invalid
from origin.api.vidispine.target import Params
from origin.api.vidispine.views import JobShape, job_value, pairs
from origin.core.paging import Page
from origin.core.query import JobField, JobFilter, JobSort
from origin.domain.states import JobState, Priority

MOST = 1000  # jobs in one answer
TYPES = ("PLACEHOLDER_IMPORT", "COPY_FILE", "MOVE_FILE", "DELETE_FILE")
_PRIORITIES = tuple(priority.name for priority in Priority)
_STATES = tuple(state.value for state in JobState)
_TIME_ZONE = re.compile(r"([+-]\d\d):?(\d\d)$")


async def list_jobs(call: Call) -> Answer:
    params = call.params
    found = await call.services.jobs.listing(call.caller, _filter(call), _sort(params), _page(params))
    shape = _shape(params)
    return Document({"hits": found.hits, "job": [job_value(job, shape) for job in found.entries]})


async def show(call: Call) -> Answer:
    job = await call.services.jobs.get(call.caller, call.rest[0])
    return Document(job_value(job, JobShape(data=call.params.names("field") or None, log=True)))


async def set_priority(call: Call) -> Answer:
    await call.services.jobs.get(call.caller, call.rest[0])
    priority = Priority[call.params.choice("priority", _PRIORITIES, Priority.MEDIUM.name)]
    job = await call.services.jobs.set_priority(call.caller, call.rest[0], priority)
    return Document(job_value(job, JobShape()))


async def abort(call: Call) -> Answer:
    if not call.params.boolean("cleanup", True):
        raise invalid("cleanup", "what an aborted job has left is always removed", value="false")
    job = await call.services.jobs.abort(call.caller, call.rest[0], call.params.text("reason"))
    return Document(job_value(job, JobShape()))


async def run_again(call: Call) -> Answer:
    given = call.params.text("priority")
    priority = Priority[call.params.choice("priority", _PRIORITIES, "")] if given else None
    job = await call.services.jobs.run_again(call.caller, call.rest[0], priority)
    return Document(job_value(job, JobShape()))


async def remove(call: Call) -> Answer:
    """Remove the records of jobs that have ended."""
    ids = call.params.names("id")
    if not ids:
        raise invalid("id", "is required")
    await call.services.jobs.remove(call.caller, ids)
    return Empty()


async def problems(call: Call) -> Answer:
    """What WAITING jobs wait for; of one job, or of all that the caller may see."""
    if call.rest:
        found = [await call.services.jobs.get(call.caller, call.rest[0])]
    else:
        waiting = JobFilter(states=(JobState.WAITING,))
        found = (await call.services.jobs.listing(call.caller, waiting, (), Page(number=MOST))).entries
    entries = [
        {"id": job.n, "type": "storage", "data": pairs({"reason": job.waiting or ""}), "job": [job.id]}
        for job in found
        if job.state is JobState.WAITING
    ]
    return Document({"problem": entries})


async def list_types(call: Call) -> Answer:
    names = sorted({*TYPES, *(name.upper() for name in call.services.jobs.types)})
    return Document({"hits": len(names), "uri": names})


def _filter(call: Call) -> JobFilter:
    params = call.params
    own = params.boolean("user", True)
    return JobFilter(
        # Types without a name in this dialect are shown in upper case, and asked for so.
        types=tuple(t for name in params.names("type") if name != "all" for t in {name, name.lower()}),
        states=tuple(JobState(s) for s in params.choices("state", (*_STATES, "all")) if s != "all"),
        user=call.caller.name if own else None,
        data=params.pairs("jobmetadata"),
        started_from_ms=_time(params, "starttime-from"),
        started_to_ms=_time(params, "starttime-to"),
        finished_from_ms=_time(params, "finishtime-from"),
        finished_to_ms=_time(params, "finishtime-to"),
    )


def _sort(params: Params) -> tuple[JobSort, ...]:
    wanted = params.sort([*JobField], ((JobField.ID.value, False),))
    return tuple(JobSort(JobField(field), descending) for field, descending in wanted)


def _page(params: Params) -> Page:
    """`first` is counted from 1 here; 0, which one client sends, means 1."""
    first, number = params.integer("first"), params.integer("number")
    return Page(first=max((first or 1) - 1, 0), number=100 if number is None else min(number, MOST))


def _shape(params: Params) -> JobShape:
    fields = params.names("field")
    shown = None if params.boolean("metadata", False) and not fields else fields
    return JobShape(data=shown, log=params.boolean("step", False), bare=params.boolean("idonly", False))


def _time(params: Params, name: str) -> int | None:
    """Read an ISO 8601 time; without a zone it is UTC. A `+` of the zone may have become a space."""
    text = params.text(name)
    if text is None:
        return None
    try:
        plain = _TIME_ZONE.sub(r"\1:\2", text.strip().replace(" ", "+"))
        moment = datetime.fromisoformat(plain)
    except ValueError:
        raise invalid(name, "must be a time in ISO 8601", value=text) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
