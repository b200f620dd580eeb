"""Drift of a night: inputs, forecasts and errors against the training of the version that served; faulty sensors."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import counters_of
from bts_assets.monitoring import drift, snapshot
from bts_assets.monitoring.drift import Course
from bts_assets.monitoring.sensors import Watched, sensor_faults
from bts_assets.monitoring.snapshot import Snapshot
from bts_assets.services.home import Home
from bts_assets.services.observe import read_settled_panel
from bts_assets.storage import drift as storage
from bts_assets.storage.locks import LOCK_PUBLISH, transaction
from bts_assets.storage.model_versions import ModelVersion, champion_for, find_version
from bts_assets.storage.observations import read_panel

#: Nights since a training that evidence is gathered over, at most: a version is not to be that old.
_NIGHTS: Final = 120
#: Scored nights that errors are compared with; the first nights of a version serve where it has too few before.
_SCORED: Final = 56
_LEAST_SCORED: Final = 14
#: Streams that have come so far towards their bound (of its logarithm) are kept.
_KEPT: Final = 0.5


@dataclass(frozen=True)
class DriftReport:
    """What a night's look at drift came to: `drift.judge`'s rows that are kept, `sensors.sensor_faults`, and figures.

    figures: a row per series with level, spread, ks, psi and forecast_psi. nights, reference_nights: of the inputs;
    scored_nights, reference_scored_nights: of the errors. version: None where nothing serves; nothing was looked at.
    """

    issued_at: datetime
    version: ModelVersion | None
    evidence: pd.DataFrame
    faults: pd.DataFrame
    figures: pd.DataFrame
    nights: int = 0
    reference_nights: int = 0
    scored_nights: int = 0
    reference_scored_nights: int = 0

    @property
    def alarms(self) -> pd.DataFrame:
        return self.evidence[self.evidence["alarm"].astype(bool)] if len(self.evidence) else self.evidence


def watch_drift(home: Home, issued_at: datetime, now: datetime) -> DriftReport:
    """Look at the night of an origin, and keep what was found in place of what stood there.

    now: the instant of the run, after which nothing can have been observed.
    """
    with home.engine.connect() as connection:
        batch = storage.served_batch(connection, issued_at)
    version = (
        find_version(home.engine, batch.model_version_id) if batch else champion_for(home.engine, home.settings.grid)
    )
    if version is None:
        return DriftReport(issued_at, None, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    trained = training_snapshot(home, version)
    night = _Night(home, issued_at, version, trained)
    report = night.report(batch.batch_id if batch else None, now)
    _keep(home, report)
    return report


def training_snapshot(home: Home, version: ModelVersion) -> Snapshot:
    """The snapshot of a version's training, taken now if it has none yet."""
    with home.engine.connect() as connection:
        kept = storage.read_snapshot(connection, version.model_version_id)
    if kept is not None:
        return kept
    end, day = version.training_end, home.settings.grid.steps_per_day
    panel, _ = read_settled_panel(home, end, lambda _: end - snapshot.NIGHTS * DAY)
    panel = _observed_part(panel, day)
    taken = snapshot.take(panel, list(counters_of(home.catalogue)))
    with transaction(home.engine, LOCK_PUBLISH) as connection:
        if storage.read_snapshot(connection, version.model_version_id) is None:
            storage.keep_snapshot(connection, version.model_version_id, taken)
    return taken


