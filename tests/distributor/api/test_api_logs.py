"""Log lines: one for each answer, in text or JSON, that nobody can forge and that never wait."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from datetime import datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.api import logs
from distributor.api.logs import AccessLog, LoggedTarget, LogWriter, set_up_logging
from distributor.core.model import DataSource, Outcome
from distributor.http.cache_status import CacheState
from tests.support.front import Front, whole
from tests.support.wire import Wire


async def lines(form: str, *targets: str) -> list[str]:
    """The access log of requests for `targets`."""
    stream = io.BytesIO()
    writer = LogWriter(stream)
    access = AccessLog(writer, form)
    async with Front(access_log=access) as front, Wire(front.port) as wire:
        front.edge.answers["a"] = lambda _: whole(b"bytes")
        for target in targets:
            await wire.get(target, headers=[("X-Request-Id", "id-1")])
    access.flush()
    writer.close()
    return stream.getvalue().decode().splitlines()


async def test_each_line_has_the_body_bytes_sent_and_no_query() -> None:
    found = await lines("text", "/assets/a?Signature=s3cret", "/nothing")
    assert len(found) == 2
    number = r"[0-9]+\.[0-9]ms"
    assert re.fullmatch(
        rf"\S+Z ACCESS 127\.0\.0\.1 GET /assets/a 200 5 hit local {number} {number} id-1", found[0]
    )
    assert re.fullmatch(
        rf"\S+Z ACCESS 127\.0\.0\.1 GET /nothing 404 \d+ - none {number} {number} id-1", found[1]
    )


async def test_json_lines_hold_the_same() -> None:
    found = json.loads((await lines("json", "/assets/a?x=1"))[0])
    assert {found[name] for name in ("time", "ttfb", "duration")}
    expected = {"level": "access", "method": "GET", "path": "/assets/a", "status": 200, "bytes": 5}
    expected |= {"cache": "hit", "dataSource": "local", "requestId": "id-1", "route": "assets"}
    assert {name: found[name] for name in expected} == expected


async def test_what_a_client_sends_cannot_forge_a_line() -> None:
    found = await lines("text", '/assets/a"%0a%C2%9b\\')
    assert len(found) == 1
    assert r"/assets/a\x22%0a%C2%9b\x5c" in found[0]


@pytest.mark.parametrize("form", ["text", "json"])
def test_records_of_the_program_go_to_the_same_place(form: str) -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up_logging("info", form, writer)
        logging.getLogger("distributor").debug("not shown")
        logging.getLogger("distributor").info("ready %s", "x")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("distributor").exception("defect")
    finally:
        root.handlers[:], root.level = before, level
    writer.close()
    text = stream.getvalue().decode()
    if form == "json":
        ready, defect = map(json.loads, text.splitlines())
        assert (ready["level"], ready["message"]) == ("info", "ready x")
        assert "ValueError: why" in defect["traceback"]
    else:
        assert re.match(r"\S+Z INFO distributor ready x\n\S+Z ERROR distributor defect\nTraceback", text)


def test_a_log_that_nobody_reads_costs_lines_not_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUED_BATCHES", 3)
    gate = threading.Event()

    class Stuck(io.BytesIO):
        def write(self, data: object) -> int:
            gate.wait(10)
            return super().write(cast(bytes, data))

    writer = LogWriter(Stuck())
    for _ in range(20):
        writer.put(b"line\n")
    assert writer.dropped >= 16
    gate.set()
    writer.close()


@given(
    peer=st.sampled_from(["127.0.0.1", "::1"]),
    path=st.text(min_size=1),
    status=st.sampled_from([200, 206, 304]),
    count=st.integers(0, 2**40),
    seconds=st.floats(0, 100),
    now=st.floats(0, 4e9),
    form=st.sampled_from(["text", "json"]),
)
def test_hits_of_the_short_way_read_like_all_others(
    peer: str, path: str, status: int, count: int, seconds: float, now: float, form: str
) -> None:
    source: DataSource = "local" if count else "none"
    outcome = Outcome(
        "assets", "GET", status, CacheState.HIT, source, count, seconds, seconds, request_id="id"
    )
    ordinary, hot = logs.FORMS[form]
    [line] = hot([(peer, LoggedTarget.of("GET", path), status, count, seconds, b"id", now)])
    expected = ordinary(outcome, peer, path, now)
    # The one rounds to a millisecond what the other cuts off.
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.sub(stamp, "", line.decode(), count=1) == re.sub(stamp, "", expected.decode(), count=1)
    at, other = (datetime.fromisoformat(re.findall(stamp, one.decode())[0]) for one in (line, expected))
    assert abs((at - other).total_seconds()) <= 0.0011
