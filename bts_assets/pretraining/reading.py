"""How the pretrained network reads a series: any step, any length, gaps. Patches of a scaled context, simple forecasts
that it may lean on, and descriptors; all of it scaled by the window's own past. Pure numpy, in training as in serving.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

#: Steps of a patch; patches of the newest steps, one by one, and of those before them, averaged by `COARSE`.
PATCH: Final = 32
FINE_PATCHES: Final = 6
COARSE_PATCHES: Final = 6
COARSE: Final = 4
CONTEXT_PATCHES: Final = COARSE_PATCHES + FINE_PATCHES
CONTEXT: Final = PATCH * (COARSE * COARSE_PATCHES + FINE_PATCHES)
#: Steps of the past that a window has at most in training: beyond its patches, for periods and weeks.
PAST: Final = 1632
#: The patches of the furthest horizon that is forecast at once.
HORIZON_PATCHES: Final = 6
HORIZON: Final = PATCH * HORIZON_PATCHES

#: Channels of a step of the context: value, whether it is known, difference from a day, a week and a period before.
CHANNELS: Final = 5
#: Last value, centre, mean of the newest steps, and newest and mean cycle of day, week and period; the mean day at
#: today's level.
BASES: Final = 10
DESCRIPTORS: Final = 24
#: Inputs of a patch of the horizon: hour of day and day of week as sine and cosine, whether known, the patch's number.
PLACES: Final = 6

#: Cycles that a mean cycle looks back over: of a day, of a week, of the period.
_CYCLES: Final = (7, 4, 5)
_NEWEST: Final = 8
_LARGEST: Final = 12.0
#: Steps that a period is looked for in, at most, and the autocorrelation that makes it one.
_SEARCHED: Final = 2048
_LEAST_CORRELATION: Final = 0.1


@dataclass(frozen=True)
class Reading:
    """What the network is given, float32: tokens (n, CONTEXT_PATCHES, CHANNELS * PATCH), bases (n, patches, PATCH,
    BASES), offered (n, BASES) 1 where a base has something to say, descriptors (n, DESCRIPTORS), places (n, patches,
    PLACES); and float64 centre and scale (n, 1) that lead back to the series' unit.
    """

    tokens: np.ndarray
    bases: np.ndarray
    offered: np.ndarray
    descriptors: np.ndarray
    places: np.ndarray
    centre: np.ndarray
    scale: np.ndarray

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        return self.tokens, self.bases, self.offered, self.descriptors, self.places

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values (n, steps) as the network has them: asinh-transformed, so that a burst does not hide the rest."""
        return np.arcsinh((values - self.centre) / self.scale)

    def unscaled(self, values: np.ndarray) -> np.ndarray:
        """Values (n, steps, levels) in the series' unit, float64."""
        linear = np.sinh(np.clip(values.astype(np.float64), -_LARGEST, _LARGEST))
        return np.asarray(self.centre[:, :, None] + self.scale[:, :, None] * linear)


def read(values: np.ndarray, day: np.ndarray, since_monday: np.ndarray, patches: int = HORIZON_PATCHES) -> Reading:
    """Read series (n, steps) up to their end, NaN where not observed, each with one observation at least.

    day: steps of a day, (n,). since_monday: days from a Monday's start to the origin, (n,); NaN where the calendar
    says nothing. Every row is read by itself.
    """
    steps = values.shape[1]
    if steps < CONTEXT:
        values = np.pad(values, [(0, 0), (CONTEXT - steps, 0)], constant_values=np.nan)
    centre, scale = _own_scale(values[:, -CONTEXT:])
    y = np.arcsinh((values - centre) / scale).astype(np.float32)
    known = np.isfinite(y)
    filled = _filled(y, known)
    period, strength = _period(filled, known, day)
    lags = np.stack([day, 7 * day, period], axis=1)
    differences = [_difference(y, lags[:, k]) for k in range(3)]
    recent = np.where(known, y, 0.0)[:, -CONTEXT:]
    channels = [recent, known[:, -CONTEXT:].astype(np.float32), *differences]
    bases, offered = _bases(y, filled, known, lags, patches * PATCH)
    described = _descriptors(y, known, differences, lags, strength, -centre / scale)
    return Reading(
        _tokens(channels),
        bases.reshape(len(y), patches, PATCH, BASES),
        offered,
        described,
        _places(day, since_monday, patches),
        centre,
        scale,
    )


