"""How much each candidate counts in each series' forecast, learned from holdout origins. It makes no forecast.

Weights are convex, and quantiles are averaged level by level (Lichtendahl, Grushka-Cockayne and Winkler, Is it better
to average probabilities or quantiles?, 2013). A series has few origins to be judged by, so its weights are drawn
towards those of its parameter, these towards those of all series, and these towards a prior: relative entropy is the
price of leaving, as in exponentiated gradients (Kivinen and Warmuth, 1997). A night counts half in its own measure, so
that a bad one moves weights by less than its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bts_assets.contracts.grid import QUANTILES
from bts_assets.forecasting.out_of_sample import Evidence

#: What leaving the parent's weights costs: at three independent nights a gain of a tenth in loss shifts odds by e.
ENTROPY_PRICE: Final = 0.3

#: The incumbent's share of the prior; the others share the rest.
INCUMBENT_SHARE: Final = 0.4

#: A candidate that counts less than this is left out.
LEAST_WEIGHT: Final = 0.03

#: Levels and steps that weights are fitted on: the median counts most, because it is the point forecast.
_LEVELS: Final = tuple(QUANTILES.index(q) for q in (0.1, 0.5, 0.9))
_IMPORTANCE: Final = np.array([0.25, 0.5, 0.25], dtype=np.float32)
_STEPS: Final = 24
_POOLED_SERIES: Final = 512
_ROUNDS: Final = 120
_CHUNK: Final = 256


@dataclass(frozen=True)
class Weights:
    """Weights over `candidates`, (candidates,), summing to 1: by series, by parameter for series not seen, else
    `default`. NaN: never tried for that series, or too expensive for all of that parameter.
    """

    candidates: tuple[str, ...]
    default: np.ndarray
    by_parameter: Mapping[int, np.ndarray] = field(default_factory=dict)
    by_series: Mapping[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def of(self, station_id: np.ndarray, parameter_id: np.ndarray) -> np.ndarray:
        """(series, candidates) float64."""
        pairs = zip(station_id.tolist(), parameter_id.tolist(), strict=True)
        rows = [self.by_series.get(p, self.by_parameter.get(p[1], self.default)) for p in pairs]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.candidates))


def mix(quantiles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of candidates' quantiles (candidates, series, ...) by weights (series, candidates).

    What a candidate did not serve (NaN) falls to the others in proportion; NaN where nothing is left.
    """
    total = np.zeros(quantiles.shape[1:], dtype=np.float32)
    share = np.zeros(quantiles.shape[1:], dtype=np.float32)
    for k, given in enumerate(quantiles):
        mine = np.where(np.isfinite(weights[:, k]), weights[:, k], 0.0).astype(np.float32)
        each = np.where(np.isfinite(given), mine.reshape(-1, *[1] * (given.ndim - 1)), 0.0)
        total += each * np.where(each > 0, given, 0.0)
        share += each
    return np.where(share > 0, total / np.where(share > 0, share, 1.0), np.nan)


def one_candidate(candidates: tuple[str, ...], name: str) -> Weights:
    """All weight on one candidate, for every series."""
    return Weights(candidates, np.array([float(c == name) for c in candidates]))


def learn(
    evidence: Evidence, incumbent: str, use: np.ndarray | None = None, credit: np.ndarray | None = None
) -> Weights:
    """Fit weights on the origins `use` (bool, (origins,); default all) of the evidence.

    A candidate counts for a series only where it served every origin that any candidate served. `credit` (series,
    candidates) is taken off the loss of each, in units of what a typical candidate was wrong by.
    """
    names = evidence.candidates
    prior = np.full(len(names), (1 - INCUMBENT_SHARE) / max(len(names) - 1, 1))
    prior[[n == incumbent for n in names]] = INCUMBENT_SHARE if len(names) > 1 else 1.0
    prior /= prior.sum()
    facts = _Facts.of(evidence, np.ones(len(evidence.origins), bool) if use is None else use, credit)
    if not facts.usable.any():
        return Weights(names, _trimmed(prior))
    nights = facts.independent_nights
    overall = _pooled(facts, np.flatnonzero(facts.usable), prior, nights)
    by_parameter: dict[int, np.ndarray] = {}
    by_series: dict[tuple[int, int], np.ndarray] = {}
    for parameter in np.unique(evidence.parameter_id):
        rows = np.flatnonzero(facts.usable & (evidence.parameter_id == parameter))
        if not len(rows):
            continue
        group = _pooled(facts, rows, overall, nights)
        by_parameter[int(parameter)] = _trimmed(group)
        for at in range(0, len(rows), _CHUNK):
            part = rows[at : at + _CHUNK]
            own = _descend(facts, part, np.repeat(group[None], len(part), axis=0), nights, pooled=False)
            for row, weights in zip(part.tolist(), own, strict=True):
                by_series[int(evidence.station_id[row]), int(parameter)] = _trimmed(weights)
    return Weights(names, _trimmed(overall), by_parameter, by_series)


