"""From the readings of many landing files to observations: one value per series and step of the grid.

A pure function of the readings of its time span, file by file, and of the order in which the ledger took the files in.
That order decides between files that give one id other content, and nothing else; the order of rows decides nothing.
Not here: the files themselves (`files`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.digests import digest_of_all
from bts_assets.contracts.grid import DAY, EPOCH, Grid
from bts_assets.landing import sums
from bts_assets.landing.duplicates import ReadingIds, resolve_duplicates
from bts_assets.landing.reading_arrays import ReadingArrays, from_frame, series_codes, utc_times


@dataclass(frozen=True)
class Observed:
    """A `contracts.schemas.Observations` frame in order of series and time, and what became of the readings within
    the span. merged: by station_id and day (datetime.date), as `duplicates.Resolved.merged` counts them.
    """

    observations: pd.DataFrame
    readings: int
    merged: pd.DataFrame

    @property
    def duplicates(self) -> int:
        """Readings that say again what another says."""
        return int(self.merged["repeated"].sum())

    @property
    def conflicts(self) -> int:
        """Readings that gave way to another one of their id."""
        return int(self.merged[["corrected", "contradicted"]].to_numpy().sum())


def observe(
    readings: Sequence[ReadingArrays | pd.DataFrame],
    catalogue: Catalogue,
    grid: Grid,
    start: datetime,
    end: datetime,
    *,
    entries: Sequence[int] | None = None,
    reading_ids: ReadingIds = "auto",
) -> Observed:
    """Aggregate the readings within [start, end), each as the catalogue says for its parameter.

    `readings` are those of each landing file, as arrays or as a `contracts.schemas.Readings` frame, `entries` the
    ledger's number of each (`duplicates.resolve_duplicates`). `last` takes the greatest time, then the greatest id that
    names a reading, then the greatest value; a reading without such an id comes before those with one.

    Raises:
        ValueError: if start or end is not a midnight in UTC: duplicates are resolved within whole UTC days.
    """
    if (start - EPOCH) % DAY or (end - EPOCH) % DAY:
        raise ValueError(f"{start} to {end} is not a span of whole UTC days")
    within = [
        _within(from_frame(own) if isinstance(own, pd.DataFrame) else own, _microseconds(start), _microseconds(end))
        for own in readings
    ]
    resolved = resolve_duplicates(within, entries, reading_ids)
    runs = [_Runs.of(part, grid) for part in resolved.parts if len(part)]
    observations = (
        _aggregate(runs, catalogue, grid) if runs else _frame(grid, *(np.empty(0, "int64") for _ in range(5)))
    )
    return Observed(observations, sum(map(len, resolved.parts)), _by_date(resolved.merged))


def _by_date(merged: pd.DataFrame) -> pd.DataFrame:
    days = merged.index.levels[1]
    return merged.set_axis(merged.index.set_levels([EPOCH.date() + timedelta(days=int(d)) for d in days], level=1))


def rule_of(catalogue: Catalogue, reading_ids: ReadingIds) -> str:
    """SHA-256 of all that decides what observations given readings make: of another rule they are others."""
    aggregations = ",".join(
        f"{p.parameter_id} {p.aggregation}"
        for p in sorted(catalogue, key=lambda p: p.parameter_id)
        if p.aggregation != "mean"
    )
    return hashlib.sha256(f"observe 2\n{reading_ids}\n{aggregations}".encode()).hexdigest()


_ROW: Final = np.dtype(
    [("station", "<i8"), ("parameter", "<i8"), ("time", "<i8"), ("value", "<f8"), ("readings", "<i8")]
)


def digest_observations(observations: pd.DataFrame) -> str:
    """SHA-256 over the rows of an `Observations` frame, whatever their order in it."""
    return digest_of_stations(station_digests(observations))


def digest_of_stations(digests: Iterable[bytes]) -> str:
    """As `digest_observations`, of the digests of all its stations in ascending order."""
    return digest_of_all("observations 2 ", digests)


def station_digests(observations: pd.DataFrame) -> list[bytes]:
    """SHA-256 of each station's rows in order of series and time, stations ascending."""
    rows = _rows(observations)
    ends = np.flatnonzero(np.diff(rows["station"])) + 1
    return [hashlib.sha256(own.tobytes()).digest() for own in np.split(rows, ends) if len(own)]


def has_digest(observations: pd.DataFrame, digest: str) -> bool:
    """Whether a digest is these observations', as it is made now or was before stations had their own."""
    return digest == digest_observations(observations) or digest == _digest_of_format_1(observations)


def _digest_of_format_1(observations: pd.DataFrame) -> str:
    rows, digest = _rows(observations), hashlib.sha256(b"observations 1\n")
    for name in _ROW.names or ():
        digest.update(rows[name].tobytes())
    return digest.hexdigest()


