"""Every test of this folder that takes `make_store` runs with the store in memory and with that on disk."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributor.ports import Store
from distributor.store.store import DiskStore
from tests.support.delivery import SEGMENT, Bench
from tests.support.memory_store import MemoryStore

MakeBench = Callable[..., Bench]


@pytest.fixture(autouse=True)
def no_defect(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a fetch survives as "a defect", or a task dies of unseen, is one: no test may cause it."""
    yield
    for when in ("call", "teardown"):
        records = [record for record in caplog.get_records(when) if record.levelno >= logging.ERROR]
        errors = [record for record in records if record.name in ("asyncio", "distributor.fetch")]
        assert not errors, errors[0].getMessage()


@pytest.fixture(params=["memory", "disk"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Store]:
    numbers = itertools.count()

    def make(limit: int = 256 << 20, max_object: int | None = None, segment: int = SEGMENT) -> Store:
        if request.param == "memory":
            return MemoryStore(limit=limit, max_object=max_object, segment=segment)
        return DiskStore(
            tmp_path / str(next(numbers)),
            limit=limit,
            max_object=max_object,
            segment=segment,
            durability="none",
        )

    return make


@pytest.fixture
def make_bench(make_store: Callable[..., Store]) -> MakeBench:
    """Settings of the store: limit, max_object, segment; the others are the bench's."""

    def make(**settings: Any) -> Bench:
        of_store = {name: settings.pop(name) for name in ("limit", "max_object") if name in settings}
        if "segment" in settings:
            of_store["segment"] = settings["segment"]
        return Bench(make_store(**of_store), **settings)

    return make


@pytest.fixture
def memory_bench() -> MakeBench:
    """With the store in memory only: for failures that are made to order."""

    def make(**settings: Any) -> Bench:
        of_store = {name: settings.pop(name) for name in ("limit", "max_object") if name in settings}
        return Bench(MemoryStore(segment=SEGMENT, **of_store), **settings)

    return make
