"""A month of nights with a misread and an outage a day, beside an undisturbed twin: forecasts stay with the twin's."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from small_panels import CATALOGUE, make_panel

from benchmarks.twins import compared, write_struck
from bts_assets.contracts.catalogue import Catalogue, load_catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.ensemble_weights import Weights
from bts_assets.landing.files import parse_landing_file
from bts_assets.landing.series import observe
from bts_assets.simulation.simulate import NetworkSpec, simulate_network

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


def evenly(catalogue: Catalogue = CATALOGUE) -> Bundle:
    names = tuple(f.name for f in CHEAP)
    weights = Weights(names, np.full(len(names), 1 / len(names)))
    return Bundle(MONTH, ZoneInfo("UTC"), "quick", 1, catalogue, weights)


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


END = datetime(2026, 4, 12, tzinfo=UTC)
WEEKS = timedelta(days=14)


def observed(landing: Path) -> pd.DataFrame:
    """Of all files at once, by the shipped catalogue, with ids as they are found to be."""
    parsed = [
        parse_landing_file(f.read_bytes(), load_catalogue(), landing_timezone=ZoneInfo("UTC"), now=END,
                           max_skew=timedelta(days=1)).readings
        for f in sorted(landing.glob("*.csv")) if b"value" in f.read_bytes()[:200]
    ]  # fmt: skip
    return observe(parsed, load_catalogue(), MONTH, END - WEEKS, END).observations


def test_landing_files_with_a_misread_an_outage_and_a_station_of_repeated_ids_a_day_do_too(tmp_path: Path) -> None:
    """As `benchmarks.twins`, of two weeks and simple candidates."""
    spec = NetworkSpec(8, WEEKS.days, END, 11, parameters=(111, 115, 121, 122, 142, 162), readings_per_hour=2)
    truth = simulate_network(spec, tmp_path / "twin")
    write_struck(truth.landing, tmp_path / "struck", seed=11)
    twins = [observed(folder) for folder in (truth.landing, tmp_path / "struck")]
    counts = [frame["readings"].sum() for frame in twins]
    assert counts[1] >= 0.995 * counts[0]  # what a station says under one id is many readings all the same
    bundle, found = evenly(load_catalogue()), []
    for day in range(9, WEEKS.days + 1):
        end = END - WEEKS + timedelta(days=day)
        panels = [panel_from_observations(frame, MONTH, end - MONTH.context, end) for frame in twins]
        batches = [make_batch(bundle, panel, load_catalogue(), levels=QUANTILES) for panel in panels]
        found.append(compared(*batches))
    found = pd.concat(found)
    assert found["off"].sum() <= 0.01 * found["targets"].sum()
