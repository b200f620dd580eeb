"""Outages that are planned: entered one by one or from a CSV, whole or not at all."""

import csv
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.contracts.errors import InputError
from bts_assets.contracts.grid import instant_of
from bts_assets.services.home import Home
from bts_assets.storage import tables
from bts_assets.storage.alerts import add_outages

_COLUMNS: Final = ("station_id", "starts_at", "ends_at")


class OutageError(InputError):
    """A planned outage that cannot be entered: one line that says which and why."""


def add_one(home: Home, station: str, start: str, end: str, reason: str) -> tuple[int, int]:
    """Enter one outage; how many were entered, and how many were known.

    Raises:
        OutageError: if the station is unknown, a time is none, or it ends before it starts.
    """
    row = {"station_id": station, "starts_at": start, "ends_at": end, "reason": reason}
    try:
        return _enter(home, [_read(home, row)])
    except ValueError as error:
        raise OutageError(str(error)) from None


def add_file(home: Home, file: Path) -> tuple[int, int]:
    """Enter the outages of a CSV with the columns station_id, starts_at, ends_at and, if you like, reason.

    Raises:
        OutageError: naming the line that cannot be used; then none is entered.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OutageError(f"--file {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise OutageError(f"--file {file} is not UTF-8 text; save it as CSV in UTF-8") from None
    lines = csv.DictReader(StringIO(text, newline=""), skipinitialspace=True)
    try:
        missing = [name for name in _COLUMNS if name not in (lines.fieldnames or ())]
        if missing:
            raise ValueError(f"column {missing[0]} is missing; the first line must be {','.join(_COLUMNS)},reason")
        rows = [_read(home, line) for line in lines]
    except (ValueError, csv.Error) as error:
        raise OutageError(f"{file}, line {max(lines.line_num, 1)}: {error}") from None
    return _enter(home, rows)


def _enter(home: Home, rows: list[dict[str, Any]]) -> tuple[int, int]:
    if not rows:
        return 0, 0
    known = sa.select(tables.station.c.station_id)
    with home.engine.begin() as connection:
        unknown = sorted({row["station_id"] for row in rows} - set(connection.execute(known).scalars()))
        if unknown:
            raise OutageError(
                f"station {unknown[0]} is not known: neither a landing file nor BTS_STATIONS_FILE names it"
            )
        added = add_outages(connection, rows)
    return added, len(rows) - added


def _read(home: Home, line: dict[str, Any]) -> dict[str, Any]:
    station = (line.get("station_id") or "").strip()
    try:
        number = int(station)
    except ValueError:
        raise ValueError(f"station_id is {station!r}; it must be a whole number") from None
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"station_id is {station}; it must be below 2^63")
    start, end = (_instant(home, name, (line.get(name) or "").strip()) for name in ("starts_at", "ends_at"))
    if end <= start:
        raise ValueError(f"it ends at {end.isoformat()}, which is not after its start, {start.isoformat()}")
    reason = (line.get("reason") or "").strip().replace("\0", "")
    return {"station_id": number, "starts_at": start, "ends_at": end, "reason": reason or "planned"}


def _instant(home: Home, name: str, text: str) -> datetime:
    try:
        return instant_of(text, home.settings.timezone)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; write for example 2026-11-20T08:00 or 2026-11-20T08:00+07:00") from None
