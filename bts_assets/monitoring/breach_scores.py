"""What forecasts of breaches turned out to be worth: sums by tenth of the probability, which add up over anything."""

from dataclasses import astuple, dataclass
from typing import Final

import numpy as np

from bts_assets.monitoring.terms import ONE_STEP, BreachRule, began

#: Tenths of the probability.
BINS: Final = 10


@dataclass(frozen=True)
class BreachTally:
    """Sums by tenth of the probability, each (BINS,): how many were forecast so, how many happened, the sum of the
    probabilities, and that of squared differences (the Brier score's numerator).
    """

    sides: np.ndarray
    happened: np.ndarray
    expected: np.ndarray
    squared: np.ndarray

    def __add__(self, other: "BreachTally") -> "BreachTally":
        return BreachTally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def tally(probability: np.ndarray, happened: np.ndarray, known: np.ndarray) -> BreachTally:
    """Sums over limits of series (n,): probability of passing, whether it was passed, whether that is known."""
    p, came = probability[known].astype(float), happened[known].astype(float)
    tenth = np.clip((p * BINS).astype(int), 0, BINS - 1)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(tenth, weights=values, minlength=BINS)

    return BreachTally(summed(np.ones(len(p))), summed(came), summed(p), summed((p - came) ** 2))


def passed(
    values: np.ndarray, limit: np.ndarray, side: np.ndarray, window: int | None = None, rule: BreachRule = ONE_STEP
) -> tuple[np.ndarray, np.ndarray]:
    """Whether a breach of each series (n, steps; NaN where not observed) began within the first `window` steps, and
    whether that is known: it is once one did, and else where nine steps of ten of the window were observed.

    window: all steps by default. side: 1 for a high limit, -1 for a low one.
    """
    beyond = np.nan_to_num(side[:, None] * (values - limit[:, None]), nan=-1.0) > 0
    came = np.asarray(began(beyond, rule.persistence)[:, :window].any(axis=1))
    looked = values[:, :window]
    seen = np.isfinite(looked).mean(axis=1) >= 0.9 if looked.shape[1] else np.zeros(len(values), bool)
    return came, came | seen
