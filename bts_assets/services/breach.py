"""Breaches that are expected: computed from a batch and the context it was made from, kept with the batch."""

from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import Batch
from bts_assets.monitoring.breach import Dependence, breaches
from bts_assets.monitoring.breach_history import record_of
from bts_assets.monitoring.dependence import Strays, strays_of
from bts_assets.monitoring.terms import BreachRule, Limits
from bts_assets.settings import Settings

#: Hours from the origin within which the probability of a breach is told.
HOURS: Final = (6, 24, 48)

#: A breach that is less likely than this within the whole horizon has no row.
LEAST_PROBABILITY: Final = 0.01


def breach_rule(settings: Settings) -> BreachRule:
    """What counts as a breach by the settings: BTS_BREACH_PERSISTENCE in whole steps, rounded up."""
    return BreachRule(max(1, -(-settings.breach_persistence // settings.step)), settings.breach_recovery)


def straying(context: Panel, catalogue: Catalogue, own: Limits) -> Strays:
    """How the series of a panel stray; unknown of those without a limit, which nobody asks for."""
    low, high = limits_of(context.station_id, context.parameter_id, catalogue, own)
    limited = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
    found = strays_of(context.values[limited], context.grid.steps_per_day, context.grid.horizon_steps)
    strays = Strays(np.full(len(context), np.nan), np.full(len(context), np.nan), np.zeros(len(context)))
    for name, values in vars(strays).items():
        values[limited] = getattr(found, name)
    return strays


def breach_rows(
    batch: Batch, context: Panel, dependence: Dependence, catalogue: Catalogue, own: Limits, rule: BreachRule
) -> pd.DataFrame:
    """Rows of `bts.breach_forecast` but for the batch's number: series and sides with `LEAST_PROBABILITY` or more.

    A pure function of its arguments, so that a batch that is made again has the same rows. dependence: of the series
    of the context, the batch's among them.
    """
    low, high = limits_of(batch.station_id, batch.parameter_id, catalogue, own)
    limited = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
    if not len(limited):
        return pd.DataFrame(columns=COLUMNS)
    grid = batch.grid
    known = pd.MultiIndex.from_arrays([context.station_id, context.parameter_id])
    rows = known.get_indexer(pd.MultiIndex.from_arrays([batch.station_id[limited], batch.parameter_id[limited]]))
    theirs, past = Dependence(dependence.level_share[rows], dependence.root[rows]), context.values[rows]
    windows = tuple(min(timedelta(hours=h) // grid.step, grid.horizon_steps) for h in HOURS)
    sides = ((high[limited], 1), (low[limited], -1))
    frames = [_side(batch, limited, past, limit, side, theirs, windows, rule) for limit, side in sides]
    return pd.concat(frames, ignore_index=True)


#: Columns of `bts.breach_forecast` but for the batch's number.
COLUMNS: Final = [
    "station_id",
    "parameter_id",
    "side",
    "limit_value",
    *(f"probability_{h}h" for h in HOURS),
    "first_likely_at",
    "expected_worst",
    "expected_steps",
]


def limits_of(
    station_id: np.ndarray, parameter_id: np.ndarray, catalogue: Catalogue, own: Limits
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high limit of each series, NaN where there is none."""
    pairs = list(zip(station_id.tolist(), parameter_id.tolist(), strict=True))
    parameters = {p: catalogue.of(p) for p in {p for _, p in pairs}}
    found = np.full((2, len(pairs)), np.nan)
    for row, pair in enumerate(pairs):
        theirs = (parameters[pair[1]].low_limit, parameters[pair[1]].high_limit)
        for k, (mine, general) in enumerate(zip(own.get(pair, (None, None)), theirs, strict=True)):
            limit = general if mine is None else mine
            found[k, row] = np.nan if limit is None else limit
    return found[0], found[1]


def _side(
    batch: Batch,
    rows: np.ndarray,
    past: np.ndarray,
    limit: np.ndarray,
    side: int,
    dependence: Dependence,
    windows: tuple[int, ...],
    rule: BreachRule,
) -> pd.DataFrame:
    record = record_of(past, limit, side, windows, batch.grid.steps_per_day, rule)
    found = breaches(batch.quantiles[rows], limit, side, dependence, windows, rule, record=record)
    first = pd.Series(
        pd.Timestamp(batch.issued_at) + pd.to_timedelta(found.first_likely * batch.grid.step.total_seconds(), "s")
    )
    frame = pd.DataFrame(
        {
            "station_id": batch.station_id[rows],
            "parameter_id": batch.parameter_id[rows],
            "side": "high" if side > 0 else "low",
            "limit_value": limit,
            **{f"probability_{h}h": found.probability[:, k] for k, h in enumerate(HOURS)},
            "first_likely_at": first.where(found.first_likely >= 0),
            "expected_worst": found.expected_worst,
            "expected_steps": found.expected_steps,
        }
    )
    return frame[found.probability[:, -1] >= LEAST_PROBABILITY]
