"""Queries on Projects, Assets with their versions, and Objects."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog.tables import (
    asset_tags,
    assets,
    files,
    folders,
    jobs,
    objects,
    projects,
    versions,
    worker_tasks,
)
from origin.domain.model import File
from origin.domain.projects import Asset, Event, Project, Version
from origin.domain.states import FileState, JobState
from origin.domain.workers import status_of
from origin.errors import NotFound

_INCOMPLETE = [
    state.value
    for state in (
        FileState.NONE,
        FileState.OPEN,
        FileState.TO_APPEAR,
        FileState.MISSING,
        FileState.LOST,
        FileState.TO_BE_DELETED,
    )
]
LIVE = files.c.state != FileState.TO_BE_DELETED.value
# LIVE stands there too because the index of paths is one of live Files.
COMPLETE = sa.and_(LIVE, files.c.state.not_in(_INCOMPLETE), files.c.size >= 0)


def below(path: str) -> sa.ColumnElement[bool]:
    """Return what selects the Files below a folder."""
    return sa.and_(files.c.path > f"{path}/", files.c.path < f"{path}0")  # "0" follows "/"


def at_or_below(path: str) -> sa.ColumnElement[bool]:
    """Return what selects a File and all below it, as one range: no index serves an "or"."""
    whole = sa.and_(files.c.path >= path, files.c.path < f"{path}0")
    return sa.and_(whole, sa.or_(files.c.path == path, files.c.path > f"{path}/"))


# --- projects -------------------------------------------------------------------------------------


def _project(row: Any) -> Project:
    return Project(
        n=row.n,
        storage_n=row.storage_n,
        id=row.id,
        name=row.name,
        access=tuple(row.access),
        tags=tuple(row.tags),
        fields=row.fields,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
    )


async def everything(connection: AsyncConnection) -> list[Project]:
    """By number."""
    return [_project(row) for row in await connection.execute(sa.select(projects).order_by(projects.c.n))]


async def save(connection: AsyncConnection, project: Project, *, new: bool) -> None:
    row = {
        "n": project.n,
        "storage_n": project.storage_n,
        "id": project.id,
        "name": project.name,
        "access": list(project.access),
        "tags": list(project.tags),
        "fields": dict(project.fields),
        "created_ms": project.created_ms,
        "updated_ms": project.updated_ms,
    }
    if new:
        await connection.execute(sa.insert(projects).values(row))
    else:
        await connection.execute(sa.update(projects).where(projects.c.n == project.n).values(row))


async def remove(connection: AsyncConnection, n: int) -> None:
    """With its assets and objects; the Files are treated apart."""
    await connection.execute(sa.delete(projects).where(projects.c.n == n))


async def contents(connection: AsyncConnection, project: Project) -> tuple[int, int, int]:
    """Return the numbers of assets, objects and live Files below the project."""
    held = []
    for query in (
        sa.select(sa.func.count()).select_from(assets).where(assets.c.project_n == project.n),
        sa.select(sa.func.count()).select_from(objects).where(objects.c.project_n == project.n),
        sa.select(sa.func.count())
        .select_from(files)
        .where(files.c.storage_n == project.storage_n, LIVE, below(project.id)),
    ):
        held.append(int((await connection.execute(query)).scalar_one()))
    return held[0], held[1], held[2]


# --- assets ---------------------------------------------------------------------------------------


def _full(storage_n: int) -> sa.Select[Any]:
    """Assets with what is known of their current version's index file and newest task."""
    newest = (
        sa.select(sa.func.max(worker_tasks.c.job_n))
        .where(
            worker_tasks.c.asset_n == assets.c.n,
            worker_tasks.c.version == assets.c.version,
            worker_tasks.c.job_n > assets.c.tasks_after,
        )
        .correlate(assets)
        .scalar_subquery()
    )
    here = sa.and_(versions.c.asset_n == assets.c.n, versions.c.version == assets.c.version)
    there = sa.and_(files.c.storage_n == storage_n, files.c.path == versions.c.index_path, LIVE)
    return sa.select(
        assets,
        files.c.path.label("index_path"),
        files.c.n.label("index_n"),
        jobs.c.state.label("job_state"),
        jobs.c.error.label("job_error"),
        worker_tasks.c.worker.label("job_worker"),
    ).select_from(
        assets.outerjoin(versions, here)
        .outerjoin(files, there)
        .outerjoin(jobs, jobs.c.n == newest)
        .outerjoin(worker_tasks, worker_tasks.c.job_n == jobs.c.n)
    )


