"""Asset id → media type, for sources that send no Content-Type.

The table is closed and in this file: the system's own one differs from machine to machine, and two
nodes must say the same of the same asset.
"""

from __future__ import annotations

UNKNOWN = "application/octet-stream"

# fmt: off
_TYPES = {
    # manifests and segments
    "m3u8": "application/vnd.apple.mpegurl", "mpd": "application/dash+xml",
    "ts": "video/mp2t", "m4s": "video/iso.segment", "mp4": "video/mp4", "m4v": "video/mp4",
    "cmfv": "video/mp4",
    "m4a": "audio/mp4", "cmfa": "audio/mp4", "cmft": "application/mp4", "f4v": "video/mp4",
    "m3u": "audio/mpegurl", "ism": "application/vnd.ms-sstr+xml",
    # video
    "webm": "video/webm", "mkv": "video/x-matroska", "mk3d": "video/x-matroska", "mov": "video/quicktime",
    "qt": "video/quicktime", "mxf": "application/mxf", "avi": "video/x-msvideo", "wmv": "video/x-ms-wmv",
    "asf": "video/x-ms-asf", "flv": "video/x-flv", "mpg": "video/mpeg", "mpeg": "video/mpeg",
    "m2v": "video/mpeg",
    "m2ts": "video/mp2t", "mts": "video/mp2t", "ogv": "video/ogg", "3gp": "video/3gpp", "3g2": "video/3gpp2",
    # audio
    "mp3": "audio/mpeg", "mka": "audio/x-matroska", "aac": "audio/aac", "flac": "audio/flac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg", "opus": "audio/ogg", "weba": "audio/webm", "wav": "audio/wav",
    "wma": "audio/x-ms-wma",
    "aif": "audio/aiff", "aiff": "audio/aiff", "ac3": "audio/ac3", "ec3": "audio/eac3", "mid": "audio/midi",
    # captions and text
    "vtt": "text/vtt", "ttml": "application/ttml+xml", "dfxp": "application/ttml+xml",
    "srt": "application/x-subrip",
    "json": "application/json", "xml": "application/xml", "txt": "text/plain", "csv": "text/csv",
    "html": "text/html", "htm": "text/html", "css": "text/css", "js": "text/javascript",
    "mjs": "text/javascript",
    "pdf": "application/pdf", "wasm": "application/wasm", "yaml": "application/yaml",
    "yml": "application/yaml",
    # images and fonts
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp",
    "avif": "image/avif", "svg": "image/svg+xml", "heic": "image/heic", "heif": "image/heif",
    "jxl": "image/jxl",
    "jp2": "image/jp2", "bmp": "image/bmp", "ico": "image/vnd.microsoft.icon", "tif": "image/tiff",
    "tiff": "image/tiff", "exr": "image/x-exr", "dpx": "image/x-dpx",
    "woff": "font/woff", "woff2": "font/woff2", "ttf": "font/ttf", "otf": "font/otf",
    # containers of files
    "zip": "application/zip", "gz": "application/gzip", "tar": "application/x-tar",
    "7z": "application/x-7z-compressed",
}
# fmt: on


def media_type(asset_id: str) -> str:
    """The media type by the extension of the id's last segment, in any case; never empty.

    Without a known extension it is application/octet-stream. A name that is nothing but a dot and
    an extension (`.mp4`) has that extension.
    """
    _, dot, extension = asset_id.rpartition("/")[2].rpartition(".")
    return _TYPES.get(extension.lower(), UNKNOWN) if dot else UNKNOWN
