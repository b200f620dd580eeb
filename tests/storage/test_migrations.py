"""The schema's way up and down on a real Postgres, raced, killed and blocked; and what its public face promises."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.storage import monitoring_tables, postgres, schema_state, tables
from bts_assets.storage.locks import LOCK_MIGRATE, transaction
from bts_assets.storage.postgres import DatabaseError, claim_grid, connect, is_current, migrate
from bts_assets.storage.shipped import shipped
from bts_assets.storage.table_columns import SCHEMA

CHECKOUT = Path(__file__).parents[2]
CATALOGUE = load_catalogue()
#: Importing them puts their tables beside the others: whatever runs alone sees the whole schema.
MONITORING = monitoring_tables.forecast_score, monitoring_tables.breach_forecast
ONE_NIGHT = (CHECKOUT / "tests" / "data" / "one_night.sql").read_text(encoding="utf-8")
HOUR = timedelta(hours=1)
Connect = Callable[[str], sa.Engine]

FORECAST = {
    "station_id": "bigint",
    "parameter_id": "integer",
    "issued_at": "timestamp with time zone",
    "target_at": "timestamp with time zone",
    "step_ahead": "smallint",
    "q05": "double precision",
    "q10": "double precision",
    "q50": "double precision",
    "q90": "double precision",
    "q95": "double precision",
    "source": "text",
    "batch_id": "bigint",
    "model_version_id": "bigint",
}
#: What readers were promised. A view may grow at its end; what stands here never goes, moves or changes its name.
PROMISED = {
    "newest_entry": "publication_seq ledger_seq decision_id observed_at scored_at dataset_id last_observed_at",
    "interface": "version",
    "latest_batch": "batch_id issued_at published_at state age forecasts_end_at series forecast fallback excluded"
    " model_version_id",
    "latest_forecast": " ".join(FORECAST),
    "forecast": "batch_id station_id parameter_id step_ahead issued_at target_at q05 q10 q50 q90 q95 source"
    " model_version_id",
    "series_status": "station_id parameter_id station parameter status source reason last_observed_at history_steps"
    " context_steps components batch_id model_version_id",
    "forecast_lineage": "batch_id station_id parameter_id issued_at published_at kind status source reason components"
    " model_version_id mlflow_run_id mlflow_model_uri registry_version bundle_digest training_start training_end"
    " training_ledger_seq training_files input_start input_ledger_seq input_files observations_digest forecasts_digest"
    " training_observations_digest catalogue_digest code_version training_code_version dagster_run_id"
    " training_dagster_run_id seed packages machine settings training_settings trained_past_origin"
    " training_catalogue_digest training_file_names input_file_names code_commit code_dirty training_code_commit"
    " training_code_dirty canary pruned_at recalibration_digest recalibration_factors recalibration_nights"
    " mlflow_experiment_id",
    "ingest_ledger": "ledger_seq path digest status reason bytes rows accepted rejected duplicate rejected_by_reason"
    " first_reading_at last_reading_at taken_at superseded_by code_version dagster_run_id dialect",
    "rejected_reading": "file line raw reason ledger_seq taken_at",
    "data_profile": "data_start data_end ledger_seq observations_digest station_id parameter_id station parameter unit"
    " readings observations missing_share minimum q05 q25 median q75 q95 maximum mean sd gaps longest_gap"
    " readings_per_step most_readings dataset_id",
    "model_decision": "decision_id decided_at model_version_id registry_version verdict decided_by reason"
    " champion_version_id evidence mlflow_run_id code_version dagster_run_id mlflow_experiment_id",
    "version_status": "model_version_id registry_version role trained_at training_end effort median_mase lstm_failure"
    " truncated verdict decided_by decided_at reason batches mlflow_run_id mlflow_experiment_id",
    "version_fact": "model_version_id topic name value",
    "probation_score": "probation_id model_version_id champion_version_id issued_at station_id parameter_id targets mae"
    " champion_mae coverage80 champion_coverage80 batch_id shadow_batch_id spread fell",
    "scored_forecast": "batch_id issued_at kind station_id parameter_id candidate model_version_id role stretch"
    " targets absolute_error error pinball crps inside80 inside90 scale",
    "scored_night": "batch_id issued_at kind role model_version_id scored_at",
    "scored_parameter": "batch_id issued_at kind parameter_id candidate model_version_id role stretch series targets"
    " absolute_error error scaled_error scaled_targets pinball crps inside80 inside90",
    "stretch_accuracy": "days stretch parameter_id parameter unit candidate role kind nights targets mae mase bias"
    " coverage80 coverage90",
    "nightly_accuracy": "issued_at batch_id kind parameter_id parameter unit candidate role series targets mae mase"
    " bias coverage80 coverage90",
    "hourly_accuracy": "days hour parameter_id parameter unit candidate role kind nights targets mae mase bias"
    " coverage80 coverage90",
    "scored_kind": "days kind",
    "forecast_accuracy": "days parameter_id parameter unit candidate role kind model_version_id nights series targets"
    " mae mase pinball crps bias coverage80 coverage90",
    "interval_coverage": "days parameter_id parameter stretch model_version_id targets coverage80 coverage90 mase kind",
    "worst_series": "station_id station parameter_id parameter unit targets mae mase ratio_to_last_value coverage80"
    " kind best_baseline best_baseline_mae ratio_to_best_baseline",
    "predicted_breach": "region station_id station parameter_id parameter unit side limit_value probability_6h"
    " probability_24h probability_48h first_likely_at expected_worst expected_duration perceived_severity how_sure"
    " batch_id issued_at event_type probable_cause threshold_information what_to_check",
    "maintenance_list": "region station_id station breaches probability first_likely_at perceived_severity what"
    " batch_id issued_at how_sure what_to_check findings since event_type probable_cause",
    "maintenance_finding": "region station_id station kind perceived_severity since what what_to_check batch_id"
    " issued_at",
    "current_breach": "region station_id station parameter_id parameter unit side limit_value value observed_at"
    " perceived_severity event_type probable_cause threshold_information what_to_check",
    "breach_advice": "parameter_id side event_type probable_cause what_to_check",
    "battery_autonomy": "region station_id station parameter_id parameter limit_value hours low_hours high_hours"
    " outages falling_since hours_before batch_id issued_at",
    "observation": "station_id parameter_id observed_at value readings",
    "alert_status": "alert_id kind key perceived_severity region station_id station parameter_id parameter summary"
    " expected_at raised_at seen_at cleared_at acknowledged_at acknowledgement state suppressed_by told_at"
    " delivery_error details",
    "operator_alarm": "reported_id station_id station alarm_kind parameter_id parameter unit side value threshold"
    " started_at ended_at until alarm_seq line",
    "alarm_ledger": "alarm_seq path digest status reason bytes rows accepted rejected duplicate rejected_by_reason"
    " notes first_at last_at taken_at superseded_by code_version",
    "breach_reliability": "days truth hours bin nights sides happened probability share squared",
    "breach_accuracy": "days truth hours nights sides happened expected brier reliability skill",
    "night_cost": "batch_id issued_at published_at due_at ready_in_time stage started_at wall_seconds cpu_seconds"
    " peak_bytes rows bytes series wall_seconds_per_1000_series cpu_seconds_per_1000_series failed run_id kind",
    "run_cost": "issued_at run_id stage started_at wall_seconds cpu_seconds peak_bytes rows bytes failed",
    "drift": "issued_at scope kind region station_id station parameter_id parameter unit figure alarm evidence bound"
    " change deviation ks psi forecast_psi nights model_version_id",
    "sensor_fault": "issued_at fault region station_id station parameter_id parameter unit since figure first_seen_at",
    "station": "station_id name region latitude longitude timezone in_service_since",
    "parameter": "parameter_id name unit kind aggregation valid_min valid_max sentinels low_limit high_limit forecast"
    " known",
    "station_limit": "station_id parameter_id low_limit high_limit",
    "dataset": "dataset_id name provider observations_digest ledger_seq data_start data_end step_seconds stations"
    " parameters series silent_series observations missing_share readings files bytes rows accepted rejected duplicate"
    " code_version dagster_run_id created_at",
}
#: Of those, the tables: the others are views.
PROMISED_TABLES = {"station", "parameter", "station_limit", "dataset"}


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An empty database of the test's own, whose sessions wait for no lock longer than some seconds."""
    made = connect(database_url, timedelta(seconds=20))
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def migrated(new_database: Callable[[], str]) -> Iterator[sa.Engine]:
    """A migrated database that tests only read."""
    made = connect(new_database(), timedelta(seconds=20))
    migrate(made, CATALOGUE)
    yield made
    made.dispose()


