"""A handmade night behind the explorer, read as the reader, with names and rows in it that mean harm; and a browser."""

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import browser as chromium
import psycopg2
import pytest
import sqlalchemy as sa
from browser import Browser
from handmade_night import handmade_night
from pages import HOSTILE, Site, served

from bts_assets.storage.postgres import connect

_MORE = """
    UPDATE bts.station SET name = %(hostile)s, region = %(hostile)s, timezone = 'Asia/Ho_Chi_Minh' WHERE station_id = 2;
    UPDATE bts.station SET timezone = 'Asia/Ho_Chi_Minh', latitude = 21, longitude = 105 WHERE station_id = 1;
    INSERT INTO bts.landing_rejection VALUES (1, 18, %(hostile)s, %(hostile)s);
    UPDATE bts.landing_file SET path = 'day' || %(hostile)s || '.csv' WHERE ledger_seq = 1;
    INSERT INTO bts.station (station_id, name, region, timezone, listed)
    SELECT n, 'Valley ' || n, 'south', 'Asia/Ho_Chi_Minh', true FROM generate_series(101, 160) AS n;
    INSERT INTO bts.breach_forecast (batch_id, station_id, parameter_id, side, limit_value, probability_6h,
        probability_24h, probability_48h, first_likely_at, expected_worst, expected_steps)
    SELECT 2, n, 111, 'high', 35, (n %% 2) * 0.6, 0.7, 0.05 + n / 200.0,
           CASE WHEN n %% 3 = 0 THEN NULL ELSE issued_at + (n %% 40) * interval '1 hour' END, 36, 9
    FROM bts.batch, generate_series(101, 160) AS n WHERE batch_id = 2;
    INSERT INTO bts.breach_forecast (batch_id, station_id, parameter_id, side, limit_value, probability_6h,
        probability_24h, probability_48h, first_likely_at, expected_worst, expected_steps)
    SELECT 2, 2, 121, 'high', 230.5, 1, 1, 1, issued_at, 235, 100 FROM bts.batch WHERE batch_id = 2;
    UPDATE bts.forecast_ledger SET components = '{"lstm": 1.0}' WHERE station_id = 1 AND parameter_id = 111;
    -- Two days more: the earlier has the shape of the newest on another level, the later one has not.
    INSERT INTO bts.observed_step (observed_at, starts_at, step)
    SELECT observed_at - n * interval '1 day', starts_at - n * interval '1 day', step
    FROM bts.observed_step, generate_series(1, 2) AS n WHERE starts_at < date_trunc('day', now(), 'UTC');
    INSERT INTO bts.observation_block (station_id, parameter_id, starts_at, values, readings)
    SELECT station_id, parameter_id, starts_at - n * interval '1 day',
           (SELECT array_agg(CASE n WHEN 2 THEN v - 5 ELSE 60 - 3 * v END ORDER BY i)
            FROM unnest(values) WITH ORDINALITY AS u (v, i)), readings
    FROM bts.observation_block, generate_series(1, 2) AS n
    WHERE station_id = 1 AND parameter_id = 111 AND starts_at < date_trunc('day', now(), 'UTC');
    CREATE TABLE IF NOT EXISTS bts.planned_outage (station_id bigint, starts_at timestamptz, ends_at timestamptz,
        reason text);
    GRANT SELECT ON bts.planned_outage TO bts_reader;
    INSERT INTO bts.planned_outage (station_id, starts_at, ends_at, reason)
    SELECT 1, issued_at - interval '5 hours', issued_at - interval '3 hours', %(hostile)s FROM bts.batch
    WHERE batch_id = 2;
    -- A challenger, refused: wider, of a day more.
    INSERT INTO bts.model_version (bundle_digest, step_seconds, context_seconds, horizon_seconds, effort, seed,
        truncated, training_start, training_end, training_ledger_seq, observations_digest, catalogue_digest, metrics,
        packages, machine, code_version, settings)
    SELECT repeat('7', 64), step_seconds, context_seconds, horizon_seconds, effort, seed, truncated,
           training_start - interval '1 day', training_end, training_ledger_seq, repeat('8', 64), catalogue_digest,
           '{"served": {"median_mase": 0.71, "coverage80": 0.8, "series": 9},
             "lstm": {"median_mase": 0.75, "series": 4}}', '{"numpy": "2.4.0"}', machine, code_version,
           '{"BTS_LSTM_WIDTH": "128", "BTS_CATALOGUE": "", "BTS_LSTM_PATCHES": "7"}'
    FROM bts.model_version WHERE model_version_id = 1;
    UPDATE bts.model_version SET settings = '{"BTS_LSTM_WIDTH": "64", "BTS_LSTM_PATCHES": "7"}',
        metrics = '{"served": {"median_mase": 0.74, "coverage80": 0.79}}' WHERE model_version_id = 1;
    INSERT INTO bts.decision (model_version_id, champion_version_id, verdict, decided_by, reason, evidence,
        code_version)
    VALUES (2, 1, 'refused', 'gate', 'its errors are not lower', '[]', 'test');
    -- As a database has it that watches for drift.
    CREATE OR REPLACE VIEW bts.drift_of_a_test AS
    SELECT now() AS issued_at, 1::bigint AS station_id, %(hostile)s::text AS station, 111 AS parameter_id,
           'Room Temperature' AS parameter, 'input' AS kind, true AS alarm, 12.5::float8 AS evidence,
           NULL::text AS region;
    GRANT SELECT ON bts.drift_of_a_test TO bts_reader;
    INSERT INTO bts.dataset (name, observations_digest, ledger_seq, data_start, data_end, step_seconds, stations,
        parameters, series, silent_series, observations, missing_share, readings, files, bytes, rows, accepted,
        rejected, duplicate, code_version)
    SELECT %(hostile)s, observations_digest, 2, issued_at - interval '7 days', issued_at, 900, 1,
        2, 2, 0, 90, 0.06, 90, 1, 1000, 100, 90, 4, 6, 'test' FROM bts.batch WHERE batch_id = 2;
    INSERT INTO bts.series_profile (dataset_id, station_id, parameter_id, readings, observations, missing_share,
        minimum, median, maximum, gaps, longest_gap, readings_per_step, most_readings)
    SELECT dataset_id, 1, 111, 90, 90, 0.06, 20, 30, 40, 2, 4, 1, 3 FROM bts.dataset
    UNION ALL SELECT dataset_id, 1, 165, 90, 90, 0.06, 400, 500, 600, 2, 4, 1, 3 FROM bts.dataset;
    -- Described after the night: what the challenger learned from.
    INSERT INTO bts.dataset (name, observations_digest, ledger_seq, data_start, data_end, step_seconds, stations,
        parameters, series, silent_series, observations, missing_share, readings, files, bytes, rows, accepted,
        rejected, duplicate, code_version)
    SELECT 'training data', observations_digest, 2, training_start, training_end, 900, 1,
        1, 1, 0, 90, 0.06, 90, 1, 1000, 100, 90, 4, 6, 'test' FROM bts.model_version WHERE model_version_id = 2;
"""


@pytest.fixture(scope="session")
def night(server_url: str) -> Iterator[str]:
    """libpq URL of the reader of the night."""
    with handmade_night(server_url) as made:
        with closing(psycopg2.connect(made.owner_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(_MORE, {"hostile": HOSTILE})
        yield made.reader_url


@pytest.fixture(scope="session")
def reader(night: str) -> Iterator[sa.Engine]:
    engine = connect(night, timedelta(seconds=10), read_only=True)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def site(reader: sa.Engine) -> Iterator[Site]:
    with served(reader) as address:
        yield Site(address)


@pytest.fixture(scope="session")
def window() -> Iterator[Browser]:
    if why := chromium.missing():
        (pytest.fail if os.environ.get("NEED_BROWSER") else pytest.skip)(why)
    with chromium.browser() as opened:
        yield opened
