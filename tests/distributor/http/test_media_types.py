"""Media types by extension: the table in §3.5 of the edge's HTTP contract."""

from __future__ import annotations

import pytest

from distributor.http.media_types import media_type

PROMISED = {
    "application/vnd.apple.mpegurl": "m3u8",
    "application/dash+xml": "mpd",
    "video/mp2t": "ts",
    "video/iso.segment": "m4s",
    "video/mp4": "mp4 m4v cmfv",
    "audio/mp4": "m4a cmfa",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/quicktime": "mov",
    "application/mxf": "mxf",
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/ogg": "ogg opus",
    "audio/wav": "wav",
    "text/vtt": "vtt",
    "application/ttml+xml": "ttml",
    "application/x-subrip": "srt",
    "image/jpeg": "jpg jpeg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/svg+xml": "svg",
    "application/json": "json",
}


@pytest.mark.parametrize(
    ("extension", "expected"),
    [(extension, kind) for kind, extensions in PROMISED.items() for extension in extensions.split()],
)
def test_extension_gives_this_type_in_any_case(extension: str, expected: str) -> None:
    assert media_type(f"a/b.c/clip.{extension}") == expected
    assert media_type(f"clip.{extension.upper()}") == expected


@pytest.mark.parametrize(
    "asset_id", ["clip", "clip.", "clip.unheard", "a.mp4/clip", "mp4", "VX-1", "clip.mp4 "]
)
def test_without_a_known_extension_it_is_octets(asset_id: str) -> None:
    assert media_type(asset_id) == "application/octet-stream"
