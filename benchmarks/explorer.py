"""How long the explorer's pages take on the server, at the size of a large operator.

    python -m benchmarks.explorer [--stations 10000] [--nights 30] [--runs 15]

Stations with 15 parameters each: every series has its ledger row in every night, and every fourth station may pass four
limits. What a page reads by key alone is there for one station in fifty: forecasts of the last three nights, scores of
all nights but the last, a week of observations at 15 minutes. Pages are asked for over HTTP, each another station, from
a warm server; beside the wall clock stands the CPU time of the page's process, which other load does not stretch.
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from urllib.request import urlopen

import sqlalchemy as sa
import uvicorn

from benchmarks.own_home import own_home
from benchmarks.publishing import GRID, enter_version
from bts_assets.explorer.app import make_app
from bts_assets.explorer.server import listening_on
from bts_assets.services.home import reading_engine

PARAMETERS: Final = (111, 112, 114, 115, 116, 121, 122, 123, 125, 141, 142, 152, 161, 162, 164)
#: One station in so many has all that is read by key.
_ONE_IN: Final = 50

_FILL: Final = """
    INSERT INTO bts.station (station_id, name, region, timezone, listed)
    SELECT n, 'Station ' || n, 'Region ' || n % 20, 'Asia/Ho_Chi_Minh', true FROM generate_series(1, {stations}) AS n;
    CREATE TEMP TABLE kind AS SELECT * FROM unnest(ARRAY{parameters}) AS parameter_id;
    INSERT INTO bts.series SELECT n, parameter_id, 0 FROM generate_series(1, {stations}) AS n, kind;
    INSERT INTO bts.batch (issued_at, kind, model_version_id, step_seconds, horizon_steps, input_start,
        input_ledger_seq, observations_digest, catalogue_digest, forecasts_digest, series, forecast, fallback, excluded,
        settings, code_version)
    SELECT date_trunc('day', now(), 'UTC') - n * interval '1 day', 'live', {version}, 900, {steps},
           date_trunc('day', now(), 'UTC') - (n + 7) * interval '1 day', 0, repeat('0', 64), repeat('0', 64),
           repeat('0', 64), 1, 1, 0, 0, '{{}}', 'bench'
    FROM generate_series({nights} - 1, 0, -1) AS n;
    INSERT INTO bts.publication (batch_id, serves_latest, reason)
    SELECT batch_id, true, 'bench' FROM bts.batch ORDER BY batch_id;
    INSERT INTO bts.forecast_ledger (batch_id, station_id, parameter_id, status, source, last_observed_at,
        history_steps, context_steps, components)
    SELECT batch_id, station_id, parameter_id, 'forecast', 'mixture', issued_at - interval '15 minutes', 672, 672,
           '{{"lstm": 0.7, "linear": 0.2, "daily_profile": 0.1}}'
    FROM bts.batch, bts.series
    -- Of the nights before the last two hardly anything but keys is looked at.
    WHERE batch_id > {nights} - 2 OR station_id % {one_in} = 0;
    INSERT INTO bts.forecast_series
    SELECT batch_id, station_id, parameter_id, q.a, q.b, q.c, q.d, q.e
    FROM bts.batch, bts.series, LATERAL (
        SELECT array_agg(v - 2) AS a, array_agg(v - 1) AS b, array_agg(v) AS c, array_agg(v + 1) AS d,
               array_agg(v + 2) AS e
        FROM (SELECT 20 + 10 * random() + 0 * step AS v FROM generate_series(1, {steps}) AS step
              WHERE station_id > 0) AS made
    ) AS q
    WHERE station_id % {one_in} = 0 AND batch_id > {nights} - 3;
    INSERT INTO bts.observed_step (starts_at, observed_at, step)
    SELECT day, day + (step - 1) * interval '15 minutes', step
    FROM generate_series(date_trunc('day', now(), 'UTC') - interval '7 days', now(), interval '1 day') AS day,
         generate_series(1, 96) AS step;
    INSERT INTO bts.observation_block (station_id, parameter_id, starts_at, values, readings)
    SELECT station_id, parameter_id, starts_at, array_agg(20 + random() ORDER BY step), ARRAY[9]
    FROM bts.series, bts.observed_step
    WHERE station_id % {one_in} = 0 AND starts_at < date_trunc('day', now(), 'UTC')
    GROUP BY station_id, parameter_id, starts_at;
    INSERT INTO bts.scored_batch (batch_id, ledger_seq, targets)
    SELECT batch_id, 0, 1 FROM bts.batch WHERE batch_id < {nights};
    INSERT INTO bts.forecast_score (batch_id, station_id, parameter_id, candidate, stretch, targets, absolute_error,
        error, pinball, crps, inside80, inside90, scale)
    SELECT batch_id, station_id, parameter_id, candidate, stretch, 48, 48, 4, 12, 24, 40, 44, 2
    FROM bts.scored_batch, bts.series, unnest(ARRAY['served', 'last_value', 'seasonal_naive_day']) AS candidate,
         generate_series(1, 4) AS stretch
    WHERE station_id % {one_in} = 0;
    INSERT INTO bts.parameter_score (batch_id, parameter_id, candidate, stretch, model_version_id, series, targets,
        absolute_error, error, scaled_error, scaled_targets, inside80, inside90, pinball, crps)
    SELECT batch_id, parameter_id, candidate, stretch, {version}, {stations}, 48 * {stations}, 48 * {stations}, 4, 24,
           48, 40, 44, 12, 24
    FROM bts.scored_batch, kind, unnest(ARRAY['served', 'last_value', 'seasonal_naive_day']) AS candidate,
         generate_series(1, 4) AS stretch;
    INSERT INTO bts.hourly_score (batch_id, parameter_id, candidate, hour, targets, absolute_error, error, scaled_error,
        scaled_targets, inside80, inside90)
    SELECT batch_id, parameter_id, candidate, hour, 8 * {stations}, 8 * {stations}, 4, 24, 48, 40, 44
    FROM bts.scored_batch, kind, unnest(ARRAY['served', 'last_value', 'seasonal_naive_day']) AS candidate,
         generate_series(0, 23) AS hour;
    INSERT INTO bts.breach_forecast (batch_id, station_id, parameter_id, side, limit_value, probability_6h,
        probability_24h, probability_48h, first_likely_at, expected_worst, expected_steps)
    SELECT batch_id, station_id, parameter_id, 'high', 25, p / 3, p / 2, p,
           CASE WHEN p >= 0.5 THEN issued_at + p * interval '40 hours' END, 27, 9
    FROM (SELECT *, 0.01 + 0.98 * random() AS p FROM bts.batch, bts.series
          WHERE batch_id = {nights} AND station_id % 4 = 0 AND parameter_id IN (111, 115, 121, 122)) AS breached;
