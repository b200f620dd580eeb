"""The catalogue as it holds in a home, and proposals for what it does not list. It changes nothing."""

from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue, read_own_catalogue
from bts_assets.forecasting.unlisted_parameters import Proposal, SeriesValues, propose
from bts_assets.services.home import Home

#: Proposals are read off the newest so many readings, of so many days at most.
_MOST_READINGS: Final = 4_000_000
_NEWEST: Final = timedelta(days=7)

_MET: Final = sa.text("SELECT DISTINCT parameter_id FROM bts.series ORDER BY 1")
_NEWEST_FILES: Final = sa.text("""
    SELECT digest, accepted FROM bts.landing_file
    WHERE status = 'accepted' AND superseded_by IS NULL AND last_reading_at >= (
        SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY last_reading_at) FROM bts.landing_file
        WHERE status = 'accepted' AND superseded_by IS NULL) - :newest
    ORDER BY last_reading_at DESC
""")


def unlisted_parameters(home: Home) -> list[int]:
    """Parameters that were observed and that the catalogue does not list, ascending."""
    listed = {p.parameter_id for p in home.catalogue}
    with home.engine.connect() as connection:
        return [int(p) for p in connection.execute(_MET).scalars() if p not in listed]


def own_rows(home: Home) -> Catalogue:
    """The operator's own rows; none without BTS_CATALOGUE."""
    return read_own_catalogue(home.settings.catalogue) if home.settings.catalogue else Catalogue(())


def proposals(home: Home) -> list[Proposal]:
    """A row for each unlisted parameter, from the newest readings.

    Raises:
        ReadingsMissing: if a Parquet file is gone or damaged.
    """
    wanted = unlisted_parameters(home)
    readings = _newest_readings(home, wanted) if wanted else pd.DataFrame()
    return [propose(parameter, _series_of(readings, parameter)) for parameter in wanted]


def _newest_readings(home: Home, parameters: list[int]) -> pd.DataFrame:
    with home.engine.connect() as connection:
        files = connection.execute(_NEWEST_FILES, {"newest": _NEWEST}).all()
    parts, held = [], 0
    for digest, accepted in files:
        if held and held + accepted > _MOST_READINGS:
            break
        for readings in home.readings.in_parts(digest):
            mine = readings.take(np.isin(readings.parameter_id, parameters))
            parts.append(mine.frame().drop(columns="reading_id"))
        held += accepted
    return pd.concat(parts, ignore_index=True).drop_duplicates() if parts else pd.DataFrame()


def _series_of(readings: pd.DataFrame, parameter: int) -> list[SeriesValues]:
    mine = readings[readings["parameter_id"] == parameter] if len(readings) else readings
    if mine.empty:
        return []
    ordered = mine.sort_values(["station_id", "reading_time", "value"])
    return [
        SeriesValues(
            own["value"].to_numpy(), (own["reading_time"].iloc[-1] - own["reading_time"].iloc[0]).total_seconds()
        )
        for _, own in ordered.groupby("station_id")
    ]
