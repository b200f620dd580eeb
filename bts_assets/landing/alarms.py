"""From the bytes of an operator's alarm log to its alarms, its rejected rows with their reasons, and its duplicates.

The columns are `id,station_id,alarm_id,parameter_id,start_time,end_time,value,threshold`. What an alarm says of limits
is read off its value and its threshold, whatever its kind is called.
"""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from bts_assets.contracts.catalogue import DEFAULT_SENTINELS
from bts_assets.landing.cells import integers, numbers
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.text import decoded, printable_line
from bts_assets.landing.times import Times, times

COLUMNS: Final = ("id", "station_id", "alarm_id", "parameter_id", "start_time", "end_time", "value", "threshold")
_NEEDED: Final = ("station_id", "alarm_id", "parameter_id", "start_time", "end_time")
_EARLIEST: Final = np.datetime64("2000-01-01", "us")
#: The lines that are named of a mistake that many rows have.
_NAMED: Final = 3


@dataclass(frozen=True)
class AlarmLog:
    """What an alarm log holds; len(alarms) + sum(reasons.values()) + duplicates == rows, those that are not blank.

    `alarms`: line (1-based), reported_id (-1: none), station_id, alarm_kind, parameter_id, started_at, ended_at (UTC;
    NaT: it has no end), until (the end, or else the newest instant that the log knows), value and threshold (NaN:
    none), side (high, low or None). `rejected`: line, raw, reason. `notes`: a line on each thing that is odd and taken.
    """

    alarms: pd.DataFrame
    rejected: pd.DataFrame
    rows: int
    duplicates: int
    reasons: dict[str, int]
    notes: tuple[str, ...]


def parse_alarm_log(data: bytes, *, zone: ZoneInfo, now: datetime, max_skew: timedelta, max_bytes: int) -> AlarmLog:
    """Sort the rows of an alarm log into alarms, rejected rows and duplicates; times without an offset are in `zone`.

    Raises:
        LandingFileRefused: if the file is not text, or its header lacks a column.
    """
    raw, lines = _rows(bytes(decoded(data, max_bytes).data))
    cells = {name: pa.array([row[name] for row in raw], pa.string()) for name in COLUMNS}
    latest = np.datetime64((now + max_skew).astimezone(UTC).replace(tzinfo=None), "us")
    started = times(cells["start_time"], zone, _EARLIEST, latest)
    ended = times(cells["end_time"], zone, _EARLIEST, latest)
    endless = np.array([not row["end_time"] for row in raw], bool)
    frame = _frame(cells, lines, started, ended, endless)
    reason = _reasons(cells, frame, started, ended, endless, latest)
    good = frame[reason == ""]
    twice = good.duplicated([c for c in good.columns if c != "line"]).to_numpy()
    good = good[~twice].sort_values(["started_at", "line"], kind="stable", ignore_index=True)
    newest = good[["started_at", "ended_at"]].max().max() if len(good) else pd.NaT
    good.insert(6, "until", good["ended_at"].fillna(newest))
    bad = np.flatnonzero(reason != "")
    rejected = pd.DataFrame(
        {
            "line": np.array([lines[i] for i in bad], "int64"),
            "raw": [printable_line(",".join(raw[i].values()).encode()) for i in bad],
            "reason": reason[bad],
        }
    )
    counts = {str(k): int(v) for k, v in rejected["reason"].value_counts().sort_index().items()}
    return AlarmLog(good, rejected, len(raw), int(twice.sum()), counts, _notes(good))


def _rows(text: bytes) -> tuple[list[dict[str, str]], list[int]]:
    """The cells of every row that is not blank, by column, and its line."""
    reader = csv.reader(StringIO(text.decode("utf-8", "backslashreplace"), newline=""), skipinitialspace=True)
    try:
        header = next((row for row in reader if any(cell.strip() for cell in row)), [])
        if len(header) == 1 and ";" in header[0]:
            return _rows(text.replace(b";", b","))
        names = [cell.strip().lower() for cell in header]
        missing = [name for name in _NEEDED if name not in names]
        if missing:
            found = ",".join(names)[:200] or "nothing"
            raise LandingFileRefused(f"column {missing[0]} is missing from the alarm log: its first line has {found}")
        rows, lines = [], []
        for row in reader:
            if any(cell.strip() for cell in row):
                given = dict(zip(names, (cell.strip() for cell in row), strict=False))
                rows.append({name: given.get(name, "") for name in COLUMNS})
                lines.append(reader.line_num)
    except csv.Error as error:
        raise LandingFileRefused(f"the alarm log is no CSV: line {reader.line_num}: {error}") from None
    return rows, lines


