"""The path table of the seed document "Files", asked over HTTP and answered by the catalog's SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.support.path_table import ENTITIES, cases
from tests.support.vidispine import TEXT, Client

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table(shared: Client) -> AsyncIterator[Client]:
    """The four entities exist at once although no directory tree can hold them."""
    for path in ENTITIES:
        reply = await shared("POST", f"/API/storage/VX-1/file?path={quote(path)}", accept=TEXT)
        assert reply.status == 200
    yield shared


@pytest.mark.parametrize(("path", "recursive", "wildcard", "expected"), cases())
async def test_a_row_of_the_seeds_table_selects_what_it_says(
    table: Client, path: str, recursive: bool, wildcard: bool, expected: list[str]
) -> None:
    query = f"path={quote(path)}&recursive={recursive}&wildcard={wildcard}"
    reply = await table("GET", f"/storage/VX-1/file?{query}")
    assert [file["path"] for file in reply.json["file"]] == expected
    assert reply.json["hits"] == len(expected)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("path=FOO/BAR&ignorecase=true", ["foo/bar", "foo/bar/baz", "foo/bar/?az"], id="folded"),
        pytest.param("path=FOO/BAR", [], id="case-counts"),
        pytest.param(
            "path=F*/B%3FR/%3FAZ&ignorecase=true&wildcard=true", ["foo/bar/baz", "foo/bar/?az"], id="both"
        ),
        pytest.param("path=*", [], id="star-is-literal"),
        pytest.param("path=*&wildcard=true&recursive=false", ["foo"], id="star-does-not-cross"),
        pytest.param("path=/../foo/&recursive=false", ["foo/bar"], id="dots-at-the-root-are-dropped"),
    ],
)
async def test_paths_beyond_the_table(table: Client, query: str, expected: list[str]) -> None:
    reply = await table("GET", f"/API/storage/VX-1/file?{query}")
    assert [file["path"] for file in reply.json["file"]] == expected