def _rows(observations: pd.DataFrame) -> np.ndarray:
    """The rows in order of series and time, as records."""
    rows = np.empty(len(observations), dtype=_ROW)
    rows["station"], rows["parameter"] = observations["station_id"], observations["parameter_id"]
    time = observations["observed_at"].dt.tz_convert("UTC").dt.tz_localize(None)
    rows["time"] = time.to_numpy("M8[us]").view("int64")
    rows["value"] = observations["value"].to_numpy("float64") + 0.0
    rows["readings"] = observations["readings"]
    return rows[np.lexsort((rows["time"], rows["parameter"], rows["station"]))]


@dataclass(frozen=True)
class _Runs:
    """One file's readings, cut where the series or the step changes. A group is one series in one step; files in
    canonical order hold one run per group, others more.
    """

    rows: ReadingArrays
    starts: np.ndarray
    lengths: np.ndarray
    station_id: np.ndarray
    parameter_id: np.ndarray
    step: np.ndarray

    @staticmethod
    def of(rows: ReadingArrays, grid: Grid) -> "_Runs":
        step = rows.time // _microseconds(EPOCH + grid.step)
        changes = [column[1:] != column[:-1] for column in (rows.station_id, rows.parameter_id, step)]
        starts = np.concatenate([[0], np.flatnonzero(np.logical_or.reduce(changes)) + 1])
        lengths = np.diff(starts, append=len(rows))
        return _Runs(rows, starts, lengths, rows.station_id[starts], rows.parameter_id[starts], step[starts])


def _aggregate(runs: list[_Runs], catalogue: Catalogue, grid: Grid) -> pd.DataFrame:
    station, parameter, step, starts = (
        np.concatenate([getattr(r, name) for r in runs]) for name in ("station_id", "parameter_id", "step", "lengths")
    )
    span = int(step.max() - step.min()) + 1
    _, first, group = np.unique(
        series_codes(station, parameter) * span + (step - step.min()), return_index=True, return_inverse=True
    )
    size = len(first)
    count = np.zeros(size, "int64")
    np.add.at(count, group, starts)
    largest = _reduce(np.maximum, runs, [r.rows.value for r in runs], group, np.full(size, -np.inf))
    smallest = _reduce(np.minimum, runs, [r.rows.value for r in runs], group, np.full(size, np.inf))
    of_run = np.split(group, np.cumsum([len(r.starts) for r in runs])[:-1])

    exponent = sums.exponents(np.maximum(np.abs(largest), np.abs(smallest)))
    high, low = np.zeros(size, "int64"), np.zeros(size, "int64")
    for r, groups in zip(runs, of_run, strict=True):
        more, less = sums.pieces(r.rows.value, np.repeat(exponent[groups], r.lengths))
        np.add.at(high, groups, np.add.reduceat(more, r.starts))
        np.add.at(low, groups, np.add.reduceat(less, r.starts))

    code, distinct = pd.factorize(parameter[first])
    aggregation = np.array([p.aggregation for p in catalogue.all_of(distinct)])[code]
    value = np.select(
        [aggregation == "max", aggregation == "sum", aggregation == "last"],
        [largest, sums.total(high, low, exponent), _last(runs, of_run, aggregation == "last")],
        sums.mean(high, low, exponent, count),
    )
    return _frame(grid, station[first], parameter[first], step[first], value, count)


def _reduce(
    how: np.ufunc, runs: list[_Runs], columns: list[np.ndarray], group: np.ndarray, into: np.ndarray
) -> np.ndarray:
    """Reduce rows to runs, and runs to groups."""
    how.at(into, group, np.concatenate([how.reduceat(c, r.starts) for c, r in zip(columns, runs, strict=True)]))
    return into


def _last(runs: list[_Runs], of_run: list[np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """The value of the newest reading of each wanted group."""
    group, time, identity, value = [], [], [], []
    for r, groups in zip(runs, of_run, strict=True):
        rows = np.repeat(wanted[groups], r.lengths)
        group.append(np.repeat(groups, r.lengths)[rows])
        chosen = r.rows.take(rows)
        time.append(chosen.time)
        identity.append(chosen.reading_id)
        value.append(chosen.value)
    groups = np.concatenate(group)
    result = np.zeros(len(wanted))
    if len(groups):
        times = np.concatenate(time)
        newest = np.full(len(wanted), np.iinfo("int64").min)
        np.maximum.at(newest, groups, times)
        final = np.flatnonzero(times == newest[groups])
        values = np.concatenate(value)[final]
        order = np.lexsort((values, np.concatenate(identity)[final], groups[final]))
        # Where a group has several rows, the last assignment stands.
        result[groups[final][order]] = values[order]
    return result


def _frame(
    grid: Grid, station: np.ndarray, parameter: np.ndarray, step: np.ndarray, value: np.ndarray, count: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "station_id": station.astype("int64"),
            "parameter_id": parameter.astype("int32"),
            "observed_at": utc_times(step * _microseconds(EPOCH + grid.step)),
            "value": value.astype("float64"),
            "readings": count.astype("int32"),
        }
    )


def _within(rows: ReadingArrays, start: int, end: int) -> ReadingArrays:
    if not len(rows) or (rows.time.min() >= start and rows.time.max() < end):
        return rows
    return rows.take((rows.time >= start) & (rows.time < end))


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)