@pytest.fixture
def next_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Ships one more revision, whose upgrade is what is given."""

    def ship(upgrade: str) -> None:
        folder = tmp_path / "migrations"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(shipped("migrations"), folder)
        (head,) = ScriptDirectory(str(folder)).get_heads()
        text = (
            f"from alembic import op\nrevision, down_revision = 'next', {head!r}\n\n\ndef upgrade():\n    {upgrade}\n"
        )
        (folder / "versions" / "next.py").write_text(text, encoding="utf-8")
        for module in (postgres, schema_state):
            monkeypatch.setattr(module, "shipped", lambda name: folder if name == "migrations" else shipped(name))

    return ship


def values(engine: sa.Engine, query: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(query)).scalars())


def rows(engine: sa.Engine, query: str) -> set[tuple[Any, ...]]:
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(sa.text(query))}


def fill(engine: sa.Engine) -> None:
    """The handmade night: rows in every table that a night writes."""
    raw = engine.raw_connection()
    try:
        raw.cursor().execute(ONE_NIGHT)
        raw.commit()
    finally:
        raw.close()


def tables_of(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names("bts")) - {"alembic_version"}


def columns_of(engine: sa.Engine, name: str) -> dict[str, str]:
    query = f"""SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
        WHERE attrelid = 'bts.{name}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text(query))}


