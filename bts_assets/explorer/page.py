"""What a page is before it is drawn: its template and what that is given, its queries, its picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bts_assets.contracts.errors import BtsError
from bts_assets.explorer.question import Question, Row


class NotThere(BtsError):
    """What an address asks for does not exist."""


class BadAddress(BtsError):
    """An address asks for something that means nothing."""


@dataclass(frozen=True)
class Table:
    """One of several tables of a page: by its name it can be had alone, as CSV or as the SQL that gives it."""

    question: Question
    rows: Sequence[Row]


@dataclass(frozen=True)
class Page:
    """`questions`: what the page was made of, the main one first; `rows` of the main one are its CSV.

    `tables`: those of a page that has several, by the name that an address asks for them with (`table=...`).
    `picture`: draws it as PNG, where there is something to draw.
    """

    template: str
    title: str
    given: Mapping[str, Any]
    questions: Sequence[Question]
    rows: Sequence[Row] = ()
    picture: Callable[[], bytes] | None = None
    name: str = field(default="bts")
    tables: Mapping[str, Table] = field(default_factory=dict)

    def only(self, table: str) -> "Page":
        """The page as if it had nothing but one of its tables.

        Raises:
            NotThere: if it has no such table.
        """
        found = self.tables.get(table)
        if found is None:
            has = f"it has {', '.join(self.tables)}" if self.tables else "it has one, without a name"
            raise NotThere(f"this page has no table {table}: {has}")
        return replace(self, questions=[found.question], rows=found.rows, picture=None, name=f"{self.name}-{table}")