def _asset(row: Any) -> Asset:
    state = None if row.job_state is None else JobState(row.job_state)
    status = row.status if state is None else status_of(state)
    return Asset(
        n=row.n,
        project_n=row.project_n,
        id=row.id,
        name=row.name,
        description=row.description,
        tags=tuple(row.tags),
        version=row.version,
        history=tuple(Event(*event) for event in row.history),
        created_ms=row.created_ms,
        index_path=row.index_path,
        index_n=row.index_n,
        worker=row.job_worker or "" if status == "processing" else "",
        status=status,
        error=row.error if state is None else (row.job_error or "" if status == "error" else ""),
    )


async def asset(connection: AsyncConnection, project: Project, id: str) -> Asset | None:
    query = _full(project.storage_n).where(assets.c.project_n == project.n, assets.c.id == id)
    row = (await connection.execute(query)).one_or_none()
    return _asset(row) if row else None


async def lock(connection: AsyncConnection, project: Project) -> None:
    """Let no other transaction change the project's assets until this one ends.

    Raises NotFound when the project is gone.
    """
    held = sa.select(projects.c.n).where(projects.c.n == project.n).with_for_update()
    if (await connection.execute(held)).scalar_one_or_none() is None:
        raise NotFound("Project", project.id)


async def insert_asset(connection: AsyncConnection, asset: Asset) -> None:
    """With its first version, which holds nothing."""
    row = {"n": asset.n, "project_n": asset.project_n, "id": asset.id, "created_ms": asset.created_ms}
    row |= {"status": "", "error": "", "tasks_after": 0}
    await connection.execute(sa.insert(assets).values(row | _editable(asset)))
    await _save_tags(connection, asset)
    await add_version(connection, asset.n, asset.version, asset.created_ms)


async def save_asset(connection: AsyncConnection, asset: Asset) -> None:
    await connection.execute(sa.update(assets).where(assets.c.n == asset.n).values(_editable(asset)))
    await connection.execute(sa.delete(asset_tags).where(asset_tags.c.asset_n == asset.n))
    await _save_tags(connection, asset)


def _editable(asset: Asset) -> dict[str, Any]:
    return {
        "name": asset.name,
        "description": asset.description,
        "tags": list(asset.tags),
        "version": asset.version,
        "history": [[event.kind, event.time_ms, event.version] for event in asset.history],
    }


async def _save_tags(connection: AsyncConnection, asset: Asset) -> None:
    for tag in asset.tags:
        await connection.execute(sa.insert(asset_tags).values(asset_n=asset.n, tag=tag))


async def remove_asset(connection: AsyncConnection, n: int) -> None:
    await connection.execute(sa.delete(assets).where(assets.c.n == n))


async def clear_processing(connection: AsyncConnection, asset_n: int) -> None:
    """Forget, for the asset, what earlier tasks came to."""
    last = sa.select(sa.func.max(worker_tasks.c.job_n)).where(worker_tasks.c.asset_n == asset_n)
    await connection.execute(
        sa.update(assets)
        .where(assets.c.n == asset_n)
        .values(status="", error="", tasks_after=sa.func.coalesce(last.scalar_subquery(), 0))
    )


async def asset_numbers(connection: AsyncConnection, project_n: int) -> list[int]:
    query = sa.select(assets.c.n).where(assets.c.project_n == project_n)
    return list((await connection.execute(query)).scalars())


def _tagged(tag: str) -> sa.ColumnElement[bool]:
    """Return what selects the assets with a tag, looked up for each: a page never gathers them all."""
    return sa.exists().where(asset_tags.c.asset_n == assets.c.n, asset_tags.c.tag == tag)


def _chosen(query: sa.Select[Any], project: Project, tag: str | None, after: str | None) -> sa.Select[Any]:
    query = query.where(assets.c.project_n == project.n)
    if tag is not None:
        query = query.where(_tagged(tag))
    return query if after is None else query.where(assets.c.id > after)


