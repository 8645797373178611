"""Notifications by HTTP callback: who may be called, and what a call says.

Deliveries are rows, made when a job's new state is seen: at least once, in order per job, and the
job never waits for them. A host must be listed in the setting `notification_hosts`, when the
notification is made and again when it is called.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from origin.catalog import jobs as job_rows
from origin.catalog import notifications as rows
from origin.catalog.database import Database
from origin.catalog.notifications import Delivery, Notification
from origin.domain.model import Caller, Job, number_of
from origin.domain.states import FINAL, JobState
from origin.errors import Forbidden, Invalid, NotFound, Unauthenticated
from origin.ports import Clock

TRIGGERS = ("create", "update", "finished", "fail", "stop")
CONTENT_TYPES = ("application/json", "application/xml", "text/plain")
METHODS = ("POST", "PUT", "GET")
JOB_KEY, DATA_KEY = "notification", "notificationData"  # in a job's data
_SLACK = 1000
_DONE = (JobState.FINISHED, JobState.FINISHED_WARNING)
_RETRY_MIN_MS, _RETRY_MAX_MS = 1_000, 300_000


class Notifications:
    """hosts: names and addresses that may be called."""

    def __init__(self, database: Database, clock: Clock, *, hosts: Sequence[str]) -> None:
        self._database = database
        self._clock = clock
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)

    # --- what users keep --------------------------------------------------------------------------

    async def create(self, caller: Caller, wanted: Notification) -> Notification:
        """Keep a notification for the caller. Raises Invalid, and Forbidden for a host not listed."""
        if caller.user is None:
            raise Unauthenticated
        self.check_url(wanted.url)
        if wanted.method not in METHODS:
            raise Invalid("method", f"must be one of {', '.join(METHODS)}", wanted.method)
        if wanted.content_type not in CONTENT_TYPES:
            raise Invalid("contentType", f"must be one of {', '.join(CONTENT_TYPES)}", wanted.content_type)
        if not 1 <= wanted.timeout <= 300 or not 0 <= wanted.retry <= 100:
            raise Invalid("timeout", "timeout 1 to 300 seconds, retry 0 to 100")
        if not wanted.triggers:
            raise Invalid("trigger", f"at least one of {', '.join(TRIGGERS)}")
        async with self._database.write() as connection:
            return await rows.insert(connection, wanted)

    async def get(self, caller: Caller, id: str) -> Notification:
        """One of the caller's own; another's is NotFound("notification")."""
        if caller.user is None:
            raise Unauthenticated
        async with self._database.read() as connection:
            found = await rows.get(connection, number_of(id) or 0)
        if found is None or found.user != caller.name:
            raise NotFound("notification", id)
        return found

    async def listing(self, caller: Caller) -> list[Notification]:
        """The caller's own, by number."""
        if caller.user is None:
            raise Unauthenticated
        async with self._database.read() as connection:
            return await rows.of_user(connection, caller.name)

    async def delete(self, caller: Caller, id: str) -> None:
        found = await self.get(caller, id)
        async with self._database.write() as connection:
            await rows.remove(connection, found.n)

    # --- where a call may go ----------------------------------------------------------------------

    def check_url(self, url: str) -> None:
        """Raise Invalid for no http or https URL, Forbidden for a host that is not listed."""
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise Invalid("url", "must be an absolute http or https URL", url) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
            raise Invalid("url", "must be an absolute http or https URL", url)
        if parts.username is not None:
            raise Invalid("url", "must hold no credentials")
        if parts.hostname.lower() not in self._hosts:
            raise Forbidden("the host is not among notification_hosts", context="url")

    def check_address(self, address: str) -> None:
        """Raise Forbidden for what a listed name must not resolve to: this machine, its link, nothing.

        An address that is itself listed may be called whatever it is.
        """
        if address in self._hosts:
            return
        place = ipaddress.ip_address(address)
        if place.is_loopback or place.is_link_local or place.is_multicast or place.is_unspecified:
            raise Forbidden("the host resolves to an address that may not be called", context="url")

    # --- what there is to tell --------------------------------------------------------------------

    async def collect(self) -> None:
        """Turn new states of watched jobs into deliveries."""
        async with self._database.write() as connection:
            await rows.watch_new_jobs(connection, JOB_KEY, _SLACK)
        async with self._database.read() as connection:
            changed = await rows.watched(connection)
        for job_n, notification_n, told, state in changed:
            async with self._database.write() as connection:
                job = await job_rows.get(connection, job_n)
                wanted = await rows.get(connection, notification_n)
                if job is None or wanted is None:
                    await rows.told(connection, job_n, state or "", over=True)
                    continue
                events = _events(str(told), job.state)
                if any(event in wanted.triggers for event in events):
                    key = f"{job.id}-{job.state.value}-{job.attempts}"
                    fields = _fields(job, wanted)
                    await rows.add_delivery(connection, job.n, wanted.n, key, fields, self._clock.now_ms())
                await rows.told(connection, job.n, job.state.value, over=job.state in FINAL)

    async def due(self, limit: int) -> list[Delivery]:
        """Return calls to make now, at most one a job."""
        async with self._database.read() as connection:
            return await rows.due(connection, self._clock.now_ms(), limit)

    async def settle(self, delivery: Delivery, *, taken: bool) -> None:
        """Record the end of an attempt: taken by the other side, or to be tried again, or given up."""
        attempts = delivery.attempts + 1
        async with self._database.write() as connection:
            if taken or attempts > delivery.notification.retry:
                await rows.delivered(connection, delivery.n)
                return
            delay = min(_RETRY_MAX_MS, _RETRY_MIN_MS * 2 ** min(attempts - 1, 20))
            await rows.postpone(connection, delivery.n, attempts, self._clock.now_ms() + delay)


def _events(told: str, state: JobState) -> set[str]:
    """Return which triggers a change to `state` sets off. told: the state last told of, "" for none."""
    events = {"create"} if not told else {"update"}
    if state in FINAL:
        events |= {"update", "stop"}
        events.add("finished" if state in _DONE else "fail")
    if state is JobState.ABORTED:
        events.discard("fail")  # somebody wanted it so
    return events


def _fields(job: Job, wanted: Notification) -> list[tuple[str, str]]:
    shown: Mapping[str, str] = {k: v for k, v in job.data.items() if k not in (JOB_KEY, DATA_KEY)}
    fields = [("jobId", job.id), ("type", job.type), ("status", job.state.value), ("user", job.user)]
    fields.append(("started", str(job.created_ms)))
    if job.finished_ms is not None:
        fields.append(("finished", str(job.finished_ms)))
    fields += shown.items()
    if DATA_KEY in job.data:
        fields.append((DATA_KEY, job.data[DATA_KEY]))
    if wanted.extradata is not None:
        fields.append(("extradata", wanted.extradata))
    return fields
