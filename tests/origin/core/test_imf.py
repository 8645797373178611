"""IMF packages as read: SMPTE ST 429-9 (ASSETMAP), ST 429-8 and 2067-2 (PKL), ST 2067-3 (CPL)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from uuid import UUID

import pytest

from origin.core.imf import is_composition, parse_asset_map, parse_composition, parse_packing_list
from origin.errors import Invalid
from tests.support import imf_package as make

INTEROP = "http://www.digicine.com/PROTO-ASDCP-AM-20040311#"


@pytest.mark.parametrize(
    ("namespace", "prefix"),
    [(make.AM, ""), (make.AM.replace("2007", "2016"), "am"), (INTEROP, "")],
)
def test_an_asset_map_maps_uuids_to_names(namespace: str, prefix: str) -> None:
    body = make.asset_map(
        [(make.uuid(2), "PKL.xml", True), (make.uuid(7), "a%20b.mxf", False)],
        namespace=namespace,
        prefix=prefix,
    )
    assets = parse_asset_map(body).assets
    assert [(asset.uuid, asset.names, asset.packing_list) for asset in assets] == [
        (UUID(make.uuid(2)), ("PKL.xml",), True),
        (UUID(make.uuid(7)), ("a b.mxf",), False),
    ]


def test_a_packing_list_element_that_says_false_makes_no_packing_list() -> None:
    body = make.asset_map([(make.uuid(2), "x", True)]).replace(b">true<", b">false<")
    assert not parse_asset_map(body).assets[0].packing_list


def test_an_asset_may_have_several_chunks() -> None:
    chunk = b"<Chunk><Path>a.mxf</Path></Chunk>"
    body = make.asset_map([(make.uuid(7), "a.mxf", False)]).replace(
        chunk, chunk + chunk.replace(b"a.", b"b.")
    )
    assert parse_asset_map(body).assets[0].names == ("a.mxf", "b.mxf")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a", "a/b", "a%2Fb", "..", "file:///a", "a\\b", "a%00b", "", "%ff", "s3:x"]
)
def test_names_outside_the_asset_maps_directory_are_refused_and_named(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_asset_map(make.asset_map([(make.uuid(7), path, False)]))
    assert repr(path) in str(caught.value)


ONE = make.asset_map([(make.uuid(7), "a", False)])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(make.asset_map([], volumes=2), id="several-volumes"),
        pytest.param(ONE.replace(b"</Path>", b"</Path><VolumeIndex>2</VolumeIndex>"), id="volume-index"),
        pytest.param(make.asset_map([(make.uuid(7), "a", False)] * 2), id="uuid-twice"),
        pytest.param(make.asset_map([], namespace="urn:x"), id="unknown-namespace"),
        pytest.param(b'<!DOCTYPE a [<!ENTITY x "y">]>' + ONE.partition(b"?>")[2], id="dtd"),
        pytest.param(ONE.replace(b"urn:uuid:", b""), id="no-urn"),
        pytest.param(ONE.replace(b"<AssetList>", b"<AssetList>" + b"<a>" * 101 + b"</a>" * 101), id="deep"),
        pytest.param(ONE + b" " * (16 << 20), id="large"),
        pytest.param(ONE[:-3], id="cut"),
        pytest.param(b"", id="empty"),
        pytest.param(ONE.replace(b"<Chunk><Path>a</Path></Chunk>", b""), id="no-chunk"),
    ],
)
def test_asset_maps_that_cannot_be(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse_asset_map(body)


@pytest.mark.parametrize("parse", [parse_packing_list, parse_composition])
def test_another_document_is_refused(parse: Callable[[bytes, str], object]) -> None:
    with pytest.raises(Invalid, match=r"x\.xml"):
        parse(ONE, "x.xml")


def test_a_packing_list_gives_size_and_sha1() -> None:
    (expected,) = parse_packing_list(make.packing_list([(make.uuid(7), b"abc")]), "PKL.xml")
    assert (expected.uuid, expected.size) == (UUID(make.uuid(7)), 3)
    assert expected.sha1 == hashlib.sha1(b"abc").hexdigest()


def test_a_hash_of_another_algorithm_is_no_sha1() -> None:
    body = make.packing_list([(make.uuid(7), b"abc")], algorithm="http://www.w3.org/2001/04/xmlenc#sha256")
    assert parse_packing_list(body, "PKL.xml")[0].sha1 is None


def test_a_composition_names_each_track_file_once_in_whatever_namespace() -> None:
    body = make.composition([make.uuid(9), make.uuid(8), make.uuid(9)])
    assert parse_composition(body, "CPL.xml").track_files == (UUID(make.uuid(9)), UUID(make.uuid(8)))
    assert is_composition(body)
    assert not is_composition(ONE)
    assert not is_composition(b"not xml")
