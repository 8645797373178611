"""Names of projects, assets, objects and files; tags; extensions of what workers are given."""

from __future__ import annotations

import pytest

from origin.domain.projects import clean_tags, is_asset_id, is_file_name, is_object_id, is_project_id
from origin.domain.workers import extension_of, is_worker_name, stem_of


@pytest.mark.parametrize("id", ["abc", "a-b.c", "1.2.3.4.5", "0ab", "a" * 63])
def test_a_name_of_a_bucket_is_one_of_a_project(id: str) -> None:
    assert is_project_id(id)


@pytest.mark.parametrize(
    "id", ["", "ab", "a" * 64, "A-b", "a_b", "a..b", ".ab", "1.2.3.4", "new", "ü-b", "abc\n"]
)
def test_what_is_no_name_of_a_bucket_is_none_of_a_project(id: str) -> None:
    assert not is_project_id(id)


@pytest.mark.parametrize(
    ("id", "asset", "object_", "file"),
    [
        ("a", True, True, True),
        ("a b.c", True, False, True),
        ("list", False, True, True),
        (".ovemeta", False, False, False),
        (".hidden", False, False, True),
        ("..", False, False, False),
        ("a/b", False, False, False),
        ("a\\b", False, False, False),
        ("a\x85", False, False, False),
        ("\ud800", False, False, False),
        ("", False, False, False),
        ("x" * 128, True, True, True),
        ("x" * 201, False, False, True),
        ("x" * 256, False, False, False),
    ],
    ids=repr,
)
def test_names_of_assets_objects_and_files(id: str, asset: bool, object_: bool, file: bool) -> None:
    assert (is_asset_id(id), is_object_id(id), is_file_name(id)) == (asset, object_, file)


def test_tags_keep_their_order_and_lose_repeats_and_empty_ones() -> None:
    assert clean_tags([" b", "a", "", "b", " "]) == ("b", "a")


@pytest.mark.parametrize(
    ("name", "extension", "stem"),
    [
        ("site.ZIP", ".zip", "site"),
        ("a.b.tar.GZ", ".tar.gz", "a.b"),
        ("x.tar.zst", ".zst", "x.tar"),
        ("README", "", "README"),
        (".zip", "", ".zip"),
        ("dir.d/pic.png", ".png", "pic"),
        (".tar.gz", ".tar.gz", ".tar.gz"),
        ("a.", "", "a."),
    ],
)
def test_an_extension_is_the_last_suffix_or_both_of_a_packed_tar(
    name: str, extension: str, stem: str
) -> None:
    assert (extension_of(name), stem_of(name)) == (extension, stem)


@pytest.mark.parametrize(("name", "good"), [("w-1.a_b", True), ("", False), ("-a", False), ("a" * 65, False)])
def test_names_of_workers(name: str, good: bool) -> None:
    assert is_worker_name(name) is good
