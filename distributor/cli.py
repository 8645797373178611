"""`distributor`: runs an edge, and talks to the operator API of one that runs.

Exit codes: 0 as asked, 2 bad settings or usage, 1 anything else.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO
from urllib.parse import urlencode

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from distributor import config as configuration
from distributor.core.simulation import BadTrace, PolicyName, Simulation, read_trace
from distributor.core.simulation import simulate as replay
from distributor.settings import SettingsError
from distributor.units import format_bytes, parse_bytes

__all__ = ["main"]

TIMEOUT = 30.0  # seconds for one call of the operator API
POLL = 0.5  # seconds between two looks at a job
MOST_IDS = 1000  # of one call
DEFAULT_URL = "http://127.0.0.1:3335"
TOKEN_FILE = Path("var/edge/operator.token")


class OperatorClient:
    """Calls the operator API of one node.

    url    scheme, host and port; a path is kept, so that a proxy in front may have one
    token  the bearer token
    """

    def __init__(self, url: str, token: str) -> None:
        self._base = url.rstrip("/").removesuffix("/api/v1") + "/api/v1"
        self._token = token
        # Operators reach nodes directly; a proxy for the web would be given the token.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())

    def call(self, method: str, path: str, document: object = None) -> Any:
        """Return the decoded answer. Raises click.ClickException with what the node said."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(self._base + path, data=body, method=method)  # noqa: S310
        request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                _fail(f"{self._base}{path}: {error.code} {_message(error.read())}")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            _fail(f"{self._base} does not answer: {reason}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return "without a word"


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)


