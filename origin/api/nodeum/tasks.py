"""Tasks with their actions and executions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from origin.api.nodeum.calls import Answer, Call, flag, need_text, number, one_of, text
from origin.api.nodeum.files import number_in_path
from origin.api.nodeum.problems import blank, invalid, not_found
from origin.api.nodeum.wire import (
    CONFLICTS,
    END_TYPES,
    EXECUTION_FIELDS,
    RUN_FILE_FIELDS,
    TASK_FIELDS,
    WORKFLOW_ACTIONS,
    WORKFLOW_TYPES,
    action_status,
    execution_value,
    job_id,
    kinds,
    run_file_value,
    run_status,
    task_value,
)
from origin.core.conditions import parse_condition
from origin.domain.states import FINAL, JobState
from origin.domain.tasks import TaskEnd, TaskState
from origin.errors import Invalid, NotFound

_END_FIELDS = kinds(
    number="source_pool_id destination_pool_id source_tape_id destination_tape_id",
    text="source_pool_name destination_pool_name source_tape_barcode destination_tape_barcode",
)


def task_key(call: Call) -> int | str:
    """A number, else the exact name. The SDK leaves `{task_id}` as it stands in one call, and gives the
    number in the query."""
    name = call.args["task"]
    if name == "{task_id}":
        name = call.param("task_id") or name
    return int(name) if name.isascii() and name.isdigit() and len(name) <= 18 else name


def _fields(given: Mapping[str, Any]) -> dict[str, object]:
    """Return the attributes that are there, checked."""
    found: dict[str, object] = {}
    read: dict[str, Any] = {
        "comment": lambda name: text(given, name),
        "workflow_type": lambda name: one_of(given, name, WORKFLOW_TYPES),
        "workflow_action": lambda name: one_of(given, name, WORKFLOW_ACTIONS),
        "source_type": lambda name: one_of(given, name, END_TYPES),
        "destination_type": lambda name: one_of(given, name, END_TYPES),
        "priority": lambda name: number(given, name),
        "conflict_resolution": lambda name: one_of(given, name, CONFLICTS),
        "activate": lambda name: flag(given, name),
    }
    for name, reader in read.items():
        if name in given:
            value = reader(name)
            if value is not None or name in ("comment", "workflow_type", "source_type", "destination_type"):
                found[name] = value
    return found


async def index(call: Call) -> Answer:
    tasks = await call.services.tasks.listing(call.caller)
    values = [task_value(task) for task in tasks]
    wanted = [
        parse_condition(key, _END_FIELDS[key], value) for key, value in call.params if key in _END_FIELDS
    ]
    if wanted:
        ends = await call.services.tasks.ends_of(tasks)
        for condition in wanted:
            fits = {
                task.n
                for task in tasks
                if any(condition.holds(held) for held in _held(call, ends.get(task.n, []), condition.field))
            }
            values = [value for value in values if value["id"] in fits]
    return call.list("tasks", values, TASK_FIELDS)


def _held(call: Call, ends: list[TaskEnd], field: str) -> list[int | str]:
    """Return the values that a task's sources or destinations give a filter."""
    kind, _, what = field.partition("_")
    found: list[int | str] = []
    for end in ends:
        if end.kind != kind or end.end.path or end.end.file_n is not None:
            continue
        if end.end.tape is not what.startswith("tape"):
            continue
        try:
            storage = call.services.storages.known(end.end.storage_n)
        except NotFound:
            continue
        found.append(storage.n if what.endswith("_id") else storage.name)
    return found


async def show(call: Call) -> Answer:
    return Answer(task_value(await call.services.tasks.get(call.caller, task_key(call))))


async def create(call: Call) -> Answer:
    call.services.tasks.require_writer(call.caller)
    given = await call.attributes()
    name = need_text(given, "name", most=255)
    if text(given, "workflow_action") is None:
        raise blank("workflow_action")
    task = await call.services.tasks.create(call.caller, name, _fields(given))
    return Answer(task_value(task), status=201, headers={"Location": f"{call.path}/{task.n}"})


async def update(call: Call) -> Answer:
    call.services.tasks.require_writer(call.caller)
    key = task_key(call)
    task = await call.services.tasks.get(call.caller, key)
    given = await call.attributes()
    call.require_match(task_value(task))
    name = need_text(given, "name", most=255) if "name" in given else None
    task = await call.services.tasks.update(call.caller, task.n, name=name, fields=_fields(given))
    return Answer(task_value(task))


