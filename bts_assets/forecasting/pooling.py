"""Several forecasts of one thing as one distribution: a linear opinion pool of quantile functions. It learns nothing.

Members are pooled as distributions (Stone, The opinion pool, 1961), not averaged level by level, so that what they
disagree about widens the interval: of 0.2 parts of 0 V and 0.8 parts of 221 V the median is 221 V and the 5 % level
0 V, never a sure 177 V. A pool of good members is too wide, which calibration mends (Ranjan and
Gneiting, Combining probability forecasts, 2010).
"""

from typing import Final

import numpy as np

from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.windows import in_chunks

_LEVELS: Final = np.array(QUANTILES)

#: The mass that each level of a member stands for: from the middle between it and the level below to that above.
_EDGES: Final = np.concatenate([[0.0], (_LEVELS[1:] + _LEVELS[:-1]) / 2, [1.0]])
_MASS: Final = np.diff(_EDGES)
#: What of that mass lies at or below the level's own quantile.
_OWN: Final = _LEVELS - _EDGES[:-1]

#: Series that are pooled at once: few enough that their points stay in the processor's cache.
_CHUNK: Final = 16


def pool(quantiles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pool members' quantiles (members, series, ..., levels) by weights (series, members; NaN as 0).

    Returns (series, ..., levels), ascending, in the members' type. What a member did not serve (NaN) falls to the
    others in proportion; NaN where nothing is left. A member alone, and members that agree, come out as they went in.
    """
    pooled = np.full(quantiles.shape[1:], np.nan, dtype=quantiles.dtype)
    wanted = np.where(np.isfinite(weights), weights, 0.0)
    # Series with the same members together: then every array is as small as it can be.
    patterns, group = np.unique(wanted > 0, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        members, rows = np.flatnonzero(pattern), np.flatnonzero(group.reshape(-1) == number)
        for part in in_chunks(len(rows), _CHUNK) if len(members) else []:
            some = rows[part]
            pooled[some] = _combined(quantiles[np.ix_(members, some)], wanted[np.ix_(some, members)])
    return pooled


def _combined(given: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """given (members, series, ..., levels), weights (series, members), all of them above 0."""
    shape = given.shape[1:]
    members = np.moveaxis(given.reshape(len(given), len(weights), -1, len(QUANTILES)), 0, 2)
    flat = members.reshape(-1, len(given), len(QUANTILES))
    share = np.repeat(weights, members.shape[1], axis=0)
    served = np.isfinite(flat).all(axis=2)
    share = np.where(served, share, 0.0)
    total = share.sum(axis=1, keepdims=True)
    share = (share / np.where(total > 0, total, 1.0)).astype(given.dtype)
    if not served.all():
        # What was not served has no mass, and lies where it moves nothing.
        flat = np.where(
            served[:, :, None], flat, np.nan_to_num(flat[np.arange(len(flat)), served.argmax(axis=1)])[:, None]
        )
    pooled = mixture(flat, share) if len(given) > 1 else flat[:, 0]
    return np.where(total > 0, pooled, np.nan).reshape(shape)


def mixture(members: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Quantiles (n, levels) of the mixture of distributions that are given by theirs (n, members, levels).

    Each member is a step function with the levels' quantiles as its steps, but exact at its own: so a member alone
    comes out as it went in. Between the points of all members the mixture's distribution function goes straight.
    """
    count = members.shape[0]
    points = members.reshape(count, -1)
    mass = (share[:, :, None] * _MASS.astype(share.dtype)).reshape(count, -1)
    own = (share[:, :, None] * _OWN.astype(share.dtype)).reshape(count, -1)
    order = np.argsort(points, axis=1) + np.arange(count)[:, None] * points.shape[1]
    # From here on points by mixtures: what goes over few points of many mixtures is fast along the mixtures.
    mass, own = (np.ascontiguousarray(a.ravel().take(order).T) for a in (mass, own))
    below = mass.copy()
    for k in range(1, len(below)):  # numpy's own sum along the first axis is slow
        below[k] += below[k - 1]
    below -= mass
    below += own
    counted = np.min_scalar_type(len(below))
    right = np.stack([np.add.reduce(below < level, axis=0, dtype=counted) for level in _LEVELS]).astype(np.int64)
    right = np.minimum(right, len(below) - 1)
    left = np.maximum(right - 1, 0)
    number = np.arange(count)
    f0, f1 = (below.ravel().take(at * count + number) for at in (left, right))
    x0, x1 = (points.ravel().take(order.ravel().take(at + number * len(below))) for at in (left, right))
    between = np.clip((_LEVELS[:, None] - f0) / np.where(f1 > f0, f1 - f0, 1.0), 0.0, 1.0)
    return np.where(right > left, x0 + between * (x1 - x0), x1).T
