"""What each station comes to on each day. All of them together are the day's sums, whenever each was computed."""

import pandas as pd

from bts_assets.landing.duplicates import MERGED
from bts_assets.landing.series import Observed, station_digests


def station_days(observed: Observed) -> pd.DataFrame:
    """A row per day (datetime.date) and station_id that has observations, in order: digest (SHA-256 of them, bytes),
    observations, readings, first_observed_at and last_observed_at (UTC), and a count of each of `MERGED`.

    A reading that gave way did so to one of its station and day: no other ones have any.
    """
    rows = observed.observations
    days = [_of_day(of_day) for _, of_day in rows.groupby(rows["observed_at"].dt.normalize())] or [_of_day(rows)]
    sums = pd.concat(days, ignore_index=True)
    merged = observed.merged.reindex(pd.MultiIndex.from_frame(sums[["station_id", "day"]]), fill_value=0)
    return sums.assign(**{name: merged[name].to_numpy() for name in MERGED})


def _of_day(rows: pd.DataFrame) -> pd.DataFrame:
    by = rows.groupby("station_id")
    times = by["observed_at"]
    sums = {"observations": by.size(), "readings": by["readings"].sum()}
    sums |= {"first_observed_at": times.min(), "last_observed_at": times.max()}
    of_day = pd.DataFrame(sums).reset_index()
    of_day.insert(0, "day", of_day["first_observed_at"].dt.date)
    return of_day.assign(digest=station_digests(rows))
