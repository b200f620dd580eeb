"""How observations are stored, weighed: arrays by series and block, as they are, against one row a step, as until 0011.

    python -m benchmarks.observation_store [--series 1000] [--days 30] [--runs 5]

Both hold the same observations, day by day as nights leave them. A day is written and a week read as a panel by the
package's own code, and by its code of before: CPU seconds of client and server. Queries are those of readers: what the
server needs to plan and to run them, from EXPLAIN ANALYZE; medians of runs.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from benchmarks.forecast_store import explained
from benchmarks.own_home import own_home
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.storage.binary_copy import copy_in, copy_out
from bts_assets.storage.embedded.roles import OWNER
from bts_assets.storage.observation_blocks import read_panel, replace_blocks
from bts_assets.storage.postgres import connect

GRID: Final = Grid(timedelta(minutes=15), timedelta(days=7), timedelta(days=2))
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
PARAMETERS: Final = 20

_ROWS: Final = """
    CREATE SCHEMA weighed;
    CREATE TABLE weighed.rows (station_id bigint, parameter_id int, observed_at timestamptz, value float8, readings int,
        PRIMARY KEY (station_id, parameter_id, observed_at));
    CREATE INDEX ON weighed.rows USING brin (observed_at);
"""
#: Layout -> what is queried, and the tables that hold it.
LAYOUTS: Final = {
    "a row a step": ("weighed.rows", ("weighed.rows",)),
    "arrays": ("bts.observation", ("bts.observation_block", "bts.observed_step")),
}
READS: Final = {
    "a week of a series": "SELECT observed_at, value FROM {table} WHERE station_id = 7 AND parameter_id = 3"
    " AND observed_at >= '{week}' AND observed_at < '{end}'",
    "all of an instant": "SELECT * FROM {table} WHERE observed_at = '{week}'",
    "sums of a day": "SELECT station_id, parameter_id, sum(readings) FROM {table} WHERE observed_at >= '{week}'"
    " AND observed_at < '{next}' GROUP BY 1, 2",
    "joined to forecasts on target_at": "SELECT count(*), avg(abs(f.level - o.value)) FROM weighed.forecast AS f"
    " JOIN {table} AS o ON (o.station_id, o.parameter_id, o.observed_at) = (f.station_id, f.parameter_id, f.target_at)",
}


def a_day(day: int, series: int) -> pd.DataFrame:
    """One in fifty observations is missing; most were made of one reading, in every fourth series of one or two."""
    random = np.random.default_rng(day)
    kept = random.random((series, GRID.steps_per_day)) > 0.02
    number, step = np.nonzero(kept)
    at = np.datetime64(START.replace(tzinfo=None), "us") + (day * GRID.steps_per_day + step) * np.timedelta64(900, "s")
    readings = 1 + (number % 4 == 0) * random.integers(0, 2, len(number))
    return pd.DataFrame({
        "station_id": number // PARAMETERS,
        "parameter_id": (number % PARAMETERS).astype("int32"),
        "observed_at": pd.Series(at).dt.tz_localize("UTC"),
        "value": random.normal(size=len(number)),
        "readings": readings.astype("int32"),
    })  # fmt: skip


def write_rows(connection: sa.Connection, rows: pd.DataFrame, grid: Grid, start: datetime, end: datetime) -> None:
    """As a day was replaced until 0011."""
    span = {"start": start, "end": end}
    connection.execute(sa.text("DELETE FROM weighed.rows WHERE observed_at >= :start AND observed_at < :end"), span)
    plain = {str(n): c.dt.tz_localize(None) if n == "observed_at" else c for n, c in rows.items()}
    copy_in(connection, "weighed.rows", {name: column.to_numpy() for name, column in plain.items()})


def panel_of_rows(connection: sa.Connection, grid: Grid, start: datetime, end: datetime) -> Panel:
    """As a panel was read until 0011."""
    columns = {"station_id": "int64", "parameter_id": "int32", "observed_at": "time", "value": "float64"}
    query = (
        f"SELECT {', '.join(columns)}, readings FROM weighed.rows"
        f" WHERE observed_at >= '{start.isoformat()}' AND observed_at < '{end.isoformat()}'"
    )
    return panel_from_observations(copy_out(connection, query, columns | {"readings": "int32"}), grid, start, end)


class Clock:
    """CPU seconds of this process and of the server's session, from /proc: the server is on this machine."""

    def __init__(self, connection: sa.Connection) -> None:
        self._stat = Path(f"/proc/{connection.exec_driver_sql('SELECT pg_backend_pid()').scalar_one()}/stat")

    def now(self) -> float:
        used = getrusage(RUSAGE_SELF)
        fields = self._stat.read_text().rpartition(")")[2].split()
        return used.ru_utime + used.ru_stime + (int(fields[11]) + int(fields[12])) / 100

    def of(self, work: Callable[[], object]) -> float:
        before = self.now()
        work()
        return self.now() - before


