"""The levels that a continuous ranked probability score is integrated over, and what quantiles say at those levels."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np

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
