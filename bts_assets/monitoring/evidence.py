"""Evidence that a stream of nightly figures has changed, whose false alarms are controlled over time. It names nothing.

Each night's figure becomes a conformal p-value against the nights of reference, the p-value a bet, and the bets a
Shiryaev-Roberts e-detector: the sum of the fortunes of gamblers of whom one starts afresh each night (Shin, Ramdas and
Rinaldo 2022, arXiv 2203.03532). While nothing changes a stream's evidence grows by 1 a night on average at most, so
that it passes `c` within `n` nights with probability `n / c` at most, whatever the streams have to do with each other.
The reference is fixed, as in Shaer et al. (arXiv 2602.13848), so that what has changed does not become the standard.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtri

#: Nights of reference without which nothing is said.
LEAST_NIGHTS: Final = 10
#: Streams of a group without which they have no common course to be compared with.
LEAST_GROUP: Final = 5
#: Points without which a group's own distribution of deviations is not used, but that of all groups.
_LEAST_POOL: Final = 300
#: The share of the largest deviations of the reference from which the shape of the tail is estimated; and the least
#: shape that is assumed (a normal distribution has 0).
_TAIL: Final = 0.02
_LEAST_SHAPE: Final = 0.05
#: Nights over which what one night's memory leaves may hang together.
_LAGS: Final = 6
#: How far from 1 the slope of a stream on its group's median is supposed to lie.
_GAIN: Final = 0.3
#: Standard errors that the centre of a reference may be off by.
_CENTRE: Final = 2.0
#: Bets: how many standard deviations the change is supposed to come to.
_BETS: Final = np.array([1.75, 3.5])
#: Nights' worth that a stream's own correlation with its night before counts against its group's.
_PRIOR_NIGHTS: Final = 20.0
#: A detector does not grow past its bound by more than this factor, so that it comes down within nights again.
_ABOVE: Final = np.log(20.0)


@dataclass(frozen=True)
class Streams:
    """Figures of many streams, night by night.

    reference (streams, nights) and live (streams, nights): NaN where a night has no figure. group (streams,): streams
    that share weather and calendar; the group's median of a night is taken out of each. tolerance (streams,): a
    standing difference that counts as no change, and floor (streams,): the least standard deviation, both in the
    figures' unit. rising: only a rise is of interest. most: normal score that a single night counts as at most, so that
    a lone outlier is no change.
    """

    reference: np.ndarray
    live: np.ndarray
    group: np.ndarray
    tolerance: np.ndarray
    floor: np.ndarray
    rising: bool = False
    most: float = np.inf


@dataclass(frozen=True)
class StreamEvidence:
    """Per stream and live night: log of the evidence for a change, either way, bets shared alike; and the deviation
    from what reference and group let expect, in standard deviations of a night; (streams, nights), NaN where unknown.
    """

    either: np.ndarray
    deviation: np.ndarray


def gather(streams: Streams, bound: np.ndarray) -> StreamEvidence:
    """Evidence after each live night. bound (streams,): log of what will be an alarm."""
    expected = _fit(streams)
    reference = _standardised(expected, streams.reference, streams.group, left_out=True)
    live = _standardised(expected, streams.live, streams.group, left_out=False)
    shrunk = np.sign(live) * np.maximum(np.abs(live) - expected.allowance[:, None], 0)
    normal = _normal_scores(shrunk, reference, streams.group)
    normal = np.clip(normal, -streams.most, streams.most)
    course = _detect(normal, bound)
    if not streams.rising:
        course = np.logaddexp(course, _detect(-normal, bound)) - np.log(2)
    unsure = np.isnan(expected.deviation)[:, None]
    return StreamEvidence(np.where(unsure, np.nan, course), np.where(unsure, np.nan, live))


@dataclass(frozen=True)
class _Expected:
    """What each stream is expected to do: a line on its group's median, correlation with the night before, deviation.

    centre, slope, middle (of the group's median), spread (its sum of squares, and the prior's), memory (lag-1
    correlation), deviation (of what a night adds), nights, allowance (standard deviations of a night that count as
    none): each (streams,).
    """

    centre: np.ndarray
    slope: np.ndarray
    middle: np.ndarray
    spread: np.ndarray
    memory: np.ndarray
    deviation: np.ndarray
    nights: np.ndarray
    allowance: np.ndarray


def _fit(streams: Streams) -> _Expected:
    values = streams.reference
    common = _common(values, streams.group)
    known = np.isfinite(values)
    nights = known.sum(axis=1)
    weight = known / np.maximum(nights, 1)[:, None]
    filled = np.where(known, values, 0.0)
    centre, middle = (filled * weight).sum(axis=1), (common * weight).sum(axis=1)
    off, along = np.where(known, values - centre[:, None], 0.0), (common - middle[:, None]) * known
    spread = (along**2).sum(axis=1)
    # A stream follows its group as the others do, give or take `_GAIN`, unless its nights say otherwise.
    tiny = np.finfo(float).tiny
    alone = (along * off).sum(axis=1) / np.maximum(spread, tiny)
    left = np.where(known, off - alone[:, None] * along, 0.0)
    prior = (left**2).sum(axis=1) / np.maximum(nights - 2, 1) / _GAIN**2
    slope = (alone * spread + prior) / np.maximum(spread + prior, tiny)
    spread = spread + prior
    rest = np.where(known, off - slope[:, None] * along, np.nan)
    memory = _memory(rest, streams.group)
    added = _innovations(rest, memory)
    count = np.maximum(np.isfinite(added).sum(axis=1) - 2, 1)
    # Nights that hang together are worth fewer: so much more the deviation may be than it was seen to be.
    worth = np.maximum(nights * (1 - memory) / (1 + memory), 1)
    deviation = np.sqrt(np.nansum(added**2, axis=1) / count) * (1 + 1 / np.sqrt(2 * worth))
    scaled = np.divide(added, deviation[:, None], out=np.zeros_like(added), where=deviation[:, None] > 0)
    deviation = deviation * _lasting(scaled, streams.group)
    deviation = np.maximum(deviation, streams.floor)
    # What stays wrong every night: the tolerance, and that the reference's centre is known from so many nights only.
    standing = streams.tolerance + _CENTRE * deviation / np.maximum(1 - memory, 0.1) / np.sqrt(np.maximum(nights, 1))
    allowance = standing * (1 - memory) / np.where(deviation > 0, deviation, 1)
    unsure = (nights < LEAST_NIGHTS) | ~(deviation > 0)
    return _Expected(centre, slope, middle, spread, memory, np.where(unsure, np.nan, deviation), nights, allowance)


def _common(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The median of each night over the streams of a group, (streams, nights); 0 in a small group or night."""
    common = np.zeros(values.shape)
    for name in np.unique(group):
        mine = np.flatnonzero(group == name)
        enough = np.isfinite(values[mine]).sum(axis=0) >= LEAST_GROUP
        if enough.any():
            common[np.ix_(mine, enough)] = np.nanmedian(values[mine][:, enough], axis=0)
    return common


