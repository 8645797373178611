"""Raw path → asset id → cache key, and back to a source's URL: the one canonicaliser.

    id      = segment *( "/" segment )      at most 1024 octets of UTF-8 when decoded
    segment = 1*char                        but not "." and not ".."
    char    = unreserved / "!$&'()*+,;=:@" / SP / U+00A1.. without noncharacters

Two ids are the same asset when they are the same code points: no case folding, no normalisation.

    key     = id [ "?" query ] [ LF variant ]

Neither "?" nor LF can be in an id, nor LF in a query, so a key has one reading.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from distributor.errors import BadAssetId, UnknownAsset
from distributor.http.fields import Fields, get

MAX_ID_OCTETS = 1024

_PLAIN = r"[A-Za-z0-9\-._~!$&'()*+,;=:@]"
_PLAIN_ID = re.compile(rf"(?:(?!\.\.?(?:/|\Z)){_PLAIN}+/)*+(?!\.\.?\Z){_PLAIN}+")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH = re.compile(rb"%2[Ff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SEGMENT = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@ \u00a1-\ud7ff\ue000-\U0010ffff]+")
_NONCHARACTER = re.compile(
    "[\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
    + "]"
)
_PATH_SAFE = "/!$&'()*+,;=:@"


def parse_asset_path(raw: str | bytes) -> str:
    """The asset id that the raw path after `/assets/` names.

    raw  as it stood in the request target, without the query; a str holds octets that are not UTF-8
         as surrogate escapes. A raw octet means the same as its percent-encoded form

    Raises BadAssetId for what is no text: `%` without two hex digits, octets that are not UTF-8,
    control characters, a raw `#`. Raises UnknownAsset for text that is no id: segments that are
    empty, "." or "..", `%2F`, characters outside the set, more than 1024 octets.
    Where both apply it is BadAssetId, wherever in the path the faults are.
    """
    if isinstance(raw, str):
        if len(raw) <= MAX_ID_OCTETS and _PLAIN_ID.fullmatch(raw):
            return raw
        try:
            octets = raw.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise BadAssetId("not UTF-8") from None
    else:
        octets = raw
    return _parse_octets(octets)


def _parse_octets(octets: bytes) -> str:
    if b"#" in octets:
        raise BadAssetId("a raw number sign")
    if _BAD_ESCAPE.search(octets):
        raise BadAssetId("a percent sign without two hex digits")
    try:
        decoded = unquote_to_bytes(octets).decode("utf-8")
    except UnicodeDecodeError:
        raise BadAssetId("not UTF-8") from None
    if _CONTROL.search(decoded):
        raise BadAssetId("a control character")
    # Everything from here on is text, only not an id. With %2F out of the way, splitting the
    # decoded text at "/" gives the segments of the raw path.
    if _ENCODED_SLASH.search(octets):
        raise UnknownAsset("an encoded separator")
    if len(decoded.encode("utf-8")) > MAX_ID_OCTETS:
        raise UnknownAsset("too long")
    for segment in decoded.split("/"):
        if segment in (".", "..") or not _SEGMENT.fullmatch(segment):
            raise UnknownAsset("not an id")
    if _NONCHARACTER.search(decoded):
        raise UnknownAsset("not an id")
    return decoded


# Towards a source


def source_path(asset_id: str) -> str:
    """The id as it stands in the path of a source's URL; ASCII. Read back by parse_asset_path."""
    return quote(asset_id, safe=_PATH_SAFE)


def source_query_value(asset_id: str) -> str:
    """The id as it stands in the query of a source's URL: only unreserved characters are left."""
    return quote(asset_id, safe="")


def fill_template(url_template: str, asset_id: str, query: str | None = None) -> str:
    """The URL of an asset at a source.

    url_template  absolute URL with `{id}` in its path or its query
    query         kept query string, put behind the template's own; None: none

    The result is encoded already: whoever sends it must not quote it again.
    """
    path, mark, own_query = url_template.partition("?")
    url = path.replace("{id}", source_path(asset_id))
    queries = [own_query.replace("{id}", source_query_value(asset_id))] if mark else []
    if query:
        queries.append(query)
    joined = "&".join(part for part in queries if part)
    return f"{url}?{joined}" if joined else url


# Keys


class KeyParts(NamedTuple):
    """What a key is made of; query and variant None where there is none."""

    asset_id: str
    query: str | None
    variant: str | None


def cache_key(asset_id: str, query: str | None = None) -> str:
    """The key of an asset's primary stored response.

    query  from kept_query where `cache.key_query` is set; None or empty: not part of the key
    """
    return f"{asset_id}?{query}" if query else asset_id


def split_key(key: str) -> KeyParts:
    """The parts of a key made by cache_key or variant_key."""
    primary, _, variant = key.partition("\n")
    asset_id, _, query = primary.partition("?")
    return KeyParts(asset_id, query or None, variant or None)


def variant_key(primary: str, vary_names: Iterable[str], request_fields: Fields) -> str:
    """The key of the response to a request with these fields, where the source varies (RFC 9111 §4.1).

    primary         key without variant
    vary_names      names in Vary, any case and order; without `*`, which is never stored
    request_fields  the fields as forwarded to the source

    Two requests are alike when for each name both lack it, or have equal values once their lines are
    combined and white space round commas is left out. No names: the primary key.
    """
    names = sorted({name.strip(" \t").lower() for name in vary_names})
    if not names:
        return primary
    digest = hashlib.sha256()
    for name in names:
        value = get(request_fields, name)
        normal = "absent" if value is None else "=" + ",".join(part.strip(" \t") for part in value.split(","))
        digest.update(f"{name}\n{normal}\n".encode("utf-8", "surrogateescape"))
    return f"{primary}\n{digest.hexdigest()[:32]}"


_NOT_URI = re.compile(rb"[^\x21\x22\x24-\x7e]")


def kept_query(raw_query: str | None, strip: frozenset[str]) -> str | None:
    """What is left of a query string for the key and the source; None when nothing is.

    raw_query  without the `?`, as received
    strip      names of parameters to remove, compared with the percent-decoded name, case-sensitive

    Parameters are what stands between `&`; the rest keeps its order and its octets. Octets that no
    URL may hold (controls, space, `#`, above ASCII) are percent-encoded, so that they can do no harm
    in a request line.
    """
    if not raw_query:
        return None
    octets = raw_query.encode("utf-8", "surrogateescape")
    parts = [part for part in octets.split(b"&") if _name(part) not in strip]
    kept = _NOT_URI.sub(lambda found: b"%%%02X" % found[0][0], b"&".join(parts))
    return kept.decode("ascii") or None


def _name(parameter: bytes) -> str:
    return unquote_to_bytes(parameter.partition(b"=")[0]).decode("utf-8", "surrogateescape")
