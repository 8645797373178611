"""`/content/<id or storage/path>`: bytes out, for edges and clients; PUT and DELETE for people.

What may be stored and for how long, in Cache-Control:

    a file                  public, max-age=60      it may be replaced under its address at any time,
                                                    and a strong validator makes asking again cheap
    a manifest              public, max-age=2       live ones change with every segment
    OPEN, or not yet hashed no-cache                it is growing, or was changed behind our back
    marked as mutable       no-cache                its address stands for what it is now
    not public              private, no-cache

The entity-tag is made of the SHA-256, so equal bytes have equal tags. Bytes that changed on disk
without us are sent as what they are, with a tag of their own and without Repr-Digest; if they change
while being sent, the connection is cut, for a mix must never end cleanly.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import msgspec
from aiohttp import web

from distributor.http import conditional, ranges
from distributor.http.fields import format_date
from distributor.http.media_types import media_type as type_by_name
from origin.api.auth import caller_of
from origin.api.bodies import body_chunks, declared_sha256
from origin.api.dispatch import Handler, raw_path
from origin.api.errors import method_not_allowed, plain, plain_from
from origin.api.ids import ContentId, content_path, parse_content_path
from origin.domain.model import Caller, File, Storage
from origin.domain.states import FileState
from origin.errors import AlreadyExists, Invalid, OriginError
from origin.services import Services
from origin.services.files import MUTABLE, Content

PREFIX = "/content"
PIECE = 256 * 1024
# Uploaded pages may run, but not as pages of this host: they would act with the login of who looks at them.
_PAGES = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml", "application/xml", "text/xml"})
_MANIFESTS = frozenset({".m3u8", ".m3u", ".mpd", ".ism"})


def handler(services: Services) -> Handler:
    """Return what answers the mount `/content`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            caller = await caller_of(request, services)
            target = parse_content_path(raw_path(request)[len(PREFIX) + 1 :])
            if request.method in ("GET", "HEAD"):
                return await _get(request, services, caller, target)
            if request.method == "PUT":
                return await _put(request, services, caller, target)
            if request.method == "DELETE":
                return await _delete(services, caller, target)
        except OriginError as error:
            return plain_from(error)
        return method_not_allowed(request, "GET", "HEAD", "PUT", "DELETE")

    return answer


async def _find(services: Services, caller: Caller, target: ContentId) -> File:
    if target.file_id is not None:
        return await services.files.get(caller, target.file_id)
    storage = await services.storages.find(caller, target.storage)
    return await services.files.find(caller, target.path, storage_id=storage.id)


async def _get(
    request: web.Request, services: Services, caller: Caller, target: ContentId
) -> web.StreamResponse:
    services.access.require_scope(caller, "files/show")
    file = await _find(services, caller, target)
    return await send_content(request, await services.files.open(file))


async def _put(
    request: web.Request, services: Services, caller: Caller, target: ContentId
) -> web.StreamResponse:
    services.access.require_scope(caller, "files/create")
    if "Content-Range" in request.headers:  # RFC 9110 §14.5: must not be taken for the whole
        raise Invalid("Content-Range", "a part cannot be put")
    create_only = request.headers.get("If-None-Match", "").strip() == "*"
    length = request.content_length
    sha256 = declared_sha256(request)
    if target.file_id is not None:
        async with services.slots.taken():
            file = await services.files.replace(
                caller, target.file_id, body_chunks(request), declared_length=length, sha256=sha256
            )
    else:
        storage = await services.storages.find(caller, target.storage)
        replace = not create_only
        try:
            await services.files.check_upload(
                caller, storage.id, target.path, declared_length=length, replace=replace
            )
            async with services.slots.taken():
                file = await services.files.upload(
                    caller,
                    storage.id,
                    target.path,
                    body_chunks(request),
                    declared_length=length,
                    sha256=sha256,
                    replace=replace,
                )
        except AlreadyExists as error:
            return plain(412, str(error))
    storage = services.storages.known(file.storage_n)
    new = file.generation == 1
    return web.Response(
        status=201 if new else 200,
        body=msgspec.json.encode(file_value(file, storage)),
        content_type="application/json",
        headers={
            "Location": content_path(storage.bucket, file.path),
            "ETag": f'"{(file.sha256 or "")[:32]}"',
            "X-File-Id": file.id,
            "Cache-Control": "no-store",
        },
    )


async def _delete(services: Services, caller: Caller, target: ContentId) -> web.StreamResponse:
    services.access.require_scope(caller, "files/destroy")
    job = await services.files.delete(caller, (await _find(services, caller, target)).id)
    body = msgspec.json.encode({"job": job.id, "state": job.state.value})
    return web.Response(status=202, body=body, content_type="application/json")


def file_value(file: File, storage: Storage) -> dict[str, object]:
    """Return a File as the origin's own administration shows it."""
    return {
        "id": file.id,
        "storage": storage.name,
        "path": file.path,
        "size": file.size,
        "state": file.state.value,
        "sha1": file.sha1,
        "sha256": file.sha256,
        "modified": file.timestamp_ms,
    }


# --- sending --------------------------------------------------------------------------------------


