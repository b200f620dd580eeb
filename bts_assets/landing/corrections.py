"""Whether a file that comes under the name of an earlier one corrects it, or goes on where that one ended."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Span:
    """Times of the first and the last reading of a file; first <= last."""

    first: datetime
    last: datetime


def corrects(newer: Span, older: Span) -> bool:
    """Whether the newer file replaces the older one of its name: it covers its time, or lies within it.

    Exports often reuse a name: the newest values, or those of the last day, written over the ones before. What such a
    file's predecessor says is not in it.
    """
    covers = newer.first <= older.first and newer.last >= older.last
    return covers or drops(newer, older)


def drops(newer: Span, older: Span) -> bool:
    """Whether a file lies within the time of another and has no readings of all of it."""
    within = newer.first >= older.first and newer.last <= older.last
    return within and newer != older
