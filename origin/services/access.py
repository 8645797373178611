"""Who asks, and what they may: users, tokens, credentials. The one place that every dialect asks."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from origin.catalog import users as rows
from origin.catalog.database import Database, next_number
from origin.domain.model import ANONYMOUS, Caller, File, Storage, Token, User, number_of
from origin.domain.rights import SCOPES, Thing, Verb, has_scope, may
from origin.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from origin.ports import Clock
from origin.services.passwords import Passwords

REMEMBERED = 1024  # credentials
REMEMBER_FOR = 60.0  # seconds
_READING = frozenset({"index", "show", "search", "tapes"})
_TOUCH_MS = 60_000
_USER_NAME = re.compile(r"[^\x00-\x20\x7f:/]{1,128}")


class Access:
    """anonymous_reads: whether what is public may be read without credentials."""

    def __init__(self, database: Database, clock: Clock, *, anonymous_reads: bool) -> None:
        self._database = database
        self._clock = clock
        self._anonymous_reads = anonymous_reads
        self._passwords = Passwords()
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        # Of the project that a path on a storage belongs to, None for none; set by whoever knows projects.
        self.groups_at: Callable[[int, str], frozenset[str] | None] = _no_groups
        # Folders, as (storage's number, first segment), whose Files the caller may not read.
        self.closed_to: Callable[[Caller], list[tuple[int, str]]] = lambda _caller: []

    # --- credentials ------------------------------------------------------------------------------

    async def authenticate(self, authorization: str | None) -> Caller:
        """Read an Authorization field value: Basic, Bearer, `token`, or a bare token.

        None is the anonymous caller. Anything that is not good raises Unauthenticated.
        """
        if authorization is None:
            return ANONYMOUS
        scheme, _, rest = authorization.strip().partition(" ")
        rest = rest.strip()
        if scheme.lower() == "basic":
            try:
                text = base64.b64decode(rest, validate=True).decode("utf-8")
            except (binascii.Error, UnicodeDecodeError) as error:
                raise Unauthenticated("the credentials cannot be read") from error
            name, colon, password = text.partition(":")
            if not colon:
                raise Unauthenticated("the credentials cannot be read")
            return await self.authenticate_password(name, password)
        if scheme.lower() in ("bearer", "token"):
            return await self.authenticate_token(rest)
        if rest or not scheme:
            raise Unauthenticated("this scheme is not known here")
        return await self.authenticate_token(scheme)

    def is_known(self, authorization: str | None) -> bool:
        """Whether these credentials were found good a moment ago, or there are none."""
        if authorization is None:
            return True
        scheme, _, rest = authorization.strip().partition(" ")
        if scheme.lower() == "basic":
            with contextlib.suppress(binascii.Error, UnicodeDecodeError):
                text = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
                name, _, password = text.partition(":")
                return self._recall(self._remember_key("p", f"{name}\0{password}")) is not None
            return False
        secret = rest.strip() if scheme.lower() in ("bearer", "token") else scheme
        return self._recall(self._remember_key("t", secret)) is not None

    async def authenticate_password(self, name: str, password: str) -> Caller:
        """Return the user with all its rights. A check is remembered for 60 s."""
        key = self._remember_key("p", f"{name}\0{password}")
        known = self._recall(key)
        if known is not None:
            return known
        async with self._database.read() as connection:
            found = await rows.by_name(connection, name)
        fits = await self._passwords.fits(password, found[1] if found else None)
        if found is None or not fits or not found[0].enabled:
            raise Unauthenticated("the user or the password is wrong")
        async with self._database.read() as connection:
            again = await rows.by_name(connection, name)
        if again != found:  # changed while the hash was being computed
            raise Unauthenticated("the user or the password is wrong")
        return self._remember(key, Caller(user=found[0]))

    async def authenticate_token(self, secret: str) -> Caller:
        """Return the token's user, bounded by the token's scopes."""
        now = self._clock.now_ms()
        key = self._remember_key("t", secret)
        caller = self._recall(key)
        if caller is None:
            async with self._database.read() as connection:
                found = await rows.token_by_hash(connection, _sha256(secret))
            if found is None or not found[1].enabled:
                raise Unauthenticated("the token is not good", bad_token=True)
            caller = self._remember(key, Caller(user=found[1], token=found[0]))
        token = caller.token
        if token is None or (token.expires_ms is not None and token.expires_ms <= now):
            raise Unauthenticated("the token has expired", bad_token=True)
        changes: dict[str, int] = {}
        if token.used_ms is None or now - token.used_ms >= _TOUCH_MS:
            changes["used_ms"] = now
        if token.refresh_ms is not None and (token.expires_ms or 0) < now + token.refresh_ms:
            changes |= {"used_ms": now, "expires_ms": now + token.refresh_ms + token.slack_ms}
        if changes:
            async with self._database.write() as connection:
                await rows.update_token(connection, token.n, changes)
            token = replace(
                token,
                used_ms=changes["used_ms"],
                expires_ms=changes.get("expires_ms", token.expires_ms),
            )
            caller = self._remember(key, replace(caller, token=token))
        return caller

    async def act_for(self, caller: Caller, name: str) -> Caller:
        """Return a caller that is the named user; administrators only."""
        self.require_admin(caller)
        return Caller(user=await self.get_user(name), token=caller.token)

    def _remember_key(self, kind: str, text: str) -> bytes:
        data = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, data, "sha256")

    def _recall(self, key: bytes) -> Caller | None:
        entry = self._known.get(key)
        if entry is None or entry[0] <= time.monotonic():
            self._known.pop(key, None)
            return None
        self._known.move_to_end(key)
        return entry[1]

    def _remember(self, key: bytes, caller: Caller) -> Caller:
        self._known[key] = (time.monotonic() + REMEMBER_FOR, caller)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return caller

    # --- rights -----------------------------------------------------------------------------------

    def thing(self, storage: Storage, file: File | str | None = None) -> Thing:
        """What a right is asked for: a storage, or a File on it, or a path of normal form on it."""
        if file is None:
            return Thing(public=storage.public)
        path = file if isinstance(file, str) else file.path
        return Thing(public=storage.public, groups=self.groups_at(storage.n, path))

    def may(self, caller: Caller, verb: Verb, thing: Thing) -> bool:
        return may(caller, verb, thing, anonymous_reads=self._anonymous_reads)

    def require(self, caller: Caller, verb: Verb, thing: Thing) -> None:
        """Raise Unauthenticated for the anonymous, Forbidden for a known caller, without the right."""
        if not self.may(caller, verb, thing):
            if caller.user is None:
                raise Unauthenticated
            raise Forbidden(f"{caller.name} may not {verb.value} this")

    def require_scope(self, caller: Caller, scope: str) -> None:
        """scope: "controller/action". The anonymous have the scopes that read, if they may at all."""
        if caller.user is None:
            if not self._anonymous_reads or scope.partition("/")[2] not in _READING:
                raise Unauthenticated
        elif not has_scope(caller, scope):
            raise Forbidden(f"the token lacks the scope {scope}", context="scope", id=scope)

    def require_admin(self, caller: Caller) -> None:
        """Raise unless the user administers. Scopes are asked apart, as for everything."""
        self.require(caller, Verb.ADMINISTER, Thing(public=False))

    # --- users ------------------------------------------------------------------------------------

    async def first_user(self, name: str, password: str) -> bool:
        """Make an administrator if there is no user at all; say whether one was made."""
        async with self._database.read() as connection:
            if await rows.everyone(connection):
                return False
        await self._insert_user(name, password, admin=True)
        return True

    async def has_users(self) -> bool:
        async with self._database.read() as connection:
            return bool(await rows.everyone(connection))

    async def list_users(self, caller: Caller) -> list[User]:
        """By number; administrators only."""
        self.require_admin(caller)
        async with self._database.read() as connection:
            return await rows.everyone(connection)

    async def get_user(self, name: str) -> User:
        async with self._database.read() as connection:
            found = await rows.by_name(connection, name)
        if found is None:
            raise NotFound("User", name)
        return found[0]

    async def create_user(
        self,
        caller: Caller,
        name: str,
        password: str,
        *,
        admin: bool = False,
        write: bool = False,
        groups: Iterable[str] = (),
    ) -> User:
        self.require_admin(caller)
        return await self._insert_user(name, password, admin=admin, write=write, groups=groups)

    async def _insert_user(
        self,
        name: str,
        password: str,
        *,
        admin: bool = False,
        write: bool = False,
        groups: Iterable[str] = (),
    ) -> User:
        if not _USER_NAME.fullmatch(name):
            raise Invalid("name", "1 to 128 characters without spaces, : and /", name)
        _check_password(password)
        hashed = await self._passwords.hash(password)
        async with self._database.write() as connection:
            if await rows.by_name(connection, name) is not None:
                raise Conflict("a user has this name", context="user", value=name)
            user = User(
                n=await next_number(connection, "user"),
                name=name,
                admin=admin,
                write=write or admin,
                groups=frozenset(groups),
                created_ms=self._clock.now_ms(),
            )
            await rows.insert(connection, user, hashed)
        return user

    async def update_user(
        self,
        caller: Caller,
        name: str,
        *,
        password: str | None = None,
        admin: bool | None = None,
        write: bool | None = None,
        enabled: bool | None = None,
        groups: Iterable[str] | None = None,
    ) -> User:
        """None leaves as it is. Users may change their own password; all else is for administrators."""
        own = caller.user is not None and caller.user.name == name and caller.token is None
        if not own or any(value is not None for value in (admin, write, enabled, groups)):
            self.require_admin(caller)
        changes: dict[str, Any] = {}
        if password is not None:
            _check_password(password)
            changes["password"] = await self._passwords.hash(password)
        for key, value in (("admin", admin), ("write", write), ("enabled", enabled)):
            if value is not None:
                changes[key] = value
        if groups is not None:
            changes["groups"] = sorted(set(groups))
        async with self._database.write() as connection:
            found = await rows.by_name(connection, name)
            if found is None:
                raise NotFound("User", name)
            await rows.update(connection, found[0].n, changes)
            await self._keep_an_admin(connection)
        self._known.clear()
        return await self.get_user(name)

    async def delete_user(self, caller: Caller, name: str) -> None:
        """The user's tokens go too. The last administrator cannot be deleted or disabled."""
        self.require_admin(caller)
        async with self._database.write() as connection:
            found = await rows.by_name(connection, name)
            if found is None:
                raise NotFound("User", name)
            await rows.remove(connection, found[0].n)
            await self._keep_an_admin(connection)
        self._known.clear()

    async def _keep_an_admin(self, connection: Any) -> None:
        if await rows.count_admins(connection) == 0:
            raise Conflict("one administrator must remain", context="user")

    # --- tokens -----------------------------------------------------------------------------------

    async def create_token(
        self,
        caller: Caller,
        name: str,
        scopes: Iterable[str] | None,
        *,
        expires_ms: int | None = None,
        refresh_ms: int | None = None,
        user: str | None = None,
    ) -> tuple[Token, str]:
        """Return a new token and its secret, which is shown this once.

        scopes      pairs "controller/action"; None: all that the user may
        refresh_ms  it is good for so long after each use
        user        whose; None: the caller's. Another's: administrators only

        A caller with a token can give only scopes it has itself, and no later expiry: else Forbidden.
        """
        if caller.user is None:
            raise Unauthenticated
        owner = caller.user
        if user is not None and user != owner.name:
            self.require_admin(caller)
            owner = await self.get_user(user)
        granted = None if scopes is None else frozenset(scopes)
        for scope in granted or ():
            _check_scope(scope)
        if caller.token is not None:
            own = caller.token
            prolonged = refresh_ms is not None and own.refresh_ms is None
            _check_no_more(own, granted, None if prolonged else expires_ms)
        secret = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            token = Token(
                n=await next_number(connection, "token"),
                user_n=owner.n,
                name=name[:255],
                scopes=granted,
                hint=secret[-4:],
                created_ms=now,
                expires_ms=expires_ms,
                refresh_ms=refresh_ms,
            )
            await rows.insert_token(connection, token, _sha256(secret))
            await rows.remove_expired_logins(connection, now)
        return token, secret

    async def list_tokens(self, caller: Caller) -> list[Token]:
        """The caller's own, by number."""
        if caller.user is None:
            raise Unauthenticated
        async with self._database.read() as connection:
            return await rows.tokens_of(connection, caller.user.n)

    async def get_token(self, caller: Caller, id: str) -> Token:
        """One of the caller's own; administrators see all. Others' are NotFound."""
        if caller.user is None:
            raise Unauthenticated
        async with self._database.read() as connection:
            token = await rows.token_by_number(connection, number_of(id) or 0)
        if token is None or (token.user_n != caller.user.n and not caller.admin):
            raise NotFound("Token", id)
        return token

    async def update_token(
        self,
        caller: Caller,
        id: str,
        *,
        name: str | None = None,
        scopes: Iterable[str] | None = None,
        expires_ms: int | None = None,
        for_ever: bool = False,
    ) -> Token:
        """None leaves as it is; scopes are replaced as a whole. for_ever: it expires no more.

        A caller with a token is bound as in `create_token`.
        """
        token = await self.get_token(caller, id)
        changes: dict[str, Any] = {} if name is None else {"name": name[:255]}
        granted = token.scopes if scopes is None else frozenset(scopes)
        expiry = None if for_ever else token.expires_ms if expires_ms is None else expires_ms
        if scopes is not None:
            for scope in granted or ():
                _check_scope(scope)
            changes["scopes"] = sorted(granted or ())
        if expiry != token.expires_ms:
            changes["expires_ms"] = expiry
        if caller.token is not None and changes.keys() - {"name"}:
            _check_no_more(caller.token, granted, expiry)
        async with self._database.write() as connection:
            await rows.update_token(connection, token.n, changes)
        self._known.clear()
        return await self.get_token(caller, id)

    async def revoke(self, token_n: int) -> None:
        """Make a token good no more, without asking who wants it."""
        async with self._database.write() as connection:
            await rows.remove_token(connection, token_n)
        self._known.clear()

    async def delete_token(self, caller: Caller, id: str) -> None:
        token = await self.get_token(caller, id)
        async with self._database.write() as connection:
            await rows.remove_token(connection, token.n)
        self._known.clear()


