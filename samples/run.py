"""Starts the origin and the edge side by side, for a first look and for development: `make run`.

Both run as children, with the settings of config/*.yaml and whatever the environment changes
(`DISTRIBUTOR__PUBLIC_API__PORT=8080 make run`). A sample clip is put into the origin the first time.
SIGINT and SIGTERM stop the edge, then the origin, and the exit code is 0; a child that ends by
itself ends the other, its last log lines are shown, and the exit code is 1. Usage errors: 2.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from distributor import config as edge_config  # noqa: E402
from distributor.settings import SettingsError  # noqa: E402
from origin import config as origin_config  # noqa: E402

STORAGE = "media"
CLIP = "clip.mp4"
PLAYLIST = "hls/index.m3u8"
START_SECONDS = 60.0
LOAD_SECONDS = 60.0
PAUSE = 0.05
TAIL_LINES = 15


class StartFailed(Exception):
    """What was to run does not; the message is for the person at the terminal."""


class Stopped(BaseException):
    """SIGINT or SIGTERM came. Not an Exception, so that nothing on the way takes it for a failure."""


class Child:
    """One of the two programs.

    name  "origin" or "edge"
    log   its standard output and error are appended here
    """

    def __init__(self, name: str, arguments: list[str], log: Path, address: tuple[str, int]) -> None:
        self.name = name
        self.address = address
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._log_start = stream.tell()
            # A session of its own: Ctrl-C reaches only this process, which stops both in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def ended(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def require_running(self) -> None:
        """Raise StartFailed, with its last words, if it has ended."""
        code = self.ended()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise StartFailed(f"the {self.name} has ended ({how}); its last log lines:\n{self.tail()}")

    def wait_ready(self, deadline: float) -> None:
        """Return once /readyz answers 200; StartFailed when it ends or `deadline` (monotonic) passes."""
        while _status(self.address, "/readyz") != 200:
            self.require_running()
            if time.monotonic() > deadline:
                late = f"the {self.name} was not ready within {START_SECONDS:.0f} s"
                raise StartFailed(f"{late}; its last log lines:\n{self.tail()}")
            time.sleep(PAUSE)

    def stop(self, grace: float) -> int:
        """Ask it to end, make it after `grace` seconds, and return its exit code."""
        if self.ended() is None:
            self._process.terminate()
        try:
            return self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def tail(self) -> str:
        """Return the last lines it wrote in this run."""
        with self.log.open("rb") as stream:
            stream.seek(self._log_start)
            lines = stream.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:]) or "    (nothing was written)"


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent is gone, so that a kill -9 leaves no orphans."""
    set_parent_death_signal = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _status(address: tuple[str, int], target: str, method: str = "GET") -> int | None:
    """Return the status of a request, or None where nobody answers in a second."""
    return _ask(address, target, method)[0]


def _ask(
    address: tuple[str, int], target: str, method: str
) -> tuple[int | None, http.client.HTTPMessage | None]:
    connection = http.client.HTTPConnection(*address, timeout=1.0)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers
    except (OSError, http.client.HTTPException):
        return None, None
    finally:
        connection.close()


def _reachable(host: str, port: int) -> tuple[str, int]:
    """Return where to connect to, for an address listened on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host), port  # noqa: S104


def _base(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _require_free(name: str, host: str, port: int, variable: str) -> None:
    if port == 0:
        raise StartFailed(f"{variable} must name a port here, not 0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartFailed(
                f"{name} cannot listen on {host}:{port}: {error.strerror}. Is it running already? "
                f"Another port: {variable}={port + 1000} make run"
            ) from None


def _settings(directory: Path) -> tuple[origin_config.OriginConfig, edge_config.Config, list[str], list[str]]:
    """Return both programs' settings in force, and the --set arguments that make them so."""
    here = str(directory)
    moved = directory != Path("var")
    origin_sets: list[str] = []
    edge_sets: list[str] = []
    if moved:
        origin_sets += [
            f"catalog=sqlite:///{here}/origin/catalog.db",
            f"storages.0.uri=file:{here}/origin/media",
            f"storages.1.uri=file:{here}/origin/archive",
            f"storage_roots={here}/origin",
            f"auth.admin_password_file={here}/origin/admin.password",
        ]
        edge_sets += [
            f"cache.directory={here}/edge",
            f"operator_api.token_file={here}/edge/operator.token",
        ]
    origin = origin_config.load(ROOT / "config/origin.yaml", origin_sets, os.environ)
    edge = edge_config.load(ROOT / "config/distributor.yaml", edge_sets, os.environ)
    # Each must know where the other is, unless the environment says so itself.
    if not any(name.startswith("DISTRIBUTOR__ORIGIN__SOURCES") for name in os.environ):
        address = _reachable(origin.api.host, origin.api.port)
        edge_sets.append(f"origin.sources.0.url={_base(address)}/content/{{id}}")
    if not any(name.startswith("ORIGIN__EDGES") for name in os.environ):
        address = _reachable(edge.operator_api.host, edge.operator_api.port)
        origin_sets.append(f"edges.0.url={_base(address)}")
        # A token that was given in place of the file is passed on the same way: not for all to see in `ps`.
        if edge.operator_api.token is None:
            origin_sets.append(f"edges.0.token_file={edge.operator_api.token_file}")
        else:
            os.environ["ORIGIN__EDGES__0__TOKEN"] = edge.operator_api.token
    if "ORIGIN__PUBLIC_URL" not in os.environ:
        address = _reachable(edge.public_api.host, edge.public_api.port)
        origin_sets.append(f"public_url={_base(address)}")
    return origin, edge, origin_sets, edge_sets


