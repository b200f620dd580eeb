"""A query that somebody else wrote, run so that it can only read. What it asks is its own business."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from bts_assets.contracts.errors import BtsError, UsageError
from bts_assets.storage.embedded.roles import READER
from bts_assets.storage.failures import explained, first_line

# The query is opened as a cursor by the server itself, which opens one query that gives rows and nothing else: neither
# several statements nor COPY, SET or RESET. So no text of it can leave the role or the transaction that it runs in.
_OPEN: Final = """
    DO $$ DECLARE rows refcursor := 'bts_rows';
    BEGIN OPEN rows NO SCROLL FOR EXECUTE current_setting('bts.query'); END $$
"""
_NOT_ONE_QUERY: Final = "42P11"  # invalid_cursor_definition
_MAY_BECOME_READER: Final = sa.text(
    "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :reader AND rolname <> current_user"
    " AND pg_has_role(oid, 'MEMBER') AND has_schema_privilege(oid, to_regnamespace('bts')::oid, 'USAGE'))"
)


def read_rows(engine: sa.Engine, query: str) -> tuple[list[str], Sequence[sa.Row[Any]]]:
    """Names and rows of a query, in a read-only transaction; as `bts_reader` where the engine's role may become it.

    Raises:
        UsageError: what Postgres says of the query, in one line.
        DatabaseError: if it cannot be asked.
    """
    with engine.connect() as connection:
        become_reader(connection)
        connection.execute(sa.text("SELECT set_config('bts.query', :query, true)"), {"query": query})
        try:
            connection.exec_driver_sql(_OPEN)
            result = connection.exec_driver_sql("FETCH ALL FROM bts_rows")
            return list(result.keys()), result.all()
        except DBAPIError as error:
            connection.rollback()
            raise _refused(error, query, lambda: connection.exec_driver_sql(_READABLE).scalars().all()) from None


def become_reader(connection: sa.Connection) -> None:
    """To the end of its transaction a session is `bts_reader`, where its role may become it."""
    if connection.scalar(_MAY_BECOME_READER, {"reader": READER}):
        connection.exec_driver_sql(f"SET LOCAL ROLE {READER}")


#: What the query itself is to blame for: syntax, names and rights, values, what a read-only transaction refuses.
_ITS_OWN_FAULT: Final = ("42", "22", "25", "0A", "21", "P0", "2F")


_UNDEFINED_TABLE: Final = "42P01"
_READABLE: Final = """
    SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('bts') AND relkind = 'v'
"""


def _refused(error: DBAPIError, query: str, views: Callable[[], Sequence[str]]) -> BtsError:
    said, code = first_line(error.orig or error), getattr(error.orig, "pgcode", None) or ""
    if code == _NOT_ONE_QUERY:
        if "multi-query" in said:
            said = "leave out what follows the first semicolon"
        return UsageError(f"this runs one query that gives rows, and changes nothing: {said}")
    told = None if code.startswith(_ITS_OWN_FAULT) else explained(error)
    return told or UsageError(f"the query failed{_place(error, query)}: {said}{_hint(error, code, views)}")


def _place(error: DBAPIError, query: str) -> str:
    """Where in the query Postgres stopped, where it says so."""
    at = getattr(getattr(error.orig, "diag", None), "internal_position", None)
    if at is None:
        return ""
    before = query[: int(at) - 1]
    line, column = before.count("\n") + 1, int(at) - 1 - (before.rfind("\n") + 1) + 1
    return f" at character {column}" if line == 1 else f" at line {line}, character {column}"


def _hint(error: DBAPIError, code: str, views: Callable[[], Sequence[str]]) -> str:
    """What Postgres advises; of a relation that is not there, the view with the nearest name."""
    hint = getattr(getattr(error.orig, "diag", None), "message_hint", None)
    if code == _UNDEFINED_TABLE and not hint:
        asked = str(error.orig).partition('"')[2].partition('"')[0].rpartition(".")[2]
        near = get_close_matches(asked, views(), n=1)
        hint = f"did you mean bts.{near[0]}?" if near else None
    return f"; {' '.join(hint.split())}" if hint else ""
