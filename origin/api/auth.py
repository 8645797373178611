"""Who sends a request: its credentials, read once, and the limits on its requests."""

from __future__ import annotations

from collections.abc import Awaitable

from aiohttp import web

from origin.api.protocol import OriginRequest
from origin.domain.model import Caller
from origin.errors import NotFound, OriginError, Unauthenticated
from origin.services import Services
from origin.services.audit import acting


async def caller_of(request: web.Request, services: Services) -> Caller:
    """Return the caller by the Authorization field, and count the request.

    Raises Unauthenticated for bad or several credentials, TooMany past a limit.
    """
    fields = request.headers.getall("Authorization", [])
    if len(fields) > 1:
        raise Unauthenticated("several credentials were sent")
    field = fields[0] if fields else None
    return await admitted(
        request, services, services.access.authenticate(field), known=services.access.is_known(field)
    )


async def admitted(
    request: web.Request, services: Services, credentials: Awaitable[Caller], *, known: bool
) -> Caller:
    """Return the caller that `credentials` give, counted; for dialects with places of their own for them.

    known  they were found good a moment ago, or there are none: failed logins of others do not matter
    """
    try:
        if not known:
            services.limiter.require_login(request.remote)
        caller = await credentials
    except Unauthenticated:
        services.limiter.failed_login(request.remote)
        raise
    finally:
        close = getattr(credentials, "close", None)
        if close is not None:  # a coroutine that was refused before it began
            close()
    note_caller(request, caller)
    try:
        services.limiter.take(caller, request.remote)
    finally:
        if isinstance(request, OriginRequest):
            request.left = services.limiter.left(caller, request.remote)
    return caller


def note_caller(request: web.Request, caller: Caller) -> None:
    """Let the access log and the audit log know who asks."""
    if isinstance(request, OriginRequest):
        request.caller = caller
    act = acting.get()
    if act is not None:
        act.user = caller.name
        act.token_n = caller.token.n if caller.token is not None else None


def hidden(caller: Caller, error: OriginError) -> OriginError:
    """To the anonymous, what does not exist looks like what is not public."""
    return Unauthenticated() if caller.user is None and isinstance(error, NotFound) else error
