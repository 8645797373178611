"""A worker to copy: it describes each file it is given in a page that becomes the asset's index file.

    ORIGIN=http://127.0.0.1:3333 ORIGIN_PASSWORD=… python docs/ove_worker.py

Schedule a task for it with  POST /api/workers/queue  {"worker_type": "describe", "store_id": …}.
Replace `work` by your own; nothing but the standard library is needed.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:3333")
NAME = os.environ.get("WORKER", "describe-1")
LEASE = int(
    os.environ.get("LEASE", "60")
)  # seconds; another does the task when we are not heard of for so long


def call(method: str, path: str, token: str = "", value: Any = None, data: bytes | None = None) -> Any:
    """Return the response. value: of a JSON body; data: of one of octets. HTTPError from 400 on."""
    headers = {"Content-Type": "application/octet-stream" if value is None else "application/json"}
    if token:
        headers["AUTH_TOKEN"] = token
    body = data if value is None else json.dumps(value).encode()
    request = urllib.request.Request(f"{ORIGIN}/api{path}", body, headers, method=method)  # noqa: S310
    return urllib.request.urlopen(request, timeout=60)  # noqa: S310


def work(task: dict[str, Any], token: str) -> str:
    """Do the task; return the name of the new index file. A heartbeat keeps the lease and tells progress."""
    here = f"/workers/queue/{task['task_id']}"
    lease, size, digest = task["lease_id"], 0, hashlib.sha256()
    with call("GET", f"{here}/source?lease_id={lease}", token) as source:
        total, beat = int(source.headers["Content-Length"]), time.monotonic()
        while piece := source.read(1 << 20):
            digest.update(piece)
            size += len(piece)
            if time.monotonic() - beat > task["lease"] / 3:
                call("PUT", here, token, {"progress": size / total, "lease_id": lease}).close()
                beat = time.monotonic()
    page = f"<h1>{html.escape(task['filename'])}</h1><p>{size} bytes<p>sha-256 {digest.hexdigest()}"
    call("PUT", f"{here}/output?filename=index.html&lease_id={lease}", token, data=page.encode()).close()
    stem = task["filename"].removesuffix(task["extension"])
    return f"{NAME}/{stem}/index.html"


def main() -> None:
    login = {"user": os.environ.get("ORIGIN_USER", "admin"), "password": os.environ["ORIGIN_PASSWORD"]}
    admin = json.load(call("POST", "/auth", value=login))["token"]
    about = {"name": NAME, "type": "describe", "extensions": [], "description": "Describes a file"}
    token = json.load(call("POST", "/workers", admin, about))["token"]
    while True:
        with call("POST", "/workers/queue/claim", token, {"name": NAME, "lease": LEASE}) as answer:
            task = json.load(answer) if answer.status == 200 else None
        if task is None:
            time.sleep(float(os.environ.get("PAUSE", "2")))
            continue
        end: dict[str, Any] = {"lease_id": task["lease_id"]}
        try:
            end |= {"status": "done", "index_file": work(task, token)}
        except (OSError, ValueError) as error:  # also what the origin refuses
            end |= {"status": "error", "message": str(error)}
        try:
            call("PUT", f"/workers/queue/{quote(task['task_id'])}", token, end).close()
        except urllib.error.HTTPError as error:
            print(error.read().decode())  # canceled, or the lease is lost: go on with the next


if __name__ == "__main__":
    main()
