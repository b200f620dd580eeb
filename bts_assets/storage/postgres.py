"""The database itself: connecting, migrating, applying views, locking. What rests in it is its neighbours' business."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ArgumentError, DBAPIError, InternalError, OperationalError

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.grid import Grid, format_duration
from bts_assets.storage import tables
from bts_assets.storage.catalogues import keep_catalogue
from bts_assets.storage.shipped import shipped

#: Advisory locks, one number per thing that only one process may do at a time.
LOCK_MIGRATE: Final = 0x425453_01
LOCK_INGEST: Final = 0x425453_02
LOCK_PUBLISH: Final = 0x425453_03
LOCK_PROMOTE: Final = 0x425453_04

_LOCK_NAMES: Final = {
    LOCK_MIGRATE: "migrating",
    LOCK_INGEST: "taking in files",
    LOCK_PUBLISH: "publishing",
    LOCK_PROMOTE: "promoting a model",
}


class DatabaseError(BtsError):
    """The database cannot be reached or used as it is."""


def sqlalchemy_url(url: str) -> str:
    """A libpq URL as SQLAlchemy wants it: its default driver for `postgresql://` is not the one we carry."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise DatabaseError("BTS_DATABASE_URL is not a URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg2"):
        raise DatabaseError(f"BTS_DATABASE_URL begins with {scheme}://; it must be a postgresql:// URL")
    return f"postgresql+psycopg2://{rest}"


def connect(url: str, lock_timeout: timedelta) -> sa.Engine:
    """An engine whose sessions speak UTC and never wait for a lock longer than `lock_timeout`.

    Raises:
        DatabaseError: if nothing answers at the URL; the password is not in the message.
    """
    options = f"-c timezone=UTC -c lock_timeout={math.ceil(lock_timeout.total_seconds() * 1000)}"
    try:
        engine = sa.create_engine(
            sqlalchemy_url(url), connect_args={"options": options, "application_name": "bts"}, pool_pre_ping=True
        )
    except (ArgumentError, ValueError):  # what they say may hold the password
        raise DatabaseError(
            "BTS_DATABASE_URL cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE,"
            " with other characters than letters and digits percent-encoded"
        ) from None
    try:
        with engine.connect():
            return engine
    except OperationalError as error:
        # A password can stand in the query too, and what Postgres says may repeat the first line per address tried.
        shown = engine.url.set(query={}).render_as_string(hide_password=True)
        reason = str(error.orig).strip().splitlines()[0]
        raise DatabaseError(f"no Postgres at {shown}: {reason}") from None


@contextmanager
def transaction(engine: sa.Engine, *locks: int) -> Iterator[sa.Connection]:
    """One transaction under advisory locks, taken in this order, that end with it, whoever is killed.

    Raises:
        DatabaseError: if another process holds the lock for too long, or the connection is lost: whether
            it had committed, a rerun reads off the tables.
    """
    try:
        with engine.begin() as connection:
            for lock in locks:
                try:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
                except OperationalError as error:
                    if _waited_in_vain(error):
                        busy = f"another process is {_LOCK_NAMES[lock]}; try again when it is done"
                        raise DatabaseError(busy) from None
                    raise
            yield connection
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        reason = str(error.orig).strip().splitlines()[0]
        raise DatabaseError(
            f"the connection to Postgres was lost while {_LOCK_NAMES[locks[-1]]}: {reason}; run it again"
        ) from None


def migrate(engine: sa.Engine, catalogue: Catalogue, revision: str = "head") -> None:
    """Bring schema `bts` to `revision`, then apply the views of sql/views and the catalogue. Repeating it is harmless.

    All in one transaction: whoever is killed leaves everything as it was, and no reader finds a view missing. Whoever
    comes while it waits for a reader waits behind it: so it waits briefly, lets them through, and tries again until the
    engine's lock timeout is over.

    Raises:
        DatabaseError: if another process migrates, a reader holds what is to be changed for too long, or views of
            others stand on ours.
    """
    for _ in _tries(engine):
        try:
            with transaction(engine, LOCK_MIGRATE) as connection:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_BRIEFLY_MS}")
                _change(connection, catalogue, revision)
            _drop_moved_partitions(engine)
            return
        except OperationalError as error:
            if not _waited_in_vain(error):
                raise
    raise DatabaseError(
        "the schema cannot be changed while another session reads it; end that session, or try again later"
    )


#: How long a migration waits for one reader, and every other reader behind it, milliseconds; and lets them through.
_BRIEFLY_MS: Final = 400


def _change(connection: sa.Connection, catalogue: Catalogue, revision: str) -> None:
    for schema in ("dagster", "mlflow"):  # theirs: what they keep beside us, should they keep it here
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    _drop_views(connection)
    _move(connection, revision)
    if revision == "head":
        apply_views(connection)
        apply_catalogue(connection, catalogue)
    else:
        connection.exec_driver_sql("COMMENT ON SCHEMA bts IS NULL")  # so that the next start migrates


def is_current(engine: sa.Engine, catalogue: Catalogue) -> bool:
    """Whether the schema, the views and the catalogue are those of this code, so that a start need not migrate."""
    with engine.connect() as connection:
        stamp = connection.scalar(sa.text("SELECT obj_description(to_regnamespace('bts'))"))
    return bool(stamp == _stamp(catalogue))


def apply_views(connection: sa.Connection) -> None:
    """(Re)create every view and function of sql/views, in order of file name."""
    for file in sorted((shipped("sql") / "views").glob("*.sql")):
        connection.exec_driver_sql(file.read_text(encoding="utf-8").replace("%", "%%"))


