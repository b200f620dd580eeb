"""The quantile levels that forecasters give, those that are stored, their columns, and what lies between levels."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np

#: What forecasters give. The forecast table keeps the subset `STORED_QUANTILES`.
QUANTILES: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
STORED_QUANTILES: Final = (0.05, 0.1, 0.5, 0.9, 0.95)
#: What the columns of those are called, in frames, tables and views.
QUANTILE_COLUMNS: Final = tuple(f"q{round(q * 100):02}" for q in STORED_QUANTILES)
MEDIAN: Final = QUANTILES.index(0.5)

#: Midpoints of twenty equal parts of the unit interval: levels over which a loss is integrated.
DENSE_LEVELS: Final = tuple((k + 0.5) / 20 for k in range(20))


def to_dense_levels(levels: Sequence[float]) -> np.ndarray:
    """Weights (levels, `DENSE_LEVELS`) of quantiles in those between them: linear in the standard normal score, as they
    are for a normal distribution; beyond the outermost, on with the mean slope of their half. 0.5 is among the levels.
    """
    score_of = NormalDist().inv_cdf
    nodes, wanted = (np.array([score_of(float(q)) for q in each]) for each in (levels, DENSE_LEVELS))
    weights = np.array([np.interp(wanted, nodes, unit) for unit in np.eye(len(nodes))])
    for outer, beyond in ((0, wanted < nodes[0]), (-1, wanted > nodes[-1])):
        share = wanted[beyond] / nodes[outer]
        weights[:, beyond] = 0.0
        weights[outer, beyond], weights[list(levels).index(0.5), beyond] = share, 1 - share
    return weights