def _memory(rest: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Correlation of a night with the one before, drawn towards the group's median, (streams,)."""
    both = np.isfinite(rest[:, 1:]) & np.isfinite(rest[:, :-1])
    before, after = (np.where(both, part, 0.0) for part in (rest[:, :-1], rest[:, 1:]))
    power = np.sqrt((before**2).sum(axis=1) * (after**2).sum(axis=1))
    own = np.divide((before * after).sum(axis=1), power, out=np.zeros(len(rest)), where=power > 0)
    nights = both.sum(axis=1)
    own = own + (1 + 3 * own) / np.maximum(nights, 4)  # estimated too low by that (Kendall 1954)
    drawn = np.empty(len(rest))
    for name in np.unique(group):
        mine = group == name
        weight = nights[mine] / (nights[mine] + _PRIOR_NIGHTS)
        drawn[mine] = weight * own[mine] + (1 - weight) * np.median(own[mine])
    return np.clip(drawn, 0.0, 0.9)


def _innovations(rest: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """What each night adds to what the one before let expect; without one before, as wide as others are."""
    before = np.full(rest.shape, np.nan)
    before[:, 1:] = rest[:, :-1]
    alone = rest * np.sqrt(1 - memory**2)[:, None]
    return np.where(np.isfinite(before), rest - memory[:, None] * before, alone)


def _lasting(added: np.ndarray, group: np.ndarray) -> np.ndarray:
    """By how much nights in a row stray further than independent ones of that deviation, 1 or more (streams,).

    The square root of the long-run variance (Bartlett's weights, Newey and West 1987) that a group's streams have
    together: what one night's memory does not account for.
    """
    factor = np.ones(len(added))
    filled = np.nan_to_num(added)
    for name in np.unique(group):
        mine = filled[group == name]
        power = (mine**2).sum()
        if power > 0:
            lags = [(mine[:, k:] * mine[:, :-k]).sum() * (1 - k / (_LAGS + 1)) for k in range(1, _LAGS + 1)]
            factor[group == name] = np.sqrt(max(1 + 2 * sum(lags) / power, 1.0))
    return factor


def _standardised(expected: _Expected, values: np.ndarray, group: np.ndarray, *, left_out: bool) -> np.ndarray:
    """Deviations of nights in standard deviations, what a line of few nights is unsure of counted in.

    left_out: of the reference's own nights, as if each had not been among them.
    """
    common = _common(values, group)
    along = np.where(common == 0, 0.0, common - expected.middle[:, None])
    rest = values - expected.centre[:, None] - expected.slope[:, None] * along
    with np.errstate(over="ignore"):  # along a line of no spread nothing is known
        leverage = 1 / np.maximum(expected.nights, 1)[:, None] + along**2 / np.maximum(
            expected.spread[:, None], np.finfo(float).tiny
        )
    leverage = np.where(along == 0, 1 / np.maximum(expected.nights, 1)[:, None], leverage)
    scaled = _innovations(rest, expected.memory) / expected.deviation[:, None]
    if not left_out:
        return scaled / np.sqrt(1 + leverage)
    inside = scaled / np.sqrt(np.maximum(1 - leverage, 0.1))
    degrees = np.maximum(expected.nights - 2.0, 1.0)[:, None]
    return inside * np.sqrt(
        np.maximum(degrees - 1, 1) / np.maximum(degrees - np.minimum(inside**2, degrees - 0.5), 0.5)
    )


def _normal_scores(live: np.ndarray, reference: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Conformal p-values of deviations (streams, nights), two-sided, as standard normal scores with their sign."""
    scores = np.full(live.shape, np.nan)
    everything = _pool(reference)
    for name in np.unique(group):
        mine = np.flatnonzero(group == name)
        own = _pool(reference[mine])
        scores[mine] = _scores(live[mine], own if len(own) >= _LEAST_POOL else everything)
    return scores


def _pool(reference: np.ndarray) -> np.ndarray:
    return np.sort(np.abs(reference[np.isfinite(reference)]))


def _scores(live: np.ndarray, pool: np.ndarray) -> np.ndarray:
    if not len(pool):
        return np.full(live.shape, np.nan)
    size = np.abs(live)
    as_far = len(pool) - np.searchsorted(pool, size, side="left")
    chance = (1.0 + as_far) / (len(pool) + 1)
    chance = chance * _beyond(size, pool)
    return np.where(np.isfinite(live), -np.sign(live) * ndtri(np.clip(chance / 2, 1e-15, 0.5)), np.nan)


def _beyond(size: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """How much less likely than the largest deviation of the reference a larger one is, at most 1.

    Peaks over a threshold: a generalised Pareto tail (Pickands 1975) fitted to the largest by their moments, never
    lighter than `_LEAST_SHAPE`, since the reference is too small to know that it is.
    """
    excess = pool[-max(10, int(_TAIL * len(pool))) :]
    excess = excess - excess[0]
    mean, variance = excess.mean(), excess.var()
    if not mean > 0:
        return np.ones(size.shape)
    shape = np.clip((1 - mean**2 / max(variance, 1e-12)) / 2, _LEAST_SHAPE, 0.5)
    scale = mean * (1 - shape)
    farther = np.maximum(size - pool[-1], 0.0)
    return (1 + shape * farther / (scale + shape * excess[-1])) ** (-1 / shape)


def _detect(scores: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Log of the Shiryaev-Roberts evidence after each night, bets averaged, (streams, nights).

    A night without a score neither adds to it nor takes from it.
    """
    log_evidence = np.full((len(scores), len(_BETS)), -np.inf)
    highest = (bound + _ABOVE)[:, None]
    course = np.empty(scores.shape)
    for night in range(scores.shape[1]):
        score = scores[:, night, None]
        bet = np.where(np.isfinite(score), _BETS * score - _BETS**2 / 2, np.nan)
        grown = np.minimum(np.logaddexp(0.0, log_evidence) + bet, highest)
        log_evidence = np.where(np.isfinite(bet), grown, log_evidence)
        course[:, night] = np.logaddexp.reduce(log_evidence, axis=1) - np.log(len(_BETS))
    return course
