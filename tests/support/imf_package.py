"""Makes IMF packages: documents as text, with hashes that fit."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

AM = "http://www.smpte-ra.org/schemas/429-9/2007/AM"
PKL = "http://www.smpte-ra.org/schemas/2067-2/2016/PKL"
CPL = "http://www.smpte-ra.org/schemas/2067-3/2016"


def uuid(n: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{n:012x}"


def asset_map(
    assets: Iterable[tuple[str, str, bool]], *, namespace: str = AM, volumes: int = 1, prefix: str = ""
) -> bytes:
    """assets: (urn, path, is a packing list)."""
    p = f"{prefix}:" if prefix else ""
    binding = f"xmlns:{prefix}" if prefix else "xmlns"
    entries = "".join(
        f"<{p}Asset><{p}Id>{urn}</{p}Id>"
        + (f"<{p}PackingList>true</{p}PackingList>" if packing else "")
        + f"<{p}ChunkList><{p}Chunk><{p}Path>{path}</{p}Path></{p}Chunk></{p}ChunkList></{p}Asset>"
        for urn, path, packing in assets
    )
    return (
        f'<?xml version="1.0"?><{p}AssetMap {binding}="{namespace}"><{p}Id>{uuid(1)}</{p}Id>'
        f"<{p}VolumeCount>{volumes}</{p}VolumeCount><{p}AssetList>{entries}</{p}AssetList></{p}AssetMap>"
    ).encode()


def packing_list(assets: Iterable[tuple[str, bytes]], *, namespace: str = PKL, algorithm: str = "") -> bytes:
    """assets: (urn, the file's bytes)."""
    extra = f'<HashAlgorithm Algorithm="{algorithm}"/>' if algorithm else ""
    entries = "".join(
        f"<Asset><Id>{urn}</Id><Hash>{base64.b64encode(hashlib.sha1(data).digest()).decode()}</Hash>"
        f"<Size>{len(data)}</Size><Type>application/mxf</Type>{extra}</Asset>"
        for urn, data in assets
    )
    return (
        f'<PackingList xmlns="{namespace}"><Id>{uuid(2)}</Id><AssetList>{entries}</AssetList></PackingList>'
    ).encode()


def composition(track_files: Iterable[str], *, n: int = 3, namespace: str = CPL) -> bytes:
    resources = "".join(
        f'<s:Resource xmlns:s="http://www.smpte-ra.org/schemas/2067-2/2016">'
        f"<TrackFileId>{urn}</TrackFileId></s:Resource>"
        for urn in track_files
    )
    return (
        f'<CompositionPlaylist xmlns="{namespace}"><Id>{uuid(n)}</Id>'
        f"<SegmentList>{resources}</SegmentList></CompositionPlaylist>"
    ).encode()