def result_of(engine: sa.Engine, function: str) -> dict[str, str]:
    query = f"""SELECT name, format_type(type, NULL) FROM pg_proc,
        unnest(proargnames, proallargtypes, proargmodes) AS argument(name, type, mode)
        WHERE oid = 'bts.{function}'::regproc AND mode = 't'"""
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text(query))}


REVISIONS = [r.revision for r in reversed(list(ScriptDirectory(str(shipped("migrations"))).walk_revisions()))]


def everything(connection: sa.Connection) -> dict[str, dict[str, list[str | None]]]:
    """Table -> column -> its values as text, in an order of their own."""
    found: dict[str, dict[str, list[str | None]]] = {}
    listed = connection.exec_driver_sql(
        "SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'bts'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum"
    )
    for table, column in listed.all():
        values = connection.exec_driver_sql(f'SELECT "{column}"::text FROM bts.{table} ORDER BY 1').scalars().all()
        found.setdefault(table, {})[column] = list(values)
    return found


#: What a later revision keeps in another form: its views are compared instead.
IN_ANOTHER_FORM = {"alembic_version", "lock", "forecast", "observation"}
#: Columns whose words revision 0004 changed for others.
IN_OTHER_WORDS = {("batch", "kind"), ("decision", "evidence"), ("batch", "settings"), ("model_version", "settings")}


