"""Text as it is shown: what others wrote steers no terminal and turns no line around; numbers have their nouns."""

from datetime import timedelta
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


def counted(number: int, one: str, many: str = "") -> str:
    """`3 stations`, `1 station`; of one word alone the other is it with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(share: float, digits: int = 0) -> str:
    """0.123 as 12 %; what is possible but rare is not said to be 0 %."""
    return "<1 %" if 0 < share < 0.01 and not digits else f"{100 * share:.{digits}f} %"


def iso_duration(span: timedelta) -> str:
    """`P1DT2H30M`, ISO 8601, which Postgres, pandas and JavaScript's libraries read back; to the microsecond."""
    sign, days, rest = ("-" if span < timedelta(0) else ""), abs(span).days, abs(span) % timedelta(days=1)
    seconds = f"{rest.seconds % 60 + rest.microseconds / 1e6:.6f}".rstrip("0").rstrip(".")
    parts = ((rest.seconds // 3600, "H"), (rest.seconds // 60 % 60, "M"))
    clock = "".join(f"{n}{unit}" for n, unit in parts if n) + ("" if seconds == "0" else f"{seconds}S")
    return f"{sign}P{f'{days}D' if days else ''}{f'T{clock}' if clock else ''}" if days or clock else "PT0S"


def _written_out(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
