"""From a panel to windows: which origins are for holdout, which windows may train, and what the calendar says.

No window is ever copied out here: a window is a row and a column (its origin) of one dense array. Nothing here fits.
"""

from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.pretraining.reading import moves

#: The largest share of the history for the holdout window, and its number of origins: one origin alone is fragile.
HOLDOUT_SHARE: Final = 1 / 4
HOLDOUT_ORIGINS: Final = 12
MANY_ORIGINS: Final = 6

#: Training reads this many series at most, drawn by seed: a global model gains nothing from the 10,000th, memory does.
TRAINING_SERIES: Final = 8192

#: Origins within this share of a day are of about the same hour.
ABOUT_AN_HOUR: Final = 1 / 12

CALENDAR_FEATURES: Final = 4

#: So much of a longer context some candidates see: the LSTM and the linear model learn from the network's own windows
#: alone, few of which have a longer past, and a level and the profile of a day move. The others see all of it.
RECENT: Final = 14 * DAY


def minimum_past(grid: Grid) -> int:
    """Observations that a context needs before the LSTM may serve it: a quarter of a day, or of a shorter context."""
    return max(3, min(grid.steps_per_day, grid.context_steps) // 4)


def holdout_origins(panel: Panel) -> tuple[int, ...]:
    """Columns of the panel to forecast from, ascending, whose targets are all known; empty where history is too short.

    They are whole days before the panel's end where enough of those fit, because the nightly origin keeps its hour
    (so where the horizon is no whole number of days, the last targets of the panel are in none of them); in a shorter
    history they are closer together, and the last one ends with the panel. In a long one they reach back further, to
    see more kinds of night, but over a tenth of it at most. They lie in the last quarter of it, but for the last.
    """
    grid, steps = panel.grid, panel.steps
    last = steps - grid.horizon_steps
    if last < minimum_past(grid):
        return ()
    day = grid.steps_per_day
    least = int(steps * (1 - HOLDOUT_SHARE))
    of_that_hour = steps - -(-grid.horizon_steps // day) * day
    room = max(0, last - least)
    if of_that_hour - least >= (MANY_ORIGINS - 1) * day:
        last, room = of_that_hour, of_that_hour - least
        stride = max(1, steps // (10 * HOLDOUT_ORIGINS * day)) * day
    else:
        # Half a horizon at least, unless that leaves too few; the more they overlap, the less another one tells.
        stride = max(1, min(grid.horizon_steps // 2, room // (MANY_ORIGINS - 1)), grid.horizon_steps // 8)
    count = min(HOLDOUT_ORIGINS, 1 + room // stride)
    return tuple(last - stride * back for back in reversed(range(count)))


def at_origin(panel: Panel, origin: int) -> Panel:
    """What was known at column `origin`, and of that only the context: what any forecaster may see."""
    known = panel.until(panel.steps - origin)
    return latest_context(known)


def latest_context(panel: Panel) -> Panel:
    return _newest(panel, panel.grid.context_steps)


def recent_context(panel: Panel) -> Panel:
    """What some candidates see of the context: its newest two weeks."""
    return _newest(panel, recent_steps(panel.grid))


def recent_steps(grid: Grid) -> int:
    return min(grid.context_steps, RECENT // grid.step)


def _newest(panel: Panel, steps: int) -> Panel:
    if panel.steps <= steps:
        return panel
    return Panel(panel.grid, panel.station_id, panel.parameter_id, panel.end, panel.values[:, -steps:])


def take_series(panel: Panel, rows: np.ndarray) -> Panel:
    return panel.take(rows)


def aligned(panel: Panel, series: pd.MultiIndex) -> Panel:
    """The rows of (station_id, parameter_id) in their order, all missing for one that the panel does not have."""
    station, parameter = (series.get_level_values(k).to_numpy() for k in (0, 1))
    values = np.full((len(series), panel.steps), np.nan)
    rows = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id]).get_indexer(series)
    values[rows >= 0] = panel.values[rows[rows >= 0]]
    return Panel(panel.grid, station, parameter, panel.end, values)


def calendar(panel: Panel, zone: tzinfo) -> np.ndarray:
    """(steps + 1, 4) float32: sine and cosine of the local hour of day and day of week at each possible origin."""
    hours, days = _local_clock(panel, zone)
    angles = 2 * np.pi * np.stack([hours / 24, (days + hours / 24) / 7], axis=1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def since_monday(panel: Panel, zone: tzinfo) -> np.ndarray:
    """Days from a Monday's start to each possible origin, by the local clock, (steps + 1,) float64."""
    hours, days = _local_clock(panel, zone)
    return np.asarray(days + hours / 24)


def _local_clock(panel: Panel, zone: tzinfo) -> tuple[np.ndarray, np.ndarray]:
    """Local hour of the day, with fractions, and day of the week, Monday being 0, at each possible origin."""
    instants = pd.date_range(panel.start, periods=panel.steps + 1, freq=pd.Timedelta(panel.grid.step), tz="UTC")
    local = instants.tz_convert(zone)
    hours = local.hour.to_numpy() + local.minute.to_numpy() / 60 + local.second.to_numpy() / 3600
    return hours, local.day_of_week.to_numpy()


@dataclass(frozen=True)
class TrainingWindows:
    """Where training may draw from: series rows, and for each the first and last origin (inclusive, columns).

    Every target of these windows ends at or before column `cut`, the origin that is trained for; day: steps of it.
    """

    rows: np.ndarray
    first: np.ndarray
    last: int
    cut: int
    day: int

    def __len__(self) -> int:
        return int((self.last - self.first + 1).sum())

    @property
    def of_that_hour(self) -> int:
        """How many there are whose origin is about the hour of `cut`."""
        return round(len(self) * min(1.0, (2 * self._about + 1) / self.day))

    @property
    def _about(self) -> int:
        return int(ABOUT_AN_HOUR * self.day)

    def draw(
        self, rng: np.random.Generator, steps: int, batch: int, of_that_hour: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and origins, each (steps, batch) int32: a series at random, then an origin of it at random.

        The share `of_that_hour` has an origin about whole days before `cut`: the nightly origin keeps its hour.
        """
        pick = rng.integers(0, len(self.rows), size=(steps, batch))
        first = self.first[pick]
        span = self.last - first + 1
        origin = first + np.floor(rng.random((steps, batch)) * span).astype(np.int64)
        if of_that_hour:
            least = -(-(self.cut - self.last) // self.day)
            nights = (self.cut - first) // self.day - least + 1
            back = least + np.floor(rng.random((steps, batch)) * nights).astype(np.int64)
            about = self.cut - back * self.day + rng.integers(-self._about, self._about + 1, size=back.shape)
            chosen = (rng.random((steps, batch)) < of_that_hour) & (nights > 0)
            origin = np.where(chosen, np.clip(about, first, self.last), origin)
        return self.rows[pick].astype(np.int32), origin.astype(np.int32)

    def distinct(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and origins, each (windows,) int32: all of them, or `count` at random, each at most once; in order."""
        ends = np.cumsum(self.last - self.first + 1)
        chosen = np.arange(len(self)) if len(self) <= count else np.sort(rng.choice(len(self), count, replace=False))
        which = np.searchsorted(ends, chosen, side="right")
        origin = self.last - (ends[which] - 1 - chosen)
        return self.rows[which].astype(np.int32), origin.astype(np.int32)


def training_windows(panel: Panel, cut: int, rng: np.random.Generator) -> TrainingWindows:
    """All windows of `trainable` series, with targets before column `cut`; one may begin before its series does."""
    last = cut - panel.grid.horizon_steps
    first = _first_origins(panel, cut)
    rows = np.flatnonzero(trainable(panel, cut))
    if len(rows) > TRAINING_SERIES:
        rows = np.sort(rng.choice(rows, TRAINING_SERIES, replace=False))
    return TrainingWindows(rows, first[rows], last, cut, panel.grid.steps_per_day)


def trainable(panel: Panel, cut: int) -> np.ndarray:
    """Which series (bool, (series,)) have windows before column `cut`, and moved there: one at rest teaches nothing."""
    return moves(panel.values[:, :cut]) & (_first_origins(panel, cut) <= cut - panel.grid.horizon_steps)


def _first_origins(panel: Panel, cut: int) -> np.ndarray:
    """The first column (series,) that has past enough to train on; beyond `cut` where nothing is known before it."""
    known = np.isfinite(panel.values[:, :cut])
    return np.where(known.any(axis=1), known.argmax(axis=1), cut) + minimum_past(panel.grid)


def in_chunks(count: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]
