"""The operator API: every request proves its token before its path is looked at."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec

from distributor.api import objects
from distributor.api.errors import (
    BAD_BODY,
    BAD_CURSOR,
    BAD_PARAMETER,
    METHOD_NOT_ALLOWED,
    NO_SUCH_JOB,
    NO_SUCH_OBJECT,
    NO_SUCH_ROUTE,
    PAYLOAD_TOO_LARGE,
    REQUEST_TIMEOUT,
    UNAUTHORIZED,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
    problem_of,
)
from distributor.api.head import BadHead
from distributor.api.messages import BodyTooLarge, Reply, Request, json_reply, problem_reply
from distributor.api.middleware import error_reply
from distributor.api.public import Assets, buckets_value, status_reply
from distributor.core.keys import parse_asset_path
from distributor.delivery.jobs import Job, Jobs, ObjectError
from distributor.delivery.node import Node
from distributor.errors import BlobDamaged, Conflict, RequestError
from distributor.http.fields import Fields
from distributor.ports import Clock, Store

__all__ = ["MAX_BODY", "Control", "OperatorApi", "Purger"]

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
_ROUTE = "operator"
_PREFIX = "/api/v1"
_CHALLENGE = 'Bearer realm="distributor"'
_JSON = re.compile(r"application/json[ \t]*(;.*)?", re.IGNORECASE)

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Ids = Annotated[list[Text], msgspec.Meta(max_length=1000)]
Bucket = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._:-]{1,64}\Z")]
T = TypeVar("T")
_Unset = msgspec.UnsetType


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Empty(_Strict, frozen=True):
    pass


class _SetWorker(_Strict, frozen=True):
    workerId: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _SetBuckets(_Strict, frozen=True):
    buckets: Annotated[list[Bucket], msgspec.Meta(min_length=1, max_length=10_000)] | _Unset = msgspec.UNSET


class _Purge(_Strict, frozen=True):
    ids: Ids | _Unset = msgspec.UNSET
    prefix: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | _Unset = msgspec.UNSET
    bucket: Bucket | _Unset = msgspec.UNSET
    soft: bool = False


class _Prefetch(_Strict, frozen=True):
    ids: Ids


class _Verify(_Strict, frozen=True):
    ids: Ids | _Unset = msgspec.UNSET
    prefix: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | _Unset = msgspec.UNSET


class Control(Protocol):
    """What moves the node between its states (app). Each raises Conflict when it does not fit."""

    async def stop_api(self) -> None: ...
    async def start_api(self) -> None: ...
    async def drain(self) -> None: ...
    async def shutdown(self) -> None: ...


class OperatedAssets(Assets, Protocol):
    """What operators need of delivery.edge besides."""

    def filling(self, key: str) -> bool: ...
    def forget_negatives(self) -> None: ...


class Purger(Protocol):
    """delivery.invalidation"""

    async def purge(
        self,
        *,
        ids: list[str] | None = None,
        prefix: str | None = None,
        bucket: str | None = None,
        soft: bool = False,
    ) -> tuple[int, int]: ...


class _Refused(Exception):
    """A request that is answered with `problem`."""

    def __init__(self, problem: Problem, fields: Fields = ()) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.fields = fields


Handler = Callable[[Request], Awaitable[Reply]]


class OperatorApi:
    """Every route of the operator port.

    token  the bearer token, ASCII
    """

    def __init__(
        self,
        token: str,
        *,
        node: Node,
        store: Store,
        assets: OperatedAssets,
        purger: Purger,
        jobs: Jobs,
        control: Control,
        clock: Clock,
    ) -> None:
        self._token = token.encode()
        self._node = node
        self._store = store
        self._assets = assets
        self._purger = purger
        self._jobs = jobs
        self._control = control
        self._clock = clock
        self._routes: dict[str, dict[str, Handler]] = {
            "/stop-api": {"POST": self._command(control.stop_api)},
            "/start-api": {"POST": self._command(control.start_api)},
            "/drain": {"POST": self._command(control.drain)},
            "/shutdown": {"POST": self._command(control.shutdown)},
            "/set-worker": {"POST": self._set_worker},
            "/set-buckets": {"POST": self._set_buckets},
            "/status": {"GET": self._status},
            "/buckets": {"GET": self._buckets},
            "/objects": {"GET": self._list_objects},
            "/purge": {"POST": self._purge},
            "/prefetch": {"POST": self._prefetch},
            "/verify": {"POST": self._verify},
            "/jobs": {"GET": self._list_jobs},
        }
        self._object: dict[str, Handler] = {"GET": self._get_object, "DELETE": self._delete_object}
        self._job: dict[str, Handler] = {"GET": self._get_job, "DELETE": self._cancel_job}

    async def __call__(self, request: Request) -> Reply:
        """Return the reply to any request."""
        refusal = self._authorize(request)
        if refusal is not None:
            return refusal
        methods = self._find(request.path)
        if methods is None:
            return problem_reply(_ROUTE, NO_SUCH_ROUTE)
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = [*methods, *(["HEAD"] if "GET" in methods else [])]
            return problem_reply(_ROUTE, METHOD_NOT_ALLOWED, (("Allow", ", ".join(sorted(allowed))),))
        try:
            reply = await handler(request)
        except _Refused as refused:
            return problem_reply(_ROUTE, refused.problem, refused.fields)
        except (Conflict, RequestError) as error:
            return error_reply(_ROUTE, error)
        if request.method not in ("GET", "HEAD"):
            log.info("operator %s %s: request %s", request.method, request.path, request.request_id)
        return reply

    def _authorize(self, request: Request) -> Reply | None:
        given = [value for name, value in request.fields if name.lower() == "authorization"]
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() == "bearer":
            offered = token.strip(" ").encode("latin-1")
            if hmac.compare_digest(offered, self._token):
                return None
        challenge = f'{_CHALLENGE}, error="invalid_token"' if given else _CHALLENGE
        return problem_reply(_ROUTE, UNAUTHORIZED, (("WWW-Authenticate", challenge),))

    def _find(self, path: str) -> dict[str, Handler] | None:
        if not path.startswith(_PREFIX + "/"):
            return None
        path = path[len(_PREFIX) :]
        if path.startswith("/objects/") and path != "/objects/":
            return self._object
        if re.fullmatch(r"/jobs/[^/]+", path):
            return self._job
        return self._routes.get(path)

    # --- bodies and parameters ----------------------------------------------------------------------

    async def _body(self, request: Request, kind: type[T]) -> T:
        if not _JSON.fullmatch(request.headers.get("Content-Type", "")):
            raise _Refused(UNSUPPORTED_MEDIA_TYPE)
        octets = await self._octets(request)
        try:
            return msgspec.json.decode(octets, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _Refused(BAD_BODY) from None

    async def _octets(self, request: Request) -> bytes:
        try:
            return await request.read_body()
        except BodyTooLarge:
            raise _Refused(PAYLOAD_TOO_LARGE) from None
        except BadHead:
            raise _Refused(BAD_BODY) from None
        except TimeoutError:
            raise _Refused(REQUEST_TIMEOUT) from None

    def _parameters(self, request: Request) -> dict[str, str]:
        pairs = parse_qsl(request.query or "", keep_blank_values=True)
        found = dict(pairs)
        if len(found) < len(pairs):
            raise _Refused(BAD_PARAMETER)
        return found

    # --- the node -----------------------------------------------------------------------------------

    def _command(self, command: Callable[[], Awaitable[None]]) -> Handler:
        async def run(request: Request) -> Reply:
            octets = await self._octets(request)
            if octets:
                await self._body(request, _Empty)
            await command()
            return json_reply(_ROUTE, {"state": self._node.state.value})

        return run

    async def _set_worker(self, request: Request) -> Reply:
        wanted = await self._body(request, _SetWorker)
        await self._node.set_worker(wanted.workerId)
        return json_reply(_ROUTE, {"workerId": wanted.workerId})

    async def _set_buckets(self, request: Request) -> Reply:
        wanted = (await self._body(request, _SetBuckets)).buckets
        buckets = None if isinstance(wanted, _Unset) else tuple(wanted)
        if buckets is not None and len(set(buckets)) < len(buckets):
            raise _Refused(BAD_BODY)
        await self._node.set_buckets(buckets)
        self._assets.forget_negatives()  # a 421 among them may no longer be true
        return json_reply(_ROUTE, buckets_value(self._node))

    async def _status(self, _: Request) -> Reply:
        reply = status_reply(self._node, self._store, self._assets)
        reply.route = _ROUTE
        return reply

    async def _buckets(self, _: Request) -> Reply:
        return json_reply(_ROUTE, buckets_value(self._node))

    # --- objects ------------------------------------------------------------------------------------

    async def _list_objects(self, request: Request) -> Reply:
        try:
            asked = objects.Asked.of(self._parameters(request))
        except objects.BadCursor:
            raise _Refused(BAD_CURSOR) from None
        except ValueError:
            raise _Refused(BAD_PARAMETER) from None
        page, cursor = await objects.page(self._store, self._assets.filling, asked, self._clock.now())
        return json_reply(_ROUTE, {"objects": page, "nextCursor": cursor})

    def _named(self, request: Request) -> str:
        return parse_asset_path(request.path.removeprefix(_PREFIX + "/objects/"))

    async def _get_object(self, request: Request) -> Reply:
        found = self._store.variants(self._named(request))
        if not found:
            return problem_reply(_ROUTE, NO_SUCH_OBJECT)
        return json_reply(_ROUTE, objects.describe(found[0], self._assets.filling, self._clock.now()))

    async def _delete_object(self, request: Request) -> Reply:
        asset_id = self._named(request)
        soft = self._parameters(request).get("soft", "false")
        if soft not in ("true", "false"):
            raise _Refused(BAD_PARAMETER)
        count, size = await self._purger.purge(ids=[asset_id], soft=soft == "true")
        if count == 0:
            return problem_reply(_ROUTE, NO_SUCH_OBJECT)
        return json_reply(_ROUTE, {"purged": count, "bytes": size})

    async def _purge(self, request: Request) -> Reply:
        wanted = await self._body(request, _Purge)
        chosen: dict[str, Any] = {
            name: value
            for name in ("ids", "prefix", "bucket")
            if not isinstance(value := getattr(wanted, name), _Unset)
        }
        if len(chosen) != 1:
            raise _Refused(BAD_BODY)
        count, size = await self._purger.purge(**chosen, soft=wanted.soft)
        return json_reply(_ROUTE, {"purged": count, "bytes": size})

    # --- jobs ---------------------------------------------------------------------------------------

    async def _prefetch(self, request: Request) -> Reply:
        wanted = await self._body(request, _Prefetch)
        if self._node.leaving:
            raise Conflict("prefetch while draining")
        return _accepted(self._jobs.prefetch(tuple(wanted.ids)))

    async def _verify(self, request: Request) -> Reply:
        wanted = await self._body(request, _Verify)
        ids, prefix = wanted.ids, wanted.prefix
        if not isinstance(ids, _Unset) and not isinstance(prefix, _Unset):
            raise _Refused(BAD_BODY)
        job = self._jobs.verify(
            ids=None if isinstance(ids, _Unset) else tuple(ids),
            prefix=None if isinstance(prefix, _Unset) else prefix,
        )
        return _accepted(job)

    async def _list_jobs(self, _: Request) -> Reply:
        return json_reply(_ROUTE, {"jobs": [_job_value(job) for job in self._jobs.list()]})

    def _known_job(self, request: Request) -> Job:
        job = self._jobs.get(request.path.rpartition("/")[2])
        if job is None:
            raise _Refused(NO_SUCH_JOB)
        return job

    async def _get_job(self, request: Request) -> Reply:
        return json_reply(_ROUTE, _job_value(self._known_job(request)))

    async def _cancel_job(self, request: Request) -> Reply:
        job = self._known_job(request)
        await self._jobs.cancel(job)
        return json_reply(_ROUTE, _job_value(job))


def _accepted(job: Job) -> Reply:
    return json_reply(_ROUTE, _job_value(job), 202, (("Location", f"{_PREFIX}/jobs/{job.id}"),))


def _job_value(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "total": job.total,
        "done": job.done,
        "failed": job.failed,
        "bytes": job.bytes,
        "createdAt": objects.timestamp(job.created_at),
        "finishedAt": None if job.finished_at is None else objects.timestamp(job.finished_at),
        "errors": [_error_value(error) for error in job.errors],
    }


def _error_value(failed: ObjectError) -> dict[str, str]:
    if isinstance(failed.error, BlobDamaged):
        kind, message = "corrupt", "The stored bytes were not those that were written."
    else:
        problem = problem_of(failed.error)
        kind, message = problem.type, problem.message
    return {"id": failed.asset_id, "type": kind, "message": message}
