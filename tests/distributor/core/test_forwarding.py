"""What of a client's request goes on to a source (contract §6)."""

from __future__ import annotations

from distributor.core.forwarding import source_fields, varying_fields
from distributor.core.model import AssetRequest
from distributor.core.policy import names_node


def request(*fields: tuple[str, str]) -> AssetRequest:
    return AssetRequest("GET", "a", "a", None, fields, 0.0, "id-1")


def test_of_the_clients_fields_nothing_goes_on_but_its_via_and_cdn_loop() -> None:
    sent = source_fields(
        request(
            ("Via", "1.0 x"), ("Via", "1.1 y"), ("CDN-Loop", "a; b=c"), ("Authorization", "s"), ("X-A", "1")
        ),
        "edge-1",
    )
    assert sent == (
        ("Via", "1.0 x, 1.1 y, 1.1 edge-1"),
        ("CDN-Loop", "a; b=c, edge-1"),
        ("X-Request-Id", "id-1"),
    )


def test_a_client_without_them_gets_this_node_alone() -> None:
    sent = source_fields(request(), "edge-1")
    assert sent[:2] == (("Via", "1.1 edge-1"), ("CDN-Loop", "edge-1"))
    assert names_node(sent, "edge-1")  # RFC 8586 §2: seen again, it is a loop


def test_transparent_adds_end_to_end_fields_once() -> None:
    asked = request(
        ("Via", "1.1 y"), ("X-Request-Id", "theirs"), ("X-A", "1"), ("Cookie", "c"), ("Range", "bytes=0-1"),
        ("Authorization", "s"), ("Connection", "x-b"), ("X-B", "2"),
    )  # fmt: skip
    sent = source_fields(asked, "edge-1", transparent=True)
    assert sent[3:] == varying_fields(asked) == (("X-A", "1"), ("Authorization", "s"))
    assert sent[2] == ("X-Request-Id", "id-1")
