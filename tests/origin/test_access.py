"""Users, tokens, scopes, and what nobody in particular may do."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import stat
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from origin.api.errors import CHALLENGE
from origin.domain.model import ANONYMOUS, Caller, Token, User
from origin.domain.rights import Thing, Verb, has_scope, may
from origin.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from tests.support.origin_service import PASSWORD, Service, basic, running_origin

READER = Caller(User(1, "reader"))
MEMBER = Caller(User(2, "member", write=True, groups=frozenset({"g"})))
WRITER = Caller(User(3, "writer", write=True))
ADMIN = Caller(User(4, "admin", admin=True))
OPEN, CLOSED = Thing(public=True), Thing(public=False)
OURS = Thing(public=True, groups=frozenset({"g"}))
ANYBODYS = Thing(public=True, groups=frozenset({"public", "g"}))

READS = {
    (ANONYMOUS, OPEN),
    (ANONYMOUS, ANYBODYS),
    *product((READER, WRITER), (OPEN, CLOSED, ANYBODYS)),
    *product((MEMBER, ADMIN), (OPEN, CLOSED, OURS, ANYBODYS)),
}
WRITES = {
    *product((WRITER,), (OPEN, CLOSED)),
    *product((MEMBER, ADMIN), (OPEN, CLOSED, OURS, ANYBODYS)),
}
_CALLERS = (ANONYMOUS, READER, MEMBER, WRITER, ADMIN)


@pytest.mark.parametrize("thing", [OPEN, CLOSED, OURS, ANYBODYS], ids=["open", "closed", "ours", "anybodys"])
@pytest.mark.parametrize("caller", _CALLERS, ids=lambda c: c.name or "anonymous")
def test_rights_are_those_of_the_table(caller: Caller, thing: Thing) -> None:
    assert may(caller, Verb.READ, thing, anonymous_reads=True) is ((caller, thing) in READS)
    assert may(caller, Verb.WRITE, thing, anonymous_reads=True) is ((caller, thing) in WRITES)
    assert may(caller, Verb.ADMINISTER, thing, anonymous_reads=True) is (caller is ADMIN)


def test_nobody_reads_when_anonymous_is_none() -> None:
    assert not may(ANONYMOUS, Verb.READ, OPEN, anonymous_reads=False)


@pytest.mark.parametrize(
    ("scopes", "asked", "granted"),
    [
        (None, "files/show", True),
        ((), "files/show", False),
        (("files/show",), "files/show", True),
        (("files/show",), "files/index", False),
        (("files/*",), "files/destroy", True),
        (("*/show",), "jobs/show", True),
        (("*/*",), "users/create", True),
        (("pools/show",), "stores/show", True),
        (("files/show",), "files/sho", False),
    ],
)
def test_scope_is_granted_by_pairs(scopes: tuple[str, ...] | None, asked: str, granted: bool) -> None:
    token = Token(1, 4, "t", None if scopes is None else frozenset(scopes), "abcd")
    assert has_scope(Caller(ADMIN.user, token), asked) is granted


async def test_generated_password_is_kept_from_others_and_works(tmp_path: Path) -> None:
    file = tmp_path / "admin.password"
    auth = {"admin_password_file": str(file)}
    async with running_origin(tmp_path, auth=auth) as service:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        password = file.read_text().strip()
        assert len(password) >= 32
        assert (await service("GET", "/admin/v1/users", user=("admin", password))).status == 200
    async with running_origin(tmp_path, auth=auth) as service:
        assert file.read_text().strip() == password
        assert (await service("GET", "/admin/v1/users", user=("admin", password))).status == 200


async def test_neither_password_nor_token_stands_in_the_catalog(service: Service) -> None:
    admin = await service.admin()
    token, secret = await service.services.access.create_token(admin, "player", None)
    with sqlite3.connect(service.folder / "catalog.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    assert PASSWORD not in dump
    assert secret not in dump
    assert hashlib.sha256(secret.encode()).hexdigest() in dump
    assert token.hint == secret[-4:]
    assert len(secret) == 22


async def test_catalog_is_readable_by_its_owner_only(service: Service) -> None:
    for name in ("catalog.db", "catalog.db-wal", "catalog.db.lock"):
        assert stat.S_IMODE((service.folder / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "token {}", "{}"])
async def test_token_is_taken_in_every_form(service: Service, form: str) -> None:
    _, secret = await service.services.access.create_token(await service.admin(), "t", None)
    headers = {"Authorization": form.format(secret)}
    assert (await service("GET", "/admin/v1/tokens", headers=headers, user=None)).status == 200


@pytest.mark.parametrize(
    "value",
    [
        basic("admin", "wrong"),
        basic("nobody", PASSWORD),
        basic("admin", ""),
        "Basic !!!",
        "Basic YWRtaW4=",
        "Bearer nope",
        "Digest username=admin",
        "nope",
        "",
        " ",
    ],
)
async def test_bad_credentials_are_401_also_for_what_is_public(service: Service, value: str) -> None:
    await service.put("media/a", b"x")
    reply = await service("GET", "/content/media/a", headers={"Authorization": value}, user=None)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith(CHALLENGE)


async def test_scope_that_lacks_is_403_before_anything_is_looked_up(service: Service) -> None:
    await service.put("media/a", b"x")
    access = service.services.access
    _, secret = await access.create_token(await service.admin(), "t", ["jobs/index"])
    headers = {"Authorization": f"Bearer {secret}"}
    for target in ("/content/media/a", "/content/media/missing", "/admin/v1/users"):
        assert (await service("GET", target, headers=headers, user=None)).status == 403, target
    assert (await service("GET", "/admin/v1/jobs", headers=headers, user=None)).status == 200


async def test_token_cannot_give_more_than_it_has(service: Service) -> None:
    access = service.services.access
    _, secret = await access.create_token(await service.admin(), "t", ["files/show"], expires_ms=10**14)
    caller = await access.authenticate_token(secret)
    await access.create_token(caller, "less", ["files/show"], expires_ms=10**13)
    for scopes, expires in ((["files/*"], 10**13), (None, 10**13), (["files/show"], None)):
        with pytest.raises(Forbidden):
            await access.create_token(caller, "more", scopes, expires_ms=expires)
    with pytest.raises(Invalid):
        await access.create_token(await service.admin(), "x", ["files/fly"])


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
async def timed(tmp_path: Path) -> AsyncIterator[tuple[Service, Hands]]:
    clock = Hands()
    async with running_origin(tmp_path, clock=clock, jobs={"runners": 0}) as service:
        yield service, clock


async def test_token_is_refused_from_its_expiry_on(timed: tuple[Service, Hands]) -> None:
    service, clock = timed
    access = service.services.access
    _, secret = await access.create_token(await service.admin(), "t", None, expires_ms=clock.ms + 1000)
    clock.ms += 999
    await access.authenticate_token(secret)
    clock.ms += 1
    with pytest.raises(Unauthenticated):
        await access.authenticate_token(secret)


async def test_changed_password_and_disabled_user_hold_at_once(service: Service) -> None:
    access, admin = service.services.access, await service.admin()
    await access.create_user(admin, "joe", "first")
    assert (await service("GET", "/admin/v1/tokens", user=("joe", "first"))).status == 200
    await access.update_user(admin, "joe", password="second")
    assert (await service("GET", "/admin/v1/tokens", user=("joe", "first"))).status == 401
    _, secret = await access.create_token(await access.authenticate_password("joe", "second"), "t", None)
    await access.authenticate_token(secret)
    await access.update_user(admin, "joe", enabled=False)
    assert (await service("GET", "/admin/v1/tokens", user=("joe", "second"))).status == 401
    with pytest.raises(Unauthenticated):
        await access.authenticate_token(secret)


async def test_deleted_token_and_deleted_user_are_refused(service: Service) -> None:
    access, admin = service.services.access, await service.admin()
    await access.create_user(admin, "joe", "pw")
    joe = await access.authenticate_password("joe", "pw")
    token, secret = await access.create_token(joe, "t", None)
    await access.authenticate_token(secret)
    await access.delete_token(joe, token.id)
    with pytest.raises(Unauthenticated):
        await access.authenticate_token(secret)
    _, other = await access.create_token(joe, "t", None)
    await access.delete_user(admin, "joe")
    with pytest.raises(Unauthenticated):
        await access.authenticate_token(other)


async def test_last_administrator_can_be_neither_deleted_nor_disabled(service: Service) -> None:
    access, admin = service.services.access, await service.admin()
    with pytest.raises(Conflict):
        await access.delete_user(admin, "admin")
    with pytest.raises(Conflict):
        await access.update_user(admin, "admin", enabled=False)
    with pytest.raises(Conflict):
        await access.update_user(admin, "admin", admin=False)
    assert (await access.get_user("admin")).admin


async def test_others_tokens_are_not_found(service: Service) -> None:
    access, admin = service.services.access, await service.admin()
    token, _ = await access.create_token(admin, "t", None)
    await access.create_user(admin, "joe", "pw")
    with pytest.raises(NotFound):
        await access.delete_token(await access.authenticate_password("joe", "pw"), token.id)


async def test_remembered_credentials_do_not_pay_for_scrypt_again(service: Service) -> None:
    access = service.services.access
    await access.authenticate_password("admin", PASSWORD)
    checks = 0

    async def counted(password: str, stored: str | None) -> bool:
        nonlocal checks
        checks += 1
        return True

    access._passwords.fits = counted  # type: ignore[method-assign]
    await asyncio.gather(*(access.authenticate_password("admin", PASSWORD) for _ in range(50)))
    assert checks == 0
    await access.authenticate_password("admin", "another")
    assert checks == 1


async def test_anonymous_none_closes_all_but_health(tmp_path: Path) -> None:
    auth = {"admin_password": PASSWORD, "anonymous": "none"}
    async with running_origin(tmp_path, auth=auth) as service:
        await service.put("media/a", b"x")
        for target in ("/content/media/a", "/content/media/missing", "/admin/v1/files", "/admin/v1/storages"):
            assert (await service("GET", target, user=None)).status == 401, target
        assert (await service("GET", "/content/media/a")).status == 200
        assert (await service("GET", "/healthz", user=None)).status == 200


async def test_lists_show_nobody_only_what_is_public(service: Service) -> None:
    await service.put("media/a", b"x")
    await service.put("secret/b", b"x")
    files = (await service("GET", "/admin/v1/files", user=None)).json
    assert [file["path"] for file in files["files"]] == ["a"]
    assert files["hits"] == 1
    storages = (await service("GET", "/admin/v1/storages", user=None)).json["storages"]
    assert [storage["name"] for storage in storages] == ["media", "archive"]
    assert len((await service("GET", "/admin/v1/files")).json["files"]) == 2
