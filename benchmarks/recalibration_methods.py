"""Ways of nightly recalibration, side by side: the product's own, and what the literature has. Nothing is judged here.

All are walked through the same nights and may use, at each, what has come of the nights before and nothing else. The
others multiply distances from the median too, by series, quarter of the horizon and side: only the rule differs.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.recalibration_data import Nights
from bts_assets.contracts.grid import DAY
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.forecasting.recalibration import (
    LEAST,
    MOST,
    SIDES,
    STRETCHES,
    Matured,
    Recalibration,
    asked_of,
    carried_on,
    stretches,
)

Method = Callable[[Nights], np.ndarray]

_STORED: Final = [QUANTILES.index(q) for q in STORED_QUANTILES]
_SIDED: Final = [QUANTILES.index(q) for q in SIDES]
_MEDIAN: Final = QUANTILES.index(0.5)
_BEYOND: Final = np.minimum(SIDES, 1 - np.array(SIDES))


def as_they_are(nights: Nights) -> np.ndarray:
    return nights.quantiles


def recalibrated(nights: Nights) -> np.ndarray:
    """What the product would have served: quantiles (nights, series, horizon, levels)."""
    panel, truth = nights.panel, nights.truth
    series = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id])
    served, used = np.empty_like(nights.quantiles), [np.ones((len(series), STRETCHES, len(SIDES)))]
    state: Recalibration | None = None
    for night in range(len(truth)):
        if night:
            came = [Matured(series, served[b][:, :, _STORED], t, used[b]) for b, t in _came(nights, night)]
            state = carried_on(state, [asked_of(came, series)], series, DAY, panel.grid.horizon)
            used.append(used[0] if state is None else state.factors_of(series))
        plain = nights.quantiles[night]
        served[night] = plain if state is None else state.apply(plain, panel.station_id, panel.parameter_id)
    return served


def tracked(gain: float) -> Method:
    """Quantile tracking, as conformal PID control has it: a step against each night's excess of misses."""

    def walk(nights: Nights) -> np.ndarray:
        reach = _reach(nights)
        factors = np.zeros((1, *_shape(nights)))
        logs = [factors[0]]
        for night in range(1, len(reach)):
            factors = factors + _excess(_matured(nights, reach, night), factors) * gain
            logs.append(factors[0])
        return _applied(nights, np.array(logs))

    return walk


def aggregated(gains: tuple[float, ...] = (0.05, 0.15, 0.5, 1.5), rate: float = 1.0, share: float = 0.02) -> Method:
    """DtACI (Gibbs and Candes, 2022): trackers of several gains, weighted by quantile loss, with a fixed share."""

    def walk(nights: Nights) -> np.ndarray:
        reach = _reach(nights)
        experts = np.zeros((len(gains), *_shape(nights)))
        weights = np.full_like(experts, 1 / len(gains))
        logs = [experts[0]]
        for night in range(1, len(reach)):
            came = _matured(nights, reach, night)
            weights = weights * np.exp(-rate * _loss(came, experts))
            weights = (1 - share) * weights / weights.sum(axis=0) + share / len(gains)
            experts = experts + _excess(came, experts) * np.array(gains)[:, None, None, None]
            logs.append((weights * experts).sum(axis=0))
        return _applied(nights, np.array(logs))

    return walk


def by_bernstein(gains: tuple[float, ...] = (0.05, 0.15, 0.5, 1.5)) -> Method:
    """AgACI (Zaffran et al., 2022): the same trackers, each bound aggregated for itself by Bernstein online aggregation
    (Wintenberger, 2017) of the linearised quantile loss, with its own rates.
    """

    def walk(nights: Nights) -> np.ndarray:
        reach = _reach(nights)
        experts = np.zeros((len(gains), *_shape(nights)))
        weights = np.full_like(experts, 1 / len(gains))
        regret, largest, squares = (np.zeros_like(experts) for _ in range(3))
        logs = [experts[0]]
        for night in range(1, len(reach)):
            came = _matured(nights, reach, night)
            mixed = (weights * experts).sum(axis=0, keepdims=True)
            # The loss falls where the bound is too near, and by its share; what an expert adds is its distance.
            excess = -_excess(came, mixed) * (experts - mixed)
            largest, squares = np.maximum(largest, np.abs(excess)), squares + excess**2
            with np.errstate(divide="ignore"):
                rate = np.minimum(1 / (2 * largest), np.sqrt(np.log(len(gains)) / squares))
            rate = np.where(np.isfinite(rate), rate, 0.0)
            regret = regret + excess * (1 + rate * excess)
            power = -rate * regret
            weights = np.maximum(rate, 1e-9) * np.exp(power - power.max(axis=0))
            weights = weights / weights.sum(axis=0)
            experts = experts + _excess(came, experts) * np.array(gains)[:, None, None, None]
            logs.append((weights * experts).sum(axis=0))
        return _applied(nights, np.array(logs))

    return walk


