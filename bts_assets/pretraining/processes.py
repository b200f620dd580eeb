"""Random processes that telemetry is composed of, many series at once. Nothing here is fitted to any recording.

Every process takes a generator and a `Clock`, and gives (series, steps) float32 of about unit size. What depends on the
state before it is stepped through time with all series side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

Rng = np.random.Generator
Process = Callable[[Rng, "Clock"], np.ndarray]

#: Points of a daily profile: three minutes each.
PROFILE: Final = 480


@dataclass(frozen=True)
class Clock:
    """Where in the day and the week each series is. day (series,): steps of a day; start (series,): step of the week
    that the first one is, counted from Monday's first.
    """

    day: np.ndarray
    start: np.ndarray
    steps: int

    def __len__(self) -> int:
        return len(self.day)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.day), self.steps

    def take(self, rows: np.ndarray) -> "Clock":
        return Clock(self.day[rows], self.start[rows], self.steps)

    @cached_property
    def since_monday(self) -> np.ndarray:
        """Days since the first Monday, (series, steps) float64."""
        return np.asarray((self.start[:, None] + np.arange(self.steps)) / self.day[:, None])


def log_uniform(rng: Rng, low: float, high: float, count: int) -> np.ndarray:
    return np.exp(rng.uniform(np.log(low), np.log(high), (count, 1))).astype(np.float32)


def chosen(rng: Rng, share: float, count: int) -> np.ndarray:
    """(count, 1) bool: about this share of them."""
    return rng.random((count, 1)) < share


def unit(values: np.ndarray) -> np.ndarray:
    """Each row with mean 0 and standard deviation 1; a row that never moves stays at 0."""
    values = values - values.mean(axis=1, keepdims=True)
    return np.asarray(values / np.maximum(values.std(axis=1, keepdims=True), 1e-6), np.float32)


def normal(rng: Rng, clock: Clock) -> np.ndarray:
    return rng.standard_normal(clock.shape, dtype=np.float32)


def heavy_tailed(rng: Rng, clock: Clock) -> np.ndarray:
    """Student's t of 2 to 8 degrees of freedom, cut at 50."""
    freedom = rng.uniform(2, 8, (len(clock), 1))
    mixed = np.sqrt(freedom / np.maximum(rng.chisquare(freedom, clock.shape), 1e-3))
    return np.clip(normal(rng, clock) * mixed, -50, 50).astype(np.float32)


def coloured(rng: Rng, clock: Clock, low: float = 0.0, high: float = 2.6) -> np.ndarray:
    """Noise whose power falls with the frequency to a power between `low` (0: white) and `high` (2: a walk)."""
    count, steps = clock.shape
    frequency = np.fft.rfftfreq(2 * steps)
    frequency[0] = frequency[1]
    power = frequency[None, :] ** (-rng.uniform(low, high, (count, 1)) / 2)
    spectrum = power * (rng.standard_normal(power.shape) + 1j * rng.standard_normal(power.shape))
    # Half of a circle, so that the end does not know the beginning.
    return unit(np.fft.irfft(spectrum, axis=1)[:, :steps])


