"""Documents as bytes: which form a client gets, XML, JSON and text out, XML and JSON in. Pure.

A document is a `Schema` (the order of its elements and their kinds) and a value: a dict in which a
repeated element is a list, a time whole milliseconds since the epoch, and what is unknown is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from xml.etree.ElementTree import Element as XmlElement

import defusedxml
import defusedxml.ElementTree

from origin.api.vidispine.problems import Problem, ProblemDocument, invalid

NAMESPACE = "http://xml.vidispine.com/schema/vidispine"
DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
MAX_DOCUMENT = 16 * 1024 * 1024  # bytes

Value = Mapping[str, Any]
Lines = Callable[[Value], list[str]]


class Form(Enum):
    """In the order that decides between equal q-values."""

    XML = "application/xml"
    JSON = "application/json"
    TEXT = "text/plain"

    @property
    def content_type(self) -> str:
        return "text/plain;charset=UTF-8" if self is Form.TEXT else self.value


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a document.

    kind       "string", "int", "number", "bool", "time", or the Schema of what is inside
    many       repeated: always an array in JSON
    always     of a list in a list document: `[]` in JSON also when empty
    attribute  an attribute in XML, a plain key in JSON
    content    the text of the XML element itself, a plain key in JSON
    """

    name: str
    kind: str | Schema = "string"
    many: bool = False
    always: bool = False
    attribute: bool = False
    content: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """A document's name, its elements in XML order, and its lines as text/plain (None: not offered)."""

    name: str
    elements: tuple[Element, ...]
    text: Lines | None = None


# --- which form -----------------------------------------------------------------------------------


def choose_form(accept: str | None, offered: tuple[Form, ...]) -> Form | None:
    """Return the form that `Accept` prefers among `offered`, or None when it allows none.

    Ties, wildcards, the malformed `*` and no field at all go to the first of `offered`. text/xml
    counts as application/xml. The most specific range decides a type's quality (RFC 9110 §12.5.1).
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_media_range(piece) for piece in accept.split(",") if piece.strip()]
    best, best_quality = None, 0.0
    for form in offered:
        types = ("application/xml", "text/xml") if form is Form.XML else (form.value,)
        quality = max(_quality(media_type, ranges) for media_type in types)
        if quality > best_quality:
            best, best_quality = form, quality
    return best


def _media_range(piece: str) -> tuple[str, float]:
    name, *params = (part.strip() for part in piece.split(";"))
    quality = 1.0
    for param in params:
        key, _, value = param.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 1.0  # a malformed weight says nothing
    return ("*/*" if name == "*" else name.lower()), quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    group = media_type.partition("/")[0] + "/*"
    for wanted in (media_type, group, "*/*"):
        matching = [quality for name, quality in ranges if name == wanted]
        if matching:
            return max(matching)
    return 0.0


# --- out ------------------------------------------------------------------------------------------


def render(schema: Schema, value: Value, form: Form) -> bytes:
    """Return the document's bytes. Text must be offered by the schema."""
    if form is Form.JSON:
        return to_json(_json_value(schema, value))
    if form is Form.TEXT and schema.text is not None:
        return text_lines(schema.text(value))
    out = [DECLARATION, "\n"]
    _write_xml(out, schema.name, schema, value, f' xmlns="{NAMESPACE}"')
    return "".join(out).encode("utf-8", "replace")


def render_problem(document: ProblemDocument, form: Form) -> bytes:
    if form is Form.JSON:
        return to_json(document.as_json())
    if form is Form.TEXT:
        return text_lines([" ".join(line.split()) for line in document.as_text()])
    inner = "".join(
        f"<{key}>{_escape(text)}</{key}>" for key, text in document.inner.items() if text is not None
    )
    body = f"<{document.choice}>{inner}</{document.choice}>" if inner else f"<{document.choice}/>"
    return (f'{DECLARATION}\n<{document.name} xmlns="{NAMESPACE}">{body}</{document.name}>').encode(
        "utf-8", "replace"
    )


def to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def text_lines(lines: list[str]) -> bytes:
    """Every line ends in CRLF; no lines are no bytes."""
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace")


def json_time(milliseconds: int) -> str:
    return f"{_iso(milliseconds)}+0000"


def xml_time(milliseconds: int) -> str:
    return f"{_iso(milliseconds)}Z"


_EPOCH = datetime(1970, 1, 1)  # naive: the forms add their own mark of UTC
_LAST = 253_402_300_799_999  # the end of the year 9999


def _iso(milliseconds: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=min(max(milliseconds, -62_135_596_800_000), _LAST))
    return moment.isoformat(timespec="milliseconds")


def _json_value(schema: Schema, value: Value) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for element in schema.elements:
        held = value.get(element.name)
        if element.many:
            if held or element.always:
                made[element.name] = [_json_scalar(element, entry) for entry in held or ()]
        elif held is not None:
            made[element.name] = _json_scalar(element, held)
    return made


def _json_scalar(element: Element, value: Any) -> Any:
    if isinstance(element.kind, Schema):
        return _json_value(element.kind, value)
    return json_time(value) if element.kind == "time" else value


