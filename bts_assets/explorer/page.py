"""What a page is before it is drawn: its template and what that is given, its queries, its picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bts_assets.contracts.errors import BtsError
from bts_assets.explorer.question import Question, Row


class NotThere(BtsError):
    """What an address asks for does not exist."""


class BadAddress(BtsError):
    """An address asks for something that means nothing."""


@dataclass(frozen=True)
class Page:
    """`questions`: what the page was made of, the main one first; `rows` of the main one are its CSV.

    `picture`: draws it as PNG, where there is something to draw.
    """

    template: str
    title: str
    given: Mapping[str, Any]
    questions: Sequence[Question]
    rows: Sequence[Row] = ()
    picture: Callable[[], bytes] | None = None
    name: str = field(default="bts")
