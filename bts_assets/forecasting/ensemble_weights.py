"""How much each candidate counts in each series' forecast, learned from holdout origins. It makes no forecast.

Weights are those of a linear pool of distributions (`pooling`), and least in its energy score (Gneiting and Raftery,
Strictly proper scoring rules, 2007): E|X - truth| - E|X - X'| / 2, quadratic and convex in the weights, so that all of
the evidence that is needed is how far candidates are from the truth and from each other. A series has few origins to be
judged by, so its weights are drawn towards those of its parameter, these towards those of all series, and these towards
a prior: relative entropy is the price of leaving, as in exponentiated gradients (Kivinen and Warmuth, 1997). A night is
measured half in its own errors and half in the usual night's, so that no storm counts for more than two nights. A
candidate that was worse than the last value by a margin, or sure and wrong, has no weight there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.out_of_sample import HoldoutForecasts
from bts_assets.forecasting.windows import in_chunks

#: What leaving the parent's weights costs: at three independent nights a gain of a tenth in loss shifts odds by e.
ENTROPY_PRICE: Final = 0.3

#: The incumbent's share of the prior; the others share the rest.
INCUMBENT_SHARE: Final = 0.25

#: A candidate that counts less than this is left out.
LEAST_WEIGHT: Final = 0.03

#: Levels and steps that weights are fitted on, and what each level stands for.
_LEVELS: Final = tuple(QUANTILES.index(q) for q in (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975))
_MIDDLE: Final = 3
_MASS: Final = np.diff([0.0, 0.0625, 0.175, 0.375, 0.625, 0.825, 0.9375, 1.0]).astype(np.float32)
_STEPS: Final = 24
_POOLED_SERIES: Final = 512
_ROUNDS: Final = 120
_CHUNK: Final = 64

#: What stands in where nothing can be learned, and is never distrusted.
LAST_VALUE: Final = "last_value"
_ALWAYS_TRUSTED: Final = (LAST_VALUE, "window_median")

#: A candidate has no weight where its score is over so many times the last value's, or its 80 % intervals hold less
#: than this share. A series' own nights are joined by so many of its parameter's.
WORSE_THAN_LAST: Final = 1.2
LEAST_HELD: Final = 0.5
_BORROWED_NIGHTS: Final = 3.0
#: Both scores are of so much more, in units of what a typical candidate is wrong by: next to nothing is as good.
_AS_GOOD: Final = 0.05

#: No night's error of a candidate counts for more, in units of what a typical candidate is wrong by.
_WORST: Final = 10.0


@dataclass(frozen=True)
class Weights:
    """Weights over `candidates`, (candidates,), summing to 1: by series, by parameter for series not seen, else
    `default`. NaN: never tried for that series, or a statistical model that was fitted to none of that parameter.
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


def one_candidate(candidates: tuple[str, ...], name: str) -> Weights:
    """All weight on one candidate, for every series."""
    return Weights(candidates, np.array([float(c == name) for c in candidates]))


