"""Documents of the Vidispine dialect, byte for byte, and which form a client gets."""

from __future__ import annotations

import pytest

from origin.api.vidispine import documents as d
from origin.api.vidispine.problems import CHOICES, Problem, invalid, not_found
from origin.api.vidispine.wire import Form, choose_form, json_time, parse_document, render, render_problem

ALL = (Form.XML, Form.JSON, Form.TEXT)
HEAD = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
NS = b' xmlns="http://xml.vidispine.com/schema/vidispine"'
WHEN = 1_795_280_131_120
FILE = {
    "id": "VX-10",
    "path": "news/a & b.txt",
    "uri": ["file:///srv/media/news/a%20&%20b.txt"],
    "state": "CLOSED",
    "size": 13,
    "hash": "056a313c45af56c9251336848f708569114e3240",
    "timestamp": WHEN,
    "refreshFlag": 1,
    "storage": "VX-1",
    "metadata": {"field": [{"key": "created", "value": "1"}]},
}


@pytest.mark.parametrize(
    ("accept", "offered", "form"),
    [
        pytest.param(None, ALL, Form.XML, id="no-field"),
        pytest.param("", ALL, Form.XML, id="empty"),
        pytest.param("*/*", ALL, Form.XML, id="anything"),
        pytest.param("*", ALL, Form.XML, id="malformed-star"),
        pytest.param("application/*", ALL, Form.XML, id="group"),
        pytest.param("application/json", ALL, Form.JSON, id="json"),
        pytest.param("text/xml", ALL, Form.XML, id="text-xml"),
        pytest.param("text/plain", ALL, Form.TEXT, id="text"),
        pytest.param("text/*", ALL, Form.XML, id="text-group-holds-text-xml"),
        pytest.param("application/json, application/xml", ALL, Form.XML, id="tie"),
        pytest.param("application/xml;q=0.5, application/json", ALL, Form.JSON, id="weights"),
        pytest.param("*/*, application/xml;q=0, text/xml;q=0", ALL, Form.JSON, id="specific-refusal"),
        pytest.param("APPLICATION/JSON;charset=utf-8", ALL, Form.JSON, id="case-and-parameters"),
        pytest.param("text/plain", (Form.XML, Form.JSON), None, id="text-not-offered"),
        pytest.param("image/png", ALL, None, id="nothing-acceptable"),
        pytest.param("application/json;q=0", ALL, None, id="only-a-refusal"),
        pytest.param("application/json;q=x", ALL, Form.JSON, id="malformed-weight"),
    ],
)
def test_the_form_is_the_one_asked_for(  # RFC 9110 §12.5.1
    accept: str | None, offered: tuple[Form, ...], form: Form | None
) -> None:
    assert choose_form(accept, offered) is form


def test_a_file_as_xml() -> None:
    assert render(d.FILE, FILE, Form.XML) == HEAD + (
        b"<FileDocument" + NS + b"><id>VX-10</id><path>news/a &amp; b.txt</path>"
        b"<uri>file:///srv/media/news/a%20&amp;%20b.txt</uri><state>CLOSED</state><size>13</size>"
        b"<hash>056a313c45af56c9251336848f708569114e3240</hash>"
        b"<timestamp>2026-11-21T16:55:31.120Z</timestamp><refreshFlag>1</refreshFlag>"
        b"<storage>VX-1</storage><metadata><field><key>created</key><value>1</value></field></metadata>"
        b"</FileDocument>"
    )


def test_a_file_as_json() -> None:
    assert render(d.FILE, FILE, Form.JSON) == (
        b'{"id":"VX-10","path":"news/a & b.txt","uri":["file:///srv/media/news/a%20&%20b.txt"],'
        b'"state":"CLOSED","size":13,"hash":"056a313c45af56c9251336848f708569114e3240",'
        b'"timestamp":"2026-11-21T16:55:31.120+0000","refreshFlag":1,"storage":"VX-1",'
        b'"metadata":{"field":[{"key":"created","value":"1"}]}}'
    )


def test_a_file_as_text() -> None:
    assert render(d.FILE, FILE, Form.TEXT) == (
        b"VX-10\tnews/a & b.txt\t13\tCLOSED\t2026-11-21T16:55:31.120+0000\r\n"
    )
    assert render(d.FILE_ID, FILE, Form.TEXT) == b"VX-10\r\n"


def test_an_empty_list_still_has_its_key_in_json() -> None:
    assert render(d.FILE_LIST, {"hits": 0, "file": []}, Form.JSON) == b'{"hits":0,"file":[]}'
    assert render(d.FILE_LIST, {"file": []}, Form.XML) == HEAD + b"<FileListDocument" + NS + b"/>"
    assert render(d.FILE_LIST, {"file": []}, Form.TEXT) == b""


def test_lists_as_text_are_ids_each_line_ending_in_crlf() -> None:
    assert render(d.FILE_LIST, {"file": [{"id": "VX-1"}, {"id": "VX-2"}]}, Form.TEXT) == b"VX-1\r\nVX-2\r\n"


def test_attributes_are_plain_keys_in_json() -> None:
    task = {"id": 1, "step": 1, "attempts": 0, "status": "STARTED", "timestamp": 0}
    job = {
        "jobId": "VX-2",
        "status": "STARTED",
        "type": "COPY_FILE",
        "priority": "LOW",
        "log": {"task": [task]},
    }
    assert b'<log><task id="1"><step>1</step>' in render(d.JOB, job, Form.XML)
    assert b'"log":{"task":[{"id":1,"step":1' in render(d.JOB, job, Form.JSON)


