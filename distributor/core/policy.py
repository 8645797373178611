"""The one place that decides what is done with an asset request. Pure.

In: what was asked, what is stored, whether a fetch is under way, what is remembered, the time.
Out: one Decision. The order is that of the contract's §3.3.

    bucket known and not served ............ MISDIRECTED
    a 404, 410 or 421 remembered ........... REMEMBERED
    complete and fresh ..................... HIT
    stale, but may be served meanwhile ..... HIT_THEN_REVALIDATE, or HIT where no source may be asked
    all asked bytes there (fill: asked) .... HIT
    a fetch under way ...................... JOIN, or LOOP where the request has passed this node already
    only-if-cached ......................... ONLY_IF_CACHED
    this node already in CDN-Loop .......... LOOP
    HEAD ................................... LOOK_UP, or CONFIRM when stale
    known not to be storable .............. RELAY
    complete but stale ..................... REVALIDATE
    partial ................................ RESUME
    nothing ................................ FETCH
"""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from distributor.core.model import AssetRequest, StoredResponse
from distributor.http import fields as hf
from distributor.http.freshness import Reuse, current_age, only_if_cached, usable


class Decision(Enum):
    """What to do; each is carried out by one method of `delivery.edge`."""

    MISDIRECTED = "misdirected"
    REMEMBERED = "remembered"
    HIT = "hit"
    HIT_THEN_REVALIDATE = "hit-then-revalidate"
    JOIN = "join"
    ONLY_IF_CACHED = "only-if-cached"
    LOOP = "loop"
    LOOK_UP = "look-up"
    CONFIRM = "confirm"
    RELAY = "relay"
    REVALIDATE = "revalidate"
    RESUME = "resume"
    FETCH = "fetch"


class Known(NamedTuple):
    """What the edge knows of an asset when it is asked for it.

    stored          the stored response, complete or partial; None: none
    served          False: its bucket, known from `stored` or a fetch, is not distributed
    remembered      a negative answer of a source is remembered and not expired
    fetching        a fetch for the key is under way and takes new readers
    asked_present   `fill: asked`, and every asked byte is on disk
    unstorable      a recent answer for the key could not be stored
    """

    stored: StoredResponse | None = None
    served: bool = True
    remembered: bool = False
    fetching: bool = False
    asked_present: bool = False
    unstorable: bool = False


def decide(request: AssetRequest, known: Known, *, node_id: str) -> Decision:
    """Say what is to be done with `request`. See the table at the head of this file."""
    if not known.served:
        return Decision.MISDIRECTED
    if known.remembered:
        return Decision.REMEMBERED
    stored = known.stored
    if stored is not None and (stored.complete or known.asked_present):
        reuse = reusable(stored, request.now)
        if reuse is Reuse.FRESH:
            return Decision.HIT
        if reuse is Reuse.STALE_WHILE_REVALIDATE and stored.complete:
            return Decision.HIT_THEN_REVALIDATE if refusal(request, node_id) is None else Decision.HIT
    if known.fetching:
        # Of a request that has passed here the fetch under way may be the very one that waits for it.
        return Decision.LOOP if names_node(request.fields, node_id) else Decision.JOIN
    return refusal(request, node_id) or _ask_a_source(request, known)


def refusal(request: AssetRequest, node_id: str) -> Decision | None:
    """Why no source may be asked for `request`; None when one may."""
    if only_if_cached(request.fields):
        return Decision.ONLY_IF_CACHED
    return Decision.LOOP if names_node(request.fields, node_id) else None


def _ask_a_source(request: AssetRequest, known: Known) -> Decision:
    stored = known.stored
    if request.method == "HEAD":
        return Decision.CONFIRM if stored is not None and stored.complete else Decision.LOOK_UP
    if known.unstorable:
        return Decision.RELAY
    if stored is None:
        return Decision.FETCH
    return Decision.REVALIDATE if stored.complete else Decision.RESUME


def reusable(stored: StoredResponse, now: float) -> Reuse:
    """Whether the stored response may answer without its source (RFC 9111 §4.2)."""
    representation = stored.representation
    age = current_age(representation.initial_age, representation.response_time, now)
    return usable(representation.policy, age, soft_purged=stored.stale_marked)


def ttl(stored: StoredResponse, now: float) -> int:
    """Whole seconds of freshness left, rounded down; below 0 when stale, soft-purged included."""
    representation = stored.representation
    age = current_age(representation.initial_age, representation.response_time, now)
    left = math.floor(representation.policy.freshness_lifetime - age)
    return min(left, -1) if stored.stale_marked else left


def names_node(fields: hf.Fields, node_id: str) -> bool:
    """Whether the node already stands in CDN-Loop (RFC 8586 §2); ids compare without case."""
    value = hf.get(fields, "cdn-loop")
    if value is None:
        return False
    wanted = node_id.lower()
    return any(member.split(";", 1)[0].strip().lower() == wanted for member in hf.split_list(value))
