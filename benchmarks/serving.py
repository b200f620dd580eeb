"""How long readers wait, many at once, with a great store of forecasts behind the views.

    python -m benchmarks.serving [--forecasts 100000000] [--clients 64] [--seconds 20]

pgbench sends the project's own queries. Batches of 20,000 series x 192 steps (1,000 stations of 20 parameters) are
stored until there are so many forecasts, each number its own, and one series in twenty may pass a limit. Clients ask as
fast as they are answered, each time for another series, station or instant, as simple statements that are planned anew,
as a dashboard sends them; latencies are those that pgbench logs for every transaction. The row to compare with is a
lookup of as many rows as a series' forecast has in a plain table, a row a step, by a range of its primary key: two
batches of it, so that it fits the cache better. The role that reads is given as many connections as there are clients;
by itself it has 30.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from benchmarks.own_home import own_home
from benchmarks.publishing import GRID, enter_version
from bts_assets.services.home import Home
from bts_assets.storage.binary_copy import copy_in
from bts_assets.storage.embedded.cluster import Cluster
from bts_assets.storage.embedded.host import binaries
from bts_assets.storage.embedded.roles import OWNER, READER
from bts_assets.storage.postgres import connect

STATIONS: Final = 1000
PARAMETERS: Final = 20
#: Batches that the plain table has.
PLAIN: Final = 2
#: Reads -> the script of pgbench.
READS: Final = {
    "a range of a plain table's primary key, 192 rows": """
        \\set batch random(1, {plain})
        \\set station random(1, {stations})
        \\set parameter random(0, {last})
        SELECT * FROM weighed.rows WHERE batch_id = :batch AND station_id = :station AND parameter_id = :parameter
    """,
    "the latest forecast of a series, 192 rows": """
        \\set station random(1, {stations})
        \\set parameter random(0, {last})
        SELECT target_at, q05, q10, q50, q90, q95 FROM bts.latest_forecast
        WHERE station_id = :station AND parameter_id = :parameter ORDER BY target_at
    """,
    "the same as it was seen at an instant": """
        \\set station random(1, {stations})
        \\set parameter random(0, {last})
        \\set hours random(1, {hours})
        SELECT target_at, q05, q10, q50, q90, q95 FROM bts.forecast_as_of(now() - :hours * interval '1 hour')
        WHERE station_id = :station AND parameter_id = :parameter ORDER BY target_at
    """,
    "the latest forecast of a station, 3,840 rows": """
        \\set station random(1, {stations})
        SELECT parameter_id, target_at, q05, q50, q95 FROM bts.latest_forecast WHERE station_id = :station
    """,
    "all predicted breaches, 1,000 rows": "SELECT * FROM bts.predicted_breach",
}


def fill(home: Home, owner: sa.Engine, forecasts: int, stations: int = STATIONS, plain: int = PLAIN) -> int:
    """Store batches, a night each until now, so many of them in the plain table as well; how many batches there are."""
    series, horizon = stations * PARAMETERS, GRID.horizon_steps
    batches = max(-(-forecasts // (series * horizon)), plain)
    version = enter_version(home)
    with owner.begin() as connection:
        given = {"version": version, "batches": batches, "steps": horizon, "series": series, "stations": stations}
        connection.exec_driver_sql(_BATCHES.format(**given).replace("%", "%%"))
    station, parameter = np.divmod(np.arange(series), PARAMETERS)
    rng = np.random.default_rng(0)
    for batch in range(1, batches + 1):
        middle = 20 + rng.standard_normal((series, horizon)).cumsum(axis=1)
        columns = {
            "batch_id": np.broadcast_to(np.int64(batch), series),
            "station_id": station + 1,
            "parameter_id": parameter.astype(np.int32),
            **{name: middle + by for name, by in _LEVELS.items()},
        }
        with owner.begin() as connection:
            copy_in(connection, "bts.forecast_series", columns)
        sys.stderr.write(f"\r  batch {batch} of {batches}")
    sys.stderr.write("\n")
    with owner.begin() as connection:
        connection.exec_driver_sql(_FURTHER.format(plain=plain))
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    return batches


def latencies(home: Home, script: str, clients: int, seconds: int) -> np.ndarray:
    """Milliseconds of every transaction that so many clients were given, after two seconds of warming up."""
    with TemporaryDirectory(prefix="bts-serving-") as folder:
        file = Path(folder) / "read.sql"
        file.write_text("\n".join(line.strip() for line in _joined(script)))
        command = [
            str(binaries() / "pgbench"),
            "--no-vacuum",
            f"--client={clients}",
            "--jobs=2",
            f"--file={file}",
            home.urls[READER],
        ]
        for time, more in ((2, []), (seconds, ["--log", f"--log-prefix={folder}/log"])):
            subprocess.run([*command, f"--time={time}", *more], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ourselves
        logs = [pd.read_csv(log, sep=" ", header=None, usecols=[2]) for log in Path(folder).glob("log*")]
    return pd.concat(logs)[2].to_numpy() / 1000


def _admit(home: Home, clients: int) -> None:
    with closing(Cluster.of(home.settings.home).connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("ALTER ROLE bts_reader CONNECTION LIMIT %s", (clients + 5,))


def _joined(script: str) -> Iterator[str]:
    r"""pgbench wants each \set on a line of its own, and the statement on one."""
    lines = [line.strip() for line in script.strip().splitlines()]
    yield from (line for line in lines if line.startswith("\\"))
    yield " ".join(line for line in lines if not line.startswith("\\")) + ";"


def plans(home: Home, owner: sa.Engine) -> list[str]:
    """Reads whose plan goes through a whole table of forecasts: there should be none."""
    found = []
    with owner.connect() as connection:
        for name, script in READS.items():
            query = list(_joined(script))[-1].replace(":hours", "1").replace(":batch", "1")
            query = query.replace(":station", "7").replace(":parameter", "3")
            plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {query}"))
            if any(f"Seq Scan on {table}" in plan for table in ("forecast_series", "forecast_ledger", "rows")):
                found.append(name)
    return found


_LEVELS: Final = {"q05": -2.0, "q10": -1.5, "q50": 0.0, "q90": 1.5, "q95": 2.0}
_BATCHES: Final = """
    INSERT INTO bts.station (station_id, name, region, timezone, listed)
    SELECT n, 'Station ' || n, 'Region ' || n % 20, 'UTC', true FROM generate_series(1, {stations}) AS n;
    INSERT INTO bts.batch (issued_at, kind, model_version_id, step_seconds, horizon_steps, input_start,
        input_ledger_seq, observations_digest, catalogue_digest, forecasts_digest, series, forecast, fallback, excluded,
        settings, code_version)
    SELECT date_trunc('day', now(), 'UTC') - n * interval '1 day', 'live', {version}, 900, {steps},
           date_trunc('day', now(), 'UTC') - (n + 7) * interval '1 day', 0, repeat('0', 64), repeat('0', 64),
           repeat('0', 64), {series}, {series}, 0, 0, '{{}}', 'bench'
    FROM generate_series({batches} - 1, 0, -1) AS n;
    INSERT INTO bts.publication (batch_id, serves_latest, reason, published_at)
    SELECT batch_id, true, 'bench', issued_at FROM bts.batch ORDER BY batch_id;
