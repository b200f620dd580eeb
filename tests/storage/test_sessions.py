"""What holds in every transaction whatever lends it its session, and where Dagster's and MLflow's tables would come."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest
import sqlalchemy as sa
from pgbouncer import PGBOUNCER, pooled
from small_nights import SMALL, publish_panel, rows_of, serving_version, simple_bundle, small_panel
from sqlalchemy.exc import InternalError, OperationalError, ResourceClosedError

from bts_assets.services.backup import back_up
from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage import postgres, schema_urls
from bts_assets.storage.binary_copy import copy_out
from bts_assets.storage.locks import LOCK_PUBLISH, transaction
from bts_assets.storage.postgres import DatabaseError, connect, sqlalchemy_url
from bts_assets.storage.read_only_query import read_rows
from bts_assets.storage.schema_urls import refuse_pool, url_into_schema
from bts_assets.storage.sessions import asked_settings

with_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed (apt-get install pgbouncer)")
PATIENCE = timedelta(milliseconds=300)


class Places(NamedTuple):
    """One database: itself, through a pool that drops options, and through one that refuses them, as it comes."""

    itself: str
    pool: str
    refusing: str


@pytest.fixture(scope="module")
def places(home_database: Callable[[], str]) -> Iterator[Places]:
    """Its server would have another time zone and no limit, so that what is not set shows."""
    url = home_database()
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET timezone = 'Asia/Tokyo'")
    with pooled(url) as (pool,), pooled(url, ignores_options=False) as (refusing,):
        yield Places(url, pool, refusing)


@contextmanager
def engine_at(url: str, **how: Any) -> Iterator[sa.Engine]:
    engine = connect(url, PATIENCE, **how)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def home_at(folder: Path, places: Places, **settings: Any) -> Iterator[Home]:
    home = open_home(load_settings(home=folder, database_url=places.pool, **SMALL, **settings))
    try:
        yield home
    finally:
        home.engine.dispose()


@with_pgbouncer
@pytest.mark.parametrize("place", ["pool", "refusing"])
def test_every_transaction_has_its_settings_whatever_session_it_is_lent(places: Places, place: str) -> None:
    url = f"{getattr(places, place)}?options=-c%20statement_timeout%3D77s"
    asked = sa.text(
        "SELECT pg_backend_pid(), current_setting('timezone'), current_setting('lock_timeout'),"
        " current_setting('statement_timeout'), current_setting('transaction_read_only')"
    )
    with engine_at(url, read_only=True) as one, engine_at(url, read_only=True) as other:
        seen = []
        for _ in range(6):
            with one.connect() as first, other.connect() as second:
                seen += [first.execute(asked).one(), second.execute(asked).one()]
                first.rollback()
                seen.append(first.execute(asked).one())
    assert len({row[0] for row in seen}) > 1
    assert {tuple(row[1:]) for row in seen} == {("UTC", "300ms", "77s", "on")}
    with closing(psycopg2.connect(places.pool)) as connection, connection.cursor() as cursor:
        for _ in range(4):  # nothing is left behind for whoever is lent a session next
            cursor.execute("SELECT current_setting('timezone'), current_setting('transaction_read_only')")
            assert cursor.fetchone() == ("Asia/Tokyo", "off")
            connection.rollback()


@with_pgbouncer
def test_a_batch_is_published_and_read_through_a_pool(places: Places, tmp_path: Path) -> None:
    with home_at(tmp_path / "home", places, direct_database_url=places.itself) as home:
        version = serving_version(home, simple_bundle()).model_version_id
        published = publish_panel(home.engine, small_panel(level=40), version)
        assert published.serves_latest
        rows = rows_of(home, "SELECT * FROM bts.latest_forecast")
        assert len(rows) == 3 * SMALL["horizon"] // SMALL["step"]
        assert {row["batch_id"] for row in rows} == {published.batch_id}
    with engine_at(places.pool, read_only=True) as reader:
        names, told = read_rows(
            reader, "SELECT timestamptz '2026-03-10 12:00' AS noon, count(*) FROM bts.latest_forecast"
        )
        assert (names, told[0]) == (["noon", "count"], (datetime(2026, 3, 10, 12, tzinfo=UTC), len(rows)))


@with_pgbouncer
def test_a_lock_is_not_waited_for_longer_than_is_set_through_a_pool(places: Places) -> None:
    with (
        engine_at(places.itself) as holder,
        engine_at(places.pool) as waiting,
        transaction(holder, LOCK_PUBLISH),
        pytest.raises(DatabaseError, match="another process is"),
        transaction(waiting, LOCK_PUBLISH),
    ):
        pass


@with_pgbouncer
def test_who_only_reads_cannot_write_through_a_pool(places: Places) -> None:
    with engine_at(places.pool, read_only=True) as engine, engine.connect() as connection:
        for _ in range(3):
            with pytest.raises(InternalError, match="read-only transaction"):
                connection.exec_driver_sql("INSERT INTO bts.series (station_id, parameter_id) VALUES (1, 1)")
            connection.rollback()


@with_pgbouncer
def test_two_sessions_of_a_pool_see_one_snapshot(places: Places) -> None:
    with engine_at(places.pool) as engine:
        apart = engine.execution_options(isolation_level="REPEATABLE READ")
        with apart.connect() as first, apart.connect() as second:
            shared = first.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
            second.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{shared}'")
            seen = [c.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar_one() for c in (first, second)]
    assert seen[0] == seen[1]


def test_a_copy_begins_a_transaction_as_every_statement_does(database_url: str) -> None:
    query = (
        "SELECT (current_setting('lock_timeout') = '300ms' AND current_setting('timezone') = 'UTC')::integer AS held"
    )
    with engine_at(database_url) as engine, engine.connect() as connection:
        assert copy_out(connection, query, {"held": "int32"})["held"].tolist() == [1]


@with_pgbouncer
@pytest.mark.parametrize("schema", ["dagster", "mlflow"])
def test_tables_that_would_come_into_another_schema_are_refused_in_one_line(places: Places, schema: str) -> None:
    # The role is called bts, and a schema of the role's name comes first where nothing else is set.
    with pytest.raises(DatabaseError, match=rf"^tables of {schema} would come into schema bts of .*") as dropped:
        url_into_schema(places.pool, schema)
    with pytest.raises(DatabaseError, match=rf"^tables of {schema} cannot be led into its schema at .*") as refused:
        url_into_schema(places.refusing, schema)
    for told in (str(dropped.value), str(refused.value)):
        assert "a connection pool" in told
        assert "set BTS_DIRECT_DATABASE_URL" in told
        assert "\n" not in told
        assert places.itself.split(":")[2].partition("@")[0] not in told
    assert f"search_path={schema}" in sa.make_url(url_into_schema(places.itself, schema)).query["options"]


@with_pgbouncer
def test_a_night_begins_no_table_of_dagster_where_it_does_not_belong(places: Places, tmp_path: Path) -> None:
    from bts_assets.cli.run_job import environment

    with home_at(tmp_path / "home", places) as home:
        with pytest.raises(DatabaseError, match="set BTS_DIRECT_DATABASE_URL"):
            environment(home)
        with pytest.raises(DatabaseError, match="a backup or a restore needs a session of its own"):
            back_up(home.settings, tmp_path / "backups", datetime.now(UTC))
        made = "SELECT relname FROM pg_class WHERE relname IN ('runs', 'event_logs', 'experiments')"
        assert rows_of(home, f"{made} AND relnamespace <> ALL (ARRAY['dagster', 'mlflow']::regnamespace[])") == []
    with home_at(tmp_path / "home", places, direct_database_url=places.itself) as home:
        assert environment(home)["BTS_DAGSTER_DATABASE_URL"].startswith(sqlalchemy_url(places.itself))


def test_options_that_any_server_ignores_are_noticed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_urls, "with_options", lambda url, **_: sqlalchemy_url(url))
    with pytest.raises(DatabaseError, match="tables of mlflow would come into schema public of"):
        url_into_schema(database_url, "mlflow")


def test_a_schema_that_the_role_may_not_use_is_told_from_a_pool(server_url: str, database_url: str) -> None:
    with pytest.raises(DatabaseError, match="may not use schema nowhere: grant it"):
        url_into_schema(database_url, "nowhere")


def test_a_pool_that_takes_no_options_is_told_from_a_server() -> None:
    """What PgBouncer says as it comes, by a listener that says nothing else."""
    said = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"

    def refuse(pool: socket.socket) -> None:
        for _ in range(3):
            connection, _ = pool.accept()
            with connection:
                connection.recv(8)  # whether it speaks TLS: no
                connection.sendall(b"N")
                connection.recv(4096)
                connection.sendall(b"E" + struct.pack("!i", 4 + len(said)) + said)

    with socket.create_server(("127.0.0.1", 0)) as pool:
        threading.Thread(target=refuse, args=[pool], daemon=True).start()
        url = f"postgresql://u:c4nary@127.0.0.1:{pool.getsockname()[1]}/bts"
        with pytest.raises(DatabaseError, match="a connection pool answers there; set BTS_DIRECT_DATABASE_URL") as told:
            url_into_schema(url, "dagster")
        assert "c4nary" not in str(told.value)
        with pytest.raises(DatabaseError, match="needs a session of its own, and a pool answers"):
            refuse_pool(url, "a backup")


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ("", {}),
        ("-c statement_timeout=60s", {"statement_timeout": "60s"}),
        ("-cstatement_timeout=60s  --lock-timeout=5", {"statement_timeout": "60s", "lock_timeout": "5"}),
        (r"-c bts.note=it's\ 100%\\ -c search_path=a,b", {"bts.note": "it's 100%\\", "search_path": "a,b"}),
    ],
)
def test_options_are_read_as_the_server_reads_them(database_url: str, options: str, asked: dict[str, str]) -> None:
    assert asked_settings(options) == asked
    url = sa.make_url(database_url).update_query_dict({"options": options}).render_as_string(hide_password=False)
    with engine_at(url.replace("+", "%20")) as engine, engine.connect() as connection:
        for name, value in asked.items():
            found = connection.scalar(sa.text("SELECT current_setting(:name)"), {"name": name})
            if name != "lock_timeout":  # ours
                assert found.replace('"', "").replace(", ", ",") == value.replace("60s", "1min")


def test_options_that_are_no_settings_are_refused(database_url: str) -> None:
    with pytest.raises(DatabaseError, match="options of BTS_DATABASE_URL has '-B'"):
        connect(f"{database_url}?options=-B%20100", PATIENCE)


@pytest.mark.parametrize("setting", ["statement_timeout%3Dsoon", "no_such_setting%3D1", "max_connections%3D7"])
def test_settings_that_the_server_does_not_take_are_told_in_one_line(database_url: str, setting: str) -> None:
    with pytest.raises(DatabaseError, match="the server refuses the options of the URL") as told:
        connect(f"{database_url}?options=-c%20{setting}", PATIENCE)
    assert "\n" not in str(told.value)


def test_a_connection_whose_transaction_could_not_begin_does_not_go_on_without_one(
    database_url: str, administrator: sa.Engine
) -> None:
    with engine_at(database_url) as engine, engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.rollback()
        with administrator.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
        with pytest.raises(OperationalError):
            connection.exec_driver_sql("SELECT 1")
        with pytest.raises(ResourceClosedError):
            connection.exec_driver_sql("SELECT 1")


def test_a_server_that_is_too_old_is_refused_in_one_line(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LEAST_VERSION", 990_000)
    with pytest.raises(DatabaseError, match=r"is Postgres \d+: bts needs 99 or newer$"):
        connect(database_url, PATIENCE)
