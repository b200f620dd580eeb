"""Rolling-origin backtest: at each cutoff refit, forecast by the nightly job's own code, and score against the actuals.

What lies after an origin is used for scoring alone. Nothing is stored here, and no clock is read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.grid import Grid, format_duration
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.batch import counters_of, load_forecasters, make_batch, switches_of
from bts_assets.forecasting.counters import before_reset, counter_rows, newest_levels
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.forecasters import ask
from bts_assets.forecasting.metrics import COVERAGES, KEYS, METRICS, actuals_of, inside, mase_scale, score, together
from bts_assets.forecasting.switches import EventRate
from bts_assets.forecasting.windows import in_chunks, latest_context, minimum_past, take_series

#: What readers of the forecast table get, beside each candidate alone.
SERVED: Final = "served"

#: Series that are forecast at once: it bounds memory.
_CHUNK: Final = 8192

#: Coverage is told of at most so many stretches of the horizon.
_BUCKETS: Final = 24

#: What a probability of 0 or 1 events has no measure of.
_OF_INTERVALS: Final = [*(f"coverage{share}" for share in COVERAGES), "msis"]

#: Trains on a panel that ends at the origin, as a night would. Where trainings are spread, it travels to them.
Fit = Callable[[Panel, OnProgress | None], FittedBundle]


class TooFewOrigins(BtsError):
    """The data do not reach back as far as was asked for."""


@dataclass(frozen=True)
class Issued:
    """What one candidate forecast from one origin for `rows`, series of the panel.

    quantiles: (rows, horizon, len(QUANTILES)), NaN for a series that it did not serve. problems: (rows,), why it
    failed; None where it did not.
    """

    origin: datetime
    candidate: str
    rows: np.ndarray
    quantiles: np.ndarray
    problems: np.ndarray


@dataclass(frozen=True)
class RollingScores:
    """scores: one row per series, origin and candidate (`KEYS`), then `METRICS`; `served` is among the candidates.

    coverage: of what is served, per parameter, stretch of steps ahead (first_step to last_step, from 1) and nominal
    share (per cent): the share that was covered, of how many targets. failures: per origin, candidate and reason, how
    many series it cost, and the first of them.
    """

    scores: pd.DataFrame
    coverage: pd.DataFrame
    failures: pd.DataFrame


def past_origins(grid: Grid, start: datetime, end: datetime, count: int, apart: timedelta) -> tuple[datetime, ...]:
    """`count` origins within the observed span [start, end), ascending; the horizon of the last ends with the span.

    Before the first must lie a horizon to learn from, one to choose by, and the least past that a window needs.

    Raises:
        TooFewOrigins: saying how many fit.
    """
    if apart < grid.step or apart % grid.step:
        step = format_duration(grid.step)
        raise TooFewOrigins(f"origins {format_duration(apart)} apart are not a whole number of steps of {step} apart")
    last = end - grid.horizon
    least = 2 * grid.horizon + minimum_past(grid) * grid.step
    fit = max(0, (last - start - least) // apart + 1)
    if not 0 < count <= fit:
        raise TooFewOrigins(
            f"{count} origins {format_duration(apart)} apart do not fit: {fit or 'none'} of them"
            f" {'does' if fit == 1 else 'do'} in the {format_duration(end - start)} from {start:%Y-%m-%d %H:%M} to"
            f" {end:%Y-%m-%d %H:%M} UTC, where the first needs {format_duration(least)} before it and the last"
            f" {format_duration(grid.horizon)} after it"
        )
    return tuple(last - apart * back for back in reversed(range(count)))


def rolling_backtest(
    panel: Panel,
    catalogue: Catalogue,
    origins: Sequence[datetime],
    fit: Fit,
    *,
    refit_every: int = 1,
    on_progress: OnProgress | None = None,
    spread: Spread | None = None,
) -> RollingScores:
    """Score what `reissue` forecasts against the actuals. The scale of MASE is of what precedes each origin.

    A counter's targets from its first reset on are excluded. A switch is forecast as a probability, which has no
    interval: its coverage and msis are NaN. `spread` hands each training, with the origins that it serves, to whoever
    is to do it; progress is then told of origins alone.
    """
    if spread is None:
        parts = [_scored(catalogue, fit, refit_every, on_progress, _Part(panel, origins))]
    else:
        done = spread(partial(_scored, catalogue, fit, refit_every, None), _parts(panel, origins, refit_every))
        parts = list(_told(done, refit_every, len(origins), on_progress))
    coverage = _Coverage(panel, switches_of(catalogue))
    for part in parts:
        coverage.include(part.coverage)
    failures = [failure for part in parts for failure in part.failures]
    columns = ["origin", "candidate", "reason", "series", "station_id", "parameter_id"]
    return RollingScores(
        together([scored for part in parts for scored in part.scores]),
        coverage.to_frame(),
        pd.DataFrame(failures, columns=columns),
    )


def reissue(
    panel: Panel,
    catalogue: Catalogue,
    origins: Sequence[datetime],
    fit: Fit,
    *,
    refit_every: int = 1,
    on_progress: OnProgress | None = None,
) -> Iterator[Issued]:
    """The forecasts of each origin: of what would have been served, and of every candidate alone.

    `fit` trains anew at every `refit_every`-th origin, in between the version before forecasts. It and the forecasters
    are handed the panel as it was known at the origin: a series of which nothing had been heard is not in it. A
    statistical candidate forecasts only the series that it was tried on in training.
    """
    trainings = -(-len(origins) // refit_every)
    for number, origin in enumerate(origins):
        if on_progress:
            on_progress("origins", number, len(origins))
        known = panel.until((panel.end - origin) // panel.grid.step)
        rows = np.flatnonzero(np.isfinite(known.values).any(axis=1))
        known = take_series(known, rows)
        if number % refit_every == 0:
            fitted = fit(known, _nested(on_progress, number // refit_every, trainings))
            forecasters = load_forecasters(fitted.bundle, catalogue)
        context = latest_context(known)
        wanted = np.flatnonzero([p.forecast for p in catalogue.all_of(known.parameter_id)])
        for part in in_chunks(len(wanted), _CHUNK):
            some = take_series(context, wanted[part])
            mine = rows[wanted[part]]
            nothing = np.full(len(mine), None, dtype=object)
            yield Issued(origin, SERVED, mine, _served(fitted, some, catalogue), nothing)
            for name, asked in _asked(fitted, some, catalogue, forecasters):
                yield Issued(origin, name, mine[asked], *ask(forecasters[name], take_series(some, asked)))
            for name in sorted(set(fitted.failures) - set(forecasters)):
                lost = np.full(len(mine), fitted.failures[name], dtype=object)
                yield Issued(origin, name, mine, _unknown(some), lost)
    if on_progress:
        on_progress("origins", len(origins), len(origins))


def long_form(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per series, origin, candidate and metric: `KEYS`, metric, value; null where a metric has no value."""
    return scores.melt(id_vars=list(KEYS), value_vars=list(METRICS), var_name="metric", value_name="value")


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Per candidate the mean of each of `METRICS` over series and origins, as median_* its median; least MASE first.

    Those that forecast less than nine tenths of what was served come last: a candidate of counters, or one that is
    tried on a part, leads by what it was spared.
    scored: series and origins that it forecast. served_mase: the mean MASE of what was served on those very ones, since
    figures of other series cannot be compared.
    """
    keys = [key for key in KEYS if key != "candidate"]
    served = scores.loc[scores["candidate"] == SERVED].set_index(keys)["mase"].rename("served_mase")
    groups = scores.join(served, on=keys).groupby("candidate")
    metrics = groups[list(METRICS)]
    figures = metrics.mean().join(metrics.median().add_prefix("median_"))
    figures = figures.assign(served_mase=groups["served_mase"].mean(), scored=groups.size())
    on_a_part = figures["scored"] < 0.9 * figures["scored"].get(SERVED, 0)
    return figures.iloc[np.lexsort((figures["mase"], on_a_part))]


def covered(coverage: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Coverage pooled over all but `by`: a column per nominal share (per cent), NaN where nothing came."""
    hits = coverage.assign(hits=coverage["covered"] * coverage["targets"])
    pooled = hits.pivot_table(index=list(by), columns="nominal", values=["hits", "targets"], aggfunc="sum")
    return pooled["hits"] / pooled["targets"]


