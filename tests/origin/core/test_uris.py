"""URIs of Files are method URIs with percent-encoded paths, and are never opened as given."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core.keys import parse_asset_path
from distributor.errors import EdgeError
from origin.core.uris import asset_path, canonical_uri, file_uri, locate, methods_matching, scheme_of
from origin.domain.model import Method, Storage

MEDIA = Storage(1, "media", (Method(1, "file:///srv/media/"), Method(2, "s3://b/m/", type="S3")))
INNER = Storage(2, "inner", (Method(3, "file:///srv/media/in%20ner/"),))


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        pytest.param("file:///srv/media/a%20b.txt", ("VX-1", "a b.txt"), id="encoded"),
        pytest.param("file:///srv/media/a b.txt", ("VX-1", "a b.txt"), id="plain"),
        pytest.param("FILE:/srv/media/a", ("VX-1", "a"), id="one-slash-and-case"),
        pytest.param("file://localhost/srv/media/a", ("VX-1", "a"), id="localhost"),
        pytest.param("s3://b/m/x/y", ("VX-1", "x/y"), id="another-method"),
        pytest.param("file:///srv/media/in%20ner/z", ("VX-2", "z"), id="the-longest-method-decides"),
        pytest.param("file:///srv/media/", None, id="the-method-itself"),
        pytest.param("file:///srv/mediax/a", None, id="outside"),
        pytest.param("file://other/srv/media/a", None, id="another-host"),
        pytest.param("http://x/a", None, id="another-scheme"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_uri_names_a_storage_and_a_path_or_nothing(uri: str, found: tuple[str, str] | None) -> None:
    located = locate(uri, [MEDIA, INNER])
    assert (located and (located[0].id, located[1])) == found


@given(st.text(st.characters(codec="utf-8", min_codepoint=0x20), min_size=1, max_size=20))
def test_a_files_uri_leads_back_to_its_path(path: str) -> None:
    uri = file_uri("file:///srv/media/", path)
    assert uri.isascii()
    assert ";" not in uri
    assert locate(uri, [MEDIA]) == (MEDIA, path)


def test_a_uri_is_decoded_once() -> None:
    assert file_uri("file:///m/", "a%20b c") == "file:///m/a%2520b%20c"
    assert canonical_uri("file:///m/a%2520b") == "file:///m/a%20b"


def test_methods_are_chosen_by_type_and_scheme() -> None:
    assert [m.n for m in methods_matching(MEDIA.methods)] == [1]
    assert [m.n for m in methods_matching(MEDIA.methods, type="S3", scheme="S3")] == [2]
    assert methods_matching(MEDIA.methods, scheme="s3") == []


def test_a_scheme_is_that_of_an_absolute_uri() -> None:
    assert scheme_of("S3+x://b") == "s3+x"
    assert scheme_of("/srv/media") == ""


@given(st.text(st.characters(codec="utf-8", min_codepoint=0x20), min_size=1, max_size=20))
def test_a_link_names_the_file_by_its_path_where_an_edge_can_and_else_by_its_id(path: str) -> None:
    named = asset_path(MEDIA, path, 7)
    try:
        by_path = parse_asset_path(quote(f"media/{path}"))
    except EdgeError:
        by_path = "VX-7"
    if path[0] != "/" and path[-1] != "/" and "//" not in path and not {".", ".."} & set(path.split("/")):
        assert parse_asset_path(named) == by_path


@pytest.mark.parametrize("name", ["what?.mp4", "100%.mp4", "a [1080p].mkv", "#1.mp4", "x" * 1020])
def test_a_path_that_is_no_id_of_an_edges_is_linked_by_the_files_id(name: str) -> None:
    assert asset_path(MEDIA, name, 7) == "VX-7"
