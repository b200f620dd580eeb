"""Where Dagster and MLflow keep their tables: the URL that leads into their schemas, looked at before they get it."""

from collections.abc import Sequence
from contextlib import closing
from functools import cache
from typing import Any, Final

import psycopg2

from bts_assets.storage.failures import DatabaseError, explained
from bts_assets.storage.postgres import with_options, without_secrets

#: Where things are made, and the role that a schema belongs to if it is another one than ours and we may act as it.
_PLACE: Final = """
    SELECT current_schema()::text, (
        SELECT rolname::text FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner
        WHERE nspname = %s AND rolname <> current_user AND pg_has_role(nspowner, 'MEMBER'))
"""
_DIRECT: Final = "set BTS_DIRECT_DATABASE_URL to the Postgres behind it (docs/operations.md)"


@cache
def url_into_schema(url: str, schema: str) -> str:
    """SQLAlchemy's URL of the same database seen from another schema; Dagster's and MLflow's tables must not meet ours.

    On a server with roles but one URL for nights, what is made there belongs to the role whose schema it is.

    Raises:
        DatabaseError: if what is made over it would come into another schema: a connection pool refuses settings of a
            session, or drops them without a word.
    """
    led = with_options(url, search_path=schema)
    here, owner = _asked(led, _PLACE, schema) or (None, None)
    if owner is not None:
        led = with_options(url, search_path=schema, role=owner)
        here, _ = _asked(led, _PLACE, schema) or (None, None)
    if here == schema:
        return led
    place = without_secrets(url)
    if here is not None:
        raise DatabaseError(
            f"tables of {schema} would come into schema {here} of {place}: a connection pool there drops the settings"
            f" of a session; {_DIRECT}"
        )
    if owner is None and _asked(led, "SELECT current_setting('search_path') = %s", schema) == (True,):
        raise DatabaseError(f"the role of {place} may not use schema {schema}: grant it, or the role that owns it")
    raise DatabaseError(
        f"tables of {schema} cannot be led into its schema at {place}: a connection pool answers there; {_DIRECT}"
    )


def refuse_pool(url: str, what: str) -> None:
    """Refuse `what` through a pool: it sets at its start what must hold for its whole session.

    Raises:
        DatabaseError: if settings at the start of a session are refused or dropped there.
    """
    led = with_options(url, **{"bts.session": "ours"})
    if _asked(led, "SELECT current_setting(%s, true)", "bts.session") != ("ours",):
        raise DatabaseError(
            f"{what} needs a session of its own, and a pool answers at {without_secrets(url)}: {_DIRECT}"
        )


def _asked(url: str, query: str, *values: str) -> Sequence[Any] | None:
    """The row of a query; None: a pool refuses sessions that begin as the URL has it."""
    plain = url.replace("postgresql+psycopg2://", "postgresql://", 1)
    try:
        with closing(psycopg2.connect(plain)) as connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            row: Sequence[Any] | None = cursor.fetchone()
            return row
    except psycopg2.OperationalError as error:
        if "unsupported startup parameter" in str(error):
            return None
        raise explained(error) or error from None
