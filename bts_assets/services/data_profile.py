"""What the data of a night or a training looked like: measured in one snapshot, kept once. It computes no figure."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.panel import Panel, input_digest
from bts_assets.forecasting.sampling import drawn_series
from bts_assets.forecasting.windows import take_series
from bts_assets.landing.panel_profile import profile
from bts_assets.services.home import Home, simulated_landing
from bts_assets.services.memory import series_at_once
from bts_assets.services.observe import settled
from bts_assets.storage import tables
from bts_assets.storage.binary_copy import copy_in
from bts_assets.storage.mlflow_registry import ModelStoreError
from bts_assets.storage.observation_blocks import ALL_STATIONS, count_readings, known_series, read_panel, station_parts
from bts_assets.storage.observations import count_series
from bts_assets.storage.provenance import code_version

DATASET_NAME: Final = "bts-observations"
SIMULATOR: Final = "bts simulate"

#: Series whose values are drawn: about so many.
_DRAWN: Final = 2048

log = logging.getLogger(__name__)

#: The files that `bts.files_known` names: those with readings of the span, as the ledger stood then.
_FILES: Final = sa.text("""
    SELECT count(DISTINCT digest) AS files, coalesce(sum(bytes) FILTER (WHERE status = 'accepted'), 0) AS bytes,
           coalesce(sum(rows), 0) AS rows, coalesce(sum(accepted), 0) AS accepted,
           coalesce(sum(rejected), 0) AS rejected, coalesce(sum(duplicate), 0) AS duplicate
    FROM bts.landing_file
    WHERE status <> 'refused' AND ledger_seq <= :ledger_seq
      AND (superseded_by IS NULL OR superseded_by > :ledger_seq)
      AND digest = ANY (bts.files_known(:start, :end, :ledger_seq)::char(64)[])
""")
_KEPT: Final = sa.text("""
    SELECT dataset_id FROM bts.dataset
    WHERE (data_start, data_end) = (:start, :end) AND ledger_seq = (SELECT max(ledger_seq) FROM bts.landing_file)
      AND created_at > (SELECT max(computed_at) FROM bts.observed_day)
    ORDER BY dataset_id DESC LIMIT 1
