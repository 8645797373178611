"""Who asks, stores, and projects with their records."""

from __future__ import annotations

import json
from typing import Any

from origin.api.auth import admitted
from origin.api.ove import wire
from origin.api.ove.calls import Answer, Call, need_text, text_of, texts_of
from origin.api.ove.problems import Problem, invalid_data, missing
from origin.domain.projects import LISTS, SWITCHES, TEXTS, Place, Project, clean_tags
from origin.domain.rights import Verb
from origin.errors import Conflict, NotFound, Unauthenticated

_OBJECT = "project"  # the one a project's page is made from


async def log_in(call: Call) -> Answer:
    """A token for a password: the user's, with all rights it has at any time, and an end."""
    given = await call.document()
    user, password = need_text(given, "user"), need_text(given, "password")
    access, services = call.services.access, call.services
    try:
        caller = await admitted(
            call.request, services, access.authenticate_password(user, password), known=False
        )
    except Unauthenticated as error:
        problem = Problem(401, "Invalid credentials", "The user or the password is wrong.")
        problem.headers["WWW-Authenticate"] = "Basic"
        problem.more["token"] = None
        raise problem from error
    ends = services.clock.now_ms() + int(services.config.auth.login_lifetime * 1000)
    _, secret = await access.create_token(caller, "login", None, expires_ms=ends)
    return Answer({"token": secret})


async def list_stores(call: Call) -> Answer:
    return Answer([storage.name for storage in await call.services.projects.stores(call.caller)])


# --- projects -------------------------------------------------------------------------------------


async def list_projects(call: Call) -> Answer:
    full = call.switch("metadata")
    found = call.services.projects.listing(call.caller, call.storage, call.param("filterByTag"))
    if full:
        return Answer([await _record(call, Place(call.storage, project)) for project in found])
    return Answer([{"id": p.id, "name": p.name, "creationDate": wire.time_text(p.created_ms)} for p in found])


async def create_project(call: Call) -> Answer:
    given = await call.document()
    id = need_text(given, "id")
    name = text_of(given, "name")
    groups = texts_of(given, "groups")
    if groups is None:
        raise missing("groups")
    project = await call.services.projects.create(
        call.caller, call.storage, id, name, [group for group in groups if group]
    )
    return Answer({"Project": project.id})


async def delete_project(call: Call) -> Answer:
    await call.services.projects.delete(call.caller, call.place, force=call.switch("force"))
    return Answer(wire.OK)


async def show_record(call: Call) -> Answer:
    return Answer(await _record(call, call.place))


async def update_record(call: Call) -> Answer:
    given = await call.document()
    tags = texts_of(given, "tags")
    project = await call.services.projects.update(
        call.place,
        name=text_of(given, "name"),
        tags=None if tags is None else clean_tags(tags),
        fields=_fields(given),
    )
    return Answer(await _record(call, Place(call.storage, project)))


def _fields(given: dict[str, Any]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name in TEXTS:
        if (text := text_of(given, name)) is not None:
            fields[name] = text
    for name in LISTS:
        value = given.get(name)
        if value is not None and not isinstance(value, list):
            raise invalid_data(f"{name!r} must be a list.")
        if value is not None:
            fields[name] = value
    for name in SWITCHES:
        value = given.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid_data(f"{name!r} must be true or false.")
        if value is not None:
            fields[name] = value
    return fields


async def _record(call: Call, place: Place) -> dict[str, Any]:
    services, project = call.services, place.project
    url, has_project, sections = "", False, False
    if await services.assets.has_object(place, _OBJECT):
        try:
            file = await services.assets.object_file(call.caller, place, _OBJECT)
            has_project, url = True, call.wire.url(place.storage, file.path, file.n)
            sections = _has_sections(await services.assets.read_object(call.caller, place, _OBJECT))
        except (NotFound, Conflict):
            pass
    return wire.project_record(
        project,
        url=url,
        has_project=has_project,
        sections=sections,
        read=services.projects.may(call.caller, Verb.READ, project),
        write=services.projects.may(call.caller, Verb.WRITE, project),
    )


def _has_sections(document: bytes) -> bool:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(value.get("Sections"))


async def show_access(call: Call) -> Answer:
    return Answer(_access(call.place.project))


async def update_access(call: Call) -> Answer:
    call.services.access.require_admin(call.caller)
    groups = texts_of(await call.document(), "groups")
    if groups is None:
        raise invalid_data("'groups' must be a list of texts.")
    project = await call.services.projects.set_access(call.caller, call.place, groups)
    return Answer(_access(project))


def _access(project: Project) -> dict[str, Any]:
    return {"groups": list(project.access)}
