"""What is odd about the readings that were taken in, in sentences that say what to do. Nothing is changed here."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from bts_assets.contracts.grid import DAY, format_duration
from bts_assets.services.home import Home
from bts_assets.settings import Settings
from bts_assets.storage.observation_blocks import first_heard, read_panel
from bts_assets.storage.observations import (
    Ahead,
    MergedDay,
    ObservedSpan,
    merged_days,
    observed_ahead,
    observed_span,
)
from bts_assets.storage.station_limits import IdleLimit, idle_limits

#: More of a day's readings than this giving way to others of their id is said aloud.
MOST_LOST: Final = 0.03
#: Series, one of each parameter, and how far back, that are looked at to see how often readings come; those with
#: fewer observations say nothing.
_LOOKED_AT, _LOOKED_BACK, _FEW = 50, timedelta(days=3), 6
#: Share of the distances that are whole multiples of the usual one, where readings come regularly.
_KEPT_TO: Final = 0.9
#: No zone is further ahead of UTC.
_FURTHEST_EAST: Final = timedelta(hours=14)


def ahead_warning(home: Home, now: datetime) -> str | None:
    """About observations of the time after now; None: there are none."""
    grid = home.settings.grid
    with home.engine.connect() as connection:
        ahead = observed_ahead(connection, grid, now)
        span = observed_span(connection, grid)
    return _ahead_in_words(ahead, span, now, home.settings) if ahead and span else None


def lost_warning(home: Home, since: datetime) -> str | None:
    """About days whose readings gave way to others of their id; None: no day lost more than a few per cent."""
    with home.engine.connect() as connection:
        return _lost_in_words(merged_days(connection, since))


def coarse_warning(home: Home) -> str | None:
    """About readings that come less often than the grid has steps; None: they do not, in most series looked at."""
    grid = home.settings.grid
    with home.engine.connect() as connection:
        if (span := observed_span(connection, grid)) is None:
            return None
        start = max(span.end - _LOOKED_BACK, span.start)
        series = first_heard(connection, grid, start, span.end, _LOOKED_AT)
        panel = read_panel(connection, grid, start, span.end, series)
    apart = [_steps_apart(at) for row in np.isfinite(panel.values) if len(at := np.flatnonzero(row)) > _FEW]
    usual = sorted(apart)[(len(apart) - 1) // 2] if apart else 1
    if usual < 2 or DAY % (step := usual * grid.step):
        return None
    every, ours = format_duration(step), format_duration(grid.step)
    return (
        f"readings come every {every} in most series, and the grid has a step every {ours}: what is forecast for the"
        f" steps between is never observed, and too uncertain; set BTS_STEP={every}, and a new BTS_HOME: a home keeps"
        " its step"
    )


def _steps_apart(at: np.ndarray) -> int:
    """The usual distance of observations at the steps `at`, ascending; 1 where they do not keep to it."""
    apart = np.diff(at)
    usual = int(np.median(apart))
    return usual if np.mean(apart % usual == 0) >= _KEPT_TO else 1


def limits_warning(home: Home) -> str | None:
    """About limits of stations that hold for nothing; None: there are none."""
    with home.engine.connect() as connection:
        return _limits_in_words(idle_limits(connection))


def _limits_in_words(limits: Sequence[IdleLimit]) -> str | None:
    if not limits:
        return None
    first = limits[0]
    where = f"parameter {first.parameter_id} of station {first.station_id}"
    others = f" ({len(limits) - 1} more are like it)" if len(limits) > 1 else ""
    if first.unknown:
        known = "which neither the catalogue nor any reading knows"
        return f"bts.station_limit has a limit for {where}, {known}{others}: it holds for nothing; mend the row"
    return (
        f"bts.station_limit: for {where} the low limit {first.low:g} is not below the high limit {first.high:g}"
        f"{others}: the parameter's own limits hold instead; mend the row"
    )


def _ahead_in_words(ahead: Ahead, span: ObservedSpan, now: datetime, settings: Settings) -> str:
    stations = ", ".join(map(str, ahead.stations))
    what = (
        f"{ahead.observations:,} observations of {ahead.series:,} series lie ahead of now, by up to"
        f" {_hours_and_minutes(ahead.until - now)}"
    )
    lead = span.end - settings.step - now  # of the newest step's start, which no reading in it precedes
    if lead <= timedelta(0):
        return (
            f"{what} (stations {stations}): clocks there are fast, or the zone that their times name is not theirs;"
            " they are kept, and used once their time has come"
        )
    hours = math.ceil(lead / timedelta(hours=1))
    zone = f", for example Etc/GMT-{hours} or the zone's own name" if lead <= _FURTHEST_EAST else ""
    return (
        f"{what}, of most series by {_hours_and_minutes(lead)}: reading times without an offset are taken as"
        f" BTS_LANDING_TIMEZONE={settings.landing_timezone}, and look like those of a zone about {hours} h further"
        f" east; set BTS_LANDING_TIMEZONE{zone}, and a new BTS_HOME: what was taken in keeps its times"
    )


def _lost_in_words(days: Sequence[MergedDay]) -> str | None:
    worst = max(days, key=lambda day: day.lost_share, default=None)
    if worst is None or worst.lost_share <= MOST_LOST:
        return None
    lost = worst.corrected + worst.contradicted
    more = sum(day.lost_share > MOST_LOST for day in days) - 1
    others = f" ({more} more days are like it)" if more else ""
    return (
        f"{lost:,} of {worst.readings + lost:,} readings of {worst.day}{others} gave way to others of the same id,"
        f" {worst.corrected:,} to a newer file's and {worst.contradicted:,} within a file: if each is a reading of its"
        " own, set BTS_READING_IDS=ignore; bts.observed_day counts them by day"
    )


def _hours_and_minutes(span: timedelta) -> str:
    hours, minutes = divmod(math.ceil(span / timedelta(minutes=1)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
