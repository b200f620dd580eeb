"""How likely each series is to pass its low or high limit, when and how badly: joint over the horizon.

Steps are not independent: a forecast that is too low at noon is too low at one. Paths are drawn from the forecast's
own quantiles through a Gaussian copula whose latent series is a level that persists plus a smooth second-order
autoregression, and what counts as a breach is looked for on each path. What comes of it is pooled with how often the
series passed the limit lately (`breach_history`).
"""

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np

from bts_assets.contracts.quantiles import STORED_QUANTILES
from bts_assets.monitoring.breach_history import Record
from bts_assets.monitoring.terms import ONE_STEP, BreachRule, began

#: Paths drawn per series: a probability of 10 % is then known to within 2 points.
PATHS: Final = 256

#: A limit that even the outermost quantile, this many times as far from the median, does not reach is not passed.
_OUT_OF_REACH: Final = 2.5

_NODES: Final = np.array([NormalDist().inv_cdf(q) for q in STORED_QUANTILES])
_MEDIAN: Final = STORED_QUANTILES.index(0.5)


@dataclass(frozen=True)
class Dependence:
    """The latent Gaussian: share of its variance that is one level for the whole horizon, and of the rest, a
    second-order autoregression, the root that it has twice; 0: its steps are independent. Each (series,).

    Its correlation is that of a Matern process of smoothness 3/2. Of a first order, paths would be so rough that they
    pass a limit too often.
    """

    level_share: np.ndarray
    root: np.ndarray


@dataclass(frozen=True)
class Breaches:
    """Per series: probability (series, windows) of a breach that begins within each window; NaN without a limit.

    first_likely: the step (from 0) from which on a breach has been more likely than not, -1 if never. expected_worst:
    mean over paths of the value farthest beyond or nearest to the limit, in the series' unit. expected_steps: mean
    number of steps beyond the limit on the paths with a breach, 0 without any.
    """

    probability: np.ndarray
    first_likely: np.ndarray
    expected_worst: np.ndarray
    expected_steps: np.ndarray


def breaches(
    quantiles: np.ndarray,
    limit: np.ndarray,
    side: int,
    dependence: Dependence,
    windows: tuple[int, ...],
    rule: BreachRule = ONE_STEP,
    seed: int = 0,
    record: Record | None = None,
) -> Breaches:
    """Breaches of one side of every series. record: how often each passed the limit lately, for the same windows.

    quantiles (series, horizon, 5) of `STORED_QUANTILES`, ascending; limit (series,), NaN without one; side 1 for a high
    limit, -1 for a low one; windows: numbers of steps from the origin, ascending. The draws depend on `seed` alone, and
    every series uses the same ones, so that a series' breaches do not depend on which others are asked for.
    """
    count, horizon = quantiles.shape[:2]
    found = Breaches(
        np.full((count, len(windows)), np.nan), np.full(count, -1), np.full(count, np.nan), np.zeros(count)
    )
    limited = np.flatnonzero(np.isfinite(limit))
    found.probability[limited] = 0.0
    limit = np.where(np.isfinite(limit), limit, np.nan)
    beyond = side * (quantiles - limit[:, None, None])  # positive: past the limit
    outermost = beyond[:, :, -1] if side > 0 else beyond[:, :, 0]
    median = beyond[:, :, _MEDIAN]
    found.expected_worst[limited] = limit[limited] + side * median[limited].max(axis=1)
    reach = median + _OUT_OF_REACH * np.maximum(outermost - median, 0)
    rows = limited[(reach[limited] > 0).any(axis=1)]
    noise, steps = _noise(horizon, seed), np.arange(1, horizon + 1)
    half = np.full((count, len(windows)), 0.5) if record is None else record.even()
    for row in rows:
        paths = _paths(quantiles[row], noise, dependence.level_share[row], dependence.root[row])
        even = np.interp(steps, windows, half[row])
        _look(found, row, side * (paths - limit[row]), limit[row], side, windows, rule, even)
    return found if record is None else replace(found, probability=record.pooled(found.probability))


