"""From a model version and the newest observations to a batch and its forecast ledger. It fits and stores nothing."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import QUANTILES, STORED_QUANTILES, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.schemas import ForecastLedger, validate
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.forecasters import SIMPLE, Forecaster, carried_forward
from bts_assets.forecasting.windows import in_chunks, latest_context, take_series

_COLUMNS: Final = [f"q{round(q * 100):02d}" for q in STORED_QUANTILES]

#: Who stands in, in this order, where the chosen candidate cannot run.
_STAND_INS: Final = ("seasonal_naive_day", "last_value")

#: Series that are forecast at once: it bounds memory.
_CHUNK: Final = 8192

_FAILED_ATTEMPTS: Final = 64


@dataclass(frozen=True)
class Batch:
    """All forecasts of one origin, as arrays, and a ledger row for every series of the panel.

    station_id, parameter_id (n,); quantiles (n, horizon, 5) float64 for `STORED_QUANTILES`, in the series' unit,
    ascending and finite. Series that are excluded have a ledger row and no forecast.
    """

    grid: Grid
    issued_at: datetime
    station_id: np.ndarray
    parameter_id: np.ndarray
    quantiles: np.ndarray
    ledger: pd.DataFrame

    @cached_property
    def target_at(self) -> np.ndarray:
        """Start of each target interval, (horizon,) datetime64[us], UTC."""
        first = np.datetime64(self.issued_at.replace(tzinfo=None), "us")
        return first + np.arange(self.grid.horizon_steps) * np.timedelta64(self.grid.step)

    def to_frame(self) -> pd.DataFrame:
        """One row per series and step ahead, as the `Forecasts` schema says."""
        count, horizon = self.quantiles.shape[:2]
        rows = count * horizon
        issued = pd.DatetimeIndex(np.repeat(np.datetime64(self.issued_at.replace(tzinfo=None), "us"), rows))
        columns = {
            "station_id": np.repeat(self.station_id.astype(np.int64), horizon),
            "parameter_id": np.repeat(self.parameter_id.astype(np.int32), horizon),
            "issued_at": issued.tz_localize("UTC"),
            "target_at": pd.DatetimeIndex(np.tile(self.target_at, count)).tz_localize("UTC"),
            "step_ahead": np.tile(np.arange(1, horizon + 1, dtype=np.int16), count),
        }
        values = self.quantiles.reshape(rows, len(_COLUMNS))
        return pd.DataFrame(columns | {name: values[:, k] for k, name in enumerate(_COLUMNS)})


def load_forecasters(bundle: Bundle) -> dict[str, Forecaster]:
    """The candidates of a model version that can run, by name."""
    forecasters: dict[str, Forecaster] = {f.name: f for f in SIMPLE if f.name in bundle.candidates}
    if bundle.lstm and bundle.architecture is not None:
        from bts_assets.forecasting import lstm

        network = lstm.network(lstm.Architecture.from_dict(bundle.architecture))
        forecasters["lstm"] = lstm.LstmForecaster(network, tuple(dict(w) for w in bundle.lstm), bundle.zone)
    return forecasters


def make_batch(
    bundle: Bundle, panel: Panel, catalogue: Catalogue, levels: tuple[float, ...] = STORED_QUANTILES
) -> Batch:
    """Forecast every series of the panel from its end, with the candidate that the model version chose for it.

    Only the newest context of the panel is used, so that a longer panel gives the same batch. Where a candidate fails
    or cannot serve a series, a simpler one stands in, and the ledger says why.

    Raises:
        ValueError: if the panel's grid is not the model version's.
    """
    if panel.grid != bundle.grid:
        raise ValueError(f"the model version is for {bundle.grid}, the observations are on {panel.grid}")
    panel = latest_context(panel)
    ledger = _Ledger(panel, catalogue)
    forecasters = load_forecasters(bundle)
    kept_levels = [QUANTILES.index(q) for q in levels]
    quantiles = np.full((len(panel), panel.grid.horizon_steps, len(levels)), np.nan)

    def serve(name: str, rows: np.ndarray, chosen: bool) -> None:
        for part in in_chunks(len(rows), _CHUNK):
            mine = rows[part]
            given, problems = _serve(forecasters.get(name), take_series(panel, mine), kept_levels)
            good = np.isfinite(given).all(axis=(1, 2))
            quantiles[mine[good]], ledger.source[mine[good]] = given[good], name
            if chosen:
                ledger.reason[mine[~good]] = name + ": " + problems[~good]

    rows = ledger.included
    if bundle.lstm_failure:
        ledger.reason[rows] = f"lstm: {bundle.lstm_failure}"
    chosen = bundle.choice.of(panel.station_id[rows], panel.parameter_id[rows])
    for name in sorted(set(chosen)):
        serve(name, rows[chosen == name], chosen=True)
    for name in _STAND_INS:
        serve(name, rows[pd.isna(ledger.source[rows])], chosen=False)
    ledger.exclude(rows[pd.isna(ledger.source[rows])], "no candidate could serve it")
    kept = np.flatnonzero(pd.notna(ledger.source))
    bounded = _bounded(quantiles[kept], take_series(panel, kept), catalogue)
    frame = validate(ForecastLedger, ledger.to_frame())
    return Batch(panel.grid, panel.end, panel.station_id[kept], panel.parameter_id[kept], bounded, frame)


def _serve(forecaster: Forecaster | None, panel: Panel, levels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Stored quantiles, NaN where there are none, and per series why there are none.

    A series that makes the forecaster raise is found by halving; after `_FAILED_ATTEMPTS` the rest is given up.
    """
    quantiles = np.full((len(panel), panel.grid.horizon_steps, len(levels)), np.nan)
    problems = np.full(len(panel), "it is not part of this model version", dtype=object)
    pending = [np.arange(len(panel))] if forecaster is not None else []
    failed = 0
    while forecaster is not None and pending:
        rows = pending.pop()
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                quantiles[rows] = forecaster.forecast(take_series(panel, rows))[:, :, levels]
            problems[rows] = "too few observations in the context"
        except Exception as error:
            problems[rows] = f"{type(error).__name__}: {error}".splitlines()[0]
            failed += 1
            if len(rows) > 1 and failed < _FAILED_ATTEMPTS:
                pending += np.array_split(rows, 2)
    return quantiles, problems


