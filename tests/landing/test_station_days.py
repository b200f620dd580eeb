"""What stations come to by day: of all of them together, the same whichever were computed together."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.landing.reading_arrays import ReadingArrays
from bts_assets.landing.series import EPOCH, Observed, digest_observations, digest_of_stations, observe
from bts_assets.landing.station_days import station_days

START = datetime(2026, 3, 10, tzinfo=UTC)
GRID = Grid(timedelta(minutes=15), DAY, DAY)


def some_readings(count: int = 600) -> ReadingArrays:
    """Of four stations on two days, with few ids, so that some give way."""
    random = np.random.default_rng(1)
    time = (START - EPOCH) // timedelta(microseconds=1) + random.integers(0, 2 * 1440, count) * 60_000_000
    station, parameter = random.choice([-3, 5, 7, 2**40], count), random.choice([111, 122], count).astype("int32")
    return ReadingArrays(random.integers(-1, 40, count), station, parameter, time, random.normal(size=count))


def seen(readings: ReadingArrays) -> Observed:
    return observe([readings], load_catalogue(), GRID, START, START + 2 * DAY, reading_ids="key")


def test_sums_of_stations_are_those_of_the_day_whichever_were_computed_together() -> None:
    readings = some_readings()
    whole = seen(readings)
    sums = station_days(whole)
    apart = [station_days(seen(readings.take(readings.station_id == n))) for n in np.unique(readings.station_id)]
    together = pd.concat(apart).sort_values(["day", "station_id"], ignore_index=True)
    pd.testing.assert_frame_equal(sums, together)
    assert sums[["day", "station_id"]].to_numpy().tolist() == [
        [day, n] for day in (START.date(), START.date() + DAY) for n in (-3, 5, 7, 2**40)
    ]
    for day, of_day in sums.groupby("day"):
        rows = whole.observations[whole.observations["observed_at"].dt.date == day]
        assert digest_of_stations(of_day["digest"]) == digest_observations(rows)
        assert of_day["observations"].sum() == len(rows)
        assert of_day["first_observed_at"].min() == rows["observed_at"].min()
        assert of_day["last_observed_at"].max() == rows["observed_at"].max()
    assert sums["readings"].sum() == whole.readings
    assert sums[whole.merged.columns].sum().to_dict() == whole.merged.sum().to_dict()
    assert whole.conflicts > 0


def test_nothing_observed_is_no_row() -> None:
    none = station_days(seen(some_readings(0)))
    assert none.empty
    assert none.columns.tolist() == station_days(seen(some_readings(9))).columns.tolist()
