"""Forecasting, recalibrating and publishing a batch, against a bare COPY of the same rows into a table with that key.

    python -m benchmarks.publishing [--series 1500] [--runs 5]

Two days of 15-minute steps ahead for every series, forecast by a trained network of the default shape (its weights do
not matter for speed). The server is the embedded one, on the disk of --home. Medians over the runs.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from benchmarks.own_home import own_home
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.ensemble_weights import one_candidate
from bts_assets.forecasting.fit import fit_bundle
from bts_assets.forecasting.recalibration import Recalibration
from bts_assets.services.home import Home
from bts_assets.services.memory import series_a_part
from bts_assets.services.recalibration import Recalibrating
from bts_assets.services.work_part import in_threads
from bts_assets.storage import tables
from bts_assets.storage.batch_identity import BatchOrigin
from bts_assets.storage.binary_copy import copy_in
from bts_assets.storage.embedded.roles import OWNER
from bts_assets.storage.forecasts import publish
from bts_assets.storage.loading import BatchPart
from bts_assets.storage.observation_blocks import neighbours
from bts_assets.storage.postgres import connect

GRID: Final = Grid(timedelta(minutes=15), timedelta(days=7), timedelta(days=2))
PER_STATION: Final = 20
BARE_TABLE: Final = """
    CREATE TABLE bts.bare (station_id bigint, parameter_id int, issued_at timestamptz, target_at timestamptz,
        step_ahead smallint, q05 float8, q10 float8, q50 float8, q90 float8, q95 float8, batch_id bigint,
        PRIMARY KEY (batch_id, station_id, parameter_id, step_ahead))
"""


def example_panel(series: int) -> Panel:
    rng = np.random.default_rng(0)
    step = np.arange(GRID.steps_per_day * 14)
    daily = np.sin(2 * np.pi * step / GRID.steps_per_day + rng.uniform(0, 6, (series, 1)))
    gauges = [p.parameter_id for p in load_catalogue() if p.kind == "gauge"]
    parameters = np.array([*gauges, *range(900, 900 + PER_STATION)][:PER_STATION], dtype=np.int32)
    station, number = np.divmod(np.arange(series), PER_STATION)
    values = 20 + 5 * daily + rng.normal(size=(series, len(step)))
    end = datetime(2026, 11, 20, tzinfo=UTC)
    return Panel(GRID, 1_161_114_001 + station, parameters[number], end, values)


def origin_of(home: Home, version: int, number: int) -> BatchOrigin:
    end = datetime(2026, 11, 20, tzinfo=UTC)
    return BatchOrigin(
        version, end - GRID.context, 0, f"{number:064}", "0" * 64, "live", home.settings.public(), "bench", None
    )


def enter_version(home: Home) -> int:
    row = {
        **{c.name: "bench" for c in tables.model_version.columns if str(c.type) in ("TEXT", "CHAR(64)")},
        **{c.name: {} for c in tables.model_version.columns if str(c.type) == "JSONB"},
        **{f"{k}_seconds": int(getattr(GRID, k).total_seconds()) for k in ("step", "context", "horizon")},
        "seed": 0,
        "truncated": False,
        "training_ledger_seq": 0,
        "training_start": datetime(2026, 11, 1, tzinfo=UTC),
        "training_end": datetime(2026, 11, 20, tzinfo=UTC),
    }
    with home.engine.begin() as connection:
        insert = tables.model_version.insert().values(row).returning(tables.model_version.c.model_version_id)
        return int(connection.execute(insert).scalar_one())


def rows_of(batch: Batch) -> dict[str, np.ndarray]:
    frame = batch.to_frame()
    at = {name: frame[name].dt.tz_localize(None).to_numpy() for name in ("issued_at", "target_at")}
    plain = {name: frame[name].to_numpy() for name in frame.columns if name not in at}
    return {**plain, **at, "batch_id": np.broadcast_to(np.int64(1), len(frame))}


def bare_copy(owner: sa.Engine, rows: dict[str, np.ndarray]) -> None:
    """The limit: the same forecasts, a row a step, by the same binary COPY, into a table that has the key already."""
    with owner.begin() as connection:
        connection.exec_driver_sql(BARE_TABLE)
        copy_in(connection, "bts.bare", rows)
    with owner.begin() as connection:
        connection.exec_driver_sql("DROP TABLE bts.bare")


def recalibrate(home: Home, panel: Panel) -> Recalibration:
    with home.engine.connect() as connection:
        recalibrating = Recalibrating(connection, home.catalogue, panel.grid, panel.end)
        asked = recalibrating.asked(panel, (int(panel.station_id[0]), int(panel.station_id[-1])))
        found = recalibrating.state(pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id]), [asked])
    if found is None:
        raise RuntimeError("the nights before left nothing to learn from")
    return found


def publish_nights_before(home: Home, version: int, batch: Batch, panel: Panel) -> None:
    """Two nights, the second recalibrated by the actuals of the first."""
    for days in (2, 1):
        known = panel.until(days * GRID.steps_per_day)
        origin = origin_of(home, version, 1_000_000 + days)
        if days == 1:
            origin = replace(origin, recalibration=recalibrate(home, known))
        publish(home.engine, [BatchPart(replace(batch, issued_at=known.end))], known.end, origin, GRID)


def median_seconds(runs: int, work: Callable[[int], object]) -> float:
    seconds = []
    for number in range(runs + 1):
        start = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])  # the first warms caches


@contextmanager
def prepared(series: int) -> Iterator[tuple[Home, int, Bundle, Panel]]:
    """A home with a version in it, its bundle, and a panel of so many series."""
    panel, catalogue = example_panel(series), load_catalogue()
    small = Panel(GRID, panel.station_id[:40], panel.parameter_id[:40], panel.end, panel.values[:40])
    bundle = fit_bundle(small, catalogue, effort="quick", seed=0).bundle
    bundle = replace(bundle, weights=one_candidate(bundle.weights.candidates, "lstm"))
    with own_home(step=GRID.step, context=GRID.context, horizon=GRID.horizon) as home:
        yield home, enter_version(home), bundle, panel


@contextmanager
def forecast(home: Home, bundle: Bundle, panel: Panel) -> Iterator[Iterator[BatchPart]]:
    """Forecasts in parts of as many stations as a night's, two of them under way at once."""
    counted = zip(*np.unique(panel.station_id, return_counts=True), strict=True)
    parts = [
        panel.take(np.flatnonzero((panel.station_id >= first) & (panel.station_id <= last)))
        for first, last in neighbours(counted, series_a_part(home.settings, len(panel)))
    ]

    def made(part: Panel) -> BatchPart:
        return BatchPart(make_batch(bundle, part, home.catalogue))

    if len(parts) == 1:
        yield iter([made(panel)])
        return
    with in_threads(made, parts) as found:
        yield found


