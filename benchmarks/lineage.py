"""Lineage of one row among ten million stored forecasts: the server's time to plan and run, from EXPLAIN ANALYZE.

    python -m benchmarks.lineage [--batches 35] [--series 1500] [--days 365] [--runs 9]

Batches of 192 steps, their ledgers and the landing files of a year (24 a day) are made up; plans and times are real.
The version was trained on 56 days of files, the input of a batch is a week of them.
"""

import argparse
import statistics
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import sqlalchemy as sa

from benchmarks.own_home import own_home
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.storage.binary_copy import copy_in

HORIZON: Final = 192
END: Final = datetime(2026, 11, 20, tzinfo=UTC)

_FILES: Final = sa.text("""
    INSERT INTO bts.landing_file (path, digest, status, bytes, modified_ns, rows, accepted, rejected, duplicate,
        rejected_by_reason, first_reading_at, last_reading_at, days, taken_at, code_version)
    SELECT 'param-' || to_char(hour, 'YYYY-MM-DD-HH24') || '.csv', encode(sha256(n::text::bytea), 'hex'), 'accepted',
           1, 0, 100, 100, 0, 0, '{}', hour - late, hour + interval '59 minutes',
           (SELECT array_agg(DISTINCT at::date) FROM unnest(ARRAY[hour - late, hour]) AS at), hour, 'bench'
    FROM generate_series(0, :files - 1) AS n, LATERAL (
        -- Every tenth file holds late rows too.
        SELECT CAST(:end AS timestamptz) - (:files - n) * interval '1 hour' AS hour,
               (n % 10 = 0)::int * interval '6 hours' AS late
    ) AS of_file
""")
_VERSION: Final = sa.text("""
    INSERT INTO bts.model_version (bundle_digest, step_seconds, context_seconds, horizon_seconds, effort, seed,
        truncated, training_start, training_end, training_ledger_seq, observations_digest, catalogue_digest, metrics,
        packages, machine, code_version, settings)
    SELECT repeat('c', 64), 900, 604800, 172800, 'quick', 1, false, CAST(:end AS timestamptz) - interval '56 days',
           :end, :files, repeat('d', 64), repeat('e', 64), '{}', '{}', '{}', 'bench', '{}'
    RETURNING model_version_id
""")
_BATCH: Final = sa.text("""
    INSERT INTO bts.batch (issued_at, kind, model_version_id, step_seconds, horizon_steps, input_start,
        input_ledger_seq, observations_digest, catalogue_digest, forecasts_digest, series, forecast, fallback, excluded,
        settings, code_version)
    SELECT :at, 'live', :version, 900, :horizon, CAST(:at AS timestamptz) - interval '7 days', :files,
           repeat('f', 64), repeat('e', 64), repeat('0', 64), :series, :series, 0, 0, '{}', 'bench'
    RETURNING batch_id
""")
_LEDGER: Final = sa.text("""
    INSERT INTO bts.forecast_ledger (batch_id, station_id, parameter_id, status, source, last_observed_at,
        history_steps, context_steps, components)
    SELECT :batch, 1 + n / 20, 101 + n % 20, 'forecast', 'mixture', :at, 672, 672, '{"lstm": 1}'
    FROM generate_series(0, :series - 1) AS n
""")
_POINT: Final = sa.text("INSERT INTO bts.publication (batch_id, serves_latest, reason) VALUES (:batch, true, 'bench')")
_ONE: Final = """
    FROM bts.forecast AS f JOIN bts.forecast_lineage AS l USING (batch_id, station_id, parameter_id)
    WHERE batch_id = {batch} AND station_id = 7 AND parameter_id = 104 AND step_ahead = 9
"""


def fill(engine: sa.Engine, batches: int, series: int, files: int) -> None:
    with engine.begin() as connection:
        connection.execute(_FILES, {"files": files, "end": END})
        version = connection.execute(_VERSION, {"files": files, "end": END}).scalar_one()
    for back in reversed(range(batches)):
        given = {
            "at": END - timedelta(days=back),
            "horizon": HORIZON,
            "files": files,
            "series": series,
        }
        with engine.begin() as connection:
            batch = connection.execute(_BATCH, given | {"version": version}).scalar_one()
            connection.execute(_LEDGER, given | {"batch": batch})
            connection.execute(_POINT, {"batch": batch})
            load_forecasts(connection, batch, series)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def load_forecasts(connection: sa.Connection, batch: int, series: int) -> None:
    number = np.arange(series)
    columns = {
        "batch_id": np.full(series, batch),
        "station_id": 1 + number // 20,
        "parameter_id": (101 + number % 20).astype(np.int32),
        **{name: np.broadcast_to(float(k), (series, HORIZON)) for k, name in enumerate(QUANTILE_COLUMNS)},
    }
    copy_in(connection, "bts.forecast_series", columns)


def milliseconds(connection: sa.Connection, query: str) -> float:
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}").scalar_one()
    return float(plan["Planning Time"] + plan["Execution Time"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=35)
    parser.add_argument("--series", type=int, default=1500)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    say = sys.stdout.write
    with own_home() as home:
        fill(home.engine, arguments.batches, arguments.series, 24 * arguments.days)
        rows = arguments.batches * arguments.series * HORIZON
        say(f"{rows:,} stored forecasts, {24 * arguments.days:,} landing files; {arguments.runs} runs each\n")
        for what, columns in (
            ("every column", "*"),
            ("without the names of files", "mlflow_run_id, code_version"),
        ):
            queries = [f"SELECT {columns} {_ONE.format(batch=1 + n)}" for n in range(arguments.runs)]
            first = []
            for query in queries:
                with home.engine.connect() as connection:
                    connection.invalidate()  # a session of its own
                    first.append(milliseconds(connection, query))
            with home.engine.connect() as connection:
                warm = [milliseconds(connection, query) for query in queries * 2][arguments.runs :]
            say(
                f"{what:<28} {statistics.median(warm):6.2f} ms; first in a session {statistics.median(first):6.2f} ms\n"
            )


if __name__ == "__main__":
    main()
