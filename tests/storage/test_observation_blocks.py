"""Observations at rest: what is written is what is read, and what did not change is not written again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from nights import HomeMaker

from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import panel_from_observations
from bts_assets.services.home import Home
from bts_assets.storage.observation_blocks import (
    ALL_STATIONS,
    count_known,
    count_readings,
    first_heard,
    read_panel,
    replace_blocks,
    steps_of_block,
)
from bts_assets.storage.observations import last_heard, read_observations

START = datetime(2026, 3, 10, tzinfo=UTC)
KEY = ["station_id", "parameter_id", "observed_at"]


@pytest.fixture
def home(make_home: HomeMaker) -> Home:
    return make_home(step="15min")


def grid_of(step: timedelta) -> Grid:
    return Grid(step, DAY, DAY)


def some_observations(grid: Grid, days: int = 2, seed: int = 1) -> pd.DataFrame:
    """Three series with gaps: one was made of equally many readings throughout, one reports seldom."""
    random = np.random.default_rng(seed)
    parts = []
    for station, parameter, share, most in ((-7, 122, 0.9, 2), (3, 111, 0.7, 9), (2**40, 122, 0.02, 9)):
        kept = np.flatnonzero(random.random(days * grid.steps_per_day) < share)
        kept = kept if len(kept) else np.array([1])
        at = pd.to_datetime([START + int(n) * grid.step for n in kept], utc=True).astype("datetime64[us, UTC]")
        rows: dict[str, Any] = {"station_id": station, "parameter_id": parameter, "observed_at": at}
        counts = random.integers(1, most, len(kept))
        parts.append(pd.DataFrame({**rows, "value": random.normal(size=len(kept)), "readings": counts}))
    frame = pd.concat(parts, ignore_index=True).astype({"station_id": "int64", "parameter_id": "int32"})
    return frame.astype({"readings": "int32"})


def written(home: Home, grid: Grid, rows: pd.DataFrame, days: int = 2) -> None:
    with home.engine.begin() as connection:
        connection.execute(sa.text("UPDATE bts.installation SET step_seconds = :s"), {"s": grid.step.total_seconds()})
        replace_blocks(connection, rows, grid, START, START + days * DAY)
        known = "INSERT INTO bts.series SELECT DISTINCT station_id, parameter_id, 1 FROM bts.observation_block"
        connection.exec_driver_sql(f"{known} ON CONFLICT DO NOTHING")


@pytest.mark.parametrize(
    "step", [timedelta(minutes=15), timedelta(minutes=1), timedelta(seconds=54), timedelta(hours=6), DAY], ids=str
)
def test_what_is_written_is_read_bit_for_bit_whatever_the_grid(home: Home, step: timedelta) -> None:
    grid = grid_of(step)
    rows = some_observations(grid)
    written(home, grid, rows)
    for start, end in (
        (START, START + 2 * DAY),
        (START + grid.step, START + 2 * DAY - grid.step),
        (START - DAY, START + step),
    ):
        inside = rows[(rows["observed_at"] >= start) & (rows["observed_at"] < end)]
        known = rows[rows["observed_at"] < end][KEY[:2]].drop_duplicates()
        with home.engine.connect() as connection:
            stored = read_observations(connection, start, end).sort_values(KEY, ignore_index=True)
            panel = read_panel(connection, grid, start, end)
            assert count_known(connection, grid, end, 1) == len(known)
            counted = count_readings(connection, grid, start, end, ALL_STATIONS).sort_values(KEY[:2], ignore_index=True)
        pd.testing.assert_frame_equal(stored, inside.reset_index(drop=True), check_exact=True)
        assert panel.digest == panel_from_observations(inside, grid, start, end, known).digest
        of_series = inside.groupby(KEY[:2])["readings"]
        expected = of_series.agg(readings="sum", most_readings="max").reset_index().astype({"readings": "int64"})
        pd.testing.assert_frame_equal(counted, expected)


def test_a_panel_of_some_series_is_those_rows_of_it(home: Home) -> None:
    grid = grid_of(timedelta(minutes=15))
    written(home, grid, some_observations(grid))
    with home.engine.connect() as connection:
        whole = read_panel(connection, grid, START, START + DAY)
        some = read_panel(connection, grid, START, START + DAY, [(3, 111), (5, 5)])
        none = read_panel(connection, grid, START, START + DAY, [])
    assert list(zip(some.station_id, some.parameter_id, strict=True)) == [(3, 111)]
    np.testing.assert_array_equal(some.values[0], whole.values[list(whole.station_id).index(3)])
    assert len(none) == 0


def test_the_first_station_with_observations_is_pictured_for_each_parameter(home: Home) -> None:
    grid = grid_of(timedelta(minutes=15))
    rows = some_observations(grid)
    rows = rows[(rows["station_id"] != -7) | (rows["observed_at"] < START + DAY)]
    written(home, grid, rows)
    with home.engine.connect() as connection:
        assert first_heard(connection, grid, START, START + 2 * DAY, 8) == [(3, 111), (-7, 122)]
        assert first_heard(connection, grid, START + DAY, START + 2 * DAY, 8) == [(3, 111), (2**40, 122)]
        assert first_heard(connection, grid, START, START + 2 * DAY, 1) == [(3, 111)]


def test_a_late_file_rewrites_the_blocks_that_it_changed_and_no_others(home: Home) -> None:
    grid = grid_of(timedelta(minutes=15))
    rows = some_observations(grid)
    written(home, grid, rows)
    places = "SELECT station_id, starts_at, ctid::text FROM bts.observation_block"

    def stood() -> set[tuple[Any, ...]]:
        with home.engine.connect() as connection:
            return {tuple(row) for row in connection.exec_driver_sql(places)}

    before = stood()
    written(home, grid, rows)
    assert stood() == before
    late = rows.copy()
    late.loc[late.index[late["station_id"] == 3][0], "value"] = -0.0
    late = late[(late["station_id"] != -7) | (late["observed_at"] < START + DAY)]
    written(home, grid, late)
    assert before - stood() == {row for row in before if row[:2] in {(3, START), (-7, START + DAY)}}
    with home.engine.connect() as connection:
        stored = read_observations(connection, START, START + 2 * DAY).sort_values(KEY, ignore_index=True)
    pd.testing.assert_frame_equal(stored, late.reset_index(drop=True), check_exact=True)
    assert np.signbit(stored["value"][stored["value"] == 0]).all()


def test_a_few_stations_are_replaced_and_the_others_stay(home: Home) -> None:
    grid = grid_of(timedelta(minutes=15))
    rows = some_observations(grid)
    written(home, grid, rows)
    changed = rows.assign(value=7.0)
    with home.engine.begin() as connection:
        few = changed[changed["station_id"] == 3]
        replace_blocks(connection, few, grid, START, START + 2 * DAY, [3, -7, 4])
        replace_blocks(connection, few[:0], grid, START, START + 2 * DAY, [])
        stored = read_observations(connection, START, START + 2 * DAY).sort_values(KEY, ignore_index=True)
    expected = pd.concat([few, rows[rows["station_id"] == 2**40]], ignore_index=True)
    pd.testing.assert_frame_equal(stored, expected, check_exact=True)


def test_a_silent_series_was_last_heard_at_its_newest_step_before(home: Home) -> None:
    grid = grid_of(timedelta(minutes=15))
    rows = some_observations(grid)
    written(home, grid, rows)
    for before in (START + 2 * DAY, START + timedelta(hours=30), START + timedelta(hours=7), START):
        newest = rows[rows["observed_at"] < before].groupby(KEY[:2])["observed_at"].max()
        with home.engine.connect() as connection:
            heard = last_heard(connection, np.array([3, 2**40]), np.array([111, 122]), before)
        for row in heard.itertuples():
            told = newest.get((row.station_id, row.parameter_id), pd.NaT)
            assert row.last_observed_at == told or (pd.isna(row.last_observed_at) and pd.isna(told))


def test_plans_of_the_view_read_the_blocks_of_their_instants_alone(home: Home) -> None:
    grid = grid_of(timedelta(minutes=15))
    written(home, grid, some_observations(grid, days=40), days=40)
    question = "SELECT value FROM bts.observation WHERE station_id = 3 AND parameter_id = 111 AND observed_at = :at"
    with home.engine.connect() as connection:
        connection.execute(sa.text("ANALYZE bts.observation_block, bts.observed_step"))
        explained = connection.execute(sa.text(f"EXPLAIN (ANALYZE, TIMING OFF) {question}"), {"at": START + DAY})
        plan = "\n".join(row[0] for row in explained)
    assert "pk_observed_step" in plan
    assert "pk_observation_block" in plan


def test_a_block_fits_a_page_whatever_the_grid() -> None:
    for seconds in (1, 54, 60, 300, 900, 3600, 86400):
        grid = grid_of(timedelta(seconds=seconds))
        assert steps_of_block(grid) <= 288
        assert grid.steps_per_day % steps_of_block(grid) == 0
