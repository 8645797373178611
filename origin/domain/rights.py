"""Who may do what: `may` is the one rule, asked through `services.access` by every dialect."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from origin.domain.model import Caller

PUBLIC_GROUP = "public"


class Verb(Enum):
    READ = "read"
    WRITE = "write"
    ADMINISTER = "administer"


@dataclass(frozen=True, slots=True)
class Thing:
    """What a right is asked for.

    public  the storage is readable without credentials
    groups  of the project that the thing belongs to; None when it belongs to none
    """

    public: bool
    groups: frozenset[str] | None = None


def may(caller: Caller, verb: Verb, thing: Thing, *, anonymous_reads: bool) -> bool:
    """True when `caller` may `verb` the `thing`. Scopes of a token are asked apart: `has_scope`."""
    user = caller.user
    if user is None:
        open_to_all = thing.groups is None or PUBLIC_GROUP in thing.groups
        return anonymous_reads and verb is Verb.READ and thing.public and open_to_all
    if user.admin:
        return True
    if verb is Verb.ADMINISTER:
        return False
    member = thing.groups is None or bool(thing.groups & user.groups)
    if verb is Verb.READ:
        return member or (thing.groups is not None and PUBLIC_GROUP in thing.groups)
    return user.write and member


def has_scope(caller: Caller, scope: str) -> bool:
    """True when the credentials reach as far as `scope`, a pair "controller/action".

    Only tokens with a list of scopes are bounded. `stores` and `pools` are one controller.
    """
    if caller.token is None or caller.token.scopes is None:
        return True
    controller, _, action = scope.partition("/")
    controller = _SAME.get(controller, controller)
    for granted in caller.token.scopes:
        have_controller, _, have_action = granted.partition("/")
        have_controller = _SAME.get(have_controller, have_controller)
        if have_controller in ("*", controller) and have_action in ("*", action):
            return True
    return False


_SAME = {"pools": "stores"}

_ALL = frozenset({"index", "show", "create", "update", "destroy"})
SCOPES: dict[str, frozenset[str]] = {
    "files": _ALL | {"tapes"},
    "catalog": frozenset({"search"}),
    "stores": _ALL,
    "pools": _ALL,
    "tapes": frozenset({"index", "show"}),
    "tasks": _ALL | {"action"},
    "task_executions": frozenset({"index", "show"}),
    "task_sources": _ALL,
    "task_destinations": _ALL,
    "api_keys": _ALL,
    "audit": frozenset({"index"}),
    "projects": _ALL,
    "assets": _ALL,
    "objects": _ALL,
    "items": _ALL,
    "jobs": _ALL,
    "notifications": _ALL,
    "workers": _ALL,
    "worker_tasks": _ALL | {"claim"},
}
"""The pairs a token's scopes may name: controller → actions."""
