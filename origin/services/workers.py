"""Workers: who they are, and the tokens by which they act.

A worker of its own process registers over the API and acts with the token it gets; one inside the
origin is registered at start and has none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from origin.catalog import workers as rows
from origin.catalog.database import Database, next_number
from origin.domain.model import Caller
from origin.domain.workers import Worker, is_worker_name
from origin.errors import Forbidden, Invalid, NotFound
from origin.ports import Clock
from origin.services.access import Access
from origin.services.projects import InUse

SCOPES = ("worker_tasks/claim", "worker_tasks/update")
_EXTENSION = re.compile(r"\.?[^\s./\\][^\s/\\]{0,31}")


class Workers:
    def __init__(self, database: Database, clock: Clock, access: Access) -> None:
        self._database = database
        self._clock = clock
        self._access = access

    async def everyone(self) -> list[tuple[Worker, str]]:
        """By name, with ready, processing or offline."""
        now = self._clock.now_ms()
        async with self._database.read() as connection:
            found = await rows.everyone(connection)
            busy = await rows.busy(connection)
        states = ("processing" if w.name in busy else "ready" if w.is_live(now) else "offline" for w in found)
        return list(zip(found, states, strict=True))

    async def get(self, name: str) -> Worker:
        """Raises NotFound."""
        async with self._database.read() as connection:
            worker = await rows.by_name(connection, name)
        if worker is None:
            raise NotFound("Worker", name)
        return worker

    async def acting(self, caller: Caller) -> Worker | None:
        """Return the worker whose token the caller uses, None when it is no worker's."""
        if caller.token is None:
            return None
        async with self._database.read() as connection:
            return await rows.by_token(connection, caller.token.n)

    async def require_for(self, caller: Caller, name: str) -> Worker:
        """Return the named worker if the caller is it, or an administrator. Raises NotFound, Forbidden."""
        own = await self.acting(caller)
        worker = await self.get(name)
        if own is not None and own.name != worker.name:
            raise Forbidden("a worker's token is good for this worker only")
        if own is None:
            self._access.require_admin(caller)
        return worker

    async def register(
        self,
        caller: Caller,
        name: str,
        type: str,
        *,
        extensions: Sequence[str] = (),
        description: str = "",
        parameters: object = None,
        docs: str = "",
    ) -> str:
        """Return the secret of the worker's new token, which is shown this once.

        The name may be the caller's own, or that of a worker that is offline: it is replaced, and its
        token is good no more. Raises InUse, Invalid, Forbidden.
        """
        own = await self.acting(caller)
        if own is None:
            self._access.require_admin(caller)
        elif own.name != name:
            raise Forbidden("a worker's token is good for this worker only")
        if not is_worker_name(name):
            raise Invalid("name", "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit", name)
        if not 1 <= len(type) <= 64:
            raise Invalid("type", "1 to 64 characters", type)
        known = [_extension(extension) for extension in extensions]
        # The user's right to have workers counts, not how long the token lasts by which it asks.
        owner = Caller(user=caller.user)
        token, secret = await self._access.create_token(owner, f"worker {name}", SCOPES)
        async with self._database.write() as connection:
            old = await rows.by_name(connection, name)
            taken = old is not None and old.is_live(self._clock.now_ms())
            taken = taken and (own is None or own.n != (old.n if old else 0))
            if not taken:
                worker = Worker(
                    n=await next_number(connection, "worker"),
                    name=name,
                    type=type,
                    extensions=tuple(dict.fromkeys(known)),
                    description=description,
                    parameters=parameters,
                    docs=docs,
                    token_n=token.n,
                    seen_ms=self._clock.now_ms(),
                )
                await rows.save(connection, worker)
        if taken:
            await self._access.revoke(token.n)
            raise InUse(f"Worker {name!r} is at work already.", context="worker", id=name)
        if old is not None and old.token_n is not None:
            await self._access.revoke(old.token_n)
        return secret

    async def register_own(self, worker: Worker) -> None:
        """Register one that runs inside the origin; whoever has its name is replaced."""
        async with self._database.write() as connection:
            old = await rows.by_name(connection, worker.name)
            await rows.save(connection, worker)
        if old is not None and old.token_n is not None:
            await self._access.revoke(old.token_n)

    async def unregister(self, caller: Caller, name: str) -> Worker:
        """The token dies. The caller is told to give its tasks back. Raises NotFound, Forbidden."""
        worker = await self.require_for(caller, name)
        async with self._database.write() as connection:
            await rows.remove(connection, name)
        if worker.token_n is not None:
            await self._access.revoke(worker.token_n)
        return worker


def _extension(text: str) -> str:
    if not _EXTENSION.fullmatch(text):
        raise Invalid("extensions", "must be such as .zip", text)
    return text.lower() if text.startswith(".") else f".{text.lower()}"