async def destroy(call: Call) -> Answer:
    task = await call.services.tasks.get(call.caller, task_key(call))
    call.require_match(task_value(task))
    left = await call.services.tasks.delete(call.caller, task.n)
    return Answer(None, status=204) if left is None else Answer(task_value(left), status=202)


# --- actions --------------------------------------------------------------------------------------


async def run(call: Call) -> Answer:
    try:
        job = await call.services.tasks.run(call.caller, task_key(call))
    except Invalid as error:
        code = "blank" if error.value is None else "invalid"
        raise invalid(error.context, error.explanation, value=error.value, code=code) from error
    return Answer(_action_value(job.n, "queued", 0, 0), status=202)


async def poll_run(call: Call) -> Answer:
    state = await _run_state(call)
    value = _action_value(state.job_n, action_status(state.state), state.done_bytes, state.total_bytes or 0)
    return Answer(value, status=200 if state.state in FINAL else 202)


async def stop(call: Call) -> Answer:
    found = (await call.services.tasks.stop(call.caller, task_key(call))).state
    return Answer(_action_value(found.job_n, "queued", found.done_bytes, found.total_bytes or 0), status=202)


async def poll_stop(call: Call) -> Answer:
    state = await _run_state(call)
    over = state.state in FINAL
    status = "completed" if over else "working" if state.state is JobState.ABORTED_PENDING else "queued"
    value = _action_value(state.job_n, status, state.done_bytes, state.total_bytes or 0)
    return Answer(value, status=200 if over else 202)


async def not_offered(call: Call) -> Answer:
    await call.services.tasks.get(call.caller, task_key(call))
    raise invalid("action", "is not offered here", value=call.path.rpartition("/")[2])


async def _run_state(call: Call) -> TaskState:
    task = await call.services.tasks.get(call.caller, task_key(call))
    given = call.param("job_id")
    if not given:
        raise blank("job_id")
    match = re.fullmatch(r"00000000-0000-8000-8000-([0-9a-f]{12})", given.lower())
    if match is None:
        raise not_found("no such job of this task")
    return (await call.services.tasks.run_of(call.caller, int(match[1], 16), task.n)).state


def _action_value(n: int, status: str, done: int, total: int) -> dict[str, Any]:
    return {"job_id": job_id(n), "status": status, "progress": done, "total": total}


# --- executions -----------------------------------------------------------------------------------


async def list_executions(call: Call) -> Answer:
    task_n = await _task_number(call) if "task" in call.args else None
    runs = await call.services.tasks.runs(call.caller, task_n)
    complete = call.param("complete_list")
    if complete is not None and complete.lower() not in ("true", "false"):
        raise Invalid("complete_list", "must be true or false", complete)
    if complete is not None and complete.lower() == "false":
        last: dict[int, Any] = {}
        for run in runs:
            if run_status(run.state) in ("done", "finished_with_warnings"):
                last[run.task_n] = run
        runs = sorted(last.values(), key=lambda run: int(run.state.job_n))
    now = call.services.clock.now_ms()
    values = [_numbered(execution_value(run, now)) for run in runs]
    return call.list("task_executions", values, EXECUTION_FIELDS, show=_lettered)


def _numbered(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "id": int(value["id"])}


def _lettered(value: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, "id": str(value["id"])}


async def _task_number(call: Call) -> int:
    """Executions are kept when their task is gone: then its number still names them."""
    key = task_key(call)
    try:
        return (await call.services.tasks.get(call.caller, key)).n
    except NotFound:
        if isinstance(key, int) and await call.services.tasks.runs(call.caller, key):
            return key
        raise


async def show_execution(call: Call) -> Answer:
    task_n = await _task_number(call) if "task" in call.args else None
    n = number_in_path(call.args["execution"])
    found = await call.services.tasks.run_of(call.caller, n, task_n)
    return Answer(execution_value(found, call.services.clock.now_ms()))


async def list_execution_files(call: Call) -> Answer:
    n = number_in_path(call.args["execution"])
    window = call.window()
    wanted, order = call.conditions(RUN_FILE_FIELDS), call.order(RUN_FILE_FIELDS)
    found, total = await call.services.tasks.files_of(
        call.caller, n, wanted, order, window.first, window.size
    )
    known = {storage.n: storage for storage in call.services.storages.everything()}
    values = [run_file_value(file, known.get(file.storage_n)) for file in found]
    return call.page("files", values, total, window)
