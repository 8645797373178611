from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.ove import Client, running


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a fresh origin with storages media, archive and secret (not public)."""
    async with running(tmp_path) as client:
        yield client


@pytest_asyncio.fixture
async def films(client: Client) -> Client:
    """... with the public project `films` on media."""
    await client.project()
    return client
