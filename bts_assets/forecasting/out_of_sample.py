"""Forecasts of every candidate at holdout origins, beside the actuals: what weights and intervals are learned from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.counters import before_reset, counter_rows, newest_levels
from bts_assets.forecasting.forecasters import Forecaster, forecast_each, newest_known
from bts_assets.forecasting.metrics import METRICS, mase_scale, metrics
from bts_assets.forecasting.windows import at_origin, in_chunks, take_series

#: Numbers that are kept at most; beyond, every n-th step ahead is.
_NUMBERS: Final = 200_000_000
_CHUNK: Final = 2048


@dataclass(frozen=True)
class HoldoutForecasts:
    """Out-of-sample forecasts of `candidates` from `origins` (columns of the panel) at `steps` ahead (from 0).

    quantiles (candidates, series, origins, steps, levels) and truth (series, origins, steps), float32, in the series'
    unit less `centre` (series, origins), the newest value: so single precision loses no small change of a large
    number, and what did not change is 0 exactly. NaN where a candidate has no forecast, or there is no actual. scale
    (series,): of MASE.
    """

    panel: Panel
    origins: tuple[int, ...]
    steps: np.ndarray
    candidates: tuple[str, ...]
    quantiles: np.ndarray
    truth: np.ndarray
    centre: np.ndarray
    scale: np.ndarray

    @property
    def station_id(self) -> np.ndarray:
        return self.panel.station_id

    @property
    def parameter_id(self) -> np.ndarray:
        return self.panel.parameter_id

    def independent_nights(self, use: np.ndarray | None = None) -> float:
        """How many nights that do not overlap these origins are worth."""
        origins = np.array(self.origins)[slice(None) if use is None else use]
        if not len(origins):
            return 0.0
        gaps = np.diff(origins) / self.panel.grid.horizon_steps
        return float(1 + np.minimum(gaps, 1).sum())

    def of_series(self, rows: np.ndarray) -> "HoldoutForecasts":
        """The same of some series (rows)."""
        return replace(
            self,
            panel=take_series(self.panel, rows),
            quantiles=self.quantiles[:, rows],
            truth=self.truth[rows],
            centre=self.centre[rows],
            scale=self.scale[rows],
        )

    def of_origins(self, use: np.ndarray) -> "HoldoutForecasts":
        """The same of some origins (bool, (origins,))."""
        origins = tuple(o for o, wanted in zip(self.origins, use, strict=True) if wanted)
        return replace(
            self,
            origins=origins,
            quantiles=self.quantiles[:, :, use],
            truth=self.truth[:, use],
            centre=self.centre[:, use],
        )

    def scores(self, name: str, quantiles: np.ndarray) -> pd.DataFrame:
        """`METRICS` of forecasts (series, origins, steps, levels), one row per series and origin that it served."""
        frames = []
        for k, origin in enumerate(self.origins):
            truth = self.truth[:, k]
            rows = np.flatnonzero(np.isfinite(quantiles[:, k]).all(axis=(1, 2)) & np.isfinite(truth).any(axis=1))
            centre = self.centre[rows, k]
            frame = pd.DataFrame(
                metrics(quantiles[rows, k] + centre[:, None, None], truth[rows] + centre[:, None], self.scale[rows])
            )
            frame["station_id"], frame["parameter_id"] = self.station_id[rows], self.parameter_id[rows]
            frame["origin"] = pd.Timestamp(self.panel.start + origin * self.panel.grid.step).as_unit("us")
            frame["candidate"] = name
            frames.append(frame)
        columns = ["station_id", "parameter_id", "origin", "candidate", *METRICS]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def gather(
    panel: Panel,
    forecasters: Sequence[Forecaster],
    origins: Sequence[int],
    counters: Collection[int] = (),
    on_progress: OnProgress | None = None,
) -> tuple[HoldoutForecasts, dict[str, str]]:
    """Forecast from each origin (a column of the panel) with each candidate; and why one failed, by name.

    A failure spoils that candidate alone, and where it can be kept to a series, that candidate for that series alone.
    counters: parameter ids whose targets from the first reset on are excluded.
    """
    horizon = panel.grid.horizon_steps
    numbers = len(forecasters) * len(panel) * len(origins) * horizon * len(QUANTILES)
    steps = np.arange(0, horizon, max(1, -(-numbers // _NUMBERS)))
    centre = np.stack([_newest(panel, o) for o in origins], axis=1) if origins else np.empty((len(panel), 0))
    came = [_truth(panel, origin, counters)[:, steps] for origin in origins]
    truth = np.stack(came, axis=1) if came else np.empty((len(panel), 0, len(steps)))
    shape = (len(panel), len(origins), len(steps), len(QUANTILES))
    failures: dict[str, str] = {}
    given: dict[str, np.ndarray] = {}
    for done, forecaster in enumerate(forecasters):
        quantiles = np.full(shape, np.nan, dtype=np.float32)
        try:
            for k, origin in enumerate(origins):
                for part in in_chunks(len(panel), _CHUNK):
                    known = at_origin(take_series(panel, np.arange(part.start, part.stop)), origin)
                    said, failed = forecast_each(forecaster, known)
                    quantiles[part, k] = said[:, steps] - centre[part, k, None, None]
                    if failed:
                        failures[forecaster.name] = next(iter(failed.values()))
                if on_progress:
                    on_progress("backtest", done * len(origins) + k + 1, len(forecasters) * len(origins))
        except Exception as error:
            failures[forecaster.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        given[forecaster.name] = quantiles
    evidence = HoldoutForecasts(
        panel,
        tuple(origins),
        steps,
        tuple(given),
        np.stack(list(given.values())) if given else np.empty((0, *shape), np.float32),
        (truth - centre[:, :, None]).astype(np.float32),
        centre,
        mase_scale(panel.values[:, : origins[0]] if origins else panel.values, panel.grid.steps_per_day),
    )
    return evidence, failures


def _truth(panel: Panel, origin: int, counters: Collection[int]) -> np.ndarray:
    truth = panel.values[:, origin : origin + panel.grid.horizon_steps].copy()
    rows = counter_rows(panel, counters)
    truth[rows] = before_reset(newest_levels(panel.values[rows, :origin]), truth[rows])
    return truth


def _newest(panel: Panel, origin: int) -> np.ndarray:
    """The newest value of each series before an origin, (series,); 0 where there is none."""
    return np.nan_to_num(newest_known(panel.values[:, :origin]), nan=0.0, posinf=0.0, neginf=0.0)
