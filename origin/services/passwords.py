"""Passwords as scrypt hashes: `scrypt$<log2 N>$<r>$<p>$<salt>$<hash>`, the last two in base64."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets

_LOG_N, _R, _P = 14, 8, 1  # 16 MiB and some 50 ms: OWASP's lower bound for interactive sign-in is near
_MAX_LENGTH = 1024

# Each takes a core and 16 MiB: a burst of sign-ins must not take all.
_AT_ONCE = 2


def _derive(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << log_n,
        r=r,
        p=p,
        maxmem=1 << 28,
        dklen=32,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_NOBODY = f"scrypt${_LOG_N}${_R}${_P}${_text(bytes(16))}${_text(bytes(32))}"


class Passwords:
    """Makes and checks hashes in threads, two at once."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def _make(self, password: str) -> str:
        salt = secrets.token_bytes(16)
        return f"scrypt${_LOG_N}${_R}${_P}${_text(salt)}${_text(_derive(password, salt, _LOG_N, _R, _P))}"

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._make, password)

    async def fits(self, password: str, stored: str | None) -> bool:
        """stored None: there is no such user; takes as long as if there were, and is False."""
        if len(password) > _MAX_LENGTH:
            return False
        async with self._slots:
            same = await asyncio.to_thread(_check, password, stored or _NOBODY)
        return same and stored is not None


def _check(password: str, stored: str) -> bool:
    kind, log_n, r, p, salt, wanted = stored.split("$")
    if kind != "scrypt":
        return False
    made = _derive(password, base64.b64decode(salt), int(log_n), int(r), int(p))
    return hmac.compare_digest(made, base64.b64decode(wanted))