""")
_TRAINED: Final = sa.text(
    "SELECT model_version_id, mlflow_run_id, training_start, training_end, observations_digest::text,"
    " training_series, seed"
    " FROM bts.model_version WHERE dagster_run_id = :run_id"
)


@dataclass(frozen=True)
class Described:
    """A data set: its row of `bts.dataset`, and `landing.panel_profile`'s figures of each of its series.

    shown: panels of the series whose values are drawn, all of them or some stations'.
    """

    row: dict[str, Any]
    series: pd.DataFrame
    shown: list[Panel]

    @property
    def steps(self) -> int:
        return int((self.row["data_end"] - self.row["data_start"]).total_seconds()) // int(self.row["step_seconds"])


def find_kept(home: Home, start: datetime, end: datetime) -> int | None:
    """The `dataset_id` that describe and keep would come to, where nothing was taken in or computed since it was kept.

    It is told without reading an observation, so that a night that finds nothing new is not held up by what is known.
    """
    with home.engine.connect() as connection:
        return connection.scalar(_KEPT, {"start": start, "end": end})


def describe(
    home: Home, start: datetime, end: datetime, run_id: str | None, most: int | None = None, seed: int = 0
) -> Described:
    """Measure what is known now of [start, end), without keeping it; of all series, or of `most`, drawn by seed."""
    grid = home.settings.grid
    digests: list[bytes] = []
    figures: list[pd.DataFrame] = []
    shown: list[Panel] = []
    with settled(home) as (connection, ledger_seq):
        apart, drawn = -(-count_series(connection) // _DRAWN), None
        if most is not None:
            known = known_series(connection, grid, end)
            drawn = pd.MultiIndex.from_arrays(known)[drawn_series(*known, most, seed)]
        for stations in station_parts(connection, series_at_once(home.settings)) or [ALL_STATIONS]:
            panel = read_panel(connection, grid, start, end, stations=stations)
            if drawn is not None:
                ids = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id])
                panel = take_series(panel, np.flatnonzero(ids.isin(drawn)))
            digests += panel.series_digests
            figures.append(profile(panel, count_readings(connection, grid, start, end, stations)))
            shown.append(take_series(panel, np.flatnonzero(_every(apart, panel.station_id))))
    series = pd.concat(figures, ignore_index=True)
    # The ledger only grows: what it was at an entry can be asked at any time after.
    with home.engine.connect() as connection:
        span = {"start": start, "end": end, "ledger_seq": ledger_seq}
        files = {k: int(v) for k, v in connection.execute(_FILES, span).mappings().one().items()}
    simulated = home.landing == simulated_landing(home.settings.home)
    observations, steps = int(series["observations"].sum()), (end - start) // grid.step
    row = {
        "name": DATASET_NAME,
        "provider": SIMULATOR if simulated else None,
        "observations_digest": input_digest(grid, end, steps, digests),
        "ledger_seq": ledger_seq,
        "data_start": start,
        "data_end": end,
        "step_seconds": int(grid.step.total_seconds()),
        "stations": int(series["station_id"].nunique()),
        "parameters": int(series["parameter_id"].nunique()),
        "series": len(series),
        "silent_series": int((series["observations"] == 0).sum()),
        "observations": observations,
        "missing_share": 1 - observations / (len(series) * steps) if len(series) and steps else 0.0,
        "readings": int(series["readings"].sum()),
        **files,
        "code_version": code_version(),
        "dagster_run_id": run_id,
    }
    return Described(row, series, shown)


def _every(apart: int, station_id: np.ndarray) -> np.ndarray:
    """Which series are drawn, bool (series,): those of one station in `apart`, the first of a part among them."""
    return np.unique(station_id, return_inverse=True)[1] % max(apart, 1) == 0


def keep(home: Home, described: Described) -> tuple[int, bool]:
    """Its `dataset_id`, and whether it is new: the same observations known from the same ledger are kept once."""
    c = tables.dataset.c
    statement = insert(tables.dataset).values(described.row).on_conflict_do_nothing().returning(c.dataset_id)
    with home.engine.begin() as connection:
        dataset_id = connection.scalar(statement)
        if dataset_id is not None:
            _keep_series(connection, dataset_id, described.series)
            return int(dataset_id), True
        same = sa.select(c.dataset_id).where(
            c.observations_digest == described.row["observations_digest"], c.ledger_seq == described.row["ledger_seq"]
        )
        return int(connection.execute(same).scalar_one()), False


@dataclass(frozen=True)
class KeptProfile:
    """A data set as it is kept: the digest of its observations, its series, and how many have a row of figures."""

    digest: str
    series: int
    rows: int


def kept_profile(home: Home, dataset_id: int) -> KeptProfile:
    d, p = tables.dataset.c, tables.series_profile.c
    rows = sa.select(sa.func.count()).where(p.dataset_id == dataset_id).scalar_subquery()
    query = sa.select(d.observations_digest, d.series, rows).where(d.dataset_id == dataset_id)
    with home.engine.connect() as connection:
        return KeptProfile(*connection.execute(query).one())


def _keep_series(connection: sa.Connection, dataset_id: int, series: pd.DataFrame) -> None:
    names = [column.name for column in tables.series_profile.columns if column.name != "dataset_id"]
    measured = [column.name for column in tables.series_profile.columns if column.nullable]
    silent = series["observations"] == 0
    # COPY as arrays knows no null: of a silent series, what has no value is not named.
    for rows, kept in ((series[~silent], names), (series[silent], [n for n in names if n not in measured])):
        if len(rows):
            number = np.full(len(rows), dataset_id, dtype=np.int64)
            copy_in(connection, "bts.series_profile", {"dataset_id": number, **{n: rows[n].to_numpy() for n in kept}})


def describe_trainings(home: Home, run_id: str) -> list[dict[str, Any]]:
    """Keep what the versions that a Dagster run trained were trained on, and tell their MLflow runs. The rows kept.

    A version whose observations have changed since cannot be described any more; it is left out, and logged.
    """
    with home.engine.connect() as connection:
        trained = connection.execute(_TRAINED, {"run_id": run_id}).mappings().all()
    kept = []
    for version in trained:
        described = describe(
            home,
            version["training_start"],
            version["training_end"],
            run_id,
            version["training_series"],
            version["seed"],
        )
        if described.row["observations_digest"] != version["observations_digest"]:
            log.warning("the training data of version %s has changed since", version["model_version_id"])
            continue
        dataset_id, _ = keep(home, described)
        kept.append({"dataset_id": dataset_id, "model_version_id": version["model_version_id"], **described.row})
        if version["mlflow_run_id"]:
            try:
                source = (home.settings.home / "readings").as_uri()
                home.models.log_dataset(version["mlflow_run_id"], described.row, described.series, source)
            except ModelStoreError as error:
                log.warning("%s; what version %s was trained on is in Postgres", error, version["model_version_id"])
    return kept
