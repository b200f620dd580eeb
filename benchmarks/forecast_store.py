"""How forecasts are stored, weighed: arrays by series in one table, as they are, against one row a step.

    python -m benchmarks.forecast_store [--series 1500] [--batches 30] [--further 370] [--runs 5]

One row a step is measured as one table, and as a partition a batch, which publishing attached until 0005. Beside the
batches that are measured there are further ones, with hardly a row each, as a year of nights leaves them: a plan meets
them all. Queries are those of readers: what the server needs to plan and to run them, from
EXPLAIN ANALYZE; medians of runs, in one session that is warm.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from benchmarks.own_home import own_home
from benchmarks.publishing import GRID, enter_version
from bts_assets.storage.embedded.roles import OWNER
from bts_assets.storage.postgres import connect

_STORED: Final = """
    CREATE SCHEMA weighed;
    INSERT INTO bts.batch (issued_at, kind, model_version_id, step_seconds, horizon_steps, input_start,
        input_ledger_seq, observations_digest, catalogue_digest, forecasts_digest, series, forecast, fallback, excluded,
        settings, code_version)
    SELECT at + n * interval '1 day', 'live', {version}, 900, {steps}, at, 0,
           repeat('0', 64), repeat('0', 64), repeat('0', 64), 1, 1, 0, 0, '{{}}', 'bench'
    FROM (SELECT timestamptz '2026-01-01Z') AS start (at), generate_series(1, {all}) AS n ORDER BY n;
    INSERT INTO bts.forecast_ledger (batch_id, station_id, parameter_id, status, source, history_steps, context_steps)
    SELECT batch_id, 1 + n / 20, n % 20, 'forecast', 'mixture', 672, 672
    FROM bts.batch, generate_series(0, {series} - 1) AS n WHERE batch_id > {further} OR n = 0;
    INSERT INTO bts.forecast_series
    SELECT batch_id, station_id, parameter_id, a, a, a, a, a FROM bts.forecast_ledger, LATERAL (
        SELECT array_agg(20 + 10 * random() + 0 * step) FROM generate_series(1, {steps}) AS step
        WHERE station_id > 0) AS made (a);
    INSERT INTO bts.publication (batch_id, serves_latest, reason) SELECT batch_id, true, 'bench' FROM bts.batch;
    CREATE TABLE weighed.rows (batch_id bigint, station_id bigint, parameter_id int, step_ahead smallint,
        issued_at timestamptz, target_at timestamptz, q05 float8, q10 float8, q50 float8, q90 float8, q95 float8);
    INSERT INTO weighed.rows SELECT batch_id, station_id, parameter_id, step_ahead, issued_at, target_at,
        q05, q10, q50, q90, q95 FROM bts.forecast;
    ALTER TABLE weighed.rows ADD PRIMARY KEY (batch_id, station_id, parameter_id, step_ahead);
    CREATE TABLE weighed.partitions (LIKE weighed.rows, PRIMARY KEY (batch_id, station_id, parameter_id, step_ahead))
        PARTITION BY LIST (batch_id);
"""
_VIEW: Final = """
    CREATE VIEW weighed.latest_{name} AS
    SELECT f.*, l.source, coalesce(l.model_version_id, b.model_version_id) AS model_version_id
    FROM weighed.{name} AS f JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)
    JOIN bts.batch AS b USING (batch_id)
    WHERE batch_id = (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1)
"""
#: Layout -> its latest forecasts, all of its forecasts, its table.
LAYOUTS: Final = {
    "arrays, one table": ("bts.latest_forecast", "bts.forecast", "bts.forecast_series"),
    "a row a step, one table": ("weighed.latest_rows", "weighed.rows", "weighed.rows"),
    "a row a step, partitions": ("weighed.latest_partitions", "weighed.partitions", "weighed.partitions"),
}
READS: Final = {
    "latest of a series": "SELECT * FROM {latest} WHERE station_id = 7 AND parameter_id = 3 ORDER BY target_at",
    "latest of a station": "SELECT * FROM {latest} WHERE station_id = 7",
    "all predicted breaches": "SELECT station_id, parameter_id, min(target_at) FROM {latest} WHERE q50 > 29.9"
    " GROUP BY 1, 2",
    "two batches joined on target_at": "SELECT count(*), avg(abs(a.q50 - b.q50)) FROM {all} AS a JOIN {all} AS b"
    " USING (station_id, parameter_id, target_at) WHERE a.batch_id = {last} AND b.batch_id = {last} - 1",
}


def fill(engine: sa.Engine, version: int, series: int, batches: int, further: int) -> None:
    given = {"version": version, "steps": GRID.horizon_steps, "series": series, "further": further}
    with engine.begin() as connection:
        connection.exec_driver_sql(_STORED.format(all=batches + further, **given).replace("%", "%%"))
        for batch in range(1, batches + further + 1):
            connection.exec_driver_sql(
                f"CREATE TABLE weighed.partition_{batch} PARTITION OF weighed.partitions FOR VALUES IN ({batch})"
            )
        connection.exec_driver_sql("INSERT INTO weighed.partitions SELECT * FROM weighed.rows")
        for name in ("rows", "partitions"):
            connection.exec_driver_sql(_VIEW.format(name=name))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def figures(engine: sa.Engine, table: str, latest: str, everything: str, last: int, runs: int) -> Iterator[str]:
    """Bytes a row, relations that a read locks, milliseconds to plan it, and milliseconds of every read."""
    size = (
        "SELECT sum(pg_total_relation_size(coalesce(inhrelid, c.oid))) FROM pg_class AS c LEFT JOIN pg_inherits"
        f" ON inhparent = c.oid WHERE c.oid = '{table}'::regclass"
    )
    locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"SELECT count(*) FROM {everything}").scalar_one()
        yield f"{connection.exec_driver_sql(size).scalar_one() / rows:.0f}"
    with engine.connect() as connection:
        one = READS["latest of a series"].format(latest=latest)
        connection.exec_driver_sql(one).all()
        yield f"{connection.exec_driver_sql(locks).scalar_one()}"
        plans = [explained(connection, one)[0] for _ in range(runs + 1)]
        yield f"{statistics.median(plans[1:]):.2f}"
        for read in READS.values():
            query = read.format(latest=latest, all=everything, last=last)
            yield f"{statistics.median([sum(explained(connection, query)) for _ in range(runs + 1)][1:]):.2f}"


def explained(connection: sa.Connection, query: str) -> tuple[float, float]:
    """The server's milliseconds to plan and to run it."""
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}").scalar_one()
    return float(plan["Planning Time"]), float(plan["Execution Time"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1500)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--further", type=int, default=370)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    say = sys.stdout.write
    grid = {"step": GRID.step, "context": GRID.context, "horizon": GRID.horizon}
    with own_home(lock_timeout=timedelta(minutes=5), **grid) as home:
        engine = connect(home.urls[OWNER], timedelta(minutes=5))  # nights may make no schema
        fill(engine, enter_version(home), arguments.series, arguments.batches, arguments.further)
        last = arguments.batches + arguments.further
        say(f"{arguments.series:,} series x {GRID.horizon_steps} steps x {arguments.batches} batches, ")
        say(f"{last} batches in all\n")
        say("| layout | bytes a row | relations locked | planning, ms | " + ", ms | ".join(READS) + ", ms |\n")
        for name, (latest, everything, table) in LAYOUTS.items():
            cells = figures(engine, table, latest, everything, last, arguments.runs)
            say(f"| {name} | {' | '.join(cells)} |\n")
        engine.dispose()


if __name__ == "__main__":
    main()
