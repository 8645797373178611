from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.nodeum import Client, running


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a fresh origin with storages media (1), archive (2) and secret (3, not public)."""
    async with running(tmp_path) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of the module's origin, for what is refused or only looks. Its tests need `on_shared`."""
    async with running(tmp_path_factory.mktemp("origin")) as client:
        yield client
