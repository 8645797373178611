"""URIs of Files: a storage method's URI with the File's path behind it, and back again. Pure.

A URI that a client gives is never opened as given: it is turned into (storage, path) or refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import quote, unquote

from origin.domain.model import Method, Storage, make_id

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FILE_ROOT = re.compile(r"file:(?://localhost)?/(?!/)|file:///", re.IGNORECASE)
# RFC 3986 §3.3 pchar, less ";" which some clients take for a parameter.
_PATH_SAFE = "/!$&'()*+,=:@~"


# What an edge takes as an asset's id; all else that a path may hold would be 404 there.
_EDGE_ID = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@ /\u00a1-\ud7ff\ue000-\U0010ffff]{1,1024}")
_LAST_OF_PLANES = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
_NONCHARACTER = re.compile(f"[\ufdd0-\ufdef{_LAST_OF_PLANES}]")


def asset_path(storage: Storage, path: str, n: int) -> str:
    """Return what follows `/assets/` in a link to a File at an edge, percent-encoded.

    n  of the File

    By storage and path, so that relative references to its neighbours hold; by the File's id where the
    path has something in it that no edge's ids have, such as "?", "%" or "[".
    """
    id = f"{storage.bucket}/{path}"
    if _EDGE_ID.fullmatch(id) and not _NONCHARACTER.search(id) and len(id.encode()) <= 1024:
        return quote(id, safe="/!$&'()*+,;=:@")
    return make_id(n)


def file_uri(method_uri: str, path: str) -> str:
    """Return the URI of a stored path below a method's URI, which ends in "/"."""
    return method_uri + quote(path, safe=_PATH_SAFE)


def scheme_of(uri: str) -> str:
    """Return the scheme in lower case, or "" when the text is no absolute URI."""
    match = _SCHEME.match(uri)
    return match[0][:-1].lower() if match else ""


def canonical_uri(uri: str) -> str:
    """Return the decoded form in which URIs are compared.

    `file:/x`, `file://localhost/x` and `file:///x` are one (RFC 8089 appendix B), and a scheme has no
    case. Bytes that are not UTF-8 stay apart from all that are.
    """
    scheme = scheme_of(uri)
    plain = scheme + uri[len(scheme) :]
    if scheme == "file":
        plain = _FILE_ROOT.sub("file:///", plain, count=1)
    return unquote(plain, errors="surrogateescape")


def locate(uri: str, storages: Iterable[Storage]) -> tuple[Storage, str] | None:
    """Return the storage whose method the URI lies below, and the path there, decoded and as given.

    Where several fit, the longest method URI decides. None when none does, or nothing follows it.
    """
    wanted = canonical_uri(uri)
    best: tuple[int, Storage, str] | None = None
    for storage in storages:
        for method in storage.methods:
            base = canonical_uri(method.uri)
            if wanted.startswith(base) and len(wanted) > len(base) and (best is None or len(base) > best[0]):
                best = (len(base), storage, wanted[len(base) :])
    return (best[1], best[2]) if best else None


def methods_matching(
    methods: Sequence[Method],
    *,
    type: str = "",
    scheme: str | None = None,
    metadata: Collection[tuple[str, str]] = (),
) -> list[Method]:
    """Return the methods of one type ("" and "NONE" are the same) and, if given, one URI scheme, that carry
    all pairs of `metadata`."""
    wanted = type or "NONE"
    return [
        method
        for method in methods
        if (method.type or "NONE") == wanted
        and (scheme is None or scheme_of(method.uri) == scheme.lower())
        and method.metadata.items() >= set(metadata)
    ]
