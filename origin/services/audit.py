"""The audit log, for administrators: who changed what, and when."""

from __future__ import annotations

from dataclasses import dataclass

from origin.catalog import audit as rows
from origin.catalog.audit import Act, acting
from origin.catalog.database import Database
from origin.core.conditions import Condition
from origin.domain.model import Caller
from origin.services.access import Access

__all__ = ["Act", "Audit", "Change", "acting"]


@dataclass(frozen=True, slots=True)
class Change:
    """A request that changed something. token_n: of the token it was made with, None without one."""

    n: int
    at_ms: int
    user: str
    token_n: int | None
    method: str
    path: str
    dialect: str
    request_id: str
    address: str | None


class Audit:
    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._access = access

    async def listing(
        self, caller: Caller, wanted: list[Condition], first: int, number: int
    ) -> tuple[list[Change], int]:
        """One page, newest first, and how many there are; administrators only."""
        self._access.require_admin(caller)
        async with self._database.read() as connection:
            found, total = await rows.listing(connection, wanted, first, number)
        names = Change.__dataclass_fields__
        return [Change(**{name: getattr(row, name) for name in names}) for row in found], total