"""
_FURTHER: Final = """
    INSERT INTO bts.forecast_ledger (batch_id, station_id, parameter_id, status, source, history_steps, context_steps)
    SELECT batch_id, station_id, parameter_id, 'forecast', 'mixture', 672, 672 FROM bts.forecast_series;
    INSERT INTO bts.breach_forecast (batch_id, station_id, parameter_id, side, limit_value, probability_6h,
        probability_24h, probability_48h, expected_worst, expected_steps)
    SELECT batch_id, station_id, parameter_id, 'high', 40, 0.1, 0.4, 0.6, 42, 5 FROM bts.forecast_series
    WHERE parameter_id = 3;
    CREATE SCHEMA weighed;
    CREATE TABLE weighed.rows (batch_id bigint, station_id bigint, parameter_id int, step_ahead smallint,
        target_at timestamptz, q05 float8, q10 float8, q50 float8, q90 float8, q95 float8);
    INSERT INTO weighed.rows SELECT batch_id, station_id, parameter_id, step_ahead, target_at, q05, q10, q50, q90, q95
        FROM bts.forecast WHERE batch_id <= {plain};
    ALTER TABLE weighed.rows ADD PRIMARY KEY (batch_id, station_id, parameter_id, step_ahead);
    GRANT USAGE ON SCHEMA weighed TO bts_reader;
    GRANT SELECT ON weighed.rows TO bts_reader;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forecasts", type=int, default=100_000_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    say = sys.stdout.write
    grid = {"step": GRID.step, "context": GRID.context, "horizon": GRID.horizon}
    with own_home(lock_timeout=timedelta(minutes=5), **grid) as home:
        owner = connect(home.urls[OWNER], timedelta(minutes=5))
        _admit(home, arguments.clients)
        batches = fill(home, owner, arguments.forecasts)
        with owner.connect() as connection:
            size = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
        stored = batches * STATIONS * PARAMETERS * GRID.horizon_steps
        say(f"{stored:,} forecasts in {batches} batches, {size / 1e9:.1f} GB with the plain table; ")
        say(f"{arguments.clients} clients, {arguments.seconds} s each, {datetime.now(UTC):%Y-%m-%d}\n\n")
        say("| read | a second | median, ms | p99, ms | p99, of the range's |\n| --- | --- | --- | --- | --- |\n")
        beside = None
        for name, script in READS.items():
            filled = script.format(plain=PLAIN, hours=24 * (batches - 1), stations=STATIONS, last=PARAMETERS - 1)
            took = latencies(home, filled, arguments.clients, arguments.seconds)
            beside = beside or float(np.quantile(took, 0.99))
            cells = [f"{len(took) / arguments.seconds:,.0f}", *(f"{np.quantile(took, q):.1f}" for q in (0.5, 0.99))]
            say(f"| {name} | {' | '.join(cells)} | {np.quantile(took, 0.99) / beside:.2f} |\n")
        say(f"\nPlans that go through a whole table of forecasts: {', '.join(plans(home, owner)) or 'none'}\n")
        owner.dispose()


if __name__ == "__main__":
    main()
