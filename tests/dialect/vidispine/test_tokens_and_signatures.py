"""Login tokens that live on by being used; signed addresses that outlive the process."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from origin.catalog import users
from tests.support.origin_service import running_origin
from tests.support.vidispine import TEXT, running

SIGNED = "methodMetadata=format%3DSIGNED-AUTO"


class Wall:
    """A clock that a test moves."""

    ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms


@pytest.mark.parametrize(("refresh", "status"), [("true", 200), ("false", 401)])
async def test_a_login_token_lives_on_by_being_used_only_with_auto_refresh(
    tmp_path: Path, refresh: str, status: int
) -> None:
    clock = Wall()
    async with running_origin(tmp_path, clock=clock) as service:
        target = f"/API/token?seconds=40&autoRefresh={refresh}"
        secret = (await service("GET", target, headers={"Accept": TEXT})).body.decode().strip()
        headers = {"Authorization": f"token {secret}"}
        for _ in range(3):  # used every 39 s, for longer than it would have lived
            clock.ms += 39_000
            answer = await service("GET", "/API/storage", headers=headers, user=None)
        assert answer.status == status


async def test_a_refreshed_token_ends_when_it_is_not_used(tmp_path: Path) -> None:
    clock = Wall()
    async with running_origin(tmp_path, clock=clock) as service:
        target = "/API/token?seconds=40&autoRefresh=true"
        secret = (await service("GET", target, headers={"Accept": TEXT})).body.decode().strip()
        headers = {"Authorization": f"token {secret}"}
        assert (await service("GET", "/API/storage", headers=headers, user=None)).status == 200
        clock.ms += 51_000  # 40 s and the quarter by which a use is rounded up
        assert (await service("GET", "/API/storage", headers=headers, user=None)).status == 401


async def test_a_refreshed_token_is_written_at_most_once_a_quarter_of_its_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, writes = Wall(), 0
    update = users.update_token

    async def counted(*args: object) -> None:
        nonlocal writes
        writes += 1
        await update(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(users, "update_token", counted)
    async with running_origin(tmp_path, clock=clock) as service:
        target = "/API/token?seconds=40&autoRefresh=true"
        secret = (await service("GET", target, headers={"Accept": TEXT})).body.decode().strip()
        for _ in range(30):
            await service.services.access.authenticate_token(secret)
            clock.ms += 1_000
        assert writes == 4  # the first use, then at 1, 12 and 23 s


async def test_a_signed_address_is_good_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, client):
        id_ = await client.upload("a", b"signed bytes")
        address = urlsplit((await client("GET", f"/API/file/{id_}?{SIGNED}")).json["uri"][0])
    (key,) = tmp_path.glob("catalog.db.signing-key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    async with running(tmp_path) as (_, client):
        target = f"{address.path}?{address.query}"
        assert (await client("GET", target, as_=None)).body == b"signed bytes"
        assert (await client("GET", target.replace("signature=", "signature=0"), as_=None)).status == 403