async def send_content(
    request: web.Request,
    content: Content,
    *,
    media_type: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer GET or HEAD with open bytes, by the rules of RFC 9110 §13 and §14; closes the reader.

    media_type  None: by the path's extension
    headers     replace those made here
    """
    try:
        return await _send(request, content, media_type or type_by_name(content.file.path), headers or {})
    finally:
        await content.reader.close()


async def _send(
    request: web.Request, content: Content, media_type: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    now = int(time.time())
    fields = tuple(request.headers.items())
    modified = min(content.mtime_ns // 1_000_000_000, now)
    validators = conditional.Validators(content.etag, modified, now)
    common = {**_fields(content, media_type, modified), **headers}
    verdict = conditional.evaluate(request.method, fields, validators, now=now)
    if verdict is conditional.Verdict.FAILED:
        return plain(412, "a precondition does not hold")
    if verdict is conditional.Verdict.NOT_MODIFIED:
        keep = ("ETag", "Cache-Control", "Last-Modified", "X-Distribution-Bucket", "Vary")
        return web.Response(status=304, headers={k: v for k, v in common.items() if k in keep})
    spans: list[ranges.Span] | None = None
    if request.method == "GET" and conditional.if_range_holds(
        _one(request.headers.getall("If-Range", [])), validators, now=now
    ):
        try:
            spans = ranges.select_spans(request.headers.getall("Range", []), content.size)
        except ranges.RangeNotSatisfiable:
            refusal = plain(416, "no range asked for overlaps the file")
            refusal.headers.update(
                {
                    "Content-Range": ranges.unsatisfied_range(content.size),
                    "Accept-Ranges": "bytes",
                    "ETag": content.etag,
                    "X-Distribution-Bucket": content.storage.bucket,
                }
            )
            return refusal
    return await _stream(request, content, common, media_type, spans)


def _one(lines: Sequence[str]) -> str | None:
    return ", ".join(lines) if lines else None


def _fields(content: Content, media_type: str, modified: int) -> dict[str, str]:
    fields = {
        "Content-Type": media_type,
        "Accept-Ranges": "bytes",
        "ETag": content.etag,
        "Last-Modified": format_date(modified),
        "Cache-Control": cache_control(content),
        "X-Distribution-Bucket": content.storage.bucket,
        "X-Content-Type-Options": "nosniff",
    }
    if media_type in _PAGES:
        fields["Content-Security-Policy"] = "sandbox allow-scripts allow-forms allow-popups"
    if content.sha256 is not None:
        digest = base64.b64encode(bytes.fromhex(content.sha256)).decode("ascii")
        fields["Repr-Digest"] = f"sha-256=:{digest}:"
    return fields


def cache_control(content: Content) -> str:
    """See the head of this file."""
    if not content.public:
        return "private, no-cache"
    if content.sha256 is None or content.file.state is FileState.OPEN or MUTABLE in content.file.metadata:
        return "no-cache"
    manifest = PurePosixPath(content.file.path).suffix.lower() in _MANIFESTS
    return f"public, max-age={2 if manifest else 60}"


async def _stream(
    request: web.Request,
    content: Content,
    common: Mapping[str, str],
    media_type: str,
    spans: Sequence[ranges.Span] | None,
) -> web.StreamResponse:
    response = web.StreamResponse(status=200 if spans is None else 206, headers=common)
    parts: list[tuple[bytes, ranges.Span]]
    closing = b""
    if spans is None:
        parts = [(b"", ranges.Span(0, content.size))]
        response.content_length = content.size
    elif len(spans) == 1:
        parts = [(b"", spans[0])]
        response.headers["Content-Range"] = ranges.content_range(spans[0], content.size)
        response.content_length = spans[0].length
    else:
        framing = ranges.Multipart(spans, content.size, media_type, secrets.token_hex(16))
        parts = list(zip(framing.preambles, framing.spans, strict=True))
        closing = framing.closing
        response.headers["Content-Type"] = framing.content_type
        response.content_length = framing.content_length
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    sender = _Sender(request, response, content)
    for preamble, span in parts:
        if preamble:
            await sender.write(preamble)
        await sender.span(span, last=span is parts[-1][1] and not closing)
    if closing:
        sender.check()
        await sender.write(closing)
    return response


class _Sender:
    """Pieces from the page cache at once, others by a thread; one piece is held at a time."""

    def __init__(self, request: web.Request, response: web.StreamResponse, content: Content) -> None:
        self._request = request
        self._response = response
        self._content = content
        self._descriptor = content.reader.descriptor

    async def span(self, span: ranges.Span, *, last: bool) -> None:
        offset = span.start
        while offset < span.stop:
            piece = await self._piece(offset, min(PIECE, span.stop - offset))
            if not piece:
                self._cut("the file became shorter while it was sent")
            offset += len(piece)
            if last and offset == span.stop:
                self.check()
            await self.write(piece)

    async def _piece(self, offset: int, length: int) -> bytes | memoryview:
        if self._descriptor is not None:
            buffer = bytearray(length)
            with contextlib.suppress(OSError):  # not in memory, or not known to this file system
                count = os.preadv(self._descriptor, [buffer], offset, os.RWF_NOWAIT)
                if count:
                    return memoryview(buffer)[:count]
        return await self._content.reader.read(offset, length)

    def check(self) -> None:
        """Before the last byte: are these still the bytes that were begun?"""
        if self._descriptor is None:
            return
        now = os.fstat(self._descriptor)  # of an open file: answered from memory
        if (now.st_size, now.st_mtime_ns) != (self._content.size, self._content.mtime_ns):
            self._cut("the file changed while it was sent")

    async def write(self, data: bytes | memoryview) -> None:
        # Who does not read is cut off by the connection's own sweep; see protocol.py.
        await self._response.write(data)

    def _cut(self, reason: str) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()
        raise ConnectionAbortedError(reason)
