"""Makes the calls of notifications: each in its own time, in order per job, retried with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.sax.saxutils import escape

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from origin.catalog.notifications import Delivery
from origin.errors import OriginError
from origin.services.jobs import Jobs
from origin.services.notifications import Notifications

log = logging.getLogger("origin.notifications")

_LOOK = 1.0  # seconds between looks when nothing wakes the notifier
_AT_ONCE = 8
_NAMESPACE = "http://xml.vidispine.com/schema/vidispine"


class Notifier:
    def __init__(self, notifications: Notifications, jobs: Jobs) -> None:
        self._notifications = notifications
        self._jobs = jobs
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._loop(), name="notifier")

    async def stop(self) -> None:
        """What is not delivered is delivered after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _loop(self) -> None:
        connector = aiohttp.TCPConnector(resolver=_CheckedResolver(self._notifications), use_dns_cache=False)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, trust_env=False) as session:
            while True:
                try:
                    await self._notifications.collect()
                    due = await self._notifications.due(_AT_ONCE)
                    if due:
                        await asyncio.gather(*(self._deliver(session, delivery) for delivery in due))
                        continue
                except OriginError as error:
                    log.warning("notifications wait: %s", error)
                except Exception:
                    log.exception("notifications failed and go on")
                await self._jobs.changed(_LOOK)

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        taken = False
        wanted = delivery.notification
        try:
            self._notifications.check_url(wanted.url)
            host = urlsplit(wanted.url).hostname or ""
            with contextlib.suppress(ValueError):
                self._notifications.check_address(str(ip_address(host)))
            body, content_type = _body(delivery.fields, wanted.content_type)
            async with session.request(
                wanted.method,
                wanted.url,
                data=None if wanted.method == "GET" else body,
                params=urlencode(delivery.fields) if wanted.method == "GET" else None,
                headers={"Content-Type": content_type, "Idempotency-Key": delivery.key},
                timeout=aiohttp.ClientTimeout(total=wanted.timeout),
                allow_redirects=False,
            ) as response:
                taken = response.status < 300
                if not taken:
                    log.info("notification %s of VX-%d: %d", wanted.id, delivery.job_n, response.status)
        except (aiohttp.ClientError, TimeoutError, OSError, OriginError) as error:
            log.info("notification %s of VX-%d: %s", wanted.id, delivery.job_n, type(error).__name__)
        await self._notifications.settle(delivery, taken=taken)


class _CheckedResolver(AbstractResolver):
    """Resolves names, and gives only addresses that may be called."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for entry in found:
            self._notifications.check_address(entry["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _body(fields: Sequence[tuple[str, str]], content_type: str) -> tuple[bytes, str]:
    """Return the body and its Content-Type."""
    if content_type == "text/plain":
        lines = "".join(f"{key}={' '.join(value.splitlines())}\r\n" for key, value in fields)
        return lines.encode("utf-8", "replace"), "text/plain;charset=UTF-8"
    if content_type == "application/xml":
        inner = "".join(
            f"<field><key>{escape(key)}</key><value>{escape(value)}</value></field>" for key, value in fields
        )
        head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        document = f'<SimpleMetadataDocument xmlns="{_NAMESPACE}">{inner}</SimpleMetadataDocument>'
        return (head + document).encode("utf-8", "replace"), content_type
    held = {"field": [{"key": key, "value": value} for key, value in fields]}
    return json.dumps(held, ensure_ascii=False).encode("utf-8", "replace"), content_type
