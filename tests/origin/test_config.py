"""The origin's settings: names and defaults that people rely on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from origin.config import OriginConfig, RateLimit, SettingsError, dump, load

# The names and defaults are promised; a change of one breaks somebody's file.
PROMISED = """
id: origin-1
api: {host: 127.0.0.1, port: 3333}
public_url: http://127.0.0.1:3334
catalog: sqlite:///./var/origin/catalog.db
storages:
  - {name: media,   uri: "file:./var/origin/media", public: true}
  - {name: archive, uri: "file:./var/origin/archive", archive: true}
storage_roots: [./var/origin]
notification_hosts: [127.0.0.1]
auth:
  admin_user: admin
  admin_password: null
  anonymous: read
cors: [{origins: ["*"], paths: ["/"], methods: [GET, HEAD, OPTIONS]}]
rate_limit: null
jobs: {runners: 2}
log: {level: info, format: text, access: true}
"""


def test_promised_file_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "origin.yaml"
    file.write_text(PROMISED, encoding="utf-8")
    assert load(file, [], {}) == OriginConfig() == load(None, [], {})


def test_environment_sets_the_port() -> None:
    assert load(None, [], {"ORIGIN__API__PORT": "8080"}).api.port == 8080


def test_rate_limit_is_off_unless_given() -> None:
    assert OriginConfig().rate_limit is None
    assert load(None, ["rate_limit={requests: 10, per: 1m}"], {}).rate_limit == RateLimit(
        requests=10, per=60.0
    )


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("id=-", "id: must be a letter"),
        ("public_url=127.0.0.1:3334", "public_url: must be an absolute"),
        ("public_url=http://u@h/", "public_url: must have neither credentials"),
        ("public_url=http://h/?q=1", "public_url: must have neither"),
        ("catalog=mysql://h/db", "catalog: must begin with sqlite:///"),
        ("catalog=sqlite://x", "catalog: must be sqlite:/// and the path"),
        ("storages=[{name: a}]", "storages.0.uri: must be given"),
        ("storages=[{name: a, uri: nowhere}]", "storages.0.uri: must be file: and a directory"),
        ("storages=[{name: a, uri: 's3://bucket/a'}]", "storages.0.uri: must be file: and a directory"),
        ("storages=[{name: a, uri: 'file:./a?b'}]", "storages.0.uri: a file: URI has only a path"),
        ("storages=[{name: list, uri: 'file:./a'}]", "storages.0.name: list is a name no storage may bear"),
        ("storages=[{name: v2, uri: 'file:./a'}]", "storages.0.name: v2 is a name no storage may bear"),
        ("storages=[{name: a/b, uri: 'file:./a'}]", "storages.0.name: must be 1 to 255"),
        ("storages=[{name: '..', uri: 'file:./a'}]", "storages.0.name: .. is a name"),
        (
            "storages=[{name: a, uri: 'file:./a'}, {name: a, uri: 'file:./b'}]",
            "storages: two storages have the same name",
        ),
        ("storages=[{name: a, uri: 'file:./a'}, {name: b, uri: 'file:./a'}]", "storages: two storages"),
        ("notification_hosts=http://a", "notification_hosts: 'http://a' is neither"),
        ("auth.admin_user=a:b", "auth.admin_user: must be 1 to 128"),
        ("auth.anonymous=write", "auth.anonymous: must be one of none, read"),
        ("cors=[{origins: [example.org]}]", "cors.0.origins: must be * or scheme and host"),
        ("cors=[{paths: [api]}]", "cors.0.paths: a path begins with /"),
        ("cors=[{methods: [get]}]", "cors.0.methods: a method is written in capitals"),
        ("rate_limit={requests: 0}", "rate_limit.requests: must be at least 1, not 0"),
        ("rate_limit={per: 0s}", "rate_limit.per: must be at least 1s, not 0s"),
        ("jobs.runners=-1", "jobs.runners: must be at least 0"),
        ("job.runners=1", "job: unknown setting; did you mean jobs?"),
    ],
)
def test_value_that_cannot_be_used_is_refused_by_its_key(override: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, [override], {})
    (found,) = caught.value.problems
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "override",
    [
        "auth.admin_password=hunter2",
    ],
)
def test_dump_shows_no_password(override: str) -> None:
    shown = dump(load(None, [override], {}))
    assert "hunter2" not in shown
    assert "********" in shown


def test_a_database_not_supported_yet_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="PostgreSQL is not supported by this version"):
        load(None, ["catalog=postgresql+asyncpg://db/media"], {})


def test_password_and_catalog_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "catalog").write_text("sqlite:////srv/catalog.db\n", encoding="utf-8")
    config = load(None, [f"catalog_file={tmp_path / 'catalog'}"], {})
    assert config.catalog == "sqlite:////srv/catalog.db"
