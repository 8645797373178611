"""The built-in worker `extract`: what it unpacks, and what no archive gets it to do."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from origin.core.archives import EntryError
from origin.workers.extract import Piece, Source, Unpacked, read_tar, read_zip
from tests.support.ove import EDGE, Client, running

QUEUE = "/api/workers/queue"
SITE = {"index.html": b"<h1>", "css/a.css": b"a{}" * 1000, "deep/index.html": b"", "empty.bin": b""}


def make_zip(entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return held.getvalue()


def make_tar(entries: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in members:
            archive.addfile(info)
    return held.getvalue()


def member(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_with(**fields: Any) -> bytes:
    """An archive of one entry, with fields of its ZipInfo as given."""
    held = io.BytesIO()
    info = zipfile.ZipInfo("a")
    for name, value in fields.items():
        setattr(info, name, value)
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(info, b"data")
    return held.getvalue()


def source_of(tmp_path: Path, data: bytes, most: int = 1000) -> Source:
    path = tmp_path / "archive"
    path.write_bytes(data)
    return Source(os.open(path, os.O_RDONLY), len(data), most)


def contents(pieces: Any) -> dict[str, bytes]:
    """Return name → bytes of what a reader yields."""
    found: dict[str, bytes] = {}
    name = ""
    piece: Piece
    for piece in pieces:
        name = piece.path if piece.path is not None else name
        found[name] = found.get(name, b"") + piece.data
    return found


# --- the readers ----------------------------------------------------------------------------------

PACKED = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("kind", PACKED)
def test_a_tar_is_read_in_every_packing(tmp_path: Path, kind: str) -> None:
    big = {**SITE, "big": os.urandom(700_000) + bytes(2_000_000)}
    data = PACKED[kind](make_tar(big, member("./folder/", tarfile.DIRTYPE)))
    with source_of(tmp_path, data) as source:
        assert contents(read_tar(source, kind, 100)) == big


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_streams_one_after_the_other_are_one(tmp_path: Path, kind: str) -> None:
    data = PACKED[kind](b"one" * 5000) + PACKED[kind](b"") + PACKED[kind](b"two" * 5000)
    with source_of(tmp_path, data) as source:
        unpacked = Unpacked(source, kind)
        assert b"".join(iter(lambda: unpacked.read(777), b"")) == b"one" * 5000 + b"two" * 5000


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_stream_that_ends_early_is_no_whole_one(tmp_path: Path, kind: str) -> None:
    data = PACKED[kind](os.urandom(100_000))[:-20]
    with source_of(tmp_path, data) as source, pytest.raises(EOFError):
        unpacked = Unpacked(source, kind)
        while unpacked.read(65536):
            pass


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_zip_is_read_with_its_names(tmp_path: Path, method: int) -> None:
    held = {**SITE, "ü/ö.txt": b"x", "folder/": b""}
    with source_of(tmp_path, make_zip(held, method=method)) as source:
        found = contents(read_zip(source, 100))
    held.pop("folder/")
    assert found == held


BAD_NAMES = ["../x", "a/../../x", "/x", "C:/x", "c:x", "a\\b", "a\nb", "x" * 256, "a/" + "ü" * 128]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name[:12]))
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_elsewhere_ends_it_before_a_byte_is_out(
    tmp_path: Path, kind: str, name: str
) -> None:
    data = make_zip({name: b"x"}) if kind == "zip" else make_tar({name: b"x"})
    read = read_zip(source_of(tmp_path, data), 9) if kind == "zip" else None
    with pytest.raises(EntryError):
        contents(read or read_tar(source_of(tmp_path, data), "tar", 9))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symbolic link", "hard link", "character device", "block device", "fifo"],
)
def test_a_tar_with_anything_but_files_and_folders_is_bad(tmp_path: Path, kind: bytes) -> None:
    data = make_tar({"a": b"x"}, member("b", kind, "a"))
    with pytest.raises(EntryError, match="link or a device"):
        contents(read_tar(source_of(tmp_path, data), "tar", 9))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"external_attr": 0o120777 << 16}, "link or a device"),
        ({"external_attr": 0o010644 << 16}, "link or a device"),
        ({"compress_type": zipfile.ZIP_BZIP2}, "compressed in a way"),
    ],
)
def test_a_zip_entry_of_another_kind_is_bad(tmp_path: Path, fields: dict[str, int], reason: str) -> None:
    with pytest.raises(EntryError, match=reason):
        contents(read_zip(source_of(tmp_path, zip_with(**fields)), 9))


def test_an_encrypted_entry_is_bad(tmp_path: Path) -> None:
    data = bytearray(make_zip({"a": b"x"}))
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<H", data, at + 8, 1)
    with pytest.raises(EntryError, match="encrypted"):
        contents(read_zip(source_of(tmp_path, bytes(data)), 9))


def test_a_name_that_is_not_utf8_is_bad(tmp_path: Path) -> None:
    data = make_zip({"axb": b"x"}).replace(b"axb", b"a\xffb")
    with pytest.raises((EntryError, UnicodeError)):
        contents(read_zip(source_of(tmp_path, data), 9))
    data = make_tar({"axb": b"x"})
    data = data.replace(b"axb", b"a\xffb")
    header = bytearray(data[:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises((EntryError, UnicodeError)):
        contents(read_tar(source_of(tmp_path, bytes(header) + data[512:]), "tar", 9))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "./a"), ("a", "a/b"), ("a/b", "a")], ids=str)
def test_one_path_is_one_thing(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = make_tar(dict.fromkeys(names, b"x"))
    with pytest.raises(EntryError, match=r"twice|a file and a folder"):
        contents(read_tar(source_of(tmp_path, data), "tar", 9))


def test_entries_that_share_bytes_are_bad(tmp_path: Path) -> None:
    data = bytearray(make_zip({"a": b"x" * 1000, "b": b"y"}, method=zipfile.ZIP_STORED))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    struct.pack_into("<I", data, second + 42, 0)  # its header is said to be the first one's
    with pytest.raises((EntryError, zipfile.BadZipFile)):
        contents(read_zip(source_of(tmp_path, bytes(data)), 9))


def test_an_archive_of_too_many_entries_is_refused_before_it_is_listed(tmp_path: Path) -> None:
    names = {f"f{n}": b"" for n in range(50)}
    with pytest.raises(EntryError, match="more than 49"):
        contents(read_zip(source_of(tmp_path, make_zip(names), 49), 49))
    with pytest.raises(EntryError, match="more than 49"):
        contents(read_tar(source_of(tmp_path, make_tar(names)), "tar", 49))


def test_a_header_that_claims_gigabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    with pytest.raises(EntryError, match="too long a header"):
        contents(read_tar(source_of(tmp_path, info.tobuf(tarfile.USTAR_FORMAT) + bytes(2048)), "tar", 9))


def test_a_sparse_entry_is_bad(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(EntryError, match="sparse"):
        contents(read_tar(source_of(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)), "tar", 9))


# --- the worker -----------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def films(tmp_path: Path) -> AsyncIterator[Client]:
    async with running(tmp_path, workers={"extract_entries": 500, "extract_bytes": "64M"}) as client:
        await client.project()
        yield client


async def extract(client: Client, name: str, data: bytes, **options: Any) -> dict[str, Any]:
    """Upload an archive as asset `x`, unpack it, and return the asset's metadata then."""
    await client.upload("x", name, data, "create=1&update=1")
    sent = {"worker_type": "extract", "store_id": "media", "project_id": "films", "asset_id": "x"}
    answer = await client("POST", QUEUE, {**sent, "parameters": options})
    await client.service.services.jobs.wait(answer.headers["X-Task-Id"], 30)
    return await client.meta("x")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("site.zip", make_zip(SITE)),
        ("site.tar.gz", gzip.compress(make_tar(SITE))),
        ("SITE.TAR", make_tar(SITE)),
    ],
    ids=["zip", "tar.gz", "tar"],
)
async def test_an_archive_becomes_files_of_its_version_and_a_page_its_index(
    films: Client, name: str, data: bytes
) -> None:
    meta = await extract(films, name, data)
    stem = name.partition(".")[0]
    assert (meta["processing_status"], meta["processing_error"]) == ("done", "")
    assert meta["index_file"] == f"{EDGE}/media/films/x/1/extract/{stem}/index.html"
    assert sorted(await films.names("x")) == sorted([name, *(f"extract/{stem}/{inner}" for inner in SITE)])
    for inner, held in SITE.items():
        answer = await films("GET", f"/content/media/films/x/1/extract/{stem}/{inner}", user=None)
        assert answer.body == held and "Repr-Digest" in answer.headers


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("deep/INDEX.html", "deep/index.html"), ("a.css", "css/a.css"), ("ndex.html", None)],
)
async def test_the_index_file_may_be_asked_for_by_the_end_of_its_path(
    films: Client, wanted: str, found: str | None
) -> None:
    meta = await extract(films, "site.zip", make_zip(SITE), index_file=wanted)
    ending = f"extract/site/{found}" if found else "site.zip"
    assert meta["index_file"] == f"{EDGE}/media/films/x/1/{ending}"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.zip", make_zip({"ok": b"x", "../evil": b"y"}), "leads out of its folder"),
        ("a.tar", make_tar({"ok": b"x"}, member("l", tarfile.SYMTYPE)), "link or a device"),
        ("a.zip", make_zip(SITE)[:-30], "cannot be read"),
        ("a.zip", make_tar(SITE), "cannot be read"),
        ("a.tgz", gzip.compress(make_tar(SITE))[:-40], "cannot be read"),
        ("a.txt", b"text", "no archive"),
        ("a.zip", make_zip({f"f{n}": b"" for n in range(501)}), "more than 500 entries"),
        ("a.zip", make_zip({"bomb": bytes(65 << 20)}), "unpacks to more than"),
        ("a.tar.xz", lzma.compress(make_tar({"bomb": bytes(65 << 20)})), "unpacks to more than"),
    ],
    ids=["traversal", "link", "cut", "no zip", "cut gz", "text", "entries", "bomb", "bomb xz"],
)
async def test_one_bad_entry_ends_the_task_and_keeps_nothing(
    films: Client, name: str, data: bytes, reason: str
) -> None:
    if name == "a.txt":  # nobody takes what is not of the worker's extensions: it waits
        await films.upload("x", name, data)
        sent = {"worker_type": "extract", "store_id": "media", "project_id": "films", "asset_id": "x"}
        await films.ok("POST", QUEUE, sent)
        assert (await films.meta("x"))["processing_status"] == "new"
        return
    meta = await extract(films, name, data)
    assert meta["processing_status"] == "error" and reason in meta["processing_error"]
    assert await films.names("x") == [name]
    assert list(films.service.on_disk()) == [f"films/x/1/{name}"]
    assert meta["index_file"].endswith(f"/1/{name}")


