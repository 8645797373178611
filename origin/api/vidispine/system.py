"""Endpoints that are about neither files nor jobs: login tokens, and what a login page asks."""

from __future__ import annotations

from aiohttp import web

from origin.api.release import program_version
from origin.api.vidispine.calls import Answer, Call, Document, Text
from origin.api.vidispine.problems import forbidden
from origin.api.vidispine.wire import to_json

_LONGEST = 365 * 24 * 3600  # seconds


async def token(call: Call) -> Answer:
    """A login token for the caller, good for `seconds`; with `autoRefresh` for so long after each use."""
    user = call.caller.user
    assert user is not None
    if call.rest and call.rest[0] != user.name:
        raise forbidden("user", "a token can be had for oneself only", id=call.rest[0])
    seconds = call.params.integer("seconds", least=1, most=_LONGEST)
    lifetime = 60 if seconds is None else seconds
    refresh = call.params.boolean("autoRefresh", False)
    now = call.services.clock.now_ms()
    _, secret = await call.services.access.create_token(
        call.caller,
        "login",
        None,
        expires_ms=now + lifetime * 1000,
        refresh_ms=lifetime * 1000 if refresh else None,
    )
    return Document({"token": secret, "user": user.name})


async def version(call: Call) -> Answer:
    """What clients show of the server; one component."""
    return Document({"component": [{"name": "origin", "version": program_version()}]})


async def is_online(call: Call) -> Answer:
    return Text("online")


async def selftest(call: Call) -> Answer:
    return web.Response(body=to_json({"status": "ok", "test": []}), content_type="application/json")