def _frame(
    cells: dict[str, pa.Array], lines: list[int], started: Times, ended: Times, endless: np.ndarray
) -> pd.DataFrame:
    identity = integers(cells["id"], (1 << 63) - 1)
    value, threshold = (_measured(cells[name]) for name in ("value", "threshold"))
    side = np.where(value > threshold, "high", np.where(value < threshold, "low", None))  # type: ignore[call-overload]
    end = np.where(endless | ended.broken, np.datetime64("NaT"), ended.values.astype("datetime64[us]"))
    return pd.DataFrame(
        {
            "line": np.array(lines, "int64"),
            "reported_id": np.where(identity.broken, -1, identity.values).astype("int64"),
            "station_id": integers(cells["station_id"], (1 << 63) - 1).values.astype("int64"),
            "alarm_kind": integers(cells["alarm_id"], (1 << 31) - 1).values.astype("int64"),
            "parameter_id": integers(cells["parameter_id"], (1 << 31) - 1).values.astype("int64"),
            "started_at": pd.Series(started.values.astype("datetime64[us]")).dt.tz_localize("UTC"),
            "ended_at": pd.Series(end.astype("datetime64[us]")).dt.tz_localize("UTC"),
            "value": value,
            "threshold": threshold,
            "side": pd.Series(side, dtype="object"),
        }
    )


def _measured(texts: pa.Array) -> np.ndarray:
    """Numbers, NaN for what is none and for the codes that stand for no measurement."""
    found = numbers(texts)
    return np.where(found.broken | np.isin(found.values, DEFAULT_SENTINELS), np.nan, found.values)


def _reasons(
    cells: dict[str, pa.Array],
    frame: pd.DataFrame,
    started: Times,
    ended: Times,
    endless: np.ndarray,
    latest: np.datetime64,
) -> np.ndarray:
    """Why each row is rejected, empty for those that are not; the first of its faults."""
    start = started.values.astype("datetime64[us]")
    backwards = ~endless & ~ended.broken & (ended.values < started.values)
    broken = {
        f"broken {name}": integers(cells[name], largest).broken
        for name, largest in (
            ("station_id", (1 << 63) - 1),
            ("alarm_id", (1 << 31) - 1),
            ("parameter_id", (1 << 31) - 1),
        )
    }
    faults = {
        **broken,
        "broken start_time": started.broken | started.unplaced | started.either,
        "broken end_time": ~endless & (ended.broken | ended.unplaced | ended.either),
        "start_time in the future": start > latest,
        "start_time before 2000": start < _EARLIEST,
        "end_time before start_time": backwards,
    }
    reason = np.full(len(frame), "", dtype=object)
    for name, rows in reversed(faults.items()):
        reason[rows] = name
    return reason


def _notes(alarms: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    endless = alarms[alarms["ended_at"].isna()]
    if len(endless):
        notes.append(
            f"{len(endless)} alarms without an end count until the newest time of the log: {_lines(endless['line'])}"
        )
    overlapping = alarms[_overlaps(alarms)]
    if len(overlapping):
        notes.append(
            f"{len(overlapping)} alarms begin before an earlier one of their kind and station ends, and count as one"
            f" with it: {_lines(overlapping['line'])}"
        )
    return tuple(notes)


def _overlaps(alarms: pd.DataFrame) -> np.ndarray:
    """Which alarms, in order of their start, begin before an earlier one of their station, kind and parameter ends."""
    ends: dict[tuple[int, ...], pd.Timestamp] = {}
    found = np.zeros(len(alarms), bool)
    columns = (alarms[name] for name in ("station_id", "alarm_kind", "parameter_id", "started_at", "until"))
    for i, (*key, start, until) in enumerate(zip(*columns, strict=True)):
        before = ends.get(tuple(key))
        found[i] = before is not None and start < before
        ends[tuple(key)] = until if before is None else max(before, until)
    return found


def _lines(lines: pd.Series) -> str:
    named = ", ".join(str(line) for line in sorted(lines)[:_NAMED])
    return f"line {named}" if len(lines) == 1 else f"lines {named}{', ...' if len(lines) > _NAMED else ''}"
