"""One query of a page: asked in a session that only reads, and shown as text that can be pasted into any client."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

Row = Mapping[str, Any]

#: A parameter of ours; neither a cast (::) nor a part of a word.
_PLACE: Final = re.compile(r"(?<![:\w]):(\w+)")


@dataclass(frozen=True)
class Question:
    """A query in the words of `bts.` views, and its values; `about` says what it gives, in a line."""

    about: str
    sql: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, connection: sa.Connection) -> list[Row]:
        return [dict(row) for row in connection.execute(sa.text(self.sql), dict(self.values)).mappings()]

    def one(self, connection: sa.Connection) -> Row | None:
        rows = self.ask(connection)
        return rows[0] if rows else None

    def columns(self, connection: sa.Connection) -> list[str]:
        """The names of the columns, also where there are no rows."""
        return list(connection.execute(sa.text(self.sql), dict(self.values)).keys())

    def as_text(self) -> str:
        """The query with its values written in, and a comment that says what it is."""
        lines = self.sql.strip("\n").splitlines()
        margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        body = "\n".join(line[margin:].rstrip() for line in lines)
        return f"-- {self.about}\n{_PLACE.sub(lambda match: literal(self.values[match[1]]), body)};\n"


def literal(value: Any) -> str:
    """A value as SQL writes it.

    Raises:
        TypeError: if it is of a kind that no page asks with.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return f"timestamptz '{value.isoformat()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Sequence):
        return f"ARRAY[{', '.join(literal(v) for v in value)}]" if value else "'{}'"
    raise TypeError(f"no literal of {type(value).__name__}")
