"""Three years of nights in the forecast table: what a read locks and plans, readers in a race, disk."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg2
import pytest
import sqlalchemy as sa
from many_batches import LEVELS, add_nights, race
from small_nights import GRID, SMALL, publish_panel, rows_of, serving_version, simple_bundle, small_panel

from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage.binary_copy import copy_in
from bts_assets.storage.forecasts import some_forecasts

#: Three years of nights.
NIGHTS = 1_100
LATEST = "SELECT * FROM bts.latest_forecast WHERE station_id = 2 AND parameter_id = 122"
READS = {
    "latest": LATEST,
    "as of": "SELECT * FROM bts.forecast_as_of(now()) WHERE station_id = 2 AND parameter_id = 122",
    "at origin": "SELECT * FROM bts.forecast_at_origin('2026-03-10T00:00Z') WHERE station_id = 2",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[tuple[Home, int, Any]]:
    """A home with three years of nights, its version, and what reads locked and planned when there were ten."""
    home = open_home(load_settings(home=tmp_path_factory.mktemp("store"), database_url=new_database(), **SMALL))
    version = serving_version(home, simple_bundle()).model_version_id
    publish_panel(home.engine, small_panel(), version)
    add_nights(home.engine, 9)
    of_ten = {name: (relations_locked(home, read), nodes_planned(home, read)) for name, read in READS.items()}
    add_nights(home.engine, NIGHTS - 10)
    yield home, version, of_ten
    home.engine.dispose()


def relations_locked(home: Home, query: str) -> int:
    locked = "SELECT count(DISTINCT relation) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
    with home.engine.connect() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM pg_locks")  # its own relations are not the query's
        before = connection.exec_driver_sql(locked).scalar_one()
        assert connection.exec_driver_sql(query).all()
        return int(connection.exec_driver_sql(locked).scalar_one()) - int(before)


def nodes_planned(home: Home, query: str) -> int:
    with home.engine.connect() as connection:
        return len([1 for (line,) in connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {query}") if "Scan" in line])


@pytest.mark.parametrize("name", READS)
def test_a_read_locks_and_plans_as_little_with_three_years_of_nights_as_with_ten(
    store: tuple[Home, int, Any], name: str
) -> None:
    home, _, of_ten = store
    assert rows_of(home, "SELECT count(*) AS n FROM bts.publication")[0]["n"] >= NIGHTS
    assert (relations_locked(home, READS[name]), nodes_planned(home, READS[name])) == of_ten[name]
    assert of_ten[name][0] <= 15


def test_as_many_readers_as_the_server_takes_stay_open_and_a_night_is_published(store: tuple[Home, int, Any]) -> None:
    home, version, _ = store
    with ExitStack() as opened:
        free = rows_of(
            home,
            "SELECT current_setting('max_connections')::int - count(*) AS n FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'",
        )[0]["n"]
        for _ in range(free - 15):
            reader = opened.enter_context(closing(psycopg2.connect(home.url)))
            cursor = opened.enter_context(reader.cursor())
            cursor.execute(LATEST)
            assert len(cursor.fetchall()) == GRID.horizon_steps
        assert publish_panel(home.engine, small_panel(50), version).serves_latest
    assert free > 60


def test_what_a_night_takes_on_disk_is_its_numbers_and_a_key(store: tuple[Home, int, Any]) -> None:
    home, _, _ = store
    query = "SELECT pg_total_relation_size('bts.forecast_series')::float / count(*) AS size FROM bts.forecast_series"
    (per_series,) = rows_of(home, query)
    numbers = 8 * len(QUANTILE_COLUMNS) * GRID.horizon_steps
    assert per_series["size"] < numbers + 300, "five arrays, a row and its key have headers; nothing else is stored"


def test_the_default_horizon_stays_in_its_page_and_a_longer_one_reads_the_same(store: tuple[Home, int, Any]) -> None:
    home, _, _ = store
    rng = np.random.default_rng(3)
    with home.engine.connect() as connection:
        for steps, outside in ((192, False), (672, True)):
            connection.exec_driver_sql("CREATE TEMP TABLE scratch (LIKE bts.forecast_series INCLUDING ALL)")
            connection.exec_driver_sql("ALTER TABLE scratch SET (toast_tuple_target = 8160)")
            values = np.sort(rng.normal(size=(3, steps, 5)) * 1e9, axis=2)
            key = {"batch_id": np.full(3, 1), "station_id": np.arange(3), "parameter_id": np.full(3, 1, np.int32)}
            sent = {name: values[:, :, k] for k, name in enumerate(QUANTILE_COLUMNS)}
            assert copy_in(connection, "scratch", key | sent) == 3
            back = connection.exec_driver_sql(f"SELECT {', '.join(QUANTILE_COLUMNS)} FROM scratch ORDER BY station_id")
            np.testing.assert_array_equal(np.array([tuple(row) for row in back]).transpose(0, 2, 1), values)
            toasted = connection.exec_driver_sql(
                "SELECT pg_relation_size(reltoastrelid) > 0 FROM pg_class WHERE oid = 'scratch'::regclass"
            ).scalar()
            assert toasted is outside
            size = connection.exec_driver_sql("SELECT min(pg_column_size(q05)) FROM scratch").scalar()
            assert size in (24 + 8 * steps, 20 + 8 * steps), "an array is not as it was sent: it was compressed"
            connection.exec_driver_sql("DROP TABLE scratch")


def test_some_series_are_found_by_parameter_without_reading_the_batch(store: tuple[Home, int, Any]) -> None:
    home, _, _ = store
    batch = rows_of(home, "SELECT batch_id FROM bts.latest_batch")[0]["batch_id"]
    with home.engine.connect() as connection:
        (found,) = some_forecasts(connection, batch, 6)
    assert (found.station_id, found.parameter_id) == (1, 122)
    rows = rows_of(
        home, "SELECT q05, q10, q50, q90, q95 FROM bts.latest_forecast WHERE station_id = 1 ORDER BY step_ahead"
    )
    np.testing.assert_array_equal(found.quantiles, [list(row.values()) for row in rows])


@pytest.mark.parametrize("isolation", LEVELS)
def test_no_reader_finds_an_empty_or_a_torn_batch_during_publishes(
    store: tuple[Home, int, Any], isolation: str
) -> None:
    home, version, _ = store
    seed = 2 + list(LEVELS).index(isolation)
    version = serving_version(home, simple_bundle(seed=seed)).model_version_id
    seen = race(home, version, readers=24, publishes=6, isolation=isolation)
    assert seen.wrong == []
    assert len(seen.batches) > 2, "the readers saw no change: this was no race"


def test_a_read_is_whole_when_a_publish_commits_between_its_planning_and_its_snapshot(
    store: tuple[Home, int, Any],
) -> None:
    home, version, _ = store
    version = serving_version(home, simple_bundle(seed=9)).model_version_id
    with closing(psycopg2.connect(home.url)) as reader, reader.cursor() as cursor:
        # A prepared statement's generic plan is older than the batch, whatever the snapshot.
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        cursor.execute("PREPARE look AS SELECT batch_id, count(*) FROM bts.latest_forecast GROUP BY 1")
        cursor.execute("EXECUTE look")
        reader.commit()
        published = publish_panel(home.engine, small_panel(77), version)
        cursor.execute("EXECUTE look")
        assert cursor.fetchall() == [(published.batch_id, 3 * GRID.horizon_steps)]


def test_deleted_batches_give_their_space_to_the_next(store: tuple[Home, int, Any]) -> None:
    from bts_assets.storage import retention

    home, _, _ = store
    size = sa.text("SELECT pg_relation_size('bts.forecast_series')")
    with home.engine.begin() as connection:
        before = connection.execute(size).scalar_one()
        first = connection.scalar(sa.text("SELECT max(issued_at) FROM bts.batch")) - timedelta(days=NIGHTS - 60)
        old = retention.old_batches(connection, first)
        for batch in old:
            retention.delete_forecasts(connection, batch.batch_id)
    retention.free_space(home.engine)
    assert len(old) > 40
    with home.engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO bts.forecast_series SELECT batch_id + 1000000, station_id, parameter_id,"
            f" {', '.join(QUANTILE_COLUMNS)} FROM bts.forecast_series LIMIT {3 * (len(old) - 5)}"
        )
        assert connection.execute(size).scalar_one() == before
