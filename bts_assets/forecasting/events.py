"""Single events in a context, so that none comes back a day or a week later: misreads, outages. It forecasts nothing.

A value is an excursion if it lies further outside the range that holds 90 % of the context than this range is wide. It
stays where the like recurs: at the same phase of two other days (a nightly backup), or so often that bursts are what
the series is. Else it was an event, and candidates are shown a straight line in its place. What is still going on at
the origin is no event yet, for it may be a new level; but a last reading beyond all measure is.

Where 90 % of the context have one value (a battery that is not asked, a generator that rests) that range has no width.
There an event is what lasts for one step, is rarer than the outermost quantile of a forecast, and lies far beyond what
the series does else when it does something.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from bts_assets.contracts.panel import Panel

#: Fewer known values than this do not tell what is usual.
LEAST_KNOWN: Final = 32

#: The range that is usual, and how many widths of it beyond an excursion begins.
_USUAL: Final = (0.05, 0.95)
_BEYOND: Final = 1.0

#: The last reading has none after it that shows whether it was an isolated one: it must be so many widths off.
_BEYOND_AT_THE_END: Final = 20.0

#: Where more of the known values than this are excursions that do not recur daily, bursts are what the series is.
_RARE: Final = 0.05

#: In a series at rest, single steps that are off are events if they are at most this share of the known values, less
#: than the outermost quantiles describe, and so many times as far off as a quarter of its excursions.
_RARE_AT_REST: Final = 0.02
_BEYOND_ACTIVITY: Final = 10.0

#: An excursion recurs if there is another within this share of a day from the same phase on so many other days.
_SAME_PHASE: Final = 1 / 48
_OTHER_DAYS: Final = 2


def settled(panel: Panel, wanted: np.ndarray) -> Panel:
    """The panel with a straight line in the place of each single event of the series `wanted`, bool (series,)."""
    values = panel.values.copy()
    values[wanted] = settled_values(values[wanted], panel.grid.steps_per_day)
    return replace(panel, values=values)


def settled_values(values: np.ndarray, day: int) -> np.ndarray:
    """As `settled`, of values (series, steps); the same array where there is no event."""
    gone = events(values, day)
    rows = np.flatnonzero(gone.any(axis=1))
    if not len(rows):
        return values
    values, steps = values.copy(), np.arange(values.shape[1])
    for row in rows:
        known = np.isfinite(values[row]) & ~gone[row]
        values[row, gone[row]] = np.interp(steps[gone[row]], steps[known], values[row, known])
    return values


def events(values: np.ndarray, day: int) -> np.ndarray:
    """Which values (series, steps) belong to a single event, bool."""
    found = np.zeros(values.shape, dtype=bool)
    known = np.isfinite(values)
    count = known.sum(axis=1)
    rows = np.flatnonzero(count >= LEAST_KNOWN)
    if not len(rows):
        return found
    given = values[rows]
    low, high = _quantiles(given, count[rows], _USUAL)
    width = (high - low)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.fmax(given - high[:, None], low[:, None] - given)
        out = (off > _BEYOND * width) & known[rows]  # of what rests: whatever differs
    some = np.flatnonzero(out.any(axis=1))
    if not len(some):
        return found
    rows, out, off, width = rows[some], out[some], off[some], width[some]
    single = out & ~_recurs(out, day)
    rests = width[:, 0] == 0
    single[rests] &= _beyond_activity(out[rests], off[rests])
    rare = np.where(rests, _RARE_AT_REST, _RARE) * count[rows]
    single &= single.sum(axis=1, keepdims=True) <= rare[:, None]
    going_on = _at_the_end(out, known[rows])
    with np.errstate(invalid="ignore"):
        alone = (going_on.sum(axis=1, keepdims=True) == 1) & (width > 0)
        misread = going_on & alone & (off > _BEYOND_AT_THE_END * width)
    found[rows] = single & (~going_on | misread)
    return found


def _beyond_activity(out: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Which excursions `out` of series at rest last for one step and are far larger than the series' others, judged by
    their size `off`; all (series, steps). The only excursion, or the only one left, is never among them.
    """
    beside = np.pad(out, [(0, 0), (1, 1)])
    alone = out & ~beside[:, :-2] & ~beside[:, 2:]
    gone = np.zeros_like(out)
    for _ in range(2):
        left = out & ~gone
        count = left.sum(axis=1)
        ordered = np.sort(np.where(left, off, np.inf), axis=1)
        quiet = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None] // 4, axis=1)
        typical = np.where(count[:, None] > 1, quiet, 0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            gone |= alone & left & (off > _BEYOND_ACTIVITY * typical)
    return gone


def _quantiles(values: np.ndarray, count: np.ndarray, levels: tuple[float, float]) -> list[np.ndarray]:
    """Quantiles of the known values of each row, which has some: the outer one of two neighbours."""
    ordered = np.sort(values, axis=1)  # NaN last
    positions = [level * (count - 1) for level in levels]
    ends = [np.floor(p) if level < 0.5 else np.ceil(p) for level, p in zip(levels, positions, strict=True)]
    return [np.take_along_axis(ordered, at.astype(np.int64)[:, None], axis=1)[:, 0] for at in ends]


def _recurs(out: np.ndarray, day: int) -> np.ndarray:
    """Whether there are excursions about the same phase of `_OTHER_DAYS` other days at least."""
    about = max(1, int(_SAME_PHASE * day))
    near = out.copy()
    for shift in range(1, about + 1):
        near[:, shift:] |= out[:, :-shift]
        near[:, :-shift] |= out[:, shift:]
    days = -(-near.shape[1] // day)
    padded = np.pad(near, [(0, 0), (days * day - near.shape[1], 0)]).reshape(len(near), days, day)
    others = padded.sum(axis=1, keepdims=True) - padded
    return (others >= _OTHER_DAYS).reshape(len(near), -1)[:, -near.shape[1] :]


def _at_the_end(out: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The newest run of excursions, if it lasts until the newest known value."""
    usual_since = np.cumsum((known & ~out)[:, ::-1], axis=1)[:, ::-1]
    return out & (usual_since == 0)