def _filled(y: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each gap filled with what was known before it; 0, the centre, before the first."""
    newest = np.maximum.accumulate(np.where(known, np.arange(y.shape[1]), 0), axis=1)
    filled = np.take_along_axis(y, newest, axis=1)
    return np.where(np.isfinite(filled), filled, 0.0).astype(np.float32)


def _tokens(channels: list[np.ndarray]) -> np.ndarray:
    """Channels (n, CONTEXT) as tokens, oldest first."""
    cut = CONTEXT - FINE_PATCHES * PATCH
    fine = np.stack([c[:, cut:].reshape(len(c), FINE_PATCHES, PATCH) for c in channels], axis=2)
    old = [c[:, :cut].reshape(len(c), COARSE_PATCHES, PATCH, COARSE) for c in channels]
    coarse = np.stack([c.mean(axis=3) for c in old], axis=2)
    return np.concatenate([coarse, fine], axis=1).reshape(len(fine), CONTEXT_PATCHES, CHANNELS * PATCH)


def _own_scale(context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and deviation of each context, (n, 1): between the mean and the median one, for bursts are rare or not."""
    centre = _median(context)
    away = np.abs(context - centre)
    count = np.maximum(np.isfinite(away).sum(axis=1, keepdims=True), 1)
    mean = np.nansum(away, axis=1, keepdims=True) / count
    middle = np.maximum(_median(away), 0.1 * mean)
    least = 1e-9 * np.maximum(np.abs(centre), 1e-6)
    return centre, np.maximum(np.sqrt(middle * mean), least)


def _median(values: np.ndarray) -> np.ndarray:
    """The median of each row's known values, (n, 1); 0 where there are none."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1, keepdims=True)
    middle = [np.take_along_axis(ordered, np.maximum(at, 0), axis=1) for at in ((count - 1) // 2, count // 2)]
    return np.where(count > 0, 0.5 * (middle[0] + middle[1]), 0.0)


def _at(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """values (n, steps) at positions (n, any); NaN before the first step."""
    taken = np.take_along_axis(values, np.maximum(position, 0), axis=1)
    return np.where(position >= 0, taken, np.float32(np.nan))


def _difference(y: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """What the context (n, CONTEXT) differs by from `lag` steps before (0: no such lag); 0 where unknown."""
    position = np.arange(y.shape[1] - CONTEXT, y.shape[1])[None, :] - np.where(lag > 0, lag, y.shape[1])[:, None]
    change = y[:, -CONTEXT:] - _at(y, position)
    return np.where(np.isfinite(change), change, 0.0).astype(np.float32)


def _period(filled: np.ndarray, known: np.ndarray, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The period in steps (n,), neither a day nor a week, that the series follows most, 0 for none; autocorrelation."""
    y = filled[:, -_SEARCHED:]
    seen = np.maximum.accumulate(known, axis=1)[:, -_SEARCHED:]
    mean = np.where(seen, y, 0.0).sum(axis=1, keepdims=True) / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    y = np.where(seen, np.clip(y - mean, -3, 3), 0.0)
    spectrum = np.fft.rfft(y, 2 * y.shape[1], axis=1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : y.shape[1] // 2]
    correlation = correlation / np.maximum(correlation[:, :1], 1e-9)
    lag = np.arange(correlation.shape[1])
    peak = np.zeros(correlation.shape, bool)
    peak[:, 4:-1] = (correlation[:, 4:-1] > correlation[:, 3:-2]) & (correlation[:, 4:-1] >= correlation[:, 5:])
    for season in (day, 7 * day):
        peak &= np.abs(lag / season[:, None] - 1) > 0.03
    peak &= lag <= seen.sum(axis=1, keepdims=True) // 2
    height = np.where(peak, correlation, 0.0)
    best = height.argmax(axis=1)
    strength = height[np.arange(len(y)), best]
    return np.where(strength > _LEAST_CORRELATION, best, 0), strength


def _bases(
    y: np.ndarray, filled: np.ndarray, known: np.ndarray, lags: np.ndarray, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Simple forecasts (n, horizon, BASES), 0 where one has nothing to say, and (n, BASES) where it has."""
    count, steps = y.shape
    last = np.repeat(filled[:, -1:], horizon, axis=1)
    newest = np.repeat(filled[:, -_NEWEST:].mean(axis=1, keepdims=True), horizon, axis=1)
    bases = [last, np.zeros_like(last), newest]
    offered = [np.ones(count, bool)] * 3
    # The steps before the origin are forecast too, by the mean day: that tells how today's level differs.
    ahead = np.arange(-_NEWEST, horizon)[None, :]
    for k, cycles in enumerate(_CYCLES):
        lag = np.maximum(lags[:, k], 1)[:, None]
        back = [_at(y, steps + ahead % lag - turn * lag) for turn in range(1, cycles + 1)]
        there = (lags[:, k] > 0) & np.isfinite(back[0]).any(axis=1)
        stacked = np.stack(back)
        seen = np.isfinite(stacked)
        mean = np.where(seen, stacked, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        mean = np.where(seen.any(axis=0), mean, filled[:, -1:])
        bases += [np.where(seen[0], back[0], mean)[:, _NEWEST:], mean[:, _NEWEST:]]
        offered += [there, there & seen[1].any(axis=1)]
        if k == 0:
            shifted = mean[:, _NEWEST:] + newest[:, :1] - mean[:, :_NEWEST].mean(axis=1, keepdims=True)
    bases.append(shifted)
    offered.append(offered[4])
    told = np.stack(offered, axis=1).astype(np.float32)
    return np.stack(bases, axis=2).astype(np.float32) * told[:, None, :], told


def _descriptors(
    y: np.ndarray,
    known: np.ndarray,
    differences: list[np.ndarray],
    lags: np.ndarray,
    strength: np.ndarray,
    zero: np.ndarray,
) -> np.ndarray:
    """(n, DESCRIPTORS): roughness and seasons, lengths, how much is known, where zero and the ends of the range are."""
    context, seen, steps = y[:, -CONTEXT:], known[:, -CONTEXT:], known.shape[1]
    step = np.diff(context, axis=1)
    columns = [
        *_roughness(step, differences),
        lags[:, 2] > 0,
        strength,
        np.log1p(lags[:, 0]) / 5,
        np.log1p(lags[:, 2]) / 5,
        np.log1p(known.sum(axis=1)) / 5,
        np.log1p(np.maximum(seen.sum(axis=1), 1)) / 5,
        np.maximum(seen.sum(axis=1), 1) / CONTEXT,
        seen[:, -PATCH:].mean(axis=1),
        np.log1p(known[:, ::-1].argmax(axis=1)) / 3,
        *_ends(context, seen, zero[:, 0]),
        (step == 0).sum(axis=1) / np.maximum(np.isfinite(step).sum(axis=1), 1),
        _mean(context[:, -PATCH:]),
        _mean(context),
        np.log1p((steps - known.argmax(axis=1)) / np.maximum(lags[:, 0], 1)) / 3,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _roughness(step: np.ndarray, differences: list[np.ndarray]) -> list[np.ndarray]:
    """What changes from step to step, in the context and lately, and by lag where it changes: logarithms."""
    by_lag = [np.abs(d).sum(axis=1) / np.maximum((d != 0).sum(axis=1), 1) for d in differences]
    change = np.abs(step)
    return [np.log(0.01 + rough) / 2 for rough in (_mean(change), _mean(change[:, -PATCH:]), *by_lag)]


def _ends(y: np.ndarray, seen: np.ndarray, zero: np.ndarray) -> list[np.ndarray]:
    """Where the lowest and the highest value and zero are, and how often the ends are met."""
    count = np.maximum(seen.sum(axis=1), 1)
    low, high = np.where(seen, y, np.inf).min(axis=1), np.where(seen, y, -np.inf).max(axis=1)
    floor = np.arcsinh(zero)
    return [
        np.clip(low, -6, 6) / 3,
        np.clip(high, -6, 6) / 3,
        np.clip(floor, -10, 10) / 5,
        np.abs(floor - low) < 0.02,
        (seen & (y <= low[:, None] + 1e-4)).sum(axis=1) / count,
        (seen & (y >= high[:, None] - 1e-4)).sum(axis=1) / count,
    ]


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of each row's known values; 0 where there are none."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def _places(day: np.ndarray, since_monday: np.ndarray, patches: int) -> np.ndarray:
    """(n, patches, PLACES): what the clock says where each patch of the horizon begins."""
    at = since_monday[:, None] + np.arange(patches) * PATCH / day[:, None]
    told = np.isfinite(at)
    angles = 2 * np.pi * np.stack([at, at / 7], axis=2)
    waves = np.where(told[:, :, None], np.concatenate([np.sin(angles), np.cos(angles)], axis=2), 0.0)
    number = np.broadcast_to(np.arange(patches) / HORIZON_PATCHES, at.shape)
    return np.concatenate([waves, told[:, :, None], number[:, :, None]], axis=2).astype(np.float32)


def moves(values: np.ndarray) -> np.ndarray:
    """Whether each row (n, steps) has two different values, (n,) bool."""
    known = np.isfinite(values)
    lowest = np.where(known, values, np.inf).min(axis=1, initial=np.inf)
    return np.asarray(np.where(known, values, -np.inf).max(axis=1, initial=-np.inf) > lowest)