def _serve(program: str, file: str, sets: list[str]) -> list[str]:
    return [program, "serve", "--config", file, *(word for one in sets for word in ("--set", one))]


def _load_samples(origin: Child, config: origin_config.OriginConfig) -> None:
    """Put the sample clip into the origin, unless it is there."""
    media = ROOT / "samples/media"
    wanted = {
        STORAGE + ":": [media / CLIP],
        STORAGE + ":hls/": sorted((media / "hls").iterdir(), key=lambda path: path.suffix == ".m3u8"),
    }
    if all(_status(origin.address, f"/content/{STORAGE}/{name}", "HEAD") == 200 for name in (CLIP, PLAYLIST)):
        return
    password = config.auth.admin_password or config.auth.admin_password_file.read_text("utf-8").strip()
    for target, files in wanted.items():
        command = [sys.executable, "-m", "origin", "put", *map(str, files), target]
        command += ["--url", _base(origin.address), "--user", config.auth.admin_user]
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                command,
                cwd=ROOT,
                env={**os.environ, "ORIGIN_PASSWORD": password},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LOAD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StartFailed(f"the sample clip was not loaded within {LOAD_SECONDS:.0f} s") from None
        if done.returncode:
            raise StartFailed(f"the sample clip could not be loaded:\n{done.stderr or done.stdout}")


def _announce(
    origin: Child,
    edge: Child,
    origin_settings: origin_config.OriginConfig,
    edge_settings: edge_config.Config,
) -> None:
    assets = f"{_base(edge.address)}/api/v1/assets/{STORAGE}"
    clip = shlex.quote(f"{assets}/{CLIP}")
    operator = _base(_reachable(edge_settings.operator_api.host, edge_settings.operator_api.port))
    user, password = origin_settings.auth.admin_user, origin_settings.auth.admin_password_file
    fields = _ask(edge.address, f"/assets/{STORAGE}/{CLIP}", "HEAD")[1]
    first = "a miss: the edge asks the origin, and keeps what it gets"
    if fields is not None and fields.get("X-Cache") == "hit":
        first = "a hit: the edge has kept the clip since an earlier run"
    print(
        f"""
origin    {_base(origin.address)}  user {user}, password in {password}
edge      {_base(edge.address)}
          {assets}/{CLIP}
          {assets}/{PLAYLIST}
operator  {operator}  token in {edge_settings.operator_api.token_file}
logs      {origin.log}, {edge.log}

To try, in another terminal:

# {first}
curl -sS -o /dev/null -D - {clip}
# a range: 206, a hundred bytes
curl -sS -o /dev/null -D - -r 1000-1099 {clip}
# a hit: from the edge's own disk
curl -sS -o /dev/null -D - -w '%{{size_download}} bytes in %{{time_total}} s\\n' {clip}

Ctrl-C stops both.""",
        flush=True,
    )


def _stop(children: list[Child], grace: float) -> list[str]:
    """Stop the children, last started first. Return a message for each that did not end with code 0."""
    # From here on a second Ctrl-C must not leave a child behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    failed = []
    for child in reversed(children):
        if child.ended() is None and (code := child.stop(grace)):
            failed.append(
                f"the {child.name} did not stop cleanly ({code}); its last log lines:\n{child.tail()}"
            )
    return failed


def run(directory: Path) -> None:
    """Run both until SIGINT or SIGTERM; raise StartFailed or SettingsError when that cannot be."""
    origin_settings, edge_settings, origin_sets, edge_sets = _settings(directory)
    origin_at, edge_at = origin_settings.api, edge_settings.public_api
    operator_at = edge_settings.operator_api
    _require_free("the origin", origin_at.host, origin_at.port, "ORIGIN__API__PORT")
    _require_free("the edge", edge_at.host, edge_at.port, "DISTRIBUTOR__PUBLIC_API__PORT")
    _require_free("the operator API", operator_at.host, operator_at.port, "DISTRIBUTOR__OPERATOR_API__PORT")
    grace = 5.0 + max(origin_settings.limits.drain_timeout, edge_settings.limits.drain_timeout)
    children: list[Child] = []
    failed: list[str] = []
    try:
        deadline = time.monotonic() + START_SECONDS
        origin = Child(
            "origin",
            _serve("origin", "config/origin.yaml", origin_sets),
            directory / "log/origin.log",
            _reachable(origin_at.host, origin_at.port),
        )
        children.append(origin)
        edge = Child(
            "edge",
            _serve("distributor", "config/distributor.yaml", edge_sets),
            directory / "log/edge.log",
            _reachable(edge_at.host, edge_at.port),
        )
        children.append(edge)
        for child in children:
            child.wait_ready(deadline)
        _load_samples(origin, origin_settings)
        _announce(origin, edge, origin_settings, edge_settings)
        while True:
            time.sleep(0.2)
            for child in children:
                child.require_running()
    except Stopped:
        print("\nstopping", flush=True)
    finally:
        failed += _stop(children, grace)
    if failed:
        raise StartFailed("\n".join(failed))


def _on_signal(number: int, frame: FrameType | None) -> None:
    raise Stopped


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Run the origin and the edge with a sample clip.")
    parser.add_argument("--directory", type=Path, default=Path("var"), help="where both keep their data")
    directory: Path = parser.parse_args(arguments).directory
    os.chdir(ROOT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    try:
        run(directory)
    except Stopped:
        return 0
    except SettingsError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
