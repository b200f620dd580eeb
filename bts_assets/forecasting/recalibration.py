"""Recalibration: factors on the widths of intervals, moved night by night by what the last forecasts missed.

Adaptive conformal inference (Gibbs and Candes, 2021) moves a level by a step whenever a truth falls outside; quantile
tracking (Angelopoulos, Candes and Tibshirani, Conformal PID control, 2023) moves the quantile itself. Here a night says
of each quantile, by the share of truths beyond it, which factor it would have needed: that in use and a Newton step,
as for normal errors. What a series is given is the mean of what its nights asked for, newer ones more, leaning on its
parameter's and that on all. It reads and stores nothing.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from statistics import NormalDist
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES

#: Equal parts of the horizon that have factors of their own.
STRETCHES: Final = 4
#: The stored quantiles that have factors: all but the median.
SIDES: Final = tuple(q for q in STORED_QUANTILES if q != 0.5)

#: Nights after which a night counts half.
HALF_LIFE: Final = 14
#: Nights that a series leans on its parameter with, and a parameter on all, for the 80 % interval. The 90 % interval
#: takes twice as many: truths beyond it are half as often.
LENT_NIGHTS: Final = 10.0
#: No factor goes beyond these.
LEAST, MOST = 0.25, 4.0
#: Evidence of fewer nights than this is forgotten with its series, if nobody hears of it any more.
_FORGOTTEN: Final = 0.01

_LEVELS: Final = np.array(SIDES)
_OUTWARD: Final = np.sign(_LEVELS - 0.5)
#: The share of truths that belongs beyond each.
_BEYOND: Final = np.minimum(_LEVELS, 1 - _LEVELS)
_LENT: Final = LENT_NIGHTS * _BEYOND.max() / _BEYOND
#: By how much the share beyond a normal quantile falls, per unit of the logarithm of its distance from the median.
_SLOPE: Final = np.array([-NormalDist().inv_cdf(b) * NormalDist().pdf(NormalDist().inv_cdf(b)) for b in _BEYOND])
_STORED: Final = [STORED_QUANTILES.index(q) for q in SIDES]
_MEDIAN: Final = STORED_QUANTILES.index(0.5)
#: Whose factor each level that forecasters give is multiplied by: that of the nearest stored one on its side.
_LENDER: Final = [min(range(len(SIDES)), key=lambda k: abs(SIDES[k] - q)) for q in QUANTILES]


@dataclass(frozen=True)
class Matured:
    """A batch beside its actuals: quantiles (series, horizon, 5) as served; truth (series, horizon), NaN where there is
    none that counts; factors (series, STRETCHES, SIDES) as were in use then.
    """

    series: pd.MultiIndex
    quantiles: np.ndarray
    truth: np.ndarray
    factors: np.ndarray


@dataclass(frozen=True)
class Asked:
    """What the actuals of a batch ask for: the share of each stretch that has actuals, 0 to 1, and the logarithms of
    the factors that would have covered them, each (series, STRETCHES, SIDES).
    """

    series: pd.MultiIndex
    come: np.ndarray
    wanted: np.ndarray


@dataclass(frozen=True)
class Recalibration:
    """Factors on the distances of quantiles from the median, and the evidence that they are of.

    series: station_id, parameter_id (n,), ascending. All others (n, STRETCHES, SIDES) float32: factors; nights, how
    many speak, newer ones more; asked, the sum over these of the logarithms of the factors that they asked for.
    """

    series: pd.MultiIndex
    factors: np.ndarray
    nights: np.ndarray
    asked: np.ndarray

    @cached_property
    def digest(self) -> str:
        """SHA-256 over series, factors and evidence."""
        digest = hashlib.sha256(b"recalibration 1")
        for level, dtype in ((0, "<i8"), (1, "<i4")):
            digest.update(np.ascontiguousarray(self.series.get_level_values(level), dtype=dtype).data)
        for values in (self.factors, self.nights, self.asked):
            digest.update(np.ascontiguousarray(values, dtype="<f4").data)
        return digest.hexdigest()

    def of(self, series: pd.MultiIndex) -> "Recalibration":
        """The same of some series, as far as they are known."""
        rows = self.series.get_indexer(series)
        rows = rows[rows >= 0]
        return Recalibration(self.series[rows], self.factors[rows], self.nights[rows], self.asked[rows])

    def factors_of(self, series: pd.MultiIndex) -> np.ndarray:
        """(series, STRETCHES, SIDES), 1 for one that is not known."""
        return _taken(self.factors, self.series.get_indexer(series), 1.0)

    def apply(self, quantiles: np.ndarray, station_id: np.ndarray, parameter_id: np.ndarray) -> np.ndarray:
        """Quantiles (series, horizon, levels of `QUANTILES`) with their distances from the median mended, ascending.

        Those of a series all of whose factors are 1 stay as they are, bit for bit.
        """
        factors = self.factors_of(pd.MultiIndex.from_arrays([station_id, parameter_id])).astype(np.float64)
        rows = np.flatnonzero((factors != 1).any(axis=(1, 2)))
        stretch = stretches(quantiles.shape[1])
        given, middle = quantiles[rows], quantiles[rows][:, :, QUANTILES.index(0.5), None]
        mended = quantiles.copy()
        mended[rows] = np.sort(middle + (given - middle) * factors[rows][:, stretch][:, :, _LENDER], axis=2)
        return mended


def stretches(horizon: int) -> np.ndarray:
    """Which stretch of the horizon each of its steps lies in, (horizon,)."""
    return np.arange(horizon) * STRETCHES // horizon


def carried_on(
    before: Recalibration | None,
    asked_by: Iterable[Asked],
    series: pd.MultiIndex,
    elapsed: timedelta,
    horizon: timedelta,
) -> Recalibration | None:
    """The recalibration some time after `before`, when targets have come; None while there is no evidence.

    asked_by: factors needed by different series, in any order.
    series: those that are to be forecast (station_id, parameter_id); what is known of others fades. elapsed: since the
    origin of `before`; where origins follow each other faster than by nights and horizons, each counts as part of one.
    """
    fading, part = 0.5 ** (elapsed / (HALF_LIFE * DAY)), min(elapsed / min(DAY, horizon), 1.0)
    if before is not None:
        heard = before.series[(before.nights * fading).max(axis=(1, 2)) >= _FORGOTTEN]
        series = series.union(heard)
    series = series.sort_values()
    shape = (len(series), STRETCHES, len(SIDES))
    weights, asked = np.zeros(shape), np.zeros(shape)
    if before is not None:
        rows = before.series.get_indexer(series)
        weights, asked = (fading * _taken(v, rows, 0.0).astype(np.float64) for v in (before.nights, before.asked))
    for some in asked_by:
        rows = series.get_indexer(some.series)
        known = rows >= 0
        night = some.come[known] * part
        weights[rows[known]] += night
        asked[rows[known]] += night * some.wanted[known]
    if not weights.any():
        return None
    weights, asked = weights.astype(np.float32), asked.astype(np.float32)
    parameter = series.get_level_values(1).to_numpy()
    factors = _factors(weights.astype(np.float64), asked.astype(np.float64), parameter)
    return Recalibration(series, factors.astype(np.float32), weights, asked)


def asked_of(matured: Iterable[Matured], series: pd.MultiIndex) -> Asked:
    """What has come of some series' forecasts asks for."""
    shape = (len(series), STRETCHES, len(SIDES))
    count, excess, used, most = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.ones(STRETCHES)
    for batch in matured:
        rows = series.get_indexer(batch.series)
        known = rows >= 0
        targets, beyond = _beyond(batch.quantiles[known], batch.truth[known])
        count[rows[known]] += targets
        excess[rows[known]] += beyond
        used[rows[known]] += targets * np.log(batch.factors[known].astype(np.float64))
        most = np.maximum(np.bincount(stretches(batch.truth.shape[1]), minlength=STRETCHES), 1)
    some = np.maximum(count, 1)
    return Asked(series, np.minimum(count / most[:, None], 1.0), used / some + excess / some / _SLOPE)


