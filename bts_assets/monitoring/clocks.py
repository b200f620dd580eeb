"""Clocks of stations that were set back: what looks like silence, while steps before it have their readings twice."""

from datetime import datetime, timedelta
from typing import Final

import pandas as pd

#: So many times as many readings as a step of the series usually has are those of two times.
_TWICE: Final = 1.6
#: Steps that have them, as a share of those that are silent; and at least so many.
_AS_LONG: Final = 0.5
_LEAST_STEPS: Final = 2
#: Share of a station's series that must say so.
_AGREED: Final = 0.6


def clocks_set_back(silent: pd.DataFrame, readings: pd.DataFrame, end: datetime, step: timedelta) -> pd.DataFrame:
    """Faults of silent stations (as `sensors.sensor_faults` has them), those named whose clock was set back.

    Readings of a clock that was set back are dated to times that it had reported before: so its newest observation
    stays where it is, or falls behind, and about as many steps before have readings of both times. figure of
    `clock_set_back`: hours of them. readings: station_id, parameter_id, observed_at and readings of each step of the
    silent stations, up to `end`.
    """
    told = silent.copy()
    for row in silent[silent["since"].notna()].itertuples():
        quiet = (end - row.since) / step
        twice = _steps_twice(readings[readings["station_id"] == row.station_id])
        enough = twice >= max(_LEAST_STEPS, _AS_LONG * quiet)
        if len(twice) and enough.mean() >= _AGREED:
            told.loc[row.Index, "fault"] = "clock_set_back"
            told.loc[row.Index, "figure"] = twice[enough].median() * step / timedelta(hours=1)
    return told


def _steps_twice(readings: pd.DataFrame) -> pd.Series:
    """How many steps of each series have the readings of two times."""
    by_series = readings.groupby("parameter_id")["readings"]
    return (readings["readings"] >= _TWICE * by_series.transform("median")).groupby(readings["parameter_id"]).sum()
