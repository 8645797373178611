"""`origin ls`, `jobs`, `user`, `token`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from distributor.units import parse_duration
from origin.cli.remote import Remote, remote_options

_json = click.option("--json", "as_json", is_flag=True, help="For scripts.")


def _show(value: object) -> None:
    click.echo(msgspec.json.encode(value).decode("utf-8"))


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    console = Console()
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join("" if cell is None else str(cell) for cell in row))
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table, markup=False)


def _when(ms: int | None) -> str:
    if ms is None:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@click.command()
@click.argument("where", required=False, metavar="[STORAGE[:PATH]]")
@click.option("--recursive/--flat", default=True, help="Also what lies deeper. Default: recursive.")
@_json
@remote_options
async def ls(remote: Remote, where: str | None, recursive: bool, as_json: bool) -> None:
    """List storages; with STORAGE the files on it, with PATH those below it. `*` and `?` are wildcards."""
    async with remote.session() as session:
        if where is None:
            found = (await remote.call(session, "GET", "storages"))["storages"]
            if as_json:
                _show(found)
                return
            columns = ("id", "name", "state", "type", "files", "bytes")
            _table(columns, [[storage[column] for column in columns] for storage in found])
            return
        storage, _, path = where.partition(":")
        query = {
            "storage": storage,
            "path": path or "/",
            "recursive": str(recursive).lower(),
            "wildcard": str(any(c in path for c in "*?")).lower(),
            "limit": "1000",
        }
        cursor: str | None = "*"
        while cursor:
            page = await remote.call(session, "GET", "files", query={**query, "cursor": cursor})
            cursor = page["nextCursor"]
            if as_json:
                for file in page["files"]:
                    _show(file)
            else:
                _table(
                    ("id", "size", "state", "modified", "path"),
                    [
                        [f["id"], f["size"], f["state"], _when(f["modified"]), f["path"]]
                        for f in page["files"]
                    ],
                )


def _file_row(file: dict[str, Any]) -> list[object]:
    return [file["id"], file["size"], file["state"], _when(file["modified"]), file["path"]]


@click.command()
@click.argument("ids", nargs=-1)
@click.option("--state", default="", help="Only these, comma-separated: READY,STARTED,…")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--abort", is_flag=True, help="Ask the jobs named to stop.")
@click.option("--wait", is_flag=True, help="Wait until the jobs named are over; 1 if one failed.")
@_json
@remote_options
async def jobs(
    remote: Remote, ids: tuple[str, ...], state: str, limit: int, abort: bool, wait: bool, as_json: bool
) -> None:
    """List jobs, newest first, or show those named."""
    if (abort or wait) and not ids:
        raise click.UsageError("name the jobs")
    async with remote.session() as session:
        if ids:
            method = "DELETE" if abort else "GET"
            found = [await remote.call(session, method, "jobs", id) for id in ids]
            while wait and not all(job["finished"] for job in found):
                await asyncio.sleep(0.5)
                found = [await remote.call(session, "GET", "jobs", id) for id in ids]
        else:
            query = {"state": state, "limit": str(limit)}
            found = (await remote.call(session, "GET", "jobs", query=query))["jobs"]
    if as_json:
        for job in found:
            _show(job)
    else:
        columns = ("id", "type", "state", "priority", "user", "progress", "created", "error")
        _table(columns, [_job_row(job) for job in found])
    if wait and any(not job["state"].startswith("FINISHED") for job in found):
        raise click.exceptions.Exit(1)


def _job_row(job: dict[str, Any]) -> list[object]:
    progress = f"{100 * job['done'] // job['total']}%" if job["total"] else ""
    return [
        job["id"],
        job["type"],
        job["state"],
        job["priority"],
        job["user"],
        progress,
        _when(job["created"]),
        job["error"] or job["waiting"],
    ]


@click.group()
def user() -> None:
    """Users: who may sign in, and what they may do."""


def _user_row(found: dict[str, Any]) -> list[object]:
    rights = "admin" if found["admin"] else "write" if found["write"] else "read"
    return [found["id"], found["name"], rights, found["enabled"], ",".join(found["groups"])]


_USER = ("id", "name", "rights", "enabled", "groups")


@user.command("ls")
@_json
@remote_options
async def user_ls(remote: Remote, as_json: bool) -> None:
    """List users."""
    async with remote.session() as session:
        found = (await remote.call(session, "GET", "users"))["users"]
    if as_json:
        _show(found)
    else:
        _table(_USER, [_user_row(entry) for entry in found])


_rights = click.option("--rights", type=click.Choice(["read", "write", "admin"]), help="What they may do.")
_groups = click.option("--group", "groups", multiple=True, help="Repeatable.")
_new_password = click.option(
    "--new-password", envvar="ORIGIN_NEW_PASSWORD", help="Better given as ORIGIN_NEW_PASSWORD, or asked for."
)


def _flags(rights: str | None) -> dict[str, bool]:
    return {} if rights is None else {"admin": rights == "admin", "write": rights in ("write", "admin")}


@user.command("add")
@click.argument("name")
@_rights
@_groups
@_new_password
@_json
@remote_options
async def user_add(
    remote: Remote,
    name: str,
    rights: str | None,
    groups: tuple[str, ...],
    new_password: str | None,
    as_json: bool,
) -> None:
    """Make a user. Without --rights they may read."""
    if not new_password:
        new_password = click.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True)
    body = {"name": name, "password": new_password, "groups": list(groups), **_flags(rights)}
    async with remote.session() as session:
        made = await remote.call(session, "POST", "users", body=body)
    _show(made) if as_json else _table(_USER, [_user_row(made)])


@user.command("set")
@click.argument("name")
@_rights
@_groups
@_new_password
@click.option("--enable/--disable", "enabled", default=None)
@_json
@remote_options
async def user_set(
    remote: Remote,
    name: str,
    rights: str | None,
    groups: tuple[str, ...],
    new_password: str | None,
    enabled: bool | None,
    as_json: bool,
) -> None:
    """Change a user; what is not named stays."""
    body: dict[str, object] = dict(_flags(rights))
    if groups:
        body["groups"] = list(groups)
    if new_password:
        body["password"] = new_password
    if enabled is not None:
        body["enabled"] = enabled
    async with remote.session() as session:
        changed = await remote.call(session, "PUT", "users", name, body=body)
    _show(changed) if as_json else _table(_USER, [_user_row(changed)])


@user.command("rm")
@click.argument("name")
@remote_options
async def user_rm(remote: Remote, name: str) -> None:
    """Delete a user with all tokens."""
    async with remote.session() as session:
        await remote.call(session, "DELETE", "users", name)


@click.group()
def token() -> None:
    """Tokens: secrets that stand for a user, with some or all of the user's rights."""


