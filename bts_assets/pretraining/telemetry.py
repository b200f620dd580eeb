"""Synthetic telemetry from a seed: processes composed at random, then observed as equipment observes. No recording.

In the manner of KernelSynth (Ansari et al., Chronos, 2024) and TempoPFN (2025), with the processes of equipment and
events beside kernels: what is bursty, counted, charged, switched, queued or missing is most of what stations report.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from bts_assets.pretraining import processes as p
from bts_assets.pretraining.processes import Clock, Process, Rng, chosen, log_uniform, unit

#: Minutes of a step, and how many of 100 series have it.
STEPS: Final = {1: 4, 2: 3, 5: 16, 10: 8, 15: 22, 30: 10, 60: 27, 120: 3, 240: 3, 1440: 4}

#: Series that are made side by side: it bounds memory.
_BLOCK: Final = 512


@dataclass(frozen=True)
class Telemetry:
    """values (series, steps) float32, NaN where not observed; kind (series,) its family; clock: its days and weeks."""

    values: np.ndarray
    kind: np.ndarray
    clock: Clock


def synthesise(seed: int, count: int, steps: int) -> Telemetry:
    """`count` series of `steps`; the same seed gives the same bits."""
    blocks = [
        _block(np.random.default_rng((seed, at)), min(_BLOCK, count - at), steps) for at in range(0, count, _BLOCK)
    ]
    values, kind, day, start = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return Telemetry(values, kind, Clock(day, start, steps))


def _block(rng: Rng, count: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    minutes = rng.choice(list(STEPS), count, p=np.array(list(STEPS.values())) / sum(STEPS.values()))
    day = 1440 // minutes
    clock = Clock(day, np.floor(rng.random(count) * 7 * day).astype(np.int64), steps)
    names = list(FAMILIES)
    share = np.array([weight for weight, _ in FAMILIES.values()], float)
    kind = rng.choice(len(names), count, p=share / share.sum())
    values = np.zeros((count, steps), np.float32)
    # Some are two in one: what a meter sums up.
    for which, part in ((kind, 1.0), (rng.permutation(kind), np.where(chosen(rng, 0.2, count), 0.6, 0.0))):
        for number, name in enumerate(names):
            rows = np.flatnonzero((which == number) & (np.broadcast_to(part, (count, 1))[:, 0] > 0))
            if len(rows):
                made = FAMILIES[name][1](rng, clock.take(rows))
                values[rows] += np.broadcast_to(part, (count, 1))[rows] * (made if number < 0 else unit(made))
    return _observed(rng, values.astype(np.float64), clock), np.array(names)[kind], day, clock.start


def _seasonal(rng: Rng, clock: Clock) -> np.ndarray:
    """A daily profile with a trend and noise, multiplicative in half of them; nearly exact repetition among them."""
    count = len(clock)
    slow = _sometimes(rng, 0.6, p.coloured(rng, clock, 1.2), 1.0) + _sometimes(rng, 0.3, p.trend(rng, clock), 1.0)
    slow = slow + _sometimes(rng, 0.25, p.level_shifts(rng, clock), 0.8)
    slow = slow * np.where(chosen(rng, 0.5, count), log_uniform(rng, 0.03, 1, count), 1.0)
    noise = np.where(chosen(rng, 0.25, count), p.heavy_tailed(rng, clock), p.mean_reverting(rng, clock))
    noise = np.where(chosen(rng, 0.5, count), noise, p.normal(rng, clock))
    log = p.daily(rng, clock) + slow + log_uniform(rng, 0.01, 0.7, count) * noise
    return _bent(rng, log)


def _kernels(rng: Rng, clock: Clock) -> np.ndarray:
    """Two to four kernels, added or multiplied."""
    made = p.coloured(rng, clock)
    for process in rng.choice(np.array(_KERNELS, dtype=object), 4, replace=False):
        other, share = process(rng, clock), rng.random((len(clock), 1))
        made = np.where(share < 0.45, made + other, np.where(share < 0.6, made * (1.0 + 0.5 * other), made))
    return _bent(rng, unit(made) + _sometimes(rng, 0.7, p.normal(rng, clock), 0.3))


def _walks(rng: Rng, clock: Clock) -> np.ndarray:
    count = len(clock)
    moving = np.where(chosen(rng, 0.5, count), p.walk(rng, clock), p.mean_reverting(rng, clock))
    moving = (
        moving + _sometimes(rng, 0.3, p.daily(rng, clock), 0.4) + _sometimes(rng, 0.2, p.level_shifts(rng, clock), 1)
    )
    return _bent(rng, moving + _sometimes(rng, 0.5, p.normal(rng, clock), 0.3))


def _bursty(rng: Rng, clock: Clock) -> np.ndarray:
    """A quiet level with bursts, spikes and what else a server's load has."""
    count = len(clock)
    quiet = 0.15 * np.where(chosen(rng, 0.5, count), np.abs(p.coloured(rng, clock)), 1 + 0.3 * p.normal(rng, clock))
    busy = quiet + _sometimes(rng, 0.6, p.on_off(rng, clock), 2.0) + _sometimes(rng, 0.6, p.spikes(rng, clock), 1.5)
    busy = (
        busy + _sometimes(rng, 0.4, np.exp(p.daily(rng, clock)), 0.4) + _sometimes(rng, 0.2, p.queue(rng, clock), 0.3)
    )
    jitter = np.exp(log_uniform(rng, 0.02, 0.6, count) * p.normal(rng, clock))
    return np.asarray(
        busy * np.where(chosen(rng, 0.7, count), jitter, 1.0) + _sometimes(rng, 0.2, p.regimes(rng, clock), 1)
    )


