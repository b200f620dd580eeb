"""Whether a file that comes under the name of an earlier one corrects it, or says something else beside it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class Span:
    """Times of the first and the last reading of a file, first <= last, and the UTC days that it has readings of."""

    first: datetime
    last: datetime
    days: Collection[date] = ()


def corrects(newer: Span, older: Span) -> bool:
    """Whether the newer file replaces the older one of its name: it begins where that one begins, or covers it.

    Exports often reuse a name: the newest values, or those of the last day, written over the ones before. What such a
    file's predecessor says is not in it. One reading of a clock that is far off covers nothing: all days are needed.
    """
    covers = newer.first <= older.first and newer.last >= older.last and set(newer.days) >= set(older.days)
    return covers or newer.first == older.first