"""


def fill(engine: sa.Engine, version: int, stations: int, nights: int) -> None:
    given = {"stations": stations, "nights": nights, "version": version, "steps": GRID.horizon_steps}
    with engine.begin() as connection:
        query = _FILL.format(**given, parameters=list(PARAMETERS), one_in=_ONE_IN)
        connection.exec_driver_sql(query.replace("%", "%%"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


@contextmanager
def served(engine: sa.Engine) -> Iterator[str]:
    listening = listening_on("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(engine), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def pages(run: int) -> dict[str, str]:
    """Addresses of one round, each round others, so that no answer is one that was kept."""
    station = _ONE_IN * (1 + run)
    return {
        "home": f"/?list={'all' if run % 2 else 'usual'}",
        "home, one region": f"/?region=Region+{run % 20}",
        "home, a name": f"/?search=Station+{station}",
        "home, a further page": f"/?after=2000-01-01%2000:00:00%2B00:00~{run / 100}~0",
        "stations": f"/stations?search={station}",
        "station": f"/station/{station}",
        "series": f"/series/{station}/111",
        "landing": "/landing",
        "accuracy": f"/accuracy?days={(1, 7, 28)[run % 3]}&parameter={PARAMETERS[run % len(PARAMETERS)]}",
    }


def measure(address: str, runs: int) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and CPU milliseconds of every page, by name; the first round warms up."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pages(0)}
    for run in range(runs + 1):
        for name, path in pages(run).items():
            wall, cpu = time.perf_counter(), time.process_time()
            with urlopen(address + path, timeout=60) as answer:  # noqa: S310 - our own server on loopback
                answer.read()
            if run:
                taken[name][0].append(1000 * (time.perf_counter() - wall))
                taken[name][1].append(1000 * (time.process_time() - cpu))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=10_000)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    say = sys.stdout.write
    grid = {"step": GRID.step, "context": GRID.context, "horizon": GRID.horizon}
    with own_home(lock_timeout=timedelta(minutes=5), **grid) as home:
        fill(home.engine, enter_version(home), arguments.stations, arguments.nights)
        say(f"{arguments.stations:,} stations x {len(PARAMETERS)} parameters, {arguments.nights} nights\n")
        say("| page | ms, least | ms, median | ms, most | CPU of the page, ms |\n| --- | --- | --- | --- | --- |\n")
        engine = reading_engine(home.settings)
        with served(engine) as address:
            for name, (wall, cpu) in measure(address, arguments.runs).items():
                cells = (min(wall), statistics.median(wall), max(wall), statistics.median(cpu))
                say(f"| {name} | {' | '.join(f'{cell:.0f}' for cell in cells)} |\n")
        engine.dispose()


if __name__ == "__main__":
    main()