def _observed_part(panel: Panel, day: int) -> Panel:
    """The panel from the first day with an observation on: a young network has no 56 days."""
    heard = np.flatnonzero(np.isfinite(panel.values).any(axis=0))
    steps = panel.steps - int(heard[0]) if len(heard) else 0
    return snapshot.newest(panel, max(1, -(-steps // day)) * day)


class _Night:
    """One origin's look: what is read for it, row by row of the context."""

    def __init__(self, home: Home, issued_at: datetime, version: ModelVersion, trained: Snapshot) -> None:
        self.home, self.issued_at, self.version = home, issued_at, version
        grid = home.settings.grid
        with home.engine.connect() as connection:
            self.context = read_panel(connection, grid, issued_at - max(grid.context, 2 * DAY), issued_at)
        self.series = pd.MultiIndex.from_arrays([self.context.station_id, self.context.parameter_id])
        self.trained = _in_order(trained, self.series)
        self.values = snapshot.increments(self.context, list(counters_of(home.catalogue)))

    def report(self, batch_id: int | None, now: datetime) -> DriftReport:
        figures = self._figures(batch_id)
        since = self._inputs(figures)
        before, after = self._errors()
        reference = Course(self.trained.level, self.trained.spread, before)
        live = Course(since[0], since[1], after)
        ids = self.context.station_id, self.context.parameter_id
        followed = drift.follow(*ids, self.trained.sigma, reference, live, self.home.settings.drift_false_alarms)
        found = drift.judge(followed)
        kept = found[(found["evidence"] >= _KEPT * found["bound"]) | found["alarm"]]
        nights = [int(np.isfinite(part).any(axis=0).sum()) for part in (since[0], reference.level, after, before)]
        return DriftReport(self.issued_at, self.version, kept, self._faults(now), figures, *nights)

    def _figures(self, batch_id: int | None) -> pd.DataFrame:
        day = self.context.grid.steps_per_day
        newest = snapshot.newest(self.context, day)
        last = snapshot.figures(newest, self.values[:, -day:], self.trained.profile)
        apart, stability = drift.distances(self.trained.sketch, self.values)
        return pd.DataFrame(
            {
                "station_id": self.context.station_id,
                "parameter_id": self.context.parameter_id,
                "level": last.level[:, -1],
                "spread": last.spread[:, -1],
                "ks": apart,
                "psi": stability,
                "forecast_psi": self._forecast_stability(batch_id),
            }
        )

    def _forecast_stability(self, batch_id: int | None) -> np.ndarray:
        if batch_id is None:
            return np.full(len(self.series), np.nan)
        with self.home.engine.connect() as connection:
            rows = storage.read_medians(connection, batch_id)
        medians = np.full((len(self.series), max((len(q) for q in rows["q50"]), default=1)), np.nan)
        at = self.series.get_indexer(pd.MultiIndex.from_frame(rows[["station_id", "parameter_id"]]))
        for row, q50 in zip(at, rows["q50"], strict=True):
            if row >= 0:
                medians[row] = q50
        meters = np.isin(self.context.parameter_id, list(counters_of(self.home.catalogue)))
        medians[meters] = np.diff(medians[meters], axis=1, prepend=np.nan)
        return drift.distances(self.trained.sketch, medians)[1]

    def _inputs(self, figures: pd.DataFrame) -> list[np.ndarray]:
        """Level and spread (series, nights) of the nights since the training, this one last."""
        first = self.version.training_end + DAY
        if self.issued_at < first:
            return [np.full((len(self.series), 0), np.nan)] * 2
        since = max(first, self.issued_at - _NIGHTS * DAY)
        with self.home.engine.connect() as connection:
            rows = storage.read_figures(connection, self.version.model_version_id, since, self.issued_at)
        nights = _apart(rows["issued_at"].drop_duplicates().tolist(), self.issued_at)
        courses = _courses(rows, self.series, nights, ["level", "spread"])
        return [
            np.concatenate([course, figures[name].to_numpy()[:, None]], axis=1)
            for course, name in zip(courses, ("level", "spread"), strict=True)
        ]

    def _errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Log of the errors (series, nights) before the training and since; of its first nights where there are few."""
        end, until = self.version.training_end, self.issued_at - self.home.settings.horizon / 2
        with self.home.engine.connect() as connection:
            rows = storage.read_errors(connection, end - _SCORED * DAY, until)
        nights = _apart(rows["issued_at"].drop_duplicates().tolist(), self.issued_at)
        with np.errstate(divide="ignore"):
            error = np.log(_courses(rows, self.series, nights, ["mae"])[0])
        error[~np.isfinite(error)] = np.nan
        seen = sum(night < end for night in nights)
        cut = max(seen, min(_LEAST_SCORED, len(nights)))
        return error[:, :cut], error[:, cut:]

    def _faults(self, now: datetime) -> pd.DataFrame:
        kinds = {int(p): self.home.catalogue.of(int(p)).kind for p in np.unique(self.context.parameter_id)}
        gauges = np.array([kinds[int(p)] == "gauge" for p in self.context.parameter_id], dtype=bool)
        faults = sensor_faults(Watched(self.context, self.trained, gauges))
        with self.home.engine.connect() as connection:
            ahead = storage.ahead_of(connection, now)
        if ahead.empty:
            return faults
        hours = (ahead["since"] - pd.Timestamp(now)).dt.total_seconds() / 3600
        rows = ahead.assign(fault="clock_ahead", parameter_id=-1, figure=hours)
        return pd.concat([faults, rows[faults.columns]], ignore_index=True)


def _in_order(trained: Snapshot, series: pd.MultiIndex) -> Snapshot:
    """A snapshot's rows in the order of some series, unknown for one that it does not have."""
    row = pd.MultiIndex.from_arrays([trained.station_id, trained.parameter_id]).get_indexer(series)
    known, at = row >= 0, np.maximum(row, 0)
    arrays = {
        name: np.where(known[:, None], getattr(trained, name)[at], np.nan)
        for name in ("sketch", "profile", "level", "spread")
    }
    return Snapshot(
        series.get_level_values(0).to_numpy(),
        series.get_level_values(1).to_numpy(),
        **arrays,
        longest_run=np.where(known, trained.longest_run[at], 0),
        coverage=np.where(known, trained.coverage[at], 0.0),
    )


def _apart(nights: list[pd.Timestamp], before: datetime) -> list[pd.Timestamp]:
    """Of ascending nights those that lie a day apart, counted back from the newest; ascending."""
    kept: list[pd.Timestamp] = []
    after = pd.Timestamp(before)
    for night in reversed(nights):
        if after - night >= storage.APART:
            kept.append(night)
            after = night
    return kept[::-1]


def _courses(
    rows: pd.DataFrame, series: pd.MultiIndex, nights: list[pd.Timestamp], names: list[str]
) -> list[np.ndarray]:
    """Columns of rows as (series, nights), NaN where there is no row."""
    column = pd.Index(nights).get_indexer(rows["issued_at"]) if nights else np.full(len(rows), -1)
    row = series.get_indexer(pd.MultiIndex.from_frame(rows[["station_id", "parameter_id"]]))
    inside = (column >= 0) & (row >= 0)
    found = []
    for name in names:
        course = np.full((len(series), len(nights)), np.nan)
        course[row[inside], column[inside]] = rows[name].to_numpy()[inside]
        found.append(course)
    return found


def _keep(home: Home, report: DriftReport) -> None:
    assert report.version is not None  # noqa: S101 - a night without one is not kept
    night = {
        "issued_at": report.issued_at,
        "model_version_id": report.version.model_version_id,
        "nights": report.nights,
        "reference_nights": report.reference_nights,
        "scored_nights": report.scored_nights,
        "reference_scored_nights": report.reference_scored_nights,
    }
    with transaction(home.engine, LOCK_PUBLISH) as connection:
        storage.replace_night(connection, night, report.figures, report.evidence, report.faults)
