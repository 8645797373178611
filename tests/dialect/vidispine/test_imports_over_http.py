"""Imports: of one file, and of IMF packages by their ASSETMAP (SMPTE ST 429-9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import imf_package as make
from tests.support.vidispine import XML, Client, running

JSON_TYPE = {"Content-Type": "application/json"}


def data_of(job: dict[str, Any]) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in job["data"]}


async def imported(client: Client, target: str, status: str = "FINISHED", **more: Any) -> dict[str, Any]:
    reply = await client("POST", target, **more)
    assert reply.status == 200, reply.text
    assert reply.json["type"] == "PLACEHOLDER_IMPORT"
    job = await client.job(reply.json["jobId"])
    assert job["status"] == status, job
    return job


async def test_an_import_makes_item_shape_and_component_and_copies_nothing(
    client: Client, tmp_path: Path
) -> None:
    await client.upload("c.mov", b"bytes", label="1")
    started = (await client("POST", "/API/file/{1}/import?no-transcode=true&tag=lowres")).json
    item = data_of(started)["item"]
    job = await client.job(started["jobId"])
    assert (job["status"], job["totalSteps"], data_of(job)["item"]) == ("FINISHED", 3, item)
    document = (await client("GET", "/API/storage/VX-1/file;filter=item;includeItem=true")).json
    assert document["hits"] == 1
    (reference,) = document["file"][0]["item"]
    assert reference["id"] == item
    (shape,) = reference["shape"]
    assert len(shape["component"]) == 1
    held = (await client("GET", f"/API/item/{item}")).json
    assert held["shape"][0]["tag"] == ["original"]
    assert held["shape"][0]["component"][0]["file"] == [{"id": client.ids["1"]}]
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["c.mov"]


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_the_metadata_that_came_with_the_import_is_the_items(client: Client, form: str) -> None:
    await client.upload("c.mov", b"bytes", label="1")
    if form == "json":
        body = b'{"timespan":[{"start":"-INF","end":"+INF","field":[{"name":"t","value":[{"value":"A"}]}]}]}'
        headers = JSON_TYPE
    else:
        body = (
            b'<MetadataDocument xmlns="http://xml.vidispine.com/schema/vidispine"><timespan start="-INF" '
            b'end="+INF"><field><name>t</name><value>A</value></field></timespan></MetadataDocument>'
        )
        headers = {"Content-Type": XML}
    target = "/API/file/{1}/import?filename=film.mov&id=ext-1,ext-2&importTag=master"
    job = await imported(client, target, body=body, headers=headers)
    item = (await client("GET", f"/API/item/{data_of(job)['item']}")).json
    assert item["externalId"] == ["ext-1", "ext-2"]
    fields = {f["name"]: f["value"][0]["value"] for s in item["metadata"]["timespan"] for f in s["field"]}
    assert fields == {"t": "A", "originalFilename": "film.mov"}
    assert item["shape"][0]["tag"] == ["master"]


async def test_tags_that_nothing_here_can_make_end_in_a_warning_that_names_them(client: Client) -> None:
    await client.upload("c.mov", b"bytes", label="1")
    target = "/API/file/{1}/import?tag=lowres,web&original=web"
    job = await imported(client, target, "FINISHED_WARNING", headers=JSON_TYPE)
    (step,) = job["log"]["task"][0]["subStep"]
    assert "lowres, web" in step["description"]


async def test_an_imported_file_is_409_to_import_again_unless_allowed(client: Client) -> None:
    await client.upload("c.mov", b"bytes", label="1")
    item = data_of(await imported(client, "/API/file/{1}/import"))["item"]
    reply = await client("POST", "/API/file/{1}/import")
    assert reply.status == 409
    assert reply.json["conflict"] == {
        "context": "file",
        "id": client.ids["1"],
        "explanation": f"the file belongs to item {item}; send allowReimport=true",
        "value": None,
    }
    again = await imported(client, "/API/file/{1}/import?allowReimport=true")
    assert data_of(again)["item"] != item
    document = (await client("GET", "/API/file/{1};includeItem=true")).json
    assert len(document["item"]) == 2


async def test_an_import_run_again_is_another_item(client: Client) -> None:
    await client.upload("c.mov", b"bytes", label="1")
    first = await imported(client, "/API/file/{1}/import?allowReimport=true")
    second = await imported(client, f"/API/job/{first['jobId']}/re-run")
    assert data_of(second)["item"] != data_of(first)["item"]
    assert len((await client("GET", "/API/file/{1};includeItem=true")).json["item"]) == 2


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param("/API/file/{2}/import", 409, id="no-bytes"),
        pytest.param("/API/file/{1}/import?original=x", 400, id="original-not-among-the-tags"),
        pytest.param("/API/file/{1}/import?settings=VX-1", 404, id="settings"),
        pytest.param("/API/file/{1}/import?createThumbnails=maybe", 400, id="boolean"),
        pytest.param("/API/file/{1}/import?fastStartLength=x", 400, id="integer"),
        pytest.param("/API/file/VX-999/import", 404, id="unknown-file"),
        pytest.param("/API/storage/VX-1/file/path/none/import/assetmap", 404, id="unknown-asset-map"),
    ],
)
async def test_imports_that_are_refused_at_once(client: Client, target: str, status: int) -> None:
    await client.upload("a", b"1", label="1")
    await client.create("empty", label="2")
    assert (await client("POST", target)).status == status


async def test_an_external_id_of_another_item_is_409(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    await client.upload("b", b"1", label="2")
    await imported(client, "/API/file/{1}/import?id=ext-1")
    reply = await client("POST", "/API/file/{2}/import?id=ext-1")
    assert (reply.status, reply.json["conflict"]["value"]) == (409, "ext-1")


async def test_a_file_queued_for_import_is_409_and_can_be_left_out_of_lists(tmp_path: Path) -> None:
    async with running(tmp_path, jobs={"runners": 0}) as (_, client):
        await client.upload("a", b"1", label="1")
        await client.upload("b", b"1", label="2")
        assert (await client("POST", "/API/file/{1}/import")).status == 200
        assert (await client("POST", "/API/file/{1}/import")).status == 409

        async def listed(target: str, key: str = "file") -> str:
            document = (await client("GET", target)).json
            held = [entry["file"] if key == "element" else entry for entry in document[key]]
            return client.labels([file["id"] for file in held])

        assert await listed("/API/storage/file;excludeQueued=true") == "2"
        assert await listed("/API/storage/file") == "12"
        assert await listed("/API/storage/importable", "element") == "2"
        assert await listed("/API/storage/importable?excludeQueued=false", "element") == "12"


async def test_importable_files_have_bytes_and_belong_to_nothing(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    await client.upload("b", b"1", label="2")
    await client.upload("c", b"1", label="3")
    await client.create("empty")
    await imported(client, "/API/file/{2}/import")
    await client("PUT", "/API/file/{3}/state/LOST")
    for target in ("/API/storage/VX-1/importable", "/storage/VX-1/file/importable?auto=false"):
        document = (await client("GET", target)).json
        assert [entry["file"]["id"] for entry in document["element"]] == [client.ids["1"]]
        assert document["hits"] == 1
    reply = await client("GET", "/API/storage/importable", accept=XML)
    assert b"<ImportableFileListDocument" in reply.body
    assert b"<element><file><id>" in reply.body
    await client("PUT", "/API/storage/VX-1", body=b'{"showImportables":false}', headers=JSON_TYPE)
    assert (await client("GET", "/API/storage/importable")).json == {"hits": 0, "element": []}


async def test_an_abandoned_file_is_importable_again_and_the_shape_stays(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    item = data_of(await imported(client, "/API/file/{1}/import"))["item"]
    assert (await client("PUT", "/API/file/{1}/abandon?item=VX-999")).status == 404
    assert (await client("PUT", f"/API/file/{{1}}/abandon?item={item}")).status == 200
    assert (await client("GET", "/API/storage/importable")).json["hits"] == 1
    shape = (await client("GET", f"/API/item/{item}")).json["shape"][0]
    assert "file" not in shape["component"][0]
    assert (await client("GET", "/API/file/{1}/data")).body == b"1"


async def test_a_new_path_takes_the_old_files_place_in_its_items(client: Client, tmp_path: Path) -> None:
    await client.upload("a", b"1", label="1")
    item = data_of(await imported(client, "/API/file/{1}/import"))["item"]
    (tmp_path / "media/a").rename(tmp_path / "media/b")
    new = (await client("POST", "/API/file/{1}/path?path=b;includeItem=true")).json["id"]
    component = (await client("GET", f"/API/item/{item}")).json["shape"][0]["component"][0]
    assert component["file"] == [{"id": new}]
    twin = (await client("POST", f"/API/file/{new}/path?path=c&duplicate=true")).json["id"]
    component = (await client("GET", f"/API/item/{item}")).json["shape"][0]["component"][0]
    assert component["file"] == [{"id": new}, {"id": twin}]


async def test_a_copy_joins_the_items_of_its_source_and_a_moved_file_keeps_them(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    item = data_of(await imported(client, "/API/file/{1}/import"))["item"]

    async def files() -> list[str]:
        component = (await client("GET", f"/API/item/{item}")).json["shape"][0]["component"][0]
        return [file["id"] for file in component["file"]]

    job = await client.job((await client("POST", "/API/file/{1}/storage/VX-2")).json["jobId"])
    copy = data_of(job)["targetFile"]
    assert await files() == [client.ids["1"], copy]
    target = f"/API/file/{copy}/storage/VX-2?filename=b&move=true"
    moved = data_of(await client.job((await client("POST", target)).json["jobId"]))["targetFile"]
    assert await files() == [client.ids["1"], moved]


async def test_a_deleted_file_leaves_its_component(client: Client) -> None:
    await client.upload("a", b"1", label="1")
    item = data_of(await imported(client, "/API/file/{1}/import"))["item"]
    await client.job((await client("DELETE", "/API/file/{1}")).json["jobId"])
    component = (await client("GET", f"/API/item/{item}")).json["shape"][0]["component"][0]
    assert "file" not in component


# --- packages -------------------------------------------------------------------------------------

VIDEO, AUDIO, EXTRA = b"video essence", b"audio essence", b"a note"
ESSENCE = {7: ("v%20ideo.mxf", VIDEO), 8: ("audio.mxf", AUDIO), 9: ("note.txt", EXTRA)}


def package(*, tracks: tuple[int, ...] = (7, 8), without: str = "", video: bytes = VIDEO) -> dict[str, bytes]:
    """Return a package's files by name: ASSETMAP, PKL, CPL, two tracks and a note."""
    held = [(make.uuid(2), "PKL.xml", True), (make.uuid(3), "CPL.xml", False)]
    held += [(make.uuid(n), name, False) for n, (name, _) in ESSENCE.items()]
    playlist = make.composition([make.uuid(n) for n in tracks])
    listed = [(make.uuid(3), playlist), *((make.uuid(n), body) for n, (_, body) in ESSENCE.items())]
    made = {
        "ASSETMAP.xml": make.asset_map(held),
        "PKL.xml": make.packing_list(listed),
        "CPL.xml": playlist,
        "v%20ideo.mxf": video,
        "audio.mxf": AUDIO,
        "note.txt": EXTRA,
    }
    return {name: body for name, body in made.items() if name != without}