def forecast_and_publish(home: Home, version: int, bundle: Bundle, panel: Panel, number: int) -> None:
    with forecast(home, bundle, panel) as parts:
        publish(home.engine, parts, panel.end, origin_of(home, version, number), GRID)


def rows_to_sql(owner: sa.Engine, frame: pd.DataFrame) -> None:
    """What a user would write: the rows, one a step, by pandas' `to_sql`."""
    with owner.begin() as connection:
        frame.to_sql("to_sql", connection, schema="bts", index=False, if_exists="replace", chunksize=10_000)


def measured(way: str, series: int) -> dict[str, float]:
    """Forecast rows and seconds: `ours` from a panel to what readers see, `instead` and `limit` from rows to rows."""
    with prepared(series) as (home, version, bundle, panel):
        batch = make_batch(bundle, panel, home.catalogue)
        owner = connect(home.urls[OWNER], timedelta(minutes=5))
        frame, rows = batch.to_frame(), rows_of(batch)
        ways: dict[str, Callable[[int], object]] = {
            "ours": lambda n: forecast_and_publish(home, version, bundle, panel, n),
            "instead": lambda _: rows_to_sql(owner, frame),
            "limit": lambda _: bare_copy(owner, rows),
        }
        seconds = median_seconds(1 if way == "instead" else 3, ways[way])
        owner.dispose()
    return {"work": len(frame), "seconds": seconds}


def grown(role: str, growth: int) -> dict[str, float]:
    """A stage of `benchmarks.stages`: a station's forecast rows, from a panel in memory to what readers see."""
    return measured(role, 15 * growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with prepared(arguments.series) as (home, version, bundle, panel):
        catalogue = home.catalogue
        batch = make_batch(bundle, panel, catalogue)
        rows = batch.quantiles.shape[0] * batch.quantiles.shape[1]
        forecasting = median_seconds(arguments.runs, lambda _: make_batch(bundle, panel, catalogue))
        publishing = median_seconds(
            arguments.runs,
            lambda n: publish(home.engine, [BatchPart(batch)], batch.issued_at, origin_of(home, version, n), GRID),
        )
        whole = median_seconds(arguments.runs, lambda n: forecast_and_publish(home, version, bundle, panel, 1_000 + n))
        publish_nights_before(home, version, batch, panel)
        recalibrating = median_seconds(arguments.runs, lambda _: recalibrate(home, panel))
        given = rows_of(batch)
        owner = connect(home.urls[OWNER], timedelta(minutes=5))
        bare = median_seconds(arguments.runs, lambda _: bare_copy(owner, given))
        owner.dispose()
    say = sys.stdout.write
    say(f"{len(batch.station_id):,} series x {GRID.horizon_steps} steps = {rows:,} rows; {arguments.runs} runs\n")
    say(f"forecasting, panel to arrays      {forecasting:6.3f} s  {rows / forecasting:12,.0f} rows/s\n")
    say(f"recalibration, read and reckoned  {recalibrating:6.3f} s  {rows / recalibrating:12,.0f} rows/s\n")
    say(f"publishing, arrays to published   {publishing:6.3f} s  {rows / publishing:12,.0f} rows/s\n")
    say(f"both, in parts, two at once       {whole:6.3f} s  {rows / whole:12,.0f} rows/s\n")
    say(f"bare COPY into a keyed table      {bare:6.3f} s  {rows / bare:12,.0f} rows/s\n")
    say(f"publishing takes {publishing / bare:.2f} times the bare COPY\n")


if __name__ == "__main__":
    main()