def decaying(inputs: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """y(t) = keep y(t-1) + input(t); inputs (series, steps), keep (series, 1)."""
    columns, kept = np.ascontiguousarray(inputs.T, np.float32), keep[:, 0].astype(np.float32)
    for t in range(1, len(columns)):
        columns[t] += kept * columns[t - 1]
    return columns.T


def mean_reverting(rng: Rng, clock: Clock) -> np.ndarray:
    """An autoregression of order 1 that forgets within 2 to 500 steps, one in three with heavy-tailed shocks."""
    shocks = np.where(chosen(rng, 0.3, len(clock)), heavy_tailed(rng, clock), normal(rng, clock))
    return unit(decaying(shocks, np.exp(-1 / log_uniform(rng, 2, 500, len(clock)))))


def walk(rng: Rng, clock: Clock) -> np.ndarray:
    """A random walk; volatility itself moves in half of them, shocks are heavy-tailed in a third."""
    shocks = np.where(chosen(rng, 0.3, len(clock)), heavy_tailed(rng, clock), normal(rng, clock))
    calm = np.exp(rng.uniform(0, 1.2, (len(clock), 1)) * mean_reverting(rng, clock))
    shocks = shocks * np.where(chosen(rng, 0.5, len(clock)), calm, 1.0)
    return unit(np.cumsum(shocks + rng.normal(0, 0.03, (len(clock), 1)), axis=1))


def trend(rng: Rng, clock: Clock) -> np.ndarray:
    """A line, one with a kink, a parabola or a logistic rise."""
    count = len(clock)
    t = np.arange(clock.steps) / clock.steps
    kink, at = rng.uniform(0, 1, (2, count, 1))
    shapes = [t + 0 * kink, np.maximum(t - kink, 0) * 2 - t * at, (t - kink) ** 2, 1 / (1 + np.exp(-(t - kink) * 12))]
    return unit(_one_of(rng, shapes) * rng.choice([-1.0, 1.0], (count, 1)))


def level_shifts(rng: Rng, clock: Clock) -> np.ndarray:
    """A level that jumps a few times."""
    rate = log_uniform(rng, 0.5, 12, len(clock)) / clock.steps
    return unit(np.cumsum((rng.random(clock.shape) < rate) * heavy_tailed(rng, clock), axis=1))


def daily(rng: Rng, clock: Clock) -> np.ndarray:
    """A profile of the day that the day of the week changes, its strength and hour drifting a little."""
    days, count = clock.since_monday, len(clock)
    slow = coloured(rng, clock, 1.2)
    drift = np.where(chosen(rng, 0.3, count), 0.02 * slow, 0.0)
    minute = np.floor((days + drift) % 1 * PROFILE).astype(np.int64) % PROFILE
    usual, other = (np.take_along_axis(_profiles(rng, count), minute, axis=1) for _ in range(2))
    strength, level, blend = (_by_weekday(rng, of_week, days) for of_week in _weeks(rng, count))
    moving = np.exp(rng.choice([0.0, 0.1, 0.4], (count, 1)) * slow)
    return unit((usual + blend * (other - usual)) * strength * moving + level)


def _profiles(rng: Rng, count: int) -> np.ndarray:
    """(series, minutes): smooth harmonics, rush hours, working hours, or the tops of harmonics alone."""
    minute = np.arange(PROFILE) / PROFILE
    order = np.arange(1, 13)
    size = rng.standard_normal((count, 12)) * order ** -rng.uniform(0.6, 2.2, (count, 1))
    size = size * (order <= rng.integers(1, 13, (count, 1)))
    angles = 2 * np.pi * (order[:, None] * minute)
    turned = rng.uniform(0, 2 * np.pi, (count, 12))
    smooth = (size * np.cos(turned)) @ np.cos(angles) + (size * np.sin(turned)) @ np.sin(angles)
    smooth = unit(smooth)
    rush = np.zeros((count, PROFILE))
    for _ in range(3):
        away = np.abs((minute - rng.uniform(0, 1, (count, 1)) + 0.5) % 1 - 0.5)
        rush += rng.gamma(1.0, 1.0, (count, 1)) * np.exp(-0.5 * (away / log_uniform(rng, 0.01, 0.12, count)) ** 2)
    opens, lasts, edge = rng.uniform(0, 1, (count, 1)), rng.uniform(0.1, 0.7, (count, 1)), rng.uniform(0.005, 0.08)
    since = (minute - opens) % 1
    work = 1 / (1 + np.exp(-np.minimum(since, lasts - since) / edge))
    # People wake in the morning: half of the profiles are low at night by the clock.
    human = unit(-np.cos(2 * np.pi * (minute - 0.17 + rng.normal(0, 0.05, (count, 1)))) + 0.5 * smooth)
    return unit(_one_of(rng, [smooth, human, human + rush, rush, work, np.exp(1.2 * smooth)]))


def _weeks(rng: Rng, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By day of the week (series, 7): strength of the daily profile, level, and share of another profile.

    All days are alike in a third; weekends differ in the others, and in half of those every day does.
    """
    weekend = np.arange(7) >= 5
    strength = 1 - weekend * chosen(rng, 0.5, count) * rng.uniform(0, 1, (count, 1))
    level = weekend * chosen(rng, 0.7, count) * rng.normal(0, 1, (count, 1))
    blend = weekend * chosen(rng, 0.6, count) * rng.uniform(0, 1, (count, 1))
    each = chosen(rng, 0.5, count)
    own = 0.3 * log_uniform(rng, 0.1, 1, count) * rng.standard_normal((count, 7))
    strength = strength * np.exp(each * own)
    level = level + each * own * rng.standard_normal((count, 7))
    blend = np.minimum(blend + each * 0.3 * rng.random((count, 1)) * rng.random((count, 7)), 1)
    plain = chosen(rng, 0.35, count)
    return np.where(plain, 1, strength), np.where(plain, 0, level), np.where(plain, 0, blend)


def _by_weekday(rng: Rng, of_week: np.ndarray, days: np.ndarray) -> np.ndarray:
    """What a week (series, 7) has at each step (series, steps); it changes within minutes or hours before midnight."""
    weekday = np.floor(days).astype(np.int64) % 7
    today, tomorrow = (np.take_along_axis(of_week, day % 7, axis=1) for day in (weekday, weekday + 1))
    edge = log_uniform(rng, 0.01, 0.5, len(of_week))
    return np.asarray(today + np.maximum((days % 1 - 1) / edge + 1, 0) * (tomorrow - today))


def other_season(rng: Rng, clock: Clock) -> np.ndarray:
    """A period that is neither a day nor a week: sine, sawtooth, square or exponential, 4 to a third of all steps."""
    count = len(clock)
    period = log_uniform(rng, 4, clock.steps / 3, count)
    unsteady = np.where(chosen(rng, 0.4, count), 0.15 * coloured(rng, clock, 1.5), 0.0)
    phase = (np.arange(clock.steps) / period + rng.random((count, 1)) + unsteady) % 1
    share, bend = rng.uniform(0.1, 0.9, (count, 1)), rng.uniform(1, 6, (count, 1))
    saw = np.where(phase < share, phase / share, (1 - phase) / (1 - share))
    shapes = [np.sin(2 * np.pi * phase), saw, 1.0 * (phase < share), 1 - np.exp(-bend * saw)]
    return unit(_one_of(rng, [*shapes, np.exp(2 * np.cos(2 * np.pi * phase))]))


def on_off(rng: Rng, clock: Clock) -> np.ndarray:
    """A switch that holds each state for a random while, on more by day in half of them; heights differ in a third."""
    count = len(clock)
    rate = 1 / log_uniform(rng, 3, 600, count)
    busy = np.where(chosen(rng, 0.5, count), np.exp(1.5 * daily(rng, clock)), 1.0)
    state, began = _switching(rng, rate * busy, np.broadcast_to(1 / log_uniform(rng, 2, 150, count), clock.shape))
    height = np.exp(0.6 * rng.standard_normal(clock.shape))
    own = np.take_along_axis(height, began, axis=1)
    return np.asarray(state * np.where(chosen(rng, 0.35, count), own, 1.0), np.float32)


def _switching(rng: Rng, on: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States (series, steps) of chances to go on and off, and the step that each state began at."""
    drawn = rng.random(on.shape, dtype=np.float32)
    state = np.zeros(on.shape, np.float32)
    began = np.zeros(on.shape, np.int64)
    now = rng.random(len(on)) < 0.3
    since = np.zeros(len(on), np.int64)
    for t in range(on.shape[1]):
        turns = drawn[:, t] < np.where(now, off[:, t], on[:, t])
        now, since = now ^ turns, np.where(turns, t, since)
        state[:, t], began[:, t] = now, since
    return state, began


def spikes(rng: Rng, clock: Clock) -> np.ndarray:
    """Rare events of heavy-tailed height that decay within 1 to 60 steps."""
    count = len(clock)
    rate = log_uniform(rng, 0.001, 0.08, count)
    busy = np.where(chosen(rng, 0.4, count), np.exp(daily(rng, clock)), 1.0)
    height = np.minimum(rng.pareto(np.broadcast_to(rng.uniform(1.1, 4, (count, 1)), clock.shape)) + 0.3, 40)
    keep = np.where(chosen(rng, 0.35, count), 0.0, np.exp(-1 / log_uniform(rng, 1, 60, count)))
    return decaying((rng.random(clock.shape) < rate * busy) * height, keep)


def self_exciting(rng: Rng, clock: Clock) -> np.ndarray:
    """Counts of events each of which makes more of them likely for a while (Hawkes, 1971), in steps."""
    count = len(clock)
    base = log_uniform(rng, 0.02, 8, count)[:, 0]
    branching, keep = rng.uniform(0.2, 0.92, count), np.exp(-1 / log_uniform(rng, 1, 40, count)[:, 0])
    busy = np.exp(np.where(chosen(rng, 0.5, count), 0.7 * daily(rng, clock), 0.0))
    counts = np.zeros(clock.shape, np.float32)
    excited = np.zeros(count)
    for t in range(clock.steps):
        counts[:, t] = rng.poisson(np.minimum(base * busy[:, t] + excited, 1e4))
        excited = keep * excited + branching * (1 - keep) * counts[:, t]
    return counts


def counts(rng: Rng, clock: Clock) -> np.ndarray:
    """Poisson counts of a rate that has its day, moves, and bursts; over-dispersed in half of them."""
    count = len(clock)
    log_rate = rng.uniform(0, 1.2, (count, 1)) * daily(rng, clock) + rng.uniform(0, 0.8, (count, 1)) * coloured(
        rng, clock
    )
    rate = log_uniform(rng, 0.1, 300, count) * np.exp(log_rate)
    rate = rate * (1 + np.where(chosen(rng, 0.3, count), spikes(rng, clock), 0.0))
    shape = log_uniform(rng, 0.5, 20, count)
    spread = np.where(chosen(rng, 0.5, count), rng.gamma(np.broadcast_to(shape, clock.shape)) / shape, 1.0)
    return rng.poisson(np.minimum(rate * spread, 1e6)).astype(np.float32)


def intermittent(rng: Rng, clock: Clock) -> np.ndarray:
    """Zero most of the time; where not, a size of its own; every so many steps in a third of them."""
    count = len(clock)
    share = log_uniform(rng, 0.01, 0.5, count)
    busy = np.where(chosen(rng, 0.5, count), np.exp(daily(rng, clock)), 1.0)
    every = np.floor(log_uniform(rng, 3, 200, count))
    due = (np.arange(clock.steps) + np.floor(rng.random((count, 1)) * every)) % every == 0
    happens = np.where(chosen(rng, 0.33, count), due, rng.random(clock.shape) < share * busy)
    return np.asarray(happens * np.exp(rng.uniform(0, 0.8, (count, 1)) * normal(rng, clock)), np.float32)


def tank(rng: Rng, clock: Clock) -> np.ndarray:
    """What is used up at a rate that varies, and filled up at once or quickly below some level: fuel, batteries."""
    count = len(clock)
    use = 1 / log_uniform(rng, 12, 900, count)
    use = use * np.exp(rng.uniform(0, 0.6, (count, 1)) * daily(rng, clock) + 0.3 * normal(rng, clock))
    speed = 1 / log_uniform(rng, 1, 80, count)[:, 0]
    low, high = rng.uniform(0.0, 0.5, count), rng.uniform(0.7, 1.0, count)
    bends = chosen(rng, 0.5, count)[:, 0]
    level, filling = rng.uniform(low, high), np.zeros(count, bool)
    threshold = low.copy()
    levels = np.zeros(clock.shape, np.float32)
    for t in range(clock.steps):
        rise = np.where(bends, speed * (1.15 - level) * 1.5, speed)
        level = np.where(filling, level + rise, level - use[:, t])
        starts, stops = ~filling & (level < threshold), filling & (level >= high)
        threshold = np.where(stops, np.clip(low + 0.1 * rng.standard_normal(count), 0, 0.65), threshold)
        filling = (filling | starts) & ~stops
        levels[:, t] = level = np.clip(level, 0.0, 1.0)
    return levels


def thermostat(rng: Rng, clock: Clock) -> np.ndarray:
    """A temperature between two thresholds: cooled below the upper one, warmed by what is outside."""
    count = len(clock)
    outside = 1.0 + rng.uniform(0, 0.8, (count, 1)) * daily(rng, clock) + 0.3 * coloured(rng, clock, 1.5)
    leak = 1 / log_uniform(rng, 8, 300, count)[:, 0]
    power = leak * rng.uniform(1.5, 6, count)
    upper = rng.uniform(0.1, 0.6, count)
    warm, cooling = rng.uniform(0, upper), np.zeros(count, bool)
    levels = np.zeros(clock.shape, np.float32)
    for t in range(clock.steps):
        warm = warm + leak * (outside[:, t] - warm) - power * cooling
        cooling = (cooling | (warm > upper)) & (warm > 0)
        levels[:, t] = warm
    return levels


def queue(rng: Rng, clock: Clock) -> np.ndarray:
    """What waits before a server whose capacity is scarce at times (Lindley, 1952)."""
    count = len(clock)
    load = np.exp(rng.uniform(0.1, 0.8, (count, 1)) * daily(rng, clock) + 0.5 * coloured(rng, clock, 0.0, 1.5))
    spare = load - np.quantile(load, rng.uniform(0.5, 0.97), axis=1, keepdims=True)
    waiting, now = np.zeros(clock.shape, np.float32), np.zeros(count)
    for t in range(clock.steps):
        now = np.maximum(now + spare[:, t], 0.0)
        waiting[:, t] = now
    return waiting


def regimes(rng: Rng, clock: Clock) -> np.ndarray:
    """Up to four states, each with a level, a volatility and a memory of its own."""
    count, kinds = len(clock), 4
    level = rng.standard_normal((count, kinds)) * 2
    volatility = np.exp(rng.normal(-1, 1, (count, kinds)))
    leave = 1 / log_uniform(rng, 8, 500, count)
    turns = rng.random(clock.shape) < leave
    drawn = rng.integers(0, rng.integers(2, kinds + 1, (count, 1)), clock.shape)
    newest = np.maximum.accumulate(np.where(turns, np.arange(clock.steps), 0), axis=1)
    state = np.take_along_axis(drawn, newest, axis=1)
    noise = np.where(chosen(rng, 0.5, count), mean_reverting(rng, clock), normal(rng, clock))
    return unit(np.take_along_axis(level, state, 1) + np.take_along_axis(volatility, state, 1) * noise)


def ceiling(rng: Rng, clock: Clock) -> np.ndarray:
    """A level near what is possible, with dips at busy hours and at random: free flow and congestion."""
    count = len(clock)
    usual, odd = rng.uniform(0, 3, (2, count, 1))
    strain = usual * daily(rng, clock) + odd * coloured(rng, clock, 0.5, 2.0) - rng.uniform(0, 3, (count, 1))
    dips = 1 / (1 + np.exp(-2 * strain)) + np.where(chosen(rng, 0.5, count), 0.2 * spikes(rng, clock), 0.0)
    return np.asarray(-np.minimum(dips, 1.5) + 0.05 * normal(rng, clock), np.float32)


def _one_of(rng: Rng, shapes: list[np.ndarray]) -> np.ndarray:
    """Each row from one of the arrays, at random."""
    which = rng.integers(0, len(shapes), len(shapes[0]))
    rows = np.arange(len(which))
    return np.asarray(np.stack(np.broadcast_arrays(*shapes))[which, rows], np.float32)