async def upload_package(client: Client, files: dict[str, bytes]) -> None:
    for name, body in files.items():
        await client.upload(f"pkg/{name}", body, label=name)


async def test_a_package_becomes_one_item_with_a_shape_for_its_composition(client: Client) -> None:
    await upload_package(client, package())
    job = await imported(client, "/API/file/{ASSETMAP.xml}/import/assetmap")
    item = (await client("GET", f"/API/item/{data_of(job)['item']}")).json
    (shape,) = item["shape"]
    held = [(part["kind"], client.labels([part["file"][0]["id"]])) for part in shape["component"]]
    assert held == [
        ("track", "v%20ideo.mxf"),
        ("track", "audio.mxf"),
        ("binary", "ASSETMAP.xml"),
        ("binary", "PKL.xml"),
        ("binary", "CPL.xml"),
        ("binary", "note.txt"),
    ]
    assert (await client("GET", "/API/storage/importable")).json["hits"] == 0


async def test_a_package_is_imported_by_the_path_of_its_asset_map(client: Client) -> None:
    await upload_package(client, package())
    await imported(client, "/API/storage/VX-1/file/import/assetmap?path=pkg/ASSETMAP.xml")


async def test_files_of_a_package_that_lie_on_disk_alone_are_registered(
    client: Client, tmp_path: Path
) -> None:
    await upload_package(client, package(without="audio.mxf"))
    (tmp_path / "media/pkg/audio.mxf").write_bytes(AUDIO)
    await imported(client, "/API/file/{ASSETMAP.xml}/import/assetmap")
    assert (await client("GET", "/API/storage/VX-1/file/path/pkg%2Faudio.mxf")).status == 200


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(package(without="audio.mxf"), "missing: audio.mxf", id="missing"),
        pytest.param(package(video=b"other essence"), "hashes to", id="hash"),
        pytest.param(package(video=b"short"), "has 5 bytes", id="size"),
        pytest.param(package(tracks=(7, 99)), "does not map", id="track-outside-the-map"),
        pytest.param({"ASSETMAP.xml": b"<x/>"}, "not a known AssetMap", id="no-asset-map"),
        pytest.param(
            {"ASSETMAP.xml": make.asset_map([(make.uuid(7), "../../etc/passwd", False)])},
            "not a file beside",
            id="outside",
        ),
        pytest.param(
            {"ASSETMAP.xml": make.asset_map([(make.uuid(9), "note.txt", False)]), "note.txt": EXTRA},
            "no composition",
            id="no-composition",
        ),
    ],
)
async def test_a_package_that_cannot_be_makes_nothing(
    client: Client, files: dict[str, bytes], message: str
) -> None:
    await upload_package(client, files)
    job = await imported(client, "/API/file/{ASSETMAP.xml}/import/assetmap", "FAILED_TOTAL")
    assert message in data_of(job)["errorMessage"]
    assert (await client("GET", f"/API/item/{data_of(job)['item']}")).status == 404
    assert (await client("GET", "/API/storage/file;filter=item")).json["hits"] == 0


