"""The edge's settings: names and defaults that people rely on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from distributor.config import Config, dump, load
from distributor.settings import SettingsError

# The names and defaults are promised; a change of one breaks somebody's file.
PROMISED = """
id: edge-1
public_api: {host: 127.0.0.1, port: 3334}
operator_api: {host: 127.0.0.1, port: 3335, token: null, token_file: ./var/edge/operator.token}
buckets: all
worker_id: null
origin:
  sources:
    - url: http://127.0.0.1:3333/content/{id}
  connect_timeout: 5s
  stall_timeout: 10s
  max_connections: 100
  transparent: false
cache:
  directory: ./var/edge
  limit: 10G
  max_object: null
  segment: 1M
  fill: whole
  eviction: lru
  durability: fsync
  key_query: false
  strip_query: [CMCD, hdnts, hdnea, md5, expires, Expires, Policy, Signature, Key-Pair-Id]
freshness: {default_ttl: 60s, negative_ttl: 5s, stale_if_error: 1d}
limits: {max_clients: 10000, header_timeout: 10s, idle_timeout: 75s, min_send_rate: 1K}
log: {level: info, format: text, access: true}
"""


def test_promised_file_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "distributor.yaml"
    file.write_text(PROMISED, encoding="utf-8")
    assert load(file, [], {}) == Config() == load(None, [], {})


def test_values_are_bytes_seconds_and_paths() -> None:
    config = Config()
    assert (config.cache.limit, config.cache.segment, config.limits.min_send_rate) == (
        10 << 30,
        1 << 20,
        1024,
    )
    assert (config.freshness.stale_if_error, config.origin.connect_timeout) == (86400.0, 5.0)
    assert config.cache.directory == Path("var/edge")
    assert config.buckets == "all"
    assert config.origin.sources[0].url == "http://127.0.0.1:3333/content/{id}"


def test_environment_sets_the_cache_limit() -> None:
    assert (
        load(None, [], {"DISTRIBUTOR__CACHE__LIMIT": "1G", "DISTRIBUTOR_TOKEN": "x"}).cache.limit == 1 << 30
    )


@pytest.mark.parametrize(
    ("text", "buckets"),
    [("all", "all"), ("a,b", ("a", "b")), ("[a, b:1]", ("a", "b:1")), ("all,b", ("all", "b"))],
)
def test_buckets_are_all_or_a_list_in_its_order(text: str, buckets: object) -> None:
    assert load(None, [f"buckets={text}"], {}).buckets == buckets


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("id=1edge", "id: must be a letter"),
        ("id=a" + "b" * 64, "id: must be a letter"),
        ("id=a b", "id: must be a letter"),
        ("id=", "id: must be a letter"),
        ("public_api.port=65536", "public_api.port: must be at most 65535, not 65536"),
        ("operator_api.port=3334", "operator_api.port: must differ from public_api.port"),
        ("operator_api.token=a b", "operator_api.token: must be 1 to 1024 ASCII characters"),
        ("buckets=a/b", "buckets: a bucket id is"),
        ("buckets=[]", "buckets: must name at least one"),
        ("buckets=a,a", "buckets: must not name a bucket twice"),
        ("worker_id=-1", "worker_id: must be at least 0, not -1"),
        ("origin.sources=[]", "origin.sources: must have at least 1 member"),
        ("origin.sources.0.url=http://a/", "origin.sources.0.url: must contain {id}"),
        ("origin.sources.0.url=/a/{id}", "origin.sources.0.url: must be an absolute"),
        ("origin.sources.0.url=ftp://a/{id}", "origin.sources.0.url: must be an absolute"),
        ("origin.sources.0.url=http:///{id}", "origin.sources.0.url: must be an absolute"),
        ("origin.sources.0.url=http://a:99999/{id}", "origin.sources.0.url: must be an absolute"),
        ("origin.sources.0.url=http://a b/{id}", "origin.sources.0.url: must be an absolute"),
        ("origin.sources.0.url=http://{id}/", "origin.sources.0.url: must have {id} in its path"),
        ("origin.sources.0.url=http://a/{id}/{id}", "origin.sources.0.url: must contain {id} only once"),
        ("origin.sources.0.url=http://u:p@a/{id}", "origin.sources.0.url: must not contain credentials"),
        ("origin.sources.0.url=http://a/{id}#x", "origin.sources.0.url: must not have a fragment"),
        ("origin.sources.0.name=a b", "origin.sources.0.name: must be 1 to 64"),
        ("origin.sources.0.headers={Range: x}", "origin.sources.0.headers: Range is set by the edge itself"),
        ("origin.sources.0.headers={'a b': x}", "origin.sources.0.headers: 'a b' is no header field name"),
        ('origin.sources.0.headers={a: "x\\ny"}', "origin.sources.0.headers: must be mapping"),
        (
            "origin.sources.1.url=http://127.0.0.1:3333/content/{id}",
            "origin.sources: two sources have the same url",
        ),
        ("cache.segment=3M", "cache.segment: must be a power of two"),
        ("cache.segment=1", "cache.segment: must be at least 4K, not 1"),
        ("cache.limit=0", "cache.limit: must be at least 1, not 0"),
        ("cache.max_object=11G", "cache.max_object: must not be larger than cache.limit"),
        ("cache.fill=all", "cache.fill: must be one of whole, asked, not 'all'"),
        ("cache.eviction=fifo", "cache.eviction: must be one of lru, s3-fifo"),
        ("cache.strip_query=a&b", "cache.strip_query: 'a&b' is no name"),
        ("freshness.negative_ttl=2h", "freshness.negative_ttl: must be at most 1h, not 2h"),
        ("cache.limits=1G", "cache.limits: unknown setting; did you mean cache.limit?"),
        ("log.level=loud", "log.level: must be one of debug, info, warning, error, not 'loud'"),
    ],
)
def test_value_that_cannot_be_used_is_refused_by_its_key(override: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, [override], {})
    (found,) = caught.value.problems
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "url",
    ["https://a/{id}", "http://[::1]:81/x/{id}/y", "http://a/get?name={id}&b=1", "http://a-b.c/assets/{id}"],
)
def test_url_with_an_id_in_path_or_query_is_a_source(url: str) -> None:
    assert load(None, [f"origin.sources=[{{url: '{url}'}}]"], {}).origin.sources[0].url == url


def test_dump_shows_neither_the_token_nor_a_sources_credentials() -> None:
    overrides = [
        "operator_api.token=hunter2hunter2",
        "origin.sources.0.headers={Authorization: Bearer hunter2}",
    ]
    shown = dump(load(None, overrides, {}))
    assert "hunter2" not in shown
    assert yaml.safe_load(shown)["origin"]["sources"][0]["headers"] == {"Authorization": "********"}


def test_headers_of_a_source_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("Authorization: Bearer x\n", encoding="utf-8")
    config = load(None, [f"origin.sources.0.headers_file={tmp_path / 'headers'}"], {})
    assert config.origin.sources[0].headers == {"Authorization": "Bearer x"}