@dataclass(frozen=True)
class Energies:
    """What the energy score of any pool of the candidates is made of, per series and origin, in the series' unit.

    error (series, origins, candidates): E|X - truth|; apart (series, origins, candidates, candidates): E|X - X'| of a
    candidate's distribution and another's; missed (series, origins, candidates): absolute error of the median; held:
    share of truths in the 80 % interval. Means over known truths; 0 where a candidate did not serve. count (series,
    origins): truths. served (series, origins, candidates): whether a candidate could be asked.
    """

    error: np.ndarray
    apart: np.ndarray
    missed: np.ndarray
    held: np.ndarray
    count: np.ndarray
    served: np.ndarray

    @classmethod
    def of(cls, evidence: HoldoutForecasts) -> "Energies":
        steps = np.unique(np.linspace(0, evidence.truth.shape[2] - 1, _STEPS).astype(int))
        parts = [cls._part(evidence, part, steps) for part in in_chunks(len(evidence.panel), _CHUNK)]
        if not parts:
            parts = [cls._part(evidence, slice(0, 0), steps)]
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__annotations__))

    @classmethod
    def _part(cls, evidence: HoldoutForecasts, part: slice, steps: np.ndarray) -> "Energies":
        truth = evidence.truth[part][:, :, steps]
        quantiles = evidence.quantiles[:, part][:, :, :, steps][..., _LEVELS]
        known = np.isfinite(truth)
        answered = np.isfinite(quantiles).all(axis=(3, 4)) | ~known.any(axis=2)  # (candidates, series, origins)
        known &= answered.any(axis=0)[:, :, None]  # where nobody could serve, nobody is judged
        weight = known / np.maximum(known.sum(axis=2, keepdims=True), 1)
        usable = known[None, ..., None] & answered[:, :, :, None, None]
        points = np.moveaxis(np.where(usable, quantiles, 0.0), 0, 3)  # (series, origins, steps, candidates, levels)
        filled = np.where(known, truth, 0.0)[..., None, None]
        off = np.abs(points - filled)
        error = np.einsum("sotkl,l,sot->sok", off, _MASS, weight, optimize=True)
        missed = np.einsum("sotk,sot->sok", off[..., _MIDDLE], weight)
        inside = (points[..., 1] <= filled[..., 0]) & (filled[..., 0] <= points[..., -2])
        held = np.einsum("sotk,sot->sok", inside.astype(np.float32), weight)
        count = points.shape[3]
        apart = np.zeros((*error.shape, count), dtype=np.float32)
        for a in range(count):
            for b in range(a, count):
                each = np.abs(points[..., a, :, None] - points[..., b, None, :]) @ _MASS @ _MASS
                apart[..., a, b] = apart[..., b, a] = np.einsum("sot,sot->so", each, weight)
        heard = np.moveaxis(answered, 0, 2) & known.any(axis=2)[:, :, None]
        return cls(error, apart, missed, held, known.sum(axis=2), heard)


def learn(
    evidence: HoldoutForecasts,
    incumbent: str,
    use: np.ndarray | None = None,
    credit: np.ndarray | None = None,
    energies: Energies | None = None,
    share: float = INCUMBENT_SHARE,
    beside_last: Energies | None = None,
) -> Weights:
    """Fit weights on the origins `use` (bool, (origins,); default all) of the evidence.

    A candidate counts for a series only where it served every origin that any candidate served. `credit` (series,
    candidates) is taken off the loss of each, in units of what a typical candidate was wrong by. `share` is the
    incumbent's of the prior. `beside_last`: where the last value is no candidate, energies of the candidates with the
    last value in the first one's place; they tell whom not to trust.
    """
    names = evidence.candidates
    prior = np.full(len(names), (1 - share) / max(len(names) - 1, 1))
    prior[[n == incumbent for n in names]] = share if len(names) > 1 else 1.0
    prior /= prior.sum()
    use = np.ones(len(evidence.origins), bool) if use is None else use
    if not use.any():
        return Weights(names, _trimmed(prior))
    energies = Energies.of(evidence) if energies is None else energies
    facts = _Facts.of(energies, use, credit, evidence.independent_nights(use))
    if not facts.usable.any():
        return Weights(names, _trimmed(prior))
    nights = facts.independent_nights
    if beside_last is None:
        distrusted = _distrusted(facts, names, evidence.parameter_id)
    else:
        beside = _Facts.of(beside_last, use, None, nights)
        distrusted = _distrusted(beside, (LAST_VALUE, *names[1:]), evidence.parameter_id)
    facts = facts.without(distrusted)
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
    """Energies in the shape of the descent, means over the origins that are used, each in units of what a typical
    candidate was wrong by: error (series, candidates), apart (series, candidates, candidates).
    """

    error: np.ndarray
    apart: np.ndarray
    held: np.ndarray  # (series, candidates): share of truths in the 80 % interval
    served: np.ndarray  # (series, candidates)
    usable: np.ndarray  # (series,)
    credit: np.ndarray  # (series, candidates)
    independent_nights: float

    @property
    def score(self) -> np.ndarray:
        """Each candidate's own energy score, (series, candidates)."""
        return self.error - 0.5 * np.diagonal(self.apart, axis1=1, axis2=2)

    def without(self, distrusted: np.ndarray) -> "_Facts":
        """The same where what is distrusted, bool (series, candidates), was never served."""
        return replace(self, served=self.served & ~distrusted)

    @classmethod
    def of(cls, energies: Energies, use: np.ndarray, credit: np.ndarray | None, nights: float) -> "_Facts":
        heard, count = energies.served[:, use], energies.count[:, use]
        asked = count > 0
        served = np.asarray((heard | ~asked[:, :, None]).all(axis=1) & heard.any(axis=1))
        missed = np.where(served[:, None, :] & asked[:, :, None], energies.missed[:, use], np.nan)
        typical = np.where(asked, _median_of_known(np.moveaxis(missed, 2, 0)), 0.0)
        usual = _median_of_known(np.where(asked & (typical > 0), typical, np.nan).T)
        # Half of a night's own measure, half of the usual night's: a calm night counts little, and a storm at most as
        # two nights, however wild it was.
        unit = 0.5 * typical + 0.5 * usual[:, None]
        weight = np.where(unit > 0, count / np.where(unit > 0, unit, 1.0), 0.0) / np.maximum(
            count.sum(axis=1, keepdims=True), 1
        )
        usable = np.asarray(served.any(axis=1) & asked.any(axis=1) & (usual > 0))
        error = np.minimum(energies.error[:, use] * weight[:, :, None], _WORST)
        apart = np.minimum(energies.apart[:, use] * weight[:, :, None, None], _WORST)
        share = count[:, :, None] / np.maximum(count.sum(axis=1), 1)[:, None, None]
        return cls(
            np.where(served, error.sum(axis=1), 0.0),
            apart.sum(axis=1),
            (energies.held[:, use] * share).sum(axis=1),
            served,
            usable,
            np.zeros(served.shape) if credit is None else credit,
            nights,
        )