def apply_catalogue(connection: sa.Connection, catalogue: Catalogue) -> None:
    """Write the catalogue into `bts.parameter`; parameters met in readings alone stay as they are."""
    rows = [parameter_row(parameter) for parameter in catalogue]
    statement = insert(tables.parameter).values(rows)
    columns = {c.name: statement.excluded[c.name] for c in tables.parameter.columns if not c.primary_key}
    connection.execute(statement.on_conflict_do_update(index_elements=["parameter_id"], set_=columns))
    # A known parameter that has left the catalogue is from now on an unknown one.
    gone = tables.parameter.c.parameter_id.not_in([row["parameter_id"] for row in rows])
    connection.execute(sa.update(tables.parameter).where(gone).values(known=False))
    keep_catalogue(connection, catalogue)
    connection.exec_driver_sql(f"COMMENT ON SCHEMA bts IS '{_stamp(catalogue)}'")


def parameter_row(parameter: object) -> dict[str, object]:
    """A catalogue entry as a row: an open end of the valid range is null."""
    row = {name: getattr(parameter, name) for name in [c.name for c in tables.parameter.columns]}
    return {k: list(v) if isinstance(v, tuple) else None if v in (-math.inf, math.inf) else v for k, v in row.items()}


def claim_grid(engine: sa.Engine, grid: Grid) -> None:
    """Fix the grid's step at first use; refuse another one ever after.

    Raises:
        DatabaseError: if observations of another step rest here.
    """
    seconds = int(grid.step.total_seconds())
    with engine.begin() as connection:
        connection.execute(insert(tables.installation).values(step_seconds=seconds).on_conflict_do_nothing())
        fixed = connection.scalar(sa.select(tables.installation.c.step_seconds))
        if fixed != seconds and connection.scalar(sa.select(sa.func.count()).select_from(tables.observed_day)) == 0:
            # Nothing stands on it yet: whoever looked before the first file came has decided nothing.
            connection.execute(sa.update(tables.installation).values(step_seconds=seconds))
            fixed = seconds
    if fixed != seconds:
        held = format_duration(timedelta(seconds=fixed or 0))
        raise DatabaseError(
            f"BTS_STEP={format_duration(grid.step)}, but the observations here stand on a grid of {held}: "
            f"set BTS_STEP={held}, or another BTS_HOME for the new grid"
        )


def _tries(engine: sa.Engine) -> Iterator[None]:
    """One try, and more of them until the engine's lock timeout is over, with a pause before each."""
    with engine.connect() as connection:
        patience = connection.scalar(sa.text("SELECT extract(epoch FROM current_setting('lock_timeout')::interval)"))
    until = time.monotonic() + float(patience or 0)
    yield
    while time.monotonic() < until:
        time.sleep(_BRIEFLY_MS / 1000)
        yield


def _waited_in_vain(error: OperationalError) -> bool:
    return getattr(error.orig, "pgcode", None) == "55P03"  # lock_not_available


def _stamp(catalogue: Catalogue) -> str:
    import hashlib

    digest = hashlib.sha256(catalogue.digest.encode())
    for folder in (shipped("migrations") / "versions", shipped("sql") / "views"):
        for file in sorted(folder.glob("*.*")):
            digest.update(file.name.encode() + file.read_bytes())
    files = (shipped("sql") / "views").glob("*.sql")
    created = re.findall(r"CREATE (?:VIEW|FUNCTION) bts\.(\w+)", "".join(f.read_text(encoding="utf-8") for f in files))
    return f"BTS forecasts: {digest.hexdigest()}{_NAMES}{', '.join(sorted(created))}"


#: What follows it in the schema's comment are the views and functions that are ours to drop.
_NAMES: Final = "; views and functions: "


def _move(connection: sa.Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(shipped("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    if revision == "base" or revision.startswith("-"):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _drop_moved_partitions(engine: sa.Engine) -> None:
    """Drop what revision 0005 moved and left: one by one, as a transaction cannot hold the locks of years of them."""
    parts = "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = to_regclass('bts.forecast_partitioned')"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for partition in connection.exec_driver_sql(parts).scalars().all():
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {partition}")
        connection.exec_driver_sql("DROP TABLE IF EXISTS bts.forecast_partitioned")


def _drop_views(connection: sa.Connection) -> None:
    """Views stand on columns that a revision may change: they go first and come back after.

    Raises:
        DatabaseError: naming what was built on them by others; it is not ours to drop.
    """
    stamp = connection.scalar(sa.text("SELECT obj_description(to_regnamespace('bts'))")) or ""
    ours = {"ours": stamp.partition(_NAMES)[2].split(", ")}
    views = (
        "SELECT format('%I.%I', schemaname, viewname) FROM pg_views WHERE schemaname = 'bts' AND viewname = ANY(:ours)"
    )
    functions = (
        "SELECT p.oid::regprocedure::text FROM pg_proc p"
        " WHERE p.pronamespace = to_regnamespace('bts') AND p.proname = ANY(:ours)"
    )
    for kind, query in (("VIEW", views), ("FUNCTION", functions)):
        names = connection.execute(sa.text(query), ours).scalars().all()
        if not names:
            continue
        try:
            # All in one statement: they may stand on each other, though nothing else may stand on them.
            connection.exec_driver_sql(f"DROP {kind} {', '.join(names)}".replace("%", "%%"))
        except InternalError as error:
            if getattr(error.orig, "pgcode", None) != "2BP01":  # dependent_objects_still_exist
                raise
            detail = str(getattr(error.orig, "diag").message_detail).splitlines()  # noqa: B009 - psycopg2's own
            raise DatabaseError(
                f"the schema is to be upgraded, but others built on its views: {'; '.join(detail)}."
                " Drop those, upgrade with bts doctor, and create them again"
            ) from None