def _bounded(quantiles: np.ndarray, panel: Panel, catalogue: Catalogue) -> np.ndarray:
    """Quantiles (series, horizon, stored) that ascend and keep to what the quantity can be.

    Within the catalogue's valid range; not negative where the parameter's range is open below and the context never was
    negative; a counter neither below its newest level nor falling.
    """
    quantiles = np.sort(quantiles, axis=2)
    parameters = {int(p): catalogue.of(int(p)) for p in np.unique(panel.parameter_id)}
    low = np.array([parameters[int(p)].valid_min for p in panel.parameter_id])
    high = np.array([parameters[int(p)].valid_max for p in panel.parameter_id])
    counter = np.array([parameters[int(p)].kind == "counter" for p in panel.parameter_id], dtype=bool)
    if len(panel):
        never_negative = np.nanmin(panel.values, axis=1) >= 0
        low = np.where(np.isneginf(low) & never_negative, 0.0, low)
        low = np.where(counter, np.maximum(low, carried_forward(panel.values)[:, -1]), low)
    # A level beyond the range that the catalogue gives today is kept from turning the range inside out.
    quantiles = np.clip(quantiles, np.minimum(low, high)[:, None, None], high[:, None, None])
    quantiles[counter] = np.maximum.accumulate(quantiles[counter], axis=1)
    return quantiles


class _Ledger:
    """The ledger while it is being filled: one entry per series of the panel, in its order."""

    def __init__(self, panel: Panel, catalogue: Catalogue) -> None:
        self.panel = panel
        known = np.isfinite(panel.values)
        self.history = known.sum(axis=1).astype(np.int32)
        some = self.history > 0
        first = np.where(some, known.argmax(axis=1), panel.steps) if panel.steps else np.zeros(len(panel), np.int64)
        newest = panel.steps - 1 - known[:, ::-1].argmax(axis=1) if panel.steps else np.zeros(len(panel), np.int64)
        self.context = (panel.steps - first).astype(np.int32)
        origin = np.datetime64(panel.end.replace(tzinfo=None), "us")
        back = (newest - panel.steps) * np.timedelta64(panel.grid.step)
        self.newest = np.where(some, origin + back, np.datetime64("NaT"))
        self.source = np.full(len(panel), None, dtype=object)
        self.reason = np.full(len(panel), None, dtype=object)
        self.status = np.full(len(panel), "forecast", dtype=object)
        for parameter_id in np.unique(panel.parameter_id):
            parameter = catalogue.of(int(parameter_id))
            if not parameter.forecast:
                mine = np.flatnonzero(panel.parameter_id == parameter_id)
                self.exclude(mine, f"the catalogue does not forecast this {parameter.kind}")
        self.exclude(np.flatnonzero((self.history == 0) & (self.status == "forecast")), "no observation in the context")

    @property
    def included(self) -> np.ndarray:
        return np.flatnonzero(self.status != "excluded")

    def exclude(self, rows: np.ndarray, reason: str) -> None:
        self.status[rows], self.reason[rows] = "excluded", reason

    def to_frame(self) -> pd.DataFrame:
        status = np.where((self.status == "forecast") & pd.notna(self.reason), "fallback", self.status)
        return pd.DataFrame(
            {
                "station_id": self.panel.station_id.astype(np.int64),
                "parameter_id": self.panel.parameter_id.astype(np.int32),
                "status": pd.Series(status, dtype="str"),
                "source": pd.Series(self.source, dtype="str"),
                "reason": pd.Series(self.reason, dtype="str"),
                "last_observed_at": pd.Series(self.newest.astype("datetime64[us]")).dt.tz_localize("UTC"),
                "history_steps": self.history,
                "context_steps": self.context,
                "components": pd.Series([None] * len(self.panel), dtype=object),
            }
        )
