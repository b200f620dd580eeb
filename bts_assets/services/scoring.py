"""Scores of past forecasts: every batch whose targets were observed, beside the baselines."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.metrics import mase_scale
from bts_assets.forecasting.windows import aligned
from bts_assets.monitoring.scores import Scores, score, score_by_hour, steps_that_came
from bts_assets.services.breach_scoring import BreachScores, ScoredBreaches, score_breaches
from bts_assets.services.engine import engine
from bts_assets.services.home import Home
from bts_assets.services.memory import series_a_part
from bts_assets.services.shared_snapshot import in_parts
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.locks import LOCK_SCORE, transaction
from bts_assets.storage.observation_blocks import Stations, read_panel, station_parts
from bts_assets.storage.observations import count_series
from bts_assets.storage.score_totals import Totals
from bts_assets.storage.scores import (
    DueBatch,
    add_scores,
    begin_scores,
    due_batches,
    end_scores,
    planned_steps,
    read_quantiles,
    replace_breach_scores,
)

#: What a user would do without a model, recomputed from the context of each batch.
BASELINES: Final = ("last_value", "seasonal_naive_day", "seasonal_naive_week", "window_median")

_KEPT: Final = [QUANTILES.index(q) for q in STORED_QUANTILES]


@dataclass(frozen=True)
class ScoringReport:
    """What scoring came to: batches scored now, and the rows of scores that they have."""

    batches: tuple[int, ...] = ()
    rows: int = 0


def score_matured(
    home: Home,
    on_progress: OnProgress | None = None,
    at_once: int | None = None,
    now: datetime | None = None,
) -> ScoringReport:
    """Score every batch of which something has come that its scores do not know; late observations rescore it.

    Each batch is scored in a transaction of its own, so that whoever is killed loses no more than one. at_once: how
    many series are scored together; by default what fits into memory. Observations of the time after `now`, by default
    the clock's, count once it has come.
    """
    now = now or datetime.now(UTC)
    due = due_batches(home.engine)
    rows = 0
    with engine(home.settings) as spread:
        for done, batch in enumerate(due, start=1):
            rows += _score_one(home, batch, spread, at_once, now)
            if on_progress:
                on_progress("scoring batches", done, len(due))
    return ScoringReport(tuple(batch.batch_id for batch in due), rows)


def _score_one(home: Home, batch: DueBatch, spread: Spread, at_once: int | None, now: datetime) -> int:
    """Score a batch station by station, in parts, wherever the engine does it; the number of rows."""
    count, targets, foreseen, totals, all_came = 0, 0, BreachScores(), Totals(batch.batch_id), True
    reading = home.engine.connect().execution_options(isolation_level="REPEATABLE READ")
    with reading as connection, transaction(home.engine, LOCK_SCORE) as writing:
        begin_scores(writing, batch)
        together = at_once or series_a_part(home.settings, count_series(connection))
        parts = [(batch, stations) for stations in station_parts(connection, together)]
        read = partial(_read, now)
        with in_parts(spread, home, connection, read, _score, parts, several=len(parts) > 1) as scored:
            for part in scored:
                crash_point("scoring.after_score")
                if part is None:
                    continue
                for breaches in part.breaches:
                    foreseen.add(breaches)
                rows = add_scores(writing, batch, part.series, part.scale, part.scored)
                totals.add(writing, rows, part.hourly)
                count += len(rows)
                targets += int(part.scored["served"].targets.sum())
                all_came &= part.all_came
        # What lies ahead is unknown to these scores: they stay due until it has come.
        end_scores(writing, batch, targets, batch.ledger_seq - (not all_came))
        totals.enter(writing)
        count += replace_breach_scores(writing, foreseen.rows(batch.batch_id))
        crash_point("scoring.before_commit")
    crash_point("scoring.after_commit")
    return count


@dataclass(frozen=True)
class _Scored:
    """Scores of some series by candidate, and by hour of the day, and of their breaches. scale (series,): MASE's
    denominator.
    """

    series: pd.MultiIndex
    scale: np.ndarray
    scored: Mapping[str, Scores]
    hourly: pd.DataFrame
    breaches: tuple[ScoredBreaches, ...]
    all_came: bool


@dataclass(frozen=True)
class _Due:
    """Some stations of a batch to be scored: known (series, context and horizon), quantiles and planned (series,
    horizon) of the same series. Not `all_came`: there are observations of a time that has not come.
    """

    batch: DueBatch
    series: pd.MultiIndex
    quantiles: np.ndarray
    known: Panel
    planned: np.ndarray
    breaches: tuple[ScoredBreaches, ...]
    all_came: bool


def _read(now: datetime, home: Home, connection: sa.Connection, part: tuple[DueBatch, Stations]) -> _Due | None:
    """What is scored of some stations, None where the batch has none."""
    batch, stations = part
    grid, end = batch.grid, batch.issued_at + batch.grid.horizon
    series, quantiles = read_quantiles(connection, batch.batch_id, grid.horizon_steps, stations)
    if series.empty:
        return None
    panel = read_panel(connection, grid, batch.issued_at - grid.context, end, stations=stations)
    known = aligned(panel, series)
    ahead = known.values[:, max(0, -((panel.start - now) // grid.step)) :]
    all_came = not np.isfinite(ahead).any()
    ahead[:] = np.nan
    came = known.values[:, grid.context_steps :]
    planned = planned_steps(connection, series.get_level_values(0).to_numpy(), grid, batch.issued_at)
    breaches = tuple(score_breaches(connection, batch, stations, series, came, planned, home.catalogue))
    return _Due(batch, series, quantiles, known, planned, breaches, all_came)


def _score(_: Home, due: _Due | None) -> _Scored | None:
    if due is None:
        return None
    batch, series, grid = due.batch, due.series, due.batch.grid
    context = due.known.until(grid.horizon_steps)
    # What a planned outage does to a series says nothing of its forecasts.
    truth = np.where(due.planned, np.nan, due.known.values[:, grid.context_steps :])
    scale, hours = mase_scale(context.values, grid.steps_per_day), _hours(batch)
    steps = steps_that_came(truth)
    scored: dict[str, Scores] = {}
    hourly = []
    for name, forecast in _forecasts(due.quantiles, context):
        scored[name] = score(forecast, truth)
        hourly.append(_by_hour(name, series, forecast[:, :steps], truth[:, :steps], scale, hours[:steps]))
    return _Scored(series, scale, scored, pd.concat(hourly), due.breaches, due.all_came)


def _forecasts(quantiles: np.ndarray, context: Panel) -> Iterator[tuple[str, np.ndarray]]:
    """What served, then each baseline: one at a time, for each is as large as the batch."""
    simple = {f.name: f for f in CHEAP}
    yield "served", quantiles
    for name in BASELINES:
        yield name, simple[name].forecast(context)[:, :, _KEPT]


def _hours(batch: DueBatch) -> np.ndarray:
    """Hour of the day of each target (horizon,), UTC."""
    steps = np.arange(batch.grid.horizon_steps) * np.timedelta64(batch.grid.step)
    since_midnight = (batch.issued_at - batch.issued_at.replace(hour=0, minute=0)).seconds
    return (np.timedelta64(since_midnight, "s") + steps) // np.timedelta64(1, "h") % 24


def _by_hour(
    candidate: str, series: pd.MultiIndex, forecast: np.ndarray, truth: np.ndarray, scale: np.ndarray, hours: np.ndarray
) -> pd.DataFrame:
    """Sums of one candidate, a row per parameter and hour; arrays as in `score_by_hour`."""
    parameter_id = series.get_level_values(1).to_numpy()
    parameters = np.unique(parameter_id)
    rows = [np.flatnonzero(parameter_id == parameter) for parameter in parameters]
    summed = [vars(score_by_hour(forecast[mine], truth[mine], scale[mine], hours)) for mine in rows]
    sums = {name: np.concatenate([one[name] for one in summed]) for name in summed[0]}
    hour = np.tile(np.arange(24), len(parameters))
    frame = pd.DataFrame({"parameter_id": np.repeat(parameters, 24), "candidate": candidate, "hour": hour, **sums})
    return frame[frame["targets"] > 0]
