"""Each rule once: domain values in, domain values out. Every dialect asks here and only here."""

from __future__ import annotations

from dataclasses import dataclass

from origin.config import OriginConfig
from origin.services.access import Access
from origin.services.files import Files
from origin.services.jobs import Jobs
from origin.services.storages import Storages
from origin.services.transfers import Transfers

__all__ = ["Access", "Files", "Jobs", "Services", "Storages", "Transfers"]


@dataclass(frozen=True, slots=True)
class Services:
    config: OriginConfig
    access: Access
    storages: Storages
    files: Files
    transfers: Transfers
    jobs: Jobs
