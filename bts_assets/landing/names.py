"""Ids that are text: of readings, hashed; of stations and parameters, names that a table gives numbers to."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

NamedKind = Literal["station", "parameter"]
#: Gives names their numbers; the same name has the same number for ever.
NumberOf = Callable[[NamedKind, Sequence[str]], Mapping[str, int]]

LONGEST_NAME: Final = 200

#: Words for "none", in any case.
_NOTHING: Final = frozenset(
    ("", "-", "--", "?", "null", "none", "nil", "nan", "na", "n/a", "#n/a", "inf", "infinity", "\\n", "unknown")
)
#: How `text` shows a byte that is no UTF-8: in another encoding the same station would be another.
_UNDECODED: Final = re.compile(r"\\x[89a-f][0-9a-f]")
_LIKE_A_NUMBER: Final = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9.,]+([eE][+-]?[0-9]+)?)")

#: Where the numbers of names lie: below zero, where no file's own id can be. Those of stations stay within the 53 bits
#: that every client holds exactly; those of parameters within the column's 32.
_SPANS: Final[dict[NamedKind, int]] = {"station": 1 << 52, "parameter": 1 << 30}


def is_nothing(text: str) -> bool:
    return text.lower() in _NOTHING


def is_undecoded(text: str) -> bool:
    """Whether a cell holds bytes that are no UTF-8."""
    return _UNDECODED.search(text) is not None


def is_name(text: str) -> bool:
    """Whether a cell could be the name of a station or parameter."""
    return (
        len(text) <= LONGEST_NAME
        and text.isprintable()
        and any(c.isalpha() for c in text)
        and not is_nothing(text)
        and not is_undecoded(text)
        and not _LIKE_A_NUMBER.fullmatch(text)
    )


def hashed_id(text: str) -> int:
    """63 bits of the SHA-256 of a reading's id that is no number."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def number_proposed(kind: NamedKind, name: str, attempt: int = 0) -> int:
    """The number of a name, below zero: of its SHA-256, so that it is the same in every home. `attempt` counts the
    numbers that other names have taken.
    """
    digest = hashlib.sha256(f"{kind} {name}".encode()).digest()
    return -1 - (int.from_bytes(digest[:8], "big") + attempt) % _SPANS[kind]


def unquoted(cell: str) -> str:
    """A cell without the blanks and quotes around it, doubled quotes within it as one."""
    text = cell.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('""', '"').strip(" \t")
    return text.strip(' \t"')
