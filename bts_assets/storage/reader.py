"""A query that somebody else wrote, run so that it can only read. What it asks is its own business."""

from collections.abc import Sequence
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
            raise _refused(error) from None


def become_reader(connection: sa.Connection) -> None:
    """To the end of its transaction a session is `bts_reader`, where its role may become it."""
    if connection.scalar(_MAY_BECOME_READER, {"reader": READER}):
        connection.exec_driver_sql(f"SET LOCAL ROLE {READER}")


#: What the query itself is to blame for: syntax, names and rights, values, what a read-only transaction refuses.
_ITS_OWN_FAULT: Final = ("42", "22", "25", "0A", "21", "P0", "2F")


def _refused(error: DBAPIError) -> BtsError:
    said, code = first_line(error.orig or error), getattr(error.orig, "pgcode", None) or ""
    if code == _NOT_ONE_QUERY:
        return UsageError(f"this runs one query that gives rows, and changes nothing: {said}")
    told = None if code.startswith(_ITS_OWN_FAULT) else explained(error)
    return told or UsageError(f"the query failed: {said}")