def _look(
    found: Breaches,
    row: int,
    beyond: np.ndarray,
    limit: float,
    side: int,
    windows: tuple[int, ...],
    rule: BreachRule,
    even: np.ndarray,
) -> None:
    """Fill in one series from its paths' distances beyond the limit (paths, horizon).

    even: share of paths from which on a breach is more likely than not, by step (horizon,).
    """
    begins = began(beyond > 0, rule.persistence)
    first = np.where(begins.any(axis=1), begins.argmax(axis=1), beyond.shape[1])
    for k, window in enumerate(windows):
        found.probability[row, k] = np.mean(first < window)
    so_far = np.mean(first[:, None] <= np.arange(beyond.shape[1]), axis=0)
    likely = so_far > even
    found.first_likely[row] = likely.argmax() if likely.any() else -1
    found.expected_worst[row] = limit + side * beyond.max(axis=1).mean()
    passed = first < beyond.shape[1]
    if passed.any():
        recovered = -rule.recovery * np.abs(np.median(beyond, axis=0))
        found.expected_steps[row] = _held(beyond[passed], recovered).sum(axis=1).mean()


def _held(beyond: np.ndarray, recovered: np.ndarray) -> np.ndarray:
    """Steps in breach (paths, horizon): from passing the limit until it is come back past `recovered` (horizon,)."""
    state = np.zeros(len(beyond), dtype=bool)
    held = np.empty(beyond.shape, dtype=bool)
    for step in range(beyond.shape[1]):
        state = (beyond[:, step] > 0) | (state & (beyond[:, step] > recovered[step]))
        held[:, step] = state
    return held


def _noise(horizon: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Antithetic standard normal draws: levels (PATHS,) and innovations (PATHS, horizon)."""
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((PATHS // 2, horizon + 1))
    both = np.concatenate([half, -half])
    return both[:, 0], both[:, 1:]


def _paths(quantiles: np.ndarray, noise: tuple[np.ndarray, np.ndarray], level_share: float, root: float) -> np.ndarray:
    """Paths (PATHS, horizon) of one series whose margins are its quantiles (horizon, 5)."""
    level, innovations = noise
    short = _smooth(innovations, root)
    latent = np.sqrt(level_share) * level[:, None] + np.sqrt(1 - level_share) * short
    return _at(quantiles, latent)


def _smooth(innovations: np.ndarray, root: float) -> np.ndarray:
    """A second-order autoregression of variance 1 with a double root, (paths, horizon), from standard normal draws."""
    # The first two steps are drawn as the process would have them after a long time.
    lag1 = 2 * root / (1 + root**2)
    steps = innovations.T * np.sqrt((1 - root**2) ** 3 / (1 + root**2))
    steps[0] = innovations[:, 0]
    if len(steps) > 1:
        steps[1] = lag1 * steps[0] + np.sqrt(1 - lag1**2) * innovations[:, 1]
    for k in range(2, len(steps)):  # scipy.signal takes longer to import than a night of these
        steps[k] += 2 * root * steps[k - 1] - root**2 * steps[k - 2]
    return steps.T


def _at(quantiles: np.ndarray, latent: np.ndarray) -> np.ndarray:
    """Values (paths, horizon) at standard normal scores: linear between the stored quantiles, and beyond them on."""
    k = np.clip(np.searchsorted(_NODES, latent) - 1, 0, len(_NODES) - 2)
    step = np.arange(quantiles.shape[0])[None, :]
    low, high = quantiles[step, k], quantiles[step, k + 1]
    inner = low + (high - low) * (latent - _NODES[k]) / (_NODES[k + 1] - _NODES[k])
    # A tail as wide as the half of the distribution that it ends: the outermost pair of quantiles alone says little.
    middle, lowest, highest = quantiles[:, _MEDIAN], quantiles[:, 0], quantiles[:, -1]
    under = lowest + (middle - lowest) / -_NODES[0] * (latent - _NODES[0])
    over = highest + (highest - middle) / _NODES[-1] * (latent - _NODES[-1])
    return np.where(latent < _NODES[0], under, np.where(latent > _NODES[-1], over, inner))