def _no_groups(_storage_n: int, _path: str) -> frozenset[str] | None:
    return None


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _check_password(password: str) -> None:
    if not 1 <= len(password) <= 1024:
        raise Invalid("password", "1 to 1024 characters")


def _check_scope(scope: str) -> None:
    controller, slash, action = scope.partition("/")
    known = SCOPES.keys() | {"*"}
    actions = set().union(*SCOPES.values()) if controller == "*" else SCOPES.get(controller, frozenset())
    if not slash or controller not in known or action not in actions | {"*"}:
        raise Invalid("scopes", "must name a controller and an action that there are", scope)


def _check_no_more(own: Token, granted: frozenset[str] | None, expires_ms: int | None) -> None:
    if own.scopes is not None and (
        granted is None or not all(_covered(scope, own.scopes) for scope in granted)
    ):
        raise Forbidden("a token cannot give more than it has", context="scope")
    if own.expires_ms is not None and (expires_ms is None or expires_ms > own.expires_ms):
        raise Forbidden("a token cannot give a later expiry than its own", context="scope")


def _covered(scope: str, own: frozenset[str]) -> bool:
    """A `*` that is given must be a `*` that is had."""
    controller, _, action = scope.partition("/")
    return any(
        have_controller in ("*", controller) and have_action in ("*", action)
        for have_controller, _, have_action in (entry.partition("/") for entry in own)
    )
