"""Clocks of stations that were set back: what looks like silence, while steps before it have their readings twice."""

from datetime import datetime, timedelta
from typing import Final

import pandas as pd

#: Readings beyond those of a usual stretch as long as the silence, in usual steps: a share of it, and at least so many.
_AS_LONG: Final = 0.5
_LEAST_STEPS: Final = 2


def clocks_set_back(silent: pd.DataFrame, readings: pd.DataFrame, end: datetime, step: timedelta) -> pd.DataFrame:
    """Faults of silent stations (as `sensors.sensor_faults` has them), those named whose clock was set back.

    Readings of a clock that was set back are dated to times that it had reported before: so its newest observation
    stays where it is, or falls behind, and a stretch about as long as the silence has readings of both times. figure of
    `clock_set_back`: hours of such steps. readings: station_id, parameter_id, observed_at and readings of each step of
    the silent stations, up to `end`.
    """
    told = silent.copy()
    for row in silent[silent["since"].notna()].itertuples():
        quiet = max(_LEAST_STEPS, round((end - row.since) / step))
        twice = _steps_twice(readings[readings["station_id"] == row.station_id], quiet, step)
        if twice >= max(_LEAST_STEPS, _AS_LONG * quiet):
            told.loc[row.Index, "fault"] = "clock_set_back"
            told.loc[row.Index, "figure"] = twice * step / timedelta(hours=1)
    return told


def _steps_twice(station: pd.DataFrame, stretch: int, step: timedelta) -> float:
    """How many steps' readings the fullest stretch of so many steps has beyond the usual one, on average over series.

    Single steps and single series tell nothing: a sensor that reports three times in four steps has two in a step now
    and then, and in some stretch of a week more often than elsewhere.
    """
    if station.empty:
        return 0.0
    by_step = station.pivot_table("readings", "observed_at", "parameter_id", "sum").asfreq(step).fillna(0)
    stretches = by_step.rolling(min(stretch, len(by_step))).sum().dropna()
    usual = stretches.median()
    heard = usual[usual > 0].index
    beyond = ((stretches[heard] - usual[heard]) / usual[heard]).mean(axis=1) * stretch
    return float(beyond.max()) if len(heard) else 0.0
