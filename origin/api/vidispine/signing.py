"""URLs that open one file's data for a while without credentials (`format=SIGNED-AUTO`). Pure.

The signature covers everything the URL grants: which file, until when, and with which
Content-Disposition its answer goes out.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

from origin.api.vidispine.problems import forbidden, invalid
from origin.api.vidispine.target import Params

LIFETIME = 15 * 60  # seconds
_LONGEST_DISPOSITION = 1024  # characters


class Signer:
    """key: secret of this origin, at least 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def url(self, base: str, file_id: str, now: int, disposition: str | None) -> str:
        """Return the signed URL.

        base         scheme and authority of this origin as the client sees it
        now          seconds since the epoch
        disposition  Content-Disposition of the answer; None for none
        """
        expires = str(now + LIFETIME)
        query = {"expires": expires, "signature": self._sign(file_id, expires, disposition or "")}
        if disposition:
            query["contentDisposition"] = disposition
        return f"{base}/API/file/{file_id}/data?{urlencode(query)}"

    def open(self, file_id: str, params: Params, now: int) -> str | None:
        """Return the Content-Disposition that a good signature grants, or None for none.

        Raises Problem 403 when the URL was changed or is over.
        """
        expires = params.text("expires") or ""
        disposition = params.text("contentDisposition") or ""
        expected = self._sign(file_id, expires, disposition)
        given = params.text("signature") or ""
        if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
            raise forbidden("signature", "the signature does not fit this address", id=file_id)
        if not expires.isascii() or not expires.isdigit() or int(expires) < now:
            raise forbidden("expires", "the address is no longer good", id=file_id)
        return disposition or None

    def _sign(self, file_id: str, expires: str, disposition: str) -> str:
        message = "\n".join(("data", file_id, expires, disposition)).encode("utf-8", "replace")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def checked_disposition(value: str | None) -> str | None:
    """Return a Content-Disposition that can go into a header as it stands. Raises Problem 400."""
    if value is None:
        return None
    if len(value) > _LONGEST_DISPOSITION or not value.isprintable() or not value.isascii():
        raise invalid("contentDisposition", "must be printable ASCII, at most 1024 characters")
    return value
