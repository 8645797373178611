"""What an import makes: an Item of Shapes, each of components, which point at Files. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from origin.domain.model import make_id


@dataclass(frozen=True, slots=True)
class Component:
    """One stream or document of a Shape.

    kind     "container", "binary", "video" …: a word for people
    file_ns  numbers of the Files, equal copies of each other, ascending; () after the last was taken out
    """

    n: int
    kind: str
    file_ns: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        return make_id(self.n)


@dataclass(frozen=True, slots=True)
class Shape:
    """One technical form of an Item. tags: e.g. ("original",)."""

    n: int
    tags: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()

    @property
    def id(self) -> str:
        return make_id(self.n)


@dataclass(frozen=True, slots=True)
class Item:
    """metadata: as it came with the import, JSON-able, plus `originalFilename`."""

    n: int
    external_ids: tuple[str, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    created_ms: int = 0

    @property
    def id(self) -> str:
        return make_id(self.n)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a File stands: in this component of this shape of this item. Numbers."""

    file_n: int
    item_n: int
    shape_n: int
    component_n: int
