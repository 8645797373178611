"""The session that the dialect's contract shows (§11), call by call."""

from __future__ import annotations

from pathlib import Path

from tests.support.vidispine import ADMIN, TEXT, Client, basic, raw_exchange


async def test_the_session_of_the_contract(client: Client, tmp_path: Path) -> None:
    data = "/API/storage/VX-1/file/data"
    reply = await client("POST", f"{data}?path=news/a%20b.txt", accept=TEXT, body=b"hello, files\n")
    ten = client.ids["10"] = reply.text.removesuffix("\r\n")
    reply = await client("GET", "/API/file/{10}", accept=TEXT)
    assert reply.text.startswith(f"{ten}\tnews/a b.txt\t13\tCLOSED\t20")

    reply = await client("GET", "/storage/VX-1/file/path/news%2Fa%20b.txt;includeItem=True", accept="*/*")
    begins = (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        f'<FileDocument xmlns="http://xml.vidispine.com/schema/vidispine"><id>{ten}</id>'
        f"<path>news/a b.txt</path><uri>file://{tmp_path}/media/news/a%20b.txt</uri><state>CLOSED</state>"
        "<size>13</size><hash>056a313c45af56c9251336848f708569114e3240</hash><timestamp>20"
    )
    assert reply.text.startswith(begins)
    assert "Z</timestamp><refreshFlag>1</refreshFlag><storage>VX-1</storage><metadata>" in reply.text

    reply = await client("GET", "/API/storage/file/{10}/data", accept="*/*", headers={"Range": "bytes=0-4"})
    assert (reply.status, reply.body) == (206, b"hello")
    assert reply.headers["Content-Range"] == "bytes 0-4/13"

    target = "/API/storage/VX-1/file;first=0;number=5;sort=size%20desc?path=/news/&recursive=false"
    document = (await client("GET", target)).json
    assert (document["hits"], document["file"][0]["id"]) == (1, ten)

    reply = await client("POST", "/API/storage/VX-1/file?path=news/a%20b.txt")
    assert reply.status == 409
    taken = f'"fileAlreadyExists":{{"storageId":"VX-1","fileId":"{ten}","path":"news/a b.txt"}}'
    assert taken in reply.text
    assert reply.text.endswith('"notAuthorized":null}')

    head = (
        f"POST {data}?path=torn.bin HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(*ADMIN)}\r\n"
        "Content-Length: 1000\r\n\r\nonly this"
    )
    assert (await raw_exchange(client.base, head.encode())).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert (await client("GET", "/API/storage/VX-1/file/path/torn.bin")).status == 404

    chunks = f"{data}?path=news/c.txt&transferId=t1"
    reply = await client("POST", chunks, headers={"size": "13", "index": "7"}, body=b"files\n")
    assert (reply.status, reply.body) == (204, b"")
    reply = await client("POST", chunks, headers={"size": "13", "index": "0"}, body=b"hello, ", accept=TEXT)
    client.ids["11"] = reply.text.strip()

    reply = await client("POST", "/API/file/{10}/storage/VX-2?filename=2026/a.txt&priority=HIGH")
    started = reply.json
    assert {key: started[key] for key in ("user", "status", "type", "priority")} == {
        "user": "admin",
        "status": "READY",
        "type": "COPY_FILE",
        "priority": "HIGH",
    }
    await client.job(started["jobId"])
    assert (await client("GET", f"/API/job/{started['jobId']}", accept=TEXT)).text == "FINISHED\r\n"

    reply = await client("POST", "/API/file/{10}/storage/VX-2?filename=slow.txt&limitRate=1", accept=TEXT)
    slow = reply.text.strip()
    await client.job(slow, until="STARTED")
    assert (await client("DELETE", f"/API/job/{slow}")).json["status"] == "ABORTED_PENDING"
    assert (await client.job(slow))["status"] == "ABORTED"
    assert (await client("GET", "/API/storage/VX-2/file/path/slow.txt")).status == 404

    target = "/API/file/{11}/import?no-transcode=true&filename=c.txt"
    job = await client.job((await client("POST", target, accept=TEXT)).text.strip())
    assert (job["status"], job["totalSteps"]) == ("FINISHED", 3)
    item = next(entry["value"] for entry in job["data"] if entry["key"] == "item")

    document = (await client("GET", "/API/storage/VX-1/file;filter=item;includeItem=true")).json
    assert document["hits"] == 1
    assert document["file"][0]["id"] == client.ids["11"]
    assert document["file"][0]["item"][0]["id"] == item
    assert list(document["file"][0]["item"][0]["shape"][0]["component"][0]) == ["id"]

    reply = await client("POST", "/API/file/{11}/import")
    assert reply.status == 409
    assert reply.json["conflict"]["explanation"] == (
        f"the file belongs to item {item}; send allowReimport=true"
    )
    assert (await client("PUT", f"/API/file/{{11}}/abandon?item={item}")).status == 200

    (tmp_path / "media/news/c.txt").rename(tmp_path / "media/news/d.txt")
    reply = await client("POST", "/API/file/{11}/path?path=news/d.txt", accept=TEXT)
    assert reply.text.strip() != client.ids["11"]
    assert (await client("GET", "/API/file/{11}")).status == 404
