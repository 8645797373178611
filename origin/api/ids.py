"""`/content/<x>`: the raw path to what it names. The grammar is that of the edge's asset ids.

    id      = segment *( "/" segment )      at most 4096 octets of UTF-8 when decoded
    segment = 1*char                        not "." and not ".."; no control characters; "%2F" is none

One segment names a File by its id; with more, the first is a storage and the rest the path on it.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from origin.errors import Invalid, NotFound

MAX_OCTETS = 4096 + 256
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH = re.compile(r"%2[Ff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class ContentId(NamedTuple):
    """Either `file_id`, or `storage` and `path`."""

    file_id: str | None
    storage: str
    path: str


def parse_content_path(raw: str) -> ContentId:
    """raw: what follows `/content/` in the target as sent, without the query.

    Raises Invalid for what is no text, NotFound for text that can name nothing.
    """
    if _BAD_ESCAPE.search(raw) or "#" in raw:
        raise Invalid("path", "not a path: a bad percent escape")
    try:
        decoded = unquote_to_bytes(raw.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("path", "not UTF-8") from error
    if _CONTROL.search(decoded):
        raise Invalid("path", "a control character")
    segments = decoded.split("/")
    if (
        _ENCODED_SLASH.search(raw)
        or any(segment in ("", ".", "..") for segment in segments)
        or len(decoded.encode("utf-8")) > MAX_OCTETS
    ):
        raise NotFound("File", decoded[:200])
    if len(segments) == 1:
        return ContentId(decoded, "", "")
    return ContentId(None, segments[0], "/".join(segments[1:]))


def content_path(storage: str, path: str) -> str:
    """Return the percent-encoded path that names a file by storage and path."""
    return "/content/" + quote(f"{storage}/{path}", safe="/!$&'()*+,;=:@")
