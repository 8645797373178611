"""The catalog search: both of its addresses, with the same parameters and rows."""

from __future__ import annotations

from typing import Any

from origin.api.nodeum.calls import Answer, Call
from origin.api.nodeum.wire import result_value
from origin.core.paging import page_headers, read_window
from origin.core.search import Field, SearchQuery, parse_facets, parse_filter, parse_sort, parse_text
from origin.errors import Invalid

_OTHERS = frozenset(
    [
        "q",
        "cursor_mark",
        "rows",
        "per_page",
        "limit",
        "page",
        "offset",
        "sort",
        "sort_by",
        "facet",
        "facet_limit",
    ]
)
_KNOWN = _OTHERS | {field.value for field in Field}


def _query(call: Call) -> SearchQuery:
    text = parse_text(call.param("q") or "")
    filters = list(text.filters)
    for field in Field:
        filters += parse_filter(field, call.all(field.value))
    name = "sort" if call.param("sort") is not None else "sort_by"
    sort, descending = parse_sort(call.param(name), name)
    return SearchQuery(text.clauses, tuple(filters), text.nothing, sort, descending)


async def _search(call: Call) -> tuple[dict[str, Any], dict[str, str]]:
    query = _query(call)
    window = read_window(call.params, least=0, sizes="rows")
    mark = call.param("cursor_mark")
    by_page = call.param("page") is not None or call.param("offset") is not None
    if mark is not None and mark != "" and by_page and window.first > 0:
        raise Invalid("page", "cannot be given beside cursor_mark")
    limit_text = call.param("facet_limit")
    limit = 10
    if limit_text is not None:
        if not limit_text.isascii() or not limit_text.isdigit() or not 1 <= int(limit_text[:6]) <= 100:
            raise Invalid("facet_limit", "must be from 1 to 100", limit_text)
        limit = int(limit_text)
    result = await call.services.search.find(
        call.caller,
        query,
        rows=window.size,
        mark=mark or "*",
        skip=window.first,
        facets=parse_facets(call.param("facet")),
        facet_limit=limit,
    )
    value = result_value(result, call.services.config.public_url)
    ignored = sorted({key for key, _ in call.params if key not in _KNOWN})
    if ignored:
        value["ignored"] = ignored
    headers = page_headers(window, result.count, call.path, call.params) if by_page else {}
    if headers and result.count is None and len(result.entries) < window.size:
        headers["X-Next-Page"] = ""
    return value, headers


async def search(call: Call) -> Answer:
    value, headers = await _search(call)
    return Answer(value, headers=headers)


async def search_v1(call: Call) -> Answer:
    value, headers = await _search(call)
    return Answer({"status": "SUCCESS", "code": 200, **value}, headers=headers)
