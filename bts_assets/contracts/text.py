"""Text that others wrote, made fit to be shown: nothing in it steers a terminal or turns a line around."""

from typing import Final
from unicodedata import category

#: Characters that turn the direction of what follows them.
_TURNING: Final = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str, kept: str = "\n\t") -> str:
    """The text with control characters written out, as \\x1b, but for those that are `kept`."""
    if text.isprintable():
        return text
    return "".join(
        _written_out(c) if c not in kept and (category(c) in ("Cc", "Cs") or c in _TURNING) else c for c in text
    )


def _written_out(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
