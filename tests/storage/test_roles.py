"""Who may do what: every role against every kind of statement, in the embedded server and in one set up for compose."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest
from handmade_night import handmade_night, rows_of

from bts_assets.contracts.grid import Grid
from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage import postgres
from bts_assets.storage.embedded import server as embedded
from bts_assets.storage.embedded.cluster import Cluster
from bts_assets.storage.embedded.roles import ROLES
from bts_assets.storage.locks import LOCK_INGEST, LOCK_MIGRATE, LOCK_PROMOTE, LOCK_PUBLISH, LOCK_SCORE, transaction
from bts_assets.storage.postgres import connect

LOCKS = (LOCK_MIGRATE, LOCK_INGEST, LOCK_PUBLISH, LOCK_PROMOTE, LOCK_SCORE)

#: What is tried -> the statement, and the roles that may.
MATRIX: dict[str, tuple[str, set[str]]] = {
    "select from a view": ("SELECT * FROM bts.latest_forecast", {"bts_owner", "bts_writer", "bts_reader"}),
    "call a function": ("SELECT * FROM bts.forecast_as_of(now())", {"bts_owner", "bts_writer", "bts_reader"}),
    "select what is not public": ("SELECT * FROM bts.champion", {"bts_owner", "bts_writer"}),
    "insert": ("INSERT INTO bts.station (station_id, listed) VALUES (9, false)", {"bts_owner", "bts_writer"}),
    "update": ("UPDATE bts.landing_file SET reason = NULL", {"bts_owner", "bts_writer"}),
    "delete": ("DELETE FROM bts.observed_day", {"bts_owner", "bts_writer"}),
    "truncate": ("TRUNCATE bts.observation_block", {"bts_owner"}),
    "move the pointer": ("DELETE FROM bts.publication", {"bts_owner", "bts_writer"}),
    "rewrite a log of decisions": ("UPDATE bts.decision SET reason = 'x'", {"bts_owner"}),
    "rewrite the log of champions": ("DELETE FROM bts.champion", {"bts_owner"}),
    "pretend another revision": ("UPDATE bts.alembic_version SET version_num = '0001'", {"bts_owner"}),
    "hold a lock": ("SELECT * FROM bts.lock FOR UPDATE", {"bts_owner", "bts_writer"}),
    "see a lock": ("SELECT * FROM bts.lock", {"bts_owner", "bts_writer"}),
    "hold a table": ("LOCK TABLE bts.publication IN SHARE MODE", {"bts_owner", "bts_writer"}),
    "change a table": ("ALTER TABLE bts.station ADD COLUMN mine integer", {"bts_owner"}),
    "drop a view": ("DROP VIEW bts.latest_batch CASCADE", {"bts_owner"}),
    "make a table": ("CREATE TABLE bts.mine (a integer)", {"bts_owner"}),
    "make a schema": ("CREATE SCHEMA mine", {"bts_owner"}),
    "make a table elsewhere": ("CREATE TABLE public.mine (a integer)", set()),
    "make a temporary table": ("CREATE TEMPORARY TABLE mine (a integer)", {"bts_owner", "bts_writer"}),
    "become the owner": ("SET ROLE bts_owner", {"bts_owner"}),
    "become the writer": ("SET ROLE bts_writer", {"bts_writer"}),
    "run a program": ("COPY (SELECT 1) TO PROGRAM 'true'", set()),
    "write a file of the server": ("COPY (SELECT 1) TO '/dev/null'", set()),
    "read a file of the server": ("SELECT pg_read_file('PG_VERSION')", set()),
    "read passwords": ("SELECT rolpassword FROM pg_authid", set()),
    "make a role": ("CREATE ROLE mine", set()),
    "lift a limit": ("ALTER ROLE bts_reader CONNECTION LIMIT -1", set()),
    "read Dagster's tables": ("SELECT * FROM dagster.theirs", {"dagster"}),
    "make a table of Dagster's": ("CREATE TABLE dagster.mine (a integer)", {"dagster"}),
    "read MLflow's tables": ("SELECT * FROM mlflow.theirs", {"mlflow"}),
    "make a table of MLflow's": ("CREATE TABLE mlflow.mine (a integer)", {"mlflow"}),
}
Urls = dict[str, str]


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """A fresh home on an embedded server of its own."""
    with tempfile.TemporaryDirectory(prefix="bts-tests-") as folder:
        Path(folder).chmod(0o755)
        opened = open_home(load_settings(home=Path(folder) / "home"))
        opened.engine.dispose()
        yield opened
        embedded.stop(opened.settings.home)


@pytest.fixture(scope="module", params=["embedded", "compose"])
def urls(request: pytest.FixtureRequest, server_url: str) -> Iterator[Urls]:
    """The libpq URL of every role."""
    if request.param == "embedded":
        home: Home = request.getfixturevalue("home")
        admin, found = embedded.url(home.settings.home), embedded.role_urls(home.settings.home)
        _theirs(admin)
        yield found
        return
    with handmade_night(server_url) as night:
        _theirs(night.admin_url)
        given = (night.owner_url, night.writer_url, night.reader_url, night.dagster_url, night.mlflow_url)
        yield dict(zip(ROLES, given, strict=True))


def _theirs(admin: str) -> None:
    with closing(psycopg2.connect(admin)) as connection, connection, connection.cursor() as cursor:
        for schema in ("dagster", "mlflow"):
            cursor.execute(f"CREATE TABLE {schema}.theirs (a integer); ALTER TABLE {schema}.theirs OWNER TO {schema}")


@pytest.mark.parametrize("tried", MATRIX)
def test_each_role_may_do_what_it_is_for_and_nothing_else(urls: Urls, tried: str) -> None:
    statement, allowed = MATRIX[tried]
    done = set()
    for role, url in urls.items():
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SET transaction_read_only = off")  # it is rights that count, not settings
            try:
                cursor.execute(statement)
                done.add(role)
            except psycopg2.errors.InsufficientPrivilege:
                pass
            connection.rollback()
    assert done == allowed


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_a_limit_of_connections_and_a_longest_statement(urls: Urls, role: str) -> None:
    (found,) = rows_of(
        urls[role],
        "SELECT rolconnlimit AS most,"
        " rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS mighty,"
        " current_setting('statement_timeout') AS longest, current_user AS name"
        " FROM pg_roles WHERE rolname = current_user",
    )
    assert found["name"] == role
    assert 0 < found["most"] <= 40
    assert found["longest"] != "0"
    assert not found["mighty"]


@pytest.mark.slow
def test_roles_leave_connections_to_the_superuser(home: Home) -> None:
    admin = embedded.url(home.settings.home)
    query = (
        "SELECT current_setting('max_connections')::int - sum(rolconnlimit) AS free"
        " FROM pg_roles WHERE rolconnlimit > 0"
    )
    assert rows_of(admin, query)[0]["free"] >= 5


@pytest.mark.parametrize("role", ["dagster", "mlflow"])
def test_who_has_a_schema_is_led_into_it_by_the_role_alone(urls: Urls, role: str) -> None:
    """What a URL asks for its session may be lost on the way."""
    assert rows_of(urls[role], "SELECT current_schema()::text AS here") == [{"here": role}]


def test_a_reader_cannot_hold_what_nights_wait_for(urls: Urls) -> None:
    with closing(psycopg2.connect(urls["bts_reader"])) as reader, reader.cursor() as cursor:
        for lock in LOCKS:
            cursor.execute(f"SELECT pg_advisory_lock({lock})")
        cursor.execute("SELECT * FROM bts.latest_forecast")
        writer = connect(urls["bts_writer"], timedelta(milliseconds=200))
        with transaction(writer, *LOCKS):
            pass
        writer.dispose()


@pytest.mark.slow
def test_a_night_works_as_the_writer_and_asks_its_schemas_of_their_owners(home: Home) -> None:
    users = {name: url.partition("://")[2].partition(":")[0] for name, url in home.urls.items()}
    assert users == {role: role for role in ROLES}
    with home.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT current_user").scalar() == "bts_writer"


@pytest.mark.slow
def test_a_home_from_before_there_were_roles_is_given_them_when_it_wakes(home: Home) -> None:
    """Everything belonged to the superuser, and no password but its own was kept."""
    root, cluster = home.settings.home, Cluster.of(home.settings.home)
    with closing(psycopg2.connect(embedded.url(root))) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"REASSIGN OWNED BY {', '.join(ROLES)} TO bts")
        cursor.execute(f"DROP OWNED BY {', '.join(ROLES)}")
        cursor.execute(f"DROP ROLE {', '.join(ROLES)}")
        cursor.execute("SELECT obj_description('bts'::regnamespace)")
        (stamp,) = cursor.fetchone() or ("",)
        cursor.execute(
            "COMMENT ON SCHEMA bts IS %s", (stamp.replace("forecasts: ", "forecasts: of an older version "),)
        )
    for role in ROLES:
        (cluster.folder / f"password.{role}").unlink()
    (cluster.folder / "roles").unlink()
    owners = "SELECT DISTINCT relname::text, relowner::regrole::text AS owner FROM pg_class" \
             " WHERE relnamespace = 'bts'::regnamespace AND relkind IN ('r', 'p', 'v')"  # fmt: skip
    assert {row["owner"] for row in rows_of(embedded.url(root), owners)} == {"bts"}
    again = open_home(home.settings)
    with again.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM bts.latest_forecast").scalar() == 0
        assert postgres.check_grid(connection, Grid(timedelta(minutes=15), timedelta(days=7), timedelta(days=2)))
    again.engine.dispose()
    found = {row["relname"]: row["owner"] for row in rows_of(embedded.url(root, "bts_writer"), owners)}
    assert set(found.values()) == {"bts_owner"}