def measured(engine: sa.Engine, series: int, days: int, runs: int) -> dict[str, list[str]]:
    writers = {"a row a step": write_rows, "arrays": replace_blocks}
    readers = {"a row a step": panel_of_rows, "arrays": read_panel}
    week, end = START + (days - 7) * DAY, START + days * DAY
    cells: dict[str, list[str]] = {name: [] for name in LAYOUTS}
    digests = set()
    for name, write in writers.items():
        with engine.connect() as connection:
            clock, used, again = Clock(connection), [], []
            for day in range(days):
                rows, span = a_day(day, series), (START + day * DAY, START + (day + 1) * DAY)
                used.append(clock.of(lambda: write(connection, rows, GRID, *span)))  # noqa: B023 - called at once
                connection.commit()
            late = rows.drop(rows.index[0])
            again.append(clock.of(lambda: write(connection, late, GRID, *span)))  # noqa: B023
            connection.rollback()
            if name == "arrays":
                known = "INSERT INTO bts.series SELECT DISTINCT station_id, parameter_id, 0 FROM bts.observation_block"
                connection.exec_driver_sql(known)
                connection.commit()
            stored = count(connection, LAYOUTS[name][0])
            cells[name].append(f"{stored_bytes(connection, LAYOUTS[name][1]) / stored:.1f}")
            cells[name] += [f"{statistics.median(used):.2f}", f"{again[0]:.2f}"]
            panels = []
            read = [clock.of(lambda: panels.append(readers[name](connection, GRID, week, end))) for _ in range(3)]  # noqa: B023
            digests.add(panels[-1].digest)
            cells[name].append(f"{statistics.median(read):.2f}")
    if len(digests) != 1:
        raise SystemExit("the two layouts give different panels")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "CREATE TABLE weighed.forecast AS SELECT station_id, parameter_id, observed_at AS target_at, value AS level"
            f" FROM weighed.rows WHERE observed_at >= '{end - 2 * DAY}'"
        )
        connection.exec_driver_sql("VACUUM ANALYZE")
    with engine.connect() as connection:
        for name, (table, _) in LAYOUTS.items():
            cells[name] += reads(connection, table, week, end, runs)
    return cells


def reads(connection: sa.Connection, table: str, week: datetime, end: datetime, runs: int) -> Iterator[str]:
    """Milliseconds of every read."""
    for read in READS.values():
        query = read.format(table=table, week=week, next=week + DAY, end=end)
        yield f"{statistics.median([sum(explained(connection, query)) for _ in range(runs + 1)][1:]):.2f}"


def count(connection: sa.Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def stored_bytes(connection: sa.Connection, names: tuple[str, ...]) -> int:
    sizes = " + ".join(f"pg_total_relation_size('{name}')" for name in names)
    return int(connection.exec_driver_sql(f"SELECT {sizes}").scalar_one())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    say = sys.stdout.write
    with own_home(step=GRID.step, lock_timeout=timedelta(minutes=5)) as home:
        engine = connect(home.urls[OWNER], timedelta(minutes=5))  # nights may make no schema
        with engine.begin() as connection:
            connection.exec_driver_sql(_ROWS)
        cells = measured(engine, arguments.series, arguments.days, arguments.runs)
        say(f"{arguments.series:,} series x {arguments.days} days of 15 minutes\n")
        say("| layout | bytes an observation | CPU s to write a day | to write it again, one observation less |")
        say(" to read a week as a panel | " + ", ms | ".join(READS) + ", ms |\n")
        for name, row in cells.items():
            say(f"| {name} | {' | '.join(row)} |\n")
        engine.dispose()


if __name__ == "__main__":
    main()