async def test_every_missing_file_is_named(client: Client) -> None:
    await upload_package(client, {"ASSETMAP.xml": package()["ASSETMAP.xml"]})
    job = await imported(client, "/API/file/{ASSETMAP.xml}/import/assetmap", "FAILED_TOTAL")
    for name in ("PKL.xml", "CPL.xml", "v ideo.mxf", "audio.mxf", "note.txt"):
        assert name in data_of(job)["errorMessage"]


async def test_a_hash_of_another_algorithm_ends_in_a_warning(client: Client) -> None:
    files = package()
    algorithm = "http://www.w3.org/2001/04/xmlenc#sha256"
    files["PKL.xml"] = make.packing_list([(make.uuid(7), VIDEO)], algorithm=algorithm)
    await upload_package(client, files)
    job = await imported(client, "/API/file/{ASSETMAP.xml}/import/assetmap", "FINISHED_WARNING")
    assert "v ideo.mxf" in job["log"]["task"][0]["subStep"][0]["description"]


async def test_a_package_with_a_file_of_another_item_fails_unless_allowed(client: Client) -> None:
    await upload_package(client, package())
    await imported(client, "/API/file/{audio.mxf}/import")
    job = await imported(client, "/API/file/{ASSETMAP.xml}/import/assetmap", "FAILED_TOTAL")
    assert "pkg/audio.mxf belongs to item" in data_of(job)["errorMessage"]
    await imported(client, "/API/file/{ASSETMAP.xml}/import/assetmap?allowReimport=true")
    assert (await client("POST", "/API/file/{ASSETMAP.xml}/import/assetmap")).status == 409
