"""Limits on requests and on failed logins."""

from __future__ import annotations

from pathlib import Path

import pytest

from origin.domain.model import ANONYMOUS, Caller, Token, User
from origin.errors import TooMany
from origin.services.limits import Buckets, Left, Limiter, network
from tests.support.origin_service import PASSWORD, Service, basic, running_origin


class Now:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def take(buckets: Buckets, key: str) -> Left:
    buckets.take(key)
    return buckets.left(key)


def test_bucket_holds_its_size_and_is_refilled_evenly() -> None:
    now = Now()
    buckets = Buckets(4, 8.0, now)
    assert [take(buckets, "a").remaining for _ in range(4)] == [3, 2, 1, 0]
    with pytest.raises(TooMany) as caught:
        buckets.take("a")
    assert caught.value.retry_after == 2
    now.seconds += 1.9
    with pytest.raises(TooMany):
        buckets.take("a")
    now.seconds += 0.1
    assert take(buckets, "a").remaining == 0
    assert take(buckets, "b").remaining == 3
    now.seconds += 1000
    assert take(buckets, "a") == (4, 3, 2)


def test_after_retry_after_a_request_passes() -> None:
    now = Now()
    buckets = Buckets(3, 100.0, now)
    for _ in range(20):
        try:
            buckets.take("a")
        except TooMany as error:
            now.seconds += error.retry_after
            buckets.take("a")


def test_each_token_user_and_address_has_a_bucket_of_its_own() -> None:
    limiter = Limiter(Buckets(1, 60.0, Now()), Buckets(1, 60.0, Now()))
    user = User(1, "u")
    callers = [
        (Caller(user, Token(1, 1, "t", None, "")), "10.0.0.1"),
        (Caller(user, Token(2, 1, "t", None, "")), "10.0.0.1"),
        (Caller(user), "10.0.0.1"),
        (ANONYMOUS, "10.0.0.1"),
        (ANONYMOUS, "10.0.0.2"),
    ]
    for caller, remote in callers:
        limiter.take(caller, remote)
    for caller, remote in callers:
        with pytest.raises(TooMany):
            limiter.take(caller, remote)


@pytest.mark.parametrize(
    ("remote", "key"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
    ],
)
def test_key_of_an_address_is_its_network(remote: str | None, key: str) -> None:
    assert network(remote) == key


async def test_past_the_limit_it_is_429_and_health_goes_on(tmp_path: Path) -> None:
    async with running_origin(tmp_path, rate_limit={"requests": 3, "per": "1h"}) as service:
        replies = [await service("GET", "/content/media/a", user=None) for _ in range(4)]
        assert [reply.status for reply in replies] == [404, 404, 404, 429]
        assert [reply.headers.get("RateLimit-Remaining") for reply in replies] == ["2", "1", "0", "0"]
        assert int(replies[3].headers["Retry-After"]) >= 1
        assert (await service("GET", "/admin/v1/storages")).status == 200
        assert (await service("GET", "/healthz", user=None)).status == 200


async def test_no_limit_unless_set(service: Service) -> None:
    reply = await service("GET", "/content/media/a")
    assert not [name for name in reply.headers if name.startswith("RateLimit")]


async def test_too_many_bad_passwords_are_429_unchecked_but_known_credentials_go_on(tmp_path: Path) -> None:
    auth = {"admin_password": PASSWORD, "failed_logins": {"requests": 2, "per": "1h"}}
    async with running_origin(tmp_path, auth=auth) as service:
        assert (await service("GET", "/admin/v1/tokens")).status == 200
        bad = {"Authorization": basic("admin", "guess")}
        replies = [await service("GET", "/admin/v1/tokens", headers=bad, user=None) for _ in range(3)]
        assert [reply.status for reply in replies] == [401, 401, 429]
        assert 1000 < int(replies[2].headers["Retry-After"]) <= 1800
        assert (await service("GET", "/admin/v1/tokens")).status == 200
        assert (await service("GET", "/healthz", user=None)).status == 200