def _beyond(quantiles: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per series, stretch and side, how many targets count, and by how many more than stated truths lay beyond.

    A truth on its quantile is neither within nor beyond. A side without width does not count where it was wrong: no
    factor would have helped it.
    """
    stated = quantiles[:, :, _STORED]
    off = (truth[:, :, None] - stated) * _OUTWARD
    counts = np.isfinite(off) & ((stated != quantiles[:, :, _MEDIAN, None]) | (off == 0))
    excess = np.where(counts, np.where(off > 0, 1 - _BEYOND, np.where(off < 0, -_BEYOND, 0.0)), 0.0)
    stretch = stretches(truth.shape[1])
    parts = [stretch == k for k in range(STRETCHES)]
    summed = [np.stack([v[:, part].sum(axis=1) for part in parts], axis=1) for v in (counts, excess)]
    return summed[0].astype(np.float64), summed[1]


def _factors(nights: np.ndarray, asked: np.ndarray, parameter: np.ndarray) -> np.ndarray:
    """Factors (series, STRETCHES, SIDES): of each series' nights, leaning on its parameter's, these on those of all."""
    everything = _mean(nights, asked, np.zeros((STRETCHES, len(SIDES))))
    own = np.empty_like(nights)
    for one in np.unique(parameter):
        rows = np.flatnonzero(parameter == one)
        group = _mean(nights[rows], asked[rows], everything)
        own[rows] = (asked[rows] + _LENT * group) / (nights[rows] + _LENT)
    return np.round(np.clip(np.exp(own), LEAST, MOST), 4)


def _mean(nights: np.ndarray, asked: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """What some series ask for together. Series of one night are alike: however many, it stays one night.

    Counted by the root of their number, a single bad night of a whole network would have widened everything fourfold.
    """
    heard = np.maximum((nights > 0).sum(axis=0), 1)
    return (asked.sum(axis=0) / heard + _LENT * parent) / (nights.sum(axis=0) / heard + _LENT)


def _taken(values: np.ndarray, rows: np.ndarray, missing: float) -> np.ndarray:
    """values[rows], `missing` where a row is -1."""
    if not len(values):
        return np.full((len(rows), *values.shape[1:]), missing, dtype=values.dtype)
    return np.where((rows >= 0)[:, None, None], values[rows], np.asarray(missing, dtype=values.dtype))
