"""A fresh origin for a test that changes things; one for all tests of a module that only look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.vidispine import Client, running


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a fresh origin with storages media (VX-1) and archive (VX-2)."""
    async with running(tmp_path) as (_, client):
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of the module's origin. Its tests need `pytest.mark.asyncio(loop_scope="module")`."""
    async with running(tmp_path_factory.mktemp("origin")) as (_, client):
        yield client
