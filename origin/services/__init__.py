"""Each rule once: domain values in, domain values out. Every dialect asks here and only here."""

from __future__ import annotations

from dataclasses import dataclass

from origin.config import OriginConfig
from origin.ports import Clock
from origin.services.access import Access
from origin.services.assets import Assets
from origin.services.audit import Audit
from origin.services.edges import Edges
from origin.services.files import Files
from origin.services.imports import Imports
from origin.services.items import Items
from origin.services.jobs import Jobs
from origin.services.limits import Buckets, Limiter
from origin.services.notifications import Notifications
from origin.services.projects import Projects
from origin.services.relocations import Relocations
from origin.services.scans import Scans
from origin.services.search import Search
from origin.services.slots import Slots
from origin.services.storages import Storages
from origin.services.tasks import Tasks
from origin.services.transfers import Transfers
from origin.services.tree import Tree
from origin.services.worker_tasks import WorkerTasks
from origin.services.workers import Workers

__all__ = [
    "Access",
    "Assets",
    "Audit",
    "Buckets",
    "Edges",
    "Files",
    "Imports",
    "Items",
    "Jobs",
    "Limiter",
    "Notifications",
    "Projects",
    "Relocations",
    "Scans",
    "Search",
    "Services",
    "Slots",
    "Storages",
    "Tasks",
    "Transfers",
    "Tree",
    "WorkerTasks",
    "Workers",
]


@dataclass(frozen=True, slots=True)
class Services:
    """slots: of uploads under way; each dialect takes one before it reads a body."""

    config: OriginConfig
    clock: Clock
    access: Access
    storages: Storages
    files: Files
    transfers: Transfers
    items: Items
    jobs: Jobs
    relocations: Relocations
    imports: Imports
    scans: Scans
    notifications: Notifications
    slots: Slots
    limiter: Limiter
    tree: Tree
    search: Search
    tasks: Tasks
    audit: Audit
    edges: Edges
    projects: Projects
    assets: Assets
    workers: Workers
    worker_tasks: WorkerTasks