@dataclass(frozen=True)
class _Part:
    """Some origins; panel: what was known at the last of them, and the horizon after it."""

    panel: Panel
    origins: Sequence[datetime]


@dataclass(frozen=True)
class _Scored:
    """What some origins came to, small enough to travel: no quantiles. The fields are those of `RollingScores`."""

    scores: list[pd.DataFrame]
    coverage: "_Coverage"
    failures: list[dict[str, object]]


def _parts(panel: Panel, origins: Sequence[datetime], refit_every: int) -> Iterator[_Part]:
    """The origins of each training."""
    for first in range(0, len(origins), refit_every):
        some = origins[first : first + refit_every]
        yield _Part(panel.until((panel.end - some[-1]) // panel.grid.step - panel.grid.horizon_steps), some)


def _told(done: Iterable[_Scored], refit_every: int, origins: int, on_progress: OnProgress | None) -> Iterator[_Scored]:
    tell = on_progress or (lambda *_: None)
    tell("origins", 0, origins)
    for number, scored in enumerate(done, start=1):
        tell("origins", min(number * refit_every, origins), origins)
        yield scored


def _scored(catalogue: Catalogue, fit: Fit, refit_every: int, on_progress: OnProgress | None, part: _Part) -> _Scored:
    panel, switches = part.panel, switches_of(catalogue)
    scored = _Scored([], _Coverage(panel, switches), [])
    measures: dict[datetime, tuple[Panel, np.ndarray]] = {}
    for issued in reissue(panel, catalogue, part.origins, fit, refit_every=refit_every, on_progress=on_progress):
        if issued.origin not in measures:
            column = (issued.origin - panel.start) // panel.grid.step
            scale = mase_scale(panel.values[:, :column], panel.grid.steps_per_day)
            measures = {issued.origin: (_actuals(panel, column, counters_of(catalogue)), scale)}
        came, scale = measures[issued.origin]
        came = take_series(came, issued.rows)
        rows = score(came, issued.candidate, issued.quantiles, scale[issued.rows])
        rows.loc[rows["parameter_id"].isin(switches), _OF_INTERVALS] = np.nan
        scored.scores.append(rows)
        scored.failures.extend(_failures(issued, panel))
        if issued.candidate == SERVED:
            scored.coverage.add(came, issued.quantiles)
    return scored


def _served(fitted: FittedBundle, known: Panel, catalogue: Catalogue) -> np.ndarray:
    batch = make_batch(fitted.bundle, known, catalogue, levels=QUANTILES)
    quantiles = _unknown(known)
    quantiles[(batch.ledger["status"] != "excluded").to_numpy()] = batch.quantiles
    return quantiles


def _asked(
    fitted: FittedBundle, known: Panel, catalogue: Catalogue, names: Iterable[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Which series each candidate is asked for, by name; candidates of none are left out."""
    weights = fitted.bundle.weights
    tried = np.isfinite(weights.of(known.station_id, known.parameter_id))
    switch = np.isin(known.parameter_id, list(switches_of(catalogue)))
    for name in names:
        asked = switch if name == EventRate.name else ~switch & tried[:, weights.candidates.index(name)]
        if asked.any():
            yield name, np.flatnonzero(asked)


def _actuals(panel: Panel, column: int, counters: Collection[int]) -> Panel:
    actuals = actuals_of(panel, column)
    values, rows = actuals.values.copy(), counter_rows(panel, counters)
    values[rows] = before_reset(newest_levels(panel.values[rows, :column]), values[rows])
    return Panel(actuals.grid, actuals.station_id, actuals.parameter_id, actuals.end, values)


def _unknown(panel: Panel) -> np.ndarray:
    return np.full((len(panel), panel.grid.horizon_steps, len(QUANTILES)), np.nan)


def _failures(issued: Issued, panel: Panel) -> Iterator[dict[str, object]]:
    for reason in pd.unique(issued.problems[pd.notna(issued.problems)]):
        rows = issued.rows[issued.problems == reason]
        first = {"station_id": int(panel.station_id[rows[0]]), "parameter_id": int(panel.parameter_id[rows[0]])}
        yield {
            "origin": pd.Timestamp(issued.origin).as_unit("us"),
            "candidate": issued.candidate,
            "reason": reason,
            "series": len(rows),
            **first,
        }


def _nested(on_progress: OnProgress | None, behind: int, trainings: int) -> OnProgress | None:
    """Progress over all trainings together: a stage that starts over at every origin says nothing about the whole."""
    if on_progress is None:
        return None
    return lambda stage, done, total: on_progress(stage, behind * total + done, trainings * total)


class _Coverage:
    """Targets within each interval, counted per parameter and step ahead."""

    def __init__(self, panel: Panel, switches: Collection[int] = ()) -> None:
        self.parameters = np.setdiff1d(panel.parameter_id, list(switches))
        self.targets = np.zeros((len(self.parameters), panel.grid.horizon_steps))
        self.hits = np.zeros((len(COVERAGES), *self.targets.shape))

    def add(self, came: Panel, quantiles: np.ndarray) -> None:
        counted = np.flatnonzero(np.isin(came.parameter_id, self.parameters))
        came, quantiles = take_series(came, counted), quantiles[counted]
        parameter = np.searchsorted(self.parameters, came.parameter_id)
        known = np.isfinite(came.values) & np.isfinite(quantiles).all(axis=2)
        np.add.at(self.targets, parameter, known)
        for hits, share in zip(self.hits, COVERAGES, strict=True):
            np.add.at(hits, parameter, inside(quantiles, came.values, share))

    def include(self, other: "_Coverage") -> None:
        """Add what was counted of other origins of the same series."""
        self.targets += other.targets
        self.hits += other.hits

    def to_frame(self) -> pd.DataFrame:
        horizon = self.targets.shape[1]
        rows = [
            {
                "parameter_id": int(parameter),
                "first_step": int(steps[0]) + 1,
                "last_step": int(steps[-1]) + 1,
                "nominal": share,
                "covered": self.hits[k, p, steps].sum() / self.targets[p, steps].sum(),
                "targets": int(self.targets[p, steps].sum()),
            }
            for p, parameter in enumerate(self.parameters)
            for steps in np.array_split(np.arange(horizon), min(_BUCKETS, horizon))
            for k, share in enumerate(COVERAGES)
            if self.targets[p, steps].any()
        ]
        return pd.DataFrame(rows, columns=["parameter_id", "first_step", "last_step", "nominal", "covered", "targets"])
