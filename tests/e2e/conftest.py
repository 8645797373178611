"""The fixtures that the end-to-end tests and the fault suite share."""

from __future__ import annotations

from tests.support.cache_site import site
from tests.support.fixtures import asset, edge, shared_edge, source, sources, start_edge

__all__ = ["asset", "edge", "shared_edge", "site", "source", "sources", "start_edge"]
