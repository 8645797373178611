"""What of a client's request goes on to a source. Pure (contract §6, "Sent")."""

from __future__ import annotations

from distributor.core.model import AssetRequest
from distributor.http import fields as hf
from distributor.http.fields import Fields

_MADE_HERE = ("via", "cdn-loop", "x-request-id")


def source_fields(request: AssetRequest, node_id: str, *, transparent: bool = False) -> Fields:
    """Via and CDN-Loop with this node added, and the request id; of the client's fields nothing else.

    transparent  the client's other end-to-end fields go along (`http.fields.forwardable_fields`)
    """
    via = hf.get(request.fields, "via")
    loop = hf.get(request.fields, "cdn-loop")
    own = f"1.1 {node_id}"
    out = [
        ("Via", own if via is None else f"{via}, {own}"),
        ("CDN-Loop", node_id if loop is None else f"{loop}, {node_id}"),
    ]
    if request.request_id:
        out.append(("X-Request-Id", request.request_id))
    if transparent:
        out += varying_fields(request)
    return tuple(out)


def varying_fields(request: AssetRequest) -> Fields:
    """The client's fields that a transparent edge forwards, and by which a source may so vary."""
    return hf.without(hf.forwardable_fields(request.fields), _MADE_HERE)
