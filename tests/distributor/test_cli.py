"""The command line: serve and check-config in a process of their own, the rest against an operator port."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from distributor.cli import main
from distributor.errors import SourceUnreachable
from tests.support.front import OperatorFront

ROOT = Path(__file__).resolve().parents[2]


async def run(front: OperatorFront, *arguments: str, token: str | None = None) -> Result:
    """Run a command against `front`, in a thread: the port is served by this one."""
    given = [*arguments, "--url", f"http://127.0.0.1:{front.port}", "--token", token or front.TOKEN]
    return await asyncio.to_thread(CliRunner().invoke, main, given)


async def test_status_prints_what_the_node_says_and_json_for_scripts() -> None:
    async with OperatorFront() as front:
        await front.put("a", b"x" * 2048)
        shown = await run(front, "status")
        assert shown.exit_code == 0
        assert re.search(r"^ *storageUsed +2\.0 KiB", shown.output, re.M)
        found = json.loads((await run(front, "status", "--json")).output)
        assert (found["id"], found["objectsInCache"], found["state"]) == ("edge-1", 1, "serving")


async def test_ls_lists_every_object_over_all_pages() -> None:
    async with OperatorFront() as front:
        for number in range(1203):
            await front.put(f"a{number:04}", b"x")
        lines = (await run(front, "ls", "--json")).output.splitlines()
        assert [json.loads(line)["id"] for line in lines] == [f"a{number:04}" for number in range(1203)]
        limited = (await run(front, "ls", "--json", "--limit", "2", "--prefix", "a12")).output.splitlines()
        assert [json.loads(line)["id"] for line in limited] == ["a1200", "a1201"]
        table = await run(front, "ls", "--prefix", "a0000")
        assert re.search(r"a0000 +default +complete +1 B", table.output)


async def test_purge_names_what_it_removes_and_says_how_much() -> None:
    async with OperatorFront() as front:
        front.edge.purged = (1, 3 << 20)
        result = await run(front, "purge", "a", "b", "--soft")
        assert (result.exit_code, result.output) == (0, "1 purged, 3.0 MiB\n")
        assert front.edge.purges == [{"ids": ["a", "b"], "soft": True}]
        result = await run(front, "purge", "--prefix", "films/", "--json")
        assert json.loads(result.output) == {"purged": 1, "bytes": 3 << 20}
        assert front.edge.purges[-1] == {"prefix": "films/", "soft": False}


async def test_prefetch_waits_for_the_job_and_fails_where_an_object_failed() -> None:
    async with OperatorFront() as front:

        async def fetch(asset_id: str) -> None:
            if asset_id == "bad":
                raise SourceUnreachable

        front.edge.prefetch_answer = fetch
        good = await run(front, "prefetch", "one", "two")
        assert good.exit_code == 0
        assert re.fullmatch(r"prefetch [0-9a-f]+ done: 2 of 2, 0 failed, 6 B\n", good.output)
        bad = await run(front, "prefetch", "bad", "--json")
        assert bad.exit_code == 1
        assert json.loads(bad.output)["errors"][0]["type"] == "bad_gateway"


async def test_verify_waits_or_returns_at_once_as_told() -> None:
    async with OperatorFront() as front:
        await front.put("a", b"x" * 100)
        assert "done: 1 of 1, 0 failed, 100 B" in (await run(front, "verify")).output
        job = json.loads((await run(front, "verify", "--prefix", "a", "--no-wait", "--json")).output)
        assert job["kind"] == "verify"


async def test_drain_and_what_the_node_refuses() -> None:
    async with OperatorFront() as front:
        assert (await run(front, "drain")).output == "draining\n"
        again = await run(front, "drain")
        assert again.exit_code == 1
        assert "409 The node's present state does not allow this." in again.output


async def test_a_wrong_token_and_a_node_that_is_not_there_are_exit_code_1() -> None:
    async with OperatorFront() as front:
        wrong = await run(front, "status", token="no")
        assert wrong.exit_code == 1
        assert "401" in wrong.output and front.TOKEN not in wrong.output
        port = front.port
    gone = CliRunner().invoke(main, ["status", "--url", f"http://127.0.0.1:{port}", "--token", "t"])
    assert gone.exit_code == 1
    assert "does not answer" in gone.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["purge"],
        ["purge", "a", "--prefix", "b"],
        ["verify", "a", "--prefix", "b"],
        ["prefetch"],
        ["status", "--url", "ftp://x"],
        ["ls", "--state", "gone"],
        ["ls", "--limit", "0"],
        ["no-such-command"],
        ["serve", "--no-such-option"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, [*arguments, "--token", "t"]).exit_code == 2


def test_without_a_token_usage_says_how_to_give_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISTRIBUTOR_TOKEN", raising=False)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 2
    assert "DISTRIBUTOR_TOKEN" in result.output


# Settings


def test_check_config_prints_the_settings_in_force(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text("cache: {limit: 2G}\noperator_api: {token: s3cret}\n")
    arguments = ["check-config", "--config", str(path), "--set", "cache.segment=2M"]
    result = CliRunner().invoke(main, arguments, env={"DISTRIBUTOR__ID": "edge-9"})
    assert result.exit_code == 0
    assert "s3cret" not in result.output
    found = yaml.safe_load(result.output)
    assert (found["id"], found["cache"]["limit"], found["cache"]["segment"]) == ("edge-9", "2G", "2M")


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_bad_settings_are_told_key_by_key_with_exit_code_2(tmp_path: Path, command: str) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text("cache: {limt: 2G}\npublic_api: {port: 99999}\n")
    result = CliRunner().invoke(main, [command, "--config", str(path)])
    assert result.exit_code == 2
    assert "cache.limt" in result.output and "public_api.port" in result.output
    assert CliRunner().invoke(main, [command, "--config", str(tmp_path / "none")]).exit_code == 2


# Serving


class Running:
    """A `distributor serve` of its own, over a source that does not answer."""

    def __init__(self, directory: Path, *extra: str) -> None:
        settings: dict[str, Any] = {
            "public_api": {"port": 0},
            "operator_api": {"port": 0, "token_file": str(directory / "edge" / "token")},
            "origin": {"sources": [{"url": "http://127.0.0.1:1/{id}"}]},
            "cache": {"directory": str(directory / "edge"), "limit": "64M"},
        }
        path = directory / "edge.yaml"
        path.write_text(yaml.safe_dump(settings))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distributor", "serve", "--config", str(path), *extra],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            text=True,
        )
        assert self.process.stderr is not None
        self.log: list[str] = []
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"ready public=(http://\S+) operator=(http://\S+)", line)
            if found is not None:
                break
        else:
            raise RuntimeError("the edge did not become ready:\n" + "".join(self.log))
        self.public, self.operator = found[1], found[2].rstrip('",}')
        self.token = (directory / "edge" / "token").read_text().strip()

    def end(self, timeout: float = 20.0) -> int:
        """Exit code; the rest of the log."""
        _, rest = self.process.communicate(timeout=timeout)
        self.log += rest.splitlines(keepends=True)
        return self.process.returncode

    def post(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.operator}/api/v1{path}", data=b"", method="POST")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    edge = Running(tmp_path)
    yield edge
    if edge.process.poll() is None:
        edge.process.kill()
        edge.end()
    assert edge.process.stderr is not None
    edge.process.stderr.close()


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_serve_says_ready_with_its_addresses_and_a_signal_ends_it_well(running: Running) -> None:
    assert get(f"{running.public}/readyz") == (200, b'{"status":"ready"}')
    assert get(f"{running.public}/assets/x")[0] == 502
    token = running.token
    assert len(token) >= 32
    path = Path(re.sub(r"edge.yaml$", "edge/token", running.process.args[5]))  # type: ignore[index]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    running.process.send_signal(signal.SIGTERM)
    assert running.end() == 0
    log = "".join(running.log)
    assert token not in log and "Traceback" not in log
    assert re.search(r"ACCESS 127\.0\.0\.1 GET /assets/x 502 \d+ - none ", log)


def test_shutdown_over_the_api_ends_it_too_and_overrides_outlive_it(tmp_path: Path) -> None:
    edge = Running(tmp_path)
    client = CliRunner()
    where = ["--url", edge.operator, "--token", edge.token]
    assert client.invoke(main, ["status", *where]).exit_code == 0
    request = urllib.request.Request(
        f"{edge.operator}/api/v1/set-buckets",
        data=b'{"buckets":["archive"]}',
        headers={"Authorization": f"Bearer {edge.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass
    os.kill(edge.process.pid, signal.SIGKILL)
    edge.end()
    again = Running(tmp_path, "--set", "log.format=json", "--set", "buckets=media")
    assert again.token == edge.token
    assert json.loads(get(f"{again.public}/buckets")[1]) == {"bucketIds": ["archive"]}
    assert again.post("/shutdown") == {"state": "stopping"}
    assert again.end() == 0
    assert all(json.loads(line)["time"] for line in again.log)


def test_stop_api_closes_the_public_port_only_and_start_api_opens_the_same_one(running: Running) -> None:
    assert running.post("/stop-api") == {"state": "stopped"}
    with pytest.raises(OSError, match="refused"):
        get(f"{running.public}/status")
    assert running.post("/start-api") == {"state": "serving"}
    assert get(f"{running.public}/status")[0] == 200
    assert running.post("/drain") == {"state": "draining"}
    assert get(f"{running.public}/readyz")[0] == 503
    assert get(f"{running.public}/healthz")[0] == 200
    assert running.post("/start-api") == {"state": "serving"}
    assert get(f"{running.public}/readyz")[0] == 200


def test_a_directory_that_another_process_owns_is_exit_code_1(running: Running, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "distributor", "serve", "--config", str(tmp_path / "edge.yaml")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert "the node cannot run" in second.stderr and "Traceback" not in second.stderr
    assert get(f"{running.public}/status")[0] == 200


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))  # takes connections, never answers
    port = listener.getsockname()[1]
    edge = Running(tmp_path, "--set", f"origin.sources=[{{url: 'http://127.0.0.1:{port}/{{id}}'}}]")
    host, _, public = edge.public.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(public))) as client:
        client.sendall(b"GET /assets/slow HTTP/1.1\r\nHost: edge\r\n\r\n")
        upstream, _ = listener.accept()
        edge.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while get_state(edge) != "stopping" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert edge.process.poll() is None  # it waits for the answer under way
        edge.process.send_signal(signal.SIGTERM)
        assert edge.end(timeout=8) == 0
        upstream.close()
    listener.close()


def get_state(edge: Running) -> str:
    request = urllib.request.Request(f"{edge.operator}/api/v1/status")
    request.add_header("Authorization", f"Bearer {edge.token}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["state"])


TRACE = "time,id,size\n" + "".join(f"{n},{key},30\n" for n, key in enumerate("abcadbac"))


def test_simulate_replays_a_trace_against_every_policy_and_size(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)
    sizes = ["--size", "90", "--size", "1K"]
    shown = CliRunner().invoke(main, ["simulate", str(trace), "--json", *sizes])
    found = [json.loads(line) for line in shown.output.splitlines()]
    assert [(one["policy"], one["limit"]) for one in found] == [
        ("lru", 90),
        ("s3-fifo", 90),
        ("lru", 1024),
        ("s3-fifo", 1024),
    ]
    assert found[0] == {
        "policy": "lru", "limit": 90, "requests": 8, "bytes": 240, "missedRequests": 6, "missedBytes": 180,
        "stored": 6, "evicted": 3, "passed": 0, "objectMissRatio": 0.75, "byteMissRatio": 0.75,
    }  # fmt: skip
    assert found[2]["missedRequests"] == 4


def test_simulate_reads_standard_input_and_prints_a_table() -> None:
    shown = CliRunner().invoke(main, ["simulate", "-", "--policy", "lru", "--size", "90"], input=TRACE)
    assert shown.exit_code == 0
    assert re.search(r"^ *lru +90 +0\.7500 +0\.7500 +6 +3 +0", shown.output, re.M)
    assert "8 requests" in shown.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["-"], "line 1: not time,id,size", id="bad-line"),
        pytest.param(["-", "--size", "lots"], "lots", id="bad-size"),
        pytest.param(["-", "--size", "0"], "at least 1", id="no-size"),
        pytest.param(["-", "--policy", "mru"], "mru", id="bad-policy"),
        pytest.param(["/nowhere/trace.csv"], "/nowhere/trace.csv", id="no-file"),
    ],
)
def test_simulate_says_what_is_wrong_and_exits_2(arguments: list[str], text: str) -> None:
    shown = CliRunner().invoke(main, ["simulate", *arguments], input="nonsense\n")
    assert (shown.exit_code, text in shown.output) == (2, True)
