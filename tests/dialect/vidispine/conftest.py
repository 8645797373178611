"""One origin for the tests of a module that change nothing of each other; a fresh one for the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.vidispine import Client, running


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a fresh origin with storages media (VX-1) and archive (VX-2)."""
    async with running(tmp_path) as (_, client):
        yield client
