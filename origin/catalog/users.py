"""Queries on Users and Tokens. Passwords and secrets pass here only as hashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.tables import tokens, users
from origin.domain.model import Token, User


def _user(row: Any) -> User:
    return User(
        n=row.n,
        name=row.name,
        admin=row.admin,
        write=row.write or row.admin,
        enabled=row.enabled,
        groups=frozenset(row.groups),
        created_ms=row.created_ms,
    )


def _token(row: Any) -> Token:
    return Token(
        n=row.n,
        user_n=row.user_n,
        name=row.name,
        scopes=None if row.scopes is None else frozenset(row.scopes),
        hint=row.hint,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        used_ms=row.used_ms,
        refresh_ms=row.refresh_ms,
    )


async def everyone(connection: AsyncConnection) -> list[User]:
    return [_user(row) for row in await connection.execute(sa.select(users).order_by(users.c.n))]


async def by_name(connection: AsyncConnection, name: str) -> tuple[User, str] | None:
    """Return the user and the hash of the password."""
    row = (await connection.execute(sa.select(users).where(users.c.name == name))).one_or_none()
    return (_user(row), row.password) if row else None


async def by_number(connection: AsyncConnection, n: int) -> User | None:
    row = (await connection.execute(sa.select(users).where(users.c.n == n))).one_or_none()
    return _user(row) if row else None


async def insert(connection: AsyncConnection, user: User, password: str) -> None:
    await connection.execute(
        sa.insert(users).values(
            n=user.n,
            name=user.name,
            password=password,
            admin=user.admin,
            write=user.write,
            enabled=user.enabled,
            groups=sorted(user.groups),
            created_ms=user.created_ms,
        )
    )


async def update(connection: AsyncConnection, n: int, changes: Mapping[str, Any]) -> None:
    """changes: column → value; groups as a list."""
    if changes:
        await connection.execute(sa.update(users).where(users.c.n == n).values(**changes))


async def remove(connection: AsyncConnection, n: int) -> None:
    """Remove a user with all tokens."""
    await connection.execute(sa.delete(users).where(users.c.n == n))


async def count_admins(connection: AsyncConnection) -> int:
    query = sa.select(sa.func.count()).where(users.c.admin, users.c.enabled)
    return int((await connection.execute(query)).scalar_one())


async def insert_token(connection: AsyncConnection, token: Token, sha256: str) -> None:
    await connection.execute(
        sa.insert(tokens).values(
            n=token.n,
            user_n=token.user_n,
            name=token.name,
            sha256=sha256,
            hint=token.hint,
            scopes=None if token.scopes is None else sorted(token.scopes),
            created_ms=token.created_ms,
            expires_ms=token.expires_ms,
            used_ms=token.used_ms,
            refresh_ms=token.refresh_ms,
        )
    )


async def update_token(connection: AsyncConnection, n: int, changes: Mapping[str, Any]) -> None:
    if changes:
        await connection.execute(sa.update(tokens).where(tokens.c.n == n).values(**changes))


async def token_by_hash(connection: AsyncConnection, sha256: str) -> tuple[Token, User] | None:
    row = (await connection.execute(sa.select(tokens).where(tokens.c.sha256 == sha256))).one_or_none()
    if row is None:
        return None
    user = await by_number(connection, row.user_n)
    return (_token(row), user) if user else None


async def tokens_of(connection: AsyncConnection, user_n: int) -> list[Token]:
    query = sa.select(tokens).where(tokens.c.user_n == user_n).order_by(tokens.c.n)
    return [_token(row) for row in await connection.execute(query)]


async def token_by_number(connection: AsyncConnection, n: int) -> Token | None:
    row = (await connection.execute(sa.select(tokens).where(tokens.c.n == n))).one_or_none()
    return _token(row) if row else None


async def remove_token(connection: AsyncConnection, n: int) -> bool:
    return bool((await connection.execute(sa.delete(tokens).where(tokens.c.n == n))).rowcount)


async def remove_expired_logins(connection: AsyncConnection, now_ms: int) -> None:
    """Login tokens are made by the dozen; API tokens stay listed after their expiry."""
    past = sa.and_(tokens.c.expires_ms <= now_ms, tokens.c.scopes.is_(None))
    await connection.execute(sa.delete(tokens).where(past))
