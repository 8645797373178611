"""Paths of Files on a Storage: their normal form, and how a query's path selects among them. Pure.

A stored path is a chain of segments joined by "/", without one in front or behind. `\\` is an
ordinary character; "/" alone divides, on every system.

A query's path selects by its segments P against a stored path's segments F. F can match only
when its first len(P) segments match P one by one; with d = len(F) - len(P):

    mode   when                                          matches       with recursive
    DIR    empty, no segment left, or ends / /. /..      d = 1         d >= 1
    EXACT  else                                          d = 0         d >= 0

`PathPattern` carries that out three ways which must agree: `matches` for one path in memory,
`key_range` for an index, and `regex` for a database that can test a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

MAX_SEGMENT_BYTES = 255  # what the file systems at hand take as one name
MAX_PATH_BYTES = 4096
MAX_WILDCARD_SEGMENTS = 64  # more is no question a person asks; it bounds the work of one row


class PathError(ValueError):
    """The text cannot be the path of a File. The message says why, in words fit for a client."""


def segments(path: str) -> tuple[str, ...]:
    """Return the segments of `path` with empty ones, `.` and `..` resolved; `..` at the root is dropped."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return tuple(kept)


def lookup_form(path: str) -> str:
    """Return the stored path that `path` names when a File is looked up. Never fails; "" names none."""
    return "/".join(segments(path))


def normal_form(path: str) -> str:
    """Return the path under which a File made with `path` is stored.

    Raises PathError for `..` above the root, a path without segments, a control character
    (U+0000-001F, U+007F), a segment over 255 bytes, a path over 4096 bytes, and text that UTF-8
    cannot carry (lone surrogates).
    """
    depth = 0
    for segment in path.split("/"):
        if segment == "..":
            depth -= 1
            if depth < 0:
                raise PathError("the path leads above the root of the storage")
        elif segment not in ("", "."):
            depth += 1
    normal = lookup_form(path)
    if not normal:
        raise PathError("the path names no file")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in normal):
        raise PathError("the path holds a control character")
    try:
        encoded = normal.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PathError("the path is not valid Unicode") from error
    if len(encoded) > MAX_PATH_BYTES:
        raise PathError(f"the path is longer than {MAX_PATH_BYTES} bytes")
    if any(len(segment) > MAX_SEGMENT_BYTES for segment in encoded.split(b"/")):
        raise PathError(f"a segment of the path is longer than {MAX_SEGMENT_BYTES} bytes")
    return normal


def parents(path: str) -> tuple[str, ...]:
    """Return the proper ancestors of a stored path, outermost first: "a/b/c" gives ("a", "a/b")."""
    parts = path.split("/")
    return tuple("/".join(parts[:n]) for n in range(1, len(parts)))


def file_name(path: str) -> str:
    """Return the last segment of a stored path."""
    return path.rpartition("/")[2]


def extension(path: str) -> str:
    """Return what follows the last dot of the last segment; "" without one."""
    return file_name(path).rpartition(".")[2] if "." in file_name(path) else ""


def fold(text: str) -> str:
    """Fold case character by character, so that a character stays one character (`?` counts them).

    Unicode's simple folding: where full folding would give several characters ("ß" to "ss"),
    the lower-case form, or failing that the character itself, is taken.
    """
    if text.isascii():
        return text.lower()
    return "".join(_fold_one(character) for character in text)


@lru_cache(maxsize=4096)
def _fold_one(character: str) -> str:
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character


class Mode(Enum):
    DIR = "dir"
    EXACT = "exact"


class Wild(Enum):
    ONE = "?"
    MANY = "*"


