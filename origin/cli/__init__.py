"""The command line. `serve` and `check-config` work here; everything else speaks to a service over REST.

Exit codes: 0 stopped or done as asked, 2 bad settings or usage, 1 anything else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from origin import config
from origin.cli import administration, put

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="distributor", prog_name="origin")
def main() -> None:
    """Storage and archive service: holds files, says who may read them, and serves edges."""


def _load(path: Path | None, overrides: tuple[str, ...]) -> config.OriginConfig:
    try:
        return config.load(path, overrides, os.environ)
    except config.SettingsError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)


_config = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings, YAML. Without it: the defaults and the environment (ORIGIN__API__PORT=8080).",
)
_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting; repeatable.")


@main.command()
@_config
@_set
def serve(path: Path | None, overrides: tuple[str, ...]) -> None:
    """Run the origin in the foreground. SIGTERM and Ctrl-C let answers under way end."""
    settings = _load(path, overrides)
    from origin.app import run  # the other commands need none of this

    sys.exit(run(settings))


@main.command("check-config")
@_config
@_set
def check_config(path: Path | None, overrides: tuple[str, ...]) -> None:
    """Print the settings in force, or each error with its key."""
    click.echo(config.dump(_load(path, overrides)), nl=False)


main.add_command(put.put)
main.add_command(administration.ls)
main.add_command(administration.jobs)
main.add_command(administration.user)
main.add_command(administration.token)
