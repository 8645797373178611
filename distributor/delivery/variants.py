"""Which stored response of an asset answers a request, where the source varies (RFC 9111 §4.1). Pure.

Only a transparent edge forwards fields by which a source could vary; others have one key an asset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from distributor.core.forwarding import varying_fields
from distributor.core.keys import cache_key, variant_key
from distributor.core.model import AssetRequest, Representation, StoredResponse
from distributor.http import fields as hf

MOST = 64
"""Variants kept of one asset and query: clients must not be able to fill the store with their fields."""


def vary_names(representation: Representation) -> list[str]:
    """The names in Vary, lower case, sorted; may be empty."""
    return sorted({name.lower() for name in hf.split_list(hf.get(representation.fields, "vary") or "")})


def key_under(request: AssetRequest, representation: Representation) -> str:
    """The key that `request` has by the Vary of `representation`."""
    primary = cache_key(request.asset_id, request.query)
    return variant_key(primary, vary_names(representation), varying_fields(request))


def keyed(request: AssetRequest, stored: Iterable[StoredResponse]) -> AssetRequest:
    """`request` with the key of the stored response that fits it, the latest first.

    stored  all that are alike but for their variant. Where none fits the key is made by the latest one's Vary
    """
    latest = sorted(stored, key=lambda one: one.created_at, reverse=True)
    keys: dict[str, str] = {}  # sources seldom vary by more than one set of names
    first = request.key
    for number, one in enumerate(latest):
        vary = hf.get(one.representation.fields, "vary") or ""
        key = keys.get(vary) or keys.setdefault(vary, key_under(request, one.representation))
        if one.key == key:
            return dataclasses.replace(request, key=key)
        if number == 0:
            first = key
    return dataclasses.replace(request, key=first)


def surplus(stored: Iterable[StoredResponse], most: int) -> list[StoredResponse]:
    """Those beyond `most`: complete ones only, the longest unused first; may be empty.

    stored  all that are alike but for their variant
    """
    kept = list(stored)
    idle = sorted((one for one in kept if one.complete), key=lambda one: one.last_used_at)
    return idle[: max(0, len(kept) - most)]


def variant_text(request: AssetRequest, representation: Representation) -> str | None:
    """What tells this variant from others, to be shown to operators; None: the source does not vary."""
    names = vary_names(representation)
    if not names:
        return None
    fields = varying_fields(request)
    return "; ".join(f"{name}: {hf.get(fields, name) or ''}" for name in names)