def _counted(rng: Rng, clock: Clock) -> np.ndarray:
    return np.where(chosen(rng, 0.6, len(clock)), p.counts(rng, clock), p.self_exciting(rng, clock))


def _cycles(rng: Rng, clock: Clock) -> np.ndarray:
    count = len(clock)
    which = rng.random((count, 1))
    cycle = np.where(which < 0.45, p.tank(rng, clock), p.thermostat(rng, clock))
    cycle = np.where(which > 0.75, p.other_season(rng, clock), cycle)
    return np.asarray(
        cycle + _sometimes(rng, 0.6, p.normal(rng, clock), 0.1) + _sometimes(rng, 0.2, p.daily(rng, clock), 0.3)
    )


def _regimes(rng: Rng, clock: Clock) -> np.ndarray:
    return np.asarray(p.regimes(rng, clock) + _sometimes(rng, 0.3, p.daily(rng, clock), 0.6))


def _flowing(rng: Rng, clock: Clock) -> np.ndarray:
    return p.ceiling(rng, clock)


_KERNELS: Final[tuple[Process, ...]] = (
    p.trend, p.daily, p.other_season, p.walk, p.mean_reverting, p.level_shifts, p.coloured, p.heavy_tailed,
)  # fmt: skip

#: How many of 100 series, and how they are made.
FAMILIES: Final[dict[str, tuple[int, Process]]] = {
    "seasonal": (35, _seasonal),
    "kernels": (12, _kernels),
    "walks": (11, _walks),
    "bursty": (14, _bursty),
    "counted": (10, _counted),
    "cycles": (7, _cycles),
    "regimes": (4, _regimes),
    "intermittent": (3, p.intermittent),
    "flowing": (4, _flowing),
}


def _sometimes(rng: Rng, share: float, part: np.ndarray, size: float) -> np.ndarray:
    """The part in about this share of the rows, in sizes about this one; 0 in the others."""
    count = len(part)
    return np.asarray(part * chosen(rng, share, count) * size * log_uniform(rng, 0.25, 2, count))


def _bent(rng: Rng, values: np.ndarray) -> np.ndarray:
    """As it is, or its exponential (what grows by shares), or its positive part."""
    which = rng.random((len(values), 1))
    grown = np.exp(np.clip(rng.uniform(0.2, 1.2, (len(values), 1)) * values, -12, 6))
    positive = np.maximum(values + rng.uniform(-1, 2, (len(values), 1)), 0.0)
    return np.where(which < 0.5, values, np.where(which < 0.9, grown, positive))


def _observed(rng: Rng, values: np.ndarray, clock: Clock) -> np.ndarray:
    """What the equipment reports: stray values, an end of the range, rounding, held values, gaps; any unit."""
    count, steps = values.shape
    size = np.maximum(values.std(axis=1, keepdims=True), 1e-6)
    stray = (rng.random(values.shape) < 0.002) & chosen(rng, 0.15, count)
    values = values + stray * size * 5 * p.heavy_tailed(rng, clock)
    ends = np.quantile(values[:, :: max(1, steps // 256)], [0.05, 0.93], axis=1)[:, :, None]
    values = np.where(chosen(rng, 0.06, count), np.minimum(values, ends[1]), values)
    values = np.where(chosen(rng, 0.06, count), np.maximum(values, ends[0]), values)
    grain = size * log_uniform(rng, 0.02, 1.0, count)
    values = np.where(chosen(rng, 0.2, count), np.round(values / grain) * grain, values)
    held = _stretches(rng, clock, 0.06)
    newest = np.maximum.accumulate(np.where(held, 0, np.arange(steps)), axis=1)
    values = np.take_along_axis(values, newest, axis=1)
    level = np.where(
        chosen(rng, 0.4, count), 0.0, rng.standard_normal((count, 1)) * size * log_uniform(rng, 0.1, 300, count)
    )
    values = (values + level) * log_uniform(rng, 1e-3, 1e4, count) * np.where(chosen(rng, 0.1, count), -1.0, 1.0)
    gaps = _stretches(rng, clock, 0.25) | ((rng.random(values.shape) < rng.uniform(0, 0.3)) & chosen(rng, 0.12, count))
    return np.where(gaps, np.nan, values)


def _stretches(rng: Rng, clock: Clock, share: float) -> np.ndarray:
    """(series, steps) bool: in this share of the series some stretches, of 1 to 200 steps."""
    starts = rng.random(clock.shape) < log_uniform(rng, 0.0005, 0.01, len(clock)) * chosen(rng, share, len(clock))
    keep = np.exp(-1 / log_uniform(rng, 1, 80, len(clock)))
    return np.asarray(p.decaying(starts.astype(np.float32), keep) > 0.3)
