"""Endpoints on notifications of jobs by HTTP callback."""

from __future__ import annotations

from typing import Any

from origin.api.vidispine import documents as d
from origin.api.vidispine.calls import Answer, Call, Document, Empty
from origin.api.vidispine.problems import invalid, not_offered
from origin.catalog.notifications import Notification
from origin.services.notifications import TRIGGERS


async def create(call: Call) -> Answer:
    document = await call.document(d.NOTIFICATION)
    action, trigger = (document or {}).get("action", {}), (document or {}).get("trigger", {})
    if not action or not trigger:
        raise invalid("body", "a notification needs an action and a trigger")
    if set(action) != {"http"} or set(trigger) != {"job"}:
        raise not_offered()
    http, job = action["http"], trigger["job"]
    events = tuple(name for name in job if name != "placeholder")
    if any(name not in TRIGGERS for name in events):
        raise not_offered()
    if not http.get("url"):
        raise invalid("url", "is required")
    made = await call.services.notifications.create(
        call.caller,
        Notification(
            n=0,
            user=call.caller.name,
            url=http["url"],
            method=http.get("method", "POST"),
            timeout=http.get("timeout", 10),
            retry=http.get("retry", 3),
            content_type=http.get("contentType", "application/json"),
            extradata=http.get("extradata"),
            triggers=events,
        ),
    )
    return Document({"uri": [made.id]})


async def list_all(call: Call) -> Answer:
    found = await call.services.notifications.listing(call.caller)
    return Document({"hits": len(found), "uri": [entry.id for entry in found]})


async def show(call: Call) -> Answer:
    return Document(_value(await call.services.notifications.get(call.caller, call.rest[0])))


async def delete(call: Call) -> Answer:
    await call.services.notifications.delete(call.caller, call.rest[0])
    return Empty()


def _value(held: Notification) -> dict[str, Any]:
    http = {
        "url": held.url,
        "method": held.method,
        "timeout": held.timeout,
        "retry": held.retry,
        "contentType": held.content_type,
        "extradata": held.extradata,
    }
    events: dict[str, Any] = {name: {} for name in held.triggers}
    return {"action": {"http": http}, "trigger": {"job": {"placeholder": True, **events}}}
