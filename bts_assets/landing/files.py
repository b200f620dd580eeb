"""From the bytes of one landing file to its readings, its rejected rows with their reasons, and its duplicates.

Not here: which files there are (`inbox`), and what becomes of readings across files (`series`). A wrong header
refuses the file; a wrong cell rejects its row and no other.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.landing import cells
from bts_assets.landing.columns import NO_ID, ReadingColumns, canonical_order, repeats_previous
from bts_assets.landing.table import Table, read_table
from bts_assets.landing.text import lines_of, printable_line, transcoded

#: Earlier readings are clocks that lost their battery, not history.
EARLIEST: Final = np.datetime64("2000-01-01T00:00:00", "us")

_INT64: Final = (1 << 63) - 1
_INT32: Final = (1 << 31) - 1


class Reason(StrEnum):
    """Why a row is rejected; a row with several faults has the first of these. Stored and counted: keep the words."""

    COLUMNS = "wrong number of columns"
    ID = "broken id"
    STATION = "broken station_id"
    PARAMETER = "broken parameter_id"
    VALUE = "broken value"
    SENTINEL = "sentinel value"
    RANGE = "value outside the valid range"
    TIME = "broken reading_time"
    UNPLACED = "reading_time ambiguous or non-existent in the landing zone"
    FUTURE = "reading_time in the future"
    ANCIENT = "reading_time before 2000"


_REASONS: Final = tuple(Reason)


@dataclass(frozen=True)
class ParsedFile:
    """What one landing file holds; accepted + rejected + duplicates == rows, its data lines that are not blank.

    `readings` is a `contracts.schemas.Readings` frame in canonical order (station, parameter, time, id, value);
    `rejected` has line (int64, 1-based in the file), raw (printable text, cut where very long) and reason.
    """

    readings: pd.DataFrame
    rejected: pd.DataFrame
    rows: int
    duplicates: int

    @property
    def accepted(self) -> int:
        return len(self.readings)

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were rejected for each reason that occurs."""
        return dict(sorted(Counter(self.rejected["reason"]).items()))


def parse_landing_file(
    data: bytes, catalogue: Catalogue, *, landing_timezone: ZoneInfo, now: datetime, max_skew: timedelta
) -> ParsedFile:
    """Sort the rows of a landing file into readings, rejected and duplicates.

    Cells may be padded with blanks or double quotes; a quoted comma separates like any other. An empty `id` means
    that the reading has none. Times without an offset are in `landing_timezone`; those later than
    `now + max_skew` are rejected.

    Raises:
        LandingFileRefused: if the file is empty, not text, or its header lacks a column or names one twice.
    """
    table = read_table(transcoded(data))
    latest = np.datetime64((now + max_skew).astimezone(UTC).replace(tzinfo=None), "us")
    readings, reason = _judge(table.columns, catalogue, landing_timezone, latest)
    order = canonical_order(readings)
    accepted = readings.take(order[reason[order] == 0] if reason.any() else order)
    repeated = repeats_previous(accepted)
    duplicates = int(repeated.sum())
    if duplicates:
        accepted = accepted.take(~repeated)
    return ParsedFile(
        readings=accepted.frame(),
        rejected=_rejected(table, reason),
        rows=len(readings) + len(table.ragged),
        duplicates=duplicates,
    )


def _judge(
    columns: dict[str, pa.StringArray], catalogue: Catalogue, zone: ZoneInfo, latest: np.datetime64
) -> tuple[ReadingColumns, np.ndarray]:
    """Every row's values, and the number of its reason from 1, or 0 where it is accepted."""
    station = cells.integers(columns["station_id"], _INT64)
    parameter = cells.integers(columns["parameter_id"], _INT32)
    value = cells.numbers(columns["value"])
    time = cells.times(columns["reading_time"], zone, EARLIEST, latest)
    reason = np.zeros(len(station.values), "uint8")

    def reject(rows: np.ndarray, why: Reason) -> None:
        reason[rows & (reason == 0)] = _REASONS.index(why) + 1

    if "id" in columns:
        identity = cells.integers(columns["id"], _INT64, empty=NO_ID)
        reject(identity.broken, Reason.ID)
        ids = identity.values
    else:
        ids = np.full(len(reason), NO_ID, "int64")
    reject(station.broken, Reason.STATION)
    reject(parameter.broken, Reason.PARAMETER)
    reject(value.broken, Reason.VALUE)
    is_sentinel, is_outside = _against_catalogue(parameter.values, value.values, catalogue)
    reject(is_sentinel, Reason.SENTINEL)
    reject(is_outside, Reason.RANGE)
    reject(time.broken, Reason.TIME)
    reject(time.unplaced, Reason.UNPLACED)
    reject(time.values > latest.astype("int64"), Reason.FUTURE)
    reject(time.values < EARLIEST.astype("int64"), Reason.ANCIENT)
    readings = ReadingColumns(ids, station.values, parameter.values.astype("int32"), time.values, value.values)
    return readings, reason


def _against_catalogue(
    parameter_id: np.ndarray, value: np.ndarray, catalogue: Catalogue
) -> tuple[np.ndarray, np.ndarray]:
    """Which values are a sentinel of their parameter, and which lie outside its valid range."""
    code, distinct = pd.factorize(parameter_id)
    parameters = catalogue.all_of(distinct)
    low = np.array([p.valid_min for p in parameters], "float64")
    high = np.array([p.valid_max for p in parameters], "float64")
    sentinel = np.zeros(len(value), bool)
    for code_of_fault in sorted({s for p in parameters for s in p.sentinels}):
        hit = np.flatnonzero(value == code_of_fault)
        applies = np.array([code_of_fault in p.sentinels for p in parameters], bool)
        sentinel[hit] |= applies[code[hit]]
    return sentinel, (value < low[code]) | (value > high[code])


def _rejected(table: Table, reason: np.ndarray) -> pd.DataFrame:
    rows = np.flatnonzero(reason)
    lines = np.concatenate([table.lines(rows), table.ragged])
    reasons = [str(_REASONS[number - 1]) for number in reason[rows]] + [str(Reason.COLUMNS)] * len(table.ragged)
    order = np.argsort(lines)
    numbers = lines[order] + table.first_line
    raw = [printable_line(line) for line in lines_of(table.text, numbers)]
    return pd.DataFrame(
        {
            "line": numbers.astype("int64"),
            "raw": pd.Series(raw, dtype="str"),
            "reason": pd.Series([reasons[i] for i in order], dtype="str"),
        }
    )
