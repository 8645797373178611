"""The command line, as people run it: in a process of its own, against a running origin."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from origin.cli import main
from origin.cli.put import plan
from tests.support.origin_service import PASSWORD, Service

ROOT = Path(__file__).parents[2]


async def origin(service: Service, *args: str, **environment: str) -> tuple[int, str, str]:
    """Return exit code, standard output, standard error."""
    env = {**os.environ, "ORIGIN_URL": service.url, "ORIGIN_PASSWORD": PASSWORD, **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "origin",
        *args,
        cwd=ROOT,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_files_and_folders_are_put_and_listed(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "tree" / "deep").mkdir(parents=True)
    (source / "tree" / "a b.txt").write_bytes(b"1")
    (source / "tree" / "deep" / "ü.txt").write_bytes(b"22")
    (source / "one.bin").write_bytes(b"x" * 3_000_000)
    code, out, err = await origin(service, "put", str(source / "tree"), str(source / "one.bin"), "media:in/")
    assert (code, err) == (0, "")
    assert sorted(line.split("\t")[1] for line in out.splitlines()) == [
        "in/one.bin",
        "in/tree/a b.txt",
        "in/tree/deep/ü.txt",
    ]
    assert service.on_disk() == {
        "in/one.bin": b"x" * 3_000_000,
        "in/tree/a b.txt": b"1",
        "in/tree/deep/ü.txt": b"22",
    }
    code, out, _ = await origin(service, "ls", "media:in/tree", "--json")
    assert sorted(json.loads(line)["size"] for line in out.splitlines()) == [1, 2]
    code, out, _ = await origin(service, "ls")
    assert out.splitlines()[0].split("\t")[:2] == ["VX-1", "media"]


async def test_refusal_says_why_and_exits_1(service: Service, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    code, _, err = await origin(service, "put", str(tmp_path / "f"), "nowhere:f")
    assert code == 1
    assert "no Storage 'nowhere'" in err
    code, _, err = await origin(service, "ls", "media", ORIGIN_PASSWORD="wrong")
    assert code == 1
    assert "401" in err
    code, _, err = await origin(service, "ls", ORIGIN_URL="http://127.0.0.1:1")
    assert code == 1
    assert "Traceback" not in err


async def test_users_and_tokens_are_made_and_work(service: Service) -> None:
    code, out, _ = await origin(
        service, "user", "add", "joe", "--rights", "write", "--group", "g", ORIGIN_NEW_PASSWORD="pw"
    )
    assert (code, out.split("\t")[1:3]) == (0, ["joe", "write"])
    code, out, _ = await origin(
        service, "token", "add", "t", "--for", "joe", "--expires", "1h", "--scope", "files/*"
    )
    token = out.strip()
    assert (code, len(token)) == (0, 22)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await service("PUT", "/content/media/a", body=b"x", headers=headers, user=None)).status == 201
    code, _, _ = await origin(service, "ls", "media", "--token", token, ORIGIN_PASSWORD="")
    assert code == 0
    assert (await origin(service, "user", "set", "joe", "--disable"))[0] == 0
    assert (await service("GET", "/content/media/a", headers=headers, user=None)).status == 401
    assert (await origin(service, "user", "rm", "joe"))[0] == 0


async def test_waiting_for_a_job_says_how_it_ended(service: Service) -> None:
    await service.put("media/a", b"x")
    job = (await service("DELETE", "/content/media/a")).json["job"]
    code, out, _ = await origin(service, "jobs", job, "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (0, "FINISHED")
    assert (await origin(service, "jobs", "VX-99"))[0] == 1


def test_check_config_prints_what_is_in_force_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("auth: {admin_password: hush}\n")
    result = CliRunner().invoke(main, ["check-config", "--config", str(file), "--set", "api.port=8123"])
    assert result.exit_code == 0
    assert "8123" in result.output
    assert "hush" not in result.output


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_bad_settings_exit_2_and_name_the_key(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--set", "api.port=x", "--set", "nope=1"])
    assert result.exit_code == 2
    assert "api.port" in result.output
    assert "nope" in result.output


def test_usage_errors_exit_2(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    result = CliRunner().invoke(main, ["put", str(tmp_path / "f"), "no-colon"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("sources", "target", "paths"),
    [
        (["a"], "x/y", ["x/y"]),
        (["a"], "x/", ["x/a"]),
        (["a"], "", ["a"]),
        (["a", "b"], "x", ["x/a", "x/b"]),
        (["d"], "x", ["x/d/c", "x/d/e/f"]),
        (["d"], "", ["d/c", "d/e/f"]),
    ],
)
def test_plan_says_what_goes_where(tmp_path: Path, sources: list[str], target: str, paths: list[str]) -> None:
    for name in ("a", "b", "d/c", "d/e/f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path, tmp_path / "d" / "loop")
    found = plan(tuple(tmp_path / source for source in sources), target)
    assert [upload.path for upload in found] == paths


async def test_unreadable_password_file_exits_2_without_a_traceback(tmp_path: Path, service: Service) -> None:
    (tmp_path / "empty").write_bytes(b"")
    settings = ("--set", "api.port=0", "--set", f"auth.admin_password_file={tmp_path}/empty")
    place = ("--set", f"catalog=sqlite:///{tmp_path}/other.db", "--set", "storages=[]")
    code, _, err = await origin(service, "serve", *settings, *place)
    assert code == 2
    assert "Traceback" not in err