async def names(
    connection: AsyncConnection,
    project: Project,
    *,
    tag: str | None,
    folders_too: bool,
    after: str | None,
    skip: int,
    number: int,
) -> list[tuple[str, int | None]]:
    """Return (id, asset's number) in order of id; folders that are no assets have None.

    after  an id that comes before the first; skip: entries left out first
    """
    found = _chosen(sa.select(assets.c.id.label("id"), assets.c.n.label("n")), project, tag, after)
    query: Any = found.order_by(assets.c.id)
    if folders_too:
        known = sa.exists().where(assets.c.project_n == project.n, assets.c.id == folders.c.name)
        others = sa.select(folders.c.name.label("id"), sa.null().label("n")).where(
            folders.c.storage_n == project.storage_n, folders.c.parent == project.id, sa.not_(known)
        )
        if after is not None:
            others = others.where(folders.c.name > after)
        # Each side gives its own first ones, so that the union never sorts the whole project.
        first = [
            sa.select(part.order_by(column).limit(skip + number).subquery())
            for part, column in ((found, assets.c.id), (others, folders.c.name))
        ]
        both = sa.union_all(*first).subquery()
        query = sa.select(both).order_by(both.c.id)
    rows = await connection.execute(query.limit(number).offset(skip))
    return [(row.id, row.n) for row in rows]


async def page(
    connection: AsyncConnection,
    project: Project,
    *,
    tag: str | None,
    after: str | None,
    skip: int,
    number: int,
) -> list[Asset]:
    """Return assets in order of id; see `names`."""
    ns = _chosen(sa.select(assets.c.n), project, tag, after).order_by(assets.c.id)
    query = _full(project.storage_n).where(assets.c.n.in_(ns.limit(number).offset(skip)))
    return [_asset(row) for row in await connection.execute(query.order_by(assets.c.id))]


async def by_number(connection: AsyncConnection, storage_n: int, ns: Sequence[int]) -> dict[int, Asset]:
    """ns: at most some hundreds."""
    query = _full(storage_n).where(assets.c.n.in_(ns))
    return {row.n: _asset(row) for row in await connection.execute(query)}


async def count_assets(connection: AsyncConnection, project_n: int, tag: str | None) -> int:
    query = sa.select(sa.func.count()).select_from(assets).where(assets.c.project_n == project_n)
    if tag is not None:
        query = query.where(_tagged(tag))
    return int((await connection.execute(query)).scalar_one())


# --- versions -------------------------------------------------------------------------------------


async def add_version(connection: AsyncConnection, asset_n: int, version: int, now_ms: int) -> None:
    await connection.execute(sa.insert(versions).values(asset_n=asset_n, version=version, created_ms=now_ms))


async def fill_version(connection: AsyncConnection, asset_n: int, version: int, file: File) -> None:
    """Note the uploaded File, which is the index file until a worker names another."""
    await connection.execute(
        sa.update(versions)
        .where(versions.c.asset_n == asset_n, versions.c.version == version)
        .values(file_n=file.n, index_path=file.path)
    )


async def set_index(connection: AsyncConnection, asset_n: int, version: int, path: str) -> None:
    await connection.execute(
        sa.update(versions)
        .where(versions.c.asset_n == asset_n, versions.c.version == version)
        .values(index_path=path)
    )


async def uploaded(connection: AsyncConnection, asset_n: int, version: int) -> int | None:
    """Return the number of the File uploaded as this version, None without one."""
    query = sa.select(versions.c.file_n).where(versions.c.asset_n == asset_n, versions.c.version == version)
    return (await connection.execute(query)).scalar_one_or_none()


async def has_version(connection: AsyncConnection, asset_n: int, version: int) -> bool:
    query = sa.select(versions.c.version).where(versions.c.asset_n == asset_n, versions.c.version == version)
    return (await connection.execute(query)).scalar_one_or_none() is not None


async def all_versions(
    connection: AsyncConnection, storage_n: int, folder: str, asset_n: int
) -> list[Version]:
    """Oldest first. folder: of the asset."""
    there = sa.and_(files.c.storage_n == storage_n, files.c.path == versions.c.index_path, LIVE)
    query = (
        sa.select(versions, files.c.n.label("there"))
        .outerjoin(files, there)
        .where(versions.c.asset_n == asset_n)
        .order_by(versions.c.version)
    )
    found = []
    for row in (await connection.execute(query)).all():
        held = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(files.c.size), 0)).where(
            files.c.storage_n == storage_n, COMPLETE, below(f"{folder}/{row.version}")
        )
        count, size = (await connection.execute(held)).one()
        index = row.index_path if row.there else None
        found.append(Version(row.version, row.created_ms, int(count), int(size), index, row.there))
    return found


async def files_below(
    connection: AsyncConnection, storage_n: int, folder: str, *, after: str | None, number: int
) -> list[Any]:
    """Return rows (n, path, size) of complete Files below a folder by path, after a path."""
    query = (
        sa.select(files.c.n, files.c.path, files.c.size)
        .where(files.c.storage_n == storage_n, COMPLETE, below(folder))
        .order_by(files.c.path)
        .limit(number)
    )
    if after is not None:
        query = query.where(files.c.path > after)
    return list((await connection.execute(query)).all())