async def test_a_cancel_stops_the_work_and_leaves_nothing(films: Client, monkeypatch: Any) -> None:
    from origin.workers import extract as module

    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(*_: Any) -> Any:
        yield Piece("a", b"x")
        while True:
            loop.call_soon_threadsafe(begun.set)
            yield Piece(None, b"")

    monkeypatch.setattr(module, "read_zip", endless)
    await films.upload("x", "a.zip", make_zip(SITE))
    sent = {"worker_type": "extract", "store_id": "media", "project_id": "films", "asset_id": "x"}
    id = (await films("POST", QUEUE, sent)).headers["X-Task-Id"]
    async with asyncio.timeout(10):
        await begun.wait()
        await films.ok("DELETE", QUEUE, {"task_id": id})
        monkeypatch.undo()
        meta = await extract(films, "b.zip", make_zip(SITE))  # the worker is free again
    assert meta["processing_status"] == "done" and meta["version"] == "2"
    assert [path for path in films.service.on_disk() if "/1/" in path] == ["films/x/1/a.zip"]


async def test_the_built_in_worker_is_gone_once_unregistered_until_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        await client.project()
        assert await client.ok("GET", "/api/workers") == ["extract"]
        await client.ok("DELETE", "/api/workers", {"name": "extract"})
        assert await client.ok("GET", "/api/workers") == []
        await client.upload("x", "a.zip", make_zip(SITE))
        sent = {"worker_type": "extract", "store_id": "media", "project_id": "films", "asset_id": "x"}
        id = (await client("POST", QUEUE, sent)).headers["X-Task-Id"]
        assert (await client.meta("x"))["processing_status"] == "new"
    async with running(tmp_path) as client:
        await client.service.services.jobs.wait(id, 20)
        assert (await client.meta("x"))["processing_status"] == "done"