@token.command("ls")
@_json
@remote_options
async def token_ls(remote: Remote, as_json: bool) -> None:
    """List one's own tokens. The secrets are not kept."""
    async with remote.session() as session:
        found = (await remote.call(session, "GET", "tokens"))["tokens"]
    if as_json:
        _show(found)
        return
    now = time.time() * 1000
    rows = [
        [
            entry["id"],
            entry["name"],
            entry["hint"],
            "all" if entry["scopes"] is None else ",".join(entry["scopes"]),
            "expired" if entry["expires"] and entry["expires"] <= now else _when(entry["expires"]),
            _when(entry["used"]),
        ]
        for entry in found
    ]
    _table(("id", "name", "secret", "scopes", "expires", "used"), rows)


@token.command("add")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, help="controller/action; repeatable. Without: all rights.")
@click.option("--expires", help="After so long: 12h, 30d. Without: never.")
@click.option("--for", "owner", help="Another user's; administrators only.")
@_json
@remote_options
async def token_add(
    remote: Remote,
    name: str,
    scopes: tuple[str, ...],
    expires: str | None,
    owner: str | None,
    as_json: bool,
) -> None:
    """Make a token and print its secret, this once."""
    body: dict[str, object] = {"name": name}
    if scopes:
        body["scopes"] = list(scopes)
    if owner:
        body["user"] = owner
    if expires:
        try:
            body["expires_in"] = int(parse_duration(expires))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--expires") from error
    async with remote.session() as session:
        made = await remote.call(session, "POST", "tokens", body=body)
    _show(made) if as_json else click.echo(made["token"])


@token.command("rm")
@click.argument("id")
@remote_options
async def token_rm(remote: Remote, id: str) -> None:
    """Delete a token; it is refused from then on."""
    async with remote.session() as session:
        await remote.call(session, "DELETE", "tokens", id)
