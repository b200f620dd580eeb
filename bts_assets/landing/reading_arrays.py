"""Readings as bare numpy arrays, which is what this room computes on, and their canonical order.

Not here: where readings come from (`files`) and what becomes of them (`series`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Protocol

import numpy as np
import pandas as pd

from bts_assets.contracts.grid import DAY

#: Stands for "the source gave no id"; ids are never negative.
NO_ID: Final = -1
_DAY: Final = DAY // timedelta(microseconds=1)


@dataclass(frozen=True)
class ReadingArrays:
    """Arrays of one length: ids int64 (`NO_ID` where there is none), parameter int32, time int64 in UTC
    microseconds since the epoch, value float64 without negative zero.
    """

    reading_id: np.ndarray
    station_id: np.ndarray
    parameter_id: np.ndarray
    time: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: np.ndarray | slice) -> "ReadingArrays":
        """Rows by position, slice or mask."""
        return ReadingArrays(*(a[rows] for a in columns_of(self)))

    def parts(self) -> Iterator["ReadingArrays"]:
        yield self

    def facts(self) -> "Facts":
        if not len(self):
            return Facts()
        # The order is by series: the days are few, so their numbers are all that need be looked through.
        first, last, days = int(self.time.min()), int(self.time.max()), np.unique(self.time // _DAY)
        return Facts(first, last, days, self.station_id, self.parameter_id)

    def frame(self) -> pd.DataFrame:
        """As `contracts.schemas.Readings`."""
        return pd.DataFrame(
            {
                "reading_id": pd.arrays.IntegerArray(self.reading_id, self.reading_id == NO_ID),
                "station_id": self.station_id,
                "parameter_id": self.parameter_id,
                "reading_time": utc_times(self.time),
                "value": self.value,
            },
            copy=False,
        )


#: No reading at all.
NO_READINGS: Final = ReadingArrays(*(np.empty(0, kind) for kind in ("int64", "int64", "int32", "int64", "float64")))


@dataclass(frozen=True)
class Facts:
    """What the ledger is told of readings: the least and the greatest time (None: there are no readings), the UTC days
    (since 1970), ascending, and the stations and parameters, each at least once.
    """

    first: int | None = None
    last: int | None = None
    days: np.ndarray = field(default_factory=lambda: NO_READINGS.time)
    stations: np.ndarray = field(default_factory=lambda: NO_READINGS.station_id)
    parameters: np.ndarray = field(default_factory=lambda: NO_READINGS.parameter_id)

    def distinct(self) -> "Facts":
        """The same with each station and parameter once."""
        return replace(self, stations=pd.unique(self.stations), parameters=pd.unique(self.parameters))

    @staticmethod
    def of_all(parts: "Iterable[Facts]") -> "Facts":
        """Of all parts of some readings."""
        found = [part for part in parts if part.first is not None]
        if not found:
            return Facts()
        lists = ([f.days for f in found], [f.stations for f in found], [f.parameters for f in found])
        days, stations, parameters = (np.unique(np.concatenate(each)) for each in lists)
        first, last = (
            min(f.first for f in found if f.first is not None),
            max(f.last for f in found if f.last is not None),
        )
        return Facts(first, last, days, stations, parameters)


class SortedReadings(Protocol):
    """Readings in canonical order, which may be more than fit into memory."""

    def __len__(self) -> int: ...

    def parts(self) -> Iterator[ReadingArrays]:
        """One part after the other, each beginning after the one before it ends."""

    def facts(self) -> Facts: ...


def utc_times(microseconds: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(microseconds.view("M8[us]"), copy=False).tz_localize("UTC")


def from_frame(readings: pd.DataFrame) -> ReadingArrays:
    """From `contracts.schemas.Readings`."""
    return ReadingArrays(
        readings["reading_id"].array.to_numpy("int64", na_value=NO_ID),
        readings["station_id"].to_numpy(),
        readings["parameter_id"].to_numpy(),
        readings["reading_time"].dt.tz_localize(None).to_numpy("M8[us]").view("int64"),
        # Adding zero turns -0.0 into 0.0: equal values must have equal bits.
        readings["value"].to_numpy() + 0.0,
    )


def concatenated(parts: Sequence[ReadingArrays]) -> ReadingArrays:
    return ReadingArrays(*(np.concatenate(arrays) for arrays in zip(*(columns_of(p) for p in parts), strict=True)))


def columns_of(columns: ReadingArrays) -> tuple[np.ndarray, ...]:
    return columns.reading_id, columns.station_id, columns.parameter_id, columns.time, columns.value


def series_codes(station_id: np.ndarray, parameter_id: np.ndarray) -> np.ndarray:
    """A number per (station, parameter), ascending with both; not dense."""
    station, stations = pd.factorize(station_id)
    parameter, parameters = pd.factorize(parameter_id)
    # Ranks of the few distinct ids, instead of sorting all rows.
    return (_ranks(stations) * len(parameters))[station] + _ranks(parameters)[parameter]


def _ranks(distinct: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(distinct), "int64")
    ranks[np.argsort(distinct)] = np.arange(len(distinct))
    return ranks


def canonical_order(readings: ReadingArrays) -> np.ndarray:
    """The positions that sort by station, parameter, time, id (none first), value."""
    if not len(readings):
        return np.empty(0, "int64")
    series, time = series_codes(readings.station_id, readings.parameter_id), readings.time
    # Numpy sorts 16-bit keys by radix, an order of magnitude faster; and files mostly come in order of time.
    order = np.argsort(series.astype("uint16") if series.max() < 1 << 16 else series, kind="stable")
    code, at = series[order], time[order]
    if ((code[1:] == code[:-1]) & (at[1:] < at[:-1])).any():
        order = order[np.lexsort((at, code))]
        code, at = series[order], time[order]
    equal = (code[1:] == code[:-1]) & (at[1:] == at[:-1])
    if equal.any():
        tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
        rows = order[tied]
        order[tied] = rows[np.lexsort((readings.value[rows], readings.reading_id[rows], at[tied], code[tied]))]
    return order


def repeats_previous(readings: ReadingArrays) -> np.ndarray:
    """For readings in canonical order: which rows are identical to the row before them."""
    same = np.zeros(len(readings), dtype=bool)
    if len(readings):
        same[1:] = np.logical_and.reduce([a[1:] == a[:-1] for a in columns_of(readings)])
    return same
