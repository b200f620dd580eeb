"""Scores of forecasts whose targets have come, summed by stretch of the horizon so that they add up over anything.

Sums and counts are kept instead of means: a week, a parameter or a stretch is scored by adding rows.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from bts_assets.contracts.crps import DENSE_LEVELS, to_dense_levels
from bts_assets.contracts.quantiles import STORED_QUANTILES

#: Equal parts of the horizon that are scored apart.
STRETCHES: Final = 4

_LEVELS: Final = np.array(STORED_QUANTILES)
_MEDIAN: Final = STORED_QUANTILES.index(0.5)
_LOW90, _LOW80, _HIGH80, _HIGH90 = (STORED_QUANTILES.index(q) for q in (0.05, 0.1, 0.9, 0.95))


@dataclass(frozen=True)
class Scores:
    """Sums over the targets that have come, each (series, STRETCHES); errors in the series' unit.

    targets: how many have come. absolute_error and error (median minus truth), pinball (mean over the stored levels),
    crps, inside80 and inside90 (how many truths lay within the central interval).
    """

    targets: np.ndarray
    absolute_error: np.ndarray
    error: np.ndarray
    pinball: np.ndarray
    crps: np.ndarray
    inside80: np.ndarray
    inside90: np.ndarray


def score(quantiles: np.ndarray, truth: np.ndarray) -> Scores:
    """Score quantiles (series, horizon, 5) of `STORED_QUANTILES` against truth (series, horizon), NaN where none came.

    The steps that nothing has come of yet cost nothing: half of a batch's, if it is scored after half of its horizon.
    CRPS is twice the quantile loss integrated over levels (Gneiting and Ranjan, 2011), here over `DENSE_LEVELS`, to
    which the stored quantiles are interpolated.
    """
    horizon, came = truth.shape[1], steps_that_came(truth)
    quantiles, truth = quantiles[:, :came], truth[:, :came]
    known = np.isfinite(truth) & np.isfinite(quantiles).all(axis=2)
    filled = np.where(known, truth, 0.0)
    above = filled[:, :, None] - np.where(known[:, :, None], quantiles, 0.0)
    error = -above[:, :, _MEDIAN]
    return Scores(
        targets=_summed(known, horizon),
        absolute_error=_summed(np.abs(error), horizon),
        error=_summed(error, horizon),
        pinball=_summed(_loss(above, np.eye(len(_LEVELS)), _LEVELS), horizon),
        crps=_summed(2 * _loss(above, _INTERPOLATION, np.array(DENSE_LEVELS)), horizon),
        inside80=_summed(known & (above[:, :, _LOW80] >= 0) & (above[:, :, _HIGH80] <= 0), horizon),
        inside90=_summed(known & (above[:, :, _LOW90] >= 0) & (above[:, :, _HIGH90] <= 0), horizon),
    )


@dataclass(frozen=True)
class HourScores:
    """Sums over the targets of some series that have come, each (24,) by hour of the day; errors in the series' unit.

    scaled_error: sum of absolute errors, each divided by its series' scale, over scaled_targets.
    """

    targets: np.ndarray
    absolute_error: np.ndarray
    error: np.ndarray
    scaled_error: np.ndarray
    scaled_targets: np.ndarray
    inside80: np.ndarray
    inside90: np.ndarray


def score_by_hour(quantiles: np.ndarray, truth: np.ndarray, scale: np.ndarray, hours: np.ndarray) -> HourScores:
    """Sum what `score` sums, over series and by hour of the day.

    quantiles (series, horizon, 5), truth (series, horizon), NaN where none came; scale (series,): MASE's denominator,
    NaN or 0 where there is none; hours (horizon,): 0 to 23.
    """
    known = np.isfinite(truth) & np.isfinite(quantiles).all(axis=2)
    low90, low80, median, high80, high90 = (quantiles[:, :, i] for i in (_LOW90, _LOW80, _MEDIAN, _HIGH80, _HIGH90))
    error = np.where(known, median - truth, 0.0)
    scaled = scale > 0
    size = np.abs(error)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(hours, values.sum(axis=0, dtype=np.float64), minlength=24)

    return HourScores(
        targets=summed(known),
        absolute_error=summed(size),
        error=summed(error),
        scaled_error=summed(size[scaled] / scale[scaled, None]),
        scaled_targets=summed(known[scaled]),
        inside80=summed(known & (truth >= low80) & (truth <= high80)),
        inside90=summed(known & (truth >= low90) & (truth <= high90)),
    )


def steps_that_came(truth: np.ndarray) -> int:
    """How many steps of the horizon there are until the last of which anything has come. truth (series, horizon)."""
    return int(np.flatnonzero(np.isfinite(truth).any(axis=0)).max(initial=-1)) + 1


def _summed(values: np.ndarray, horizon: int) -> np.ndarray:
    """Sums (series, STRETCHES) of values (series, steps), 0 after these, over equal parts of the horizon."""
    values = np.pad(values, [(0, 0), (0, horizon - values.shape[1])])
    edges = np.arange(STRETCHES) * horizon // STRETCHES
    if horizon < STRETCHES:  # every step is a stretch of its own, the rest are empty
        return np.pad(values.astype(np.float64), [(0, 0), (0, STRETCHES - horizon)])
    return np.add.reduceat(values.astype(np.float64), edges, axis=1)


def _loss(above: np.ndarray, mixed: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Mean quantile loss (series, horizon) over levels (m,), from truth less each stored quantile (series, horizon, 5).

    mixed (5, m): the stored quantiles' weights in that of each level. The loss of a difference d at a level is
    level * d + max(-d, 0), whose first part is linear: it is added up before it is spread over levels.
    """
    under = above @ -mixed
    np.maximum(under, 0, out=under)
    share = np.full(len(levels), 1 / len(levels))
    return above @ (mixed @ levels * share[0]) + under @ share


_INTERPOLATION: Final = to_dense_levels(STORED_QUANTILES)
