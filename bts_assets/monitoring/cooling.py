"""Whether a room cools worse than it did at the same outdoor temperature. Arrays of one station in, a verdict out."""

from dataclasses import dataclass

import numpy as np

#: Days that are looked at, and least days of the past that they are held against.
_NEWEST, _LEAST_PAST = 2, 5
#: A room must be so much warmer (°C) than it was, and by so many of its own days' standard deviations.
_WARMER, _STANDS_OUT = 1.5, 4.0


@dataclass(frozen=True)
class Cooling:
    """How much warmer the room is than it was at the same outdoor temperature, °C, and since which step."""

    warmer: float
    since: int


def cooling(room: np.ndarray, outdoor: np.ndarray, powered: np.ndarray, day: int) -> Cooling | None:
    """The verdict on room and outdoor temperature (steps,), NaN where not observed; None: it cools as it did.

    powered (steps,): where the site had power all step: without it no room cools. day: steps. What the room has at an
    outdoor temperature is a line through its past, before the newest two days; days are compared, since steps of one
    day are not independent.
    """
    days = len(room) // day
    if days < _LEAST_PAST + _NEWEST:
        return None
    inside, outside, has_power = (a[len(a) - days * day :].reshape(days, day) for a in (room, outdoor, powered))
    known = np.isfinite(inside) & np.isfinite(outside) & has_power
    excess = _excess(inside, outside, known)
    seen = np.isfinite(excess)
    if seen[-_NEWEST:].sum() < _NEWEST or seen[:-_NEWEST].sum() < _LEAST_PAST:
        return None
    past = excess[: days // 2][seen[: days // 2]]
    if len(past) < 3:
        return None
    middle, spread = float(np.median(past)), max(float(past.std(ddof=1)), 0.1)
    warm = np.where(seen, excess, np.inf) > middle + max(_WARMER, _STANDS_OUT * spread)
    if not warm[-_NEWEST:].all():
        return None
    since = days - int(np.argmin(np.append(warm[::-1], False)))
    warmer = float(np.mean(excess[-_NEWEST:])) - middle
    return Cooling(warmer, len(room) - (days - since) * day)


def _excess(room: np.ndarray, outdoor: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each day's mean of the room above the line of the older half, (days,); NaN for a day with less than a quarter."""
    half = len(room) // 2
    inside, outside = room[:half][known[:half]], outdoor[:half][known[:half]]
    slope, level = 0.0, float(np.median(inside)) if len(inside) else np.nan
    if len(inside) > 10 and np.ptp(outside) > 1:
        slope, level = np.polyfit(outside, inside, 1)
    above = np.where(known, room - level - slope * np.where(known, outdoor, 0.0), 0.0)
    count = known.sum(axis=1)
    return np.where(count >= room.shape[1] / 4, above.sum(axis=1) / np.maximum(count, 1), np.nan)
