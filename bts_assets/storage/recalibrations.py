"""Recalibrations at rest, each with the batch that it was applied to; and what was published before an origin."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.forecasting.recalibration import SIDES, STRETCHES, Recalibration
from bts_assets.storage.binary_copy import copy_in
from bts_assets.storage.observation_blocks import Stations, of_stations
from bts_assets.storage.series_arrays import KEYS, read_arrays

_CELLS: Final = STRETCHES * len(SIDES)
_ARRAYS: Final = ("factors", "nights", "asked")

#: The batch published last of every origin. A batch whose version had seen its targets is left out: it shows nothing.
_BEFORE: Final = sa.text("""
    SELECT DISTINCT ON (b.issued_at) b.batch_id, b.issued_at, b.horizon_steps
    FROM bts.publication AS p JOIN bts.batch AS b USING (batch_id)
    WHERE b.issued_at < :origin AND b.step_seconds = :step AND b.kind <> 'in_sample'
      AND b.issued_at + b.horizon_steps * make_interval(secs => b.step_seconds) > coalesce((
          SELECT max(n.issued_at) FROM bts.publication JOIN bts.batch AS n USING (batch_id)
          WHERE n.issued_at < :origin AND n.step_seconds = :step AND n.kind <> 'in_sample'), '-infinity')
    ORDER BY b.issued_at, p.publication_seq DESC
""")


@dataclass(frozen=True)
class EarlierBatch:
    """A batch that was published before an origin."""

    batch_id: int
    issued_at: datetime
    horizon_steps: int


def batches_before(connection: sa.Connection, origin: datetime, grid: Grid) -> Sequence[EarlierBatch]:
    """The batches whose horizons reach past the newest of their origins, which comes last; ascending."""
    given = {"origin": origin, "step": int(grid.step.total_seconds())}
    return [EarlierBatch(*row) for row in connection.execute(_BEFORE, given)]


def pooled_forecasts(
    connection: sa.Connection, batch: EarlierBatch, stations: Stations
) -> tuple[pd.MultiIndex, np.ndarray]:
    """What pools of candidates forecast of some stations in a batch: series in order, quantiles (series, horizon, 5).

    Left out is what recalibration does not touch: stand-ins, switches and what never moved; and series most of whose
    pool could not run, unless the version never had it.
    """
    query = (
        f"SELECT {', '.join([*KEYS, *QUANTILE_COLUMNS])}"
        " FROM bts.forecast_series JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)"
        " JOIN bts.batch AS b USING (batch_id)"
        " JOIN bts.model_version AS v ON v.model_version_id = coalesce(l.model_version_id, b.model_version_id)"
        f" WHERE batch_id = {int(batch.batch_id)}{of_stations(stations)} AND l.components IS NOT NULL"
        " AND (l.status = 'forecast' OR v.lstm_failure IS NOT NULL) ORDER BY station_id, parameter_id"
    )
    series, levels = read_arrays(connection, query, dict.fromkeys(QUANTILE_COLUMNS, ("float64", batch.horizon_steps)))
    return series, np.stack([levels[name] for name in QUANTILE_COLUMNS], axis=2)


def keep_recalibration(connection: sa.Connection, batch_id: int, applied: Recalibration) -> None:
    """Store a recalibration with the batch that it was applied to."""
    columns = {
        "batch_id": np.broadcast_to(np.int64(batch_id), len(applied.series)),
        "station_id": applied.series.get_level_values(0).to_numpy(np.int64),
        "parameter_id": applied.series.get_level_values(1).to_numpy(np.int32),
    }
    copy_in(
        connection,
        "bts.recalibration",
        columns | {name: getattr(applied, name).reshape(-1, _CELLS) for name in _ARRAYS},
    )


def read_recalibration(
    connection: sa.Connection, batch_id: int, stations: Stations | None = None
) -> Recalibration | None:
    """What was applied to a batch, or to some stations of it; None: nothing."""
    query = (
        f"SELECT {', '.join([*KEYS, *_ARRAYS])} FROM bts.recalibration WHERE batch_id = {int(batch_id)}"
        f"{of_stations(stations)}"
        " ORDER BY station_id, parameter_id"
    )
    series, arrays = read_arrays(connection, query, dict.fromkeys(_ARRAYS, ("float32", _CELLS)))
    if series.empty:
        return None
    shape = (-1, STRETCHES, len(SIDES))
    return Recalibration(series, *(arrays[name].reshape(shape) for name in _ARRAYS))
