"""Lists of any length, written as they are read from the catalog: one page is held at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from origin.api.ove.calls import Call

_SEPARATOR = b", "


async def send_list(
    call: Call, pages: AsyncIterator[list[Any]], *, lead: bytes = b"[", end: bytes = b"]"
) -> web.StreamResponse:
    """Answer with a JSON list of all entries of all pages.

    lead, end  what stands around them

    What fails before the first page is an error like any other; after it, the connection is cut, so
    that a part never looks like the whole.
    """
    headers = {"Cache-Control": "no-store"}
    first: list[Any] = await anext(pages, [])
    second = await anext(pages, None)
    if second is None:
        body = lead + _joined(first) + end
        return web.Response(body=body, content_type="application/json", headers=headers)
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json; charset=utf-8"})
    await response.prepare(call.request)
    if call.request.method == "HEAD":
        return response
    try:
        begun = bool(first)
        await response.write(lead + _joined(first))
        page: list[Any] | None = second
        while page is not None:
            if page:
                await response.write((_SEPARATOR if begun else b"") + _joined(page))
                begun = True
            page = await anext(pages, None)
        await response.write(end)
    except ConnectionError:
        raise
    except Exception as error:
        if call.request.transport is not None:
            call.request.transport.abort()
        raise ConnectionAbortedError("a list failed halfway") from error
    return response


def _joined(entries: list[Any]) -> bytes:
    return _SEPARATOR.join(msgspec.json.encode(entry) for entry in entries)
