"""Scores summed over series when a batch is scored, so that no reader has to: by parameter and by hour of the day."""

from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.storage.binary_copy import copy_rows
from bts_assets.storage.tables import batch, forecast_ledger

_SUMS: Final = ["targets", "absolute_error", "error", "scaled_error", "scaled_targets", "inside80", "inside90"]
_PARAMETER: Final = ["batch_id", "parameter_id", "candidate", "stretch", "model_version_id"]
_HOUR: Final = ["parameter_id", "candidate", "hour"]
_COUNTS: Final = ["targets", "scaled_targets", "inside80", "inside90"]


class Totals:
    """Sums of a batch, added up over parts of its stations; what stood there goes with its scores."""

    def __init__(self, batch_id: int) -> None:
        self._batch_id = batch_id
        self._parameters: list[pd.DataFrame] = []
        self._hours: list[pd.DataFrame] = []

    def add(self, connection: sa.Connection, rows: pd.DataFrame, hourly: pd.DataFrame) -> None:
        """rows: of `bts.forecast_score`; hourly: parameter_id, candidate, hour and the sums of `HourScores`."""
        if len(rows):
            self._parameters.append(_by_parameter(rows, _versions(connection, self._batch_id, rows)))
            self._hours.append(hourly[[*_HOUR, *_SUMS]])

    def enter(self, connection: sa.Connection) -> None:
        if not self._parameters:
            return
        copy_rows(connection, "bts.parameter_score", _summed(self._parameters, _PARAMETER))
        hourly = _summed(self._hours, _HOUR).astype(dict.fromkeys(_COUNTS, np.int64))
        hourly.insert(0, "batch_id", self._batch_id)
        copy_rows(connection, "bts.hourly_score", hourly)


def _summed(parts: list[pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True).groupby(keys, as_index=False).sum()


def _versions(connection: sa.Connection, batch_id: int, rows: pd.DataFrame) -> np.ndarray:
    """The model version behind each row: the batch's, but where a canary served."""
    of_batch = connection.scalar(sa.select(batch.c.model_version_id).where(batch.c.batch_id == batch_id))
    versions = np.full(len(rows), of_batch, dtype=np.int64)
    own = forecast_ledger.c
    canary = connection.execute(
        sa.select(own.station_id, own.parameter_id, own.model_version_id).where(
            own.batch_id == batch_id, own.model_version_id.is_not(None)
        )
    ).all()
    if canary:
        served = pd.Series({(station, parameter): version for station, parameter, version in canary})
        mine = served.reindex(pd.MultiIndex.from_frame(rows[["station_id", "parameter_id"]])).to_numpy()
        replaced = np.isfinite(mine) & (rows["candidate"] == "served").to_numpy()
        versions[replaced] = mine[replaced]
    return versions


def _by_parameter(rows: pd.DataFrame, versions: np.ndarray) -> pd.DataFrame:
    """Rows of `bts.parameter_score`; a series without a scale, or with one of zero, has no scaled error."""
    scaled = (rows["scale"] > 0).to_numpy()
    scale = rows["scale"].where(scaled, np.inf)
    summed = rows.assign(
        model_version_id=versions,
        series=1,
        scaled_error=rows["absolute_error"] / scale,
        scaled_targets=rows["targets"] * scaled,
    )
    return summed.groupby(_PARAMETER, as_index=False)[["series", *_SUMS, "pinball", "crps"]].sum()
