"""Taking an operator's alarm log in: read, entered into its ledger, and its limits taken where there are none."""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bts_assets.contracts.errors import InputError
from bts_assets.landing.alarms import parse_alarm_log
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.inbox import digest_of
from bts_assets.services.home import Home
from bts_assets.storage.alarms import Threshold, enter_log, seed_limits, thresholds, unknown_stations
from bts_assets.storage.scores import score_again
from bts_assets.storage.station_limits import station_limits

log = logging.getLogger(__name__)


class AlarmLogRefused(InputError):
    """An alarm log of which nothing can be used."""


@dataclass(frozen=True)
class AlarmReport:
    """What an alarm log came to; row counts add up. limits: stations' limits that were set; notes: a line each."""

    status: str
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    limits: int = 0
    notes: tuple[str, ...] = ()


def take_in_alarms(home: Home, file: Path, now: datetime) -> AlarmReport:
    """Enter an alarm log, and set the limits that its alarms passed where neither catalogue nor station has one.

    Raises:
        AlarmLogRefused: if nothing of it can be used; the ledger has it, with the reason.
    """
    data = _bytes(home, file)
    settings, digest = home.settings, digest_of(data)
    kept = settings.rejected_kept
    try:
        parsed = parse_alarm_log(
            data,
            zone=settings.landing_timezone,
            now=now,
            max_skew=settings.max_skew,
            max_bytes=settings.max_file_bytes,
        )
    except LandingFileRefused as refusal:
        enter_log(home.engine, file.name, digest, len(data), None, str(refusal), kept)
        raise AlarmLogRefused(f"--alarms {file} is refused: {refusal}") from None
    row = enter_log(home.engine, file.name, digest, len(data), parsed, None, kept)
    if row["status"] != "accepted":
        return AlarmReport(row["status"], row.get("rows", 0), duplicate=row.get("duplicate", 0))
    with home.engine.begin() as connection:
        limits, refused = _limits(home, connection, thresholds(connection, row["alarm_seq"]))
        seed_limits(connection, limits)
        unknown = unknown_stations(connection, row["alarm_seq"])
        if row["first_at"]:
            score_again(connection, row["first_at"], row["last_at"])
    notes = (*row["notes"], *refused, *([_of_unknown(unknown)] if unknown else []))
    counts = {name: row[name] for name in ("rows", "accepted", "rejected", "duplicate", "rejected_by_reason")}
    return AlarmReport("accepted", limits=len(limits), notes=notes, **counts)


def _bytes(home: Home, file: Path) -> bytes:
    try:
        if file.stat().st_size > home.settings.max_file_bytes:
            raise AlarmLogRefused(f"--alarms {file} is larger than BTS_MAX_FILE_BYTES")
        return file.read_bytes()
    except OSError as error:
        raise AlarmLogRefused(f"--alarms {file} cannot be read: {error.strerror}") from None


def _limits(home: Home, connection: sa.Connection, found: list[Threshold]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of limits to set, and a line on each threshold that cannot be one."""
    own = station_limits(connection)
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    refused: list[str] = []
    for one in found:
        parameter = home.catalogue.of(one.parameter_id)
        mine = own.get((one.station_id, one.parameter_id), (None, None))
        low, high = (
            general if special is None else special
            for special, general in zip(mine, (parameter.low_limit, parameter.high_limit), strict=True)
        )
        standing, opposite = (low, high) if one.side == "low" else (high, low)
        if not parameter.known:
            refused.append(
                f"station {one.station_id}: parameter {one.parameter_id} of its alarms is not in the catalogue, so that"
                f" {one.threshold:g} is no limit; bts catalogue says how to list it"
            )
        elif opposite is not None and (one.threshold < opposite if one.side == "high" else one.threshold > opposite):
            wrong = "below its low" if one.side == "high" else "above its high"
            refused.append(
                f"station {one.station_id}, parameter {one.parameter_id}: {one.threshold:g}, the {one.side} limit of"
                f" its alarms, is {wrong} limit {opposite:g}, and is not taken; set both in bts.station_limit"
            )
        elif standing is None:
            key = (one.station_id, one.parameter_id)
            blank = {"station_id": key[0], "parameter_id": key[1], "low_limit": None, "high_limit": None}
            rows.setdefault(key, blank)[f"{one.side}_limit"] = one.threshold
    return list(rows.values()), refused


def _of_unknown(stations: list[int]) -> str:
    named = ", ".join(map(str, stations[:3])) + (", ..." if len(stations) > 3 else "")
    return (
        f"{len(stations)} stations of the log are known neither from landing files nor from BTS_STATIONS_FILE: {named};"
        " their alarms are kept"
    )
