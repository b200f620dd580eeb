"""From a model version and the newest observations to a batch and its forecast ledger. It fits and stores nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS, QUANTILES, STORED_QUANTILES
from bts_assets.contracts.schemas import ForecastLedger, validate
from bts_assets.forecasting.architecture import Architecture
from bts_assets.forecasting.bounds import bounded
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import CHEAP, STATISTICAL
from bts_assets.forecasting.counters import AsLevels, Counters, MeanIncrement, Shown
from bts_assets.forecasting.forecasters import MINIMUM_ERRORS, Forecaster, LastValue, ask, constant, newest_known
from bts_assets.forecasting.linear import LinearForecaster
from bts_assets.forecasting.lstm_network import LstmForecaster
from bts_assets.forecasting.pooling import pool
from bts_assets.forecasting.pretrained import PretrainedForecaster
from bts_assets.forecasting.recalibration import Recalibration
from bts_assets.forecasting.switches import EventRate
from bts_assets.forecasting.windows import in_chunks, latest_context, take_series

#: Who stands in, in this order, where the chosen candidate cannot run.
_STAND_INS: Final = ("seasonal_naive_day", "last_value")

#: Series that are forecast at once: it bounds memory.
_CHUNK: Final = 1024

#: A series whose candidates that could not run had more weight than this together is a fallback.
_MOST_MISSING: Final = 0.5


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
        values = self.quantiles.reshape(rows, len(QUANTILE_COLUMNS))
        return pd.DataFrame(columns | {name: values[:, k] for k, name in enumerate(QUANTILE_COLUMNS)})

    def with_last_heard(self, heard: pd.DataFrame) -> "Batch":
        """The batch whose ledger says when series that were silent throughout the context were last heard of.

        `heard`: station_id, parameter_id, last_observed_at.
        """
        ledger = self.ledger.merge(heard, on=["station_id", "parameter_id"], how="left", suffixes=("", "_before"))
        newest = ledger["last_observed_at"].fillna(ledger["last_observed_at_before"])
        return replace(self, ledger=self.ledger.assign(last_observed_at=newest.array))


def candidates(catalogue: Catalogue, *learned: Forecaster) -> dict[str, Forecaster]:
    """Every candidate by name, those that were trained before the others.

    Each shows levels of the catalogue's counters, which it forecasts as increments.
    """
    counters = counters_of(catalogue)
    plain = [*learned, *CHEAP, *STATISTICAL]
    every: list[Forecaster] = [AsLevels(f, counters) for f in plain]
    every += [MeanIncrement(counters), EventRate(switches_of(catalogue))]
    return {f.name: f for f in every}


def counters_of(catalogue: Catalogue) -> Counters:
    ids = frozenset(p.parameter_id for p in catalogue if p.kind == "counter")
    return Counters(ids, frozenset(p.parameter_id for p in catalogue))


def switches_of(catalogue: Catalogue) -> frozenset[int]:
    return frozenset(p.parameter_id for p in catalogue if p.kind == "switch")


def load_forecasters(bundle: Bundle, catalogue: Catalogue) -> dict[str, Forecaster]:
    """The candidates of a model version that can run, by name."""
    learned: list[Forecaster] = []
    if bundle.lstm and bundle.architecture is not None:
        architecture = Architecture.from_dict(bundle.architecture)
        learned.append(LstmForecaster(architecture, bundle.lstm, bundle.zone, bundle.scales))
    if bundle.linear:
        learned.append(LinearForecaster.from_arrays(bundle.linear, bundle.scales))
    if bundle.pretrained:
        learned.append(PretrainedForecaster.shipped(bundle.zone))
    if bundle.fine_tuned:
        learned.append(PretrainedForecaster.fine_tuned(bundle.fine_tuned, bundle.zone))
    known = {*bundle.weights.candidates, EventRate.name}
    return {name: f for name, f in candidates(catalogue.beside(bundle.catalogue), *learned).items() if name in known}


def make_batch(
    bundle: Bundle,
    panel: Panel,
    catalogue: Catalogue,
    levels: tuple[float, ...] = STORED_QUANTILES,
    recalibration: Recalibration | None = None,
) -> Batch:
    """Forecast every series of the panel from its end, with the mixture that the model version chose for it.

    Only the newest context of the panel is used, so that a longer panel gives the same batch. Parameters that the
    catalogue does not list are what the model version found them to be; one that it was trained on as another kind than
    the catalogue lists now is served by a stand-in. Where a candidate fails
    or cannot serve a series, the others of its mixture take its weight, else a simpler one stands in, and the ledger
    says why. Switches that the catalogue wants forecast get the probability of being on.

    recalibration: what earlier nights taught about the widths of pooled forecasts; None: as the version has them.

    Raises:
        ValueError: if the panel's grid is not the model version's.
    """
    if panel.grid != bundle.grid:
        raise ValueError(f"the model version is for {bundle.grid}, the observations are on {panel.grid}")
    panel, catalogue = latest_context(panel), catalogue.beside(bundle.catalogue)
    ledger = _Ledger(panel, catalogue)
    if bundle.lstm_failure:
        learned = ~np.isin(panel.parameter_id, list(switches_of(catalogue))) & (ledger.status != "excluded")
        ledger.reason[learned], ledger.fallback[learned] = f"lstm: {bundle.lstm_failure}", True
    forecasters = load_forecasters(bundle, catalogue)
    kept_levels = [QUANTILES.index(q) for q in levels]
    quantiles = np.full((len(panel), panel.grid.horizon_steps, len(levels)), np.nan)
    rows, counters = ledger.included, counters_of(catalogue)
    for part in in_chunks(len(rows), _CHUNK):
        mine = rows[part]
        given = Shown.of(take_series(panel, mine), counters)
        served = _serve(bundle, forecasters, given, catalogue, ledger, mine, recalibration)
        quantiles[mine] = bounded(served, given, catalogue)[:, :, kept_levels]
    ledger.exclude(rows[pd.isna(ledger.source[rows])], "no candidate could serve it")
    kept = np.flatnonzero(pd.notna(ledger.source))
    frame = validate(ForecastLedger, ledger.to_frame())
    return Batch(panel.grid, panel.end, panel.station_id[kept], panel.parameter_id[kept], quantiles[kept], frame)


def _serve(
    bundle: Bundle,
    forecasters: Mapping[str, Forecaster],
    panel: Shown,
    catalogue: Catalogue,
    ledger: "_Ledger",
    rows: np.ndarray,
    recalibration: Recalibration | None,
) -> np.ndarray:
    """Quantiles (series, horizon, all levels) of a panel whose series are `rows` of the ledger; NaN without any."""
    names = bundle.weights.candidates
    is_switch = np.isin(panel.parameter_id, list(switches_of(catalogue)))
    rests = constant(panel.settled) & ~is_switch
    wanted = _weights(bundle, panel)
    wanted[is_switch | rests] = np.nan
    for parameter_id, why in _other_kinds(bundle, np.unique(panel.parameter_id), catalogue).items():
        mine = np.flatnonzero(panel.parameter_id == parameter_id)
        wanted[mine] = np.nan
        ledger.note(rows[mine], np.full(len(mine), why, dtype=object))
    used = np.flatnonzero((wanted > 0).any(axis=0))
    members = np.full((len(used), len(panel), panel.grid.horizon_steps, len(QUANTILES)), np.nan)
    got = np.where(np.isfinite(wanted), 0.0, np.nan)
    for place, k in enumerate(used):
        name, asked = names[k], np.flatnonzero(wanted[:, k] > 0)
        given, problems = _ask(forecasters.get(name), take_series(panel, asked))
        good = np.isfinite(given).all(axis=(1, 2))
        members[place, asked[good]] = given[good]
        got[asked[good], k] = wanted[asked[good], k]
        ledger.note(rows[asked[~good]], np.array([f"{name}: {p}" for p in problems[~good]], dtype=object))
    share = np.nansum(got, axis=1)
    some = share > 0
    quantiles = pool(members, got[:, used])
    quantiles[some] = bundle.calibration.apply(quantiles[some], panel.station_id[some], panel.parameter_id[some])
    if recalibration is not None:
        quantiles[some] = recalibration.apply(quantiles[some], panel.station_id[some], panel.parameter_id[some])
    ledger.mixed(rows[some], names, got[some] / share[some, None], 1 - share[some] > _MOST_MISSING)
    # What never moved, single events aside, is forecast as what it is, exactly.
    quantiles[rests] = newest_known(panel.settled[rests])[:, None, None]
    ledger.source[rows[rests]] = LastValue.name
    for name, wants in [(EventRate.name, is_switch), *((stand_in, ~some & ~is_switch) for stand_in in _STAND_INS)]:
        mine = np.flatnonzero(wants & np.isnan(quantiles).any(axis=(1, 2)))
        given, _ = _ask(forecasters.get(name), take_series(panel, mine))
        good = np.isfinite(given).all(axis=(1, 2))
        quantiles[mine[good]], ledger.source[rows[mine[good]]] = given[good], name
        ledger.fallback[rows[mine[good]]] |= name != EventRate.name
    # Who forecast it or stood in: what knows too few errors of its own is lent a width.
    few = (np.isfinite(panel.values).sum(axis=1) <= MINIMUM_ERRORS) & ~is_switch
    few &= np.isfinite(quantiles).all(axis=(1, 2))
    quantiles[few] = bundle.spreads.widen(quantiles[few], panel.parameter_id[few])
    return quantiles


def _other_kinds(bundle: Bundle, parameter_ids: np.ndarray, catalogue: Catalogue) -> dict[int, str]:
    """The parameters that the model version learned as another kind than they are now, and what is to be done."""
    trained = {p.parameter_id for p in bundle.catalogue} | set(bundle.weights.by_parameter)
    kinds = {int(p): (bundle.catalogue.of(int(p)).kind, catalogue.of(int(p)).kind) for p in parameter_ids}
    return {
        parameter: f"parameter {parameter} is a {now}, and this model version learned it as a {then}: retrain"
        for parameter, (then, now) in kinds.items()
        if then != now and now != "switch" and parameter in trained
    }


def _weights(bundle: Bundle, panel: Shown) -> np.ndarray:
    """What each candidate is to count, (series, candidates), where it has a say: a gauge has no increments.

    Weights of a parameter that training did not see are those of all series, counters among them.
    """
    weights = bundle.weights.of(panel.station_id, panel.parameter_id)
    others = weights.copy()
    for column in np.flatnonzero(np.array(bundle.weights.candidates) == MeanIncrement.name):
        others[~panel.is_counter, column] = 0.0
    share = np.nansum(others, axis=1, keepdims=True)
    return np.where(share > 0, others / np.where(share > 0, share, 1.0), weights)


def _ask(forecaster: Forecaster | None, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles, NaN where there are none, and per series why there are none."""
    if forecaster is None:
        quantiles = np.full((len(panel), panel.grid.horizon_steps, len(QUANTILES)), np.nan)
        return quantiles, np.full(len(panel), "it is not part of this model version", dtype=object)
    quantiles, problems = ask(forecaster, panel)
    return quantiles, np.where(pd.isna(problems), "too little in the context", problems)


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
        self.newest = np.where(some, origin + back, np.datetime64("NaT", "us"))
        self.source = np.full(len(panel), None, dtype=object)
        self.reason = np.full(len(panel), None, dtype=object)
        self.components = np.full(len(panel), None, dtype=object)
        self.status = np.full(len(panel), "forecast", dtype=object)
        self.fallback = np.zeros(len(panel), dtype=bool)
        for parameter_id in np.unique(panel.parameter_id):
            parameter = catalogue.of(int(parameter_id))
            if not parameter.forecast:
                mine = np.flatnonzero(panel.parameter_id == parameter_id)
                self.exclude(mine, f"the catalogue does not forecast this {parameter.kind}")
        self.exclude(np.flatnonzero((self.history == 0) & (self.status == "forecast")), "no observation in the context")

    @property
    def included(self) -> np.ndarray:
        return np.flatnonzero(self.status != "excluded")

    def note(self, rows: np.ndarray, reasons: np.ndarray) -> None:
        """Add to the reasons (rows,) why something that was asked could not run."""
        pairs = zip(self.reason[rows], reasons, strict=True)
        self.reason[rows] = [why if known is None else f"{known}; {why}" for known, why in pairs]

    def mixed(self, rows: np.ndarray, names: Sequence[str], weights: np.ndarray, fallback: np.ndarray) -> None:
        """Who made the forecasts of some series, with weights (rows, candidates); NaN: never tried for that series."""
        sole = (weights > 0).sum(axis=1) == 1
        first = np.nanargmax(np.where(np.isnan(weights), -1.0, weights), axis=1) if len(rows) else rows
        self.source[rows] = np.where(sole, np.array(names, dtype=object)[first], "mixture")
        self.fallback[rows] |= fallback
        for row, own in zip(rows.tolist(), weights.tolist(), strict=True):
            # null: not tried, being a statistical model among too many series, or it has no forecast for this one.
            named = zip(names, own, strict=True)
            self.components[row] = {n: None if w != w else round(w, 6) for n, w in named if w != 0}

    def exclude(self, rows: np.ndarray, reason: str) -> None:
        self.status[rows], self.reason[rows] = "excluded", reason

    def to_frame(self) -> pd.DataFrame:
        status = np.where((self.status == "forecast") & self.fallback, "fallback", self.status)
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
                "components": pd.Series(self.components, dtype=object),
            }
        )
