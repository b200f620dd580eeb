"""Drift at rest: snapshots of trainings, nightly figures, the errors that were scored, and each night's findings."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.monitoring.snapshot import Snapshot
from bts_assets.storage import drift_tables as t
from bts_assets.storage.binary_copy import copy_in, copy_out, copy_rows
from bts_assets.storage.observation_blocks import Stations, of_stations
from bts_assets.storage.series_arrays import KEYS, read_arrays

#: Nights that are nearer to one another than this look at the same day.
APART: Final = timedelta(hours=20)

_SERIES: Final = ["station_id", "parameter_id"]
_ARRAYS: Final = ("sketch", "profile", "level", "spread")

_SERVED: Final = sa.text("""
    SELECT b.batch_id, b.model_version_id, b.horizon_steps
    FROM bts.publication AS p JOIN bts.batch AS b USING (batch_id)
    WHERE b.issued_at = :issued_at ORDER BY p.publication_seq DESC LIMIT 1
""")
_AHEAD: Final = sa.text(
    "SELECT station_id, max(observed_at) AS since FROM bts.observation WHERE observed_at > :now"
    " GROUP BY station_id ORDER BY station_id"
)
_FIGURE_NIGHTS: Final = sa.text("""
    SELECT issued_at FROM bts.drift_night AS n
    WHERE model_version_id = :version AND issued_at >= :since AND issued_at < :before
      AND EXISTS (SELECT FROM bts.drift_figure AS f WHERE f.issued_at = n.issued_at)
    ORDER BY issued_at
""")
_ERROR_NIGHTS: Final = sa.text("""
    SELECT b.issued_at, b.batch_id
    FROM (SELECT DISTINCT ON (o.issued_at) o.batch_id, o.issued_at
          FROM bts.publication AS p JOIN bts.batch AS o USING (batch_id)
          WHERE o.issued_at BETWEEN :since AND :until AND o.kind <> 'in_sample'
          ORDER BY o.issued_at, p.publication_seq DESC) AS b
    WHERE EXISTS (SELECT FROM bts.forecast_score AS s
                  WHERE s.batch_id = b.batch_id AND s.candidate = 'served' AND s.stretch <= 2)
    ORDER BY b.issued_at
""")


@dataclass(frozen=True)
class ServedBatch:
    """The batch that serves an origin."""

    batch_id: int
    model_version_id: int
    horizon_steps: int


def served_batch(connection: sa.Connection, issued_at: datetime) -> ServedBatch | None:
    """The batch of an origin that was published last."""
    row = connection.execute(_SERVED, {"issued_at": issued_at}).one_or_none()
    return ServedBatch(*row) if row else None


def has_snapshot(connection: sa.Connection, model_version_id: int) -> bool:
    """Whether a version's training has a snapshot."""
    kept = sa.select(t.training_snapshot).where(t.training_snapshot.c.model_version_id == model_version_id).exists()
    return bool(connection.scalar(sa.select(kept)))


def read_snapshot(connection: sa.Connection, model_version_id: int, stations: Stations) -> Snapshot:
    """The snapshot of some stations of a version's training that has one, series ascending."""
    of_version = f"FROM bts.training_snapshot WHERE model_version_id = {int(model_version_id)}"
    lengths = ", ".join(f"cardinality({name})" for name in _ARRAYS)
    found = connection.exec_driver_sql(f"SELECT {lengths} {of_version} LIMIT 1").one()
    arrays = {name: ("float64", length) for name, length in zip(_ARRAYS, found, strict=True)}
    columns = arrays | {"longest_run": ("int32", 0), "coverage": ("float32", 0)}
    names = ", ".join([*KEYS, *columns])
    query = f"SELECT {names} {of_version}{of_stations(stations)} ORDER BY station_id, parameter_id"
    return Snapshot(**read_arrays(connection, query, columns)[1])


def keep_snapshot(connection: sa.Connection, model_version_id: int, snapshot: Snapshot) -> None:
    """Keep the snapshot, or some stations' part of it, of a version that has none."""
    copy_in(
        connection,
        "bts.training_snapshot",
        {
            "model_version_id": np.full(len(snapshot.station_id), model_version_id, dtype=np.int64),
            "station_id": snapshot.station_id.astype(np.int64),
            "parameter_id": snapshot.parameter_id.astype(np.int32),
            **{name: getattr(snapshot, name).astype(np.float64) for name in _ARRAYS},
            "longest_run": snapshot.longest_run.astype(np.int32),
            "coverage": snapshot.coverage.astype(np.float32),
        },
    )


