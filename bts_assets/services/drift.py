"""Drift of a night: inputs, forecasts and errors against the training of the version that served; faulty sensors."""

from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import counters_of
from bts_assets.monitoring import drift, snapshot
from bts_assets.monitoring.clocks import clocks_set_back
from bts_assets.monitoring.drift import Course
from bts_assets.monitoring.power import without_outages
from bts_assets.monitoring.sensors import Watched, sensor_faults
from bts_assets.monitoring.snapshot import Snapshot
from bts_assets.services.home import Home
from bts_assets.services.memory import series_at_once
from bts_assets.services.observe import settled
from bts_assets.services.site_power import GRID, GRID_VOLTAGE
from bts_assets.storage import drift as storage
from bts_assets.storage.locks import LOCK_SCORE, transaction
from bts_assets.storage.model_versions import ModelVersion, champion_for, find_version
from bts_assets.storage.observation_blocks import ALL_STATIONS, Stations, read_panel, station_parts
from bts_assets.storage.observations import count_series, first_observed

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
    with home.engine.connect() as connection:
        nothing = not count_series(connection)
    if version is None or nothing:
        return DriftReport(issued_at, None, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    _take_snapshot(home, version)
    report = _Night(home, issued_at, version).report(batch, now)
    _keep(home, report)
    return report


def _take_snapshot(home: Home, version: ModelVersion) -> None:
    """Take the snapshot of a version's training, in parts of its stations, unless it has one."""
    with home.engine.connect() as connection:
        if storage.has_snapshot(connection, version.model_version_id):
            return
    end, grid, counters = version.training_end, home.settings.grid, list(counters_of(home.catalogue))
    with settled(home) as (connection, _), transaction(home.engine, LOCK_SCORE) as writing:
        if storage.has_snapshot(writing, version.model_version_id):
            return
        first = first_observed(connection, end - snapshot.NIGHTS * DAY, end)
        # A young network has no 56 days: whole days, from the first with an observation on.
        days = max(1, -((first - end) // DAY))
        for stations in station_parts(connection, _series_at_once(home)):
            panel = read_panel(connection, grid, end - days * DAY, end, stations=stations)
            storage.keep_snapshot(writing, version.model_version_id, snapshot.take(panel, counters))


def _series_at_once(home: Home) -> int:
    """Fewer than a night forecasts at once: a snapshot is of eight weeks."""
    return max(1, series_at_once(home.settings) * home.settings.context // (snapshot.NIGHTS * DAY))


@dataclass(frozen=True)
class _Part:
    """Some stations of a night, each array a row per series. figures, faults: as `DriftReport` has them.

    reference, live: courses of the nights of the training and since, this one last; those of the errors are of all
    nights in reference, and none in live.
    """

    figures: pd.DataFrame
    faults: pd.DataFrame
    sigma: np.ndarray
    reference: Course
    live: Course


@dataclass(frozen=True)
class _LookedAt:
    """Nights that a night is judged by, a day apart. figured: since the training, after `since`; scored: those whose
    errors are known, with their batches, of which the first `before` are the reference: those before the training, or
    its first nights where there are few.
    """

    since: datetime
    figured: list[pd.Timestamp]
    scored: dict[pd.Timestamp, int]
    before: int


class _Night:
    """One origin's look, row by row of the series that are known at it, part by part of their stations."""

    def __init__(self, home: Home, issued_at: datetime, version: ModelVersion) -> None:
        self.home, self.issued_at, self.version = home, issued_at, version
        self.counters = list(counters_of(home.catalogue))

    def report(self, batch: storage.ServedBatch | None, now: datetime) -> DriftReport:
        with self.home.engine.connect() as connection:
            stations = station_parts(connection, series_at_once(self.home.settings)) or [ALL_STATIONS]
            looked_at = self._looked_at(connection)
            parts = [self._part(connection, batch, some, looked_at) for some in stations]
            ahead = self._ahead(connection, now)
        figures, faults = (
            pd.concat(f, ignore_index=True) for f in zip(*((p.figures, p.faults) for p in parts), strict=True)
        )
        ids = figures["station_id"].to_numpy(), figures["parameter_id"].to_numpy()
        sigma = np.concatenate([p.sigma for p in parts])
        whole, since = (_together([getattr(p, name) for p in parts]) for name in ("reference", "live"))
        cut = looked_at.before
        reference = replace(whole, error=whole.error[:, :cut])
        live = replace(since, error=whole.error[:, cut:])
        followed = drift.follow(*ids, sigma, reference, live, self.home.settings.drift_false_alarms)
        found = drift.judge(followed)
        kept = found[(found["evidence"] >= _KEPT * found["bound"]) | found["alarm"]]
        courses = (live.level, reference.level, live.error, reference.error)
        nights = [int(np.isfinite(course).any(axis=0).sum()) for course in courses]
        told = pd.concat([faults, ahead], ignore_index=True) if len(ahead) else faults
        return DriftReport(self.issued_at, self.version, kept, told, figures, *nights)

    def _looked_at(self, connection: sa.Connection) -> _LookedAt:
        """The nights whose figures and errors this one is judged by."""
        end = self.version.training_end
        since = max(end + DAY, self.issued_at - _NIGHTS * DAY)
        figured = storage.figure_nights(connection, self.version.model_version_id, since, self.issued_at)
        until = self.issued_at - self.home.settings.horizon / 2
        scored = storage.error_nights(connection, end - _SCORED * DAY, until)
        errors = _apart(list(scored), self.issued_at)
        seen = sum(night < end for night in errors)
        return _LookedAt(
            since,
            _apart(figured, self.issued_at),
            {night: scored[night] for night in errors},
            max(seen, min(_LEAST_SCORED, len(errors))),
        )

    def _part(
        self,
        connection: sa.Connection,
        batch: storage.ServedBatch | None,
        stations: Stations,
        looked_at: _LookedAt,
    ) -> _Part:
        start = self.issued_at - max(self.home.settings.context, 2 * DAY)
        context = read_panel(connection, self.home.settings.grid, start, self.issued_at, stations=stations)
        series = pd.MultiIndex.from_arrays([context.station_id, context.parameter_id])
        trained = _in_order(storage.read_snapshot(connection, self.version.model_version_id, stations), series)
        values, day = snapshot.increments(context, self.counters), context.grid.steps_per_day
        values = without_outages(context, values, GRID_VOLTAGE, GRID)
        last = snapshot.figures(snapshot.newest(context, day), values[:, -day:], trained.profile)
        apart, stability = drift.distances(trained.sketch, values)
        figures = pd.DataFrame(
            {
                "station_id": context.station_id,
                "parameter_id": context.parameter_id,
                "level": last.level[:, -1],
                "spread": last.spread[:, -1],
                "ks": apart,
                "psi": stability,
                "forecast_psi": self._forecast_stability(connection, batch, stations, trained),
            }
        )
        level, spread = self._inputs(connection, stations, looked_at, figures, series)
        errors = self._errors(connection, stations, looked_at, series)
        none = np.full((len(series), 0), np.nan)
        return _Part(
            figures,
            self._faults(connection, context, trained),
            trained.sigma,
            Course(trained.level, trained.spread, errors),
            Course(level, spread, none),
        )

    def _forecast_stability(
        self, connection: sa.Connection, batch: storage.ServedBatch | None, stations: Stations, trained: Snapshot
    ) -> np.ndarray:
        known = pd.MultiIndex.from_arrays([trained.station_id, trained.parameter_id])
        if batch is None:
            return np.full(len(known), np.nan)
        series, forecast = storage.read_medians(connection, batch, stations)
        row = known.get_indexer(series)
        medians = np.full((len(known), forecast.shape[1]), np.nan)
        medians[row[row >= 0]] = forecast[row >= 0]
        meters = np.isin(trained.parameter_id, self.counters)
        medians[meters] = np.diff(medians[meters], axis=1, prepend=np.nan)
        return drift.distances(trained.sketch, medians)[1]

    def _inputs(
        self,
        connection: sa.Connection,
        stations: Stations,
        looked_at: _LookedAt,
        figures: pd.DataFrame,
        series: pd.MultiIndex,
    ) -> list[np.ndarray]:
        """Level and spread (series, nights) of the nights since the training, this one last."""
        if self.issued_at < self.version.training_end + DAY:
            return [np.full((len(series), 0), np.nan)] * 2
        version = self.version.model_version_id
        rows = storage.read_figures(connection, version, looked_at.since, self.issued_at, stations)
        courses = _courses(rows, series, looked_at.figured, ["level", "spread"])
        return [
            np.concatenate([course, figures[name].to_numpy()[:, None]], axis=1)
            for course, name in zip(courses, ("level", "spread"), strict=True)
        ]

    def _errors(
        self, connection: sa.Connection, stations: Stations, looked_at: _LookedAt, series: pd.MultiIndex
    ) -> np.ndarray:
        """Log of the errors (series, nights) of all nights that are looked at."""
        rows = storage.read_errors(connection, looked_at.scored.values(), stations)
        with np.errstate(divide="ignore"):
            error = np.log(_courses(rows, series, list(looked_at.scored), ["mae"])[0])
        error[~np.isfinite(error)] = np.nan
        return error

    def _faults(self, connection: sa.Connection, context: Panel, trained: Snapshot) -> pd.DataFrame:
        kinds = {int(p): self.home.catalogue.of(int(p)).kind for p in np.unique(context.parameter_id)}
        gauges = np.array([kinds[int(p)] == "gauge" for p in context.parameter_id], dtype=bool)
        found = sensor_faults(Watched(context, trained, gauges))
        silent = (found["fault"] == "silent_station").to_numpy()
        if not silent.any():
            return found
        stations = found.loc[silent, "station_id"].tolist()
        readings = storage.readings_of(connection, stations, context.start, context.end)
        told = clocks_set_back(found[silent], readings, context.end, context.grid.step)
        return pd.concat([found[~silent], told]).sort_values(["station_id", "parameter_id", "fault"], ignore_index=True)

    def _ahead(self, connection: sa.Connection, now: datetime) -> pd.DataFrame:
        """Stations whose clock is ahead, as `sensor_faults` tells of others."""
        ahead = storage.ahead_of(connection, now)
        hours = (ahead["since"] - pd.Timestamp(now)).dt.total_seconds() / 3600 if len(ahead) else np.empty(0)
        rows = ahead.assign(fault="clock_ahead", parameter_id=-1, figure=hours)
        return rows[["fault", "station_id", "parameter_id", "since", "figure"]]


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


def _together(parts: list[Course]) -> Course:
    """The courses of all parts, one below the other."""
    return Course(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Course)))


def _apart(nights: list[pd.Timestamp], before: datetime) -> list[pd.Timestamp]:
    """Those of the nights that lie a day apart, counted back from the newest; both ascend."""
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
    with transaction(home.engine, LOCK_SCORE) as connection:
        storage.replace_night(connection, night, report.figures, report.evidence, report.faults)