def _distrusted(facts: _Facts, names: tuple[str, ...], parameter_id: np.ndarray) -> np.ndarray:
    """Which candidates are to have no weight for which series, bool (series, candidates).

    Those that are worse than the last value by a margin, or whose 80 % intervals hold far too little, as far as the
    nights of the series and of its parameter tell. What is served in their place is never distrusted.
    """
    distrusted = np.zeros(facts.served.shape, dtype=bool)
    if LAST_VALUE not in names:
        return distrusted
    last = names.index(LAST_VALUE)
    score = np.maximum(facts.score, 0.0) + _AS_GOOD
    with np.errstate(invalid="ignore"):
        worse = np.where(facts.served & facts.served[:, [last]], np.log(score / score[:, [last]]), np.nan)
    held = np.where(facts.served, facts.held, np.nan)
    own = facts.independent_nights / (facts.independent_nights + _BORROWED_NIGHTS)
    for parameter in np.unique(parameter_id[facts.usable]):
        rows = np.flatnonzero(facts.usable & (parameter_id == parameter))
        for measure, bound in ((worse, np.log(WORSE_THAN_LAST)), (-held, -LEAST_HELD)):
            group = np.median(np.nan_to_num(measure[rows]), axis=0) if len(rows) else 0.0
            distrusted[rows] |= own * np.nan_to_num(measure[rows]) + (1 - own) * group > bound
    trusted = np.array([name in _ALWAYS_TRUSTED for name in names])
    stands_in = (facts.served & trusted).any(axis=1, keepdims=True)
    return np.asarray(distrusted & ~trusted & stands_in)


def _pooled(facts: _Facts, rows: np.ndarray, parent: np.ndarray, nights: float) -> np.ndarray:
    """Weights (candidates,) that the series `rows` share; they are alike, so n of them say as much as sqrt(n) would."""
    if len(rows) > _POOLED_SERIES:
        rows = rows[np.linspace(0, len(rows) - 1, _POOLED_SERIES).astype(int)]
    return _descend(facts, rows, parent[None], nights * np.sqrt(len(rows)), pooled=True)[0]


def _descend(facts: _Facts, rows: np.ndarray, parent: np.ndarray, nights: float, pooled: bool) -> np.ndarray:
    """Minimise mean energy score + price / nights * relative entropy to `parent`, by mirror descent.

    parent (1 or series, candidates). Returns weights of the parent's shape.
    """
    error, apart, served = facts.error[rows] - facts.credit[rows], facts.apart[rows], facts.served[rows]
    allowed = served.any(axis=0, keepdims=True) if pooled else served
    base = np.log(np.where(allowed, np.maximum(parent, 1e-4), 1e-30))
    price = ENTROPY_PRICE / nights
    log_weights, total = base.copy(), np.zeros_like(base)
    for step in range(_ROUNDS):
        weights = _softmax(log_weights)
        total += weights * (step >= _ROUNDS // 2)
        mine = weights * served
        mine = mine / np.maximum(mine.sum(axis=1, keepdims=True), 1e-12)
        gradient = error - np.einsum("skj,sj->sk", apart, mine)
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
