"""What one process at a time may do: the table of locks, and transactions that hold them.

How long is waited for one: BTS_LOCK_TIMEOUT, set on each connection by `postgres.connect`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from bts_assets.storage.failures import DatabaseError, first_line
from bts_assets.storage.table_columns import column, metadata

#: Locks, one number per thing that only one process may do at a time.
LOCK_MIGRATE: Final = 0x425453_01
LOCK_INGEST: Final = 0x425453_02
LOCK_PUBLISH: Final = 0x425453_03
LOCK_PROMOTE: Final = 0x425453_04
LOCK_SCORE: Final = 0x425453_05

_LOCK_NAMES: Final = {
    LOCK_MIGRATE: "migrating",
    LOCK_INGEST: "taking in files",
    LOCK_PUBLISH: "publishing",
    LOCK_PROMOTE: "promoting a model",
    LOCK_SCORE: "scoring forecasts",
}

#: It is there before the first revision, so that two processes do not migrate an empty database at once.
lock_table = sa.Table(
    "lock",
    metadata,
    column("lock_id", sa.Integer, "number of the lock", primary_key=True, autoincrement=False),
    column("name", sa.Text, "what its holder is doing"),
    comment="what one process at a time may do: its row is locked (FOR UPDATE) as long as that lasts",
)


@contextmanager
def transaction(engine: sa.Engine, *locks: int) -> Iterator[sa.Connection]:
    """One transaction under locks, taken in this order, that end with it, whoever is killed.

    They are rows of `bts.lock`, not advisory locks: those anyone may take who may connect, and readers could stop a
    night; these only who may update the table.

    Raises:
        DatabaseError: if another process holds the lock for too long, or the connection is lost: whether
            it had committed, a rerun reads off the tables.
    """
    try:
        with engine.begin() as connection:
            for lock in locks:
                hold(connection, lock)
            yield connection
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        reason = first_line(error.orig or error)
        doing = _LOCK_NAMES[locks[-1]] if locks else "loading a batch"
        raise DatabaseError(f"the connection to Postgres was lost while {doing}: {reason}; run it again") from None


def hold(connection: sa.Connection, lock: int) -> None:
    """Take a lock until the connection's transaction ends.

    Raises:
        DatabaseError: if another process holds it for too long.
    """
    try:
        connection.execute(_HOLD, {"lock": lock}).one()
    except OperationalError as error:
        if waited_in_vain(error):
            raise DatabaseError(f"another process is {_LOCK_NAMES[lock]}; try again when it is done") from None
        raise


_HOLD: Final = sa.text("SELECT name FROM bts.lock WHERE lock_id = :lock FOR UPDATE")


def make_locks(engine: sa.Engine) -> None:
    """Make schema `bts` and its table of locks, unless they are there; of several processes, one makes them."""
    for tries_left in (2, 1, 0):
        try:
            with engine.begin() as connection:
                _make_locks(connection)
                return
        except (IntegrityError, ProgrammingError) as error:
            if getattr(error.orig, "pgcode", None) not in _MADE_BY_ANOTHER or not tries_left:
                raise


#: unique_violation, duplicate_schema, duplicate_table: what IF NOT EXISTS meets where another process is as far.
_MADE_BY_ANOTHER: Final = ("23505", "42P06", "42P07")


def _make_locks(connection: sa.Connection) -> None:
    if connection.scalar(sa.text("SELECT to_regclass('bts.lock') IS NULL")):
        make_schema(connection, "bts")
        connection.execute(sa.schema.CreateTable(lock_table, if_not_exists=True))
        connection.execute(sa.schema.SetTableComment(lock_table))
        for column in lock_table.columns:
            connection.execute(sa.schema.SetColumnComment(column))
    rows = [{"lock_id": number, "name": name} for number, name in _LOCK_NAMES.items()]
    # Looked for first: who may migrate an existing schema need not be who may write this.
    if connection.scalar(sa.select(sa.func.count()).select_from(lock_table)) != len(rows):
        connection.execute(insert(lock_table).values(rows).on_conflict_do_nothing())


def make_schema(connection: sa.Connection, name: str) -> None:
    # Looked for first: IF NOT EXISTS asks for the right to create schemas even where there is nothing to create.
    if connection.scalar(sa.text("SELECT to_regnamespace(:name) IS NULL"), {"name": name}):
        connection.execute(sa.schema.CreateSchema(name, if_not_exists=True))


def waited_in_vain(error: OperationalError) -> bool:
    return getattr(error.orig, "pgcode", None) == "55P03"  # lock_not_available