def test_characters_that_xml_has_no_form_for_are_replaced() -> None:
    body = render(d.FILE, {**FILE, "path": "a\x01b"}, Form.XML)
    assert "<path>a\ufffdb</path>".encode() in body


def test_booleans_in_xml_are_lower_case() -> None:
    body = render(d.STORAGE_METHOD, {"uri": "file:///a/", "read": True, "write": False}, Form.XML)
    assert b"<read>true</read><write>false</write>" in body


def test_times_have_three_decimals() -> None:
    assert json_time(0) == "1970-01-01T00:00:00.000+0000"


# --- exceptions -----------------------------------------------------------------------------------


def test_a_problem_as_json_has_all_nine_keys() -> None:
    body = render_problem(not_found("Job", "VX-1000000").document, Form.JSON)
    assert body.startswith(
        b'{"notFound":{"type":"Job","id":"VX-1000000","context":null},"internalServer":null,'
    )
    assert body.endswith(b'"notAuthorized":null}')
    assert len(CHOICES) == 9


def test_a_problem_as_xml_has_only_what_is_known() -> None:
    assert render_problem(not_found("Job", "VX-1").document, Form.XML) == HEAD + (
        b"<ExceptionDocument"
        + NS
        + b"><notFound><type>Job</type><id>VX-1</id></notFound></ExceptionDocument>"
    )


def test_a_problem_as_text() -> None:
    assert render_problem(not_found("Job", "VX-1000000").document, Form.TEXT) == (
        b"404 A resource could not be found\r\nType: Job\r\nID: VX-1000000\r\n"
    )
    problem = invalid("first", "must be\ran integer", id="VX-1")
    assert render_problem(problem.document, Form.TEXT) == (
        b"400 An invalid parameter was entered\r\nContext: first\r\nID: VX-1\r\n"
        b"Reason: must be an integer\r\n"
    )


# --- in -------------------------------------------------------------------------------------------

XML_FILE = b"<FileDocument" + NS + b"><path>a/b</path><uri>file:///x</uri><size>3</size><odd/></FileDocument>"


@pytest.mark.parametrize(
    ("body", "content_type", "value"),
    [
        pytest.param(XML_FILE, "application/xml", {"path": "a/b", "uri": ["file:///x"], "size": 3}, id="xml"),
        pytest.param(XML_FILE.replace(NS, b""), "text/xml;charset=utf-8", None, id="xml-without-namespace"),
        pytest.param(
            b'{"path":"a/b","uri":"file:///x","size":"3","odd":1}',
            "application/json",
            {"path": "a/b", "uri": ["file:///x"], "size": 3},
            id="json-with-a-single-uri-and-a-number-as-string",
        ),
        pytest.param(b'{"uri":["file:///x"]}', "", {"uri": ["file:///x"]}, id="json-without-type"),
        pytest.param(XML_FILE, "", None, id="xml-without-type"),
    ],
)
def test_documents_are_read(body: bytes, content_type: str, value: dict[str, object] | None) -> None:
    read = parse_document(d.FILE, body, content_type)
    assert read == (value or {"path": "a/b", "uri": ["file:///x"], "size": 3})


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_is_never_parsed_whatever_its_type(body: bytes) -> None:
    assert parse_document(d.FILE, body, "application/json") is None
    assert parse_document(d.FILE, body, "image/png") is None


def test_an_empty_metadata_document_is_fine() -> None:
    assert parse_document(d.METADATA, b"{}", "application/json") == {}
    assert parse_document(d.METADATA, b"<MetadataDocument" + NS + b"/>", "application/xml") == {}


def test_metadata_reads_the_same_from_both_forms() -> None:
    xml = (
        b"<MetadataDocument" + NS + b'><timespan start="-INF" end="+INF"><field><name>title</name>'
        b"<value>A film</value></field></timespan></MetadataDocument>"
    )
    field = b'{"name":"title","value":[{"value":"A film"}]}'
    json = b'{"timespan":[{"start":"-INF","end":"+INF","field":[' + field + b"]}]}"
    read = parse_document(d.METADATA, xml, "application/xml")
    assert read == parse_document(d.METADATA, json, "application/json")
    assert read == {
        "timespan": [
            {"start": "-INF", "end": "+INF", "field": [{"name": "title", "value": [{"value": "A film"}]}]}
        ]
    }


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><FileDocument><path>&a;</path></FileDocument>'


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(b"<FileDocument>", "application/xml", 400, id="not-well-formed"),
        pytest.param(b"<JobDocument/>", "application/xml", 400, id="another-root"),
        pytest.param(b'<FileDocument xmlns="urn:x"/>', "application/xml", 400, id="another-namespace"),
        pytest.param(BOMB, "application/xml", 400, id="dtd"),
        pytest.param(b"[]", "application/json", 400, id="json-list"),
        pytest.param(b"{", "application/json", 400, id="json-broken"),
        pytest.param(b"\xff", "application/json", 400, id="json-not-utf8"),
        pytest.param(b"[" * 200_000, "application/json", 400, id="json-deep"),
        pytest.param(b'{"jobId":"VX-1"}', "application/json", 400, id="json-of-another-document"),
        pytest.param(b'{"size":"three"}', "application/json", 400, id="json-number"),
        pytest.param(b'{"path":{}}', "application/json", 400, id="json-object-for-a-string"),
        pytest.param(b"x", "application/octet-stream", 415, id="another-type"),
        pytest.param(b"{" + b" " * (16 << 20) + b"}", "application/json", 413, id="too-large"),
    ],
)
def test_documents_that_cannot_be(body: bytes, content_type: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        parse_document(d.FILE, body, content_type)
    assert (caught.value.status, caught.value.document.choice) == (status, "invalidInput")
