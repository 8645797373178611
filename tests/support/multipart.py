"""Read a multipart/byteranges body (RFC 9110 §14.6, RFC 2046 §5.1) strictly."""

from __future__ import annotations

import re
from typing import NamedTuple


class Part(NamedTuple):
    """headers: lower-case names. first, last, total: of Content-Range."""

    headers: dict[str, str]
    first: int
    last: int
    total: int
    body: bytes


def parts_of(content_type: str, body: bytes) -> list[Part]:
    """Split; raises ValueError for anything that does not stand as it must."""
    match = re.fullmatch(r'multipart/byteranges; *boundary="?([^"\s]{1,70})"?', content_type)
    if match is None:
        raise ValueError(f"no boundary in {content_type!r}")
    line = b"--" + match[1].encode()
    found: list[Part] = []
    at = 0
    while True:
        if found or body[at : at + 2] == b"\r\n":
            if body[at : at + 2] != b"\r\n":
                raise ValueError(f"no CRLF before a boundary at {at}")
            at += 2
        if body[at : at + len(line)] != line:
            raise ValueError(f"no boundary at {at}: {body[at : at + 40]!r}")
        at += len(line)
        if body[at : at + 2] == b"--":
            if body[at + 2 :] not in (b"", b"\r\n"):
                raise ValueError("bytes after the last boundary")
            return found
        if body[at : at + 2] != b"\r\n":
            raise ValueError("bytes after a boundary")
        end = body.index(b"\r\n\r\n", at)
        headers = {}
        for text in body[at + 2 : end].decode("latin-1").split("\r\n"):
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("content-range", ""))
        if span is None:
            raise ValueError(f"no Content-Range in part {headers}")
        first, last, total = (int(group) for group in span.groups())
        at = end + 4 + last - first + 1
        found.append(Part(headers, first, last, total, body[end + 4 : at]))
