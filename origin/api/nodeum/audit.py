"""The audit log over REST: a list that nobody can change."""

from __future__ import annotations

from typing import Any

from origin.api.nodeum.calls import Answer, Call
from origin.api.nodeum.problems import problem
from origin.api.nodeum.wire import kinds, time_of
from origin.services.audit import Change

FIELDS = kinds(number="id api_key_id", text="user method path dialect request_id")


async def index(call: Call) -> Answer:
    window, conditions = call.window(), call.conditions(FIELDS)
    if call.param("sort_by"):
        raise problem(400, "sort_by", "invalid", "is not offered: the newest come first")
    found, total = await call.services.audit.listing(call.caller, conditions, window.first, window.size)
    return call.page("changes", [_value(change) for change in found], total, window)


def _value(change: Change) -> dict[str, Any]:
    return {
        "id": change.n,
        "at": time_of(change.at_ms),
        "user": change.user,
        "api_key_id": change.token_n,
        "method": change.method,
        "path": change.path,
        "dialect": change.dialect,
        "request_id": change.request_id,
        "address": change.address,
    }