def windowed(newest: int) -> Method:
    """Split conformal quantiles of what the newest nights missed, by parameter and quarter of the horizon."""

    def walk(nights: Nights) -> np.ndarray:
        reach, parameter = _reach(nights), nights.panel.parameter_id
        logs = np.zeros((len(reach), *_shape(nights)))
        for night in range(1, len(reach)):
            parts = [_known(reach[b], night - b, nights) for b in range(max(0, night - newest), night)]
            for one in np.unique(parameter):
                rows = np.flatnonzero(parameter == one)
                logs[night, rows] = _quantiles(np.stack([p[rows] for p in parts], axis=1))
        return _applied(nights, logs)

    return walk


METHODS: Final[dict[str, Method]] = {
    "as they are": as_they_are,
    "recalibrated": recalibrated,
    "quantile tracking, gain 0.15": tracked(0.15),
    "quantile tracking, gain 0.5": tracked(0.5),
    "quantile tracking, gain 1.5": tracked(1.5),
    "DtACI of four gains": aggregated(),
    "AgACI of four gains": by_bernstein(),
    "conformal, newest 14 nights": windowed(14),
    "conformal, all nights": windowed(10_000),
}


def _shape(nights: Nights) -> tuple[int, int, int]:
    return len(nights.panel), STRETCHES, len(SIDES)


def _came(nights: Nights, night: int) -> Iterator[tuple[int, np.ndarray]]:
    """The targets in the day before this night, of every earlier night with any: (night, truth (series, horizon))."""
    day, horizon = nights.panel.grid.steps_per_day, nights.panel.grid.horizon_steps
    for earlier in range(max(0, night - -(-horizon // day)), night):
        truth = np.full((len(nights.panel), horizon), np.nan)
        newest = slice((night - earlier - 1) * day, (night - earlier) * day)
        truth[:, newest] = nights.truth[earlier][:, newest]
        yield earlier, truth


def _reach(nights: Nights) -> np.ndarray:
    """How far truths lay from the median, in distances of each stated quantile: (nights, series, horizon, SIDES)."""
    middle = nights.quantiles[..., _MEDIAN, None]
    width = (nights.quantiles[..., _SIDED] - middle) * np.sign(np.array(SIDES) - 0.5)
    off = (nights.truth[..., None] - middle) * np.sign(np.array(SIDES) - 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(width > 0, off / width, np.nan)


def _matured(nights: Nights, reach: np.ndarray, night: int) -> list[np.ndarray]:
    """The actuals of the day before, by stretch: reach (series, targets, SIDES)."""
    stretch = stretches(reach.shape[2])
    came = [np.where(np.isfinite(truth)[:, :, None], reach[b], np.nan) for b, truth in _came(nights, night)]
    return [np.concatenate([c[:, stretch == k] for c in came], axis=1) for k in range(STRETCHES)]


def _known(reach: np.ndarray, days: int, nights: Nights) -> np.ndarray:
    """Reach of a night, NaN where its targets have not come after so many days."""
    steps = np.arange(reach.shape[1]) < days * nights.panel.grid.steps_per_day
    return np.where(steps[:, None], reach, np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return np.where(known, values, 0.0).sum(axis=-2) / np.maximum(known.sum(axis=-2), 1)


def _excess(came: list[np.ndarray], logs: np.ndarray) -> np.ndarray:
    """By how much more than stated lay beyond, (experts, series, STRETCHES, SIDES)."""
    parts = []
    for k, reach in enumerate(came):
        beyond = (reach > np.exp(logs[:, :, None, k])) - _BEYOND
        parts.append(_mean(np.where(np.isfinite(reach), beyond, np.nan)))
    return np.stack(parts, axis=2)


def _loss(came: list[np.ndarray], logs: np.ndarray) -> np.ndarray:
    """Quantile loss of factors, (experts, series, STRETCHES, SIDES)."""
    parts = []
    for k, reach in enumerate(came):
        above = reach - np.exp(logs[:, :, None, k])
        parts.append(_mean(np.maximum((1 - _BEYOND) * above, -_BEYOND * above)))
    return np.stack(parts, axis=2)


def _quantiles(reach: np.ndarray) -> np.ndarray:
    """Logarithms of factors (STRETCHES, SIDES) that would have held their share of reach (series, nights, steps)."""
    stretch, logs = stretches(reach.shape[2]), np.zeros((STRETCHES, len(SIDES)))
    for k in range(STRETCHES):
        part = reach[:, :, stretch == k].reshape(-1, len(SIDES))
        part = part[np.isfinite(part).all(axis=1)]
        for side in range(len(SIDES)) if len(part) else ():
            logs[k, side] = np.log(np.clip(np.quantile(part[:, side], 1 - _BEYOND[side]), LEAST, MOST))
    return logs


def _applied(nights: Nights, logs: np.ndarray) -> np.ndarray:
    """Every night with the factors of its own: logs (nights, series, STRETCHES, SIDES)."""
    panel, served = nights.panel, np.empty_like(nights.quantiles)
    series = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id])
    factors = np.exp(np.clip(logs, np.log(LEAST), np.log(MOST))).astype(np.float32)
    for night, own in enumerate(factors):
        state = Recalibration(series, own, np.ones_like(own), np.zeros_like(own))
        served[night] = state.apply(nights.quantiles[night], panel.station_id, panel.parameter_id)
    return served
