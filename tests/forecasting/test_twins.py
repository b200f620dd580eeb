"""A month of nights with a misread and an outage a day, beside an undisturbed twin: forecasts stay with the twin's."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
from small_panels import CATALOGUE, make_panel

from bts_assets.contracts.grid import QUANTILES, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.ensemble_weights import Weights

MONTH = Grid(timedelta(hours=1), timedelta(days=8), timedelta(hours=24))
STATIONS, DAYS = 12, 38


def network() -> np.ndarray:
    """Grid voltages, which swing little, and temperatures and loads with rhythms, (stations, hours)."""
    rng = np.random.default_rng(0)
    hour = np.arange(24 * DAYS)
    swing = np.array([[1.0], [6.0], [4.0]])[np.arange(STATIONS) % 3]
    level = np.array([[221.0], [20.0], [9.0]])[np.arange(STATIONS) % 3]
    noise = rng.normal(size=(STATIONS, len(hour))) * 0.15 * swing
    return level + swing * np.sin(2 * np.pi * hour / 24 + rng.uniform(0, 6, (STATIONS, 1))) * 0.5 + noise


def evenly() -> Bundle:
    names = tuple(f.name for f in CHEAP)
    weights = Weights(names, np.full(len(names), 1 / len(names)))
    return Bundle(MONTH, ZoneInfo("UTC"), "quick", 1, CATALOGUE, weights)


def quantiles(bundle: Bundle, values: np.ndarray, day: int) -> np.ndarray:
    panel: Panel = make_panel(values[:, : 24 * day], [77] * STATIONS, MONTH)
    return make_batch(bundle, panel, CATALOGUE, levels=QUANTILES).quantiles


def test_a_misread_and_an_outage_a_day_leave_forecasts_where_the_twins_are() -> None:
    bundle, twin, rng = evenly(), network(), np.random.default_rng(1)
    struck = twin.copy()
    for day in range(1, DAYS):
        misread, out = rng.choice(STATIONS, 2, replace=False)
        at = 24 * day - rng.integers(6, 24, 2)
        struck[misread, at[0]] = rng.choice([999.0, -999.0, 1e9, 0.0])
        struck[out, at[1] : at[1] + 4] = 0.0
    beyond = []
    for day in range(8, DAYS, 3):
        was, now = quantiles(bundle, twin, day), quantiles(bundle, struck, day)
        width = was[:, :, -1] - was[:, :, 0]
        # The median and the ends of the 90 % interval, which the database keeps.
        off = np.abs(now - was)[:, :, [QUANTILES.index(q) for q in (0.05, 0.5, 0.95)]].max(axis=2)
        beyond.append(off > width)
    assert np.mean(beyond) <= 0.01