Token = str | Wild


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A query's path, read once.

    mode        see the head of this file
    literal     the leading segments that hold no wildcard, unescaped; folded when `ignore_case`
    wild        the segments from the first wildcard on, each a tuple of tokens: a str stands for
                itself, `ONE` for one character, `MANY` for any number within the segment
    recursive   also what lies deeper
    """

    mode: Mode
    literal: tuple[str, ...]
    wild: tuple[tuple[Token, ...], ...]
    recursive: bool
    ignore_case: bool

    @classmethod
    def parse(
        cls, path: str, *, recursive: bool = True, wildcard: bool = False, ignore_case: bool = False
    ) -> PathPattern:
        """Read a query's path. Raises PathError for more than 64 segments with wildcards in play."""
        parts = segments(path)
        last = path.rpartition("/")[2]
        # "foo/." and "foo/.." end in a directory as much as "foo/" does; a bare "." or ".." has no
        # segment left, and "a/.." none either.
        directory = not parts or last in ("", ".", "..")
        if ignore_case:
            parts = tuple(fold(part) for part in parts)
        literal: tuple[str, ...] = parts
        wild: tuple[tuple[Token, ...], ...] = ()
        if wildcard:
            tokens = [_tokens(part) for part in parts]
            plain = 0
            while plain < len(tokens) and all(isinstance(token, str) for token in tokens[plain]):
                plain += 1
            literal = tuple("".join(str(token) for token in part) for part in tokens[:plain])
            wild = tuple(tokens[plain:])
            if len(wild) > MAX_WILDCARD_SEGMENTS:
                raise PathError("the path holds too many segments after its first wildcard")
        mode = Mode.DIR if directory else Mode.EXACT
        return cls(mode, literal, wild, recursive, ignore_case)

    @property
    def everything(self) -> bool:
        """Whether every stored path matches, so that no condition is needed."""
        return self.mode is Mode.DIR and self.recursive and not self.literal and not self.wild

    def matches(self, stored: str) -> bool:
        """Whether a stored path is selected."""
        have = (fold(stored) if self.ignore_case else stored).split("/")
        depth = len(self.literal) + len(self.wild)
        beyond = len(have) - depth
        least = 1 if self.mode is Mode.DIR else 0
        if beyond < least or (beyond > least and not self.recursive):
            return False
        if tuple(have[: len(self.literal)]) != self.literal:
            return False
        return all(
            _segment_matches(tokens, segment)
            for tokens, segment in zip(self.wild, have[len(self.literal) : depth], strict=True)
        )

    def key_range(self) -> tuple[str, str | None, str | None]:
        """Return (equal, low, high): what an index over stored paths has to give.

        Candidates are the path `equal` itself ("" for none) and all with low < path < high by code
        point; None for both when the range is unbounded. Paths outside are never selected; those
        inside may still fail `matches`. With `ignore_case` the index must be over folded paths.
        """
        if not self.literal:
            return "", None, None
        prefix = "/".join(self.literal)
        equal = prefix if self.mode is Mode.EXACT and not self.wild else ""
        if equal and not self.recursive:
            return equal, "", ""  # nothing lies between "" and ""
        return equal, prefix + "/", prefix + "0"  # "0" is the code point after "/"

    def exact_range(self) -> bool:
        """Whether `key_range` alone decides, so that no row needs a second test."""
        return not self.wild and (self.recursive or self.mode is Mode.EXACT)

    def regex(self) -> str:
        """Return a regular expression, to be searched for in a stored (or folded) path.

        Each `*` is bound, by `(?>…)`, to the first place where what follows it fits, which decides a glob
        without going back: no client can make one row cost exponential time.
        """
        parts = [re.escape(segment) for segment in self.literal]
        parts += [_segment_regex(tokens) for tokens in self.wild]
        body = "/".join(parts)
        lead = f"{body}/" if parts else ""
        if self.mode is Mode.DIR:
            return rf"\A{lead}[^/]" if self.recursive else rf"\A{lead}[^/]+\Z"
        return rf"\A{body}(/|\Z)" if self.recursive else rf"\A{body}\Z"


def _tokens(segment: str) -> tuple[Token, ...]:
    """Split one segment of a wildcard path. A run of `*` is one; `\\x` is x; a last lone `\\` is itself."""
    tokens: list[Token] = []
    literal: list[str] = []

    def flush() -> None:
        if literal:
            tokens.append("".join(literal))
            literal.clear()

    position = 0
    while position < len(segment):
        character = segment[position]
        if character == "\\" and position + 1 < len(segment):
            position += 1
            literal.append(segment[position])
        elif character == "?":
            flush()
            tokens.append(Wild.ONE)
        elif character == "*":
            flush()
            if not tokens or tokens[-1] is not Wild.MANY:
                tokens.append(Wild.MANY)
        else:
            literal.append(character)
        position += 1
    flush()
    return tuple(tokens)


def _segment_regex(tokens: tuple[Token, ...]) -> str:
    chunks: list[str] = [""]
    for token in tokens:
        if token is Wild.MANY:
            chunks.append("")
        else:
            chunks[-1] += "[^/]" if token is Wild.ONE else re.escape(str(token))
    if len(chunks) == 1:
        return chunks[0]
    first, *middle, last = chunks
    # All chunks but the last stick to their first fit; the last one must reach the segment's end, and
    # has a fixed length, so greedy `[^/]*` finds it in at most one pass.
    return first + "".join(f"(?>[^/]*?{chunk})" for chunk in middle) + f"[^/]*{last}(?=/|\\Z)"


@lru_cache(maxsize=256)
def _compiled(tokens: tuple[Token, ...]) -> re.Pattern[str]:
    return re.compile(_segment_regex(tokens), re.DOTALL)


def _segment_matches(tokens: tuple[Token, ...], segment: str) -> bool:
    return _compiled(tokens).fullmatch(segment) is not None