def figure_nights(
    connection: sa.Connection, model_version_id: int, since: datetime, before: datetime
) -> list[pd.Timestamp]:
    """The nights of a version in [since, before) of which there are figures, ascending."""
    given = {"version": model_version_id, "since": since, "before": before}
    return [pd.Timestamp(night) for night in connection.execute(_FIGURE_NIGHTS, given).scalars()]


def read_figures(
    connection: sa.Connection, model_version_id: int, since: datetime, before: datetime, stations: Stations
) -> pd.DataFrame:
    """issued_at, station_id, parameter_id, level and spread of some stations, of a version's nights [since, before)."""
    query = (
        "SELECT issued_at, station_id, parameter_id, coalesce(level, 'NaN') AS level, coalesce(spread, 'NaN') AS spread"
        " FROM bts.drift_figure AS f JOIN bts.drift_night AS n USING (issued_at)"
        f" WHERE n.model_version_id = {int(model_version_id)}"
        f" AND issued_at >= '{since.isoformat()}' AND issued_at < '{before.isoformat()}'{of_stations(stations)}"
    )
    columns = {"issued_at": "time", "station_id": "int64", "parameter_id": "int32", "level": "float64"}
    return copy_out(connection, query, columns | {"spread": "float64"})


def error_nights(connection: sa.Connection, since: datetime, until: datetime) -> dict[pd.Timestamp, int]:
    """Origins in [since, until] whose first half was scored, ascending, and the batch of each that was published last;
    never one whose model had seen its targets.
    """
    rows = connection.execute(_ERROR_NIGHTS, {"since": since, "until": until})
    return {pd.Timestamp(issued_at): batch_id for issued_at, batch_id in rows}


def read_errors(connection: sa.Connection, batches: Collection[int], stations: Stations) -> pd.DataFrame:
    """issued_at, station_id, parameter_id and mae of what batches served at some stations, over their first halves."""
    query = f"""
        SELECT issued_at, station_id, parameter_id, sum(absolute_error) / sum(targets) AS mae
        FROM bts.batch JOIN bts.forecast_score USING (batch_id)
        WHERE batch_id IN ({", ".join(str(int(batch)) for batch in batches) or "NULL"})
          AND candidate = 'served' AND stretch <= 2{of_stations(stations)}
        GROUP BY issued_at, station_id, parameter_id
    """
    columns = {"issued_at": "time", "station_id": "int64", "parameter_id": "int32", "mae": "float64"}
    return copy_out(connection, query, columns)


def read_medians(connection: sa.Connection, batch: ServedBatch, stations: Stations) -> tuple[pd.MultiIndex, np.ndarray]:
    """The series of some stations in a batch, and the medians of their forecasts (series, horizon)."""
    query = (
        f"SELECT {', '.join(KEYS)}, q50 FROM bts.forecast_series WHERE batch_id = {int(batch.batch_id)}"
        f"{of_stations(stations)} ORDER BY station_id, parameter_id"
    )
    series, arrays = read_arrays(connection, query, {"q50": ("float64", batch.horizon_steps)})
    return series, arrays["q50"]


def readings_of(connection: sa.Connection, stations: Collection[int], start: datetime, end: datetime) -> pd.DataFrame:
    """station_id, parameter_id, observed_at and readings of every step of some stations in [start, end)."""
    query = (
        "SELECT station_id, parameter_id, observed_at, readings FROM bts.observation"
        f" WHERE station_id IN ({', '.join(str(int(station)) for station in stations)})"
        f" AND observed_at >= '{start.isoformat()}' AND observed_at < '{end.isoformat()}'"
    )
    columns = {"station_id": "int64", "parameter_id": "int32", "observed_at": "time", "readings": "int32"}
    return copy_out(connection, query, columns)


def ahead_of(connection: sa.Connection, now: datetime) -> pd.DataFrame:
    """station_id and since (its newest observation) of stations that were observed after now."""
    return pd.DataFrame(connection.execute(_AHEAD, {"now": now}).all(), columns=["station_id", "since"])


def replace_night(
    connection: sa.Connection,
    night: Mapping[str, Any],
    figures: pd.DataFrame,
    evidence: pd.DataFrame,
    faults: pd.DataFrame,
) -> None:
    """Let this stand for the night, whatever stood there. Frames have their table's columns but for `issued_at`."""
    issued_at = night["issued_at"]
    connection.execute(sa.delete(t.drift_night).where(t.drift_night.c.issued_at == issued_at))
    connection.execute(sa.insert(t.drift_night).values(dict(night)))
    for table, rows in (("drift_figure", figures), ("drift_evidence", evidence), ("found_fault", faults)):
        if len(rows):
            copy_rows(connection, f"bts.{table}", rows.assign(issued_at=issued_at.isoformat()))