def _operator(command: Any) -> Any:
    """Add --url, --token and --json to a command that talks to a node."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts."),
        click.option("--token", envvar="DISTRIBUTOR_TOKEN", help="Bearer token of the operator API."),
        click.option(
            "--url", envvar="DISTRIBUTOR_URL", default=DEFAULT_URL, show_default=True, help="Operator API."
        ),
    ):
        command = option(command)
    return command


def _client(url: str, token: str | None) -> OperatorClient:
    if token is None:
        if not TOKEN_FILE.is_file():
            raise click.UsageError("no token: give --token or DISTRIBUTOR_TOKEN")
        try:
            token = TOKEN_FILE.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            _fail(f"{TOKEN_FILE}: {error}")
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://")
    return OperatorClient(url, token)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


# --- the node itself -----------------------------------------------------------------------------------


def _settings_options(command: Any) -> Any:
    path = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override one key."),
        click.option("--config", "path", type=path, metavar="FILE", help="Settings, YAML."),
    ):
        command = option(command)
    return command


def _load(path: Path | None, overrides: tuple[str, ...]) -> configuration.Config:
    try:
        return configuration.load(path, overrides, os.environ)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="distributor")
def main() -> None:
    """A caching edge node for media."""


@main.command("serve")
@_settings_options
def serve_command(path: Path | None, overrides: tuple[str, ...]) -> None:
    """Run the edge in the foreground; SIGTERM drains, a second one stops at once."""
    config = _load(path, overrides)
    from distributor.app import serve  # what serves is heavy, and no other command needs it

    sys.exit(serve(config))


@main.command("check-config")
@_settings_options
def check_config(path: Path | None, overrides: tuple[str, ...]) -> None:
    """Print the settings in force, or what is wrong with them (exit code 2)."""
    click.echo(configuration.dump(_load(path, overrides)), nl=False)


# --- talking to a node ---------------------------------------------------------------------------------


@main.command()
@_operator
def status(url: str, token: str | None, as_json: bool) -> None:
    """Show what the node says of itself."""
    found = _client(url, token).call("GET", "/status")
    if as_json:
        _print_json(found)
        return
    table = Table(show_header=False, box=None)
    for name, value in found.items():
        shown = _size(value) if name in ("storageLimit", "storageUsed") else str(value)
        table.add_row(name, shown)
    Console().print(table)


@main.command()
@click.option("--prefix", help="Only ids that begin so.")
@click.option("--bucket", help="Only this bucket.")
@click.option("--state", type=click.Choice(["complete", "partial", "filling"]), help="Only this state.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; all of them otherwise.")
@_operator
def ls(
    url: str,
    token: str | None,
    as_json: bool,
    prefix: str | None,
    bucket: str | None,
    state: str | None,
    limit: int | None,
) -> None:
    """List stored objects, by id. With --json: one object a line."""
    asked = {"prefix": prefix, "bucket": bucket, "state": state}
    found = _objects(_client(url, token), {k: v for k, v in asked.items() if v is not None}, limit)
    if as_json:
        for stored in found:
            _print_json(stored)
        return
    table = Table(box=None)
    for heading in ("id", "bucket", "state", "size", "stored", "hits", "expires in"):
        table.add_column(heading, justify="left" if heading in ("id", "bucket", "state") else "right")
    for stored in found:
        state_shown = stored["state"] + (" stale" if stored["stale"] else "")
        size = "?" if stored["size"] is None else _size(stored["size"])
        table.add_row(
            stored["id"],
            stored["bucket"],
            state_shown,
            size,
            _size(stored["stored"]),
            str(stored["hits"]),
            f"{stored['expiresIn']} s",
        )
    Console().print(table)


def _objects(client: OperatorClient, asked: dict[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while limit is None or limit > 0:
        page = 1000 if limit is None else min(limit, 1000)
        query = {**asked, "limit": str(page), **({"cursor": cursor} if cursor else {})}
        answer = client.call("GET", f"/objects?{urlencode(query)}")
        yield from answer["objects"]
        cursor = answer["nextCursor"]
        if limit is not None:
            limit -= len(answer["objects"])
        if cursor is None:
            return


@main.command()
@click.argument("ids", nargs=-1)
@click.option("--prefix", help="Purge ids that begin so.")
@click.option("--bucket", help="Purge what is in this bucket.")
@click.option("--soft", is_flag=True, help="Mark stale instead of removing.")
@_operator
def purge(
    url: str,
    token: str | None,
    as_json: bool,
    ids: tuple[str, ...],
    prefix: str | None,
    bucket: str | None,
    soft: bool,
) -> None:
    """Remove stored objects, named by IDS, --prefix or --bucket."""
    if sum((bool(ids), prefix is not None, bucket is not None)) != 1:
        raise click.UsageError("name what to purge: IDS, or --prefix, or --bucket")
    client = _client(url, token)
    total = {"purged": 0, "bytes": 0}
    wanted: Iterable[dict[str, Any]] = (
        [{"prefix": prefix}] if prefix is not None else [{"bucket": bucket}] if bucket is not None else []
    )
    for what in wanted or ({"ids": list(part)} for part in _parts(ids)):
        done = client.call("POST", "/purge", {**what, "soft": soft})
        total = {name: total[name] + done[name] for name in total}
    if as_json:
        _print_json(total)
    else:
        click.echo(f"{total['purged']} purged, {_size(total['bytes'])}")


@main.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return as soon as the node has taken the job.")
@_operator
def prefetch(url: str, token: str | None, as_json: bool, ids: tuple[str, ...], no_wait: bool) -> None:
    """Have objects fetched before anybody asks for them."""
    client = _client(url, token)
    jobs = [client.call("POST", "/prefetch", {"ids": list(part)}) for part in _parts(ids)]
    _see_through(client, jobs, as_json, no_wait)


@main.command()
@click.argument("ids", nargs=-1)
@click.option("--prefix", help="Verify ids that begin so.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the node has taken the job.")
@_operator
def verify(
    url: str, token: str | None, as_json: bool, ids: tuple[str, ...], prefix: str | None, no_wait: bool
) -> None:
    """Re-hash stored objects: IDS, those with --prefix, or all; bad ones are removed."""
    if ids and prefix is not None:
        raise click.UsageError("give IDS or --prefix, not both")
    if len(ids) > MOST_IDS:
        raise click.UsageError(f"at most {MOST_IDS} IDS; name more by --prefix")
    what: dict[str, Any] = {"ids": list(ids)} if ids else {} if prefix is None else {"prefix": prefix}
    client = _client(url, token)
    _see_through(client, [client.call("POST", "/verify", what)], as_json, no_wait)


@main.command()
@_operator
def drain(url: str, token: str | None, as_json: bool) -> None:
    """Have load balancers send clients elsewhere; requests are still served."""
    answer = _client(url, token).call("POST", "/drain")
    if as_json:
        _print_json(answer)
    else:
        click.echo(answer["state"])


# --- without a node ------------------------------------------------------------------------------------


class _SizeType(click.ParamType):  # type: ignore[type-arg]  # generic in stubs only
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size = parse_bytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if size < 1:
            self.fail("a size is at least 1", param, ctx)
        return size


@main.command()
@click.argument("trace", type=click.File("r", encoding="utf-8", lazy=False))
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(["lru", "s3-fifo"]),
    help="As cache.eviction; may be repeated; both by default.",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=_SizeType(),
    help="As cache.limit; may be repeated.  [default: 10G]",
)
@click.option("--max-object", type=_SizeType(), help="As cache.max_object.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one store a line.")
def simulate(
    trace: TextIO,
    policies: tuple[PolicyName, ...],
    sizes: tuple[int, ...],
    max_object: int | None,
    as_json: bool,
) -> None:
    """Replay TRACE (CSV: time,id,size; - for standard input) and print what stores would have missed."""
    stores = [
        Simulation(policy, size, max_object)
        for size in dict.fromkeys(sizes or (10 << 30,))
        for policy in dict.fromkeys(policies or ("lru", "s3-fifo"))
    ]
    try:
        tallies = replay(read_trace(trace), stores)
    except (BadTrace, UnicodeDecodeError) as error:
        raise click.UsageError(f"{trace.name}: {error}") from None
    if as_json:
        for tally in tallies:
            ratios = {"objectMissRatio": tally.object_miss_ratio, "byteMissRatio": tally.byte_miss_ratio}
            _print_json({_camel(name): value for name, value in tally._asdict().items()} | ratios)
        return
    first = tallies[0]
    table = Table(box=None, caption=f"{first.requests:,} requests, {_size(first.bytes)}")
    for heading in ("policy", "size", "objects missed", "bytes missed", "stored", "evicted", "passed"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for tally in tallies:
        table.add_row(
            tally.policy,
            format_bytes(tally.limit),
            f"{tally.object_miss_ratio:.4f}",
            f"{tally.byte_miss_ratio:.4f}",
            f"{tally.stored:,}",
            f"{tally.evicted:,}",
            f"{tally.passed:,}",
        )
    Console().print(table)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


# --- helpers -------------------------------------------------------------------------------------------


def _parts(ids: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(ids), MOST_IDS):
        yield ids[start : start + MOST_IDS]


def _see_through(client: OperatorClient, jobs: list[dict[str, Any]], as_json: bool, no_wait: bool) -> None:
    """Follow `jobs` to their ends and say what came of them; exit code 1 if anything failed."""
    if not no_wait:
        jobs = [_follow(client, job, quiet=as_json) for job in jobs]
    if as_json:
        for job in jobs:
            _print_json(job)
    else:
        for job in jobs:
            for error in job["errors"]:
                click.echo(f"{error['id']}: {error['type']}: {error['message']}", err=True)
            click.echo(
                f"{job['kind']} {job['id']} {job['state']}: {job['done']} of {job['total']}, "
                f"{job['failed']} failed, {_size(job['bytes'])}"
            )
    if any(job["failed"] or job["state"] in ("failed", "cancelled") for job in jobs):
        sys.exit(1)


def _follow(client: OperatorClient, job: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[size]}"),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(job["kind"], total=job["total"], size="")
        while job["finishedAt"] is None:
            job = client.call("GET", f"/jobs/{job['id']}")
            progress.update(task, completed=job["done"], total=job["total"], size=_size(job["bytes"]))
            if job["finishedAt"] is None:
                time.sleep(POLL)
    return job


def _size(count: int) -> str:
    """A size to be read, not to be parsed: 1.5 GiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{int(size)} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
