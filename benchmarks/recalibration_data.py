"""Nights of `benchmarks.recalibration`: forecasts of one training, night after night, and actuals. No scores.

Forecasts are kept as arrays in a folder, so that ways of recalibration can be compared without forecasting again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.accuracy_data import BURSTY_KINDS, HOUR, bursty, ett_hourly
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.fit import fit_bundle
from bts_assets.forecasting.windows import latest_context, take_series

#: Nights after the one training.
NIGHTS: Final = 60

#: Nights of each kind of `bursty`: as long as its series last.
_BURSTY_NIGHTS: Final = (30, 10, 30)

#: How the made-up series drift after their training; each is a parameter that no catalogue lists.
DRIFTS: Final = (
    "steady",
    "noise grows",
    "noise shrinks",
    "level climbs",
    "swing grows",
    "bursts come",
    "regime changes",
)
FIRST_PARAMETER: Final = 9300
_STATIONS: Final = 8
_TRAINING_DAYS: Final = 35


@dataclass(frozen=True)
class Nights:
    """Forecasts of consecutive nights by one version: quantiles (nights, series, horizon, levels), NaN where none.

    panel: all that came. origins: columns of it, ascending, a day apart.
    """

    label: str
    panel: Panel
    origins: tuple[int, ...]
    quantiles: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """(nights, series, horizon)."""
        horizon = self.panel.grid.horizon_steps
        return np.stack([self.panel.values[:, o : o + horizon] for o in self.origins])

    def of(self, rows: np.ndarray) -> "Nights":
        """Some series of it."""
        return replace(self, panel=take_series(self.panel, rows), quantiles=self.quantiles[:, rows])


def all_nights(data: Path, kept: Path, only: str | None) -> Iterator[Nights]:
    """Every set, forecast now or read from `kept`."""
    for label, make in _panels(data).items():
        if only is None or only in label:
            panel, nights = make()
            yield _kept(kept / f"{label.replace(' ', '-')}.npy", label, panel, nights)


def _bursty(data: Path, number: int, nights: int) -> tuple[Panel, int]:
    return bursty(data)[number].panel, nights


def _panels(data: Path) -> dict[str, Callable[[], tuple[Panel, int]]]:
    sets: dict[str, Callable[[], tuple[Panel, int]]] = {"drift": lambda: (drifting(1), NIGHTS)}
    sets["ett end"] = lambda: (_ett(data, 0), NIGHTS)
    sets["ett 2304 h earlier"] = lambda: (_ett(data, 2304), NIGHTS)
    sets["ett 4608 h earlier"] = lambda: (_ett(data, 4608), NIGHTS)
    for number, (kind, nights) in enumerate(zip(BURSTY_KINDS, _BURSTY_NIGHTS, strict=True)):
        sets[f"nab {kind}"] = partial(_bursty, data, number, nights)
    return sets


def _ett(data: Path, hours: int) -> Panel:
    panel = ett_hourly(data)[0].panel.until(hours)
    return Panel(
        Grid(HOUR, panel.grid.context, 48 * HOUR), panel.station_id, panel.parameter_id, panel.end, panel.values
    )


def drifting(seed: int) -> Panel:
    """Hourly series that go on as they were for `_TRAINING_DAYS`, and then drift for `NIGHTS` days, by `DRIFTS`."""
    rng = np.random.default_rng(seed)
    grid = Grid(HOUR, 7 * DAY, 48 * HOUR)
    hours = np.arange((_TRAINING_DAYS + NIGHTS + 2) * 24)
    moved = np.clip((hours / 24 - _TRAINING_DAYS) / NIGHTS, 0, 1)
    rows = [_series(kind, hours, moved, rng) for kind in DRIFTS for _ in range(_STATIONS)]
    parameter = np.repeat(np.arange(len(DRIFTS)) + FIRST_PARAMETER, _STATIONS).astype(np.int32)
    station = np.tile(np.arange(1, _STATIONS + 1), len(DRIFTS))
    order = np.lexsort((parameter, station))
    end = datetime(2026, 11, 20, tzinfo=UTC)
    return Panel(grid, station[order], parameter[order], end, np.stack(rows)[order])


def _series(kind: str, hours: np.ndarray, moved: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    level, swing, noise = rng.uniform(20, 60), rng.uniform(2, 8), rng.uniform(0.5, 1.5)
    daily = np.sin(2 * np.pi * (hours / 24 + rng.uniform())) + 0.4 * np.sin(4 * np.pi * (hours / 24 + rng.uniform()))
    errors = np.zeros(len(hours))
    for k, shock in enumerate(rng.normal(0, noise, len(hours))):
        errors[k] = 0.7 * errors[k - 1] + shock
    amount = {"noise grows": 1 + 1.5 * moved, "noise shrinks": 1 - 0.6 * moved}.get(kind, np.ones(len(hours)))
    values = level + swing * daily * (1 + 1.0 * moved * (kind == "swing grows")) + errors * amount
    if kind == "level climbs":
        values += 1.5 * swing * moved + np.cumsum(rng.normal(0, 0.25 * noise, len(hours)) * (moved > 0))
    if kind == "bursts come":
        bursts = (rng.random(len(hours)) < 0.12 * moved) * rng.exponential(4 * noise, len(hours))
        values += np.convolve(bursts, [1.0, 0.6, 0.3])[: len(hours)]
    if kind == "regime changes":
        values += np.where(moved > 1 / 3, errors * 1.0, 0.0) - np.where(moved > 2 / 3, errors * 1.5, 0.0)
    return values


def _kept(path: Path, label: str, panel: Panel, nights: int) -> Nights:
    grid = panel.grid
    last = panel.steps - grid.horizon_steps
    return forecast_all(path, label, panel, tuple(last - back * grid.steps_per_day for back in reversed(range(nights))))


def forecast_all(path: Path, label: str, panel: Panel, origins: tuple[int, ...]) -> Nights:
    """What one version serves from each origin, forecast now or read from a file that is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, _forecast(panel, origins))
    return Nights(label, panel, origins, np.load(path))


def _forecast(panel: Panel, origins: tuple[int, ...]) -> np.ndarray:
    """What one version, trained before the first origin at quick effort, serves from each."""
    catalogue = load_catalogue()
    bundle = fit_bundle(panel.until(panel.steps - origins[0]), catalogue, effort="quick", seed=1).bundle
    served = np.full((len(origins), len(panel), panel.grid.horizon_steps, len(QUANTILES)), np.nan)
    for night, origin in enumerate(origins):
        known = panel.until(panel.steps - origin)
        rows = np.flatnonzero(np.isfinite(latest_context(known).values).any(axis=1))
        batch = make_batch(bundle, take_series(known, rows), catalogue, levels=QUANTILES)
        served[night, rows[(batch.ledger["status"] != "excluded").to_numpy()]] = batch.quantiles
    return served