def _write_xml(out: list[str], name: str, schema: Schema, value: Value, attributes: str = "") -> None:
    for element in schema.elements:
        if element.attribute and value.get(element.name) is not None:
            attributes += f' {element.name}="{_escape(_xml_text(element, value[element.name]))}"'
    start = len(out)
    out.append(f"<{name}{attributes}>")
    for element in schema.elements:
        held = value.get(element.name)
        if element.attribute or held is None:
            continue
        for entry in held if element.many else (held,):
            if isinstance(element.kind, Schema):
                _write_xml(out, element.name, element.kind, entry)
            elif element.content:
                out.append(_escape(_xml_text(element, entry)))
            else:
                out.append(f"<{element.name}>{_escape(_xml_text(element, entry))}</{element.name}>")
    if len(out) == start + 1:
        out[start] = f"<{name}{attributes}/>"
    else:
        out.append(f"</{name}>")


def _xml_text(element: Element, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return xml_time(value) if element.kind == "time" else str(value)


# XML 1.0 §2.2 has no form for these, not even an escaped one.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"})


def _escape(text: str) -> str:
    return _NO_XML.sub("\ufffd", text).translate(_ESCAPES)


# --- in -------------------------------------------------------------------------------------------


def parse_document(schema: Schema, body: bytes, content_type: str) -> dict[str, Any] | None:
    """Return the document in a body, or None for an empty body, which is never parsed.

    body          whole, at most 16 MiB
    content_type  the field's value as sent; "" when absent, which is read as XML or JSON by its look

    Raises Problem: 413 over the limit, 415 for another type, 400 for what cannot be read or has
    another root. Unknown elements and keys are left out.
    """
    if not body.strip():
        return None
    if len(body) > MAX_DOCUMENT:
        raise too_large()
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type:
        media_type = "application/xml" if body.lstrip()[:1] == b"<" else "application/json"
    if media_type in ("application/xml", "text/xml"):
        return _parse_xml(schema, body)
    if media_type == "application/json":
        return _parse_json(schema, body)
    raise invalid("request", "the body must be application/xml or application/json", status=415)


def too_large() -> Problem:
    return invalid("request", f"a document may have at most {MAX_DOCUMENT} bytes", status=413)


def _parse_xml(schema: Schema, body: bytes) -> dict[str, Any]:
    try:
        root = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except defusedxml.DefusedXmlException as error:
        raise invalid("body", "a document type or entity declaration is not allowed") from error
    except (SyntaxError, ValueError, LookupError) as error:
        raise invalid("body", "is not well-formed XML") from error
    namespace, _, name = root.tag.rpartition("}")
    if name != schema.name or namespace not in ("", "{" + NAMESPACE):
        raise invalid("body", f"must be a {schema.name}", value=name)
    return _from_xml(schema, root)


def _from_xml(schema: Schema, node: XmlElement) -> dict[str, Any]:
    made: dict[str, Any] = {}
    known = {element.name: element for element in schema.elements}
    for element in schema.elements:
        if element.attribute and element.name in node.attrib:
            made[element.name] = _scalar(element, node.attrib[element.name])
        elif element.content and node.text is not None:
            _add(made, element, node.text)
    for child in node:
        name = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
        found = known.get(name)
        if found is None or found.attribute or found.content:
            continue
        if isinstance(found.kind, Schema):
            _add(made, found, _from_xml(found.kind, child))
        else:
            _add(made, found, _scalar(found, child.text or ""))
    return made


def _add(made: dict[str, Any], element: Element, value: Any) -> None:
    if element.many:
        made.setdefault(element.name, []).append(value)
    else:
        made.setdefault(element.name, value)


def _parse_json(schema: Schema, body: bytes) -> dict[str, Any]:
    try:
        held = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid("body", "is not well-formed JSON") from error
    if not isinstance(held, dict):
        raise invalid("body", f"must be a {schema.name}, one object")
    if held and not any(element.name in held for element in schema.elements):
        raise invalid("body", f"has no key of a {schema.name}")
    return _from_json(schema, held)


def _from_json(schema: Schema, held: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for element in schema.elements:
        value = held.get(element.name)
        if value is None:
            continue
        entries = value if isinstance(value, list) else [value]
        for entry in entries:
            if isinstance(element.kind, Schema) and not element.kind.elements:
                _add(made, element, {})  # an empty element: that it is there is all it says
            elif isinstance(element.kind, Schema):
                if not isinstance(entry, dict):
                    raise invalid(element.name, "must be an object")
                _add(made, element, _from_json(element.kind, entry))
            else:
                _add(made, element, _scalar(element, entry))
    return made


def _scalar(element: Element, value: Any) -> Any:
    """Read one value; numbers and booleans may come as strings."""
    name, kind = element.name, element.kind
    if isinstance(value, (dict, list)):
        raise invalid(name, "must be one value")
    if kind == "bool":
        text = str(value).strip().lower()
        if text in ("true", "1", "false", "0"):
            return text in ("true", "1")
        raise invalid(name, "must be true or false", value=str(value))
    if kind in ("int", "number"):
        text = str(value).strip()
        if not isinstance(value, bool) and re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
            return int(text)
        if kind == "number" and re.fullmatch(r"-?[0-9]{1,19}\.[0-9]{1,19}", text, re.ASCII):
            return float(text)
        raise invalid(name, "must be a number", value=text)
    return _xml_text(element, value) if isinstance(value, bool) else str(value)