async def any_below(connection: AsyncConnection, storage_n: int, folder: str) -> bool:
    """Whether a complete File lies below a folder."""
    query = sa.select(files.c.n).where(files.c.storage_n == storage_n, COMPLETE, below(folder)).limit(1)
    return (await connection.execute(query)).first() is not None


# --- objects --------------------------------------------------------------------------------------


async def object_file(connection: AsyncConnection, project: Project, id: str) -> int | None:
    """Return the number of the live File of an object, None when there is no such object."""
    query = (
        sa.select(objects.c.file_n)
        .join(files, sa.and_(files.c.n == objects.c.file_n, LIVE))
        .where(objects.c.project_n == project.n, objects.c.id == id)
    )
    return (await connection.execute(query)).scalar_one_or_none()


async def save_object(connection: AsyncConnection, project_n: int, id: str, file_n: int) -> None:
    await remove_object(connection, project_n, id)
    await connection.execute(sa.insert(objects).values(project_n=project_n, id=id, file_n=file_n))


async def remove_object(connection: AsyncConnection, project_n: int, id: str) -> None:
    await connection.execute(sa.delete(objects).where(objects.c.project_n == project_n, objects.c.id == id))


async def owner_of(connection: AsyncConnection, file: File) -> str | None:
    """Say what a File belongs to, "asset …" or "object …"; None: to neither.

    An asset's Files are those uploaded as its versions, and the complete ones in a version's folder.
    """
    query = sa.select(objects.c.id).where(objects.c.file_n == file.n)
    object_id = (await connection.execute(query.limit(1))).scalar_one_or_none()
    if object_id is not None:
        return f"object {object_id}"
    project_id, asset_id, version, *rest = *file.path.split("/"), "", "", ""
    complete = file.size >= 0 and file.state.value not in _INCOMPLETE
    of = versions.c.file_n == file.n
    if complete and any(rest) and version.isascii() and version.isdigit() and len(version) < 10:
        placed = sa.and_(
            projects.c.storage_n == file.storage_n,
            projects.c.id == project_id,
            assets.c.id == asset_id,
            versions.c.version == int(version),
            sa.literal(str(int(version)) == version),
        )
        of = sa.or_(of, placed)
    found = (
        sa.select(assets.c.id)
        .join(versions, versions.c.asset_n == assets.c.n)
        .join(projects, projects.c.n == assets.c.project_n)
        .where(of)
    )
    owner = (await connection.execute(found.limit(1))).scalar_one_or_none()
    return None if owner is None else f"asset {owner}"


# --- Files that go with what they belong to -------------------------------------------------------


async def condemn(connection: AsyncConnection, storage_n: int, path: str, now_ms: int) -> None:
    """Mark the live Files at a path and below it for deletion."""
    await connection.execute(
        sa.update(files)
        .where(files.c.storage_n == storage_n, LIVE, at_or_below(path))
        .values(state=FileState.TO_BE_DELETED.value, changed_ms=now_ms)
    )


async def condemn_others(
    connection: AsyncConnection, storage_n: int, folder: str, keep: Set[str], now_ms: int
) -> int:
    """Mark the live Files below a folder, but those at the paths `keep`; return how many."""
    query = sa.select(files.c.n, files.c.path).where(files.c.storage_n == storage_n, LIVE, below(folder))
    old = [row.n for row in await connection.execute(query) if row.path not in keep]
    for first in range(0, len(old), 500):
        await connection.execute(
            sa.update(files)
            .where(files.c.n.in_(old[first : first + 500]))
            .values(state=FileState.TO_BE_DELETED.value, changed_ms=now_ms)
        )
    return len(old)


async def condemned(connection: AsyncConnection, storage_n: int, path: str, number: int) -> list[Any]:
    """Return rows (n, path) of Files marked for deletion at a path and below it."""
    query = (
        sa.select(files.c.n, files.c.path)
        .where(
            at_or_below(path),
            # As expressions, which no index serves, so that the one by path is taken.
            files.c.storage_n + 0 == storage_n,
            files.c.state.concat("") == FileState.TO_BE_DELETED.value,
        )
        .order_by(files.c.path)
        .limit(number)
    )
    return list((await connection.execute(query)).all())


async def remove_files(connection: AsyncConnection, ns: Sequence[int]) -> None:
    await connection.execute(sa.delete(files).where(files.c.n.in_(ns)))
