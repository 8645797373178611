"""API keys: the caller's own tokens, with scopes and expiry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from origin.api.nodeum.calls import Answer, Call, need_text, text
from origin.api.nodeum.files import number_in_path
from origin.api.nodeum.problems import invalid
from origin.api.nodeum.wire import KEY_FIELDS, key_value
from origin.core.search import moment
from origin.domain.model import Token, make_id
from origin.errors import Invalid, NotFound

_UNNAMED = "API key"
_LOGIN = "login"  # what login tokens of another dialect are called; they are no API keys


def _is_key(token: Token) -> bool:
    return token.scopes is not None or token.name != _LOGIN


async def _find(call: Call) -> Token:
    token = await call.services.access.get_token(call.caller, make_id(number_in_path(call.args["key"])))
    user = call.caller.user
    if user is None or token.user_n != user.n or not _is_key(token):
        raise NotFound("ApiKey", call.args["key"])
    return token


async def index(call: Call) -> Answer:
    found = [token for token in await call.services.access.list_tokens(call.caller) if _is_key(token)]
    return call.list("api_keys", [key_value(token, scopes=False) for token in found], KEY_FIELDS)


async def show(call: Call) -> Answer:
    return Answer(key_value(await _find(call)))


async def create(call: Call) -> Answer:
    given = await call.attributes()
    # The SDK's model of a new key has scopes and no name.
    name = need_text(given, "name", most=255) if given.get("name") is not None else _UNNAMED
    scopes = _scopes(given)
    expires_ms = _expiry(given)
    try:
        token, secret = await call.services.access.create_token(
            call.caller, name, scopes or [], expires_ms=expires_ms
        )
    except Invalid as error:
        raise invalid("api_key_scopes", error.explanation, value=error.value) from error
    headers = {"Location": f"{call.path}/{token.n}", "Cache-Control": "no-store"}
    return Answer(key_value(token, secret=secret), status=201, headers=headers)


async def update(call: Call) -> Answer:
    token = await _find(call)
    given = await call.attributes()
    call.require_match(key_value(token))
    name = need_text(given, "name", most=255) if "name" in given else None
    try:
        token = await call.services.access.update_token(
            call.caller,
            token.id,
            name=name,
            scopes=_scopes(given),
            expires_ms=_expiry(given),
            for_ever="expires_at" in given and given["expires_at"] is None,
        )
    except Invalid as error:
        raise invalid("api_key_scopes", error.explanation, value=error.value) from error
    return Answer(key_value(token))


async def destroy(call: Call) -> Answer:
    token = await _find(call)
    call.require_match(key_value(token))
    await call.services.access.delete_token(call.caller, token.id)
    return Answer(None, status=204)


def _scopes(given: Mapping[str, Any]) -> list[str] | None:
    """Return "controller/action" pairs; None when none are given."""
    value = given.get("api_key_scopes")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > 1000:
        raise invalid("api_key_scopes", "must be a list of {controller, action}")
    found = []
    for one in value:
        if not isinstance(one, dict):
            raise invalid("api_key_scopes", "must be a list of {controller, action}")
        controller, action = one.get("controller"), one.get("action")
        if not isinstance(controller, str) or not isinstance(action, str):
            raise invalid("api_key_scopes", "must be a list of {controller, action}")
        found.append(f"{controller}/{action}")
    return found


def _expiry(given: Mapping[str, Any]) -> int | None:
    value = text(given, "expires_at")
    if value is None:
        return None
    try:
        return moment(value, "expires_at").low
    except Invalid as error:
        raise invalid("expires_at", error.explanation, value=value) from error