@dataclass(frozen=True)
class _Facts:
    """Evidence in the shape of the descent. forecasts: (series, origins, steps, levels, candidates) in units of what a
    typical candidate was wrong by, as the deviation from the truth; 0 where nothing is known, `known` there 0.
    """

    deviations: np.ndarray
    known: np.ndarray  # (series, origins, steps): weight of each truth, those of a series summing to 1
    served: np.ndarray  # (series, candidates)
    usable: np.ndarray  # (series,)
    credit: np.ndarray  # (series, candidates)
    independent_nights: float

    @classmethod
    def of(cls, evidence: Evidence, use: np.ndarray, credit: np.ndarray | None) -> "_Facts":
        steps = np.unique(np.linspace(0, evidence.truth.shape[2] - 1, _STEPS).astype(int))
        truth = evidence.truth[:, use][:, :, steps]
        quantiles = evidence.quantiles[:, :, use][:, :, :, steps][..., _LEVELS]
        known = np.isfinite(truth)
        answered = np.isfinite(quantiles).all(axis=(3, 4)) | ~known.any(axis=2)  # (candidates, series, origins)
        asked = answered.any(axis=0)
        known &= asked[:, :, None]  # where nobody could serve, nobody is judged
        served = (answered | ~asked).all(axis=2).T & (answered & known.any(axis=2)).any(axis=2).T
        deviation = truth[None, ..., None] - quantiles
        deviation = np.where(known[None, ..., None] & served.T[:, :, None, None, None], deviation, 0.0)
        error = np.abs(deviation[..., 1]).sum(axis=3) / np.maximum(
            known.sum(axis=2), 1
        )  # (candidates, series, origins)
        error = np.where(served.T[:, :, None], error, np.nan)
        asked_of = known.any(axis=2)
        typical = np.where(asked_of, _median_of_known(error), 0.0)
        usual = typical.sum(axis=1, keepdims=True) / np.maximum(asked_of.sum(axis=1, keepdims=True), 1)
        # Half of a night's own measure, half of the series': neither shall a calm night count like a storm, nor a
        # storm decide.
        unit = 0.5 * typical + 0.5 * usual
        scaled = deviation / np.where(unit > 0, unit, 1.0)[None, :, :, None, None]
        count = known.sum(axis=(1, 2), keepdims=True)
        usable = served.any(axis=1) & (count[:, 0, 0] > 0) & (usual[:, 0] > 0)
        return cls(
            np.ascontiguousarray(np.moveaxis(np.clip(scaled, -50, 50), 0, -1), dtype=np.float32),
            (known / np.maximum(count, 1)).astype(np.float32),
            served,
            usable,
            np.zeros(served.shape) if credit is None else credit,
            evidence.independent_nights(use),
        )


def _pooled(facts: _Facts, rows: np.ndarray, parent: np.ndarray, nights: float) -> np.ndarray:
    """Weights (candidates,) that the series `rows` share; they are alike, so n of them say as much as sqrt(n) would."""
    if len(rows) > _POOLED_SERIES:
        rows = rows[np.linspace(0, len(rows) - 1, _POOLED_SERIES).astype(int)]
    return _descend(facts, rows, parent[None], nights * np.sqrt(len(rows)), pooled=True)[0]


def _descend(facts: _Facts, rows: np.ndarray, parent: np.ndarray, nights: float, pooled: bool) -> np.ndarray:
    """Minimise mean pinball loss + price / nights * relative entropy to `parent`, by mirror descent.

    parent (1 or series, candidates). Returns weights of the parent's shape.
    """
    deviations, known, served = facts.deviations[rows], facts.known[rows], facts.served[rows]
    levels = np.array([QUANTILES[k] for k in _LEVELS], dtype=np.float32)
    allowed = served.any(axis=0, keepdims=True) if pooled else served
    base = np.log(np.where(allowed, np.maximum(parent, 1e-4), 1e-30))
    price = ENTROPY_PRICE / nights
    log_weights, total = base.copy(), np.zeros_like(base)
    for step in range(_ROUNDS):
        weights = _softmax(log_weights)
        total += weights * (step >= _ROUNDS // 2)
        mine = weights * served
        mine = (mine / np.maximum(mine.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
        error = np.einsum("sotlk,sk->sotl", deviations, mine, optimize=True)
        # d(pinball)/d(error), each truth by its weight.
        slope = (np.where(error > 0, levels, levels - 1) * _IMPORTANCE * known[..., None]).astype(np.float32)
        gradient = np.einsum("sotl,sotlk->sk", slope, deviations, optimize=True) * 2.0 - facts.credit[rows]
        # Only differences between candidates matter on the simplex.
        gradient = (gradient - (gradient * mine).sum(axis=1, keepdims=True)) * served
        if pooled:
            gradient = gradient.mean(axis=0, keepdims=True)
        rate = 2.0 / np.sqrt(1 + step)
        log_weights = (log_weights - rate * gradient + rate * price * base) / (1 + rate * price)
        log_weights -= log_weights.max(axis=1, keepdims=True)
    return total / total.sum(axis=1, keepdims=True)


def _median_of_known(errors: np.ndarray) -> np.ndarray:
    """Over the first axis; 0 where nothing is known."""
    ordered = np.sort(errors, axis=0)  # NaN last
    count = np.isfinite(errors).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, np.maximum(count - 1, 0))
    middle = (np.take_along_axis(ordered, low[None], 0)[0] + np.take_along_axis(ordered, high[None], 0)[0]) / 2
    return np.where(count > 0, middle, 0.0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _trimmed(weights: np.ndarray) -> np.ndarray:
    kept = np.where(weights >= min(LEAST_WEIGHT, weights.max()), weights, 0.0)
    return np.round(kept / kept.sum(), 6)
