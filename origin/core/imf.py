"""IMF and D-Cinema packages: ASSETMAP, packing list, composition playlist. Pure.

An ASSETMAP (SMPTE ST 429-9) maps UUIDs to files of its own directory, a packing list (ST 429-8,
ST 2067-2) gives size and hash per UUID, a composition playlist (ST 2067-3, ST 429-7) names the track
files. The InterOp forms differ in their namespaces only. Essence is not opened.

Every parser raises Invalid for what the package may not be; the message names the place.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID
from xml.etree.ElementTree import Element, TreeBuilder

import defusedxml
from defusedxml.ElementTree import DefusedXMLParser

from origin.errors import Invalid

MAX_BYTES = 16 * 1024 * 1024
MAX_LEVELS = 100
MAX_ASSETS = 100_000

_ASSET_MAPS = {
    "http://www.smpte-ra.org/schemas/429-9/2007/AM",
    "http://www.smpte-ra.org/schemas/429-9/2016/AM",
    "http://www.digicine.com/PROTO-ASDCP-AM-20040311#",
}
_PACKING_LISTS = {
    "http://www.smpte-ra.org/schemas/429-8/2007/PKL",
    "http://www.smpte-ra.org/schemas/2067-2/2016/PKL",
    "http://www.digicine.com/PROTO-ASDCP-PKL-20040311#",
}
_COMPOSITIONS = {
    "http://www.smpte-ra.org/schemas/2067-3/2013",
    "http://www.smpte-ra.org/schemas/2067-3/2016",
    "http://www.smpte-ra.org/schemas/429-7/2006/CPL",
    "http://www.digicine.com/PROTO-ASDCP-CPL-20040511#",
}
_SHA1_ALGORITHM = "http://www.w3.org/2000/09/xmldsig#sha1"
_UUID = re.compile(r"urn:uuid:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asset:
    """One entry of an ASSETMAP. names: its chunks' file names, decoded, in order; at least one."""

    uuid: UUID
    names: tuple[str, ...]
    packing_list: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What a packing list says of one asset. sha1: hexadecimal; None: hashed by another algorithm."""

    uuid: UUID
    size: int
    sha1: str | None


@dataclass(frozen=True, slots=True)
class Composition:
    """track_files: in the order of first mention, each once."""

    uuid: UUID
    track_files: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class AssetMap:
    uuid: UUID
    assets: tuple[Asset, ...] = field(default=())


def is_composition(body: bytes) -> bool:
    """Whether the document is a composition playlist. False for anything else, also for no XML."""
    try:
        root = _parse(body, "document")
    except Invalid:
        return False
    namespace, name = _split(root)
    return name == "CompositionPlaylist" and namespace in _COMPOSITIONS


def parse_asset_map(body: bytes) -> AssetMap:
    """Read an ASSETMAP. Raises Invalid also for several volumes, and for names outside its directory."""
    root = _root(body, "ASSETMAP", "AssetMap", _ASSET_MAPS)
    if _number(_text(root, "VolumeCount") or "1", "VolumeCount") > 1:
        raise Invalid("ASSETMAP", "the package spreads over several volumes")
    assets: list[Asset] = []
    for entry in _children(_child(root, "AssetList"), "Asset"):
        if len(assets) >= MAX_ASSETS:
            raise Invalid("ASSETMAP", f"has over {MAX_ASSETS} assets")
        assets.append(_asset(entry))
    _unique("ASSETMAP", [asset.uuid for asset in assets])
    return AssetMap(_uuid(_text(root, "Id"), "ASSETMAP"), tuple(assets))


def _asset(entry: Element) -> Asset:
    uuid = _uuid(_text(entry, "Id"), "ASSETMAP")
    names = []
    for chunk in _children(_child(entry, "ChunkList"), "Chunk"):
        if _number(_text(chunk, "VolumeIndex") or "1", "VolumeIndex") > 1:
            raise Invalid("ASSETMAP", "the package spreads over several volumes")
        names.append(_file_name(_text(chunk, "Path")))
    if not names:
        raise Invalid("ASSETMAP", f"asset {uuid} has no chunk")
    packing = _child(entry, "PackingList")
    is_packing_list = packing is not None and (packing.text or "").strip().lower() != "false"
    return Asset(uuid, tuple(names), is_packing_list)


def _file_name(path: str | None) -> str:
    """Return the name of a file in the ASSETMAP's own directory, percent-decoded once."""
    try:
        name = unquote_to_bytes(path or "").decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("ASSETMAP", f"the path {path!r} is not UTF-8", path) from None
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name)
    if name in ("", ".", "..") or scheme or re.search(r"[/\\\x00-\x1f\x7f]", name):
        raise Invalid("ASSETMAP", f"the path {path!r} is not a file beside the ASSETMAP", path)
    return name


