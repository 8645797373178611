from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.nodeum import Client, running


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a fresh origin with storages media (1), archive (2) and secret (3, not public)."""
    async with running(tmp_path) as client:
        yield client
