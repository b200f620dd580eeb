"""The database itself: connecting, migrating, applying views. Locks are in `locks.py`, what is stored elsewhere."""

import math
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg2
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ArgumentError, DBAPIError, InternalError, OperationalError

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import DiskError
from bts_assets.contracts.grid import Grid, format_duration
from bts_assets.storage import tables
from bts_assets.storage.catalogues import keep_catalogue
from bts_assets.storage.failures import DatabaseError as DatabaseError
from bts_assets.storage.failures import explained, first_line
from bts_assets.storage.locks import LOCK_MIGRATE, make_locks, make_schema, transaction, waited_in_vain
from bts_assets.storage.schema_state import NAMES, stamp, standing
from bts_assets.storage.schema_state import is_current as is_current
from bts_assets.storage.sessions import asked_settings, hold_in_transactions
from bts_assets.storage.shipped import shipped

#: The oldest server that nights are tried on (docs/reliability.md), as Postgres numbers versions.
LEAST_VERSION: Final = 140_000
#: How long a host that does not answer is waited for (seconds), unless the URL says.
_CONNECT_SECONDS: Final = 10


def sqlalchemy_url(url: str) -> str:
    """A libpq URL as SQLAlchemy wants it: its default driver for `postgresql://` is not the one we carry."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise DatabaseError("BTS_DATABASE_URL is not a URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg2"):
        raise DatabaseError(f"BTS_DATABASE_URL begins with {scheme}://; it must be a postgresql:// URL")
    return f"postgresql+psycopg2://{rest}"


def with_options(url: str, **options: str) -> str:
    """A URL for SQLAlchemy whose sessions begin with these settings, after those that the URL asks for itself.

    Raises:
        DatabaseError: if it cannot be read; the password is not in the message.
    """
    try:
        parts = sa.make_url(sqlalchemy_url(url))
        given = parts.query.get("options", ())
        asked = [given] if isinstance(given, str) else [*given]
        # In one `options`: libpq takes the last of several, and its driver refuses two.
        merged = " ".join([*asked, *(f"-c {name}={value}" for name, value in options.items())])
        rendered = parts.update_query_dict({"options": merged}).render_as_string(hide_password=False)
        # A blank as libpq reads it too, to which a plus is a plus.
        place, _, query = rendered.partition("?")
        return f"{place}?{query.replace('+', '%20')}"
    except (ArgumentError, ValueError):  # what they say may hold the password
        raise DatabaseError(
            "BTS_DATABASE_URL cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE,"
            " with other characters than letters and digits percent-encoded"
        ) from None


def masked(value: str) -> str:
    """A value to be shown, without the password that it may hold as a URL."""
    if value.startswith("postgres"):
        return without_secrets(value)
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", value)


def without_secrets(url: str) -> str:
    """A URL of Postgres to be shown: a password can stand in its query too."""
    return sa.make_url(sqlalchemy_url(url)).set(query={}, drivername="postgresql").render_as_string(hide_password=True)


def connect(url: str, lock_timeout: timedelta, *, read_only: bool = False) -> sa.Engine:
    """An engine whose transactions speak UTC and never wait for a lock longer than `lock_timeout`, through a pool too.

    Raises:
        DatabaseError: if nothing answers at the URL, it is too old, or its encoding cannot hold every text; no password
            is in the message.
    """
    arguments: dict[str, Any] = {"application_name": "bts"}
    full = sa.make_url(with_options(url))
    if "connect_timeout" not in full.query:
        arguments["connect_timeout"] = _CONNECT_SECONDS
    engine = sa.create_engine(full.difference_update_query(["options"]), connect_args=arguments, pool_pre_ping=True)
    settings = {"timezone": "UTC", "lock_timeout": str(math.ceil(lock_timeout.total_seconds() * 1000))}
    hold_in_transactions(engine, asked_settings(str(full.query.get("options", ""))) | settings, read_only=read_only)
    try:
        with engine.connect() as connection:
            encoding = connection.scalar(sa.text("SELECT current_setting('server_encoding')"))
            version = connection.connection.dbapi_connection.server_version  # type: ignore[union-attr]
    except (DBAPIError, psycopg2.Error, UnicodeError) as error:
        told = error.orig if isinstance(error, DBAPIError) else error
        means = explained(error)
        if getattr(told, "pgcode", None) or isinstance(means, DiskError):  # it answers, and refuses
            raise means or DatabaseError(
                f"the server refuses the options of the URL: {first_line(told or error)}"
            ) from None
        raise DatabaseError(f"no Postgres at {without_secrets(url)}: {first_line(told or error)}") from None
    if version < LEAST_VERSION:
        raise DatabaseError(
            f"the server at {without_secrets(url)} is Postgres {version // 10_000}: bts needs {LEAST_VERSION // 10_000}"
            " or newer"
        )
    if encoding != "UTF8":
        raise DatabaseError(
            f"the database at {without_secrets(url)} is encoded in {encoding}, which cannot hold every text that comes:"
            " make one with CREATE DATABASE bts ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        )
    return engine


def migrate(engine: sa.Engine, catalogue: Catalogue, revision: str = "head") -> str:
    """Bring schema `bts` to `revision`, then apply the views of sql/views and the catalogue; what it did, in a line.

    All in one transaction: whoever is killed leaves everything as it was, and no reader finds a view missing. Whoever
    comes while it waits for a reader waits behind it: so it waits briefly, lets them through, and tries again until the
    engine's lock timeout is over.

    Repeating it is harmless.

    Raises:
        DatabaseError: if another process migrates, a reader holds what is to be changed for too long, views of others
            stand on ours, or the schema is of a newer version or not ours.
    """
    _check_ours(engine, catalogue)
    make_locks(engine)
    for _ in _tries(engine):
        try:
            with transaction(engine, LOCK_MIGRATE) as connection:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_BRIEFLY_MS}")
                before = standing(connection, catalogue)
                _change(connection, catalogue, revision)
            _drop_moved_partitions(engine)
            return _MIGRATED[before.state].format(old=before.revision, head=before.head)
        except OperationalError as error:
            if not waited_in_vain(error):
                raise
    raise DatabaseError(
        "the schema cannot be changed while another session reads it; end that session, or try again later"
    )


#: How long a migration waits for one reader, and every other reader behind it, milliseconds; and lets them through.
_BRIEFLY_MS: Final = 400


def _change(connection: sa.Connection, catalogue: Catalogue, revision: str) -> None:
    for schema in ("dagster", "mlflow"):  # theirs: what they keep beside us, should they keep it here
        make_schema(connection, schema)
    _drop_views(connection)
    _move(connection, revision)
    if revision == "head":
        apply_views(connection)
        apply_catalogue(connection, catalogue)
    else:
        connection.exec_driver_sql("COMMENT ON SCHEMA bts IS NULL")  # so that the next start migrates


_MIGRATED: Final[dict[str, str]] = {
    "absent": "schema bts was made, of revision {head}",
    "older": "schema bts was migrated from revision {old} to {head}",
    "other views": "the views and the catalogue in schema bts are now those of this version of bts (revision {head})",
    "current": "schema bts is that of this version of bts; its views and catalogue were laid down again",
}


def _check_ours(engine: sa.Engine, catalogue: Catalogue) -> None:
    with engine.connect() as connection:
        found = standing(connection, catalogue)
    if found.state in ("newer", "foreign"):
        raise found.refusal() or DatabaseError("schema bts cannot be migrated")


def apply_views(connection: sa.Connection) -> None:
    """(Re)create every view and function of sql/views, in order of file name."""
    for file in sorted((shipped("sql") / "views").glob("*.sql")):
        execute_file(connection, file)


def execute_file(connection: sa.Connection, file: Path) -> None:
    """Run a file of statements as it stands: to the driver a per cent sign would be the place of a parameter."""
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
    connection.exec_driver_sql(f"COMMENT ON SCHEMA bts IS '{stamp(catalogue)}'")


def parameter_row(parameter: object) -> dict[str, object]:
    """A catalogue entry as a row: an open end of the valid range is null."""
    row = {name: getattr(parameter, name) for name in [c.name for c in tables.parameter.columns]}
    return {k: list(v) if isinstance(v, tuple) else None if v in (-math.inf, math.inf) else v for k, v in row.items()}


def claim_grid(engine: sa.Engine, grid: Grid) -> None:
    """Fix the grid's step at first use; refuse another one once observations rest here.

    Raises:
        DatabaseError: if observations of another step rest here.
    """
    with engine.begin() as connection:
        first = insert(tables.installation).values(step_seconds=int(grid.step.total_seconds()))
        connection.execute(first.on_conflict_do_nothing())
        check_grid(connection, grid)


def check_grid(connection: sa.Connection, grid: Grid) -> bool:
    """Whether the step is that of the grid here; if not, nothing stands on it yet, and it can be claimed.

    Raises:
        DatabaseError: if observations of another step rest here.
    """
    seconds = int(grid.step.total_seconds())
    fixed = connection.scalar(sa.select(tables.installation.c.step_seconds))
    if fixed in (seconds, None) or not connection.scalar(sa.select(sa.exists().select_from(tables.observed_day))):
        return fixed == seconds
    held = format_duration(timedelta(seconds=fixed))
    raise DatabaseError(
        f"BTS_STEP={format_duration(grid.step)}, but the observations here stand on a grid of {held}: "
        f"set BTS_STEP={held}, or another BTS_HOME for the new grid"
    )


def hold_grid(connection: sa.Connection, grid: Grid) -> None:
    """Claim the grid for good: a day is about to be written. The caller holds `LOCK_INGEST`.

    Until then every process that opened the home may have found it free for a step of its own: whoever looked before
    the first file came has decided nothing.

    Raises:
        DatabaseError: if observations of another step rest here.
    """
    if not check_grid(connection, grid):
        connection.execute(sa.update(tables.installation).values(step_seconds=int(grid.step.total_seconds())))


def _tries(engine: sa.Engine) -> Iterator[None]:
    """One try, and more of them until the engine's lock timeout is over, with a pause before each."""
    with engine.connect() as connection:
        patience = connection.scalar(sa.text("SELECT extract(epoch FROM current_setting('lock_timeout')::interval)"))
    until = time.monotonic() + float(patience or 0)
    yield
    while time.monotonic() < until:
        time.sleep(_BRIEFLY_MS / 1000)
        yield


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
    with engine.connect() as connection:
        moved = connection.exec_driver_sql(parts).scalars().all()
    for table in (*moved, "bts.forecast_partitioned"):
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")


def _drop_views(connection: sa.Connection) -> None:
    """Views stand on columns that a revision may change: they go first and come back after.

    Raises:
        DatabaseError: naming what was built on them by others; it is not ours to drop.
    """
    stamp = connection.scalar(sa.text("SELECT obj_description(to_regnamespace('bts'))")) or ""
    ours = {"ours": stamp.partition(NAMES)[2].split(", ")}
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
