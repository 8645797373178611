from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.origin_service import Service, running_origin


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A fresh origin with storages media (VX-1), archive (VX-2) and secret (VX-3, not public)."""
    async with running_origin(tmp_path) as service:
        yield service