def see_rows_reach_head(engine: sa.Engine, revision: str, expected: dict[str, set[tuple[Any, ...]]]) -> None:
    """Upgrade the rows that stand in an earlier schema, compare, and take it back. expected: view -> its rows."""
    with engine.connect() as connection, connection.begin() as upgrade:
        before = everything(connection)
        postgres._change(connection, CATALOGUE, "head")
        after = everything(connection)
        for view, found in expected.items():
            assert {tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM bts.{view}"))} == found, revision
        upgrade.rollback()
    for table in before.keys() & after.keys() - IN_ANOTHER_FORM:
        for column in before[table].keys() & after[table].keys():
            if revision < "0004" and (table, column) in IN_OTHER_WORDS:
                continue
            assert after[table][column] == before[table][column], (revision, table, column)


def test_every_revision_goes_up_and_down_and_up_again_with_data_between(engine: sa.Engine) -> None:
    for revision in REVISIONS:
        migrate(engine, CATALOGUE, revision)
        assert values(engine, "SELECT version_num FROM bts.alembic_version") == [revision]
    migrate(engine, CATALOGUE)
    fill(engine)
    expected = {name: rows(engine, f"SELECT * FROM bts.{name}") for name in ("latest_forecast", "observation")}
    assert all(expected.values())
    for revision in reversed(REVISIONS[:-1]):  # down to the first revision, and from each of them up again
        migrate(engine, CATALOGUE, "-1")
        see_rows_reach_head(engine, revision, expected)
    migrate(engine, CATALOGUE)
    migrate(engine, CATALOGUE, "base")
    assert tables_of(engine) == set()
    migrate(engine, CATALOGUE)
    assert tables_of(engine) == {t.name for t in tables.metadata.tables.values()}
    assert values(engine, "SELECT count(*) FROM bts.latest_forecast") == [0]
    fill(engine)
    assert rows(engine, "SELECT station_id, q50 FROM bts.latest_forecast")


def partitions(engine: sa.Engine, count: int) -> None:
    """Batches as revision 0004 stored them: a partition each, of two series with three steps, no two numbers alike."""
    with engine.begin() as connection:
        for batch in range(1, count + 1):
            connection.exec_driver_sql(
                f"CREATE TABLE bts.forecast_{batch} PARTITION OF bts.forecast FOR VALUES IN ({batch})"
            )
        connection.exec_driver_sql(f"""
            INSERT INTO bts.forecast SELECT batch, station, 111, step, now(), now(), q - 1, q - 0.1, q, q + 0.1, q + 1e9
            FROM generate_series(1, {count}) AS batch, generate_series(1, 2) AS station, generate_series(1, 3) AS step,
                 LATERAL (SELECT batch / 7.0::float8 + station / 3.0::float8 + step * 1e-9) AS level (q)""")


@pytest.mark.parametrize("count", [3, 21], ids=["dropped_at_once", "dropped_one_by_one"])
def test_partitions_of_before_are_moved_bit_for_bit_and_dropped(engine: sa.Engine, count: int) -> None:
    migrate(engine, CATALOGUE, "0004")
    partitions(engine, count)
    levels = "q05, q10, q50, q90, q95"
    before = rows(engine, f"SELECT batch_id, station_id, step_ahead, {levels} FROM bts.forecast")
    migrate(engine, CATALOGUE)
    unnested = f"unnest({levels}) WITH ORDINALITY AS step ({levels}, n)"
    after = f"SELECT batch_id, station_id, n, {levels.replace('q', 'step.q')} FROM bts.forecast_series, {unnested}"
    assert rows(engine, after) == before
    assert len(before) == 6 * count
    assert tables_of(engine) == {t.name for t in tables.metadata.tables.values()}


@pytest.mark.parametrize(("step", "length"), [(900, 96), (60, 288), (86400, 1)])
def test_observations_of_before_are_moved_bit_for_bit(engine: sa.Engine, step: int, length: int) -> None:
    migrate(engine, CATALOGUE, "0010")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO bts.installation (step_seconds) VALUES ({step})")
        connection.exec_driver_sql(f"""
            INSERT INTO bts.observation
            SELECT 1, parameter, '2026-03-01Z'::timestamptz + n * make_interval(secs => {step}), n / 7.0::float8,
                   1 + mod(n, p)
            FROM generate_series(0, 700) AS n, (VALUES (1, 1), (2, 3)) AS series (parameter, p) WHERE mod(n, 5) <> 2""")
    before = rows(engine, "SELECT * FROM bts.observation")
    migrate(engine, CATALOGUE)
    assert rows(engine, "SELECT * FROM bts.observation") == before
    assert values(engine, "SELECT DISTINCT cardinality(values) FROM bts.observation_block") == [length]
    of_one = "SELECT DISTINCT cardinality(readings) FROM bts.observation_block WHERE parameter_id = 1"
    assert values(engine, of_one) == [1]
    migrate(engine, CATALOGUE, f"-{len(REVISIONS) - 1 - REVISIONS.index('0010')}")
    assert rows(engine, "SELECT * FROM bts.observation") == before


def test_a_series_without_all_its_steps_and_views_on_the_old_table_stop_it_in_one_line(engine: sa.Engine) -> None:
    migrate(engine, CATALOGUE, "0004")
    partitions(engine, 2)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bts.forecast WHERE batch_id = 2 AND station_id = 1 AND step_ahead = 2")
    with pytest.raises(DatabaseError, match="batch 2 lacks steps of station 1, parameter 111"):
        migrate(engine, CATALOGUE)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW public.mine AS SELECT q50 FROM bts.forecast")
    with pytest.raises(DatabaseError, match=r"others built on the table bts.forecast: (public\.)?mine"):
        migrate(engine, CATALOGUE)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW public.mine")
        connection.exec_driver_sql("DELETE FROM bts.forecast WHERE batch_id = 2 AND station_id = 1")
    migrate(engine, CATALOGUE)
    assert values(engine, "SELECT count(*) FROM bts.forecast_series") == [3]


def test_repeating_it_keeps_rows_views_and_stations_limits(engine: sa.Engine) -> None:
    migrate(engine, CATALOGUE)
    fill(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE bts.parameter SET unit = 'furlong' WHERE parameter_id = 111")
    before = rows(engine, "SELECT * FROM bts.latest_forecast") | rows(engine, "SELECT * FROM bts.station_limit")
    migrate(engine, CATALOGUE)
    assert rows(engine, "SELECT * FROM bts.latest_forecast") | rows(engine, "SELECT * FROM bts.station_limit") == before
    assert values(engine, "SELECT unit FROM bts.parameter WHERE parameter_id = 111") == ["°C"]


def test_a_schema_taken_down_is_not_mistaken_for_a_current_one(engine: sa.Engine) -> None:
    assert not is_current(engine, CATALOGUE)
    migrate(engine, CATALOGUE)
    assert is_current(engine, CATALOGUE)
    migrate(engine, CATALOGUE, "base")
    assert not is_current(engine, CATALOGUE)


def test_migrated_schema_is_that_of_the_code(migrated: sa.Engine) -> None:
    def ours(name: str | None, kind: str, _: object) -> bool:
        return name == SCHEMA if kind == "schema" else True

    options = {"include_schemas": True, "include_name": ours, "version_table_schema": SCHEMA}
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts=options | {"compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []


def test_migrated_schema_has_the_constraints_and_indexes_of_the_code(migrated: sa.Engine, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA bts")
        tables.metadata.create_all(connection)
    for query in (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'bts'::regnamespace AND conrelid <> coalesce(to_regclass('bts.alembic_version'), 0)",
        "SELECT tablename, indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'bts' AND tablename <> 'alembic_version'",
        "SELECT relname, relkind, pg_get_partkeydef(oid) FROM pg_class WHERE relkind IN ('r', 'p')"
        " AND relnamespace = 'bts'::regnamespace AND relname <> 'alembic_version'",
    ):
        assert rows(migrated, query) == rows(engine, query)
        assert rows(migrated, query)


def test_every_table_view_and_column_is_explained_in_the_database(migrated: sa.Engine) -> None:
    unexplained = """
        SELECT relname FROM pg_class WHERE relnamespace = 'bts'::regnamespace AND relkind IN ('r', 'p', 'v')
        AND relname <> 'alembic_version' AND coalesce(obj_description(oid, 'pg_class'), '') = ''"""
    assert values(migrated, unexplained) == []
    columns = """SELECT relname || '.' || attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE relnamespace = 'bts'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'alembic_version'
        AND attnum > 0 AND NOT attisdropped AND coalesce(col_description(attrelid, attnum), '') = ''"""
    assert values(migrated, columns) == []
    functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'bts'::regnamespace AND obj_description(oid) IS NULL"
    assert values(migrated, functions) == []


@pytest.mark.parametrize("view", PROMISED)
def test_public_view_has_the_promised_columns_in_order(migrated: sa.Engine, view: str) -> None:
    promised = PROMISED[view].split()
    assert list(columns_of(migrated, view))[: len(promised)] == promised


def test_forecasts_are_read_in_three_ways_with_the_same_columns(migrated: sa.Engine) -> None:
    for shown in (
        columns_of(migrated, "latest_forecast"),
        result_of(migrated, "forecast_as_of"),
        result_of(migrated, "forecast_at_origin"),
    ):
        assert shown == FORECAST
        assert list(shown) == list(FORECAST)


def test_everything_public_is_promised(migrated: sa.Engine) -> None:
    views = set(values(migrated, "SELECT viewname::text FROM pg_views WHERE schemaname = 'bts'"))
    assert views == PROMISED.keys() - PROMISED_TABLES
    page = (CHECKOUT / "docs" / "requirements.md").read_text(encoding="utf-8")
    promise = page.split("## What is promised to readers")[1]
    assert {name for name in tables_of(migrated) if f"`bts.{name}`" in promise} == PROMISED_TABLES


def test_views_come_back_after_a_revision_changed_a_column_they_stand_on(
    engine: sa.Engine, next_revision: Callable[[str], None]
) -> None:
    migrate(engine, CATALOGUE)
    fill(engine)
    before = rows(engine, "SELECT * FROM bts.latest_forecast"), rows(engine, "SELECT station FROM bts.series_status")
    change = "ALTER TABLE bts.station ALTER COLUMN name TYPE varchar(200)"
    with pytest.raises(sa.exc.NotSupportedError, match="used by a view"), engine.begin() as connection:
        connection.exec_driver_sql(change)
    next_revision(f"op.execute({change!r})")
    assert not is_current(engine, CATALOGUE)
    migrate(engine, CATALOGUE)
    assert columns_of(engine, "station")["name"] == "character varying"
    assert before == (
        rows(engine, "SELECT * FROM bts.latest_forecast"),
        rows(engine, "SELECT station FROM bts.series_status"),
    )


@pytest.mark.parametrize(
    "end",
    ["raise RuntimeError('in mid-revision')", "op.execute('SELECT pg_terminate_backend(pg_backend_pid())')"],
    ids=["revision_that_raises", "backend_that_is_killed"],
)
def test_revision_cut_off_in_the_middle_leaves_nothing_of_itself(
    engine: sa.Engine, next_revision: Callable[[str], None], end: str
) -> None:
    migrate(engine, CATALOGUE)
    fill(engine)
    before = rows(engine, "SELECT * FROM bts.latest_forecast")
    half = "op.execute('ALTER TABLE bts.station ADD COLUMN half_done text')"
    next_revision(f"{half}\n    {end}")
    with pytest.raises((RuntimeError, DatabaseError)):
        migrate(engine, CATALOGUE)
    assert values(engine, "SELECT version_num FROM bts.alembic_version") == [REVISIONS[-1]]
    assert "half_done" not in columns_of(engine, "station")
    assert rows(engine, "SELECT * FROM bts.latest_forecast") == before
    next_revision(half)
    migrate(engine, CATALOGUE)
    assert "half_done" in columns_of(engine, "station")


def waiting(engine: sa.Engine, seconds: float = 20) -> int:
    """How many sessions wait for a lock, once two do or the time is over."""
    deadline = time.monotonic() + seconds
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while (found := values(engine, query)[0]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return int(found)


def test_two_processes_that_migrate_at_once_both_end_well(engine: sa.Engine, database_url: str) -> None:
    script = (
        "import sys; from datetime import timedelta; from bts_assets.contracts.catalogue import load_catalogue;"
        "from bts_assets.storage.postgres import connect, migrate;"
        "migrate(connect(sys.argv[1], timedelta(seconds=20)), load_catalogue())"
    )
    postgres.make_locks(engine)
    with transaction(engine, LOCK_MIGRATE):
        upgraders = [
            subprocess.Popen([sys.executable, "-c", script, database_url], stderr=subprocess.PIPE) for _ in range(2)
        ]
        assert waiting(engine) == 2
    for upgrader in upgraders:
        _, errors = upgrader.communicate(timeout=30)
        assert upgrader.returncode == 0, errors.decode()
    assert values(engine, "SELECT version_num FROM bts.alembic_version") == [REVISIONS[-1]]
    assert values(engine, "SELECT count(*) FROM bts.parameter") == [len(CATALOGUE.parameters)]
    assert is_current(engine, CATALOGUE)


def test_readers_find_every_view_while_it_is_replaced(engine: sa.Engine, database_url: str, monkeypatch: Any) -> None:
    migrate(engine, CATALOGUE)
    impatient = connect(database_url, timedelta(milliseconds=50))
    seen: list[str] = []

    def look_and_apply(connection: sa.Connection) -> None:
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"), impatient.connect() as reader:
            reader.exec_driver_sql("SELECT * FROM bts.latest_forecast")
        seen.append("the reader waits, and is not told that the view is gone")
        apply_views(connection)

    apply_views = postgres.apply_views
    monkeypatch.setattr(postgres, "apply_views", look_and_apply)
    migrate(engine, CATALOGUE)
    impatient.dispose()
    assert len(seen) == 1


def test_a_migration_behind_an_open_reader_lets_others_through_and_goes_on_when_it_is_gone(
    engine: sa.Engine, database_url: str
) -> None:
    migrate(engine, CATALOGUE)
    patient = connect(database_url, timedelta(seconds=30))
    waits: list[float] = []
    with engine.connect() as held, ThreadPoolExecutor(1) as pool:
        held.exec_driver_sql("SELECT * FROM bts.latest_forecast")
        migration = pool.submit(migrate, patient, CATALOGUE)
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            began = time.monotonic()
            with connect(database_url, timedelta(seconds=30)).connect() as other:
                other.exec_driver_sql("SELECT * FROM bts.latest_forecast")
            waits.append(time.monotonic() - began)
        assert not migration.done()
        held.rollback()
        migration.result(timeout=30)
    patient.dispose()
    # All but the ones caught in a try came through at once; none stood behind the migration until it gave up.
    assert len(waits) >= 4
    assert max(waits) < 2


def test_reader_in_the_way_ends_in_one_line(engine: sa.Engine, database_url: str) -> None:
    migrate(engine, CATALOGUE)
    impatient = connect(database_url, timedelta(milliseconds=50))
    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM bts.latest_forecast")
        with pytest.raises(DatabaseError, match="while another session reads it"):
            migrate(impatient, CATALOGUE)
    with transaction(engine, LOCK_MIGRATE), pytest.raises(DatabaseError, match="another process is migrating"):
        migrate(impatient, CATALOGUE)
    migrate(impatient, CATALOGUE)
    impatient.dispose()


def test_plain_alembic_goes_up_and_down(engine: sa.Engine, database_url: str) -> None:
    def alembic(*arguments: str) -> None:
        command = [sys.executable, "-m", "alembic", *arguments]
        environment = os.environ | {"BTS_DATABASE_URL": database_url}
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    alembic("upgrade", "head")
    assert tables_of(engine) == {t.name for t in tables.metadata.tables.values()}
    migrate(engine, CATALOGUE)
    assert values(engine, "SELECT count(*) FROM bts.latest_forecast") == [0]
    migrate(engine, CATALOGUE, "base")
    alembic("upgrade", "head")
    alembic("downgrade", "base")
    assert tables_of(engine) == set()


def test_another_step_is_refused_in_one_line_and_changes_nothing(migrated: sa.Engine) -> None:
    claim_grid(migrated, Grid(HOUR, 24 * HOUR, 12 * HOUR))
    claim_grid(migrated, Grid(HOUR, 48 * HOUR, 6 * HOUR))
    with migrated.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO bts.observed_day (day, ledger_seq, digest, observations, readings)"
            " VALUES ('2026-03-09', 1, repeat('0', 64), 1, 1)"
        )
    with pytest.raises(DatabaseError) as refusal:
        claim_grid(migrated, Grid(HOUR / 4, 24 * HOUR, 12 * HOUR))
    assert str(refusal.value) == (
        "BTS_STEP=15min, but the observations here stand on a grid of 1h: "
        "set BTS_STEP=1h, or another BTS_HOME for the new grid"
    )
    assert values(migrated, "SELECT step_seconds FROM bts.installation") == [3600]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:canary@host/db", "begins with mysql://; it must be a postgresql:// URL"),
        ("canary", "BTS_DATABASE_URL is not a URL"),
        ("postgresql://u:canary@127.0.0.1:port/db", "BTS_DATABASE_URL cannot be read"),
        ("postgresql://u:canary@127.0.0.1:1/db", "no Postgres at postgresql://u:***@127.0.0.1:1/db"),
    ],
    ids=["other_database", "no_url", "port_of_letters", "nobody_there"],
)
def test_unusable_url_ends_in_one_line_without_its_password(url: str, told: str) -> None:
    with pytest.raises(DatabaseError) as refusal:
        connect(url, HOUR)
    assert told in str(refusal.value)
    assert "canary" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_views_that_others_built_on_ours_are_not_dropped(database_url: str) -> None:
    engine = connect(database_url, timedelta(seconds=5))
    migrate(engine, load_catalogue())
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW bts.theirs AS SELECT count(*) FROM bts.forecast_series")
        connection.exec_driver_sql("CREATE FUNCTION bts.their_function() RETURNS int RETURN 1")
    migrate(engine, load_catalogue())
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT bts.their_function() FROM bts.theirs").scalar() == 1
        connection.exec_driver_sql("CREATE VIEW public.mine AS SELECT q50 FROM bts.latest_forecast")
    with pytest.raises(DatabaseError, match=r"others built on its views: view mine depends on view "):
        migrate(engine, load_catalogue())
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM public.mine").scalar() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM bts.series_status").scalar() == 0
    engine.dispose()
