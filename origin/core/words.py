"""Words of a text, as the catalog search compares them: runs of letters and digits, case and accents
folded. The index is filled with, and asked for, nothing but these."""

from __future__ import annotations

import re
import unicodedata

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the folded words in order; may be empty.

    Compatibility forms count as what they stand for (NFKD), marks are dropped, case is folded fully:
    "Straße É" is ["strasse", "e"].
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in decomposed if not unicodedata.category(c).startswith("M"))
    # Decomposing may bring capitals back (as in "㎒"), folding may bring marks.
    again = unicodedata.normalize("NFKD", plain.casefold())
    return _WORD.findall("".join(c for c in again if not unicodedata.category(c).startswith("M")))


def extension_word(extension: str) -> str:
    """Return the one word that stands for an extension in the index, of a form no text has.

    extension  without its dot; case does not count; "" for none
    """
    lowered = extension.lower()
    if re.fullmatch(r"[a-z0-9]*", lowered):
        return f"¤x{lowered}"
    return f"¤xµ{lowered.encode('utf-8', 'surrogatepass').hex()}"


def volume_word(storage_n: int) -> str:
    """Return the word of an entry that has a copy on this storage."""
    return f"¤v{storage_n}"


CACHED_WORDS = {True: "¤c1", False: "¤c0"}
"""The word of an entry that is (not) in the cache."""