def parse_packing_list(body: bytes, name: str) -> tuple[Expected, ...]:
    """Read a packing list. name: of its file, for messages."""
    root = _root(body, name, "PackingList", _PACKING_LISTS)
    made: list[Expected] = []
    for entry in _children(_child(root, "AssetList"), "Asset"):
        if len(made) >= MAX_ASSETS:
            raise Invalid(name, f"has over {MAX_ASSETS} assets")
        algorithm = _child(entry, "HashAlgorithm")
        other = algorithm is not None and algorithm.get("Algorithm", _SHA1_ALGORITHM) != _SHA1_ALGORITHM
        made.append(
            Expected(
                uuid=_uuid(_text(entry, "Id"), name),
                size=_number(_text(entry, "Size") or "", f"{name}: Size"),
                sha1=None if other else _sha1(_text(entry, "Hash"), name),
            )
        )
    _unique(name, [expected.uuid for expected in made])
    return tuple(made)


def _sha1(text: str | None, name: str) -> str | None:
    try:
        raw = base64.b64decode((text or "").strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(name, "has a hash that is not base64", text) from error
    return raw.hex() if len(raw) == 20 else None


def parse_composition(body: bytes, name: str) -> Composition:
    """Read a composition playlist: every `TrackFileId`, in whatever namespace. name: for messages."""
    root = _root(body, name, "CompositionPlaylist", _COMPOSITIONS)
    found: dict[UUID, None] = {}
    for node in root.iter():
        if isinstance(node.tag, str) and node.tag.rpartition("}")[2] == "TrackFileId":
            found[_uuid(node.text, name)] = None
    return Composition(_uuid(_text(root, "Id"), name), tuple(found))


# --- XML ------------------------------------------------------------------------------------------


class _BoundedBuilder(TreeBuilder):
    """Stops at the level that is too deep, before the tree grows there."""

    def __init__(self) -> None:
        super().__init__()
        self._level = 0

    def start(self, tag: Any, attrs: Any, /) -> Any:
        self._level += 1
        if self._level > MAX_LEVELS:
            raise Invalid("document", f"has over {MAX_LEVELS} levels")
        return super().start(tag, attrs)

    def end(self, tag: Any, /) -> Any:
        self._level -= 1
        return super().end(tag)


def _parse(body: bytes, name: str) -> Element:
    if len(body) > MAX_BYTES:
        raise Invalid(name, f"has over {MAX_BYTES} bytes")
    parser = DefusedXMLParser(target=_BoundedBuilder(), forbid_dtd=True)
    try:
        parser.feed(body)
        root = parser.close()
    except defusedxml.DefusedXmlException as error:
        raise Invalid(name, "has a document type or entity declaration, which is not allowed") from error
    except Invalid as error:
        raise Invalid(name, error.explanation) from error
    except (SyntaxError, ValueError, LookupError) as error:
        raise Invalid(name, "is not well-formed XML") from error
    if not isinstance(root, Element):
        raise Invalid(name, "is not well-formed XML")
    return root


def _root(body: bytes, name: str, local: str, namespaces: set[str]) -> Element:
    root = _parse(body, name)
    namespace, found = _split(root)
    if found != local or namespace not in namespaces:
        raise Invalid(name, f"is not a known {local} document", f"{{{namespace}}}{found}")
    return root


def _split(node: Element) -> tuple[str, str]:
    namespace, _, local = str(node.tag).rpartition("}")
    return namespace.removeprefix("{"), local


def _children(node: Element | None, local: str) -> Iterator[Element]:
    for child in node if node is not None else ():
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == local:
            yield child


def _child(node: Element, local: str) -> Element | None:
    return next(_children(node, local), None)


def _text(node: Element, local: str) -> str | None:
    child = _child(node, local)
    return None if child is None else (child.text or "").strip()


def _uuid(text: str | None, name: str) -> UUID:
    match = _UUID.fullmatch((text or "").strip().lower())
    if match is None:
        raise Invalid(name, "has an Id that is not urn:uuid:…", text)
    return UUID(match[1])


def _number(text: str, name: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise Invalid(name, "must be a whole number", text)
    return int(text)


def _unique(name: str, uuids: list[UUID]) -> None:
    seen: set[UUID] = set()
    for uuid in uuids:
        if uuid in seen:
            raise Invalid(name, f"names {uuid} twice")
        seen.add(uuid)
