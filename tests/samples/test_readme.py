"""The session of README.md, run as it stands there, gives what it shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samples.test_run import DEADLINE, LAST_LINE, ROOT, Run, free_ports

MARK = "--- end of"


def session() -> list[tuple[str, list[str]]]:
    """Return each command of README's session with the lines shown after it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("$ A=")[2].partition("```")[0]
    found: list[tuple[str, list[str]]] = []
    for line in f"$ A={block}".strip().splitlines():
        if line.startswith("$ "):
            found.append((re.sub(r"\s+# .*$", "", line[2:]), []))
        else:
            found[-1][1].append(line)
    return found


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[list[int]]:
    """Both programs with their data in tmp_path/var; their ports: origin, edge, operator."""
    ports = free_ports(3)
    run = Run(tmp_path / "var", ports)
    try:
        run.read_to(LAST_LINE)
        yield ports
    finally:
        run.discard()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
def test_session_of_the_readme_gives_what_it_shows(tmp_path: Path, programs: list[int]) -> None:
    commands = session()
    assert len(commands) > 5
    shutil.copy(ROOT / "README.md", tmp_path)  # the session uploads it from where its reader stands
    lines = ["set -u"]
    status = f"http://127.0.0.1:{programs[1]}/status"
    for number, (command, _) in enumerate(commands):
        lines += [
            command,
            f"echo '{MARK} {number}'",
            # A person is slower than the disk: go on when what was fetched is stored.
            f"until curl -s {status} | grep -q '\"downloadsInProgress\":0'; do :; done",
        ]
    script = "\n".join(lines).replace(".venv/bin/origin put", f"{sys.executable} -m origin put")
    script = script.replace("origin put", f"origin put --url http://127.0.0.1:{programs[0]}")
    for port, real in zip(("3333", "3334", "3335"), programs, strict=True):
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{real}")
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    printed = re.split(rf"{MARK} \d+\n", done.stdout.replace("\r", ""))
    for (command, shown), got in zip(commands, printed, strict=False):
        assert not shown or got.strip() == "\n".join(shown), (command, done.stderr)
    assert (tmp_path / "clip.mp4").read_bytes() == (ROOT / "samples/media/clip.mp4").read_bytes()
