"""Pages of a long list by key: an address names the last row that was seen, so page 400 costs what page 1 does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DataError

from bts_assets.explorer.page import BadAddress
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest

#: Rows of a page.
ROWS: Final = 25
#: Rows of a file.
MOST: Final = 10_000
_BETWEEN: Final = "~"
_NO_PLACE: Final = "the place in the list is none that this page gives: begin at its first page"


@dataclass(frozen=True)
class Key:
    """The order of a list: expressions in SQL with their types, all ascending, the last of them unique."""

    columns: tuple[tuple[str, str], ...]

    def order(self, backwards: bool) -> str:
        return ", ".join(f"{name}{' DESC' if backwards else ''}" for name, _ in self.columns)

    def beyond(self, backwards: bool) -> str:
        names = ", ".join(name for name, _ in self.columns)
        places = ", ".join(f"CAST(:key{i} AS {kind})" for i, (_, kind) in enumerate(self.columns))
        return f"({names}) {'<' if backwards else '>'} ({places})"

    def of(self, row: Row) -> str:
        return _BETWEEN.join(str(row[name]) for name, _ in self.columns)

    def values(self, told: str) -> dict[str, str]:
        """The parameters of `beyond`.

        Raises:
            BadAddress: if there are not as many parts as columns.
        """
        parts = told.split(_BETWEEN)
        if len(parts) != len(self.columns):
            raise BadAddress(_NO_PLACE)
        return {f"key{i}": part for i, part in enumerate(parts)}


@dataclass(frozen=True)
class Slice:
    """One page of a list, and the keys of those beside it; None: there is none."""

    rows: Sequence[Row]
    before: str | None
    after: str | None


def rows_asked(request: PageRequest, shown: int) -> int:
    """How many rows of a table are asked for: those that a page shows, or all up to `MOST` as CSV or SQL."""
    return MOST if request.asked.get("format") in ("csv", "sql") else shown


def sliced(
    request: PageRequest, key: Key, question: Callable[[str, str], Question], rows: int = ROWS
) -> tuple[Slice, Question]:
    """The page that is asked for by `after` or `before`. `question` makes the query of a condition and an order.

    As CSV or SQL it is the whole list from there on, up to `MOST`.

    Raises:
        BadAddress: if the key is none.
    """
    rows = rows_asked(request, rows)
    before, after = request.text("before"), request.text("after")
    backwards = before is not None
    told = before or after
    condition = key.beyond(backwards) if told else "true"
    asked = question(condition, f"{key.order(backwards)} LIMIT {rows + 1}")
    asked = Question(asked.about, asked.sql, {**asked.values, **(key.values(told) if told else {})})
    try:
        found = asked.ask(request.connection)
    except DataError:  # of the key's parts: everything else was read before
        raise BadAddress(_NO_PLACE) from None
    more, found = len(found) > rows, found[:rows]
    if backwards:
        found.reverse()
    first, last = (key.of(found[0]), key.of(found[-1])) if found else (None, None)
    has_before = more if backwards else told is not None
    has_after = True if backwards else more
    return Slice(found, first if has_before else None, last if has_after else None), asked
