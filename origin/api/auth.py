"""Who sends a request: its credentials, read once."""

from __future__ import annotations

from aiohttp import web

from origin.api.protocol import OriginRequest
from origin.domain.model import Caller
from origin.errors import NotFound, OriginError, Unauthenticated
from origin.services import Services


async def caller_of(request: web.Request, services: Services) -> Caller:
    """Return the caller by the Authorization field. Raises Unauthenticated for bad or several ones."""
    fields = request.headers.getall("Authorization", [])
    if len(fields) > 1:
        raise Unauthenticated("several credentials were sent")
    caller = await services.access.authenticate(fields[0] if fields else None)
    note_caller(request, caller)
    return caller


def note_caller(request: web.Request, caller: Caller) -> None:
    """Let the access log know who asks."""
    if isinstance(request, OriginRequest):
        request.caller = caller


def hidden(caller: Caller, error: OriginError) -> OriginError:
    """To the anonymous, what does not exist looks like what is not public."""
    return Unauthenticated() if caller.user is None and isinstance(error, NotFound) else error
